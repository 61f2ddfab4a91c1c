/* ref_scores.h - every policy a second time: naive, in double precision, from the written specification only.
 *
 * The conformance test replays what the engine did (kv_trace) through these functions and compares the slots that were
 * kept.  No code, type or constant of policies/ is shared except the parsed parameter values.
 *
 * How to fill kv_ref_trace for one (sequence, layer, KV head), say at an on_evict callback:
 *   - rows: copy every on_append of that sequence and layer to row `position` of hidden, q and k, so that they hold all
 *     n_seen tokens;
 *   - events: the history of this one head, in order: one KV_REF_APPEND per on_append (the positions of that forward:
 *     its queries see what was live, and each other causally), one KV_REF_EVICT per earlier on_evict of this head, with
 *     the positions that were kept.  The eviction under test itself is not in the list.
 * The live slots that come out must equal the callback's `before`, and their best `budget` its `kept`, near-ties
 * excepted. */
#ifndef KV_TESTS_REF_SCORES_H
#define KV_TESTS_REF_SCORES_H

#include "policies/registry.h"

typedef enum kv_ref_kind { KV_REF_APPEND, KV_REF_EVICT } kv_ref_kind;

typedef struct kv_ref_event {
    kv_ref_kind kind;
    int n;
    const int32_t *pos; /* (n) ascending: positions appended, or positions kept */
} kv_ref_event;

typedef struct kv_ref_trace {
    kv_shape shape;
    int layer, kv_head;
    int n_seen;            /* T: tokens appended by all events together, positions 0 .. T-1 */
    const float *hidden;   /* (T, dim), input of the attention block after the layer norm; for gates rg, rg10 */
    const float *q;        /* (T, n_heads, head_dim) rotated; h2o and snapkv read it */
    const float *k;        /* (T, n_kv_heads, head_dim) rotated; h2o, snapkv, trimkv:knorm=1, gates rg2, rg3 read it */
    const float *v;        /* (T, n_kv_heads, head_dim); trimkv with gates rg2 or rg3 reads it */
    const kv_gates *gates; /* trimkv, dbtrimkv */
    uint64_t seed;         /* what kv_policy_args.seed was */
    const kv_ref_event *events;
    int n_events;
} kv_ref_trace;

/* Scores at the end of the events.  live, score (at least T entries each) receive position and score of every live
 * slot in temporal order; slots whose score plays no part (snapkv's window) get 0.  Returns the number of live slots,
 * KV_ENOTFOUND when there is no twin for this policy (write one), KV_ENOMEM, or KV_EARG when the events contradict each
 * other. */
int kv_ref_score(const kv_policy_spec *spec, const kv_ref_trace *t, int32_t *live, double *score, kv_error *err);

/* Protection that the specification gives the policy at this budget: positions < *n_sink, newest *n_recent slots. */
int kv_ref_protect(const kv_policy_spec *spec, int budget, int *n_sink, int *n_recent, kv_error *err);

/* The selection rule by sorting whole records (class, score, index).  kept: min(keep, n) slot indices, ascending.
 * Returns the number kept or KV_ENOMEM.  *margin (may be NULL): score of the worst competitor that stayed minus the
 * best that left, both in the same class 0; INFINITY when the border is not between two scores.  A small margin is a
 * near-tie that fp32 may decide otherwise. */
int kv_ref_select(const double *score, const int32_t *pos, int n, int keep, int n_sink, int n_recent, int32_t *kept,
                  double *margin);

#endif
