/* select.h - the one selector behind every policy. */
#ifndef KV_SELECT_H
#define KV_SELECT_H

#include "engine/kv.h"

/* Picks which of n_slots slots stay.
 *
 * score (n_slots): lowest leaves first.  pos (n_slots): original positions, ascending.  keep: slots to keep.
 * Protection is a priority class, not arithmetic: class 2 = pos < n_sink, class 1 = the newest n_recent slots,
 * class 0 = the rest.  Higher classes stay first; inside classes 1 and 2 the newer stays, inside class 0 the higher
 * score, and on equal scores the newer.
 * kept (min(keep, n_slots)): receives the kept slot indices in ascending (temporal) order.
 * scratch: n_slots int32.  Returns the number kept, or KV_ENUM when a score that matters is NaN. */
int kv_select(const float *score, const int32_t *pos, int n_slots, int keep, int n_sink, int n_recent, int32_t *kept,
              int32_t *scratch);

/* One head of a pool, as kv_select sees it. */
typedef struct kv_select_head {
    const float *score; /* (n_slots) */
    const int32_t *pos; /* (n_slots) */
    int n_slots;
    int32_t *kept; /* (n_slots) receives the kept slot indices, ascending */
    int n_kept;    /* out */
} kv_select_head;

/* The same for n heads that share a budget of `keep` slots each (policy.h: kv_pool).
 *
 * The best n * (keep - floor) slots of all win, by class, then score; of equal scores the newer position, and of the
 * same position the later head.  Every head then keeps its own best, as many as it won and `floor` more; one that holds
 * fewer keeps all.  That is arXiv 2605.09649 with min_tokens_per_head = floor.
 * scratch: as many int32 as all heads hold slots.  Returns KV_OK, or KV_ENUM when a score that matters is NaN, and then
 * *nan_head is the head. */
int kv_select_pooled(kv_select_head *heads, int n, int keep, int floor, int n_sink, int n_recent, int32_t *scratch,
                     int *nan_head);

#endif
