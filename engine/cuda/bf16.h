/* bf16.h - rounding to bf16 and back, with the same bits on host and device. */
#ifndef KV_CUDA_BF16_H
#define KV_CUDA_BF16_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define KV_BF16_FN static inline __host__ __device__
#else
#define KV_BF16_FN static inline
#endif

/* To the nearest, ties to even; of infinities and NaN the upper half stays. */
KV_BF16_FN uint16_t kv_bf16_from(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if ((u & 0x7f800000u) != 0x7f800000u) u += 0x7fffu + (u >> 16 & 1u);
    return (uint16_t)(u >> 16);
}

KV_BF16_FN float kv_bf16_to(uint16_t v) {
    uint32_t u = (uint32_t)v << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

#endif
