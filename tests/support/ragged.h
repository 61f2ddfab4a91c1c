/* ragged.h - a policy that leaves heads of very unlike lengths, and a witness that follows a run by its trace.
 *
 * The witness selects by sorting whole records, from the written rule (policies/select.h) and not from its code: the
 * best of a pool by score, then newer position, then later head.  Policies under it score by position alone, so that
 * every device and precision must keep the same slots. */
#ifndef KV_TEST_RAGGED_H
#define KV_TEST_RAGGED_H

#include "tests/support/harness.h"

enum { TR_HEADS = 8, TR_MAX_SLOTS = 2048 };

/* Score -(T - position) times 1, 1, 3, 9, 1, ... by head: whole numbers, with many ties between heads.  Lengths go as 1
 * to 1/9. */
typedef struct tr_state {
    kv_pool pool;
    int floor;
    int nan_head; /* scores of this head (layer * n_kv_heads + head) are NaN; -1: of none */
    int n_kv_heads;
} tr_state;
extern const kv_policy tr_policy;

/* A policy of the registry with its budget pooled over the whole model. */
kv_policy tr_pooled(const kv_policy *p);

typedef struct tr_witness {
    const kv_setup *setup;
    kv_shape shape;
    int size, floor;       /* heads of a pool */
    const void *result;    /* request_user to look at */
    int n[TR_HEADS];       /* slots of each head: what the trace told */
    int shortest, longest; /* any head ever kept */
    uint64_t hash;         /* of everything on_evict was told */
    int64_t n_dropped, n_moved;
    int n_pools;           /* reductions seen, pool by pool */
    double peak, held_sum; /* with on_append: most slots per head; their sum over decode steps */
    int64_t peak_pages, n_steps;
    struct tr_head *heads; /* (TR_HEADS) of the reduction under way */
} tr_witness;

void tr_witness_open(tr_witness *w, const kv_setup *setup, const kv_engine *e, const void *result);
void tr_witness_close(tr_witness *w);
/* on_append only on the CPU. */
kv_trace tr_witness_trace(tr_witness *w, int sees_appends);

#endif
