/* reduce.c - eviction: score every live slot, select, compact, give pages back.
 *
 * Runs after the last layer of a forward.  Each (sequence, layer, KV head) is independent, so they are spread over the
 * threads; a traced run goes in order instead (heads that share a budget: reduce_pooled.c).  The policy sees contiguous
 * copies of what it declared, the shared selector decides, and the backend moves the slots. */
#include "engine/cpu/reduce.h"

#include <stdlib.h>
#include <string.h>

typedef struct head_job {
    int seq, layer, head;
} head_job;

size_t kv_cpu_scratch_bytes(const kv_shape *s, const kv_columns *c, int n_slots) {
    size_t group = (size_t)s->n_heads / s->n_kv_heads, n = (size_t)n_slots;
    size_t floats = n * (1 + s->head_dim + c->n_cols + c->window + 4) + (size_t)c->window * group * s->head_dim;
    return (floats * sizeof(float) + 3 * n * sizeof(int32_t) + 63) & ~(size_t)63;
}

void kv_cpu_scratch_cut(kv_cpu_scratch *sc, char *mem, const kv_shape *s, const kv_columns *c, int n_slots) {
    size_t group = (size_t)s->n_heads / s->n_kv_heads, n = (size_t)n_slots;
    sc->score = (float *)mem;
    sc->keys = sc->score + n;
    sc->cols = sc->keys + n * s->head_dim;
    sc->policy = sc->cols + n * c->n_cols;
    sc->queries = sc->policy + n * (c->window + 4);
    sc->pos = (int32_t *)(sc->queries + c->window * group * s->head_dim);
    sc->kept = sc->pos + n;
    sc->select = sc->kept + n;
}

/* The last queries of one KV head's group, oldest first: (n_queries, group, head_dim). */
static int copy_queries(const kv_shape *s, const kv_seq *q, int window, int layer, int kv_head, float *out) {
    int w = q->columns->window, n = q->n_seen < window ? q->n_seen : window;
    size_t group = (size_t)s->n_heads / s->n_kv_heads, d = (size_t)s->head_dim;
    for (int i = 0; i < n; i++) {
        int t = q->n_seen - n + i;
        memcpy(out + i * group * d,
               kv_cpu_seq_of(q)->ring + (((size_t)layer * w + t % w) * s->n_heads + kv_head * group) * d,
               group * d * sizeof(float));
    }
    return n;
}

void kv_cpu_score_head(kv_engine *e, const kv_seq *q, int layer, int head, const kv_cpu_scratch *sc) {
    const kv_shape *s = &e->model.info.shape;
    const kv_columns *c = q->columns;
    const kv_policy *pol = q->setup->policy;
    const kv_head_slots *h = kv_cache_head(&kv_cpu_seq_of(q)->cache, layer, head);
    const float *stats[KV_MAX_STATS] = {NULL};
    int n = h->n_slots;
    if (n == 0) return;
    e->backend->ops->gather(e->backend, kv_page_pool_layout(kv_cpu_seq_of(q)->cache.pool), h,
                            pol->needs & KV_NEED_KEYS ? sc->keys : NULL, sc->pos, c->n_cols ? sc->cols : NULL);
    for (int k = 0; k < pol->n_stats; k++) stats[k] = sc->cols + (size_t)(c->has_mass + k) * n;
    kv_score_args a = {.layer = layer,
                       .kv_head = head,
                       .n_slots = n,
                       .n_seen = q->n_seen,
                       .pos = sc->pos,
                       .stats = stats,
                       .mass = c->has_mass ? sc->cols : NULL,
                       .keys = pol->needs & KV_NEED_KEYS ? sc->keys : NULL,
                       .group = s->n_heads / s->n_kv_heads,
                       .head_dim = s->head_dim,
                       .scratch = sc->policy};
    if (pol->needs & KV_NEED_QUERIES) {
        a.queries = sc->queries;
        a.n_queries = copy_queries(s, q, pol->window(q->setup->state), layer, head, sc->queries);
    }
    pol->score(q->setup->state, &a, sc->score);
}

int kv_cpu_count_moved(const int32_t *kept, int n) {
    int i = 0;
    while (i < n && kept[i] == i) i++;
    return n - i;
}

/* Slots kept; negative KV_E* when a score is no number. */
static int reduce_head(kv_engine *e, kv_seq *q, int layer, int head, const kv_cpu_scratch *sc, int *moved,
                       const kv_trace *trace) {
    kv_head_slots *h = kv_cache_head(&kv_cpu_seq_of(q)->cache, layer, head);
    int n = h->n_slots, n_sink = 0, n_recent = 0;
    kv_cpu_score_head(e, q, layer, head, sc);
    if (q->setup->policy->protect) q->setup->policy->protect(q->setup->state, &n_sink, &n_recent);
    int keep = kv_select(sc->score, sc->pos, n, q->setup->budget, n_sink, n_recent, sc->kept, sc->select);
    if (keep < 0) return keep;
    e->backend->ops->compact(e->backend, kv_page_pool_layout(kv_cpu_seq_of(q)->cache.pool), h, sc->kept, keep);
    *moved = kv_cpu_count_moved(sc->kept, keep);
    if (trace && trace->on_evict) {
        for (int i = 0; i < keep; i++) sc->select[i] = sc->pos[sc->kept[i]];
        trace->on_evict(trace->user, q->request_user, layer, head, q->n_seen, sc->pos, n, sc->select, keep);
    }
    return keep;
}

static int list_jobs(kv_seq *const *seqs, const int *at, int n_seqs, head_job **out, int *n_slots) {
    int n = 0, cap = 0;
    for (int i = 0; i < n_seqs; i++) {
        const kv_cache *c = &kv_cpu_seq_of(seqs[i])->cache;
        cap += c->n_layers * c->n_kv_heads;
    }
    head_job *jobs = malloc((size_t)cap * sizeof *jobs);
    *n_slots = 0;
    for (int i = 0; jobs && i < n_seqs; i++) {
        const kv_cache *c = &kv_cpu_seq_of(seqs[i])->cache;
        for (int l = 0; at[i] && l < c->n_layers; l++) {
            int held = kv_cache_layer_slots(c, l);
            if (held < at[i] || held <= seqs[i]->setup->budget) continue;
            if (held > *n_slots) *n_slots = held;
            for (int h = 0; h < c->n_kv_heads; h++) jobs[n++] = (head_job){i, l, h};
        }
    }
    *out = jobs;
    return n;
}

static void account(kv_seq *const *seqs, const head_job *jobs, const int *keep, const int *moved, int n, int *status,
                    kv_error *errs) {
    int last = -1;
    for (int j = 0; j < n; j++) {
        int i = jobs[j].seq;
        kv_seq *q = seqs[i];
        if (keep[j] < 0) {
            status[i] = kv_fail(&errs[i], keep[j], "policy %s gave a score that is not a number (layer %d, KV head %d)",
                                q->setup->policy->name, jobs[j].layer, jobs[j].head);
            continue;
        }
        q->account.n_evictions +=
            kv_cache_head(&kv_cpu_seq_of(q)->cache, jobs[j].layer, jobs[j].head)->n_slots - keep[j];
        kv_cpu_seq_of(q)->n_moved += moved[j];
        kv_cache_truncate(&kv_cpu_seq_of(q)->cache, jobs[j].layer, jobs[j].head, keep[j]);
        if (i != last) q->account.n_triggers++;
        last = i;
    }
}

typedef struct reduce_jobs {
    kv_engine *e;
    kv_seq *const *seqs;
    const head_job *jobs;
    int n_slots;
    char *mem; /* scratch of each thread, `each` bytes apart */
    size_t each;
    int *keep, *moved;
    const kv_trace *trace;
} reduce_jobs;

static void reduce_one(void *ctx, int j, int thread) {
    const reduce_jobs *r = ctx;
    const head_job *job = &r->jobs[j];
    kv_cpu_scratch sc;
    kv_cpu_scratch_cut(&sc, r->mem + r->each * (size_t)thread, &r->e->model.info.shape, r->seqs[0]->columns,
                       r->n_slots);
    r->keep[j] = reduce_head(r->e, r->seqs[job->seq], job->layer, job->head, &sc, &r->moved[j], r->trace);
}

void kv_cpu_reduce(kv_engine *e, kv_seq *const *seqs, const int *at, int n_seqs, int *status, kv_error *errs,
                   const kv_trace *trace) {
    kv_pooling p = kv_pooling_of(seqs[0]->setup, &e->model.info.shape);
    if (p.size > 1) {
        for (int i = 0; i < n_seqs; i++)
            status[i] = at[i] ? kv_cpu_reduce_pooled(e, seqs[i], p, at[i], trace, &errs[i]) : KV_OK;
        return;
    }
    head_job *jobs;
    int n_slots, n = list_jobs(seqs, at, n_seqs, &jobs, &n_slots);
    size_t each = n ? kv_cpu_scratch_bytes(&e->model.info.shape, seqs[0]->columns, n_slots) : 0;
    char *mem = n ? malloc(each * (size_t)e->backend->n_threads) : NULL;
    int *keep = n ? malloc(2 * (size_t)n * sizeof *keep) : NULL;
    for (int i = 0; i < n_seqs; i++) status[i] = KV_OK;
    if (jobs && n && mem && keep) {
        reduce_jobs r = {e, seqs, jobs, n_slots, mem, each, keep, keep + n, trace};
        if (trace) {
            for (int j = 0; j < n; j++) reduce_one(&r, j, 0);
        } else {
            kv_threads_for(e->backend->threads, n, reduce_one, &r);
        }
        account(seqs, jobs, keep, keep + n, n, status, errs);
    } else if (!jobs || n) {
        for (int i = 0; i < n_seqs; i++)
            status[i] = kv_fail(&errs[i], KV_ENOMEM, "out of memory for the scores of an eviction");
    }
    free(jobs);
    free(mem);
    free(keep);
}
