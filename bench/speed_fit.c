/* speed_fit.c - the largest batch that fits: by the engine's own count of what a batch takes, then a short run to see.
 *
 * The count is exact up to captured graphs and what the driver keeps for itself, so the run rarely fails; when it does,
 * the batch shrinks by a few sequences at a time. */
#include <stdint.h>

#include "bench/speed.h"
#include "bench/sweep.h"

enum { TRIAL_TOKENS = 3, STEP_DOWN = 50 /* of the batch: 2% */ };

/* Graphs of the decode step, and what the driver rounds up or loads with the first launch of a kernel. */
static const size_t gpu_spare = 128 << 20;

static int need_of(kv_speed *x, const kv_speed_cell *c, int batch, kv_memory *out, kv_error *why) {
    const kv_request like = kv_speed_request(x, c->spec);
    const kv_generate_options o = {.batch = batch, .chunk = c->spec->chunk, .like = &like};
    return kv_generate_need(x->session.engine, &c->setup, &o, out, why);
}

/* Largest batch whose count is within room; 0 and why when not even one sequence is, negative when counting fails. */
static int count_batch(kv_speed *x, const kv_speed_cell *c, size_t room, kv_error *why) {
    const double mib = 1 << 20;
    int low = 0, high = KV_MAX_BATCH + 1;
    kv_memory need;
    while (high - low > 1) {
        int middle = low + (high - low) / 2, rc = need_of(x, c, middle, &need, why);
        if (rc) return rc == KV_ENOMEM ? 0 : rc;
        if (need.kv + need.workspace <= room)
            low = middle;
        else
            high = middle;
    }
    if (low == 0) /* the last count was that of one */
        kv_fail(why, KV_ENOMEM,
                "one sequence takes %.1f MiB of KV cache and %.1f MiB of work buffers, %.1f MiB are left",
                (double)need.kv / mib, (double)need.workspace / mib, (double)room / mib);
    return low;
}

/* As count_batch, tried. */
static int fit_batch(kv_speed *x, const kv_speed_cell *c, kv_error *why) {
    kv_memory m;
    int rc = kv_engine_memory(x->session.engine, &m, why), on_gpu = x->session.device == KV_CUDA;
    if (rc) return rc;
    size_t spare = on_gpu && m.room > gpu_spare ? gpu_spare : 0;
    int n = count_batch(x, c, m.room - spare, why), max_new = c->spec->max_new;
    while (n > 0) {
        rc = kv_speed_try(x, c, n, max_new < TRIAL_TOKENS ? max_new : TRIAL_TOKENS, why);
        if (rc != KV_ENOMEM) return rc ? rc : n;
        n -= n > STEP_DOWN ? n / STEP_DOWN : 1;
    }
    return n;
}

int kv_speed_find_batch(kv_speed *x, kv_speed_cell *c, kv_error *err) {
    kv_error why = {0};
    if (x->session.device != KV_CUDA && !kv_memory_limit(x->o))
        return kv_speed_end(x, c, "error",
                            "--batch max fills a GPU's memory; on the CPU give a number or --device-memory", err);
    int n = fit_batch(x, c, &why);
    if (n <= 0) return kv_speed_end(x, c, n ? kv_cell_status(n) : "oom", why.text, err);
    c->row->batch = n;
    return KV_OK;
}
