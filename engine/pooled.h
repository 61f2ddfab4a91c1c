/* pooled.h - budgets that several heads share (policy.h: kv_pool), the same on every device.
 *
 * A pool is a run of consecutive heads in the order (layer, KV head): one head, those of a layer, or all. */
#ifndef KV_POOLED_H
#define KV_POOLED_H

#include "engine/engine.h"
#include "policies/select.h"

typedef struct kv_pooling {
    int size;  /* heads of a pool; 1: nothing is shared, and all heads of a sequence hold the same number of slots */
    int floor; /* slots of each head's budget that are not shared */
} kv_pooling;

/* setup NULL: nothing is evicted. */
kv_pooling kv_pooling_of(const kv_setup *setup, const kv_shape *shape);

/* What the trigger compares with M+B, for a pool that holds n_held slots: their mean over its heads, rounded down,
 * which reaches a whole number exactly when the mean does. */
static inline int kv_pooled_slots(int64_t n_held, int size) {
    return (int)(n_held / size);
}

/* Most slots that one head ever holds between reductions to the setup's budget, at most `all`. */
int kv_pooled_most(const kv_setup *setup, kv_pooling p, int all);

/* Fills kept and n_kept of the p.size heads of one pool that goes to the setup's budget.  scratch: as many int32 as
 * they hold slots.  KV_ENUM when a score is no number, of head *nan_head. */
int kv_pooled_select(const kv_setup *setup, kv_pooling p, kv_select_head *heads, int32_t *scratch, int *nan_head);

#endif
