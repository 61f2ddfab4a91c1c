/* bench.cuh - what programs that time kernels share. */
#ifndef KV_TESTS_CUDA_BENCH_H
#define KV_TESTS_CUDA_BENCH_H

#include <cuda_bf16.h>
#include <stdint.h>

/* x (n) = values in [-size, size), as power and with it the clock depend on them; any launch shape. */
static __global__ void fill_random(__nv_bfloat16 *x, size_t n, uint64_t seed, float size) {
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        uint64_t z = (i + seed) * 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        x[i] = __float2bfloat16(size * (float)(int32_t)(z >> 32) / 2147483648.0f);
    }
}

#endif
