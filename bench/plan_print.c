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

/* The columns prompt, slots and bytes/seq; returns the bytes of one sequence, 0 when no prompt fits. */
static size_t print_sizes(const kv_plan_cell *c, const kv_identity *m, int longest, FILE *f) {
    if (!longest) {
        fprintf(f, " %7s %7s %12s", "-", "-", "-");
        return 0;
    }
    const kv_policy *p = c->policy->policy;
    int slots = kv_plan_slots(p, c->budget, c->buffer, c->chunk, longest, c->max_new, m->n_ctx);
    size_t bytes = kv_plan_sequence_bytes(p, &m->shape, c->numerics, slots);
    fprintf(f, " %7d %7d %12zu", longest, slots, bytes);
    return bytes;
}

static const char *task_name(const kv_plan_task *t) {
    return t->items ? kv_items_info(t->items)->name : t->spec;
}

static const char *variant_name(const kv_plan_task *t) {
    return t->items ? kv_items_info(t->items)->variant : t->variant;
}

/* Of the columns task, variant and policy. */
typedef struct widths {
    int task, variant, policy;
} widths;

static void widen(int *width, const char *text) {
    if ((int)strlen(text) > *width) *width = (int)strlen(text);
}

static widths measure_columns(const kv_plan *p) {
    widths w = {4, 7, 6};
    for (size_t i = 0; i < p->n_cells; i++) {
        const kv_plan_task *t = &p->tasks[p->cells[i].task];
        widen(&w.task, task_name(t));
        widen(&w.variant, variant_name(t));
        widen(&w.policy, p->cells[i].policy->canonical);
    }
    return w;
}

static void print_cell(const kv_plan *p, const kv_plan_cell *c, const widths *w, int longest, int too_long, int batch,
                       int64_t room, FILE *f) {
    const kv_plan_task *t = &p->tasks[c->task];
    const kv_identity *m = &p->models[t->model];
    char prefill[24], budget[16] = "-", buffer[16] = "-";
    kv_prefill_text(c->chunk, prefill);
    if (c->budget) {
        snprintf(budget, sizeof budget, "%d", c->budget);
        snprintf(buffer, sizeof buffer, "%d", c->buffer);
    }
    fprintf(f, "%-*s %-*s %-*s %6s %6s %-10s %-6s %-8s %6d", w->task, task_name(t), w->variant, variant_name(t),
            w->policy, c->policy->canonical, budget, buffer, prefill, c->query_before ? "before" : "after",
            c->numerics == KV_EXACT ? "exact" : "fast", t->n_items * p->n_samples);
    size_t bytes = print_sizes(c, m, longest, f);
    if (!t->items) fprintf(f, "  cannot run: %s", t->err.text);
    if ((c->policy->policy->needs & KV_NEED_GATES) && !m->gates_path[0]) fprintf(f, "  cannot run: no gates");
    if (too_long) fprintf(f, "  %d of %d prompts are longer than the context of %d", too_long, t->n_items, m->n_ctx);
    if (longest && longest + c->max_new > m->n_ctx)
        fprintf(f, "  %d of %d new tokens fit behind the longest prompt", m->n_ctx - longest, c->max_new);
    if ((int64_t)bytes * batch > room)
        fprintf(f, "  would not fit: %.1f GiB for a batch of %d, %.1f GiB free", (double)bytes * batch / (1 << 30),
                batch, (double)room / (1 << 30));
    fprintf(f, "\n");
}

int kv_plan_print(const kv_plan *p, int batch, int64_t free_bytes, FILE *f, kv_error *err) {
    int last = -1, longest = 0, too_long = 0;
    const widths w = measure_columns(p);
    fprintf(f, "%-*s %-*s %-*s %6s %6s %-10s %-6s %-8s %6s %7s %7s %12s\n", w.task, "task", w.variant, "variant",
            w.policy, "policy", "M", "B", "prefill", "query", "numerics", "n", "prompt", "slots", "bytes/seq");
    for (size_t i = 0; i < p->n_cells; i++) {
        const kv_plan_cell *c = &p->cells[i];
        if (c->task != last) {
            int rc = measure(p, &p->tasks[c->task], &longest, &too_long, err);
            if (rc) return rc;
            last = c->task;
        }
        print_cell(p, c, &w, longest, too_long, batch, free_bytes, f);
    }
    fprintf(f, "%zu cells; prompt and slots (per layer and KV head) are the largest expected\n", p->n_cells);
    return KV_OK;
}
