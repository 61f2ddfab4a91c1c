/* speed.c - the `speed` command: prefill and decode throughput per model, policy, budget, batch and context. */
#include "bench/speed.h"

#include <stdlib.h>
#include <string.h>

enum { CYCLES = 10, MAX_SPEED_CELLS = 100000 };

/* Unless it was given: the default, or what ten whole trigger cycles of every policy take, the same for all cells. */
static int default_max_new(const kv_opts *o, const kv_axes *a) {
    int n = (int)kv_opts_int(o, KV_OPT_MAX_NEW_TOKENS), largest = 0;
    for (size_t i = 0; i < a->n_policies; i++)
        for (size_t b = 0; b < a->n_buffers && !a->policies[i].policy->never_evicts; b++)
            if (a->buffers[b] > largest) largest = a->buffers[b];
    /* the first token comes out of the prefill */
    int64_t wanted = largest ? (int64_t)CYCLES * largest + 1 : 0;
    return wanted > n ? (int)wanted : n;
}

/* Every cell of one (model, numerics), for every number of threads, context and batch. */
static size_t cross(const kv_opts *o, const kv_plan_cell *plan, size_t n_plan, kv_speed_spec *out) {
    size_t n = 0;
    for (size_t t = 0; t < kv_opts_n(o, KV_OPT_THREADS); t++)
        for (size_t x = 0; x < kv_opts_n(o, KV_OPT_CTX); x++)
            for (size_t b = 0; b < kv_opts_n(o, KV_OPT_BATCHES); b++)
                for (size_t i = 0; i < n_plan; i++)
                    out[n++] = (kv_speed_spec){.model = plan[i].task,
                                               .numerics = plan[i].numerics,
                                               .threads = (int)o->v[KV_OPT_THREADS].ints[t],
                                               .policy = plan[i].policy,
                                               .budget = plan[i].budget,
                                               .buffer = plan[i].buffer,
                                               .chunk = plan[i].chunk,
                                               .ctx = (int)o->v[KV_OPT_CTX].ints[x],
                                               .batch = (int)o->v[KV_OPT_BATCHES].ints[b],
                                               .max_new = plan[i].max_new};
    return n;
}

static int make_specs(const kv_opts *o, kv_axes *a, kv_speed_spec **specs, size_t *n, kv_error *err) {
    size_t n_models = kv_opts_n(o, KV_OPT_MODEL) ? kv_opts_n(o, KV_OPT_MODEL) : 1, n_plan = 0;
    size_t per_cell = kv_opts_n(o, KV_OPT_THREADS) * kv_opts_n(o, KV_OPT_CTX) * kv_opts_n(o, KV_OPT_BATCHES);
    kv_plan_cell *plan = NULL;
    if (!kv_opts_given(o, KV_OPT_MAX_NEW_TOKENS)) a->max_new[0] = default_max_new(o, a);
    int rc = kv_plan_cross(a, n_models, 1, &plan, &n_plan, err); /* a "task" here is a model */
    if (rc) return rc;
    *n = 0;
    *specs = n_plan * per_cell <= MAX_SPEED_CELLS ? calloc(n_plan * per_cell, sizeof **specs) : NULL;
    if (n_plan * per_cell > MAX_SPEED_CELLS)
        rc = kv_fail(err, KV_EARG, "more than %d cells: give fewer values", MAX_SPEED_CELLS);
    else if (!*specs)
        rc = kv_fail(err, KV_ENOMEM, "out of memory for %zu cells", n_plan * per_cell);
    for (size_t first = 0, last; rc == KV_OK && first < n_plan; first = last) {
        for (last = first;
             last < n_plan && plan[last].task == plan[first].task && plan[last].numerics == plan[first].numerics;)
            last++;
        *n += cross(o, plan + first, last - first, *specs + *n);
    }
    free(plan);
    return rc;
}

static int run(const kv_opts *o, const kv_paths *p, const kv_speed_spec *specs, size_t n, const kv_io *io, int *failed,
               kv_error *err) {
    const char *db = kv_opts_text_or(o, KV_OPT_DB, p->db);
    kv_speed_result result;
    kv_format format = KV_TABLE;
    int rc = kv_format_parse(kv_opts_text(o, KV_OPT_FORMAT), &format, err);
    if (rc) return rc;
    rc = kv_speed_run(o, p, specs, n, db, io, &result, err);
    if (rc == KV_OK) rc = kv_speed_print(io->out, format, &result, err);
    *failed = result.failed;
    kv_speed_free(&result);
    return rc;
}

int kv_cmd_speed(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err) {
    kv_axes a = {0};
    kv_speed_spec *specs = NULL;
    size_t n = 0;
    int failed = 0, rc = kv_axes_read(o, &a, err);
    if (rc == KV_OK) rc = make_specs(o, &a, &specs, &n, err);
    if (rc == KV_OK && kv_opts_flag(o, KV_OPT_DRY_RUN))
        rc = kv_speed_predict(o, p, specs, n, 0, io->out, err);
    else if (rc == KV_OK)
        rc = run(o, p, specs, n, io, &failed, err);
    free(specs);
    kv_axes_free(&a);
    if (rc) return kv_exit_of(rc);
    if (*io->cancel) return KV_EXIT_INTERRUPTED;
    return failed ? KV_EXIT_FAILED : KV_EXIT_OK;
}
