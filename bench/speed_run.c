/* speed_run.c - opens models and engines, makes the rows, and hands the cells of an engine to speed_context.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/record.h"
#include "bench/speed.h"
#include "engine/file.h"

enum { MAX_CELLS = 100000 };

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
    int64_t *const uncounted[] = {&r->kv_bytes_peak, &r->kv_live_peak, &r->weight_bytes,  &r->evictions, &r->moved,
                                  &r->triggers,      &r->page_allocs,  &r->decode_allocs, &r->steps};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) *unknown[i] = NAN;
    for (size_t i = 0; i < sizeof uncounted / sizeof *uncounted; i++) *uncounted[i] = -1;
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
    if (rc == KV_OK && x->session.engine)
        rc = kv_speed_contexts(x, cells, n, err);
    else if (rc == KV_OK)
        rc = kv_speed_end_all(x, cells, n, why.code, why.text, err);
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
