/* run_cell.c - one cell over a range of items: prompts in, samples graded and committed the moment they finish. */
#include "bench/sweep.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/sampling.h"
#include "bench/stop_text.h"

typedef struct job {
    int item, k;
    const kv_prompt *prompt;
    int shared; /* its prefix was there */
} job;

typedef struct call {
    kv_sweep *s;
    kv_cell_run *c;
    const kv_plan_task *task;
    const kv_shared *shared;
    job *jobs;
    size_t n_jobs, next;
    double started;
    kv_error err; /* of a callback */
    int fatal;    /* the error is the database's, not the cell's */
    const char *const *stop;
} call;

static const kv_prefix *prefix_of(const kv_shared *sh, int item) {
    return sh && item >= sh->at && item < sh->at + sh->n ? sh->prefix[item - sh->at] : NULL;
}

static int next_request(void *user, kv_request *r) {
    call *x = user;
    if (x->next == x->n_jobs) return 0;
    job *j = &x->jobs[x->next++];
    int rc = kv_items_render(x->task->items, j->item, &j->prompt, &x->err);
    if (rc) return rc;
    *r = (kv_request){
        .prompt = j->prompt->ids,
        .n_prompt = j->prompt->n,
        .n_context = x->c->plan->query_before ? j->prompt->n : j->prompt->n_context,
        .max_new = x->c->plan->max_new,
        .sampling = x->task->sampling,
        .prefix = prefix_of(x->shared, j->item),
        .user = j,
    };
    r->sampling.seed = kv_sampling_seed(x->task->seed, j->prompt->item.id, j->k);
    j->shared = r->prefix != NULL;
    return 1;
}

/* Failures that would be the same next time belong to the sample; others (memory) end the cell. */
static int is_the_samples_own(int code) {
    return code == KV_ELIMIT || code == KV_ENUM || code == KV_EARG;
}

static int store(call *x, const job *j, const kv_completion *c, const char *output, const kv_grade *g) {
    char hash[24];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)c->logits_hash);
    kv_sample_row r = {
        .item = j->prompt->item.id,
        .k = j->k,
        .prompt_sha256 = j->prompt->sha256,
        .prompt_tokens = j->prompt->n,
        .first_ids = j->prompt->first_ids,
        .tokens = c->tokens,
        .n_tokens = c->n_tokens,
        .stop = kv_stop_name(c->stop),
        .output = output,
        .extracted = g->extracted,
        .gold = j->prompt->item.gold,
        .score = g->score,
        .partial = g->partial,
        .answered = g->answered,
        .strict = g->score,
        .compat = g->compat,
        .rule = g->rule,
        .reason = g->reason,
        .prefill_s = c->prefill_s,
        .decode_s = c->decode_s,
        .peak_slots = c->peak_slots,
        .mean_slots = c->mean_slots,
        .kv_bytes_peak = (int64_t)c->kv_bytes_peak,
        .n_evictions = c->n_evictions,
        .n_moved = c->n_moved,
        .prefill_shared = j->shared,
        .logits_hash = hash,
        .status = c->status ? "error" : "ok",
        .error = c->status ? c->err.text : NULL,
    };
    int rc = kv_store_sample(x->s->store, x->c->run_id, &r, &x->err);
    x->fatal |= rc != KV_OK;
    return rc;
}

static int on_done(void *user, const kv_request *r, const kv_completion *c) {
    call *x = user;
    const job *j = r->user;
    kv_grade g = {0};
    char *output;
    if (c->status && !is_the_samples_own(c->status)) return kv_fail(&x->err, c->status, "%s", c->err.text);
    output = kv_detokenize(x->s->plan->models[x->task->model].tokenizer, c->tokens, (size_t)c->n_tokens, 1);
    if (!output) return kv_fail(&x->err, KV_ENOMEM, "item %s: out of memory for the output", j->prompt->item.id);
    kv_stop_cut(output, x->stop);
    if (!c->status) kv_task_grade(kv_items_task(x->task->items), &j->prompt->item, output, &g);
    int rc = store(x, j, c, output, &g);
    free(output);
    if (rc) return rc;
    kv_cell_run *cell = x->c;
    cell->todo[(size_t)j->item * (size_t)x->s->plan->n_samples + (size_t)j->k] = 0;
    cell->n_todo--;
    if (!c->status) {
        cell->score_sum += g.score;
        cell->n_scored++;
    } else if (!cell->first_error[0]) {
        snprintf(cell->first_error, sizeof cell->first_error, "%.255s", c->err.text);
    }
    x->s->progress.cell_done++;
    x->s->progress.all_done++;
    x->s->progress.score_sum = cell->score_sum;
    x->s->progress.n_scored = cell->n_scored;
    kv_progress_show(&x->s->progress);
    return KV_OK;
}

static int on_token(void *user, const kv_request *r, const int32_t *tokens, int n) {
    const call *x = user;
    (void)r;
    return kv_stop_reached(x->s->plan->models[x->task->model].tokenizer, x->stop, tokens, n);
}

static void on_progress(void *user, int n_live, int64_t n_decoded) {
    call *x = user;
    double seconds = kv_host_clock() - x->started;
    (void)n_live;
    x->s->progress.tok_s = seconds > 0 ? (double)n_decoded / seconds : 0;
    kv_progress_show(&x->s->progress);
}

static int list_jobs(call *x, int at, int end) {
    int n_samples = x->s->plan->n_samples;
    x->jobs = calloc((size_t)(end - at) * (size_t)n_samples + 1, sizeof *x->jobs);
    if (!x->jobs) return KV_ENOMEM;
    for (int i = at; i < end; i++)
        for (int k = 0; k < n_samples; k++)
            if (x->c->todo[(size_t)i * (size_t)n_samples + (size_t)k]) x->jobs[x->n_jobs++] = (job){.item = i, .k = k};
    return KV_OK;
}

/* What the call's prompts cost, and what they would have cost without forwards that others had made before. */
static kv_prefill_sum sum_prefill(const call *x, const kv_generate_stats *st) {
    kv_prefill_sum sum = {.tokens = st->n_prefill_tokens, .seconds = st->prefill_s, .fork_s = st->fork_s};
    for (size_t i = 0; i < x->next; i++) {
        const job *j = &x->jobs[i];
        if (!j->shared) continue;
        int at = j->item - x->shared->at, n = x->c->plan->query_before ? j->prompt->n : j->prompt->n_context;
        sum.tokens += n;
        if (x->shared->used[at]) {
            sum.saved_tokens += n;
            sum.saved_s += x->shared->seconds[at];
        } else {
            sum.seconds += x->shared->seconds[at];
        }
        x->shared->used[at] = 1;
    }
    return sum;
}

/* Timing rows of what was copied, and of forwards that were not made; adds them to the sweep's. */
static int store_saving(call *x, const kv_generate_stats *st, kv_timing_row row, kv_error *err) {
    kv_prefill_sum sum = sum_prefill(x, st), *all = &x->s->prefill;
    all->tokens += sum.tokens;
    all->saved_tokens += sum.saved_tokens;
    all->seconds += sum.seconds;
    all->saved_s += sum.saved_s;
    all->fork_s += sum.fork_s;
    if (!st->n_forked_tokens) return KV_OK;
    row.phase = "fork";
    row.n_tokens = st->n_forked_tokens;
    row.seconds = st->fork_s;
    int rc = kv_store_timing(x->s->store, x->c->run_id, &row, err);
    if (rc || !sum.saved_tokens) return rc;
    row.phase = "prefill_saved";
    row.n_tokens = sum.saved_tokens;
    row.seconds = sum.saved_s;
    return kv_store_timing(x->s->store, x->c->run_id, &row, err);
}

/* Adds a call's figures, and the shared forwards it used, to the cell; writes the timing rows. */
static int account(call *x, const kv_generate_stats *st, kv_error *err) {
    kv_cell_run *c = x->c;
    kv_generate_stats *sum = &c->sum;
    int64_t prefill_tokens = st->n_prefill_tokens;
    double prefill_s = st->prefill_s;
    for (size_t i = 0; i < x->next; i++) {
        const job *j = &x->jobs[i];
        if (!j->shared || j->k) continue; /* the samples of one item use one forward */
        prefill_tokens += c->plan->query_before ? j->prompt->n : j->prompt->n_context;
        prefill_s += x->shared->seconds[j->item - x->shared->at];
    }
    sum->n_prefill_tokens += prefill_tokens;
    sum->prefill_s += prefill_s;
    sum->n_decode_tokens += st->n_decode_tokens;
    sum->decode_s += st->decode_s;
    sum->n_steps += st->n_steps;
    sum->bytes_read += st->bytes_read;
    sum->n_evictions += st->n_evictions;
    sum->n_moved += st->n_moved;
    sum->n_page_allocs += st->n_page_allocs;
    sum->n_triggers += st->n_triggers;
    sum->n_launches += st->n_launches;
    sum->n_decode_allocs += st->n_decode_allocs;
    if (st->kv_bytes_peak > sum->kv_bytes_peak) sum->kv_bytes_peak = st->kv_bytes_peak;
    sum->memory = st->memory;
    kv_timing_row decode = {.phase = "decode",
                            .rep = c->n_calls,
                            .batch = x->s->batch,
                            .n_tokens = st->n_decode_tokens,
                            .seconds = st->decode_s,
                            .live_first = (int)(st->slots_first + 0.5),
                            .live_last = (int)(st->slots_last + 0.5)};
    if (c->plan->device == KV_CUDA) kv_gpu_sample(&x->s->gpu, &decode);
    kv_timing_row prefill = decode;
    prefill.phase = "prefill";
    prefill.n_tokens = prefill_tokens;
    prefill.seconds = prefill_s;
    prefill.live_first = prefill.live_last = 0;
    c->n_calls++;
    int rc = kv_store_timing(x->s->store, c->run_id, &prefill, err);
    if (rc == KV_OK) rc = kv_store_timing(x->s->store, c->run_id, &decode, err);
    return rc ? rc : store_saving(x, st, prefill, err);
}

static int generate(call *x, kv_error *err) {
    kv_sweep *s = x->s;
    const kv_identity *m = &s->plan->models[x->task->model];
    double timeout = kv_opts_real(s->o, KV_OPT_TIMEOUT);
    int32_t stop_ids[16];
    kv_generate_stats st = {0};
    int n_stop = kv_chat_stop_ids(m->chat, m->tokenizer, stop_ids, 15);
    n_stop = kv_generation_add_stops(&m->generation, stop_ids, n_stop, 16);
    kv_generate_options o = {.batch = s->batch,
                             .chunk = x->c->plan->chunk,
                             .stop_ids = stop_ids,
                             .n_stop_ids = n_stop,
                             .cancel = s->io->cancel,
                             .next = next_request,
                             .done = on_done,
                             .check_stop = x->stop[0] ? on_token : NULL,
                             .progress = on_progress,
                             .user = x};
    if (timeout > 0) {
        o.timeout_s = timeout - x->c->spent_s;
        if (o.timeout_s <= 0) return kv_fail(&x->err, KV_ETIMEOUT, "the time limit of %g s is over", timeout);
    }
    x->started = kv_host_clock();
    int rc = kv_generate(s->engine, &x->c->setup, &o, &st, err);
    x->c->spent_s += kv_host_clock() - x->started;
    if (rc && !x->err.code) x->err = *err;
    if (x->fatal) return rc;
    int stored = account(x, &st, err);
    x->fatal = stored != KV_OK;
    if (stored) x->err = *err;
    return stored ? stored : rc;
}

int kv_cell_run_items(kv_sweep *s, kv_cell_run *c, int at, int end, const kv_shared *shared, kv_error *err) {
    call x = {.s = s, .c = c, .task = &s->plan->tasks[c->plan->task], .shared = shared};
    char label[KV_LABEL_MAX];
    x.stop = kv_items_info(x.task->items)->stop;
    int rc = list_jobs(&x, at, end);
    if (rc) kv_fail(&x.err, rc, "out of memory for %d items", end - at);
    if (rc == KV_OK && x.n_jobs) {
        kv_cell_label(s, c, label, sizeof label);
        s->progress.score_sum = c->score_sum;
        s->progress.n_scored = c->n_scored;
        kv_progress_cell(&s->progress, c->index + 1, label, c->n_total - c->n_todo, c->n_total);
        rc = generate(&x, err);
    }
    free(x.jobs);
    if (rc == KV_OK) return KV_OK;
    if (x.fatal) return kv_fail(err, x.err.code, "%s", x.err.text);
    int ended = kv_cell_end(s, c, kv_cell_status(rc), rc == KV_ECANCEL ? NULL : x.err.text, err);
    if (ended) return ended;
    return rc == KV_ECANCEL ? kv_fail(err, rc, "interrupted") : KV_OK;
}
