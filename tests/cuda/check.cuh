/* check.cuh - a test program for kernels in forty lines: a table of named checks, --list, a name filter.
 *
 * Exit code 0: all passed; 1: some failed; 77: no CUDA device, everything skipped (ctest counts that as skipped). */
#ifndef KV_TESTS_CUDA_CHECK_H
#define KV_TESTS_CUDA_CHECK_H

#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct check {
    const char *name; /* a sentence: what holds */
    int (*run)(void); /* number of violations, each reported through check_fail */
} check;

#define CHECK_CUDA(call)                                                                                               \
    do {                                                                                                               \
        cudaError_t rc_ = (call);                                                                                      \
        if (rc_ != cudaSuccess) {                                                                                      \
            printf("  %s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(rc_));                           \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Values in [-1, 1), the same on every machine. */
static inline float check_random(uint64_t seed, uint64_t i) {
    uint64_t z = seed * 0x9E3779B97F4A7C15u + (i + 1) * 0xD1B54A32D192ED03u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (float)(int32_t)(z >> 32) / 2147483648.0f;
}

/* |got - want| <= abs + rel * |want| for all n; prints the worst violation. */
static inline int check_close(const char *what, const float *got, const double *want, size_t n, double abs_tol,
                              double rel_tol) {
    double worst = 0;
    size_t at = 0, bad = 0;
    for (size_t i = 0; i < n; i++) {
        double over = fabs(got[i] - want[i]) - (abs_tol + rel_tol * fabs(want[i]));
        if (over <= 0) continue; /* NaN goes on */
        bad++;
        if (!(over <= worst)) worst = over, at = i;
    }
    if (bad)
        printf("  %s: %zu of %zu values differ, worst at %zu: got %.9g, expected %.9g\n", what, bad, n, at, got[at],
               want[at]);
    return bad != 0;
}

static inline int check_main(int argc, char **argv, const check *checks, size_t n) {
    const char *filter = NULL;
    int devices = 0, passed = 0, failed = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--list") == 0) {
            for (size_t k = 0; k < n; k++) printf("%s\n", checks[k].name);
            return 0;
        }
        filter = argv[i];
    }
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        printf("0 passed, 0 failed, %zu skipped: no CUDA device\n", n);
        return 77;
    }
    for (size_t k = 0; k < n; k++) {
        if (filter && !strstr(checks[k].name, filter)) continue;
        int bad = checks[k].run();
        cudaError_t rc = cudaDeviceSynchronize();
        if (rc != cudaSuccess) printf("  %s\n", cudaGetErrorString(rc)), bad = 1;
        printf("%s %s\n", bad ? "FAILED" : "ok    ", checks[k].name);
        fflush(stdout);
        bad ? failed++ : passed++;
    }
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed != 0;
}

#endif
