/* hostinfo.h - the machine and the build, as recorded with every run. */
#ifndef KV_HOSTINFO_H
#define KV_HOSTINFO_H

#include "engine/kv.h"

typedef struct kv_host_info {
    char hostname[256], os[256], cpu[128];
    char features[128]; /* instruction sets that the kernels can use: "avx2 fma avx512f avx512_vnni" */
    int n_cores;        /* that this process may use */
    int64_t ram_bytes, ram_available;
} kv_host_info;

typedef struct kv_build_info {
    const char *commit; /* full hash, or "unknown" outside a git checkout */
    int dirty;          /* tracked files differed from the commit at build time */
    const char *type;   /* "Release" */
    const char *flags, *compiler, *sanitize, *cuda, *sqlite;
} kv_build_info;

void kv_hostinfo_read(kv_host_info *h);
const kv_build_info *kv_buildinfo_get(void);
/* What makes timings of this build worthless ("built with sanitizers: address"), or NULL. */
const char *kv_buildinfo_warning(void);

/* Most resident memory of this process so far, bytes. */
int64_t kv_host_peak_rss(void);
/* Seconds of a clock that never jumps. */
double kv_host_clock(void);

#endif
