/* mini_cache.h - one layer of a cache, naive, to drive a policy through its table without the engine.
 *
 * Appends rows (calling observe), attends in double precision (filling the mass column), scores with score,
 * selects with kv_select, compacts, and keeps the history of every head as kv_ref_event.  Failed allocations and
 * failed calls are cmocka failures. */
#ifndef KV_TESTS_MINI_CACHE_H
#define KV_TESTS_MINI_CACHE_H

#include "policies/registry.h"
#include "tests/support/ref_scores.h"

typedef struct kv_mini_head {
    int n_slots;
    int32_t *pos;               /* (cap) */
    float *mass;                /* (cap) */
    float *stats[KV_MAX_STATS]; /* (cap) each */
    double *last_p;             /* (cap) probabilities of the newest query, summed over the group */
    kv_ref_event *events;       /* (2 cap) */
    int32_t *event_pos;         /* storage of the events */
    int n_events, n_event_pos;
} kv_mini_head;

typedef struct kv_mini {
    kv_policy_spec spec;
    void *state;
    kv_shape shape;
    int layer, budget, buffer, cap;
    int n_seen;
    uint64_t seed;
    const kv_gates *gates;
    float *hidden, *q, *k; /* (cap, ...) every row ever appended */
    float *score;          /* (cap) of the head scored last */
    kv_mini_head *heads;   /* (n_kv_heads) */
} kv_mini;

typedef struct kv_mini_options {
    const char *policy; /* "h2o:recent=2" */
    kv_shape shape;
    int layer, budget, buffer, cap;
    uint64_t seed;
    const kv_gates *gates;
} kv_mini_options;

void kv_mini_open(kv_mini *m, const kv_mini_options *o);
void kv_mini_close(kv_mini *m);

/* hidden (n, dim) may be NULL; q (n, n_heads, d); k (n, n_kv_heads, d).  Appends and attends. */
void kv_mini_append(kv_mini *m, int n, const float *hidden, const float *q, const float *k);

/* Scores one head into m->score. */
void kv_mini_score(kv_mini *m, int head);

/* Reduces every head to M when the layer holds at least M + B slots; returns whether it did. */
int kv_mini_reduce(kv_mini *m);

/* The trace of one head, borrowed from m, for kv_ref_score. */
kv_ref_trace kv_mini_trace(const kv_mini *m, int head);

/* x (n_rows, n_in) w^T + b in double precision: kv_services.linear. */
void kv_mini_linear(void *ctx, float *out, const float *x, const float *w, const float *b, int n_rows, int n_in,
                    int n_out);

#endif
