/* plot.c - the `plot` command: accuracy against M and against measured bytes, the needle's heat map, and one page that
 * holds it all. */
#include <stdlib.h>
#include <string.h>

#include "bench/command.h"
#include "bench/folder.h"
#include "bench/hostinfo.h"
#include "results/report.h"

static int wanted(const kv_opts *o, kv_opt_id id, const char *value) {
    size_t n = kv_opts_n(o, id);
    for (size_t i = 0; i < n; i++)
        if (strcmp(o->v[id].texts[i], value) == 0) return 1;
    return n == 0;
}

/* Drops cells that the filters leave out, and those that measured speed (no task); returns how many stay. */
static size_t filter(const kv_opts *o, kv_cell *cells, size_t n) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (cells[i].task[0] && wanted(o, KV_OPT_FILTER_TASK, cells[i].task) &&
            wanted(o, KV_OPT_FILTER_VARIANT, cells[i].variant) && wanted(o, KV_OPT_FILTER_PREFILL, cells[i].prefill) &&
            wanted(o, KV_OPT_FILTER_QUERY, cells[i].query))
            cells[kept++] = cells[i];
    return kept;
}

/* Folder and name without ending of a database path. */
static int split_path(const char *db, char *dir, char *stem, kv_error *err) {
    const char *slash = strrchr(db, '/'), *name = slash ? slash + 1 : db;
    if (strlen(db) >= KV_PATH_MAX) return kv_fail(err, KV_ELIMIT, "--db: the path is too long");
    snprintf(dir, KV_PATH_MAX, "%.*s", slash ? (int)(slash - db) : 1, slash ? db : ".");
    if (slash == db) strcpy(dir, "/");
    const char *dot = strrchr(name, '.');
    snprintf(stem, 256, "%.*s", (int)(dot ? (size_t)(dot - name) : strlen(name)), name);
    if (!stem[0] || stem[0] == '-') strcpy(stem, "trimbench");
    return KV_OK;
}

static int draw(const kv_opts *o, const char *db, kv_store *store, const kv_cell *cells, size_t n, const kv_io *io,
                kv_error *err) {
    char dir[KV_PATH_MAX], stem[256], page[KV_PATH_MAX + 300], footer[1024];
    kv_plot_files files = {0};
    kv_error plot_err = {0};
    kv_host_info host;
    const kv_build_info *b = kv_buildinfo_get();
    int rc = split_path(db, dir, stem, err);
    if (rc) return rc;
    if (kv_opts_text(o, KV_OPT_OUT)) {
        int size = snprintf(dir, sizeof dir, "%s", kv_opts_text(o, KV_OPT_OUT));
        if (size >= (int)sizeof dir) return kv_fail(err, KV_ELIMIT, "--out: the path is too long");
        while (size > 1 && dir[size - 1] == '/') dir[--size] = 0;
        if ((rc = kv_make_folder(dir, err))) return rc;
    }
    const char *gnuplot = kv_opts_text(o, KV_OPT_GNUPLOT);
    int plotted = kv_report_plot(cells, n, dir, stem, gnuplot, &files, &plot_err);
    if (!plotted || plotted == KV_EUNSUPPORTED) {
        rc = kv_report_heatmap(store, cells, n, dir, stem, gnuplot, &files, &plot_err);
        if (rc) plotted = rc;
    }
    if (plotted && plotted != KV_EUNSUPPORTED) {
        *err = plot_err;
        return plotted;
    }
    kv_hostinfo_read(&host);
    snprintf(footer, sizeof footer, "%.400s; database %.200s; %s, %d cores; commit %.40s%s", io->argv_text, db,
             host.cpu, host.n_cores, b->commit, b->dirty ? " with changes" : "");
    snprintf(page, sizeof page, "%s/%s.html", dir, stem);
    rc = kv_report_html(cells, n, plotted ? NULL : &files, "trimbench", footer, page, err);
    if (rc) return rc;
    if (!plotted)
        fprintf(io->out, "%s\n%s\n%s\n%s\n", files.budget_svg, files.budget_png, files.bytes_svg, files.bytes_png);
    if (!plotted && files.heatmap_svg[0]) fprintf(io->out, "%s\n%s\n", files.heatmap_svg, files.heatmap_png);
    fprintf(io->out, "%s\n", page);
    if (plotted) *err = plot_err;
    return plotted;
}

int kv_cmd_plot(const kv_opts *o, const kv_paths *p, const kv_io *io, kv_error *err) {
    const char *db = kv_opts_text_or(o, KV_OPT_DB, p->db);
    kv_store *store = NULL;
    kv_cell *cells = NULL;
    size_t n = 0;
    int rc = kv_store_open_existing(db, &store, err);
    if (rc == KV_OK) rc = kv_store_cells(store, NULL, 0, &cells, &n, err);
    size_t n_all = n;
    n = filter(o, cells, n);
    if (rc == KV_OK && n == 0)
        rc = kv_fail(err, KV_ENOTFOUND, "%.300s: %s", db,
                     n_all ? "no cell of a task passes the filters" : "nothing in it: trimbench run writes results");
    if (rc == KV_OK) rc = draw(o, db, store, cells, n, io, err);
    kv_store_close(store);
    free(cells);
    return rc == KV_EUNSUPPORTED && n ? KV_EXIT_FAILED : kv_exit_of(rc); /* no gnuplot: the page is there */
}
