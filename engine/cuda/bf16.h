/* bf16.h - bf16 on the host: rounding to it and back. */
#ifndef KV_CUDA_BF16_H
#define KV_CUDA_BF16_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* To the nearest, ties to even; infinities stay. */
static inline uint16_t kv_bf16_from(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if (isfinite(x)) u += 0x7fffu + (u >> 16 & 1u);
    return (uint16_t)(u >> 16);
}

static inline float kv_bf16_to(uint16_t v) {
    uint32_t u = (uint32_t)v << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

#endif
