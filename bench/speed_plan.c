/* speed_plan.c - `speed --dry-run`: what the cells will hold, for a first look at what fits.
 *
 * At the most there are: the weights, the shared prompt, one fork of it that is not reduced yet, and the sequences of
 * the batch.  Work buffers are not in it.  Real figures come from the allocator. */
#include <math.h>
#include <string.h>

#include "bench/speed.h"
#include "engine/file.h"

static const double gib = 1 << 30;

static double cache_bytes(const kv_speed_spec *s, const kv_identity *m, int *slots) {
    const kv_policy *p = s->policy->policy;
    int batch = s->batch ? s->batch : 1, held = s->ctx + s->max_new;
    double prompt = (double)kv_plan_sequence_bytes(p, &m->shape, s->numerics, s->ctx);
    if (!p->never_evicts && s->budget + s->buffer < held) held = s->budget + s->buffer;
    *slots = held;
    double one = (double)kv_plan_sequence_bytes(p, &m->shape, s->numerics, held);
    if (s->chunk) return one * batch;
    return prompt + (prompt > one ? prompt - one : 0) + one * batch;
}

/* Where a model would run, and the free bytes there: infinitely many on a GPU that is only imagined. */
static int find_room(const kv_opts *o, const kv_identity *m, int on_gpu, kv_device_kind *device, char *name,
                     size_t size, double *room, kv_error *err) {
    kv_host_info host;
    kv_gpu gpu = {0};
    size_t free_bytes = 0;
    int rc = kv_place_choose(o, &m->shape, device, on_gpu ? NULL : err);
    if (on_gpu && (rc || *device == KV_CPU)) {
        *device = KV_CUDA;
        *room = INFINITY;
        snprintf(name, size, "no GPU here");
        return KV_OK;
    }
    if (rc) return rc;
    kv_hostinfo_read(&host);
    *room = (double)host.ram_available;
    snprintf(name, size, "%s", host.cpu);
    if (*device != KV_CUDA) return KV_OK;
    rc = kv_gpu_open(&gpu, (int)kv_opts_int(o, KV_OPT_DEVICE), err);
    if (rc == KV_OK) rc = kv_gpu_free_bytes(&gpu, &free_bytes, err);
    *room = (double)free_bytes;
    snprintf(name, size, "%s", gpu.name);
    kv_gpu_close(&gpu);
    return rc;
}

static void add_cell(const kv_speed_spec *s, const kv_identity *m, kv_device_kind device, double room, kv_table *t) {
    char model[96], prefill[24];
    int slots;
    double w = kv_identity_weight_bytes(m, s->numerics, device), cache = cache_bytes(s, m, &slots);
    kv_string notes = {0};
    kv_file_title(m->model_path, model, sizeof model);
    kv_prefill_text(s->chunk, prefill);
    kv_table_add(t, model);
    kv_table_add(t, s->numerics == KV_EXACT ? "exact" : "fast");
    kv_table_add(t, s->policy->canonical);
    kv_table_add_count(t, s->budget, "-");
    kv_table_add_count(t, s->buffer, "-");
    kv_table_add(t, prefill);
    kv_table_add_count(t, s->ctx, "0");
    kv_table_add_count(t, s->batch, "max");
    kv_table_add_count(t, s->max_new, "0");
    kv_table_add_count(t, slots, "0");
    kv_table_addf(t, "%.2f", w / gib);
    kv_table_addf(t, "%.2f", cache / gib);
    if (s->ctx + s->max_new > m->n_ctx) kv_string_addf(&notes, "  cannot run: the model's context is %d", m->n_ctx);
    if (m->synth && device == KV_CPU) kv_string_add(&notes, "  cannot run: random weights are for a GPU");
    if ((s->policy->policy->needs & KV_NEED_GATES) && !m->gates_path[0] && !m->synth_gates)
        kv_string_add(&notes, "  cannot run: no gates");
    if (w + cache > room)
        kv_string_addf(&notes, "  would not fit: %.1f GiB, %.1f GiB free", (w + cache) / gib, room / gib);
    kv_plan_add_notes(t, &notes);
}

/* The cells of one model, which all run in one place. */
static int predict_model(const kv_opts *o, const kv_paths *p, const kv_speed_spec *cells, size_t n, int on_gpu, FILE *f,
                         kv_error *err) {
    static const kv_column columns[] = {
        {"model", 1, 24},       {"numerics", 1, 8},   {"policy", 1, 20}, {"M", 0, 6},       {"B", 0, 6},
        {"prefill", 1, 10},     {"ctx", 0, 7},        {"batch", 0, 5},   {"max-new", 0, 7}, {"slots", 0, 7},
        {"weights GiB", 0, 11}, {"cache GiB", 0, 11}, {"", 1, 0}};
    kv_table t = {.columns = columns, .n_columns = sizeof columns / sizeof *columns, .gap = 1};
    kv_string text = {0};
    kv_identity m = {0};
    kv_device_kind device = KV_CPU;
    double room = 0;
    char name[256];
    int rc = kv_identity_resolve(o, (size_t)cells->model, p, &m, err);
    if (rc == KV_OK) rc = kv_identity_load(&m, err);
    if (rc == KV_OK) rc = find_room(o, &m, on_gpu, &device, name, sizeof name, &room, err);
    if (kv_memory_limit(o) && (double)kv_memory_limit(o) < room) room = (double)kv_memory_limit(o);
    for (size_t i = 0; rc == KV_OK && i < n; i++) add_cell(&cells[i], &m, device, room, &t);
    if (rc == KV_OK) {
        kv_string_addf(&text, "%s: %s", kv_place_name(device), name);
        if (isfinite(room)) kv_string_addf(&text, ", %.1f GiB free", room / gib);
        kv_string_add(&text, "\n");
        kv_table_print(&t, &text);
        rc = kv_string_print(&text, f, "the plan", err);
    }
    kv_string_free(&text);
    kv_string_free(&t.cells);
    kv_identity_free(&m);
    return rc;
}

int kv_speed_predict(const kv_opts *o, const kv_paths *p, const kv_speed_spec *cells, size_t n, int on_gpu, FILE *f,
                     kv_error *err) {
    int rc = KV_OK;
    for (size_t i = 0, k = 0; i < n && rc == KV_OK; i = k) {
        while (k < n && cells[k].model == cells[i].model) k++;
        rc = predict_model(o, p, cells + i, k - i, on_gpu, f, err);
    }
    if (rc == KV_OK)
        fprintf(f, "%zu cells; slots are those of a sequence per layer and KV head; the cache holds the batch%s\n", n,
                " and the shared prompt (for batch max: of one sequence)");
    return rc;
}
