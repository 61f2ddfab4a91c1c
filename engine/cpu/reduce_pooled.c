/* reduce_pooled.c - eviction where heads share a budget: all scores of a sequence first, then one selection per pool.
 *
 * One sequence after the other, since its scores and positions are all held at once; inside, heads are spread over the
 * threads. */
#include "engine/cpu/reduce.h"

#include <stdlib.h>

typedef struct pooled {
    kv_engine *e;
    kv_seq *q;
    kv_cache *cache;
    kv_select_head *heads; /* (n_layers, n_kv_heads) */
    int *due;              /* (heads) 1: its pool is reduced */
    int n_heads, most;     /* most: slots of any head */
    char *mem;             /* scratch of each thread, `each` bytes apart */
    size_t each;
    float *score; /* storage behind heads, of all slots that take part */
    int32_t *pos, *kept, *select;
} pooled;

/* Marks the heads of pools that go to the budget; returns the slots they hold. */
static size_t find_due(pooled *r, int size, int at) {
    size_t total = 0;
    for (int first = 0; first < r->n_heads; first += size) {
        int64_t held = 0;
        for (int i = first; i < first + size; i++) held += r->cache->heads[i].n_slots;
        int slots = kv_pooled_slots(held, size), due = slots >= at && slots > r->q->setup->budget;
        for (int i = first; i < first + size; i++) {
            r->due[i] = due;
            if (due && r->cache->heads[i].n_slots > r->most) r->most = r->cache->heads[i].n_slots;
        }
        if (due) total += (size_t)held;
    }
    return total;
}

static int take_memory(pooled *r, size_t total) {
    int n_threads = r->e->backend->n_threads;
    r->each = kv_cpu_scratch_bytes(&r->e->model.info.shape, r->q->columns, r->most);
    r->mem = malloc(r->each * (size_t)n_threads);
    r->score = malloc(total * (sizeof *r->score + 3 * sizeof(int32_t)));
    if (!r->mem || !r->score) return KV_ENOMEM;
    r->pos = (int32_t *)(r->score + total);
    r->kept = r->pos + total;
    r->select = r->kept + total;
    size_t at = 0;
    for (int i = 0; i < r->n_heads; i++) {
        int n = r->cache->heads[i].n_slots;
        r->heads[i] = (kv_select_head){r->score + at, r->pos + at, n, r->kept + at, n};
        if (r->due[i]) at += (size_t)n;
    }
    return KV_OK;
}

static void score_one(void *ctx, int i, int thread) {
    const pooled *r = ctx;
    kv_cpu_scratch sc;
    if (!r->due[i]) return;
    kv_cpu_scratch_cut(&sc, r->mem + r->each * (size_t)thread, &r->e->model.info.shape, r->q->columns, r->most);
    size_t at = (size_t)(r->heads[i].score - r->score);
    sc.score = r->score + at;
    sc.pos = r->pos + at;
    kv_cpu_score_head(r->e, r->q, i / r->cache->n_kv_heads, i % r->cache->n_kv_heads, &sc);
}

static void compact_one(void *ctx, int i, int thread) {
    const pooled *r = ctx;
    const kv_select_head *h = &r->heads[i];
    (void)thread;
    if (r->due[i])
        r->e->backend->ops->compact(r->e->backend, kv_page_pool_layout(r->cache->pool), &r->cache->heads[i], h->kept,
                                    h->n_kept);
}

static void tell(const pooled *r, const kv_trace *trace) {
    for (int i = 0; i < r->n_heads; i++) {
        const kv_select_head *h = &r->heads[i];
        if (!r->due[i]) continue;
        for (int k = 0; k < h->n_kept; k++) r->select[k] = h->pos[h->kept[k]];
        trace->on_evict(trace->user, r->q->request_user, i / r->cache->n_kv_heads, i % r->cache->n_kv_heads,
                        r->q->n_seen, h->pos, h->n_slots, r->select, h->n_kept);
    }
}

static int select_pools(const pooled *r, kv_pooling p, kv_error *err) {
    int bad = 0;
    for (int first = 0; first < r->n_heads; first += p.size) {
        int rc = r->due[first] ? kv_pooled_select(r->q->setup, p, r->heads + first, r->select, &bad) : KV_OK;
        if (rc)
            return kv_fail(err, rc, "policy %s gave a score that is not a number (layer %d, KV head %d)",
                           r->q->setup->policy->name, (first + bad) / r->cache->n_kv_heads,
                           (first + bad) % r->cache->n_kv_heads);
    }
    return KV_OK;
}

static int reduce_due(pooled *r, kv_pooling p, const kv_trace *trace, kv_error *err) {
    kv_threads *threads = r->e->backend->threads;
    kv_threads_for(threads, r->n_heads, score_one, r);
    int rc = select_pools(r, p, err);
    if (rc) return rc;
    kv_threads_for(threads, r->n_heads, compact_one, r);
    if (trace && trace->on_evict) tell(r, trace);
    for (int i = 0; i < r->n_heads; i++) {
        const kv_select_head *h = &r->heads[i];
        if (!r->due[i]) continue;
        r->q->account.n_evictions += h->n_slots - h->n_kept;
        kv_cpu_seq_of(r->q)->n_moved += kv_cpu_count_moved(h->kept, h->n_kept);
        kv_cache_truncate(r->cache, i / r->cache->n_kv_heads, i % r->cache->n_kv_heads, h->n_kept);
    }
    r->q->account.n_triggers++;
    return KV_OK;
}

int kv_cpu_reduce_pooled(kv_engine *e, kv_seq *q, kv_pooling p, int at, const kv_trace *trace, kv_error *err) {
    kv_cache *c = &kv_cpu_seq_of(q)->cache;
    pooled r = {.e = e, .q = q, .cache = c, .n_heads = c->n_layers * c->n_kv_heads};
    int rc = KV_OK;
    r.heads = malloc((size_t)r.n_heads * sizeof *r.heads);
    r.due = malloc((size_t)r.n_heads * sizeof *r.due);
    size_t total = r.heads && r.due ? find_due(&r, p.size, at) : 0;
    if (!r.heads || !r.due || (total && take_memory(&r, total)))
        rc = kv_fail(err, KV_ENOMEM, "out of memory for the scores of an eviction");
    else if (total)
        rc = reduce_due(&r, p, trace, err);
    free(r.heads);
    free(r.due);
    free(r.mem);
    free(r.score);
    return rc;
}
