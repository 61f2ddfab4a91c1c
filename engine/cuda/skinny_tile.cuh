/* skinny_tile.cuh - what both kernels of skinny.cuh share: tiles of 16 rows, chunks of 32 k, and the order of a sum. */
#ifndef KV_CUDA_SKINNY_TILE_H
#define KV_CUDA_SKINNY_TILE_H

#include "engine/cuda/common.cuh"
#include "engine/cuda/pdl.cuh"
#include "engine/cuda/skinny.cuh"

enum {
    RUNS = 8,              /* of chunks: each is a sum of its own, and they are added in order */
    CHUNK = KV_BAND_CHUNK, /* k of two mma */
    TILE = 16              /* rows of an mma */
};

/* First chunk of a run, of n_chunks in all. */
KV_DEVICE int run_start(int run, int n_chunks) {
    return run * n_chunks / RUNS;
}

/* Place of an element of h or normed. */
KV_DEVICE size_t place_of(const kv_cuda_skinny &a, int row, int at) {
    return kv_cuda_place(a.out_order, row, at, a.n_out);
}

/* From a row's sum of squares. */
KV_DEVICE float rstd_of(const kv_cuda_skinny &a, float sum) {
    return rsqrtf(sum / (float)a.dim + a.eps);
}

KV_DEVICE float swiglu(float gate, float up) {
    return silu<__nv_bfloat16>(gate) * up;
}

/* The second matrix starts at a tile of its own; a tile of swiglu has 8 rows of each half. */
static inline int count_tiles(kv_skinny_kind kind, const kv_cuda_skinny *a) {
    if (kind == KV_SKINNY_SWIGLU) return kv_cuda_ceil(a->n_out, 8);
    return kv_cuda_ceil(a->n_out, TILE) + (a->w2 ? kv_cuda_ceil(a->n_out2, TILE) : 0);
}

/* skinny_wide.cu: the product with x turned. */
cudaError_t kv_cuda_skinny_wide(kv_skinny_kind kind, const kv_cuda_skinny *a, int pdl, cudaStream_t stream);

#endif
