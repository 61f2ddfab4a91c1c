/* synth.h - synthetic weights made where they are used, in device memory. */
#ifndef KV_CUDA_SYNTH_H
#define KV_CUDA_SYNTH_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* out (n) = the first n values of matrix number `matrix` times std, as kv_synth_fill makes them on the host; bf16
 * rounds them to nearest even.  type: kv_cuda_type (0 bf16, 1 fp32).  out is device memory, aligned to 16 bytes
 * (cudaErrorMisalignedAddress otherwise).  Enqueues and returns. */
cudaError_t kv_cuda_fill_synth(void *out, int type, size_t n, uint64_t seed, uint64_t matrix, float std,
                               cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
