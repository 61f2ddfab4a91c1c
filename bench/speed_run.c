/* speed_run.c - opens engines, prefills contexts, and walks over the cells so that like is measured beside like.
 *
 * Cells of one context share one forward pass over the prompt, forked by every sequence of every repetition: decoding
 * at 32k costs one prefill, not one per cell.  Before it the prefill of every policy is timed by itself, because what a
 * policy keeps per slot costs time there.  Cells of one batch run in turn, repetition by repetition, so that a slow
 * minute of the machine hits all of them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/record.h"
#include "bench/speed.h"
#include "bench/sweep.h"
#include "engine/file.h"

enum { MAX_SPECS = 16 /* policies that share one forward pass */, WARM_PROMPT = 128, MAX_CELLS = 100000 };

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

/* Ends every cell that still lives. */
static int end_all(kv_speed *x, kv_speed_cell *cells, size_t n, int code, const char *text, kv_error *err) {
    int rc = KV_OK;
    for (size_t i = 0; i < n; i++) {
        if (!alive(&cells[i])) continue;
        int ended = kv_speed_end(x, &cells[i], kv_cell_status(code), code == KV_ECANCEL ? NULL : text, err);
        if (ended) rc = ended;
    }
    return rc;
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
        rc = end_all(x, &cells[i], 1, code, text, err);
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
        int ended = end_all(x, c, 1, rc, why.text, err);
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
    if (rc == KV_OK) rc = end_all(x, cells, n, KV_ECANCEL, NULL, err); /* what an interrupt left */
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

static int open_gpu(kv_speed *x, kv_error *err) {
    int rc = KV_OK;
    if (!x->gpu.open) { /* the ceiling is measured once, in this same process, before anything else is on the device */
        rc = kv_gpu_open(&x->gpu, (int)kv_opts_int(x->o, KV_OPT_DEVICE), err);
        if (rc == KV_OK) rc = kv_gpu_measure(&x->gpu, err);
        if (rc == KV_OK) rc = kv_gpu_store(&x->gpu, x->store, &x->gpu_id, err);
    }
    return rc ? rc : kv_gpu_free_bytes(&x->gpu, &x->free_before, err);
}

/* *why: the engine cannot be opened here and its cells fail, which is no error of the command. */
static int open_engine(kv_speed *x, const kv_speed_spec *s, kv_error *why, kv_error *err) {
    const kv_identity *m = &x->models[s->model];
    kv_session *e = &x->session;
    memset(e, 0, sizeof *e);
    int rc = kv_place_choose(x->o, &m->shape, &e->device, err);
    if (rc == KV_OK && e->device == KV_CUDA) rc = open_gpu(x, err);
    if (rc) return rc;
    rc = kv_session_open_on(m, x->o, e->device, s->numerics, s->threads, &e->engine, why);
    if (rc == KV_EUNSUPPORTED && e->device == KV_CUDA && kv_place_is_free(x->o)) {
        e->device = KV_CPU;
        rc = kv_session_open_on(m, x->o, KV_CPU, s->numerics, s->threads, &e->engine, why);
    }
    if (rc == KV_OK) {
        why->code = KV_OK; /* optional entries of the file that were looked for */
        kv_identity_open_gates(m, &kv_engine_info(e->engine)->shape, &e->gates, &e->gates_err);
    }
    if (rc == KV_OK || rc == KV_ENOMEM || rc == KV_EUNSUPPORTED) return KV_OK;
    return kv_fail(err, rc, "%s", why->text);
}

/* What is known of a row before anything is measured. */
static void start_row(const kv_speed *x, const kv_speed_spec *s, kv_speed_row *r) {
    const kv_build_info *b = kv_buildinfo_get();
    double *const unknown[] = {&r->prefill_tok_s,      &r->prefill_min,    &r->prefill_max,
                               &r->decode_tok_s,       &r->decode_min,     &r->decode_max,
                               &r->ms_per_step,        &r->ms_min,         &r->ms_max,
                               &r->bytes_per_step,     &r->gb_s,           &r->copy_gb_s,
                               &r->copy_share,         &r->datasheet_gb_s, &r->datasheet_share,
                               &r->launches_per_step,  &r->slots_first,    &r->slots_last,
                               &r->peak_slots,         &r->mean_slots,     &r->sm_clock_mhz,
                               &r->mem_clock_mhz,      &r->temp_c,         &r->mem_kv,
                               &r->mem_workspace,      &r->mem_graphs,     &r->mem_sum,
                               &r->device_free_before, &r->device_used,    &r->device_free_after,
                               &r->mem_unaccounted};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) *unknown[i] = NAN;
    kv_file_title(x->models[s->model].model_path, r->model, sizeof r->model);
    snprintf(r->policy, sizeof r->policy, "%s", s->policy->canonical);
    kv_prefill_text(s->chunk, r->prefill);
    snprintf(r->numerics, sizeof r->numerics, "%s", s->numerics == KV_EXACT ? "exact" : "fast");
    snprintf(r->commit, sizeof r->commit, "%.40s%s", b->commit, b->dirty ? "+" : "");
    snprintf(r->cpu, sizeof r->cpu, "%s", x->host.cpu);
    r->budget = s->budget;
    r->buffer = s->buffer;
    r->batch = s->batch;
    r->batch_max = s->batch == 0;
    r->ctx = s->ctx;
    r->max_new = s->max_new;
    r->threads = s->threads ? s->threads : x->host.n_cores;
}

/* What the open engine adds. */
static void describe_engine(const kv_speed *x, kv_speed_row *r) {
    const kv_model_info *info = kv_engine_info(x->session.engine);
    snprintf(r->weights, sizeof r->weights, "%s", info->weights);
    snprintf(r->backend, sizeof r->backend, "%.31s", info->backend);
    snprintf(r->cache_type, sizeof r->cache_type, "%.7s", info->cache_type ? info->cache_type : "");
    r->weight_bytes = (int64_t)info->weight_bytes;
    if (x->session.device != KV_CUDA) return;
    memcpy(r->gpu, x->gpu.name, sizeof r->gpu);
    memcpy(r->driver, x->gpu.driver, sizeof r->driver);
    r->copy_gb_s = x->gpu.copy_gb_s;
    r->datasheet_gb_s = x->gpu.datasheet_gb_s;
}

static int same_engine(const kv_speed_spec *a, const kv_speed_spec *b) {
    return a->model == b->model && a->numerics == b->numerics && a->threads == b->threads;
}

/* Cells of one engine. */
static int run_engine(kv_speed *x, const kv_speed_spec *specs, size_t first, size_t n, kv_error *err) {
    size_t reps = (size_t)kv_opts_int(x->o, KV_OPT_REPS), prefills = (size_t)kv_opts_int(x->o, KV_OPT_PREFILL_REPS);
    size_t most = reps > prefills ? reps : prefills;
    kv_speed_cell *cells = calloc(n, sizeof *cells);
    double *figures = calloc(2 * n * most, sizeof *figures);
    int rc = cells && figures ? KV_OK : kv_fail(err, KV_ENOMEM, "out of memory for %zu cells", n);
    kv_error why = {0};
    if (rc == KV_OK) rc = open_engine(x, &specs[first], &why, err);
    for (size_t i = 0; i < n && rc == KV_OK; i++) {
        cells[i] = (kv_speed_cell){.spec = &specs[first + i],
                                   .row = &x->result->rows[first + i],
                                   .prefill_s = figures + 2 * i * most,
                                   .step_s = figures + (2 * i + 1) * most};
        if (x->session.engine) describe_engine(x, cells[i].row);
    }
    if (rc == KV_OK && !x->session.engine) {
        rc = end_all(x, cells, n, why.code, why.text, err);
        n = 0;
    }
    for (size_t i = 0, size; rc == KV_OK && i < n && !*x->io->cancel; i += size) {
        size = context_end(cells + i, n - i);
        rc = run_context(x, cells + i, size, err);
    }
    kv_session_close(&x->session);
    free(cells);
    free(figures);
    return rc;
}

/* A model that cannot be opened is said before another one is measured for minutes. */
static int load_models(kv_speed *x, const kv_paths *p, size_t n, kv_error *err) {
    int rc = KV_OK;
    x->models = calloc(n, sizeof *x->models);
    if (!x->models) return kv_fail(err, KV_ENOMEM, "out of memory");
    for (size_t i = 0; i < n && rc == KV_OK; i++) {
        rc = kv_identity_resolve(x->o, i, p, &x->models[i], err);
        if (rc == KV_OK) rc = kv_identity_load(&x->models[i], err);
    }
    return rc;
}

static int measure(kv_speed *x, const kv_speed_spec *cells, size_t n, kv_error *err) {
    int rc = KV_OK;
    kv_progress_init(&x->progress, kv_opts_flag(x->o, KV_OPT_QUIET) ? NULL : x->io->err, n,
                     n * (size_t)kv_opts_int(x->o, KV_OPT_REPS));
    if (kv_buildinfo_warning()) kv_progress_note(&x->progress, "note: %s", kv_buildinfo_warning());
    for (size_t i = 0; i < n; i++) start_row(x, &cells[i], &x->result->rows[i]);
    for (size_t first = 0, last; rc == KV_OK && first < n && !*x->io->cancel; first = last) {
        for (last = first; last < n && same_engine(&cells[first], &cells[last]); last++) {
        }
        rc = run_engine(x, cells, first, last - first, err);
    }
    for (size_t i = 0; i < n; i++) {
        kv_speed_row *r = &x->result->rows[i];
        if (r->status[0]) continue;
        snprintf(r->status, sizeof r->status, "interrupted");
        x->result->failed = 1;
    }
    kv_progress_clear(&x->progress);
    return rc;
}

int kv_speed_run(const kv_opts *o, const kv_paths *p, const kv_speed_spec *cells, size_t n, const char *db,
                 const kv_io *io, kv_speed_result *out, kv_error *err) {
    kv_speed x = {.o = o, .io = io, .result = out};
    size_t n_models = kv_opts_n(o, KV_OPT_MODEL) ? kv_opts_n(o, KV_OPT_MODEL) : 1;
    memset(out, 0, sizeof *out);
    if (n == 0 || n > MAX_CELLS) return kv_fail(err, KV_EARG, "%zu cells are outside 1..%d", n, MAX_CELLS);
    out->rows = calloc(n, sizeof *out->rows);
    out->n_rows = n;
    if (!out->rows) return kv_fail(err, KV_ENOMEM, "out of memory for %zu cells", n);
    kv_hostinfo_read(&x.host);
    int rc = load_models(&x, p, n_models, err);
    if (rc == KV_OK) rc = kv_store_open(db, &x.store, err);
    if (rc == KV_OK) rc = kv_record_machine(x.store, &x.host_id, &x.build_id, err);
    if (rc == KV_OK) rc = measure(&x, cells, n, err);
    kv_gpu_close(&x.gpu);
    kv_store_close(x.store);
    for (size_t i = 0; x.models && i < n_models; i++) kv_identity_free(&x.models[i]);
    free(x.models);
    free(x.tokens);
    return rc;
}

void kv_speed_free(kv_speed_result *r) {
    free(r->rows);
    free(r->ops);
    memset(r, 0, sizeof *r);
}
