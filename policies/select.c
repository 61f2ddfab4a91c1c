/* select.c - the one selector behind every policy: protection classes, budget, ties, temporal order.
 *
 * Positions ascend, so the sinks are a prefix of the slots and the recent window is a suffix; only what lies between
 * competes by score.  The k-th best score there is found by radix selection: a float is mapped to an integer of the
 * same order, and four histograms of 256 bins fix the threshold byte by byte.  That is linear for every input (ties and
 * sorted runs are the common case here: pooled scores, positions), needs no recursion and no memory beyond the keys,
 * and has no pivot whose choice could change a result.
 *
 * Of equal scores the newest stay, as many as there is room for.
 *
 * A pool of heads is ranked as a whole first, which tells how many slots each head keeps; which ones, each head then
 * decides alone by the same order. */
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

/* The slots of a head by class: sinks [0, *sink_end), competing [*sink_end, *recent_start), newest [*recent_start, n).
 */
static void split_classes(const int32_t *pos, int n, int n_sink, int n_recent, int *sink_end, int *recent_start) {
    *sink_end = 0;
    while (*sink_end < n && pos[*sink_end] < n_sink) ++*sink_end;
    *recent_start = n_recent < n - *sink_end ? n - (n_recent > 0 ? n_recent : 0) : *sink_end;
}

int kv_select(const float *score, const int32_t *pos, int n_slots, int keep, int n_sink, int n_recent, int32_t *kept,
              int32_t *scratch) {
    if (keep >= n_slots) return put_range(kept, 0, 0, n_slots);
    if (keep <= 0) return 0;
    int sink_end, recent_start;
    split_classes(pos, n_slots, n_sink, n_recent, &sink_end, &recent_start);

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

/* ---- pools ------------------------------------------------------------------------------------------------------- */

/* The slots of one class of every head. */
typedef struct contest {
    kv_select_head *heads;
    int n, class, n_sink, n_recent;
} contest;

/* Those of one head; score: NULL where all are equal. */
typedef struct slot_range {
    const float *score;
    const int32_t *pos;
    int n;
} slot_range;

static slot_range range_of(const contest *c, int head) {
    const kv_select_head *h = &c->heads[head];
    int sink_end, recent_start;
    split_classes(h->pos, h->n_slots, c->n_sink, c->n_recent, &sink_end, &recent_start);
    if (c->class == 2) return (slot_range){NULL, h->pos, sink_end};
    if (c->class == 1) return (slot_range){NULL, h->pos + recent_start, h->n_slots - recent_start};
    return (slot_range){h->score + sink_end, h->pos + sink_end, recent_start - sink_end};
}

static uint32_t key_of(const slot_range *r, int i) {
    return r->score ? order_key(r->score[i]) : 0;
}

/* Where the winners end: worse keys leave, of equal keys the older positions, and of those the first n_skip. */
typedef struct border {
    uint32_t key;
    int32_t pos;
    int n_skip;
} border;

/* The border behind the best `room` slots, fewer than there are. */
static border find_border(const contest *c, int room, int32_t *scratch) {
    int total = 0, n_ties = 0, n_equal, n_same = 0;
    border b = {0};
    for (int h = 0; h < c->n; h++) {
        slot_range r = range_of(c, h);
        for (int i = 0; i < r.n; i++) scratch[total++] = (int32_t)key_of(&r, i);
    }
    b.key = kth_largest(scratch, total, room, &n_equal);
    for (int h = 0; h < c->n; h++) {
        slot_range r = range_of(c, h);
        for (int i = 0; i < r.n; i++)
            if (key_of(&r, i) == b.key) scratch[n_ties++] = r.pos[i];
    }
    b.pos = (int32_t)kth_largest(scratch, n_ties, n_equal, &n_equal);
    for (int i = 0; i < n_ties; i++) n_same += scratch[i] == b.pos;
    b.n_skip = n_same - n_equal;
    return b;
}

static int count_winners(const slot_range *r, border *b) {
    int n = 0;
    for (int i = 0; i < r->n; i++) {
        uint32_t key = key_of(r, i);
        if (key == b->key && r->pos[i] == b->pos)
            n += b->n_skip-- <= 0;
        else
            n += key > b->key || (key == b->key && r->pos[i] > b->pos);
    }
    return n;
}

/* Head with a NaN among the contest's scores, or -1. */
static int find_nan(const contest *c) {
    for (int h = 0; h < c->n; h++) {
        slot_range r = range_of(c, h);
        for (int i = 0; i < r.n; i++)
            if (r.score && isnan(r.score[i])) return h;
    }
    return -1;
}

/* Adds to every head's n_kept what it wins of `room` slots; returns how many were won, or KV_ENUM. */
static int share(const contest *c, int room, int32_t *scratch, int *nan_head) {
    int total = 0;
    border b = {0};
    for (int h = 0; h < c->n; h++) total += range_of(c, h).n;
    if (room < total) {
        if (room <= 0) return 0;
        if ((*nan_head = find_nan(c)) >= 0) return KV_ENUM;
        b = find_border(c, room, scratch);
    }
    for (int h = 0; h < c->n; h++) {
        slot_range r = range_of(c, h);
        c->heads[h].n_kept += room < total ? count_winners(&r, &b) : r.n;
    }
    return room < total ? room : total;
}

int kv_select_pooled(kv_select_head *heads, int n, int keep, int floor, int n_sink, int n_recent, int32_t *scratch,
                     int *nan_head) {
    static const int order[] = {2, 1, 0};
    int room = floor < keep ? n * (keep - floor) : 0;
    if (floor > keep) floor = keep;
    for (int h = 0; h < n; h++) heads[h].n_kept = 0;
    for (int i = 0; i < 3; i++) {
        contest c = {heads, n, order[i], n_sink, n_recent};
        int won = share(&c, room, scratch, nan_head);
        if (won < 0) return won;
        room -= won;
    }
    for (int h = 0; h < n; h++) {
        kv_select_head *p = &heads[h];
        p->n_kept = kv_select(p->score, p->pos, p->n_slots, p->n_kept + floor, n_sink, n_recent, p->kept, scratch);
        if (p->n_kept < 0) {
            *nan_head = h;
            return KV_ENUM;
        }
    }
    return KV_OK;
}
