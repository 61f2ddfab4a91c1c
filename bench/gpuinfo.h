/* gpuinfo.h - the GPU that a run uses: what it is, what its memory reaches, what it does while it is timed.  In a build
 * without CUDA nothing opens, and a closed kv_gpu is taken by every call below as "no GPU". */
#ifndef KV_GPUINFO_H
#define KV_GPUINFO_H

#include "results/store.h"

typedef struct kv_gpu {
    int open, device;
    char name[256], driver[80], uuid_hash[17];
    int64_t memory_bytes;
    int sm_clock_mhz, mem_clock_mhz; /* highest */
    int ecc;
    double power_cap_w;    /* NAN = unknown */
    double copy_gb_s;      /* NAN until measured: the best of copy and read kernel, bytes read and written counted */
    double datasheet_gb_s; /* NAN = not in the table */
    void *telemetry;       /* NULL when the driver's library is not there */
} kv_gpu;

/* KV_ENOTFOUND, KV_EUNSUPPORTED when there is no such device.  The caller closes; closing a closed one is allowed. */
int kv_gpu_open(kv_gpu *g, int device, kv_error *err);
void kv_gpu_close(kv_gpu *g);

/* Fills copy_gb_s; needs 2 GiB of free device memory for a moment. */
int kv_gpu_measure(kv_gpu *g, kv_error *err);

int kv_gpu_free_bytes(const kv_gpu *g, size_t *bytes, kv_error *err);

/* Its row; *id is 0 when it is closed. */
int kv_gpu_store(const kv_gpu *g, kv_store *s, int64_t *id, kv_error *err);

/* Clocks, temperature and throttle bits of this moment into a timing row; without telemetry they stay as they are. */
void kv_gpu_sample(const kv_gpu *g, kv_timing_row *r);

/* "power cap, hw slowdown"; "none" for 0. */
void kv_gpu_throttle_text(int64_t bits, char *out, size_t size);

#endif
