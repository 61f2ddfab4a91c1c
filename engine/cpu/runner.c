/* runner.c - sequences, steps and sampling on the CPU.  Nothing runs behind the caller: lag is 0. */
#include "engine/cpu/runner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sampler.h"

static void account_bytes(kv_seq *s) {
    s->account.bytes_peak = kv_cpu_seq_of(s)->cache.bytes_peak;
}

static size_t keys_bytes(const kv_engine *e, int n) {
    return (size_t)n * (size_t)e->model.info.n_vocab * sizeof(uint64_t);
}

/* Query window of one sequence. */
static size_t ring_bytes(const kv_runner *r) {
    const kv_shape *s = &r->engine->model.info.shape;
    return (size_t)s->n_layers * ((const kv_cpu_runner *)r)->columns->window * s->n_heads * s->head_dim * sizeof(float);
}

/* Logits and results of n sequences. */
static size_t batch_bytes(const kv_engine *e, int n) {
    return (size_t)n * ((size_t)e->model.info.n_vocab * sizeof(float) + sizeof(kv_result));
}

/* Enters buffers of the runner or of a sequence before they are taken. */
static int enter(kv_cpu_runner *c, size_t bytes, const char *what, kv_error *err) {
    kv_books *b = &c->base.engine->backend->books;
    int rc = kv_books_check(b, bytes, what, err);
    if (rc) return rc;
    kv_books_add(b, KV_USE_WORKSPACE, bytes);
    c->bytes += bytes;
    return KV_OK;
}

static void leave(kv_cpu_runner *c, size_t bytes) {
    kv_books_remove(&c->base.engine->backend->books, KV_USE_WORKSPACE, bytes);
    c->bytes -= bytes;
}

static void close_runner(kv_runner *r) {
    kv_cpu_runner *c = (kv_cpu_runner *)r;
    if (!c) return;
    leave(c, c->bytes);
    kv_page_pool_free(c->pool);
    free(c->logits);
    free(c->keys);
    free(c->ready);
    free(c);
}

static void need(kv_runner *r, const kv_load *l, kv_memory *out) {
    out->kv = (size_t)kv_load_pages(l) * kv_page_pool_layout(((kv_cpu_runner *)r)->pool)->bytes;
    out->workspace = batch_bytes(r->engine, l->n) + (size_t)l->n * ring_bytes(r);
    if (l->draws) out->workspace += keys_bytes(r->engine, l->n);
}

/* Pages are mapped when they are filled; here only their number is held against the limit. */
static int reserve(kv_runner *r, const kv_load *l, kv_error *err) {
    kv_memory want = {0};
    char what[64];
    need(r, l, &want);
    snprintf(what, sizeof what, "the KV cache and buffers of a batch of %d", l->n);
    return kv_books_check(&r->engine->backend->books, want.kv + want.workspace - ((kv_cpu_runner *)r)->bytes, what,
                          err);
}

static int seq_open(kv_runner *r, kv_seq *s, const kv_sampling *sampling, int max_slots, kv_error *err) {
    kv_cpu_runner *c = (kv_cpu_runner *)r;
    const kv_model_info *in = &r->engine->model.info;
    const kv_shape *sh = &in->shape;
    (void)max_slots;
    kv_cpu_seq *q = calloc(1, sizeof *q);
    if (!q) return kv_fail(err, KV_ENOMEM, "out of memory for a sequence");
    s->device = q;
    q->sampling = *sampling;
    int rc = kv_cache_init(&q->cache, c->pool, sh->n_layers, sh->n_kv_heads, err);
    if (rc == KV_OK && c->columns->window) {
        rc = enter(c, ring_bytes(r), "the query window of a sequence", err);
        q->ring = rc ? NULL : malloc(ring_bytes(r));
        if (!rc && !q->ring) rc = kv_fail(err, KV_ENOMEM, "out of memory for the query window of a sequence");
    }
    if (rc == KV_OK && sampling->temperature > 0 && !c->keys) {
        rc = enter(c, keys_bytes(r->engine, c->max_seqs), "sampling", err);
        c->keys = rc ? NULL : malloc(keys_bytes(r->engine, c->max_seqs));
        if (!rc && !c->keys) rc = kv_fail(err, KV_ENOMEM, "out of memory for sampling");
    }
    return rc;
}

static void seq_close(kv_runner *r, kv_seq *s) {
    kv_cpu_seq *q = kv_cpu_seq_of(s);
    if (!q) return;
    kv_cache_free(&q->cache);
    if (q->ring) leave((kv_cpu_runner *)r, ring_bytes(r));
    free(q->ring);
    free(q);
    s->device = NULL;
}

static int fork_seq(kv_runner *r, const kv_runner *other, const kv_seq *from, kv_seq *to, kv_error *err) {
    kv_engine *e = r->engine;
    const kv_shape *sh = &e->model.info.shape;
    kv_cpu_seq *src = kv_cpu_seq_of(from), *dst = kv_cpu_seq_of(to);
    int cols[KV_MAX_COLUMNS];
    (void)other;
    int rc = kv_columns_map(from->columns, to->columns, cols, err);
    if (rc || (rc = kv_cache_extend(&dst->cache, from->n_seen, err))) return rc;
    const kv_page_layout *dl = kv_page_pool_layout(dst->cache.pool), *sl = kv_page_pool_layout(src->cache.pool);
    for (int l = 0; l < sh->n_layers; l++)
        for (int h = 0; h < sh->n_kv_heads; h++)
            e->backend->ops->copy_slots(e->backend, dl, kv_cache_head(&dst->cache, l, h), sl,
                                        kv_cache_head(&src->cache, l, h), cols, from->n_seen);
    int w = to->columns->window;
    size_t row = (size_t)sh->n_heads * sh->head_dim;
    for (int l = 0; w && l < sh->n_layers; l++) {
        for (int t = from->n_seen > w ? from->n_seen - w : 0; t < from->n_seen; t++) {
            int fw = from->columns->window;
            memcpy(dst->ring + ((size_t)l * w + t % w) * row, src->ring + ((size_t)l * fw + t % fw) * row,
                   row * sizeof(float));
        }
    }
    size_t n_vocab = (size_t)e->model.info.n_vocab;
    dst->logits = ((kv_cpu_runner *)r)->logits + (size_t)to->row * n_vocab;
    memcpy(dst->logits, src->logits, n_vocab * sizeof *dst->logits);
    to->n_seen = from->n_seen;
    to->account.held = kv_cache_mean_slots(&dst->cache);
    if (to->account.held > to->account.peak_slots) to->account.peak_slots = to->account.held;
    account_bytes(to);
    return KV_OK;
}

static int most_rows(const kv_runner *r) {
    (void)r;
    return KV_MAX_ROWS;
}

static int piece_rows(const kv_runner *r, int n_done) {
    (void)r;
    return KV_PREFILL_ROWS - n_done % KV_PREFILL_ROWS;
}

static int forward(kv_runner *r, kv_segment *segs, int n, const kv_trace *trace, kv_error *err) {
    return kv_cpu_forward(r->engine, segs, n, ((kv_cpu_runner *)r)->logits, trace, err);
}

static int slots(const kv_runner *r, const kv_seq *s) {
    return kv_cache_pool_slots(&kv_cpu_seq_of(s)->cache, ((const kv_cpu_runner *)r)->pooling.size);
}

static void reduce(kv_runner *r, kv_seq *const *seqs, const int *at, int n, int *status, kv_error *errs,
                   const kv_trace *trace) {
    kv_cpu_reduce(r->engine, seqs, at, n, status, errs, trace);
}

typedef struct sample_jobs {
    kv_cpu_runner *c;
    kv_seq *const *seqs;
} sample_jobs;

static void sample_one(void *ctx, int i, int thread) {
    kv_cpu_runner *c = ((sample_jobs *)ctx)->c;
    kv_cpu_seq *q = kv_cpu_seq_of(((sample_jobs *)ctx)->seqs[i]);
    kv_result *out = &c->ready[i];
    int n_vocab = c->base.engine->model.info.n_vocab;
    (void)thread;
    out->n_moved = q->n_moved;
    if (out->status) return;
    q->hash = kv_logits_hash(q->hash, q->logits, n_vocab);
    q->last = kv_sample(&q->sampling, (uint64_t)q->n_drawn++, q->logits, n_vocab,
                        c->keys ? c->keys + (size_t)i * n_vocab : NULL);
    out->token = q->last;
    out->logits_hash = q->hash;
}

static int sample_ready(kv_cpu_runner *c, kv_seq *const *seqs, int n) {
    sample_jobs jobs = {c, seqs};
    kv_threads_for(c->base.engine->backend->threads, n, sample_one, &jobs);
    c->n_ready = n;
    return KV_OK;
}

static int sample(kv_runner *r, kv_seq *const *seqs, int n, kv_error *err) {
    kv_cpu_runner *c = (kv_cpu_runner *)r;
    (void)err;
    memset(c->ready, 0, (size_t)n * sizeof *c->ready);
    return sample_ready(c, seqs, n);
}

/* The reduction after a step: every layer at S >= M+B goes to M. */
static void trigger(kv_cpu_runner *c, kv_seq *const *seqs, int n, const kv_trace *trace) {
    kv_seq *due[KV_MAX_BATCH];
    int at[KV_MAX_BATCH], status[KV_MAX_BATCH], index[KV_MAX_BATCH], n_due = 0;
    if (!c->setup || c->setup->policy->never_evicts) return;
    int limit = c->setup->budget + c->setup->buffer;
    for (int i = 0; i < n; i++) {
        if (c->ready[i].status || slots(&c->base, seqs[i]) < limit) continue;
        due[n_due] = seqs[i];
        index[n_due] = i;
        at[n_due++] = limit;
    }
    if (!n_due) return;
    kv_error *errs = calloc((size_t)n_due, sizeof *errs);
    if (errs) kv_cpu_reduce(c->base.engine, due, at, n_due, status, errs, trace);
    for (int i = 0; i < n_due; i++) {
        kv_result *out = &c->ready[index[i]];
        out->status = errs ? status[i] : KV_ENOMEM;
        if (errs && status[i]) out->err = errs[i];
        if (!errs) kv_fail(&out->err, KV_ENOMEM, "out of memory for an eviction");
    }
    free(errs);
}

static int step(kv_runner *r, kv_seq *const *seqs, int n, const kv_trace *trace, kv_profile *profile, kv_error *err) {
    kv_cpu_runner *c = (kv_cpu_runner *)r;
    kv_segment segs[KV_MAX_ROWS];
    size_t n_vocab = (size_t)r->engine->model.info.n_vocab;
    if (profile) return kv_fail(err, KV_EUNSUPPORTED, "the CPU backend has no profile: use perf");
    memset(c->ready, 0, (size_t)n * sizeof *c->ready);
    int64_t bytes = r->engine->bytes_read;
    for (int from = 0; from < n; from += KV_MAX_ROWS) {
        int m = n - from < KV_MAX_ROWS ? n - from : KV_MAX_ROWS;
        for (int i = 0; i < m; i++)
            segs[i] = (kv_segment){.seq = seqs[from + i],
                                   .tokens = &kv_cpu_seq_of(seqs[from + i])->last,
                                   .n = 1,
                                   .wants_token = 1,
                                   .err = &c->ready[from + i].err};
        int rc = kv_cpu_forward(r->engine, segs, m, c->logits + (size_t)from * n_vocab, trace, err);
        if (rc) return rc;
        for (int i = 0; i < m; i++) c->ready[from + i].status = segs[i].status;
    }
    c->bytes_read += r->engine->bytes_read - bytes;
    trigger(c, seqs, n, trace);
    return sample_ready(c, seqs, n);
}

static int fetch(kv_runner *r, kv_result *out, kv_error *err) {
    kv_cpu_runner *c = (kv_cpu_runner *)r;
    (void)err;
    memcpy(out, c->ready, (size_t)c->n_ready * sizeof *out);
    return KV_OK;
}

static int top(kv_runner *r, kv_seq *s, int n_top, kv_top *out, kv_error *err) {
    (void)err;
    kv_top_logprobs(kv_cpu_seq_of(s)->logits, r->engine->model.info.n_vocab, n_top, out);
    return KV_OK;
}

static size_t seq_bytes(const kv_runner *r, const kv_seq *s) {
    (void)r;
    return kv_cpu_seq_of(s)->cache.bytes;
}

static void counts(kv_runner *r, kv_runner_counts *out) {
    kv_cpu_runner *c = (kv_cpu_runner *)r;
    *out = (kv_runner_counts){.kv_live_peak = kv_page_pool_bytes_peak(c->pool),
                              .n_page_allocs = kv_page_pool_allocs(c->pool),
                              .bytes_read = c->bytes_read};
}

static int finish(kv_runner *r, kv_error *err) {
    (void)r;
    (void)err;
    return KV_OK;
}

/* The last hidden rows stay in the workspace, so the head can run over all of them afterwards. */
static int read_logits(kv_runner *r, int n, float *out, kv_error *err) {
    const kv_engine *e = r->engine;
    (void)err;
    e->backend->ops->matmul(e->backend, &(kv_matmul_args){.out = out,
                                                          .x = e->ws->x,
                                                          .w = e->model.head,
                                                          .n_rows = n,
                                                          .norm_weight = e->model.out_norm,
                                                          .norm_eps = e->model.rms_eps});
    return KV_OK;
}

static const kv_runner_ops ops = {
    .close = close_runner,
    .need = need,
    .reserve = reserve,
    .seq_open = seq_open,
    .seq_close = seq_close,
    .fork = fork_seq,
    .most_rows = most_rows,
    .piece_rows = piece_rows,
    .forward = forward,
    .reduce = reduce,
    .sample = sample,
    .step = step,
    .fetch = fetch,
    .top = top,
    .slots = slots,
    .seq_bytes = seq_bytes,
    .counts = counts,
    .finish = finish,
    .read_logits = read_logits,
};

int kv_cpu_runner_open(kv_engine *e, const kv_columns *c, const kv_setup *setup, int max_seqs, kv_runner **out,
                       kv_error *err) {
    kv_cpu_runner *r = calloc(1, sizeof *r);
    if (!r) return kv_fail(err, KV_ENOMEM, "out of memory for a batch of %d", max_seqs);
    kv_page_layout l;
    kv_page_layout_init(&l, e->backend->numerics == KV_EXACT ? KV_CACHE_F32 : KV_CACHE_F16,
                        e->model.info.shape.head_dim, c->n_cols, c->has_mass);
    r->base = (kv_runner){&ops, e, 0};
    r->columns = c;
    r->setup = setup;
    r->pooling = kv_pooling_of(setup, &e->model.info.shape);
    r->max_seqs = max_seqs;
    int rc = enter(r, batch_bytes(e, max_seqs), "the logits of a batch", err);
    if (rc == KV_OK) {
        r->logits = malloc((size_t)max_seqs * e->model.info.n_vocab * sizeof *r->logits);
        r->ready = calloc((size_t)max_seqs, sizeof *r->ready);
        if (!r->logits || !r->ready) rc = kv_fail(err, KV_ENOMEM, "out of memory for a batch of %d", max_seqs);
    }
    if (rc == KV_OK) rc = kv_page_pool_create(&l, &e->backend->books, &r->pool, err);
    if (rc) {
        close_runner(&r->base);
        return rc;
    }
    *out = &r->base;
    return KV_OK;
}
