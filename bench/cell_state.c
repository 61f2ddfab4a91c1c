/* cell_state.c - a cell's life in the database: begun, ended, failed before it began. */
#include "bench/sweep.h"

#include <stdlib.h>
#include <string.h>

#include "bench/record.h"

const char *kv_cell_status(int code) {
    switch (code) {
    case KV_OK:
        return "done";
    case KV_ENOMEM:
        return "oom";
    case KV_ETIMEOUT:
        return "timeout";
    case KV_ECANCEL:
        return "interrupted";
    default:
        return "error";
    }
}

void kv_cell_label(const kv_sweep *s, const kv_cell_run *c, char *out, size_t size) {
    const kv_plan_task *t = &s->plan->tasks[c->plan->task];
    const char *variant = t->items ? kv_items_info(t->items)->variant : t->variant;
    char prefill[24], slots[48] = "", wording[48] = "";
    kv_prefill_text(c->plan->chunk, prefill);
    if (variant[0]) snprintf(wording, sizeof wording, " (%s)", variant); /* unknown where a task could not be opened */
    if (c->plan->budget) snprintf(slots, sizeof slots, " M=%d B=%d", c->plan->budget, c->plan->buffer);
    snprintf(out, size, "%s%s %s%s %s %s", t->items ? kv_items_info(t->items)->name : t->spec, wording,
             c->plan->policy->canonical, slots, prefill, c->plan->query_before ? "before" : "after");
}

static const char *or_null(const char *s) {
    return s && s[0] ? s : NULL;
}

static int task_row(kv_sweep *s, const kv_cell_run *c, int64_t *id, kv_error *err) {
    const kv_plan_task *t = &s->plan->tasks[c->plan->task];
    kv_task_row r = {.name = t->spec, .variant = or_null(t->variant)};
    if (t->items) {
        const kv_task_info *i = kv_items_info(t->items);
        r = (kv_task_row){i->name, i->variant, i->grader, i->data_sha256, i->version, i->grader_version};
    }
    return kv_store_task(s->store, &r, id, err);
}

static int begin_row(kv_sweep *s, kv_cell_run *c, kv_error *err) {
    const kv_plan_cell *p = c->plan;
    const kv_sampling *sampling = &s->plan->tasks[p->task].sampling;
    int threads = (int)kv_opts_int(s->o, KV_OPT_THREADS);
    char prefill[24];
    kv_prefill_text(p->chunk, prefill);
    kv_run_row r = {
        .cell_key = p->key,
        .host_id = s->host_id,
        .gpu_id = p->device == KV_CUDA ? s->gpu_id : 0,
        .build_id = s->build_id,
        .budget = p->budget,
        .buffer = p->buffer,
        .batch = s->batch,
        .n_threads = threads ? threads : s->host.n_cores,
        .max_new = p->max_new,
        .limit = (int)kv_opts_int(s->o, KV_OPT_LIMIT),
        .prefill = prefill,
        .query = p->query_before ? "before" : "after",
        .numerics = p->numerics == KV_EXACT ? "exact" : "fast",
        .backend = s->engine ? kv_engine_info(s->engine)->backend : kv_place_name(p->device),
        .cache_type = s->engine ? kv_engine_info(s->engine)->cache_type : NULL,
        .score_path = c->setup.policy ? kv_engine_score_path(s->engine, &c->setup) : NULL,
        .temperature = sampling->temperature,
        .top_p = sampling->top_p,
        .min_p = sampling->min_p,
        .top_k = sampling->top_k,
        .seed = s->plan->tasks[p->task].seed,
        .argv = s->io->argv_text,
        .any_build = kv_opts_flag(s->o, KV_OPT_RESUME_ANY),
    };
    const kv_identity *m = &s->plan->models[s->plan->tasks[p->task].model];
    int gated = (p->policy->policy->needs & KV_NEED_GATES) != 0; /* as in the cell key */
    int rc;
    if ((rc = kv_record_model(s->store, m, gated, s->engine ? kv_engine_info(s->engine)->weights : NULL, &r.model_id,
                              err)) ||
        (rc = kv_record_policy(s->store, p->policy, &r.policy_id, err)) || (rc = task_row(s, c, &r.task_id, err)))
        return rc;
    return kv_store_begin_run(s->store, &r, &c->run_id, err);
}

int kv_cell_record(kv_sweep *s, kv_cell_run *c, const char *status, const char *error, kv_error *err) {
    char label[KV_LABEL_MAX];
    int rc = begin_row(s, c, err);
    if (rc == KV_OK) rc = kv_store_end_run(s->store, c->run_id, status, error, err);
    kv_cell_label(s, c, label, sizeof label);
    kv_progress_note(&s->progress, "cell %zu/%zu  %s  %s%s%s", c->index + 1, s->plan->n_cells, label, status,
                     error ? ": " : "", error ? error : "");
    s->progress.all_done += c->n_todo;
    return rc;
}

static int open_policy(kv_sweep *s, kv_cell_run *c, kv_error *err) {
    const kv_plan_cell *p = c->plan;
    const kv_plan_task *t = &s->plan->tasks[p->task];
    const kv_setup_args args = {.spec = p->policy,
                                .budget = p->budget,
                                .buffer = p->buffer,
                                .chunk = p->chunk,
                                .seed = t->seed,
                                .info = kv_engine_info(s->engine),
                                .gates = s->gates,
                                .gates_err = &s->gates_err};
    return kv_setup_open(&args, &c->setup, err);
}

int kv_cell_begin(kv_sweep *s, kv_cell_run *c, kv_error *err) {
    kv_error why = {0};
    int rc = open_policy(s, c, &why);
    if (rc) return kv_cell_record(s, c, kv_cell_status(rc), why.text, err);
    rc = begin_row(s, c, err);
    if (rc) {
        kv_setup_close(&c->setup);
        return rc;
    }
    c->active = 1;
    return KV_OK;
}

static int store_sums(kv_sweep *s, const kv_cell_run *c, kv_error *err) {
    const kv_generate_stats *t = &c->sum;
    const struct {
        const char *name;
        int64_t value;
    } counters[] = {{"bytes_read", t->bytes_read},         {"evictions", t->n_evictions}, {"moved", t->n_moved},
                    {"page_allocs", t->n_page_allocs},     {"triggers", t->n_triggers},   {"launches", t->n_launches},
                    {"decode_allocs", t->n_decode_allocs}, {"steps", t->n_steps}};
    kv_memory_row m = {.weights = (int64_t)t->memory.weights,
                       .kv = (int64_t)t->kv_bytes_peak,
                       .workspace = (int64_t)t->memory.workspace,
                       .graphs = (int64_t)t->memory.graphs,
                       .device_free_before = (int64_t)s->free_before,
                       .device_free_after = (int64_t)t->memory.device_free,
                       .host_peak_rss = kv_host_peak_rss()};
    int rc = kv_store_memory(s->store, c->run_id, &m, err);
    for (size_t i = 0; i < sizeof counters / sizeof *counters && rc == KV_OK; i++)
        rc = kv_store_counter(s->store, c->run_id, counters[i].name, counters[i].value, err);
    return rc;
}

int kv_cell_end(kv_sweep *s, kv_cell_run *c, const char *status, const char *error, kv_error *err) {
    char label[KV_LABEL_MAX], accuracy[64] = "";
    int rc = c->n_calls ? store_sums(s, c, err) : KV_OK;
    if (rc == KV_OK) rc = kv_store_end_run(s->store, c->run_id, status, error, err);
    kv_setup_close(&c->setup);
    c->active = 0;
    s->progress.all_done += c->n_todo;
    kv_cell_label(s, c, label, sizeof label);
    if (c->n_scored)
        snprintf(accuracy, sizeof accuracy, "  accuracy %.3f over %zu", c->score_sum / (double)c->n_scored,
                 c->n_scored);
    kv_progress_note(&s->progress, "cell %zu/%zu  %s  %s%s%s%s", c->index + 1, s->plan->n_cells, label, status,
                     accuracy, error ? ": " : "", error ? error : "");
    return rc;
}
