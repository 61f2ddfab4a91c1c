/* columns.c - which per-slot columns a cache needs, and sequences over them. */
#include "engine/internal.h"

#include <stdlib.h>
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

int kv_seq_init(kv_seq *s, kv_engine *e, kv_page_pool *pool, const kv_columns *columns, const kv_setup *setup,
                kv_error *err) {
    const kv_shape *sh = &e->model.info.shape;
    memset(s, 0, sizeof *s);
    s->columns = columns;
    s->setup = setup;
    int rc = kv_cache_init(&s->cache, pool, sh->n_layers, sh->n_kv_heads, err);
    if (rc) return rc;
    if (columns->window) {
        size_t n = (size_t)sh->n_layers * columns->window * sh->n_heads * sh->head_dim;
        s->ring = malloc(n * sizeof *s->ring);
        if (!s->ring) {
            kv_seq_free(s);
            return kv_fail(err, KV_ENOMEM, "out of memory for the query window of a sequence");
        }
    }
    return KV_OK;
}

void kv_seq_free(kv_seq *s) {
    kv_cache_free(&s->cache);
    free(s->ring);
    memset(s, 0, sizeof *s);
}

/* Where column c of `to` comes from in `from`, -1 when `from` has no such column (never for a setup of the prefix). */
static int source_column(const kv_columns *from, const kv_columns *to, int set, int k) {
    for (int i = 0; i < from->n_sets; i++)
        if (same_spec(from->sets[i], to->sets[set])) return from->first[i] + k;
    return -1;
}

static int map_columns(const kv_columns *from, const kv_columns *to, int *cols, kv_error *err) {
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

int kv_seq_fork(kv_engine *e, const kv_seq *from, kv_seq *to, kv_error *err) {
    const kv_shape *sh = &e->model.info.shape;
    int cols[1 + KV_MAX_COLUMN_SETS * KV_MAX_STATS];
    int rc = map_columns(from->columns, to->columns, cols, err);
    if (rc || (rc = kv_cache_extend(&to->cache, from->n_seen, err))) return rc;
    const kv_page_layout *dl = kv_page_pool_layout(to->cache.pool), *sl = kv_page_pool_layout(from->cache.pool);
    for (int l = 0; l < sh->n_layers; l++)
        for (int h = 0; h < sh->n_kv_heads; h++)
            e->backend->ops->copy_slots(e->backend, dl, kv_cache_head(&to->cache, l, h), sl,
                                        kv_cache_head(&from->cache, l, h), cols, from->n_seen);
    int w = to->columns->window;
    size_t row = (size_t)sh->n_heads * sh->head_dim;
    for (int l = 0; w && l < sh->n_layers; l++) {
        for (int t = from->n_seen > w ? from->n_seen - w : 0; t < from->n_seen; t++) {
            int fw = from->columns->window;
            memcpy(to->ring + ((size_t)l * w + t % w) * row, from->ring + ((size_t)l * fw + t % fw) * row,
                   row * sizeof(float));
        }
    }
    to->n_seen = from->n_seen;
    double held = kv_cache_mean_slots(&to->cache);
    if (held > to->peak_slots) to->peak_slots = held;
    return KV_OK;
}
