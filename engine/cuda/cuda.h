/* cuda.h - what the files of the CUDA backend share: types, and one launcher per kernel.
 *
 * Launchers enqueue on a stream, never allocate or synchronise, and return a cudaError_t; every pointer is device
 * memory unless its comment says host.  "Rows" are tokens of any number of sequences packed together.  Two element
 * types: bf16 with fp32 sums (numerics `fast`) and fp32 (`exact`, for parity with the CPU).  Sums have one order that
 * depends on the row's own sequence only.  Included by .cu files. */
#ifndef KV_CUDA_H
#define KV_CUDA_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "engine/cuda/order.cuh"

extern "C" {
#include "engine/kv.h"
#include "policies/policy_cuda.h"
}

enum {
    KV_CUDA_GROUP_MAX = 8, /* query heads per KV head */
    KV_CUDA_COLUMNS = 8,   /* query columns (tokens x group) that one attention block handles */
    KV_CUDA_COUNTERS = 1 << 20
};

typedef enum kv_cuda_type { KV_CUDA_BF16, KV_CUDA_F32 } kv_cuda_type;

/* Rows of a forward: descriptors in device memory, (n) each. */
typedef struct kv_cuda_rows {
    const int32_t *token;
    const int32_t *pos;  /* original position */
    const int32_t *seq;  /* index into seqs */
    const int32_t *back; /* the row's slot is n_slots - back of every head (n_slots counts the new rows already) */
    int n;
} kv_cuda_rows;

/* Consecutive rows of one sequence. */
typedef struct kv_cuda_segment {
    int32_t seq, row, n; /* rows [row, row + n) */
    int32_t pos;         /* position of the first */
} kv_cuda_segment;

/* ---- rows.cu, append.cu, gate.cu: work over rows ----------------------------------------------------------------- */

/* x (n, dim) fp32 = embed[token] (n_vocab, dim) of `type`. */
cudaError_t kv_cuda_embed_rows(float *x, const void *embed, kv_cuda_type type, const int32_t *token, int n, int dim,
                               cudaStream_t stream);

/* out (n, dim) of `type` = x * rsqrt(mean(x^2) + eps) * w, all in fp32 before the last rounding; w (dim) fp32.  order:
 * plain, or bf16 in bands. */
cudaError_t kv_cuda_norm_rows(void *out, kv_cuda_type type, kv_order order, const float *x, const float *w, float eps,
                              int n, int dim, cudaStream_t stream);

/* out (n, n_ff) of `type` = silu(gu[:, :n_ff]) * gu[:, n_ff:], gu (n, 2 n_ff) of `type`; computed in fp32. */
cudaError_t kv_cuda_swiglu_rows(void *out, const void *gu, kv_cuda_type type, int n, int n_ff, cudaStream_t stream);

/* Bias of q, k and v (Qwen2; NULL = none), per-head q and k norm (Qwen3; weights NULL = none), rotate-half rotary
 * embedding, and append to the cache: qkv (n, (n_heads + 2 n_kv_heads) * head_dim) of `type`; q is rewritten in place,
 * rotated; k (rotated) and v go to the row's slot of every KV head of `layer`, with position and columns (mass 0, then
 * stats (n, n_kv_heads, n_cols - has_mass) fp32 or 0 when NULL).  With ring (window > 0), the rotated queries of the
 * last `window` rows of each segment go to seqs[].ring as fp32.  k_out, v_out (n, n_kv_heads, head_dim) of `type` or
 * NULL: contiguous copies of rotated k and of v, for attend_prompt. */
typedef struct kv_cuda_append {
    void *qkv;
    kv_cuda_type type;
    kv_cuda_rows rows;
    const kv_cuda_seq *seqs;
    kv_page_layout layout;
    int layer, n_heads, n_kv_heads, head_dim, window;
    const float *bias;            /* ((n_heads + 2 n_kv_heads) * head_dim) or NULL */
    const float *q_norm, *k_norm; /* (head_dim) or NULL */
    float eps;
    const float *rope_cos, *rope_sin; /* (n_positions, head_dim / 2) */
    const float *stats;
    void *k_out, *v_out;
} kv_cuda_append;
cudaError_t kv_cuda_append_rows(const kv_cuda_append *a, cudaStream_t stream);

/* Most of n_hidden, and of twice that with a second map: 48 KiB of shared memory. */
enum { KV_CUDA_GATE_FLOATS = 12288 };

/* The retention gate of rows behind its first product, fp32 throughout (formulas: policies/policy.h).  mid (n,
 * mid_stride) holds W1 x in its first n_hidden columns, then up x when there is no b1 (rg3), then the same once more
 * for the rest of the weights when they were split in two bf16 parts (n_parts 2), summed first.  Results go to
 * stats[(row * n_kv_heads + h) * n_stats + at]; the other stats of the row stay as they are. */
typedef struct kv_cuda_gate {
    float *stats;
    int n_stats, at;
    const float *mid;
    int mid_stride, n_parts;
    const float *b1;          /* (n_hidden), NULL for rg3 */
    const float *map, *map_b; /* (n_hidden, n_hidden) and (n_hidden): the second map of rg10, else NULL */
    const float *w2, *bias;   /* (n_kv_heads, n_hidden), (n_kv_heads) */
    int n, n_hidden, n_kv_heads;
} kv_cuda_gate;
cudaError_t kv_cuda_gate_rows(const kv_cuda_gate *g, cudaStream_t stream);

/* Input rows of gates that see K and V (n, n_kv_heads, 2, head_dim) from k and v (n, n_kv_heads, head_dim). */
cudaError_t kv_cuda_pack_kv(void *out, const void *k, const void *v, kv_cuda_type type, int n, int n_kv_heads,
                            int head_dim, cudaStream_t stream);

/* ---- attend_f32.cu: fp32 attention over the paged cache, for parity; mass_rows.cu -------------------------------- */

/* Row i of a segment (n rows, the newest of its sequence, already appended) sees slots [0, n_slots - n + i].
 * q: rows of (n_heads, head_dim), stride q_stride elements, fp32; out (rows, n_heads * head_dim) fp32.  lse (rows,
 * n_heads) = ln of the sum of exp of the scaled logits, for mass_rows. */
typedef struct kv_cuda_attend {
    const void *q; /* of the cache's type */
    size_t q_stride;
    void *out;                     /* of the cache's type */
    float *lse;                    /* (rows, n_heads) or NULL */
    const kv_cuda_segment *segs;   /* device */
    int n_segs, n_rows, most_rows; /* most_rows: of any segment */
    const kv_cuda_seq *seqs;
    kv_page_layout layout;
    int layer, n_heads, n_kv_heads, head_dim;
    int most_slots; /* upper bound of n_slots of any head here (host) */
    float scale;    /* 1 / sqrt(head_dim) */
    void *scratch;  /* kv_cuda_attend_scratch_bytes; attend_slots only */
    size_t scratch_bytes;
    int *counters; /* (KV_CUDA_COUNTERS), all 0 before and after; attend_slots only */
} kv_cuda_attend;
cudaError_t kv_cuda_attend_f32(const kv_cuda_attend *a, cudaStream_t stream);

/* Mass column of every slot += its probabilities, summed over the segment's rows in order and the group's heads, from
 * the rotated queries and lse of the attention before it.  One order whatever is packed together.  Both types. */
cudaError_t kv_cuda_mass_rows(const kv_cuda_attend *a, cudaStream_t stream);

/* ---- attend_slots.cu: bf16 attention of a few rows per sequence over the paged cache ----------------------------- */

/* As kv_cuda_attend_f32; out (rows, n_heads * head_dim) bf16. */
cudaError_t kv_cuda_attend_slots(const kv_cuda_attend *a, cudaStream_t stream);
size_t kv_cuda_attend_scratch_bytes(int n_segs, int most_rows, int n_heads, int n_kv_heads, int head_dim,
                                    int most_slots);

/* ---- attend_prompt.cu: bf16 causal attention of a whole prompt with itself; mass_prompt.cu ----------------------- */

/* Row i sees rows [0, i] of the same prompt.  q: row i at q + i * q_stride, (n_heads, head_dim); k, v: row i at k + i *
 * kv_stride, (n_kv_heads, head_dim); out (n, n_heads * head_dim); lse (n, n_heads) or NULL.  head_dim 64, 96 or 128.
 * The same bits whatever else runs; rows past n are never read. */
cudaError_t kv_cuda_attend_prompt(void *out, float *lse, const void *q, size_t q_stride, const void *k, const void *v,
                                  size_t kv_stride, int n, int n_heads, int n_kv_heads, int head_dim, float scale,
                                  cudaStream_t stream);

/* mass (n_kv_heads, n) fp32 = for every row j and KV head, the sum over rows i >= j and the group's heads of exp(scale
 * q_i . k_j - lse_i).  Tensor cores; fixed order. */
cudaError_t kv_cuda_mass_prompt(float *mass, const float *lse, const void *q, size_t q_stride, const void *k,
                                size_t kv_stride, int n, int n_heads, int n_kv_heads, int head_dim, float scale,
                                cudaStream_t stream);

/* ---- reduce.cu: select and compact ------------------------------------------------------------------------------- */

typedef struct kv_cuda_reduce {
    kv_cuda_heads heads; /* with scores */
    int n_sink, n_recent;
    int32_t *kept;               /* scratch, laid out as heads.score */
    int32_t *n_kept;             /* scratch (n, n_layers, n_kv_heads) */
    void **free_pages;           /* stack of free pages */
    int32_t *n_free;             /* (1) its height */
    unsigned long long *n_moved; /* (all sequences) += slots whose index changed */
    int32_t *bad; /* (all sequences) becomes 1 + layer * n_kv_heads + kv_head of a head with a NaN score; such a
                     head is left as it is */
} kv_cuda_reduce;
/* kept slots of every head by the rules of policies/select.c, ascending. */
cudaError_t kv_cuda_select_slots(const kv_cuda_reduce *r, cudaStream_t stream);
/* Moves kept slots to the front (K, V, position, columns), sets n_slots, pushes the pages behind them. */
cudaError_t kv_cuda_compact_slots(const kv_cuda_reduce *r, cudaStream_t stream);

/* ---- slots.cu: copies of cached slots ---------------------------------------------------------------------------- */

/* Brings one head to contiguous arrays (for the host's definition of a score, traces and tests); any may be NULL:
 * keys (n_slots, head_dim) fp32, values likewise, pos (n_slots), cols (n_cols, n_slots). */
cudaError_t kv_cuda_gather_head(const kv_cuda_seq *seqs, int seq, const kv_page_layout *layout, int layer, int kv_head,
                                int n_kv_heads, int n_slots, float *keys, float *values, int32_t *pos, float *cols,
                                cudaStream_t stream);

/* dst slots [0, n) = src slots [0, n) of every layer and head of one sequence; column c of dst is column cols[c] of
 * src, 0 when cols[c] < 0 (cols: host, copied into the launch, at most 40).  Pages of dst are there already. */
cudaError_t kv_cuda_copy_slots(const kv_cuda_seq *seqs, int dst, const kv_page_layout *dl, int src,
                               const kv_page_layout *sl, const int *cols, int n, int n_layers, int n_kv_heads,
                               cudaStream_t stream);

/* ---- sample.cu --------------------------------------------------------------------------------------------------- */

typedef struct kv_cuda_sampling {
    float temperature, top_p, min_p; /* engine.h: kv_sampling */
    int32_t top_k;
    unsigned long long seed;
} kv_cuda_sampling;

/* For row i of logits (n, n_vocab) fp32: token[i] = the next token (greedy: the lowest index of the largest logit;
 * otherwise the one that sampler.c draws), KV_ENUM when a logit is NaN or infinite; hash[i] = kv_logits_hash
 * of the row, seeded with hash[i]; step[i] += 1 (the index of the draw, 0 first).  Rows with skip[i] != 0 stay
 * untouched. */
typedef struct kv_cuda_sample {
    const float *logits;
    int n, n_vocab;
    const kv_cuda_sampling *sampling; /* (n) */
    const int32_t *skip;              /* (n) or NULL */
    int32_t *token, *step;            /* (n) */
    unsigned long long *hash;         /* (n) */
    void *scratch;
    size_t scratch_bytes; /* >= kv_cuda_sample_scratch_bytes(n, n_vocab) */
} kv_cuda_sample;
size_t kv_cuda_sample_scratch_bytes(int n, int n_vocab);
cudaError_t kv_cuda_sample_rows(const kv_cuda_sample *s, cudaStream_t stream);

#endif
