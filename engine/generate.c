/* generate.c - many sequences through one engine: admit, prefill, decode in a batch, replace a finished one at once.
 *
 * A round prefills whatever was just admitted (pieces of several prompts packed into one forward) and then takes one
 * decode step over every live sequence.  Which sequences share a forward changes no bit of any of them (backend.h),
 * so arrival order and batch size are free to follow what is fastest.
 *
 * Eviction.  After every forward, layers that hold S >= M+B slots are reduced to M (heads that share a budget: on
 * average, pooled.h); full prefill counts as one forward per part of the prompt (context, question).  Streamed prefill
 * runs chunks of C tokens and also reduces before a chunk that would exceed M+B. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/runner.h"

enum { MAX_LAG = 2 };

typedef struct run {
    kv_request req;
    kv_seq seq;
    kv_completion c;
    kv_account account;  /* as of the last result that was taken in */
    double decode_slots; /* sum of slots held over its decode steps */
    int n_decode;        /* decode steps whose result was taken in */
    int n_enqueued;      /* tokens taken in or on their way */
    int n_done;          /* prompt tokens that went through the model */
    int limit;           /* most tokens to generate */
    int limit_is_context;
    int32_t *tokens; /* (limit) */
    kv_top *top;     /* (limit, n_top) */
    int finished;
} run;

/* A sample or step whose results were not fetched yet. */
typedef struct flight {
    run *runs[KV_MAX_BATCH];
    kv_account account[KV_MAX_BATCH]; /* of runs[i] when it was enqueued */
    int n, is_step;
} flight;

typedef struct loop {
    kv_engine *e;
    kv_runner *r;
    const kv_setup *setup;
    const kv_generate_options *o;
    kv_columns columns;
    run **live;  /* (batch) in order of admission */
    char *taken; /* (batch) rows of the runner in use */
    int n_live, drained;
    run ghost;       /* finished: what a flight remembers of a run that is gone */
    flight *flights; /* (MAX_LAG) ring */
    int first_flight, n_flights;
    kv_result *results; /* (batch) */
    kv_generate_stats stats;
    double started_at;
} loop;

double kv_clock(void) {
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

static void run_free(loop *lp, run *r) {
    if (!r) return;
    if (r->seq.device) lp->r->ops->seq_close(lp->r, &r->seq);
    lp->taken[r->seq.row] = 0;
    free(r->tokens);
    free(r->top);
    free(r);
}

static int evicts(const loop *lp) {
    return !lp->setup->policy->never_evicts;
}

/* Builds a run; a prompt that cannot be run makes a finished run with its error.  NULL only without memory. */
static run *run_new(loop *lp, const kv_request *q) {
    run *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->req = *q;
    r->seq = (kv_seq){.columns = &lp->columns, .setup = lp->setup, .request_user = q->user};
    while (lp->taken[r->seq.row]) r->seq.row++;
    lp->taken[r->seq.row] = 1;
    int rc = kv_check_tokens(lp->e, q->prompt, q->n_prompt, &r->c.err);
    if (rc == KV_OK) {
        int room = lp->e->model.info.n_ctx - q->n_prompt;
        r->limit_is_context = room < q->max_new;
        r->limit = r->limit_is_context ? room : q->max_new;
        r->tokens = malloc(((size_t)r->limit + 1) * sizeof *r->tokens);
        r->top = lp->o->n_top ? malloc(((size_t)r->limit + 1) * lp->o->n_top * sizeof *r->top) : NULL;
        if (!r->tokens || (lp->o->n_top && !r->top))
            rc = kv_fail(&r->c.err, KV_ENOMEM, "out of memory for %d generated tokens", r->limit);
    }
    int most = kv_most_slots(lp->setup, &lp->e->model.info.shape, lp->o->chunk, q, r->limit);
    if (rc == KV_OK) rc = lp->r->ops->seq_open(lp->r, &r->seq, &q->sampling, most, &r->c.err);
    if (rc) run_fail(r, rc, &r->c.err);
    return r;
}

static void reduce_runs(loop *lp, run *const *runs, const int *at, int n) {
    kv_seq *seqs[KV_MAX_BATCH];
    int status[KV_MAX_BATCH] = {0}, any = 0;
    if (!evicts(lp)) return;
    for (int i = 0; i < n; i++) {
        seqs[i] = &runs[i]->seq;
        any |= at[i] > 0 && lp->r->ops->slots(lp->r, seqs[i]) >= at[i];
    }
    if (!any) return;
    kv_error *errs = calloc((size_t)n, sizeof *errs);
    if (!errs) {
        for (int i = 0; i < n; i++)
            if (at[i] > 0)
                run_fail(runs[i], kv_fail(&runs[i]->c.err, KV_ENOMEM, "out of memory for an eviction"), NULL);
        return;
    }
    lp->r->ops->reduce(lp->r, seqs, at, n, status, errs, lp->o->trace);
    for (int i = 0; i < n; i++)
        if (status[i]) run_fail(runs[i], status[i], &errs[i]);
    free(errs);
}

/* The trigger after a forward over prompts: every layer at S >= M+B goes to M. */
static void trigger(loop *lp, run *const *runs, int n) {
    int at[KV_MAX_BATCH];
    for (int i = 0; i < n; i++) at[i] = runs[i]->finished ? 0 : lp->setup->budget + lp->setup->buffer;
    reduce_runs(lp, runs, at, n);
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

/* Takes a result into the sequence: the next token, or its end. */
static void accept(loop *lp, run *r, const kv_result *x) {
    kv_stop at_limit = r->limit_is_context ? KV_STOP_CONTEXT : KV_STOP_LENGTH;
    r->c.n_moved = x->n_moved;
    if (x->status) {
        run_fail(r, x->status, &x->err);
        return;
    }
    r->c.logits_hash = x->logits_hash;
    if (x->token < 0) {
        kv_fail(&r->c.err, KV_ENUM, "the model's logits are not finite after %d tokens",
                r->req.n_prompt + r->c.n_tokens);
        run_fail(r, KV_ENUM, NULL);
    } else if (!r->req.ignore_eos && is_stop_id(lp, x->token)) {
        finish(r, KV_STOP_EOS);
    } else if (r->c.n_tokens == r->limit) {
        finish(r, at_limit);
    } else {
        size_t at = (size_t)r->c.n_tokens * lp->o->n_top;
        int rc = r->top ? lp->r->ops->top(lp->r, &r->seq, lp->o->n_top, r->top + at, &r->c.err) : KV_OK;
        if (rc) {
            run_fail(r, rc, NULL);
            return;
        }
        r->tokens[r->c.n_tokens++] = x->token;
        if (lp->o->check_stop && lp->o->check_stop(lp->o->user, &r->req, r->tokens, r->c.n_tokens))
            finish(r, KV_STOP_STRING);
        else if (r->c.n_tokens == r->limit)
            finish(r, at_limit);
    }
}

/* Remembers what was just enqueued for these runs. */
static void remember(loop *lp, run *const *runs, int n, int is_step) {
    flight *f = &lp->flights[(lp->first_flight + lp->n_flights++) % MAX_LAG];
    f->n = n;
    f->is_step = is_step;
    for (int i = 0; i < n; i++) {
        f->runs[i] = runs[i];
        f->account[i] = runs[i]->seq.account;
        runs[i]->n_enqueued++;
    }
}

/* Takes in the results of the oldest flight. */
static int collect(loop *lp, kv_error *err) {
    flight *f = &lp->flights[lp->first_flight];
    int rc = lp->r->ops->fetch(lp->r, lp->results, err);
    lp->first_flight = (lp->first_flight + 1) % MAX_LAG;
    lp->n_flights--;
    if (rc) return rc;
    for (int i = 0; i < f->n; i++) {
        run *r = f->runs[i];
        if (r->finished) continue; /* it ended a step earlier */
        r->account = f->account[i];
        if (f->is_step) {
            r->decode_slots += r->account.held;
            r->n_decode++;
            lp->stats.n_decode_tokens++;
        }
        accept(lp, r, &lp->results[i]);
    }
    return KV_OK;
}

static int collect_all(loop *lp, kv_error *err) {
    int rc = KV_OK;
    while (rc == KV_OK && lp->n_flights) rc = collect(lp, err);
    return rc;
}

static int sample_runs(loop *lp, run *const *runs, int n, kv_error *err) {
    kv_seq *seqs[KV_MAX_BATCH];
    run *ready[KV_MAX_BATCH];
    int m = 0;
    for (int i = 0; i < n; i++) {
        if (runs[i]->finished) continue;
        ready[m] = runs[i];
        seqs[m++] = &runs[i]->seq;
    }
    if (!m) return KV_OK;
    int rc = collect_all(lp, err); /* flights are fetched in order */
    if (rc == KV_OK) rc = lp->r->ops->sample(lp->r, seqs, m, err);
    if (rc == KV_OK) remember(lp, ready, m, 0);
    return rc ? rc : collect_all(lp, err);
}

/* Gives the prefix's state to a fresh run; the caller triggers and samples. */
static void start_from_prefix(loop *lp, run *r) {
    const kv_prefix *p = r->req.prefix;
    double start = kv_clock();
    if (p->seq.n_seen != kv_context_end(&r->req)) {
        kv_fail(&r->c.err, KV_EARG, "the shared prefill covers %d tokens, the request's context %d", p->seq.n_seen,
                kv_context_end(&r->req));
        run_fail(r, KV_EARG, NULL);
        return;
    }
    int rc = lp->r->ops->fork(lp->r, p->runner, &p->seq, &r->seq, &r->c.err);
    if (rc) {
        run_fail(r, rc, NULL);
        return;
    }
    r->n_done = p->seq.n_seen;
    double took = kv_clock() - start;
    r->c.prefill_s = p->seconds + took;
    lp->stats.fork_s += took;
    lp->stats.n_forked_tokens += r->n_done;
}

/* Rows of the next piece of a prompt. */
static int next_piece(const loop *lp, const run *r) {
    int end = r->n_done < kv_context_end(&r->req) ? kv_context_end(&r->req) : r->req.n_prompt;
    int left = end - r->n_done;
    int most = lp->o->chunk ? lp->o->chunk : lp->r->ops->piece_rows(lp->r, r->n_done);
    return left < most ? left : most;
}

/* The runs whose next pieces share a forward; reduces those that a chunk would bring above M+B. */
static int choose_pieces(loop *lp, run **todo, int n_todo, run **runs) {
    int at[KV_MAX_BATCH], n = 0, rows = 0, limit = lp->setup->budget + lp->setup->buffer;
    int most = lp->r->ops->most_rows(lp->r);
    for (int i = 0; i < n_todo && n < KV_MAX_BATCH; i++) {
        int piece = next_piece(lp, todo[i]);
        if (todo[i]->finished || piece == 0) continue;
        if (n && rows + piece > most) break;
        rows += piece;
        at[n] = lp->o->chunk ? (limit - piece + 1 > 1 ? limit - piece + 1 : 1) : 0;
        runs[n++] = todo[i];
    }
    reduce_runs(lp, runs, at, n);
    int m = 0;
    for (int i = 0; i < n; i++)
        if (!runs[i]->finished) runs[m++] = runs[i];
    return n ? (m ? m : -1) : 0;
}

/* One forward over the next pieces of prompts that are not through; 0 when there are none. */
static int prefill_pieces(loop *lp, run **todo, int n_todo, kv_error *err) {
    kv_segment segs[KV_MAX_BATCH];
    run *runs[KV_MAX_BATCH], *ready[KV_MAX_BATCH], *whole[KV_MAX_BATCH]; /* whole: those at which the trigger applies */
    int n_ready = 0, n_whole = 0, rows = 0;
    double start = kv_clock();
    int n = choose_pieces(lp, todo, n_todo, runs);
    if (n <= 0) return n < 0;
    for (int i = 0; i < n; i++) {
        run *r = runs[i];
        int piece = next_piece(lp, r);
        rows += piece;
        segs[i] = (kv_segment){.seq = &r->seq,
                               .tokens = r->req.prompt + r->n_done,
                               .n = piece,
                               .wants_token = r->n_done + piece == r->req.n_prompt,
                               .err = &r->c.err};
    }
    int rc = lp->r->ops->forward(lp->r, segs, n, lp->o->trace, err);
    if (rc) return rc;
    for (int i = 0; i < n; i++) {
        run *r = runs[i];
        if (segs[i].status) {
            run_fail(r, segs[i].status, NULL);
            continue;
        }
        r->n_done += segs[i].n;
        lp->stats.n_prefill_tokens += segs[i].n;
        if (segs[i].wants_token) ready[n_ready++] = r;
        if (lp->o->chunk || r->n_done == kv_context_end(&r->req) || r->n_done == r->req.n_prompt) whole[n_whole++] = r;
    }
    trigger(lp, whole, n_whole);
    if ((rc = sample_runs(lp, ready, n_ready, err))) return rc;
    double took = kv_clock() - start;
    for (int i = 0; i < n; i++) runs[i]->c.prefill_s += took * segs[i].n / rows;
    lp->stats.prefill_s += took;
    return 1;
}

static int interrupted(const loop *lp, kv_error *err) {
    if (lp->o->cancel && *lp->o->cancel) return kv_fail(err, KV_ECANCEL, "interrupted");
    if (lp->o->timeout_s > 0 && kv_clock() - lp->started_at > lp->o->timeout_s)
        return kv_fail(err, KV_ETIMEOUT, "the time limit of %g s is over", lp->o->timeout_s);
    return KV_OK;
}

static int prefill_new(loop *lp, int first, kv_error *err) {
    run **todo = lp->live + first, *ready[KV_MAX_BATCH];
    int n = lp->n_live - first, n_ready = 0, rc;
    for (int i = 0; i < n; i++) {
        run *r = todo[i];
        if (r->finished || !r->req.prefix) continue;
        start_from_prefix(lp, r);
        trigger(lp, &r, 1);
        if (!r->finished && r->n_done == r->req.n_prompt) ready[n_ready++] = r;
    }
    if ((rc = sample_runs(lp, ready, n_ready, err))) return rc;
    do {
        rc = prefill_pieces(lp, todo, n, err);
        int stop = rc > 0 ? interrupted(lp, err) : KV_OK;
        if (stop) return stop;
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
        run *r = run_new(lp, &q);
        if (!r) return kv_fail(err, KV_ENOMEM, "out of memory admitting a sequence");
        lp->live[lp->n_live++] = r;
    }
    return lp->n_live > first ? prefill_new(lp, first, err) : KV_OK;
}

/* Enqueues one decode step of every run that may need another token. */
static int enqueue_step(loop *lp, int *n_run, kv_error *err) {
    run *runs[KV_MAX_BATCH];
    kv_seq *seqs[KV_MAX_BATCH];
    int n = 0;
    for (int i = 0; i < lp->n_live; i++) {
        run *r = lp->live[i];
        if (r->finished || r->n_enqueued >= r->limit) continue;
        runs[n] = r;
        seqs[n++] = &r->seq;
    }
    *n_run = n;
    if (!n) return KV_OK;
    int rc = lp->r->ops->step(lp->r, seqs, n, lp->o->trace, lp->o->profile, err);
    if (rc) return rc;
    remember(lp, runs, n, 1);
    double held = 0;
    for (int i = 0; i < n; i++) held += seqs[i]->account.held / n;
    if (!lp->stats.n_steps++) lp->stats.slots_first = held;
    lp->stats.slots_last = held;
    return KV_OK;
}

static int decode_step(loop *lp, kv_error *err) {
    int n = 0;
    double start = kv_clock();
    int rc = enqueue_step(lp, &n, err);
    while (rc == KV_OK && lp->n_flights > (n ? lp->r->lag : 0)) rc = collect(lp, err);
    if (rc) return rc;
    double took = kv_clock() - start;
    lp->stats.decode_s += took;
    for (int i = 0; i < lp->n_live; i++) lp->live[i]->c.decode_s += took / lp->n_live;
    if (lp->o->progress) lp->o->progress(lp->o->user, lp->n_live, lp->stats.n_decode_tokens);
    return KV_OK;
}

static int in_flight(const loop *lp, const run *r) {
    for (int k = 0; k < lp->n_flights; k++) {
        const flight *f = &lp->flights[(lp->first_flight + k) % MAX_LAG];
        for (int i = 0; i < f->n; i++)
            if (f->runs[i] == r) return 1;
    }
    return 0;
}

/* A run that ended while a later step of it is under way stays in the flight as a ghost: the flight forgets it. */
static void forget(loop *lp, const run *r) {
    for (int k = 0; k < lp->n_flights; k++) {
        flight *f = &lp->flights[(lp->first_flight + k) % MAX_LAG];
        for (int i = 0; i < f->n; i++)
            if (f->runs[i] == r) f->runs[i] = &lp->ghost;
    }
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
        if (in_flight(lp, r)) forget(lp, r);
        kv_completion *c = &r->c;
        c->tokens = r->tokens;
        c->top = r->top;
        c->peak_slots = r->account.peak_slots;
        c->mean_slots = r->n_decode ? r->decode_slots / r->n_decode : r->account.peak_slots;
        c->kv_bytes_peak = r->account.bytes_peak;
        c->n_evictions = r->account.n_evictions;
        c->n_triggers = r->account.n_triggers;
        lp->stats.n_evictions += c->n_evictions;
        lp->stats.n_moved += c->n_moved;
        lp->stats.n_triggers += c->n_triggers;
        rc = lp->o->done(lp->o->user, &r->req, c);
        if (rc) kv_fail(err, rc, "the run was stopped while recording a sample");
        run_free(lp, r);
    }
    lp->n_live = kept;
    return rc;
}

static int run_loop(loop *lp, kv_error *err) {
    for (;;) {
        int rc = admit(lp, err);
        if (rc == KV_OK) rc = retire(lp, err);
        if (rc == KV_OK) rc = interrupted(lp, err);
        if (rc) return rc;
        if (lp->n_live < lp->o->batch && !lp->drained) continue; /* some ended in prefill */
        if (!lp->n_live) return collect_all(lp, err);
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
    if (o->chunk < 0 || o->chunk > KV_MAX_CHUNK)
        return kv_fail(err, KV_EARG, "prefill stream:%d is outside 1..%d", o->chunk, KV_MAX_CHUNK);
    if (!s->policy->never_evicts && o->chunk > s->buffer)
        return kv_fail(err, KV_EARG, "prefill stream:%d needs a buffer of at least %d slots (it is %d)", o->chunk,
                       o->chunk, s->buffer);
    return KV_OK;
}

int kv_runner_open(kv_engine *e, const kv_columns *c, const kv_setup *setup, int max_seqs, kv_runner **out,
                   kv_error *err) {
    kv_runner_open_fn device = e->backend->open_runner;
    return (device ? device : kv_cpu_runner_open)(e, c, setup, max_seqs, out, err);
}

static void read_counts(loop *lp) {
    kv_runner_counts n;
    lp->r->ops->counts(lp->r, &n);
    lp->stats.kv_bytes_peak = n.kv_live_peak;
    lp->stats.kv_live_peak = n.kv_live_peak;
    lp->stats.n_page_allocs = n.n_page_allocs;
    lp->stats.n_launches = n.n_launches;
    lp->stats.n_decode_allocs = n.n_decode_allocs;
    lp->stats.bytes_read = n.bytes_read;
    if (n.decode_s > 0) lp->stats.decode_s = n.decode_s;
}

static int reserve(const loop *lp, kv_error *err) {
    kv_load load;
    if (!lp->o->like) return KV_OK;
    kv_load_of(lp->setup, lp->o, &lp->e->model.info, &load);
    return lp->r->ops->reserve(lp->r, &load, err);
}

int kv_generate_need(kv_engine *e, const kv_setup *s, const kv_generate_options *o, kv_memory *out, kv_error *err) {
    kv_columns columns;
    kv_runner *r = NULL;
    kv_load load;
    int rc = check_options(s, o, err);
    if (rc == KV_OK) rc = kv_columns_init(&columns, s, 1, err);
    if (rc == KV_OK) rc = kv_runner_open(e, &columns, s, 1, &r, err);
    if (rc) return rc;
    memset(out, 0, sizeof *out);
    kv_load_of(s, o, &e->model.info, &load);
    r->ops->need(r, &load, out);
    r->ops->close(r);
    return KV_OK;
}

int kv_generate(kv_engine *e, const kv_setup *s, const kv_generate_options *o, kv_generate_stats *stats,
                kv_error *err) {
    loop lp = {.e = e, .setup = s, .o = o, .started_at = kv_clock()};
    kv_books *books = &e->backend->books;
    int rc = check_options(s, o, err);
    if (rc == KV_OK) rc = kv_columns_init(&lp.columns, s, 1, err);
    if (rc == KV_OK) rc = kv_runner_open(e, &lp.columns, s, o->batch, &lp.r, err);
    if (rc) return rc;
    size_t peak = books->peak; /* the call's own is asked for, too */
    books->peak = books->total;
    lp.ghost.finished = 1;
    lp.live = calloc((size_t)o->batch, sizeof *lp.live);
    lp.taken = calloc((size_t)o->batch, 1);
    lp.flights = calloc(MAX_LAG, sizeof *lp.flights);
    lp.results = calloc((size_t)o->batch, sizeof *lp.results);
    if (!lp.live || !lp.taken || !lp.flights || !lp.results) {
        rc = kv_fail(err, KV_ENOMEM, "out of memory for a batch of %d", o->batch);
    } else {
        if (o->n_top) lp.r->lag = 0; /* logits are read back before the next step overwrites them */
        rc = reserve(&lp, err);
        if (rc == KV_OK) rc = run_loop(&lp, err);
        int late = lp.r->ops->finish(lp.r, rc ? NULL : err);
        if (rc == KV_OK) rc = late;
    }
    kv_engine_memory(e, &lp.stats.memory, NULL);
    if (books->peak < peak) books->peak = peak;
    for (int i = 0; i < lp.n_live; i++) run_free(&lp, lp.live[i]);
    read_counts(&lp);
    if (stats) *stats = lp.stats;
    lp.r->ops->close(lp.r);
    free(lp.live);
    free(lp.taken);
    free(lp.flights);
    free(lp.results);
    return rc;
}
