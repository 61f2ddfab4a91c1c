/* sweep.c - walks a plan group by group; opens an engine only when something is left to do with it. */
#include "bench/sweep.h"

#include <stdlib.h>
#include <string.h>

#include "bench/record.h"

/* Which samples of a cell are missing. */
static int look_up(kv_sweep *s, kv_cell_run *c, kv_error *err) {
    const kv_plan_task *t = &s->plan->tasks[c->plan->task];
    int per_item = s->plan->n_samples;
    int64_t build = kv_opts_flag(s->o, KV_OPT_RESUME_ANY) ? 0 : s->build_id;
    if (!t->items) return KV_OK;
    c->n_total = (size_t)t->n_items * (size_t)per_item;
    c->todo = calloc(c->n_total + 1, 1);
    if (!c->todo) return kv_fail(err, KV_ENOMEM, "out of memory for %zu samples", c->n_total);
    for (int i = 0; i < t->n_items; i++) {
        char id[64];
        int rc = KV_OK;
        kv_task_item_id(kv_items_task(t->items), i, id);
        for (int k = 0, found; k < per_item && rc == KV_OK; k++) {
            rc = kv_store_has_sample(s->store, c->plan->key, build, id, k, &found, err);
            if (rc || found) continue;
            c->todo[(size_t)i * (size_t)per_item + (size_t)k] = 1;
            c->n_todo++;
        }
        if (rc) return rc;
    }
    return KV_OK;
}

int kv_sweep_init(kv_sweep *s, const kv_opts *o, kv_plan *plan, kv_store *store, const kv_io *io, kv_error *err) {
    size_t n_todo = 0;
    memset(s, 0, sizeof *s);
    s->o = o;
    s->io = io;
    s->plan = plan;
    s->store = store;
    s->batch = (int)kv_opts_int(o, KV_OPT_BATCH);
    kv_hostinfo_read(&s->host);
    int rc = kv_record_machine(store, &s->host_id, &s->build_id, err);
    if (rc) return rc;
    s->cells = calloc(plan->n_cells ? plan->n_cells : 1, sizeof *s->cells);
    if (!s->cells) return kv_fail(err, KV_ENOMEM, "out of memory for %zu cells", plan->n_cells);
    for (size_t i = 0; i < plan->n_cells; i++) {
        s->cells[i].plan = &plan->cells[i];
        s->cells[i].index = i;
        if ((rc = look_up(s, &s->cells[i], err))) return rc;
        n_todo += s->cells[i].n_todo;
    }
    kv_progress_init(&s->progress, kv_opts_flag(o, KV_OPT_QUIET) ? NULL : io->err, plan->n_cells, n_todo);
    return KV_OK;
}

static void close_engine(kv_sweep *s) {
    kv_gates_close(s->gates);
    kv_engine_close(s->engine);
    s->gates = NULL;
    s->engine = NULL;
    memset(&s->gates_err, 0, sizeof s->gates_err);
}

void kv_sweep_free(kv_sweep *s) {
    close_engine(s);
    for (size_t i = 0; s->cells && i < s->plan->n_cells; i++) free(s->cells[i].todo);
    free(s->cells);
    kv_gpu_close(&s->gpu);
    kv_progress_clear(&s->progress);
    memset(s, 0, sizeof *s);
}

/* The GPU as a row, and free memory before anything of ours is on it. */
static int open_gpu(kv_sweep *s, kv_error *err) {
    int rc = s->gpu.open ? KV_OK : kv_gpu_open(&s->gpu, (int)kv_opts_int(s->o, KV_OPT_DEVICE), err);
    if (rc == KV_OK && !s->gpu_id) rc = kv_gpu_store(&s->gpu, s->store, &s->gpu_id, err);
    if (rc == KV_OK) rc = kv_gpu_free_bytes(&s->gpu, &s->free_before, err);
    return rc;
}

/* The engine (and gates) for a cell; an engine that is open already is kept when it fits. */
static int open_engine(kv_sweep *s, const kv_plan_cell *c, kv_error *err) {
    int model = s->plan->tasks[c->task].model;
    const kv_identity *m = &s->plan->models[model];
    if (s->engine && s->engine_model == model && s->engine_numerics == c->numerics) return KV_OK;
    close_engine(s);
    int rc = KV_OK;
    if (c->device == KV_CUDA) rc = open_gpu(s, err);
    if (rc == KV_OK)
        rc = kv_session_open_on(m, s->o, c->device, c->numerics, (int)kv_opts_int(s->o, KV_OPT_THREADS), &s->engine,
                                err);
    if (rc) return rc;
    s->engine_model = model;
    s->engine_numerics = c->numerics;
    kv_identity_open_gates(m, &m->shape, &s->gates, &s->gates_err);
    return KV_OK;
}

/* Nothing is left to do, but the last run was cut off after its last sample: says so in the database. */
static int settle(kv_sweep *s, kv_cell_run *c, kv_error *err) {
    const char *key = c->plan->key;
    kv_cell *row = NULL;
    size_t n = 0;
    int rc = kv_store_cells(s->store, &key, 1, &row, &n, err);
    int open_ended = rc == KV_OK && (n == 0 || (strcmp(row->status, "done") != 0 && strcmp(row->status, "error") != 0));
    int all_failed = rc == KV_OK && n && row->n == 0 && row->n_errors > 0;
    free(row);
    if (rc || !open_ended) return rc;
    return all_failed ? kv_cell_record(s, c, "error", "every sample failed", err)
                      : kv_cell_record(s, c, "done", NULL, err);
}

int kv_cell_finish(kv_sweep *s, kv_cell_run *c, kv_error *err) {
    const char *key = c->plan->key;
    kv_cell *row = NULL;
    size_t n = 0;
    char text[320];
    int rc = kv_store_cells(s->store, &key, 1, &row, &n, err);
    if (rc) return rc;
    int all_failed = n && row->n == 0 && row->n_errors > 0;
    free(row);
    if (!all_failed) return kv_cell_end(s, c, "done", NULL, err);
    snprintf(text, sizeof text, "every sample failed: %.250s", c->first_error);
    return kv_cell_end(s, c, "error", text, err);
}

static int run_group(kv_sweep *s, size_t first, size_t last, kv_error *err) {
    const kv_plan_task *t = &s->plan->tasks[s->cells[first].plan->task];
    size_t n_todo = 0;
    kv_error why = {0};
    int rc = KV_OK;
    for (size_t i = first; i < last; i++) n_todo += s->cells[i].n_todo;
    if (n_todo) rc = open_engine(s, s->cells[first].plan, &why);
    for (size_t i = first; i < last; i++) {
        kv_cell_run *c = &s->cells[i];
        int stored = KV_OK;
        if (!t->items)
            stored = kv_cell_record(s, c, "error", t->err.text, err);
        else if (c->n_total == 0)
            stored = kv_cell_record(s, c, "error", "the task has no items", err);
        else if (c->n_todo == 0)
            stored = settle(s, c, err);
        else if (rc)
            stored = kv_cell_record(s, c, kv_cell_status(rc), why.text, err);
        if (stored) return stored;
    }
    return rc || !n_todo ? KV_OK : kv_group_run(s, first, last, err);
}

static void say_saving(kv_sweep *s) {
    const kv_prefill_sum *p = &s->prefill;
    if (!p->saved_tokens) return;
    kv_progress_note(&s->progress,
                     "shared prefill: %lld of %lld prompt tokens computed, %.1f s and %.1f s of copying instead of "
                     "%.1f s",
                     (long long)(p->tokens - p->saved_tokens), (long long)p->tokens, p->seconds, p->fork_s,
                     p->seconds + p->saved_s);
}

int kv_sweep_run(kv_sweep *s, kv_error *err) {
    size_t n = s->plan->n_cells;
    for (size_t first = 0, last; first < n; first = last) {
        for (last = first + 1; last < n && kv_plan_same_group(s->cells[first].plan, s->cells[last].plan); last++) {
        }
        if (*s->io->cancel) return kv_fail(err, KV_ECANCEL, "interrupted");
        int rc = run_group(s, first, last, err);
        if (rc) return rc;
    }
    say_saving(s);
    return KV_OK;
}
