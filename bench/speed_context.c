/* speed_context.c - walks over the cells of one engine, so that like is measured beside like.
 *
 * Cells of one context share one forward pass over the prompt, forked by every sequence of every repetition: decoding
 * at 32k costs one prefill, not one per cell.  Before it the prefill of every policy is timed by itself, because what a
 * policy keeps per slot costs time there.  Cells of one batch run in turn, repetition by repetition, so that a slow
 * minute of the machine hits all of them. */
#include <stdlib.h>
#include <string.h>

#include "bench/speed.h"

enum { MAX_SPECS = 16 /* policies that share one forward pass */, WARM_PROMPT = 128 };

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Random tokens that have a text of their own (control tokens have none); any id without a tokenizer. */
static int make_prompt(kv_speed *x, size_t n, kv_error *err) {
    const kv_tokenizer *t = kv_engine_tokenizer(x->session.engine);
    uint64_t state = (uint64_t)kv_opts_int(x->o, KV_OPT_SEED);
    size_t n_vocab = t ? kv_tokenizer_n_tokens(t) : (size_t)kv_engine_info(x->session.engine)->n_vocab, tries = 0;
    free(x->tokens);
    x->tokens = malloc(n * sizeof *x->tokens);
    if (!x->tokens || !n_vocab) return kv_fail(err, KV_ENOMEM, "out of memory for %zu prompt tokens", n);
    for (size_t i = 0; i < n;) {
        int32_t id = (int32_t)(next_random(&state) % n_vocab);
        char *text = t ? kv_detokenize(t, &id, 1, 1) : NULL;
        if (!t || (text && text[0]) || ++tries > 1000 + n) x->tokens[i++] = id;
        free(text);
    }
    return KV_OK;
}

static int alive(const kv_speed_cell *c) {
    return !c->row->status[0];
}

static void show(kv_speed *x, size_t index, const kv_speed_cell *c, size_t done, size_t total) {
    char label[160];
    snprintf(label, sizeof label, "%.80s ctx %d batch %d", c->spec->policy->canonical, c->spec->ctx,
             (int)c->row->batch);
    kv_progress_cell(&x->progress, index + 1, label, done, total);
    kv_progress_show(&x->progress);
}

static size_t place_of(const kv_speed *x, const kv_speed_cell *c) {
    return (size_t)(c->row - x->result->rows);
}

/* Cells of one context and batch: settle the batch, warm up, then repetition by repetition. */
static int run_round(kv_speed *x, kv_speed_cell *cells, size_t n, kv_error *err) {
    int reps = (int)kv_opts_int(x->o, KV_OPT_REPS), rc = KV_OK;
    for (size_t i = 0; i < n && rc == KV_OK && !*x->io->cancel; i++) {
        kv_speed_cell *c = &cells[i];
        if (!alive(c)) continue;
        show(x, place_of(x, c), c, 0, (size_t)reps);
        if (c->spec->batch == 0) rc = kv_speed_find_batch(x, c, err);
        if (rc == KV_OK && alive(c)) rc = kv_speed_begin(x, c, err);
        if (rc == KV_OK && alive(c)) rc = kv_speed_warm_up(x, c, err);
    }
    for (int rep = 0; rep < reps; rep++)
        for (size_t i = 0; i < n && rc == KV_OK && !*x->io->cancel; i++) {
            kv_speed_cell *c = &cells[i];
            x->progress.all_done++;
            if (!alive(c)) continue;
            show(x, place_of(x, c), c, (size_t)rep, (size_t)reps);
            rc = kv_speed_repeat(x, c, err);
        }
    for (size_t i = 0; i < n && rc == KV_OK && !*x->io->cancel; i++) {
        kv_speed_cell *c = &cells[i];
        if (alive(c) && kv_opts_flag(x->o, KV_OPT_PROFILE) && !x->no_profile) rc = kv_speed_profile(x, c, err);
        if (rc == KV_OK && alive(c)) rc = kv_speed_end(x, c, "done", NULL, err);
    }
    return rc;
}

/* Ends the cells of a policy whose prompt cannot be prefilled. */
static int end_policy(kv_speed *x, kv_speed_cell *cells, size_t n, const kv_policy_spec *policy, int code,
                      const char *text, kv_error *err) {
    int rc = KV_OK;
    for (size_t i = 0; i < n && rc == KV_OK; i++) {
        if (cells[i].spec->policy != policy || cells[i].spec->chunk) continue;
        cells[i].n_timed = 0;
        rc = kv_speed_end_all(x, &cells[i], 1, code, text, err);
    }
    return rc;
}

/* Times the prefill of each policy by itself; `timed` holds reps rows for every cell, used by the first of a policy. */
static int time_prefills(kv_speed *x, kv_speed_cell *cells, size_t n, kv_timing_row *timed, kv_error *err) {
    int reps = (int)kv_opts_int(x->o, KV_OPT_PREFILL_REPS), ctx = cells[0].spec->ctx, rc = KV_OK;
    for (int rep = -1; rep < reps; rep++) /* one short prompt first, for what a first forward sets up */
        for (size_t i = 0; i < n && !*x->io->cancel && rc == KV_OK; i++) {
            kv_speed_cell *c = &cells[i], *first = cells;
            kv_prefix *p = NULL;
            kv_error why = {0};
            double seconds = 0;
            if (!alive(c) || c->spec->chunk || reps == 0) continue;
            while (!alive(first) || first->spec->chunk || first->spec->policy != c->spec->policy) first++;
            kv_timing_row *rows = timed + (size_t)(first - cells) * (size_t)reps;
            c->prefill = rows;
            c->n_timed = rep + 1;
            if (first != c) continue;
            show(x, place_of(x, c), c, 0, (size_t)reps);
            rc = kv_prefix_create(x->session.engine, &c->setup, 1, x->tokens,
                                  rep < 0 && ctx > WARM_PROMPT ? WARM_PROMPT : ctx, &p, &seconds, &why);
            if (rc) {
                rc = end_policy(x, cells, n, c->spec->policy, rc, why.text, err);
                continue;
            }
            kv_prefix_free(p);
            if (rep < 0) continue;
            rows[rep] =
                (kv_timing_row){.phase = "prefill", .rep = rep, .batch = 1, .n_tokens = ctx, .seconds = seconds};
            if (x->session.device == KV_CUDA) kv_gpu_sample(&x->gpu, &rows[rep]);
        }
    return rc;
}

/* The forward pass that the cells fork; without memory for it they fail. */
static int make_prefix(kv_speed *x, kv_speed_cell *cells, size_t n, kv_error *err) {
    kv_setup *setups = malloc(n * sizeof *setups);
    kv_error why = {0};
    int n_setups = 0, rc;
    if (!setups) return kv_fail(err, KV_ENOMEM, "out of memory for %zu cells", n);
    for (size_t i = 0; i < n; i++)
        if (alive(&cells[i]) && !cells[i].spec->chunk) setups[n_setups++] = cells[i].setup;
    rc = n_setups ? kv_prefix_create(x->session.engine, setups, n_setups, x->tokens, cells[0].spec->ctx, &x->prefix,
                                     NULL, &why)
                  : KV_OK;
    free(setups);
    if (rc == KV_OK) return KV_OK;
    x->prefix = NULL;
    for (size_t i = 0; i < n; i++) {
        kv_speed_cell *c = &cells[i];
        if (c->spec->chunk) continue;
        int ended = kv_speed_end_all(x, c, 1, rc, why.text, err);
        if (ended) return ended;
    }
    return KV_OK;
}

static int open_setups(kv_speed *x, kv_speed_cell *cells, size_t n, kv_error *err) {
    const kv_model_info *info = kv_engine_info(x->session.engine);
    int rc = KV_OK;
    for (size_t i = 0; i < n && rc == KV_OK; i++) {
        kv_speed_cell *c = &cells[i];
        kv_error why = {0};
        const kv_setup_args args = {.spec = c->spec->policy,
                                    .budget = c->spec->budget,
                                    .buffer = c->spec->buffer,
                                    .chunk = c->spec->chunk,
                                    .seed = kv_opts_int(x->o, KV_OPT_SEED),
                                    .info = info,
                                    .gates = x->session.gates,
                                    .gates_err = &x->session.gates_err};
        if (c->spec->ctx + c->spec->max_new > info->n_ctx)
            rc = kv_speed_end(x, c, "error", "ctx + max-new is more than the model's context", err);
        else if (kv_setup_open(&args, &c->setup, &why))
            rc = kv_speed_end(x, c, "error", why.text, err);
        else
            snprintf(c->row->score_path, sizeof c->row->score_path, "%s",
                     kv_engine_score_path(x->session.engine, &c->setup));
    }
    return rc;
}

/* Cells of one context with at most MAX_SPECS policies. */
static int run_context(kv_speed *x, kv_speed_cell *cells, size_t n, kv_error *err) {
    size_t reps = (size_t)kv_opts_int(x->o, KV_OPT_PREFILL_REPS);
    kv_timing_row *timed = calloc(n * (reps ? reps : 1), sizeof *timed);
    int rc = timed ? make_prompt(x, (size_t)cells[0].spec->ctx, err) : kv_fail(err, KV_ENOMEM, "out of memory");
    if (rc == KV_OK) rc = open_setups(x, cells, n, err);
    if (rc == KV_OK) rc = time_prefills(x, cells, n, timed, err);
    if (rc == KV_OK && !*x->io->cancel) rc = make_prefix(x, cells, n, err);
    for (size_t i = 0, end; rc == KV_OK && i < n && !*x->io->cancel; i = end) {
        for (end = i; end < n && cells[end].spec->batch == cells[i].spec->batch; end++) {
        }
        rc = run_round(x, cells + i, end - i, err);
    }
    if (rc == KV_OK) rc = kv_speed_end_all(x, cells, n, KV_ECANCEL, NULL, err); /* what an interrupt left */
    kv_prefix_free(x->prefix);
    x->prefix = NULL;
    for (size_t i = 0; i < n; i++) {
        kv_setup_close(&cells[i].setup);
        cells[i].prefill = NULL;
    }
    free(timed);
    return rc;
}

/* How many cells from the first on have its context, and few enough policies. */
static size_t context_end(const kv_speed_cell *cells, size_t n) {
    const kv_policy_spec *seen[MAX_SPECS];
    size_t n_seen = 0, end;
    for (end = 0; end < n && cells[end].spec->ctx == cells[0].spec->ctx; end++) {
        size_t k = 0;
        while (k < n_seen && seen[k] != cells[end].spec->policy) k++;
        if (k == MAX_SPECS) break;
        if (k == n_seen) seen[n_seen++] = cells[end].spec->policy;
    }
    return end;
}

int kv_speed_contexts(kv_speed *x, kv_speed_cell *cells, size_t n, kv_error *err) {
    int rc = KV_OK;
    for (size_t i = 0, size; rc == KV_OK && i < n && !*x->io->cancel; i += size) {
        size = context_end(cells + i, n - i);
        rc = run_context(x, cells + i, size, err);
    }
    return rc;
}
