/* order.cuh - rows of bf16 in any order (engine/cuda/order.cuh) on the host, for tests. */
#ifndef KV_TESTS_CUDA_ORDER_H
#define KV_TESTS_CUDA_ORDER_H

#include "engine/cuda/order.cuh"

#include <cuda_bf16.h>
#include <stdlib.h>
#include <string.h>

/* From the first order into the second; in bands: whole ones. */
static inline void reorder(__nv_bfloat16 *rows, kv_order from, kv_order to, size_t n, int width) {
    const size_t bytes = n * width * sizeof *rows;
    __nv_bfloat16 *old = (__nv_bfloat16 *)malloc(bytes ? bytes : 1);
    if (!old) exit(1);
    memcpy(old, rows, bytes);
    for (size_t row = 0; row < n; row++)
        for (int k = 0; k < width; k++)
            rows[kv_cuda_place(to, (int)row, k, width)] = old[kv_cuda_place(from, (int)row, k, width)];
    free(old);
}

#endif
