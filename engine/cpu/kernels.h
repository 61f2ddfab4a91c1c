/* kernels.h - the row, tile and page kernels that exist once per instruction set, as a table.
 *
 * The kernels are written once over a 16-lane vector (simd_*.h) in kern_*.h and compiled three times, by isa_plain.c,
 * isa_avx2.c and isa_avx512.c.  They know nothing of threads; matmul.c, attend.c and rows.c split the work.
 * Every sum has an order that depends on the row alone, so the result of a row is the same in every tile. */
#ifndef KV_CPU_KERNELS_H
#define KV_CPU_KERNELS_H

#include "engine/backend.h"

enum {
    KV_BLOCK = 32,       /* output columns packed together */
    KV_GROUP = 64,       /* inputs that share a scale in the 8-bit format */
    KV_ATTEND_ROWS = 12, /* most (query, head) rows of an attention tile; a kernel set may use fewer */
    KV_SPLIT = 512       /* slots of an attention split; their K and V should stay in the level-2 cache */
};

/* Bytes of one group of one 8-bit block: KV_GROUP / 4 steps of (KV_BLOCK columns, 4 inputs) as weight + 128, then
 * KV_BLOCK fp32 scales. */
#define KV_Q8_GROUP_BYTES ((size_t)KV_BLOCK * KV_GROUP + KV_BLOCK * sizeof(float))

/* Quantised rows: q (n, n_groups * KV_GROUP), scale and comp (n, n_groups); comp = -128 * the sum of a group's q, which
 * cancels the offset of the unsigned weights. */
typedef struct kv_q8_rows {
    int8_t *q;
    float *scale;
    int32_t *comp;
    int n_groups;
} kv_q8_rows;

/* One column block times rows [row, row + n_rows). */
typedef struct kv_tile_args {
    const void *block; /* f32: (n_in, KV_BLOCK) floats; 8-bit: n_groups times KV_Q8_GROUP_BYTES */
    const float *x;    /* f32: first row; row stride x_stride */
    size_t x_stride;
    const kv_q8_rows *q; /* 8-bit: all rows */
    int row, n_rows, n_in;
    float *out; /* first row, first column of the block; row stride out_stride */
    size_t out_stride;
    int n_cols; /* columns of the block that exist, 1..KV_BLOCK */
    int accumulate;
} kv_tile_args;

/* Some (query, head) rows of one KV head. */
typedef struct kv_attend_tile {
    const kv_page_layout *layout;
    void *const *pages;
    const float *q[KV_ATTEND_ROWS]; /* (head_dim) each */
    float *out[KV_ATTEND_ROWS];
    int n_slots[KV_ATTEND_ROWS]; /* slots the row sees, >= 1 */
    int n_rows, head_dim;
    float scale;
    float *scratch; /* kv_cpu_attend_scratch() floats */
    float *mass;    /* (pages, KV_PAGE) += probabilities summed over the rows, or NULL */
} kv_attend_tile;

/* Floats of scratch that a tile needs: scaled queries and sums of values (rows, head_dim rounded up to 16), maxima
 * (splits, rows), and probabilities (pages, rows, KV_PAGE) of one split, or of all when masses are wanted. */
static inline size_t kv_cpu_attend_scratch(int head_dim, int n_slots, int mass) {
    size_t d = ((size_t)head_dim + 15) / 16 * 16, n = ((size_t)n_slots + KV_PAGE - 1) / KV_PAGE * KV_PAGE;
    return KV_ATTEND_ROWS * (2 * d + n / KV_SPLIT + 1 + (mass || n < KV_SPLIT ? n : KV_SPLIT));
}

typedef struct kv_cpu_kernels {
    const char *name;
    int attend_rows, f32_rows, q8_rows; /* rows of a full tile */
    void (*norm_row)(float *out, const float *x, const float *w, float eps, int n);
    void (*swiglu_row)(float *out, const float *gate, const float *up, int n);
    void (*quantize_row)(const kv_q8_rows *q, int row, const float *x, int n);
    /* Rows [0, n_rows) of w (n_rows <= KV_BLOCK, row stride n_in) into one block. */
    void (*pack_f32)(float *block, const float *w, int n_rows, int n_in);
    void (*pack_q8)(uint8_t *block, const float *w, int n_rows, int n_in);
    void (*tile_f32)(const kv_tile_args *a);
    void (*tile_q8)(const kv_tile_args *a);
    void (*rope_row)(float *x, int n_heads, int head_dim, const float *cos, const float *sin);
    /* Columns [j0, j1) of out (n_rows, n_out). */
    void (*linear)(float *out, const float *x, const float *w, const float *bias, int n_rows, int n_in, int n_out,
                   int j0, int j1);
    void (*attend)(const kv_attend_tile *t);
    /* dst (n) in the cache type; src fp32. */
    void (*store_cache)(void *dst, kv_cache_type type, const float *src, int n);
    void (*load_cache)(float *dst, const void *src, kv_cache_type type, int n);
    /* Slots from[j] of page src to slot j of dst for lane0 <= j < lane1: K, V, position and columns; src may be dst. */
    void (*move_slots)(const kv_page_layout *l, void *dst, const void *src, const uint8_t *from, int lane0, int lane1);
} kv_cpu_kernels;

extern const kv_cpu_kernels kv_cpu_kernels_plain;
#if defined(__x86_64__)
extern const kv_cpu_kernels kv_cpu_kernels_avx2;
extern const kv_cpu_kernels kv_cpu_kernels_avx512;
#endif

#endif
