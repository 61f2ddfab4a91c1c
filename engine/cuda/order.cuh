/* order.cuh - how bf16 rows lie in memory when a product (skinny.cuh) is to read them. */
#ifndef KV_CUDA_ORDER_H
#define KV_CUDA_ORDER_H

#include <cuda_runtime.h>
#include <stddef.h>

enum { KV_BAND = 8, KV_BAND_CHUNK = 32 }; /* rows of a band; elements of a row that lie together */

typedef enum kv_order {
    KV_ORDER_PLAIN, /* row after row */
    /* bands of 8 rows: the same 32 elements of all rows of a band lie together, so that the operand of two products of
     * 16 k is one run of 512 bytes.  The last band is whole, though its last rows may be nobody's. */
    KV_ORDER_BANDS,
    /* row after row, of every 32 elements the 4 x 4 pairs transposed, so that what a product of 16 k takes of the four
     * lanes that share a row lies together */
    KV_ORDER_TURNED
} kv_order;

/* Where element k of a row of `width` lies; but for KV_ORDER_PLAIN width is a multiple of 32.  Aligned pairs of k stay
 * together in any order, aligned fours in plain order and in bands. */
static __host__ __device__ inline size_t kv_cuda_place(kv_order order, int row, int k, int width) {
    const int in_band = row % KV_BAND, pair = k / 2 % 16;
    int moved = 0; /* from where it lies in plain order */
    if (order == KV_ORDER_BANDS)
        moved = in_band * (KV_BAND_CHUNK - width) + k / KV_BAND_CHUNK * ((KV_BAND - 1) * KV_BAND_CHUNK);
    if (order == KV_ORDER_TURNED) moved = (pair % 4 * 4 + pair / 4 - pair) * 2;
    return (size_t)row * width + k + moved;
}

/* Rows that a buffer has room for when it holds n in bands. */
static __host__ __device__ inline size_t kv_cuda_whole_bands(size_t n) {
    return (n + KV_BAND - 1) / KV_BAND * KV_BAND;
}

#endif
