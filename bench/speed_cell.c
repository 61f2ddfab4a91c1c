/* speed_cell.c - the repetitions of one cell: warm-up, timed, profiled.
 *
 * Every sequence of the batch has the same prompt and forks the same forward pass over it; the end-of-text token is
 * ignored and exactly max-new tokens are generated, so that every repetition does the same work.  A cell whose logits
 * differ between repetitions fails: a fast wrong engine must not look good. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/speed.h"
#include "bench/sweep.h"

enum { WARM_UPS_CUDA = 5, WARM_UPS_CPU = 1 };
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

kv_request kv_speed_request(const kv_speed *x, const kv_speed_spec *spec) {
    return (kv_request){.prompt = x->tokens,
                        .n_prompt = spec->ctx,
                        .n_context = spec->ctx,
                        .max_new = spec->max_new,
                        .ignore_eos = 1,
                        .sampling = {.top_p = 1},
                        .prefix = spec->chunk ? NULL : x->prefix};
}

static int next_request(void *user, kv_request *r) {
    call *q = user;
    if (q->next == q->batch) return 0;
    *r = kv_speed_request(q->x, q->spec);
    r->max_new = q->max_new;
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
    const kv_request like = kv_speed_request(x, c->spec);
    *q = (call){.x = x, .spec = c->spec, .batch = batch, .max_new = max_new};
    kv_generate_options o = {.batch = batch,
                             .chunk = c->spec->chunk,
                             .like = &like,
                             .cancel = x->io->cancel,
                             .profile = profile,
                             .next = next_request,
                             .done = on_done,
                             .user = q};
    int rc = kv_generate(x->session.engine, &c->setup, &o, &q->stats, err);
    if (rc && q->err.code) *err = q->err;
    return rc;
}

int kv_speed_try(kv_speed *x, const kv_speed_cell *c, int batch, int max_new, kv_error *err) {
    call q;
    return generate(&q, x, c, batch, max_new, NULL, err);
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

static void note_memory(const kv_speed *x, kv_speed_cell *c, const kv_generate_stats *s) {
    kv_speed_row *r = c->row;
    const kv_memory *m = &s->memory;
    r->weight_bytes = (int64_t)m->weights;
    r->mem_kv = (double)m->kv;
    if (x->session.device == KV_CPU) r->mem_kv += (double)s->kv_live_peak; /* its pool shrinks as sequences end */
    r->mem_workspace = (double)m->workspace;
    r->mem_graphs = (double)m->graphs;
    r->mem_sum = (double)(m->weights + m->workspace + m->graphs) + r->mem_kv;
    if (x->session.device != KV_CUDA) return;
    r->device_free_before = (double)x->free_before;
    r->device_free_after = (double)m->device_free;
    r->device_used = r->device_free_before - r->device_free_after;
    r->mem_unaccounted = r->device_used - r->mem_sum;
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
    note_memory(x, c, &q.stats);
    return rc;
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
