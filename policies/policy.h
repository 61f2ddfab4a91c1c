/* policy.h - the whole contract between the engine and an eviction policy.
 *
 * A policy is one .c file that exports one `const kv_policy kv_policy_<name>`.  It gives every live slot one
 * float, LOWEST LEAVES FIRST; the shared selector (select.h) does protection classes, budget, ties (the newer
 * slot stays) and temporal order; the engine alone moves slots.  What a policy remembers per slot are float
 * columns that it declares (n_stats) and the cache owns, so eviction, fork and reset carry them along.
 * What it needs to see is declared as flags, and the engine computes only that.
 *
 * Budget M and buffer B are slots per layer and KV head.  The engine triggers: after a forward, a layer
 * holding S >= M+B slots is reduced to M (policies are never asked for less or more).  Heads may share their budget
 * (kv_pool): then S is what they hold on average, they keep M each on average, and their lengths differ.
 *
 * A policy includes this header and nothing else of the project; one with retention gates also gate.h. */
#ifndef KV_POLICY_H
#define KV_POLICY_H

#include "engine/kv.h"

enum {
    KV_NEED_MASS = 1,    /* score sees `mass`: attention probability received per slot, summed over all queries so far
                            and over the query heads of the group */
    KV_NEED_QUERIES = 2, /* score sees the last window() queries, post-RoPE */
    KV_NEED_KEYS = 4,    /* score sees the cached (rotated) keys */
    KV_NEED_GATES = 8,   /* open() must be given retention gates */
    KV_NEED_OBSERVE = 16 /* observe() is called when rows are appended, and fills the stat columns */
};

enum { KV_MAX_OPTIONS = 12, KV_MAX_STATS = 4, KV_MIN_SCRATCH = 65536 };

/* One parameter of a policy.  choices != NULL: the value is the index of a word in "a|b|c". */
typedef struct kv_option {
    const char *name;
    double def, min, max; /* def may be NAN = "derived from the budget", see help */
    int integer;          /* whole numbers only */
    const char *choices;
    const char *help;
} kv_option;

/* Which heads share a budget of M slots each. */
typedef enum kv_pool {
    KV_POOL_HEAD,  /* none: every head keeps M */
    KV_POOL_LAYER, /* the KV heads of a layer keep n_kv_heads M together (as in Ada-KV, arXiv 2407.11550) */
    KV_POOL_MODEL  /* all keep n_layers n_kv_heads M together (DBTrimKV, arXiv 2605.09649) */
} kv_pool;

/* Retention gates (arXiv 2512.03324, 2605.09649), fp32, matrices [out, in] row-major.  When a token is appended they
 * give lb = logsigmoid(z) of every KV head, z (n_kv_heads) from x (n_in):
 *
 *   rg    x = hidden state after the input layer norm   z = w2 silu(w1 x + b1) + bias
 *   rg2   x = k_0, v_0, k_1, v_1, ... (K rotated, V)    the same
 *   rg3   x of rg2                                      z = w2 (silu(w1 x) * (up x)) + bias
 *   rg10  x of rg                                       z = w2 silu(mid silu(w1 x + b1) + mid_b) + bias */
typedef enum kv_gate_type { KV_GATE_RG, KV_GATE_RG2, KV_GATE_RG3, KV_GATE_RG10, KV_GATE_TYPES } kv_gate_type;

typedef struct kv_gate_layer {
    const float *w1;    /* (n_hidden, n_in) */
    const float *b1;    /* (n_hidden); NULL: rg3 */
    const float *w2;    /* (n_kv_heads, n_hidden) */
    const float *bias;  /* (n_kv_heads) */
    const float *up;    /* (n_hidden, n_in) of rg3, else NULL */
    const float *mid;   /* (n_hidden, n_hidden) of rg10, else NULL */
    const float *mid_b; /* (n_hidden) of rg10, else NULL */
} kv_gate_layer;

typedef struct kv_gates {
    kv_gate_type type;
    int n_layers, n_in, n_hidden, n_kv_heads; /* n_in: dim, or 2 n_kv_heads head_dim (rg2, rg3) */
    const kv_gate_layer *layers;              /* (n_layers) */
    uint64_t id;                              /* of the values: a device tells by it whether it has them already */
} kv_gates;

typedef struct kv_policy_args {
    const double *values; /* one per kv_option, in order, defaults filled in */
    int budget;           /* M */
    int buffer;           /* B */
    uint64_t seed;
    const kv_gates *gates; /* NULL when none were loaded; outlives the policy's state */
} kv_policy_args;

/* Services a policy may call, each with one fixed order of summation whatever n_rows is. */
typedef struct kv_services {
    void *ctx;
    /* out (n_rows, n_out) = x (n_rows, n_in) * w^T + b, w (n_out, n_in) row-major, b (n_out) or NULL; fp32 */
    void (*linear)(void *ctx, float *out, const float *x, const float *w, const float *b, int n_rows, int n_in,
                   int n_out);
    float *scratch;   /* n_scratch floats, contents undefined */
    size_t n_scratch; /* >= KV_MIN_SCRATCH */
} kv_services;

/* New rows of one layer, about to be appended; rows may belong to different sequences. */
typedef struct kv_observe_args {
    int layer;
    int n_rows;
    const float *hidden; /* (n_rows, dim): input of the attention block, after the layer norm */
    const float *k;      /* (n_rows, n_kv_heads, head_dim), rotated */
    const float *v;      /* (n_rows, n_kv_heads, head_dim) */
    const int32_t *pos;  /* (n_rows) */
    float *stats;        /* out (n_rows, n_kv_heads, n_stats) */
} kv_observe_args;

/* The live slots of one (sequence, layer, KV head) at a trigger, in temporal order. */
typedef struct kv_score_args {
    int layer, kv_head;
    int n_slots;               /* S */
    int n_seen;                /* T: tokens the sequence has seen, the newest included */
    const int32_t *pos;        /* (n_slots) original positions, ascending */
    const float *const *stats; /* n_stats pointers to (n_slots) */
    const float *mass;         /* (n_slots) with KV_NEED_MASS, else NULL */
    const float *keys;         /* (n_slots, head_dim) with KV_NEED_KEYS, else NULL */
    const float *queries;      /* (n_queries, group, head_dim), oldest first, with KV_NEED_QUERIES, else NULL */
    int n_queries;             /* min(window(), T) */
    int group, head_dim;
    float *scratch; /* (n_queries + 4) * n_slots floats */
} kv_score_args;

struct kv_cuda_heads; /* policy_cuda.h */

#ifdef KV_HAVE_CUDA
#define KV_CUDA_FN(f) f
#else
#define KV_CUDA_FN(f) NULL
#endif

typedef struct kv_policy {
    const char *name;         /* "h2o" */
    const char *title;        /* "H2O" for plots and tables */
    const char *paper;        /* "arXiv:2306.14048" */
    const char *help;         /* one line */
    unsigned needs;           /* KV_NEED_* */
    int n_stats;              /* float columns per slot */
    int never_evicts;         /* 1: full cache; M and B are ignored */
    const kv_option *options; /* ends with {.name = NULL}; NULL = none */
    /* Checks parameters and builds per-run state (NULL is a valid state).  Shape and gates outlive it. */
    int (*open)(void **state, const kv_shape *shape, const kv_policy_args *args, kv_error *err);
    void (*close)(void *state); /* NULL when open allocates nothing */
    /* Protection: slots with pos < *n_sink and the newest *n_recent slots outrank every score.  NULL = none. */
    void (*protect)(const void *state, int *n_sink, int *n_recent);
    /* The heads that share their budget, and *floor: slots of each head's M that are not shared (0 on entry).  NULL =
     * KV_POOL_HEAD.  Shared slots go to the best scores of all; a head may end with none. */
    kv_pool (*pool)(const void *state, int *floor);
    int (*window)(const void *state); /* queries wanted, with KV_NEED_QUERIES */
    void (*observe)(const void *state, const kv_services *sv, const kv_observe_args *a);
    void (*score)(const void *state, const kv_score_args *a, float *score /* (n_slots) */); /* the definition */
    /* The same scores for every head of h, enqueued on h->stream; returns a cudaError_t.  NULL: the engine brings the
     * declared inputs to the host and runs `score` there (score_path = host). */
    int (*score_cuda)(const void *state, const struct kv_cuda_heads *h);
    /* Stat column that holds nothing but the log retention of the loaded gates while every other stat is 0, or -1.  A
     * device then computes it itself instead of calling observe.  NULL = -1. */
    int (*gate_stat)(const void *state);
} kv_policy;

#endif
