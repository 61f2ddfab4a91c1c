/* plan_print.c - `run --dry-run`: the cells, and what they will hold in memory.
 *
 * Predicted bytes are pages as the cache lays them out, for the longest prompt of the task; a run may stay below them
 * because answers end early.  Real figures come from the allocator (kv_bytes_peak). */
#include <string.h>

#include "bench/plan.h"

int kv_plan_slots(const kv_policy *p, int budget, int buffer, int chunk, int prompt, int max_new, int n_ctx) {
    int all = prompt + max_new < n_ctx ? prompt + max_new : n_ctx, held = budget + buffer;
    if (p->never_evicts) return all;
    if (chunk == 0 && prompt > held) held = prompt;
    return held < all ? held : all;
}

size_t kv_plan_sequence_bytes(const kv_policy *p, const kv_shape *shape, kv_numerics numerics, int slots) {
    int has_mass = (p->needs & KV_NEED_MASS) != 0;
    kv_page_layout l;
    kv_page_layout_init(&l, numerics == KV_EXACT ? KV_CACHE_F32 : KV_CACHE_F16, shape->head_dim, p->n_stats + has_mass,
                        has_mass);
    size_t pages = ((size_t)slots + KV_PAGE - 1) / KV_PAGE;
    return pages * l.bytes * (size_t)shape->n_layers * (size_t)shape->n_kv_heads;
}

/* Longest prompt that fits among the items to run (0 = none), and how many are longer than the context. */
static int measure(const kv_plan *p, const kv_plan_task *t, int *longest, int *too_long, kv_error *err) {
    int n_ctx = p->models[t->model].n_ctx;
    *longest = 0;
    *too_long = 0;
    for (int i = 0; t->items && i < t->n_items; i++) {
        const kv_prompt *q;
        int rc = kv_items_render(t->items, i, &q, err);
        if (rc) return rc;
        if (q->n > n_ctx)
            (*too_long)++;
        else if (q->n > *longest)
            *longest = q->n;
    }
    return KV_OK;
}

static const char *task_name(const kv_plan_task *t) {
    return t->items ? kv_items_info(t->items)->name : t->spec;
}

static const char *variant_name(const kv_plan_task *t) {
    return t->items ? kv_items_info(t->items)->variant : t->variant;
}

void kv_plan_add_notes(kv_table *t, kv_string *notes) {
    t->cells.failed |= notes->failed;
    kv_table_add(t, notes->n ? notes->p + 1 : "");
    kv_string_free(notes);
}

static void add_cell(const kv_plan *p, const kv_plan_cell *c, int longest, int too_long, int batch, int64_t room,
                     kv_table *t) {
    const kv_plan_task *task = &p->tasks[c->task];
    const kv_identity *m = &p->models[task->model];
    const kv_policy *policy = c->policy->policy;
    char prefill[24];
    kv_string notes = {0};
    const double gib = 1 << 30;
    int slots = 0;
    int64_t bytes = 0;
    if (longest) { /* else no prompt fits */
        slots = kv_plan_slots(policy, c->budget, c->buffer, c->chunk, longest, c->max_new, m->n_ctx);
        bytes = (int64_t)kv_plan_sequence_bytes(policy, &m->shape, c->numerics, slots);
    }
    kv_prefill_text(c->chunk, prefill);
    double all = kv_identity_weight_bytes(m, c->numerics, c->device) + (double)bytes * batch;
    kv_table_add(t, task_name(task));
    kv_table_add(t, variant_name(task));
    kv_table_add(t, c->policy->canonical);
    kv_table_add_count(t, c->budget, "-");
    kv_table_add_count(t, c->buffer, "-");
    kv_table_add(t, prefill);
    kv_table_add(t, c->query_before ? "before" : "after");
    kv_table_add(t, c->numerics == KV_EXACT ? "exact" : "fast");
    kv_table_add_count(t, (int64_t)task->n_items * p->n_samples, "0");
    kv_table_add_count(t, longest, "-");
    kv_table_add_count(t, slots, "-");
    kv_table_add_count(t, bytes, "-");
    if (!task->items) kv_string_addf(&notes, "  cannot run: %s", task->err.text);
    if ((policy->needs & KV_NEED_GATES) && !m->gates_path[0]) kv_string_add(&notes, "  cannot run: no gates");
    if (too_long)
        kv_string_addf(&notes, "  %d of %d prompts are longer than the context of %d", too_long, task->n_items,
                       m->n_ctx);
    if (longest && longest + c->max_new > m->n_ctx)
        kv_string_addf(&notes, "  %d of %d new tokens fit behind the longest prompt", m->n_ctx - longest, c->max_new);
    if (all > (double)room)
        kv_string_addf(&notes, "  would not fit: %.2f GiB with the weights for a batch of %d, %.2f GiB free", all / gib,
                       batch, (double)room / gib);
    kv_plan_add_notes(t, &notes);
}

int kv_plan_print(const kv_plan *p, int batch, int64_t free_bytes, FILE *f, kv_error *err) {
    static const kv_column columns[] = {{"task", 1, 0}, {"variant", 1, 0},  {"policy", 1, 0}, {"M", 0, 6},
                                        {"B", 0, 6},    {"prefill", 1, 10}, {"query", 1, 6},  {"numerics", 1, 8},
                                        {"n", 0, 6},    {"prompt", 0, 7},   {"slots", 0, 7},  {"bytes/seq", 0, 12},
                                        {"", 1, 0}};
    kv_table t = {.columns = columns, .n_columns = sizeof columns / sizeof *columns, .gap = 1};
    kv_string text = {0};
    int last = -1, longest = 0, too_long = 0, rc = KV_OK;
    for (size_t i = 0; i < p->n_cells && rc == KV_OK; i++) {
        const kv_plan_cell *c = &p->cells[i];
        if (c->task != last) rc = measure(p, &p->tasks[c->task], &longest, &too_long, err);
        last = c->task;
        add_cell(p, c, longest, too_long, batch, free_bytes, &t);
    }
    kv_table_print(&t, &text);
    kv_string_addf(&text, "%zu cells; prompt and slots (per layer and KV head) are the largest expected\n", p->n_cells);
    if (rc == KV_OK) rc = kv_string_print(&text, f, "the plan", err);
    kv_string_free(&t.cells);
    kv_string_free(&text);
    return rc;
}
