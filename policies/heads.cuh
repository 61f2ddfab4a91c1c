/* heads.cuh - how a kernel finds its head among kv_cuda_heads, and a slot inside it.
 *
 * Which heads take part is decided here alone, so that scores, selection and compaction agree.  Included by .cu files
 * only. */
#ifndef KV_POLICIES_HEADS_H
#define KV_POLICIES_HEADS_H

#include <cuda_runtime.h>

extern "C" {
#include "policies/policy_cuda.h"
}

/* One head that takes part. */
typedef struct kv_cuda_head {
    void *const *pages;  /* its pages */
    int32_t *n_slots_at; /* where its number of slots is kept */
    const float *ring;   /* of the sequence */
    size_t row;          /* of the score: index * stride */
    int seq, layer, kv_head;
    int n_slots, n_seen;
} kv_cuda_head;

static inline int kv_cuda_heads_count(const kv_cuda_heads *h) {
    return h->n * h->n_layers * h->n_kv_heads;
}

/* Fills *v for head `index` of (n, n_layers, n_kv_heads); false when the head is left alone. */
static __device__ __forceinline__ bool kv_cuda_head_find(const kv_cuda_heads &h, int index, kv_cuda_head *v) {
    int per_seq = h.n_layers * h.n_kv_heads, i = index / per_seq, at = index - i * per_seq;
    v->seq = h.seq_of[i];
    if (v->seq < 0) return false;
    const kv_cuda_seq *s = h.seqs + v->seq;
    v->n_slots_at = s->n_slots + at;
    v->n_slots = *v->n_slots_at;
    if (v->n_slots < h.at || v->n_slots <= h.budget) return false;
    v->layer = at / h.n_kv_heads;
    v->kv_head = at - v->layer * h.n_kv_heads;
    v->pages = s->pages + (size_t)at * (size_t)s->page_cap;
    v->ring = s->ring;
    v->n_seen = s->n_seen;
    v->row = (size_t)index * (size_t)h.stride;
    return true;
}

static __device__ __forceinline__ const char *kv_cuda_page(const kv_cuda_head &v, int slot) {
    return (const char *)v.pages[slot / KV_PAGE];
}

static __device__ __forceinline__ int32_t kv_cuda_pos(const kv_cuda_heads &h, const kv_cuda_head &v, int slot) {
    return ((const int32_t *)(kv_cuda_page(v, slot) + h.layout.off_pos))[slot % KV_PAGE];
}

static __device__ __forceinline__ float kv_cuda_col(const kv_cuda_heads &h, const kv_cuda_head &v, int slot, int col) {
    return ((const float *)(kv_cuda_page(v, slot) + h.layout.off_cols))[col * KV_PAGE + slot % KV_PAGE];
}

/* Launch shape of a score that looks at each slot alone: x = heads, y = parts of the slots, strided. */
enum { KV_CUDA_SCORE_THREADS = 256, KV_CUDA_SCORE_PARTS = 32 };

static inline dim3 kv_cuda_score_grid(const kv_cuda_heads *h) {
    int parts = (h->stride + 4 * KV_CUDA_SCORE_THREADS - 1) / (4 * KV_CUDA_SCORE_THREADS);
    if (parts < 1) parts = 1;
    if (parts > KV_CUDA_SCORE_PARTS) parts = KV_CUDA_SCORE_PARTS;
    return dim3((unsigned)kv_cuda_heads_count(h), (unsigned)parts);
}

#endif
