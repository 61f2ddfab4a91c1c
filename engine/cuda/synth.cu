/* synth.cu - fills matrices with the values of synth_value.h.
 *
 * One hash serves four values and 16 bytes leave in one store, so that making the values takes about as long as writing
 * them: a model of 8 billion is there in well under a second. */
#include "engine/cuda/cuda.h"
#include "engine/cuda/synth.h"
#include "engine/synth_value.h"

enum { THREADS = 256 };

static __device__ __forceinline__ void put(float *out, float x) {
    *out = x;
}

static __device__ __forceinline__ void put(__nv_bfloat16 *out, float x) {
    *out = __float2bfloat16_rn(x);
}

/* Launch: THREADS threads a block, one thread per 16 bytes of out (n). */
template <typename T> static __global__ void fill_synth(T *__restrict__ out, size_t n, uint64_t key, float std) {
    enum { PER = 16 / sizeof(T) };
    union {
        uint4 all;
        T one[PER];
    } v;
    size_t first = ((size_t)blockIdx.x * THREADS + threadIdx.x) * PER;
    if (first >= n) return;
#pragma unroll
    for (int g = 0; g < PER / KV_SYNTH_GROUP; g++) {
        uint64_t levels = kv_synth_levels(key, first / KV_SYNTH_GROUP + g);
#pragma unroll
        for (int k = 0; k < KV_SYNTH_GROUP; k++)
            put(&v.one[g * KV_SYNTH_GROUP + k], kv_synth_scaled(kv_synth_level(levels, k), std));
    }
    if (first + PER <= n) {
        *(uint4 *)(out + first) = v.all;
        return;
    }
#pragma unroll
    for (int k = 0; k < PER; k++)
        if (first + k < n) out[first + k] = v.one[k];
}

template <typename T>
static cudaError_t launch(void *out, size_t n, uint64_t seed, uint64_t matrix, float std, cudaStream_t stream) {
    size_t per_block = THREADS * (16 / sizeof(T)), blocks = (n + per_block - 1) / per_block;
    fill_synth<<<(unsigned)blocks, THREADS, 0, stream>>>((T *)out, n, kv_synth_key(seed, matrix), std);
    return cudaGetLastError();
}

cudaError_t kv_cuda_fill_synth(void *out, int type, size_t n, uint64_t seed, uint64_t matrix, float std,
                               cudaStream_t stream) {
    if ((uintptr_t)out % 16 != 0) return cudaErrorMisalignedAddress;
    if (n == 0) return cudaSuccess;
    switch (type) {
    case KV_CUDA_BF16:
        return launch<__nv_bfloat16>(out, n, seed, matrix, std, stream);
    case KV_CUDA_F32:
        return launch<float>(out, n, seed, matrix, std, stream);
    }
    return cudaErrorInvalidValue;
}
