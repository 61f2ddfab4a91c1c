/* columns.c - which per-slot columns a cache needs, and how one cache's columns serve another. */
#include "engine/internal.h"

#include <string.h>

static int same_spec(const kv_setup *a, const kv_setup *b) {
    if (a->policy != b->policy) return 0;
    return a->state == b->state || (a->spec && b->spec && strcmp(a->spec, b->spec) == 0);
}

int kv_columns_init(kv_columns *c, const kv_setup *setups, int n, kv_error *err) {
    memset(c, 0, sizeof *c);
    for (int i = 0; i < n; i++) c->has_mass |= (setups[i].policy->needs & KV_NEED_MASS) != 0;
    c->n_cols = c->has_mass;
    for (int i = 0; i < n; i++) {
        const kv_policy *p = setups[i].policy;
        if (p->needs & KV_NEED_QUERIES) {
            int w = p->window(setups[i].state);
            if (w > c->window) c->window = w;
        }
        if (!p->n_stats) continue;
        int known = 0;
        for (int k = 0; k < c->n_sets; k++) known |= same_spec(c->sets[k], &setups[i]);
        if (known) continue;
        if (c->n_sets == KV_MAX_COLUMN_SETS)
            return kv_fail(err, KV_ELIMIT,
                           "more than %d different policies with columns share one prefill: split the run",
                           KV_MAX_COLUMN_SETS);
        c->sets[c->n_sets] = &setups[i];
        c->first[c->n_sets++] = c->n_cols;
        c->n_cols += p->n_stats;
    }
    return KV_OK;
}

/* Where column c of `to` comes from in `from`, -1 when `from` has no such column (never for a setup of the prefix). */
static int source_column(const kv_columns *from, const kv_columns *to, int set, int k) {
    for (int i = 0; i < from->n_sets; i++)
        if (same_spec(from->sets[i], to->sets[set])) return from->first[i] + k;
    return -1;
}

int kv_columns_map(const kv_columns *from, const kv_columns *to, int *cols, kv_error *err) {
    if (to->has_mass) cols[0] = from->has_mass ? 0 : -1;
    for (int i = 0; i < to->n_sets; i++)
        for (int k = 0; k < to->sets[i]->policy->n_stats; k++) cols[to->first[i] + k] = source_column(from, to, i, k);
    for (int c = 0; c < to->n_cols; c++)
        if (cols[c] < 0)
            return kv_fail(err, KV_EARG, "the shared prefill was not made for policy %s",
                           to->n_sets ? to->sets[0]->policy->name : "with attention mass");
    if (to->window > from->window)
        return kv_fail(err, KV_EARG, "the shared prefill kept %d queries, this policy needs %d", from->window,
                       to->window);
    return KV_OK;
}
