/* attend_decode.cuh - the fused decode step of one layer's attention, and what follows for all layers at once; the
 * plain form of attention is in cuda.h. */
#ifndef KV_CUDA_ATTEND_DECODE_H
#define KV_CUDA_ATTEND_DECODE_H

#include "engine/cuda/cuda.h"

/* One new token per sequence: row b of every buffer belongs to sequence b.  From the raw product with the q, k and v
 * weights: bias, head norms, rotary embedding, append of K and V to the cache (slot n_slots - 1 exists already), query
 * ring, then attention over all slots.  Position and columns of the slot are kv_cuda_append_newest's.
 *
 * Before it waits for the kernel in front it reads active, seqs, n_slots, page tables and all slots but the newest:
 * what wrote those must have ended before the kernel in front started.  At least one row must be active. */
typedef struct kv_cuda_decode_attend {
    const float *qkv;   /* (n, (n_heads + 2 n_kv_heads) * head_dim) fp32 */
    __nv_bfloat16 *out; /* (n, n_heads * head_dim) */
    const kv_cuda_seq *seqs;
    const int32_t *n_slots; /* those of seqs: row i's (n_layers, n_kv_heads) at n_slots + i * slots_stride */
    int slots_stride;
    const int32_t *active; /* (n) 0: leave the row alone */
    kv_page_layout layout;
    int n, layer, n_heads, n_kv_heads, head_dim, window;
    int most_slots;               /* no head holds more (host) */
    kv_order out_order;           /* in bands: out has kv_cuda_whole_bands(n) rows */
    int splits;                   /* of a head in one block, 1 to 8; 0: as fits the GPU.  The bits are the same */
    const float *bias;            /* (width of qkv) added to it, or NULL */
    const float *q_norm, *k_norm; /* (head_dim) or NULL */
    float eps, scale;
    const float *rope_cos, *rope_sin; /* (n_positions, head_dim / 2) */
    float *scores;                    /* (n, n_heads, score_stride) scaled logits, or NULL; for the mass column */
    float *lse;                       /* (n, n_heads), with scores */
    int score_stride;
    void *scratch; /* kv_cuda_decode_attend_scratch_bytes */
    size_t scratch_bytes;
    int *counters; /* (KV_CUDA_COUNTERS), all 0 before and after */
} kv_cuda_decode_attend;
cudaError_t kv_cuda_decode_attend_slots(const kv_cuda_decode_attend *a, cudaStream_t stream);
size_t kv_cuda_decode_attend_scratch_bytes(int n, int n_kv_heads, int head_dim, int most_slots);

/* Position and columns of the newest slot of every head of all layers: 0, but ln of the retention gate in gate_col. */
typedef struct kv_cuda_append_columns {
    const kv_cuda_seq *seqs;
    const int32_t *active; /* (n) 0: leave the row alone */
    kv_page_layout layout;
    int n, n_layers, n_kv_heads;
    /* gate: NULL mid = none.  mid (n_layers, n, mid_stride), W1 x in n_parts parts of n_hidden */
    const float *mid;
    int mid_stride, n_hidden, n_parts, gate_col;
    const float *b1, *w2, *bias; /* of the first layer: (n_hidden), (n_kv_heads, n_hidden), (n_kv_heads) */
    size_t layer_stride;         /* floats from one layer's to the next's */
} kv_cuda_append_columns;
cudaError_t kv_cuda_append_newest(const kv_cuda_append_columns *a, cudaStream_t stream);

/* Every layer's mass column += probabilities of the step. */
typedef struct kv_cuda_mass {
    const kv_cuda_seq *seqs;
    const int32_t *active; /* (n) 0: leave the row alone */
    kv_page_layout layout;
    const float *scores, *lse; /* of all layers: (n_layers, n, n_heads, stride), (n_layers, n, n_heads) */
    int stride, n, n_layers, n_heads, n_kv_heads;
    int most_slots; /* no head holds more */
    int append;     /* position and columns of the newest slot are still to be written: no gate */
} kv_cuda_mass;
cudaError_t kv_cuda_add_mass(const kv_cuda_mass *a, cudaStream_t stream);

#endif
