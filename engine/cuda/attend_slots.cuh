/* attend_slots.cuh - the fused decode step of one layer's attention; the plain form is in cuda.h. */
#ifndef KV_CUDA_ATTEND_SLOTS_H
#define KV_CUDA_ATTEND_SLOTS_H

#include "engine/cuda/cuda.h"

/* One new token per sequence: row b of every buffer belongs to sequence b.  From the raw product with the q, k and v
 * weights: bias, head norms, rotary embedding, append to the cache (slot n_slots - 1 exists already), columns with the
 * retention gate, query ring, then attention over all slots.
 *
 * Before it waits for the kernel in front it reads active, seqs, n_slots, page tables and all slots but the newest:
 * what wrote those must have ended before the kernel in front started.  At least one row must be active. */
typedef struct kv_cuda_decode_attend {
    const float *qkv;   /* (n, (n_heads + 2 n_kv_heads) * head_dim) fp32 */
    __nv_bfloat16 *out; /* (n, n_heads * head_dim) */
    const kv_cuda_seq *seqs;
    const int32_t *active; /* (n) 0: leave the row alone */
    kv_page_layout layout;
    int n, layer, n_heads, n_kv_heads, head_dim, window;
    int most_slots;               /* no head holds more (host) */
    const float *bias;            /* (width of qkv) added to it, or NULL */
    const float *q_norm, *k_norm; /* (head_dim) or NULL */
    float eps, scale;
    const float *rope_cos, *rope_sin; /* (n_positions, head_dim / 2) */
    /* gate: NULL mid = none.  mid (n, mid_stride), W1 x in n_parts parts of n_hidden */
    const float *mid, *gate_b1, *gate_w2, *gate_bias;
    int mid_stride, n_hidden, n_parts, gate_col;
    float *scores; /* (n, n_heads, score_stride) scaled logits, or NULL; for the mass column */
    float *lse;    /* (n, n_heads), with scores */
    int score_stride;
    void *scratch; /* kv_cuda_attend_scratch_bytes(n, 1, ...) */
    size_t scratch_bytes;
    int *counters; /* (KV_CUDA_COUNTERS), all 0 before and after */
} kv_cuda_decode_attend;
cudaError_t kv_cuda_decode_attend_slots(const kv_cuda_decode_attend *a, cudaStream_t stream);

/* Every layer's mass column += probabilities of the step, from scores (n_layers, n, n_heads, stride) and lse. */
cudaError_t kv_cuda_add_mass(const kv_cuda_seq *seqs, const int32_t *active, const kv_page_layout *layout,
                             const float *scores, const float *lse, int stride, int n, int n_layers, int n_heads,
                             int n_kv_heads, int most_slots, cudaStream_t stream);

#endif
