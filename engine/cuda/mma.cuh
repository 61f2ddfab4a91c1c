/* mma.cuh - the tensor core's bf16 product of one warp, 16 x 8 x 16, sums in fp32 (PTX ISA: mma.m16n8k16).
 *
 * Lane l holds of A (16 x 16) rows l / 4 and l / 4 + 8, k 2 (l % 4) and the next (a0, a1) and the same k + 8 (a2, a3);
 * of B (16 x 8) column l / 4, the same k (b0) and k + 8 (b1); of C rows l / 4 (c0, c1) and l / 4 + 8 (c2, c3), columns
 * 2 (l % 4) and the next.  Which k of the matrices is called which k here is free, as long as A and B agree. */
#ifndef KV_CUDA_MMA_H
#define KV_CUDA_MMA_H

#include <stdint.h>

static __device__ inline void mma(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                  uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
        "%2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

#endif
