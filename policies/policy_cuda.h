/* policy_cuda.h - what a policy's CUDA score sees: the slots of many heads at once, where they lie in device memory.
 *
 * The definition of every score is the policy's C function; the CUDA one computes the same number for the same slot.
 * One launch scores every (sequence, layer, KV head) that is at its trigger.  Included by policies' .cu files and by
 * the engine; plain C. */
#ifndef KV_POLICY_CUDA_H
#define KV_POLICY_CUDA_H

#include "engine/page.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One sequence, as kernels see it; the struct itself lies in device memory too. */
typedef struct kv_cuda_seq {
    void **pages;     /* (n_layers, n_kv_heads, page_cap): page of slots [16 i, 16 i + 16) */
    int32_t *n_slots; /* (n_layers, n_kv_heads) slots held */
    float *ring;      /* (n_layers, window, n_heads, head_dim) rotated queries, the one of position t at t % window;
                         NULL when no policy wants queries */
    int page_cap;
    int n_seen; /* T: tokens seen, the newest included */
} kv_cuda_seq;

/* The heads to reduce.  A head (i, layer, kv_head) takes part when it holds at least `at` slots and more than `budget`;
 * kernels return at once for the others.  Where heads share a budget all take part: at 0, budget -1. */
typedef struct kv_cuda_heads {
    kv_page_layout layout;
    const kv_cuda_seq *seqs; /* device: all sequences */
    const int32_t *seq_of;   /* device (n): index into seqs, or -1: leave out */
    int n, n_layers, n_kv_heads, group, head_dim, window;
    int at, budget;
    float *score;   /* device (n, n_layers, n_kv_heads, stride) out: one number per slot, lowest leaves first */
    int stride;     /* >= the most slots of any head here */
    int first_stat; /* column of the policy's first stat */
    void *stream;   /* cudaStream_t */
    float *scratch; /* device (n, n_layers, n_kv_heads, window + 2, stride) for policies that see queries, else NULL */
    size_t scratch_floats;
} kv_cuda_heads;

/* The launchers behind the policies' score_cuda; all return a cudaError_t.  scores: h->score. */
int kv_cuda_score_position(const kv_cuda_heads *h);            /* window.cu */
int kv_cuda_score_hash(const kv_cuda_heads *h, uint64_t seed); /* random.cu */
int kv_cuda_score_mass(const kv_cuda_heads *h);                /* h2o.cu */
/* snapkv.cu: the last `window` <= h->window queries, maximum over `pool` slots; with scratch. */
int kv_cuda_score_attention(const kv_cuda_heads *h, int window, int pool);
/* trimkv.cu: lb in column first_stat, ln |k| in the next one (read with knorm). */
int kv_cuda_score_retention(const kv_cuda_heads *h, int lookahead, int knorm);

/* K and V inside a page.  f32: K (16, d), V (16, d).  bf16: K (16, d) row-major; V in the order of the tensor cores'
 * A operand of V^T: for dim = 16 m + 8 hi + r and slot = 8 sh + 2 q + e, element ((m * 32 + r * 4 + q) * 8 + 4 sh + 2
 * hi + e). */

#ifdef __cplusplus
}
#endif

#endif
