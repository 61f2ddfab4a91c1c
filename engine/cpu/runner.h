/* runner.h - the CPU's way through a model: buffers of a forward, sequences, forward and reduction. */
#ifndef KV_CPU_RUNNER_H
#define KV_CPU_RUNNER_H

#include "engine/cpu/cache.h"
#include "engine/pooled.h"
#include "engine/runner.h"

enum {
    KV_MAX_ROWS = 512,     /* rows of one forward */
    KV_PREFILL_ROWS = 256, /* full prefill: rows per piece, cut at multiples of this position */
    KV_HEAD_ROWS = 64      /* rows of logits computed at once */
};

/* A sequence's part that only the CPU has. */
typedef struct kv_cpu_seq {
    kv_cache cache;
    float *ring;   /* (n_layers, window, n_heads, head_dim): query of position t at t % window; or NULL */
    float *logits; /* (n_vocab) of the last token that wanted them; in the runner */
    kv_sampling sampling;
    int32_t last; /* the token the next step starts from */
    int n_drawn;
    uint64_t hash;
    int64_t n_moved;
} kv_cpu_seq;

typedef struct kv_cpu_runner {
    kv_runner base;
    kv_page_pool *pool;
    const kv_columns *columns;
    const kv_setup *setup;
    kv_pooling pooling;
    int max_seqs;
    size_t bytes;     /* of its buffers, as entered in the books */
    float *logits;    /* (max_seqs, n_vocab) */
    uint64_t *keys;   /* (max_seqs, n_vocab): sampling scratch, NULL while everything is greedy */
    kv_result *ready; /* (max_seqs) of the last sample or step */
    int n_ready;
    int64_t bytes_read; /* by decode steps */
} kv_cpu_runner;

static inline kv_cpu_seq *kv_cpu_seq_of(const kv_seq *s) {
    return s->device;
}

/* Buffers of a forward, allocated once per engine. */
typedef struct kv_workspace {
    float *x;         /* (KV_MAX_ROWS, dim) */
    float *qkv;       /* (KV_MAX_ROWS, (n_heads + 2 n_kv_heads) * head_dim) */
    float *att;       /* (KV_MAX_ROWS, n_heads * head_dim) */
    float *gate_up;   /* (KV_MAX_ROWS, 2 n_ff) */
    float *hidden;    /* (KV_MAX_ROWS, dim): gate input */
    float *k, *v;     /* (KV_MAX_ROWS, n_kv_heads * head_dim): contiguous copies for policies */
    float *stats;     /* (KV_MAX_ROWS, n_kv_heads, columns after the mass), room for the most columns */
    float *stats_one; /* (KV_MAX_ROWS, n_kv_heads, KV_MAX_STATS) */
    float *last;      /* (KV_HEAD_ROWS, dim): rows that need logits */
    float *services;  /* scratch handed to policies */
    int32_t *pos;     /* (KV_MAX_ROWS) */
} kv_workspace;

enum { KV_SERVICE_SCRATCH = 1 << 20 }; /* floats */

int kv_cpu_workspace_create(kv_engine *e, kv_error *err);
void kv_cpu_workspace_free(kv_workspace *ws);

/* One pass over at most KV_MAX_ROWS rows of any number of sequences: append, attend, and logits of the last rows, row k
 * of logits for the k-th segment that wants a token.  All sequences share one kv_columns. */
int kv_cpu_forward(kv_engine *e, kv_segment *segs, int n_segs, float *logits, const kv_trace *trace, kv_error *err);

void kv_cpu_reduce(kv_engine *e, kv_seq *const *seqs, const int *at, int n_seqs, int *status, kv_error *errs,
                   const kv_trace *trace);

#endif
