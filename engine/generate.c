/* generate.c - many sequences through one engine: admit, prefill, decode in a batch, replace a finished one at once.
 *
 * A round prefills whatever was just admitted (pieces of several prompts packed into one forward) and then takes one
 * decode step over every live sequence.  Which sequences share a forward changes no bit of any of them (backend.h),
 * so arrival order and batch size are free to follow what is fastest.
 *
 * Eviction.  After every forward, layers that hold S >= M+B slots are reduced to M; full prefill counts as one forward
 * per part of the prompt (context, question).  Streamed prefill runs chunks of C tokens and also reduces before a chunk
 * that would exceed M+B. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/internal.h"
#include "engine/sampler.h"

typedef struct run {
    kv_request req;
    kv_seq seq;
    kv_completion c;
    int n_done; /* prompt tokens that went through the model */
    int limit;  /* most tokens to generate */
    int limit_is_context;
    int32_t *tokens; /* (limit) */
    kv_top *top;     /* (limit, n_top) */
    int started, finished;
    int picked; /* next token, or KV_E*: result of the last sampling */
} run;

typedef struct loop {
    kv_engine *e;
    const kv_setup *setup;
    const kv_generate_options *o;
    kv_columns columns;
    kv_page_pool *pool;
    run **live; /* (batch) in order of admission */
    int n_live, drained;
    float *logits; /* (batch, n_vocab) */
    kv_top *order; /* (batch, n_vocab): sampling scratch, NULL while everything is greedy */
    kv_generate_stats stats;
    double started_at;
} loop;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run_fail(run *r, int code, const kv_error *err) {
    r->finished = 1;
    r->c.status = code;
    r->c.stop = KV_STOP_ERROR;
    if (err && err != &r->c.err) r->c.err = *err;
    r->c.err.code = code;
}

static void run_free(run *r) {
    if (!r) return;
    if (r->c.status == KV_ENUM) { /* NaN must not reach the next owner of these pages */
        size_t bytes = kv_page_pool_layout(r->seq.cache.pool)->bytes;
        for (int i = 0; i < r->seq.cache.n_layers * r->seq.cache.n_kv_heads; i++)
            for (int k = 0; k < r->seq.cache.n_pages[i]; k++) memset(r->seq.cache.heads[i].pages[k], 0, bytes);
    }
    kv_seq_free(&r->seq);
    free(r->tokens);
    free(r->top);
    free(r);
}

static int context_end(const kv_request *q) {
    return q->n_context > 0 && q->n_context < q->n_prompt ? q->n_context : q->n_prompt;
}

/* Builds a run; a prompt that cannot be run makes a finished run with its error.  NULL only without memory. */
static run *run_new(loop *lp, const kv_request *q) {
    run *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->req = *q;
    int rc = kv_check_tokens(lp->e, q->prompt, q->n_prompt, &r->c.err);
    if (rc == KV_OK) rc = kv_seq_init(&r->seq, lp->e, lp->pool, &lp->columns, lp->setup, &r->c.err);
    if (rc == KV_OK) {
        int room = lp->e->model.info.n_ctx - q->n_prompt;
        r->limit_is_context = room < q->max_new;
        r->limit = r->limit_is_context ? room : q->max_new;
        r->tokens = malloc(((size_t)r->limit + 1) * sizeof *r->tokens);
        r->top = lp->o->n_top ? malloc(((size_t)r->limit + 1) * lp->o->n_top * sizeof *r->top) : NULL;
        if (!r->tokens || (lp->o->n_top && !r->top))
            rc = kv_fail(&r->c.err, KV_ENOMEM, "out of memory for %d generated tokens", r->limit);
    }
    r->seq.request_user = q->user;
    if (rc) run_fail(r, rc, &r->c.err);
    return r;
}

static void reduce_runs(loop *lp, run *const *runs, const int *at, int n) {
    kv_seq *seqs[KV_MAX_BATCH];
    int status[KV_MAX_BATCH], any = 0;
    if (lp->setup->policy->never_evicts) return;
    for (int i = 0; i < n; i++) {
        seqs[i] = &runs[i]->seq;
        any |= at[i] > 0 && kv_seq_slots(seqs[i]) >= at[i];
    }
    if (!any) return;
    kv_error *errs = calloc((size_t)n, sizeof *errs);
    if (!errs) {
        for (int i = 0; i < n; i++) run_fail(runs[i], KV_ENOMEM, NULL);
        return;
    }
    kv_reduce(lp->e, seqs, at, n, status, errs, lp->o->trace);
    for (int i = 0; i < n; i++)
        if (status[i]) run_fail(runs[i], status[i], &errs[i]);
    free(errs);
}

/* The trigger after a forward: every layer at S >= M+B goes to M. */
static void trigger(loop *lp, run *const *runs, int n) {
    int at[KV_MAX_BATCH];
    for (int i = 0; i < n; i++) at[i] = runs[i]->finished ? 0 : lp->setup->budget + lp->setup->buffer;
    reduce_runs(lp, runs, at, n);
}

typedef struct sample_jobs {
    const loop *lp;
    run *const *runs; /* row i of the logits belongs to runs[i] */
} sample_jobs;

static void sample_one(void *ctx, int i, int thread) {
    const loop *lp = ((sample_jobs *)ctx)->lp;
    run *r = ((sample_jobs *)ctx)->runs[i];
    int n_vocab = lp->e->model.info.n_vocab, n_top = lp->o->n_top;
    const float *row = lp->logits + (size_t)i * n_vocab;
    (void)thread;
    if (r->finished) return;
    r->c.logits_hash = kv_logits_hash(r->c.logits_hash, row, n_vocab);
    r->picked = kv_sample(&r->req.sampling, (uint64_t)r->c.n_tokens, row, n_vocab,
                          lp->order ? lp->order + (size_t)i * n_vocab : NULL);
    if (n_top && r->picked >= 0 && r->c.n_tokens < r->limit)
        kv_top_logprobs(row, n_vocab, n_top, r->top + (size_t)r->c.n_tokens * n_top);
}

static void sample_all(loop *lp, run *const *runs, int n) {
    sample_jobs jobs = {lp, runs};
    kv_threads_for(lp->e->backend->threads, n, sample_one, &jobs);
}

static int is_stop_id(const loop *lp, int id) {
    for (int i = 0; i < lp->o->n_stop_ids; i++)
        if (lp->o->stop_ids[i] == id) return 1;
    return 0;
}

static void finish(run *r, kv_stop stop) {
    r->finished = 1;
    r->c.stop = stop;
}

/* Takes the sampled token into the sequence, or ends it. */
static void accept(loop *lp, run *r) {
    if (r->finished) return;
    kv_stop at_limit = r->limit_is_context ? KV_STOP_CONTEXT : KV_STOP_LENGTH;
    if (r->picked < 0) {
        kv_fail(&r->c.err, KV_ENUM, "the model's logits are not finite after %d tokens", r->seq.n_seen);
        run_fail(r, KV_ENUM, NULL);
    } else if (!r->req.ignore_eos && is_stop_id(lp, r->picked)) {
        finish(r, KV_STOP_EOS);
    } else if (r->c.n_tokens == r->limit) {
        finish(r, at_limit);
    } else {
        r->tokens[r->c.n_tokens++] = r->picked;
        if (lp->o->check_stop && lp->o->check_stop(lp->o->user, &r->req, r->tokens, r->c.n_tokens))
            finish(r, KV_STOP_STRING);
        else if (r->c.n_tokens == r->limit)
            finish(r, at_limit);
    }
}

/* Gives the prefix's state to a fresh run; the caller triggers and samples. */
static void start_from_prefix(loop *lp, run *r) {
    const kv_prefix *p = r->req.prefix;
    double start = now();
    if (p->seq.n_seen != context_end(&r->req)) {
        kv_fail(&r->c.err, KV_EARG, "the shared prefill covers %d tokens, the request's context %d", p->seq.n_seen,
                context_end(&r->req));
        run_fail(r, KV_EARG, NULL);
        return;
    }
    int rc = kv_seq_fork(lp->e, &p->seq, &r->seq, &r->c.err);
    if (rc) {
        run_fail(r, rc, NULL);
        return;
    }
    r->n_done = p->seq.n_seen;
    r->c.prefill_s = p->seconds + now() - start;
}

/* Rows of the next piece of a prompt. */
static int next_piece(const loop *lp, const run *r) {
    int end = r->n_done < context_end(&r->req) ? context_end(&r->req) : r->req.n_prompt;
    int left = end - r->n_done;
    int most = lp->o->chunk ? lp->o->chunk : KV_PREFILL_ROWS - r->n_done % KV_PREFILL_ROWS;
    return left < most ? left : most;
}

/* One forward over the next pieces of prompts that are not through; 0 when there are none. */
static int prefill_pieces(loop *lp, run **todo, int n_todo, kv_error *err) {
    kv_segment segs[KV_MAX_BATCH];
    run *runs[KV_MAX_BATCH], *ready[KV_MAX_BATCH];
    int at[KV_MAX_BATCH], n = 0, rows = 0, n_ready = 0, limit = lp->setup->budget + lp->setup->buffer;
    size_t n_vocab = (size_t)lp->e->model.info.n_vocab;
    for (int i = 0; i < n_todo && n < KV_MAX_BATCH; i++) {
        int piece = next_piece(lp, todo[i]);
        if (todo[i]->finished || piece == 0) continue;
        if (rows + piece > KV_MAX_ROWS) break;
        rows += piece;
        at[n] = lp->o->chunk ? (limit - piece + 1 > 1 ? limit - piece + 1 : 1) : 0;
        runs[n++] = todo[i];
    }
    if (!n) return 0;
    double start = now();
    reduce_runs(lp, runs, at, n);
    int n_segs = 0;
    for (int i = 0; i < n; i++) {
        run *r = runs[i];
        if (r->finished) continue;
        int piece = next_piece(lp, r);
        runs[n_segs] = r;
        segs[n_segs] = (kv_segment){.seq = &r->seq, .tokens = r->req.prompt + r->n_done, .n = piece, .err = &r->c.err};
        if (r->n_done + piece == r->req.n_prompt) {
            segs[n_segs].logits = lp->logits + (size_t)n_ready * n_vocab;
            ready[n_ready++] = r;
        }
        n_segs++;
    }
    int rc = kv_forward(lp->e, segs, n_segs, lp->o->trace, err);
    if (rc) return rc;
    run *whole[KV_MAX_BATCH]; /* those at which the trigger applies */
    int n_whole = 0;
    for (int i = 0; i < n_segs; i++) {
        run *r = runs[i];
        if (segs[i].status) {
            run_fail(r, segs[i].status, NULL);
            continue;
        }
        r->n_done += segs[i].n;
        lp->stats.n_prefill_tokens += segs[i].n;
        if (lp->o->chunk || r->n_done == context_end(&r->req) || r->n_done == r->req.n_prompt) whole[n_whole++] = r;
    }
    trigger(lp, whole, n_whole);
    sample_all(lp, ready, n_ready);
    double took = now() - start;
    for (int i = 0; i < n_segs; i++) runs[i]->c.prefill_s += took * segs[i].n / rows;
    lp->stats.prefill_s += took;
    for (int i = 0; i < n_ready; i++) {
        accept(lp, ready[i]);
        ready[i]->started = 1;
    }
    return 1;
}

static int prefill_new(loop *lp, int first, kv_error *err) {
    run **todo = lp->live + first;
    int n = lp->n_live - first;
    for (int i = 0; i < n; i++) {
        run *r = todo[i];
        if (r->finished || !r->req.prefix) continue;
        start_from_prefix(lp, r);
        trigger(lp, &r, 1);
        if (r->finished || r->n_done < r->req.n_prompt) continue;
        memcpy(lp->logits, r->req.prefix->logits, (size_t)lp->e->model.info.n_vocab * sizeof(float));
        sample_all(lp, &r, 1);
        accept(lp, r);
        r->started = 1;
    }
    int rc;
    do {
        rc = prefill_pieces(lp, todo, n, err);
        if (rc > 0 && lp->o->cancel && *lp->o->cancel) return KV_ECANCEL;
    } while (rc > 0);
    return rc;
}

/* Fills the batch from next(). */
static int admit(loop *lp, kv_error *err) {
    int first = lp->n_live;
    while (!lp->drained && lp->n_live < lp->o->batch) {
        kv_request q;
        memset(&q, 0, sizeof q);
        int rc = lp->o->next(lp->o->user, &q);
        if (rc < 0) return kv_fail(err, rc, "the run was stopped while preparing the next item");
        if (rc == 0) {
            lp->drained = 1;
            break;
        }
        if (q.sampling.temperature > 0 && !lp->order) {
            lp->order = malloc((size_t)lp->o->batch * lp->e->model.info.n_vocab * sizeof *lp->order);
            if (!lp->order) return kv_fail(err, KV_ENOMEM, "out of memory for sampling");
        }
        run *r = run_new(lp, &q);
        if (!r) return kv_fail(err, KV_ENOMEM, "out of memory admitting a sequence");
        lp->live[lp->n_live++] = r;
    }
    return prefill_new(lp, first, err);
}

static int decode_step(loop *lp, kv_error *err) {
    kv_segment segs[KV_MAX_BATCH];
    size_t n_vocab = (size_t)lp->e->model.info.n_vocab;
    int n = lp->n_live;
    if (!n) return KV_OK;
    double start = now();
    int64_t bytes = lp->e->bytes_read;
    for (int i = 0; i < n; i++) {
        run *r = lp->live[i];
        segs[i] = (kv_segment){.seq = &r->seq,
                               .tokens = &r->tokens[r->c.n_tokens - 1],
                               .n = 1,
                               .logits = lp->logits + (size_t)i * n_vocab,
                               .err = &r->c.err};
    }
    int rc = kv_forward(lp->e, segs, n, lp->o->trace, err);
    if (rc) return rc;
    for (int i = 0; i < n; i++) {
        run *r = lp->live[i];
        if (segs[i].status) run_fail(r, segs[i].status, NULL);
        r->seq.decode_slots += kv_cache_mean_slots(&r->seq.cache);
        r->seq.n_decode++;
    }
    trigger(lp, lp->live, n);
    sample_all(lp, lp->live, n);
    double took = now() - start;
    lp->stats.decode_s += took;
    lp->stats.n_steps++;
    lp->stats.n_decode_tokens += n;
    lp->stats.bytes_read += lp->e->bytes_read - bytes;
    for (int i = 0; i < n; i++) {
        lp->live[i]->c.decode_s += took / n;
        accept(lp, lp->live[i]);
    }
    if (lp->o->progress) lp->o->progress(lp->o->user, n, lp->stats.n_decode_tokens);
    return KV_OK;
}

/* Reports finished sequences and closes the gaps they leave. */
static int retire(loop *lp, kv_error *err) {
    int kept = 0, rc = KV_OK;
    for (int i = 0; i < lp->n_live; i++) {
        run *r = lp->live[i];
        if (!r->finished || rc) {
            lp->live[kept++] = r;
            continue;
        }
        kv_completion *c = &r->c;
        c->tokens = r->tokens;
        c->top = r->top;
        c->peak_slots = r->seq.peak_slots;
        c->mean_slots = r->seq.n_decode ? r->seq.decode_slots / r->seq.n_decode : r->seq.peak_slots;
        c->kv_bytes_peak = r->seq.cache.bytes_peak;
        c->n_evictions = r->seq.n_evictions;
        c->n_moved = r->seq.n_moved;
        c->n_triggers = r->seq.n_triggers;
        lp->stats.n_evictions += c->n_evictions;
        lp->stats.n_moved += c->n_moved;
        rc = lp->o->done(lp->o->user, &r->req, c);
        if (rc) kv_fail(err, rc, "the run was stopped while recording a sample");
        run_free(r);
    }
    lp->n_live = kept;
    return rc;
}

static int interrupted(const loop *lp, kv_error *err) {
    if (lp->o->cancel && *lp->o->cancel) return kv_fail(err, KV_ECANCEL, "interrupted");
    if (lp->o->timeout_s > 0 && now() - lp->started_at > lp->o->timeout_s)
        return kv_fail(err, KV_ETIMEOUT, "the time limit of %g s is over", lp->o->timeout_s);
    return KV_OK;
}

static int run_loop(loop *lp, kv_error *err) {
    for (;;) {
        int rc = admit(lp, err);
        if (rc == KV_OK) rc = retire(lp, err);
        if (rc == KV_OK) rc = interrupted(lp, err);
        if (rc) return rc;
        if (lp->n_live < lp->o->batch && !lp->drained) continue; /* some ended in prefill */
        if (!lp->n_live) return KV_OK;
        if ((rc = decode_step(lp, err)) || (rc = retire(lp, err)) || (rc = interrupted(lp, err))) return rc;
    }
}

static int check_options(const kv_setup *s, const kv_generate_options *o, kv_error *err) {
    if (o->batch < 1 || o->batch > KV_MAX_BATCH)
        return kv_fail(err, KV_EARG, "batch %d is outside 1..%d", o->batch, KV_MAX_BATCH);
    if (o->n_top < 0 || o->n_top > KV_MAX_TOP)
        return kv_fail(err, KV_EARG, "%d log-probabilities per step are outside 0..%d", o->n_top, KV_MAX_TOP);
    if (!s->policy->never_evicts && (s->budget < 1 || s->buffer < 1))
        return kv_fail(err, KV_EARG, "budget %d and buffer %d must be at least 1", s->budget, s->buffer);
    if (o->chunk < 0 || o->chunk > KV_PREFILL_ROWS)
        return kv_fail(err, KV_EARG, "prefill stream:%d is outside 1..%d", o->chunk, KV_PREFILL_ROWS);
    if (!s->policy->never_evicts && o->chunk > s->buffer)
        return kv_fail(err, KV_EARG, "prefill stream:%d needs a buffer of at least %d slots (it is %d)", o->chunk,
                       o->chunk, s->buffer);
    return KV_OK;
}

int kv_generate(kv_engine *e, const kv_setup *s, const kv_generate_options *o, kv_generate_stats *stats,
                kv_error *err) {
    loop lp = {.e = e, .setup = s, .o = o, .started_at = now()};
    int rc = check_options(s, o, err);
    if (rc == KV_OK) rc = kv_columns_init(&lp.columns, s, 1, err);
    if (rc == KV_OK) rc = kv_cache_pool_create(e, &lp.columns, &lp.pool, err);
    if (rc) return rc;
    lp.live = calloc((size_t)o->batch, sizeof *lp.live);
    lp.logits = malloc((size_t)o->batch * e->model.info.n_vocab * sizeof *lp.logits);
    if (!lp.live || !lp.logits)
        rc = kv_fail(err, KV_ENOMEM, "out of memory for a batch of %d", o->batch);
    else
        rc = run_loop(&lp, err);
    for (int i = 0; i < lp.n_live; i++) run_free(lp.live[i]);
    lp.stats.kv_bytes_peak = kv_page_pool_bytes_peak(lp.pool);
    lp.stats.n_page_allocs = kv_page_pool_allocs(lp.pool);
    if (stats) *stats = lp.stats;
    kv_page_pool_free(lp.pool);
    free(lp.live);
    free(lp.logits);
    free(lp.order);
    return rc;
}
