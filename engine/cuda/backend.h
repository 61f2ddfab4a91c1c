/* backend.h - the CUDA backend as the rest of the engine sees it. */
#ifndef KV_CUDA_BACKEND_H
#define KV_CUDA_BACKEND_H

#include "engine/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* fast = bf16 weights and cache with fp32 sums, exact = fp32.  n_threads: that load the weights, 0 = all
 * cores, at most 16. */
int kv_cuda_backend_create(kv_numerics numerics, int device, int n_threads, kv_backend **out, kv_error *err);
/* Of the device as a whole; 0 when it does not say. */
void kv_cuda_device_memory(const kv_backend *b, size_t *device_free, size_t *device_total);
/* 1 when the scores, and the columns, of this setup are computed on the device. */
int kv_cuda_setup_on_device(const kv_backend *b, const struct kv_setup *s);

#ifdef __cplusplus
}
#endif

#endif
