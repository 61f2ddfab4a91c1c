/* internal.h - what the files of the engine share.  Nobody outside engine/ includes it. */
#ifndef KV_INTERNAL_H
#define KV_INTERNAL_H

#include "engine/engine.h"
#include "engine/model.h"

enum {
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

/* cols[c] = column of `from` that column c of `to` comes from; KV_EARG when `from` was not made for it. */
int kv_columns_map(const kv_columns *from, const kv_columns *to, int *cols, kv_error *err);

enum { KV_MAX_COLUMNS = 1 + KV_MAX_COLUMN_SETS * KV_MAX_STATS };

struct kv_engine {
    kv_backend *backend;
    kv_model model;
    kv_tokenizer *tokenizer; /* NULL for synth: models */
    const kv_chat *chat;
    kv_generation generation;
    struct kv_workspace *ws; /* CPU: buffers of a forward */
    int64_t bytes_read;      /* CPU: weights and live K, V read by forwards so far */
};

/* KV_EARG or KV_ELIMIT for an empty or too long prompt and for ids outside the vocabulary. */
int kv_check_tokens(const kv_engine *e, const int32_t *tokens, int n, kv_error *err);

/* Seconds of a clock that only goes forward. */
double kv_clock(void);

#endif
