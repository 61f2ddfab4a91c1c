/* plan.c - builds the plan of `run`. */
#include "bench/plan.h"
#include "bench/prompt_text.h"

#include <stdlib.h>
#include <string.h>

#include "bench/place.h"
#include "bench/sampling.h"
#include "bench/task_name.h"

enum { MAX_CELLS = 20000 };

int kv_plan_same_group(const kv_plan_cell *a, const kv_plan_cell *b) {
    return a->task == b->task && a->chunk == b->chunk && a->query_before == b->query_before &&
           a->numerics == b->numerics && a->max_new == b->max_new;
}

/* Policies, budgets and buffers under one group's settings. */
static void cross_group(const kv_axes *a, const kv_plan_cell *group, kv_plan_cell *cells, size_t *n) {
    for (size_t i = 0; i < a->n_policies; i++) {
        int once = a->policies[i].policy->never_evicts;
        for (size_t m = 0; m < (once ? 1 : a->n_budgets); m++)
            for (size_t b = 0; b < (once ? 1 : a->n_buffers); b++) {
                kv_plan_cell *c = &cells[(*n)++];
                *c = *group;
                c->policy = &a->policies[i];
                c->budget = once ? 0 : a->budgets[m];
                c->buffer = once ? 0 : a->buffers[b];
            }
    }
}

int kv_plan_cross(const kv_axes *a, size_t n_models, size_t tasks_per_model, kv_plan_cell **cells, size_t *n,
                  kv_error *err) {
    const size_t factors[] = {n_models,     tasks_per_model, a->n_numerics, a->n_queries, a->n_chunks,
                              a->n_max_new, a->n_policies,   a->n_budgets,  a->n_buffers};
    size_t most = 1;
    *n = 0;
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
        most *= factors[i];
        if (most > MAX_CELLS) return kv_fail(err, KV_EARG, "more than %d cells: give fewer values", MAX_CELLS);
    }
    *cells = calloc(most ? most : 1, sizeof **cells);
    if (!*cells) return kv_fail(err, KV_ENOMEM, "out of memory for %zu cells", most);
    kv_plan_cell g = {0};
    for (size_t m = 0; m < n_models; m++)
        for (size_t x = 0; x < a->n_numerics; x++)
            for (size_t t = 0; t < tasks_per_model; t++)
                for (size_t q = 0; q < a->n_queries; q++)
                    for (size_t p = 0; p < a->n_chunks; p++)
                        for (size_t k = 0; k < a->n_max_new; k++) {
                            g.task = (int)(m * tasks_per_model + t);
                            g.numerics = a->numerics[x];
                            g.query_before = a->query_before[q];
                            g.chunk = a->chunks[p];
                            g.max_new = a->max_new[k];
                            cross_group(a, &g, *cells, n);
                        }
    return KV_OK;
}

static int choose_chat(const kv_opts *o, kv_identity *id, kv_error *err) {
    const kv_chat *chat;
    int rc = kv_prompt_chat(o, id->chat, 1, &chat, err);
    if (rc == KV_OK) kv_identity_set_chat(id, chat);
    return rc;
}

static int load_models(const kv_opts *o, const kv_paths *paths, kv_plan *p, kv_error *err) {
    size_t n = kv_opts_n(o, KV_OPT_MODEL) ? kv_opts_n(o, KV_OPT_MODEL) : 1;
    p->models = calloc(n, sizeof *p->models);
    if (!p->models) return kv_fail(err, KV_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        int rc = kv_identity_resolve(o, i, paths, &p->models[i], err);
        if (rc == KV_OK) rc = kv_identity_needs_text(&p->models[i], "run", err);
        if (rc == KV_OK) rc = kv_identity_load(&p->models[i], err);
        if (rc == KV_OK) rc = choose_chat(o, &p->models[i], err);
        p->n_models = i + 1;
        if (rc) return rc;
    }
    return KV_OK;
}

/* Checks name and variant of one task against what the datasets folder holds, and settles the variant. */
static int settle_task(const kv_plan *p, kv_plan_task *t, const char *variant, kv_error *err) {
    char variants[KV_VARIANTS_MAX];
    int rc = kv_task_name_check(p->task_options.root, t->spec, variant, variants, err);
    if (!variant && p->models[t->model].is_default && kv_task_name_has(variants, "short")) variant = "short";
    snprintf(t->variant, sizeof t->variant, "%s", variant ? variant : "");
    return rc;
}

static int open_task(const kv_plan *p, kv_plan_task *t, int limit, kv_error *err) {
    kv_task_options o = p->task_options;
    o.variant = t->variant[0] ? t->variant : NULL;
    o.seed = (uint64_t)t->seed;
    int rc = kv_items_open(t->spec, &o, &p->models[t->model], &t->items, &t->err);
    if (rc == KV_EARG) return kv_fail(err, rc, "--task: %.480s", t->err.text);
    if (rc) {
        t->items = NULL;
        return KV_OK; /* a cell of its own: recorded with t->err */
    }
    t->n_items = kv_items_info(t->items)->n_items;
    if (limit && limit < t->n_items) t->n_items = limit;
    return KV_OK;
}

static int open_tasks(const kv_opts *o, kv_plan *p, kv_error *err) {
    size_t n_specs = kv_opts_n(o, KV_OPT_TASK), n_variants = kv_opts_n(o, KV_OPT_VARIANT), n_seeds;
    int limit = (int)kv_opts_int(o, KV_OPT_LIMIT);
    n_seeds = kv_opts_n(o, KV_OPT_SEED);
    if (n_variants == 0) n_variants = 1;
    if (p->n_models * n_specs * n_variants * n_seeds > MAX_CELLS)
        return kv_fail(err, KV_EARG, "more than %d tasks: give fewer values", MAX_CELLS);
    p->tasks = calloc(p->n_models * n_specs * n_variants * n_seeds, sizeof *p->tasks);
    if (!p->tasks) return kv_fail(err, KV_ENOMEM, "out of memory");
    for (size_t m = 0; m < p->n_models; m++)
        for (size_t s = 0; s < n_specs; s++)
            for (size_t v = 0; v < n_variants; v++)
                for (size_t x = 0; x < n_seeds; x++) {
                    kv_plan_task *t = &p->tasks[p->n_tasks++];
                    const char *spec = o->v[KV_OPT_TASK].texts[s];
                    const char *variant = kv_opts_n(o, KV_OPT_VARIANT) ? o->v[KV_OPT_VARIANT].texts[v] : NULL;
                    t->model = (int)m;
                    t->seed = o->v[KV_OPT_SEED].ints[x];
                    if (snprintf(t->spec, sizeof t->spec, "%s", spec) >= (int)sizeof t->spec)
                        return kv_fail(err, KV_EARG, "--task '%.60s...': too long", spec);
                    int rc = settle_task(p, t, variant, err);
                    if (rc == KV_OK) rc = open_task(p, t, limit, err);
                    if (rc) return rc;
                }
    return KV_OK;
}

static int choose_sampling(const kv_opts *o, kv_plan *p, kv_error *err) {
    for (size_t i = 0; i < p->n_tasks; i++) {
        kv_plan_task *t = &p->tasks[i];
        int rc = kv_sampling_choose(o, &p->models[t->model], &t->sampling, err);
        if (rc) return rc;
        if (p->n_samples > 1 && t->sampling.temperature == 0)
            return kv_fail(err, KV_EARG,
                           "--samples %d of %.200s, which is greedy: every answer would be the same; give "
                           "--temperature, or --sampling model",
                           p->n_samples, p->models[t->model].model_path);
    }
    return KV_OK;
}

static void set_key(const kv_plan *p, kv_plan_cell *c) {
    const kv_plan_task *t = &p->tasks[c->task];
    const kv_identity *m = &p->models[t->model];
    const kv_task_info *info = t->items ? kv_items_info(t->items) : NULL;
    int gated = (c->policy->policy->needs & KV_NEED_GATES) != 0;
    kv_cell_identity id = {
        .model = m->model_sha256,
        .adapter = m->adapter_sha256,
        .gates = gated ? m->gates_sha256 : "",
        .tokenizer = m->tokenizer_sha256,
        .chat = m->chat_hash,
        .task = info ? info->name : t->spec,
        .data = info ? info->data_sha256 : "",
        .variant = info ? info->variant : t->variant,
        .prompt = info ? info->prompt_sha256 : "",
        .grader = info ? info->grader : "",
        .task_version = info ? info->version : 0,
        .grader_version = info ? info->grader_version : 0,
        .policy = c->policy->canonical,
        .budget = c->budget,
        .buffer = c->buffer,
        .chunk = c->chunk,
        .query_before = c->query_before,
        .max_new = c->max_new,
        .temperature = t->sampling.temperature,
        .top_p = t->sampling.top_p,
        .min_p = t->sampling.min_p,
        .top_k = t->sampling.top_k,
        .seed = t->seed,
        .backend = kv_place_name(c->device),
        .numerics = c->numerics == KV_EXACT ? "exact" : "fast",
    };
    kv_cell_key(&id, c->key);
}

/* Two ways to write one cell (needle and needle:words=900, max-new 0 and its value) are one cell. */
static void drop_repeats(kv_plan *p) {
    size_t n = 0;
    for (size_t i = 0, k; i < p->n_cells; i++) {
        for (k = 0; k < n && strcmp(p->cells[k].key, p->cells[i].key) != 0; k++) {
        }
        if (k == n) p->cells[n++] = p->cells[i];
    }
    p->n_cells = n;
}

int kv_plan_build(const kv_opts *o, const kv_paths *paths, kv_plan *p, kv_error *err) {
    int rc;
    memset(p, 0, sizeof *p);
    p->n_samples = (int)kv_opts_int(o, KV_OPT_SAMPLES);
    p->task_options = (kv_task_options){.root = paths->datasets,
                                        .haystack = kv_opts_text(o, KV_OPT_HAYSTACK),
                                        .data_dir = kv_opts_text(o, KV_OPT_DATA),
                                        .qa_data = kv_opts_text(o, KV_OPT_QA_DATA)};
    if ((rc = kv_axes_read(o, &p->axes, err)) || (rc = load_models(o, paths, p, err)) || (rc = open_tasks(o, p, err)) ||
        (rc = choose_sampling(o, p, err)) ||
        (rc = kv_plan_cross(&p->axes, p->n_models, p->n_tasks / p->n_models, &p->cells, &p->n_cells, err)))
        return rc;
    for (size_t i = 0; i < p->n_cells; i++) {
        kv_plan_cell *c = &p->cells[i];
        const kv_plan_task *t = &p->tasks[c->task];
        if ((rc = kv_place_choose(o, &p->models[t->model].shape, &c->device, err))) return rc;
        if (c->max_new == 0 && t->items) c->max_new = kv_items_info(t->items)->max_new;
        set_key(p, c);
    }
    drop_repeats(p);
    return KV_OK;
}

void kv_plan_free(kv_plan *p) {
    for (size_t i = 0; i < p->n_tasks; i++) kv_items_close(p->tasks[i].items);
    for (size_t i = 0; i < p->n_models; i++) kv_identity_free(&p->models[i]);
    kv_axes_free(&p->axes);
    free(p->models);
    free(p->tasks);
    free(p->cells);
    memset(p, 0, sizeof *p);
}
