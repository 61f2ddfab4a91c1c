/* select.c - the one selector behind every policy: protection classes, budget, ties, temporal order.
 *
 * Positions ascend, so the sinks are a prefix of the slots and the recent window is a suffix; only what lies between
 * competes by score.  The k-th best score there is found by radix selection: a float is mapped to an integer of the
 * same order, and four histograms of 256 bins fix the threshold byte by byte.  That is linear for every input (ties and
 * sorted runs are the common case here: pooled scores, positions), needs no recursion and no memory beyond the keys,
 * and has no pivot whose choice could change a result.
 *
 * Of equal scores the newest stay, as many as there is room for. */
#include "policies/select.h"

#include <math.h>
#include <string.h>

/* Order-preserving map; both zeros get one key, since they compare equal as scores. */
static uint32_t order_key(float x) {
    uint32_t u;
    x += 0.0f;
    memcpy(&u, &x, sizeof u);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* The k-th largest of n keys, 1 <= k <= n; *n_equal receives how many of the keys equal to it belong to the best k. */
static uint32_t kth_largest(const int32_t *keys, int n, int k, int *n_equal) {
    uint32_t prefix = 0, mask = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int count[256] = {0};
        for (int i = 0; i < n; i++) {
            uint32_t u = (uint32_t)keys[i];
            if ((u & mask) == prefix) count[u >> shift & 255]++;
        }
        int bin = 255;
        while (count[bin] < k) k -= count[bin--];
        prefix |= (uint32_t)bin << shift;
        mask |= 255u << shift;
    }
    *n_equal = k;
    return prefix;
}

static int put_range(int32_t *kept, int n, int from, int to) {
    for (int i = from; i < to; i++) kept[n++] = i;
    return n;
}

/* Appends the best `room` of slots [from, to) to kept. */
static int put_best(const float *score, int from, int to, int room, int32_t *kept, int n, int32_t *scratch) {
    int total = to - from;
    for (int i = 0; i < total; i++) {
        if (isnan(score[from + i])) return KV_ENUM;
        scratch[i] = (int32_t)order_key(score[from + i]);
    }
    int n_equal, n_ties = 0;
    uint32_t threshold = kth_largest(scratch, total, room, &n_equal);
    for (int i = 0; i < total; i++) n_ties += (uint32_t)scratch[i] == threshold;
    int n_skip = n_ties - n_equal; /* the oldest of the ties leave */
    for (int i = 0; i < total; i++) {
        uint32_t u = (uint32_t)scratch[i];
        if (u > threshold || (u == threshold && n_skip-- <= 0)) kept[n++] = from + i;
    }
    return n;
}

int kv_select(const float *score, const int32_t *pos, int n_slots, int keep, int n_sink, int n_recent, int32_t *kept,
              int32_t *scratch) {
    if (keep >= n_slots) return put_range(kept, 0, 0, n_slots);
    if (keep <= 0) return 0;
    int sink_end = 0;
    while (sink_end < n_slots && pos[sink_end] < n_sink) sink_end++;
    int recent_start = n_recent < n_slots - sink_end ? n_slots - (n_recent > 0 ? n_recent : 0) : sink_end;

    int take_sink = sink_end < keep ? sink_end : keep;
    int room = keep - take_sink;
    int n_class1 = n_slots - recent_start;
    int take_recent = n_class1 < room ? n_class1 : room;
    room -= take_recent;

    int n = put_range(kept, 0, sink_end - take_sink, sink_end);
    if (room > 0) {
        n = put_best(score, sink_end, recent_start, room, kept, n, scratch);
        if (n < 0) return n;
    }
    return put_range(kept, n, n_slots - take_recent, n_slots);
}
