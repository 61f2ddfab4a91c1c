/* hostinfo.c - reads the machine from /proc and uname; the build comes from the generated build_info.h. */
#include "bench/hostinfo.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "build_info.h"

/* The value of the first line "key<blanks>: value" of a /proc file; out stays empty when there is none. */
static void proc_value(const char *path, const char *key, char *out, size_t size) {
    char line[8192];
    FILE *f = fopen(path, "r");
    out[0] = 0;
    if (!f) return;
    while (!out[0] && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, key, strlen(key)) != 0) continue;
        colon += 1 + strspn(colon + 1, " \t");
        colon[strcspn(colon, "\n")] = 0;
        snprintf(out, size, "%s", colon);
    }
    fclose(f);
}

static void read_features(char *out, size_t size) {
    static const char *const known[] = {"sse4_2",      "avx2",     "fma",         "f16c",     "avx512f", "avx512bw",
                                        "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimd",   "asimddp"};
    char flags[8192], padded[8200];
    size_t used = 0;
    proc_value("/proc/cpuinfo", "flags", flags, sizeof flags);
    if (!flags[0]) proc_value("/proc/cpuinfo", "Features", flags, sizeof flags);
    snprintf(padded, sizeof padded, " %s ", flags);
    out[0] = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char word[32];
        snprintf(word, sizeof word, " %s ", known[i]);
        if (strstr(padded, word) && used + strlen(known[i]) + 2 < size)
            used += (size_t)snprintf(out + used, size - used, "%s%s", used ? " " : "", known[i]);
    }
}

void kv_hostinfo_read(kv_host_info *h) {
    struct utsname u;
    char kib[64];
    cpu_set_t set;
    memset(h, 0, sizeof *h);
    if (uname(&u) == 0) {
        snprintf(h->hostname, sizeof h->hostname, "%s", u.nodename);
        snprintf(h->os, sizeof h->os, "%s %s %s", u.sysname, u.release, u.machine);
    }
    proc_value("/proc/cpuinfo", "model name", h->cpu, sizeof h->cpu);
    read_features(h->features, sizeof h->features);
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        h->n_cores = CPU_COUNT(&set);
    else
        h->n_cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    proc_value("/proc/meminfo", "MemTotal", kib, sizeof kib);
    h->ram_bytes = strtoll(kib, NULL, 10) * 1024;
    proc_value("/proc/meminfo", "MemAvailable", kib, sizeof kib);
    h->ram_available = strtoll(kib, NULL, 10) * 1024;
}

const kv_build_info *kv_buildinfo_get(void) {
    static const kv_build_info info = {KV_BUILD_COMMIT,   KV_BUILD_DIRTY,    KV_BUILD_TYPE, KV_BUILD_FLAGS,
                                       KV_BUILD_COMPILER, KV_BUILD_SANITIZE, KV_BUILD_CUDA, KV_BUILD_SQLITE};
    return &info;
}

const char *kv_buildinfo_warning(void) {
    if (KV_BUILD_SANITIZE[0]) return "built with sanitizers (" KV_BUILD_SANITIZE "): timings mean nothing";
    if (strcmp(KV_BUILD_TYPE, "Release") != 0 && strcmp(KV_BUILD_TYPE, "RelWithDebInfo") != 0)
        return "not a Release build (" KV_BUILD_TYPE "): timings mean nothing";
    return NULL;
}

int64_t kv_host_peak_rss(void) {
    struct rusage r;
    return getrusage(RUSAGE_SELF, &r) == 0 ? (int64_t)r.ru_maxrss * 1024 : 0;
}

double kv_host_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
