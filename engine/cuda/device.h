/* device.h - which CUDA devices there are, and what a copy reaches on one. */
#ifndef KV_CUDA_DEVICE_H
#define KV_CUDA_DEVICE_H

#include "engine/kv.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kv_cuda_device {
    char name[256];
    int major, minor, n_sm;          /* compute capability, multiprocessors */
    size_t bytes, bytes_free;        /* device memory */
    int sm_clock_mhz, mem_clock_mhz; /* highest */
    int ecc;
    int driver, runtime; /* CUDA versions, 13000 = 13.0 */
} kv_cuda_device;

/* KV_ENOTFOUND when there is no device or no driver. */
int kv_cuda_device_count(int *n, kv_error *err);
int kv_cuda_device_query(int device, kv_cuda_device *out, kv_error *err);

/* Best of `reps` device-to-device copies of `bytes`, counting bytes read and written, in GB/s (1e9). */
int kv_cuda_measure_copy(int device, size_t bytes, int reps, double *gb_s, kv_error *err);

#ifdef __cplusplus
}
#endif

#endif
