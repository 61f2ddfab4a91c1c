/* skinny.cuh - products of a weight matrix with a few rows, at the speed of memory.
 *
 * out (n, n_out) = x (n, n_in) w^T, w (n_out, n_in) bf16 row-major: as the checkpoint and cuBLAS have it, nothing is
 * packed.  Up to 64 rows, 32 in bands, share one reading of the weights, which go straight from memory or by way
 * of shared memory into the registers that the tensor core takes (A operand); which k goes to which place of a fragment
 * is free as long as both operands agree, so a lane takes 8 consecutive weights of one row at once.  x is the B
 * operand.
 *
 * Order of a sum: k in chunks of 32; the chunks are cut into eight runs, each added up in ascending order by the tensor
 * core, then the runs in ascending order.  Nothing of it depends on n, so a row has the same bits at every batch size:
 * skinny.cu, for few rows, where each warp of a block has a run, and skinny_wide.cu, for many, where a warp goes
 * through all of them or the blocks of a cluster share them.
 *
 * RMSNorm is split so that it costs no pass of its own: who writes the residual x also writes bf16(x * norm weight) and
 * the sum of squares of every tile; the product that reads them scales its result by 1/rms.
 *
 * Launched with programmatic dependent launch: a block asks for its first weights before it waits for the kernel before
 * it, so the memory works through the hand-over.  (Bringing more of them to L2 was measured and made a decode step
 * slower.) */
#ifndef KV_CUDA_SKINNY_H
#define KV_CUDA_SKINNY_H

#include "engine/cuda/cuda.h"

enum { KV_SKINNY_ROWS = 64 }; /* most rows, turned, that share one reading of the weights */

/* Partial sums of squares of a row of `dim` elements: one of every 16. */
static __host__ __device__ inline int kv_cuda_skinny_squares(int dim) {
    return (dim + 15) / 16;
}

typedef enum kv_skinny_kind {
    KV_SKINNY_PLAIN,    /* out = product * rstd */
    KV_SKINNY_RESIDUAL, /* x += product; prepared for the next norm */
    KV_SKINNY_SWIGLU    /* h = silu(gate) * up, w = gate rows, then up rows */
} kv_skinny_kind;

typedef struct kv_cuda_skinny {
    const __nv_bfloat16 *w;  /* (n_out, n_in); swiglu: (2 n_out, n_in) */
    const __nv_bfloat16 *w2; /* plain: more rows (n_out2, n_in), or NULL */
    int n_out, n_out2, n_in; /* n_in a multiple of 32 */
    const __nv_bfloat16 *x;  /* (n, n_in) */
    kv_order order;          /* of x, in bands (kv_cuda_whole_bands) or turned: see kv_cuda_skinny_order; same bits */
    kv_order out_order;      /* that h and normed are to have; not plain: n_out a multiple of 32 */
    int n;                   /* any number: slices of at most KV_SKINNY_ROWS run side by side */
    const float *squares;    /* (n, n_squares) partial sums of squares of the rows before the norm, or NULL: rstd = 1 */
    int n_squares, dim;      /* dim: elements of the normed row */
    float eps;
    float *out, *out2; /* plain: (n, out_stride) from w, (n, out2_stride) from w2 */
    int out_stride, out2_stride;
    __nv_bfloat16 *h;         /* swiglu: (n, n_out) */
    float *residual;          /* residual: (n, n_out), read and written */
    __nv_bfloat16 *normed;    /* residual: (n, n_out) = bf16(x * norm weight) */
    const float *norm_weight; /* residual: (n_out) of the next norm */
    float *squares_out;       /* residual: (n, kv_cuda_skinny_squares(n_out)), one of every tile */
} kv_cuda_skinny;

/* The order of x that this product is fastest with.  Of its pointers it only matters whether there is a w2. */
kv_order kv_cuda_skinny_order(kv_skinny_kind kind, const kv_cuda_skinny *a);
/* pdl: launch programmatically dependent on the kernel before it in the stream. */
cudaError_t kv_cuda_skinny_rows(kv_skinny_kind kind, const kv_cuda_skinny *a, int pdl, cudaStream_t stream);
/* Once per process and device, outside of captures. */
cudaError_t kv_cuda_skinny_prepare(void);

#endif
