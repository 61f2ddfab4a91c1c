/* internal.h - what the files of the engine share: engine, sequence, workspace.  Nobody outside engine/ includes it. */
#ifndef KV_INTERNAL_H
#define KV_INTERNAL_H

#include "engine/cache.h"
#include "engine/engine.h"
#include "engine/model.h"

enum {
    KV_MAX_ROWS = 512,       /* rows of one forward */
    KV_PREFILL_ROWS = 256,   /* full prefill: rows per piece, cut at multiples of this position */
    KV_MAX_BATCH = 64,
    KV_MAX_COLUMN_SETS = 32, /* policies that can share one prefill */
    KV_MAX_TOP = 16
};

/* The per-slot columns one or several policies declared.  Column 0 is the mass when any needs it; then each set's
 * stats, back to back. */
typedef struct kv_columns {
    int has_mass, n_cols, window; /* window: longest query window wanted, 0 = none */
    int n_sets;
    const kv_setup *sets[KV_MAX_COLUMN_SETS]; /* with n_stats > 0, one per spec */
    int first[KV_MAX_COLUMN_SETS];            /* first column of each set */
} kv_columns;

int kv_columns_init(kv_columns *c, const kv_setup *setups, int n, kv_error *err);

/* One timeline: what the model has seen and what the cache still holds of it. */
typedef struct kv_seq {
    kv_cache cache;
    const kv_columns *columns;
    const kv_setup *setup; /* NULL: nothing is evicted (shared prefill, teacher forcing) */
    int n_seen;            /* T */
    float *ring;           /* (n_layers, window, n_heads, head_dim): query of position t at t % window; or NULL */
    double peak_slots, decode_slots; /* maximum over forwards; sum over decode forwards */
    int n_decode;                    /* decode forwards */
    int64_t n_evictions, n_moved;
    int n_triggers;
    void *request_user; /* for the trace */
} kv_seq;

int kv_seq_init(kv_seq *s, kv_engine *e, kv_page_pool *pool, const kv_columns *columns, const kv_setup *setup,
                kv_error *err);
void kv_seq_free(kv_seq *s);

/* Buffers of a forward, allocated once per engine. */
typedef struct kv_workspace {
    float *x;        /* (KV_MAX_ROWS, dim) */
    float *qkv;      /* (KV_MAX_ROWS, (n_heads + 2 n_kv_heads) * head_dim) */
    float *att;      /* (KV_MAX_ROWS, n_heads * head_dim) */
    float *gate_up;  /* (KV_MAX_ROWS, 2 n_ff) */
    float *hidden;   /* (KV_MAX_ROWS, dim): gate input */
    float *k, *v;    /* (KV_MAX_ROWS, n_kv_heads * head_dim): contiguous copies for policies */
    float *stats;    /* (KV_MAX_ROWS, n_kv_heads, columns after the mass), room for the most columns */
    float *stats_one; /* (KV_MAX_ROWS, n_kv_heads, KV_MAX_STATS) */
    float *last;     /* (KV_MAX_BATCH, dim): rows that need logits */
    float *services; /* scratch handed to policies */
    int32_t *pos;    /* (KV_MAX_ROWS) */
} kv_workspace;

enum { KV_SERVICE_SCRATCH = 1 << 20 }; /* floats */

struct kv_engine {
    kv_backend *backend;
    kv_model model;
    kv_tokenizer *tokenizer;
    const kv_chat *chat;
    kv_workspace ws;
    int64_t bytes_read; /* weights and live K, V read by forwards so far */
};

/* A pool of pages for these columns in the engine's cache type; the caller frees. */
int kv_cache_pool_create(const kv_engine *e, const kv_columns *c, kv_page_pool **out, kv_error *err);

/* KV_EARG or KV_ELIMIT for an empty or too long prompt and for ids outside the vocabulary. */
int kv_check_tokens(const kv_engine *e, const int32_t *tokens, int n, kv_error *err);

/* Tokens of one sequence to run through the model in this forward. */
typedef struct kv_segment {
    kv_seq *seq;
    const int32_t *tokens;
    int n;
    float *logits; /* (n_vocab) of the last token, or NULL */
    int status;    /* out: KV_OK, or why this segment was left out */
    kv_error *err;
} kv_segment;

/* One pass over at most KV_MAX_ROWS rows of any number of sequences: append, attend, and logits of the last rows.
 * All sequences share one kv_columns.  A segment whose cache cannot grow is left out with its status and err set; the
 * others run. */
int kv_forward(kv_engine *e, kv_segment *segs, int n_segs, const kv_trace *trace, kv_error *err);

/* Reduces every layer of seqs[i] that holds at least at[i] slots to the setup's budget; at[i] = 0 leaves it alone.
 * status[i] (KV_ENUM when a score is NaN) and errs[i] are per sequence. */
void kv_reduce(kv_engine *e, kv_seq *const *seqs, const int *at, int n_seqs, int *status, kv_error *errs,
               const kv_trace *trace);

/* Most slots one sequence's layers hold. */
int kv_seq_slots(const kv_seq *s);

/* Copies the slots, columns and queries of `from` (nothing evicted) into the empty `to`. */
int kv_seq_fork(kv_engine *e, const kv_seq *from, kv_seq *to, kv_error *err);

struct kv_prefix {
    kv_columns columns;
    kv_setup *setups; /* copies: columns point into them */
    kv_page_pool *pool;
    kv_seq seq;
    float *logits; /* (n_vocab) after the last token */
    double seconds;
};

#endif
