/* turned.cuh - rows in product order (skinny.cuh) on the host, for tests. */
#ifndef KV_TESTS_CUDA_TURNED_H
#define KV_TESTS_CUDA_TURNED_H

#include "engine/cuda/skinny.cuh"

/* The n elements of p, a multiple of 32, into product order; the inverse is the same. */
static inline void turn(__nv_bfloat16 *p, size_t n) {
    for (size_t i = 0; i < n; i += 32) {
        __nv_bfloat16 plain[32];
        for (int k = 0; k < 32; k++) plain[k] = p[i + k];
        for (int k = 0; k < 32; k++) p[i + kv_cuda_turn(k)] = plain[k];
    }
}

#endif
