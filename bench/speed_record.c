/* speed_record.c - a speed cell in the database: a run without a task, its timings as they come, and at its end what
 * was held and counted.
 *
 * The cell key says what was measured; unlike that of `run` it holds context and batch, and no task. */
#include <math.h>
#include <string.h>

#include "bench/record.h"
#include "bench/speed.h"
#include "bench/sweep.h"
#include "engine/file.h"

static int needs_gates(const kv_speed_cell *c) {
    return (c->spec->policy->policy->needs & KV_NEED_GATES) != 0;
}

static const char *numerics_name(const kv_speed_cell *c) {
    return c->spec->numerics == KV_EXACT ? "exact" : "fast";
}

static void make_key(const kv_speed *x, const kv_speed_cell *c, const char *prefill, char hex[65]) {
    const kv_identity *m = &x->models[c->spec->model];
    char text[2048];
    int n =
        snprintf(text, sizeof text,
                 "trimbench speed 1\nmodel %s\nadapter %s\ngates %s\npolicy %s\nbudget %d\nbuffer %d\nprefill %s\n"
                 "context %d\nbatch %d\nmax_new %d\nseed %lld\nbackend %s\nnumerics %s\n",
                 m->model_sha256, m->adapter_sha256, needs_gates(c) ? m->gates_sha256 : "", c->spec->policy->canonical,
                 c->spec->budget, c->spec->buffer, prefill, c->spec->ctx, (int)c->row->batch, c->spec->max_new,
                 (long long)kv_opts_int(x->o, KV_OPT_SEED), kv_place_name(x->session.device), numerics_name(c));
    kv_sha256_bytes(text, n < (int)sizeof text ? (size_t)n : sizeof text - 1, hex);
}

int kv_speed_begin(kv_speed *x, kv_speed_cell *c, kv_error *err) {
    const kv_model_info *info = x->session.engine ? kv_engine_info(x->session.engine) : NULL;
    char key[65], prefill[24];
    kv_prefill_text(c->spec->chunk, prefill);
    make_key(x, c, prefill, key);
    kv_run_row r = {
        .cell_key = key,
        .host_id = x->host_id,
        .gpu_id = x->session.device == KV_CUDA ? x->gpu_id : 0,
        .build_id = x->build_id,
        .budget = c->spec->budget,
        .buffer = c->spec->buffer,
        .batch = (int)c->row->batch,
        .n_threads = (int)c->row->threads,
        .max_new = c->spec->max_new,
        .prefill = prefill,
        .numerics = numerics_name(c),
        .backend = info ? info->backend : kv_place_name(x->session.device),
        .cache_type = info ? info->cache_type : NULL,
        .score_path = c->row->score_path[0] ? c->row->score_path : NULL,
        .top_p = 1,
        .seed = kv_opts_int(x->o, KV_OPT_SEED),
        .argv = x->io->argv_text,
    };
    int rc = kv_record_model(x->store, &x->models[c->spec->model], needs_gates(c), info ? info->weights : NULL,
                             &r.model_id, err);
    if (rc == KV_OK) rc = kv_record_policy(x->store, c->spec->policy, &r.policy_id, err);
    if (rc == KV_OK) rc = kv_store_begin_run(x->store, &r, &c->run_id, err);
    for (int i = 0; i < c->n_timed && rc == KV_OK; i++) {
        c->prefill_s[c->n_prefill++] = c->prefill[i].seconds;
        rc = kv_store_timing(x->store, c->run_id, &c->prefill[i], err);
    }
    return rc;
}

static double lowest(double a, double b) {
    return isnan(a) || b < a ? b : a;
}

int kv_speed_time(kv_speed *x, kv_speed_cell *c, kv_timing_row *t, kv_error *err) {
    kv_speed_row *r = c->row;
    if (x->session.device == KV_CUDA) kv_gpu_sample(&x->gpu, t);
    if (t->sm_clock_mhz) {
        char now[sizeof r->throttle];
        kv_gpu_throttle_text(t->throttle, now, sizeof now);
        if (!strstr(r->throttle, now)) {
            size_t used = strcmp(r->throttle, "none") == 0 ? 0 : strlen(r->throttle);
            if (!used || strcmp(now, "none") != 0)
                snprintf(r->throttle + used, sizeof r->throttle - used, "%s%s", used ? ", " : "", now);
        }
        r->sm_clock_mhz = lowest(r->sm_clock_mhz, t->sm_clock_mhz);
        r->mem_clock_mhz = lowest(r->mem_clock_mhz, t->mem_clock_mhz);
        r->temp_c = isnan(r->temp_c) || t->temp_c > r->temp_c ? t->temp_c : r->temp_c;
    }
    return kv_store_timing(x->store, c->run_id, t, err);
}

static int64_t bytes_of(double x) {
    return isnan(x) ? 0 : (int64_t)x;
}

static int store_sums(kv_speed *x, const kv_speed_cell *c, kv_error *err) {
    const kv_speed_row *r = c->row;
    const struct {
        const char *name;
        int64_t value;
    } counters[] = {{"steps", r->steps},
                    {"bytes_per_step", bytes_of(r->bytes_per_step)},
                    {"launches_per_step", bytes_of(r->launches_per_step)},
                    {"evictions", r->evictions},
                    {"moved", r->moved},
                    {"triggers", r->triggers},
                    {"page_allocs", r->page_allocs},
                    {"decode_allocs", r->decode_allocs}};
    const kv_memory_row m = {.weights = r->weight_bytes,
                             .kv = r->kv_bytes_peak,
                             .workspace = bytes_of(r->mem_workspace),
                             .graphs = bytes_of(r->mem_graphs),
                             .device_free_before = bytes_of(r->device_free_before),
                             .device_free_after = bytes_of(r->device_free_after),
                             .host_peak_rss = kv_host_peak_rss()};
    int rc = kv_store_memory(x->store, c->run_id, &m, err);
    for (size_t i = 0; i < sizeof counters / sizeof *counters && rc == KV_OK; i++)
        rc = kv_store_counter(x->store, c->run_id, counters[i].name, counters[i].value, err);
    return rc;
}

int kv_speed_end(kv_speed *x, kv_speed_cell *c, const char *status, const char *error, kv_error *err) {
    kv_speed_row *r = c->row;
    int rc = c->run_id ? KV_OK : kv_speed_begin(x, c, err);
    if (rc == KV_OK && c->n_reps) rc = store_sums(x, c, err);
    if (rc == KV_OK) rc = kv_store_end_run(x->store, c->run_id, status, error, err);
    if (!r->batch) r->batch = -1; /* the largest one was not found */
    snprintf(r->status, sizeof r->status, "%s", status);
    snprintf(r->error, sizeof r->error, "%.255s", error ? error : "");
    kv_speed_sum_up(c);
    x->result->failed |= strcmp(status, "done") != 0;
    return rc;
}

int kv_speed_end_all(kv_speed *x, kv_speed_cell *cells, size_t n, int code, const char *text, kv_error *err) {
    int rc = KV_OK;
    for (size_t i = 0; i < n; i++) {
        if (cells[i].row->status[0]) continue;
        int ended = kv_speed_end(x, &cells[i], kv_cell_status(code), code == KV_ECANCEL ? NULL : text, err);
        if (ended) rc = ended;
    }
    return rc;
}
