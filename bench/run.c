/* run.c - the `run` command: plan, sweep, rows. */
#include <stdlib.h>
#include <string.h>

#include "bench/sweep.h"
#include "results/report.h"

int kv_exit_of(int code) {
    switch (code) {
    case KV_OK:
        return KV_EXIT_OK;
    case KV_EARG:
        return KV_EXIT_USAGE;
    case KV_ECANCEL:
        return KV_EXIT_INTERRUPTED;
    default:
        return KV_EXIT_START;
    }
}

/* Prints the plan's cells as the database now knows them; *failed = one of them is not done. */
static int report(const kv_plan *plan, kv_store *store, kv_format format, FILE *out, int *failed, kv_error *err) {
    const char **keys = calloc(plan->n_cells ? plan->n_cells : 1, sizeof *keys);
    kv_cell *cells = NULL;
    size_t n = 0;
    if (!keys) return kv_fail(err, KV_ENOMEM, "out of memory for %zu cells", plan->n_cells);
    for (size_t i = 0; i < plan->n_cells; i++) keys[i] = plan->cells[i].key;
    int rc = kv_store_cells(store, keys, plan->n_cells, &cells, &n, err);
    if (rc == KV_OK) rc = kv_report_cells(out, format, cells, n, err);
    *failed = n < plan->n_cells;
    for (size_t i = 0; i < n; i++) *failed |= strcmp(cells[i].status, "done") != 0;
    free(keys);
    free(cells);
    return rc;
}

static void note_long_factors(kv_progress *p, const kv_identity *m) {
    if (m->short_ctx && !m->max_ctx)
        kv_progress_note(p,
                         "note: %s is opened for %d tokens, with longrope's long factors for all lengths; "
                         "--max-context %d gives the short ones, which transformers takes up to there",
                         m->name, m->n_ctx, m->short_ctx);
}

static int sweep(const kv_opts *o, kv_plan *plan, const char *db, const kv_io *io, kv_error *err) {
    kv_sweep s = {0};
    kv_store *store = NULL;
    kv_format format = KV_TABLE;
    kv_error why = {0};
    int failed = 0, rc;
    if ((rc = kv_format_parse(kv_opts_text(o, KV_OPT_FORMAT), &format, err)) || (rc = kv_store_open(db, &store, err)))
        return kv_exit_of(rc == KV_EARG ? KV_EIO : rc);
    const char *warning = kv_buildinfo_warning();
    rc = kv_sweep_init(&s, o, plan, store, io, &why);
    if (rc == KV_OK && warning) kv_progress_note(&s.progress, "note: %s", warning);
    for (size_t i = 0; rc == KV_OK && i < plan->n_models; i++) note_long_factors(&s.progress, &plan->models[i]);
    if (rc == KV_OK) rc = kv_sweep_run(&s, &why);
    kv_sweep_free(&s);
    if (rc == KV_OK || rc == KV_ECANCEL) {
        int printed = report(plan, store, format, io->out, &failed, err);
        if (printed) rc = printed;
        if (rc == KV_ECANCEL) kv_fail(err, rc, "interrupted: what finished is in %.300s; the same command resumes", db);
    } else {
        *err = why;
    }
    kv_store_close(store);
    if (rc == KV_OK) return failed ? KV_EXIT_FAILED : KV_EXIT_OK;
    return rc == KV_ECANCEL ? KV_EXIT_INTERRUPTED : KV_EXIT_START;
}

/* Bytes that the cells can take: free memory of the GPU when they run there, else of the host. */
static int room_for(const kv_opts *o, const kv_plan *plan, int64_t *bytes, kv_error *err) {
    kv_host_info host;
    kv_gpu gpu = {0};
    size_t free_bytes = 0;
    kv_hostinfo_read(&host);
    *bytes = host.ram_available;
    if (!plan->n_cells || plan->cells[0].device != KV_CUDA) return KV_OK;
    int rc = kv_gpu_open(&gpu, (int)kv_opts_int(o, KV_OPT_DEVICE), err);
    if (rc == KV_OK) rc = kv_gpu_free_bytes(&gpu, &free_bytes, err);
    *bytes = (int64_t)free_bytes;
    kv_gpu_close(&gpu);
    return rc;
}

static int print_plan(const kv_opts *o, const kv_plan *plan, FILE *f, kv_error *err) {
    int64_t room;
    int64_t limit = (int64_t)kv_memory_limit(o);
    int rc = room_for(o, plan, &room, err);
    if (limit && limit < room) room = limit;
    return rc ? rc : kv_plan_print(plan, (int)kv_opts_int(o, KV_OPT_BATCH), room, f, err);
}

int kv_cmd_run(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err) {
    const char *db = kv_opts_text_or(o, KV_OPT_DB, p->db);
    kv_plan plan;
    int exit_code, rc = kv_plan_build(o, p, &plan, err);
    if (rc)
        exit_code = kv_exit_of(rc);
    else if (kv_opts_flag(o, KV_OPT_DRY_RUN))
        exit_code = kv_exit_of(print_plan(o, &plan, io->out, err));
    else
        exit_code = sweep(o, &plan, db, io, err);
    kv_plan_free(&plan);
    return exit_code;
}
