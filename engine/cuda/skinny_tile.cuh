/* skinny_tile.cuh - what both kernels of skinny.cuh share: tiles of 16 rows, chunks of 32 k, and the order of a sum. */
#ifndef KV_CUDA_SKINNY_TILE_H
#define KV_CUDA_SKINNY_TILE_H

#include "engine/cuda/common.cuh"
#include "engine/cuda/mma.cuh"
#include "engine/cuda/pdl.cuh"
#include "engine/cuda/skinny.cuh"

enum {
    RUNS = 8,   /* of chunks: each is a sum of its own, and they are added in order */
    CHUNK = 32, /* k of two mma */
    TILE = 16   /* rows of an mma */
};

/* First chunk of a run, of n_chunks in all. */
KV_DEVICE int run_start(int run, int n_chunks) {
    return run * n_chunks / RUNS;
}

typedef struct frag {
    uint4 lo, hi; /* 8 weights of row lane / 4 and of row lane / 4 + 8 */
} frag;

KV_DEVICE uint4 load_weights(const __nv_bfloat16 *p) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

/* Not through the read-only path: the kernel before this one has just written it. */
KV_DEVICE uint4 load_x(const __nv_bfloat16 *p) {
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}

/* Where a lane's two rows of a tile begin: rows r and r + 8; for swiglu gate row and up row of one h. */
template <int KIND>
KV_DEVICE void tile_rows(const kv_cuda_skinny &a, int tile, int lane, const __nv_bfloat16 **lo,
                         const __nv_bfloat16 **hi) {
    int r = lane / 4;
    size_t k = (size_t)a.n_in;
    if (KIND == KV_SKINNY_SWIGLU) {
        int row = min(tile * 8 + r, a.n_out - 1);
        *lo = a.w + (size_t)row * k;
        *hi = a.w + (size_t)(a.n_out + row) * k;
        return;
    }
    const __nv_bfloat16 *w = a.w;
    int n = a.n_out, first = (a.n_out + TILE - 1) / TILE;
    if (KIND == KV_SKINNY_PLAIN && tile >= first) {
        w = a.w2;
        n = a.n_out2;
        tile -= first;
    }
    *lo = w + (size_t)min(tile * TILE + r, n - 1) * k;
    *hi = w + (size_t)min(tile * TILE + r + 8, n - 1) * k;
}

/* Place of an element in its row of h or normed. */
KV_DEVICE int place_of(const kv_cuda_skinny &a, int at) {
    return a.turn_out ? kv_cuda_turn(at) : at;
}

KV_DEVICE float swiglu(float gate, float up) {
    return gate / (1 + __expf(-gate)) * up;
}

/* The second matrix starts at a tile of its own; a tile of swiglu has 8 rows of each half. */
static inline int count_tiles(kv_skinny_kind kind, const kv_cuda_skinny *a) {
    if (kind == KV_SKINNY_SWIGLU) return (a->n_out + 7) / 8;
    return (a->n_out + TILE - 1) / TILE + (a->w2 ? (a->n_out2 + TILE - 1) / TILE : 0);
}

/* skinny_wide.cu: the product with x in product order. */
cudaError_t kv_cuda_skinny_wide(kv_skinny_kind kind, const kv_cuda_skinny *a, int pdl, cudaStream_t stream);

#endif
