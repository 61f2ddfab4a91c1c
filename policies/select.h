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

#endif
