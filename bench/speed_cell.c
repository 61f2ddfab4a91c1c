/* speed_cell.c - the repetitions of one cell: warm-up, timed, profiled; and the largest batch that fits.
 *
 * Every sequence of the batch has the same prompt and forks the same forward pass over it; the end-of-text token is
 * ignored and exactly max-new tokens are generated, so that every repetition does the same work.  A cell whose logits
 * differ between repetitions fails: a fast wrong engine must not look good. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/speed.h"
#include "bench/sweep.h"

enum { WARM_UPS_CUDA = 5, WARM_UPS_CPU = 1, TRIAL_TOKENS = 2 };
static const double stable = 0.02;

typedef struct call {
    kv_speed *x;
    const kv_speed_spec *spec;
    int batch, max_new, next;
    uint64_t hash;
    double peak_slots, mean_slots;
    kv_generate_stats stats;
    kv_error err; /* of a sequence */
} call;

static int next_request(void *user, kv_request *r) {
    call *q = user;
    if (q->next == q->batch) return 0;
    *r = (kv_request){.prompt = q->x->tokens,
                      .n_prompt = q->spec->ctx,
                      .n_context = q->spec->ctx,
                      .max_new = q->max_new,
                      .ignore_eos = 1,
                      .sampling = {.top_p = 1},
                      .prefix = q->spec->chunk ? NULL : q->x->prefix};
    q->next++;
    return 1;
}

static int on_done(void *user, const kv_request *r, const kv_completion *c) {
    call *q = user;
    (void)r;
    if (c->status) return kv_fail(&q->err, c->status, "%s", c->err.text);
    q->hash += c->logits_hash;
    if (c->peak_slots > q->peak_slots) q->peak_slots = c->peak_slots;
    q->mean_slots += c->mean_slots / q->batch;
    return KV_OK;
}

static int generate(call *q, kv_speed *x, const kv_speed_cell *c, int batch, int max_new, kv_profile *profile,
                    kv_error *err) {
    *q = (call){.x = x, .spec = c->spec, .batch = batch, .max_new = max_new};
    kv_generate_options o = {.batch = batch,
                             .chunk = c->spec->chunk,
                             .cancel = x->io->cancel,
                             .profile = profile,
                             .next = next_request,
                             .done = on_done,
                             .user = q};
    int rc = kv_generate(x->session.engine, &c->setup, &o, &q->stats, err);
    if (rc && q->err.code) *err = q->err;
    return rc;
}

static double step_seconds(const call *q) {
    return q->stats.n_steps > 0 ? q->stats.decode_s / (double)q->stats.n_steps : NAN;
}

/* One repetition; a failure ends the cell, and *went says whether there was none. */
static int take(kv_speed *x, kv_speed_cell *c, kv_profile *profile, call *q, int *went, kv_error *err) {
    kv_error why = {0};
    int rc = generate(q, x, c, (int)c->row->batch, c->spec->max_new, profile, &why);
    *went = 0;
    if (rc) return kv_speed_end(x, c, kv_cell_status(rc), rc == KV_ECANCEL ? NULL : why.text, err);
    if (c->hashed && q->hash != c->hash)
        return kv_speed_end(x, c, "error", "the logits differ between repetitions", err);
    c->hashed = 1;
    c->hash = q->hash;
    *went = 1;
    return KV_OK;
}

int kv_speed_warm_up(kv_speed *x, kv_speed_cell *c, kv_error *err) {
    int most = x->session.device == KV_CUDA ? WARM_UPS_CUDA : WARM_UPS_CPU;
    double last = NAN;
    if (kv_opts_given(x->o, KV_OPT_WARMUP)) most = (int)kv_opts_int(x->o, KV_OPT_WARMUP);
    for (int i = 0; i < most; i++) {
        call q;
        int went, rc = take(x, c, NULL, &q, &went, err);
        if (rc || !went) return rc;
        double now = step_seconds(&q);
        c->row->warmups++;
        if (isnan(now) || fabs(now - last) < stable * now) break;
        last = now;
    }
    return KV_OK;
}

static int note_memory(kv_speed *x, kv_speed_cell *c, kv_error *err) {
    kv_speed_row *r = c->row;
    kv_memory m;
    kv_error why = {0};
    int rc = kv_engine_memory(x->session.engine, &m, &why);
    if (rc) return kv_speed_end(x, c, kv_cell_status(rc), why.text, err);
    r->weight_bytes = (int64_t)m.weights;
    r->mem_kv = (double)m.kv;
    r->mem_workspace = (double)m.workspace;
    r->mem_graphs = (double)m.graphs;
    r->mem_sum = (double)(m.weights + m.kv + m.workspace + m.graphs);
    if (x->session.device != KV_CUDA) return KV_OK;
    r->device_free_before = (double)x->free_before;
    r->device_free_after = (double)m.device_free;
    r->device_used = r->device_free_before - r->device_free_after;
    r->mem_unaccounted = r->device_used - r->mem_sum;
    return KV_OK;
}

/* The exact figures, which are the same in every repetition. */
static void note_counts(kv_speed_cell *c, const call *q) {
    kv_speed_row *r = c->row;
    const kv_generate_stats *s = &q->stats;
    r->steps = s->n_steps;
    r->kv_bytes_peak = (int64_t)s->kv_bytes_peak;
    r->kv_live_peak = (int64_t)s->kv_live_peak;
    r->evictions = s->n_evictions;
    r->moved = s->n_moved;
    r->triggers = s->n_triggers;
    r->page_allocs = s->n_page_allocs;
    r->decode_allocs = s->n_decode_allocs;
    r->slots_first = s->slots_first;
    r->slots_last = s->slots_last;
    r->peak_slots = q->peak_slots;
    r->mean_slots = q->mean_slots;
    r->bytes_per_step = s->n_steps ? (double)s->bytes_read / (double)s->n_steps : NAN;
    r->launches_per_step = s->n_steps && s->n_launches ? (double)s->n_launches / (double)s->n_steps : NAN;
    snprintf(r->logits_hash, sizeof r->logits_hash, "%016llx", (unsigned long long)q->hash);
}

int kv_speed_repeat(kv_speed *x, kv_speed_cell *c, kv_error *err) {
    call q;
    int went, rc = take(x, c, NULL, &q, &went, err);
    if (rc || !went) return rc;
    int rep = c->n_reps;
    c->step_s[c->n_reps++] = step_seconds(&q);
    note_counts(c, &q);
    kv_timing_row t = {.phase = "decode",
                       .rep = rep,
                       .batch = (int)c->row->batch,
                       .ctx = c->spec->ctx,
                       .n_tokens = q.stats.n_decode_tokens,
                       .seconds = q.stats.decode_s,
                       .live_first = (int)lround(q.stats.slots_first),
                       .live_last = (int)lround(q.stats.slots_last)};
    rc = kv_speed_time(x, c, &t, err);
    if (rc == KV_OK && c->spec->chunk && q.stats.n_prefill_tokens > 0) {
        c->prefill_s[c->n_prefill++] = q.stats.prefill_s * c->spec->ctx / (double)q.stats.n_prefill_tokens;
        t = (kv_timing_row){.phase = "prefill",
                            .rep = rep,
                            .batch = (int)c->row->batch,
                            .n_tokens = q.stats.n_prefill_tokens,
                            .seconds = q.stats.prefill_s};
        rc = kv_speed_time(x, c, &t, err);
    }
    return rc ? rc : note_memory(x, c, err);
}

int kv_speed_profile(kv_speed *x, kv_speed_cell *c, kv_error *err) {
    kv_speed_result *out = x->result;
    const kv_speed_row *r = c->row;
    kv_profile *p = calloc(1, sizeof *p);
    kv_speed_op *ops = realloc(out->ops, (out->n_ops + KV_PROFILE_ROWS) * sizeof *ops);
    kv_error why = {0};
    call q;
    if (ops) out->ops = ops;
    int rc = p && ops ? generate(&q, x, c, (int)r->batch, c->spec->max_new, p, &why)
                      : kv_fail(&why, KV_ENOMEM, "out of memory for the profile");
    if (rc && !x->no_profile) {
        kv_progress_clear(&x->progress);
        fprintf(x->io->err, "--profile: %s\n", why.text);
        x->no_profile = rc == KV_EUNSUPPORTED;
    }
    for (int i = 0; rc == KV_OK && i < p->n && p->n_steps > 0; i++) {
        const kv_profile_row *k = &p->rows[i];
        kv_speed_op *op = &ops[out->n_ops++];
        *op = (kv_speed_op){.budget = r->budget, .buffer = r->buffer, .ctx = r->ctx, .batch = r->batch};
        memcpy(op->policy, r->policy, sizeof op->policy);
        memcpy(op->op, k->name, sizeof op->op);
        op->calls_per_step = (double)k->calls / (double)p->n_steps;
        op->us_per_step = 1e6 * k->seconds / (double)p->n_steps;
        op->gb_s = k->seconds > 0 ? k->bytes / k->seconds / 1e9 : NAN;
        op->copy_share = op->gb_s / x->gpu.copy_gb_s;
    }
    free(p);
    return rc == KV_ECANCEL ? kv_speed_end(x, c, "interrupted", NULL, err) : KV_OK;
}

/* 1 = fits, 0 = does not, negative = another failure. */
static int fits(kv_speed *x, const kv_speed_cell *c, int batch, int max_new, kv_error *why) {
    call q;
    int rc = generate(&q, x, c, batch, max_new, NULL, why);
    return rc == KV_OK ? 1 : rc == KV_ENOMEM ? 0 : rc;
}

/* Largest batch in [low, high) that fits; low is known to (0: nothing is known), high not to. */
static int bisect(kv_speed *x, const kv_speed_cell *c, int low, int high, int max_new, kv_error *why) {
    while (high - low > 1) {
        int middle = low + (high - low) / 2, rc = fits(x, c, middle, max_new, why);
        if (rc < 0) return rc;
        if (rc)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Doubling, then bisection, with short trials: an evicting cell holds the most after B + 1 steps at the latest.  A full
 * cache goes on growing, so the answer is tried at full length, and searched again below it if need be. */
static int largest(kv_speed *x, const kv_speed_cell *c, kv_error *why) {
    int trial = c->spec->policy->policy->never_evicts ? TRIAL_TOKENS : c->spec->buffer + TRIAL_TOKENS;
    int low = 0, high = 1, rc = 1;
    if (trial > c->spec->max_new) trial = c->spec->max_new;
    while (high <= KV_MAX_BATCH && (rc = fits(x, c, high, trial, why)) > 0) {
        low = high;
        high *= 2;
    }
    if (rc < 0) return rc;
    low = bisect(x, c, low, high > KV_MAX_BATCH ? KV_MAX_BATCH + 1 : high, trial, why);
    if (low <= 0 || trial == c->spec->max_new) return low;
    rc = fits(x, c, low, c->spec->max_new, why);
    return rc < 0 ? rc : rc ? low : bisect(x, c, 0, low, c->spec->max_new, why);
}

int kv_speed_find_batch(kv_speed *x, kv_speed_cell *c, kv_error *err) {
    kv_error why = {0};
    if (x->session.device != KV_CUDA)
        return kv_speed_end(x, c, "error", "--batch max fills a GPU's memory; on the CPU give a number", err);
    int n = largest(x, c, &why);
    if (n > 0)
        c->row->batch = n;
    else
        return kv_speed_end(x, c, n == 0 ? "oom" : kv_cell_status(n), why.text, err);
    return KV_OK;
}
