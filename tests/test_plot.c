/* test_plot.c - the figures against the rows they were drawn from.
 *
 * Pixel positions in the SVG are turned back into data with the ranges and margins of the script, and compared with
 * what the query of the figure returns: one series per policy, its points equal to the rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/file.h"
#include "results/figure.h"
#include "results/process.h"
#include "results/report.h"
#include "results/store_internal.h"

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/trimbench-plot-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static const char *in_folder(const char *name) {
    static char path[4][128];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static char *read_text(const char *path) {
    char *text;
    size_t size;
    kv_error err = {0};
    if (kv_read_file(path, &text, &size, &err)) fail_msg("%s", err.text);
    return text;
}

static void need_gnuplot(void) {
    int status;
    char complaint[64];
    const char *argv[] = {"gnuplot", "--version", NULL};
    if (kv_process_run(argv, "/", &status, complaint, sizeof complaint, NULL)) skip();
}

static kv_cell cell(const char *task, const char *policy, const char *title, int budget, double accuracy, double mib) {
    kv_cell c = {.status = "done",
                 .model = "tiny",
                 .prefill = "full",
                 .query = "after",
                 .numerics = "fast",
                 .backend = "cpu",
                 .budget = budget,
                 .buffer = budget ? 32 : 0,
                 .max_new = 64,
                 .n = 40,
                 .accuracy = accuracy,
                 .stderr_ = 0.05,
                 .kv_bytes_peak = (int64_t)(mib * 1048576)};
    snprintf(c.task, sizeof c.task, "%s", task);
    snprintf(c.policy, sizeof c.policy, "%s", policy);
    snprintf(c.policy_title, sizeof c.policy_title, "%s", title);
    return c;
}

/* A file with two tasks, four policies, a failed cell and one without measured bytes. */
static void fill_store(kv_store *s) {
    static const struct {
        const char *task, *policy, *title;
        int budget, right, n;
        int64_t bytes;
    } rows[] = {
        {"needle", "full", "Full cache", 0, 9, 10, 33000000}, {"needle", "h2o", "H2O", 256, 5, 10, 6600000},
        {"needle", "h2o", "H2O", 128, 2, 10, 3300000},        {"needle", "h2o", "H2O", 512, 8, 9, 12600000},
        {"needle", "window", "Window", 128, 0, 10, 3200000},  {"needle", "window", "Window", 512, 3, 10, 12500000},
        {"needle", "trimkv", "TRIM-KV", 256, 0, 0, 0},        {"gsm8k", "full", "Full cache", 0, 3, 10, 9000000},
        {"gsm8k", "h2o", "H2O", 300, 10, 10, 5000000},        {"gsm8k", "h2o", "H2O", 128, 1, 10, 0},
        {"gsm8k", "trimkv", "TRIM-KV", 128, 3, 10, 2500000},
    };
    kv_error err = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char key[65];
        int64_t policy, task, run;
        snprintf(key, sizeof key, "%064zu", i);
        assert_int_equal(
            kv_store_policy(s, &(kv_policy_row){.name = rows[i].policy, .title = rows[i].title}, &policy, &err), KV_OK);
        assert_int_equal(kv_store_task(s, &(kv_task_row){.name = rows[i].task}, &task, &err), KV_OK);
        kv_run_row r = {.cell_key = key,
                        .policy_id = policy,
                        .task_id = task,
                        .budget = rows[i].budget,
                        .buffer = rows[i].budget ? 32 : 0,
                        .prefill = "full",
                        .query = "after",
                        .backend = "cpu",
                        .numerics = "fast",
                        .max_new = 64};
        assert_int_equal(kv_store_begin_run(s, &r, &run, &err), KV_OK);
        for (int k = 0; k < rows[i].n; k++) {
            char item[16];
            snprintf(item, sizeof item, "i%d", k);
            kv_sample_row sample = {
                .item = item, .score = k < rows[i].right, .partial = 0, .kv_bytes_peak = rows[i].bytes, .status = "ok"};
            assert_int_equal(kv_store_sample(s, run, &sample, &err), KV_OK);
        }
        assert_int_equal(kv_store_end_run(s, run, rows[i].n ? "done" : "oom", NULL, &err), KV_OK);
    }
}

/* Ranges and margins of panel p, read from the script. */
typedef struct axes {
    double x_min, x_max, y_min, y_max, left, right, top, bottom; /* margins in pixels */
} axes;

static double number_after(const char *s, const char *what) {
    const char *at = strstr(s, what);
    if (!at) fail_msg("no '%s' in the script", what);
    return strtod(at + strlen(what), NULL);
}

static axes read_axes(const char *gp, const char *svg, int p) {
    double w, h;
    for (int i = 0; i <= p; i++) {
        gp = strstr(gp, "set lmargin at screen ");
        assert_non_null(gp);
        gp++;
    }
    gp--;
    assert_int_equal(sscanf(strstr(svg, "viewBox=\""), "viewBox=\"0 0 %lf %lf\"", &w, &h), 2);
    axes a = {.x_min = number_after(gp, "x_min = "),
              .x_max = number_after(gp, "x_max = "),
              .y_min = number_after(gp, "set yrange ["),
              .left = w * number_after(gp, "set lmargin at screen "),
              .right = w * number_after(gp, "set rmargin at screen "),
              .top = h * (1 - number_after(gp, "set tmargin at screen ")),
              .bottom = h * (1 - number_after(gp, "set bmargin at screen "))};
    a.y_max = number_after(strstr(gp, "set yrange ["), ":");
    return a;
}

static double x_of(const axes *a, double px) {
    return a->x_min * pow(a->x_max / a->x_min, (px - a->left) / (a->right - a->left));
}

static double y_of(const axes *a, double py) {
    return a->y_min + (a->y_max - a->y_min) * (a->bottom - py) / (a->bottom - a->top);
}

/* The group of a series in a panel; NULL when it has none there.  *end is where it ends. */
static const char *find_group(const char *svg, const char *figure, int panel, const char *title, const char **end) {
    char id[64], want[128];
    snprintf(id, sizeof id, "<g id=\"%s_plot_", figure);
    snprintf(want, sizeof want, "<title>%s</title>", title);
    for (const char *g = svg; (g = strstr(g, id)); g++) {
        const char *letter = g + strlen(id) + strspn(g + strlen(id), "0123456789");
        const char *t = strstr(g, "<title>");
        if (*letter != 'a' + panel || !t || strncmp(t, want, strlen(want))) continue;
        const char *next = strstr(g + 1, id);
        *end = next ? next : g + strlen(g);
        return t;
    }
    return NULL;
}

/* Data positions of the markers of one series; returns how many. */
static int read_points(const char *svg, const char *figure, int panel, const char *title, const axes *a, double *x,
                       double *y, int max) {
    const char *end, *s = find_group(svg, figure, panel, title, &end);
    int n = 0;
    while (s && (s = strstr(s, "<use xlink:href='#")) && s < end) {
        double px, py;
        const char *at = strstr(s, "translate(");
        if (at && sscanf(at, "translate(%lf,%lf)", &px, &py) == 2 && n < max) {
            x[n] = x_of(a, px);
            y[n++] = y_of(a, py);
        }
        s++;
    }
    return n;
}

static const char *title_of(const char *policy) {
    return !strcmp(policy, "full")     ? "Full cache"
           : !strcmp(policy, "h2o")    ? "H2O"
           : !strcmp(policy, "window") ? "Window"
                                       : "TRIM-KV";
}

/* Every row of the query is a point of the figure and every point a row. */
static void compare_with_query(const char *db_path, const char *figure, const char *stem) {
    char path[256], name[64];
    snprintf(path, sizeof path, "%s/results/queries/%s.sql", KV_SOURCE_DIR, figure);
    char *sql = read_text(path);
    snprintf(name, sizeof name, "%s_%s.svg", stem, figure);
    char *svg = read_text(in_folder(name));
    snprintf(name, sizeof name, "%s_%s.gp", stem, figure);
    char *gp = read_text(in_folder(name));
    axes panels[2] = {read_axes(gp, svg, 0), read_axes(gp, svg, 1)};
    sqlite3 *db;
    sqlite3_stmt *st;
    assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    int rows = 0, markers = 0, lines = 0;
    while (sqlite3_step(st) == SQLITE_ROW) {
        const char *policy = (const char *)sqlite3_column_text(st, 1), *end;
        int panel = strcmp((const char *)sqlite3_column_text(st, 0), "needle") != 0, hit = 0;
        const axes *a = &panels[panel];
        double want_y = sqlite3_column_double(st, 3), x[16], y[16];
        rows++;
        if (sqlite3_column_type(st, 2) == SQLITE_NULL) { /* the full cache against M: a line across the panel */
            double p[4];
            const char *g = find_group(svg, figure, panel, title_of(policy), &end), *d = g ? strstr(g, " d='M") : NULL;
            assert_non_null(d);
            assert_int_equal(sscanf(d, " d='M%lf,%lf L%lf,%lf", &p[0], &p[1], &p[2], &p[3]), 4);
            assert_true(fabs(p[0] - a->left) < 1 && fabs(p[2] - a->right) < 1);
            assert_true(fabs(y_of(a, p[1]) - want_y) < 0.003 && p[1] == p[3]);
            lines++;
            continue;
        }
        double want_x = sqlite3_column_double(st, 2);
        int n = read_points(svg, figure, panel, title_of(policy), a, x, y, 16);
        for (int i = 0; i < n; i++) hit |= fabs(x[i] / want_x - 1) < 0.005 && fabs(y[i] - want_y) < 0.003;
        if (!hit) fail_msg("%s: no point at %g, %g of %s in panel %d", figure, want_x, want_y, policy, panel);
    }
    static const char *const policies[] = {"full", "h2o", "window", "trimkv"};
    for (int p = 0; p < 2; p++)
        for (int i = 0; i < 4; i++) {
            double x[16], y[16];
            markers += read_points(svg, figure, p, title_of(policies[i]), &panels[p], x, y, 16);
        }
    assert_int_equal(markers + lines, rows);
    assert_true(rows >= 9);
    sqlite3_finalize(st);
    sqlite3_close(db);
    free(sql);
    free(svg);
    free(gp);
}

static void points_equal_the_rows_of_the_query(void **state) {
    (void)state;
    need_gnuplot();
    char db[128];
    snprintf(db, sizeof db, "%s/rows.sqlite", folder);
    kv_store *s;
    kv_cell *cells;
    size_t n;
    kv_error err = {0};
    kv_plot_files files;
    if (kv_store_open(db, &s, &err)) fail_msg("%s", err.text);
    fill_store(s);
    assert_int_equal(kv_store_cells(s, NULL, 0, &cells, &n, &err), KV_OK);
    if (kv_report_plot(cells, n, folder, "rows", NULL, &files, &err)) fail_msg("%s", err.text);
    assert_string_equal(files.bytes_png, in_folder("rows_bytes.png"));
    compare_with_query(db, "budget", "rows");
    compare_with_query(db, "bytes", "rows");
    char *svg = read_text(files.budget_svg);
    assert_non_null(strstr(svg, "cpu, fast, prefill full, B = 32, n = 9 to 10"));
    assert_non_null(strstr(svg, "1 cell without a result not shown."));
    free(svg);
    free(cells);
    kv_store_close(s);
}

static void draws_texts_literally_and_runs_none_of_them(void **state) {
    (void)state;
    need_gnuplot();
    kv_cell cells[] = {
        cell("it's `touch pwned` $(touch pwned)\n!touch pwned", "h2o", "<b>\"H_2O\"</b> '.system('x').'", 128, 0.5, 3),
        cell("{/:Bold a}^2 \\ %d @x", "window:sinks=0", "W", 256, 0.25, 4)};
    kv_plot_files files;
    kv_error err = {0};
    if (kv_report_plot(cells, 2, folder, "it's odd", NULL, &files, &err)) fail_msg("%s", err.text);
    assert_int_not_equal(access(in_folder("pwned"), F_OK), 0);
    char *svg = read_text(files.bytes_svg);
    assert_non_null(strstr(svg, "it's `touch pwned` $(touch pwned) !touch pwned"));
    assert_non_null(strstr(svg, "{/:Bold a}^2 \\ %d @x"));
    assert_non_null(strstr(svg, "<title>&lt;b&gt;&quot;H_2O&quot;&lt;/b&gt; &#39;.system(&#39;x&#39;).&#39;</title>"));
    assert_non_null(strstr(svg, "W (sinks=0)"));
    free(svg);
}

static void never_joins_unlike_cells_by_a_line(void **state) {
    (void)state;
    kv_cell cells[] = {cell("a", "full", "Full cache", 0, 0.9, 9), cell("a", "h2o", "H2O", 128, 0.5, 3),
                       cell("a", "h2o", "H2O", 256, 0.6, 4), cell("a", "h2o", "H2O", 256, 0.7, 4),
                       cell("a", "h2o:recent=8", "H2O", 256, 0.7, 4)};
    snprintf(cells[3].query, sizeof cells[3].query, "before");
    kv_figure f;
    kv_error err = {0};
    assert_int_equal(kv_figure_make(cells, 5, KV_X_BUDGET, &f, &err), KV_OK);
    assert_int_equal(f.n_panels, 1);
    assert_int_equal(f.n_series, 4);
    assert_string_equal(f.series[0].label, "Full cache, query after");
    assert_string_equal(f.series[1].label, "H2O, query after");
    assert_string_equal(f.series[2].label, "H2O, query before");
    assert_string_equal(f.series[3].label, "H2O (recent=8), query after");
    assert_int_equal(f.series_of[2], 1);
    assert_string_equal(f.series[1].colour, f.series[3].colour);
    assert_int_not_equal(f.series[1].dash, f.series[3].dash);
    assert_int_not_equal(f.series[1].marker, f.series[3].marker);
    kv_figure_free(&f);
}

static void splits_series_by_seed_and_by_gates_where_there_are_some(void **state) {
    (void)state;
    kv_cell cells[] = {cell("a", "h2o", "H2O", 128, 0.5, 3), cell("a", "trimkv", "TRIM-KV", 128, 0.5, 3),
                       cell("a", "trimkv", "TRIM-KV", 128, 0.6, 3), cell("a", "trimkv", "TRIM-KV", 128, 0.7, 3)};
    for (int i = 1; i < 4; i++) snprintf(cells[i].gates, sizeof cells[i].gates, i == 3 ? "new" : "old");
    cells[2].seed = 5;
    kv_figure f;
    kv_error err = {0};
    assert_int_equal(kv_figure_make(cells, 4, KV_X_BUDGET, &f, &err), KV_OK);
    assert_int_equal(f.n_series, 4);
    assert_string_equal(f.series[0].label, "H2O, seed 0");
    assert_string_equal(f.series[1].label, "TRIM-KV, gates old, seed 0");
    assert_string_equal(f.series[2].label, "TRIM-KV, gates old, seed 5");
    assert_string_equal(f.series[3].label, "TRIM-KV, gates new, seed 0");
    kv_figure_free(&f);
}

static void gives_every_task_and_variant_a_panel(void **state) {
    (void)state;
    kv_cell cells[] = {cell("a", "h2o", "H2O", 128, 0.5, 3), cell("a", "h2o", "H2O", 128, 0.5, 3),
                       cell("b", "h2o", "H2O", 128, 0.5, 3), cell("c", "h2o", "H2O", 128, NAN, 3)};
    snprintf(cells[0].variant, sizeof cells[0].variant, "plain");
    snprintf(cells[1].variant, sizeof cells[1].variant, "boxed");
    cells[3].n = 0;
    kv_figure f;
    kv_error err = {0};
    assert_int_equal(kv_figure_make(cells, 4, KV_X_BYTES, &f, &err), KV_OK);
    assert_int_equal(f.n_panels, 3);
    assert_string_equal(f.panels[0].title, "a, plain");
    assert_string_equal(f.panels[1].title, "a, boxed");
    assert_string_equal(f.panels[2].title, "b");
    assert_int_equal(f.n_series, 1);
    assert_int_equal(f.panel_of[3], -1);
    kv_figure_free(&f);
}

static void breaks_long_titles_over_their_panel(void **state) {
    (void)state;
    static const char longest[] = "needle_grid:min_tokens=512:max_tokens=1024:lengths=2:depths=2";
    char endless[96];
    memset(endless, 'x', sizeof endless - 1);
    endless[sizeof endless - 1] = 0;
    kv_cell cells[] = {cell("short", "h2o", "H2O", 128, 0, 3), cell(longest, "h2o", "H2O", 128, 1, 3),
                       cell(endless, "h2o", "H2O", 128, 1, 3), cell("d", "h2o", "H2O", 128, 1, 3),
                       cell("e", "h2o", "H2O", 128, 1, 3)};
    kv_figure f;
    kv_error err = {0};
    snprintf(cells[2].variant, sizeof cells[2].variant, "one");
    assert_int_equal(kv_figure_make(cells, 5, KV_X_BUDGET, &f, &err), KV_OK);
    assert_string_equal(f.panels[0].heading[0], "short");
    assert_string_equal(f.panels[0].heading[1], "");
    assert_string_equal(f.panels[1].heading[0], "needle_grid:min_tokens=512:max_tokens=1024:lengths=2");
    assert_string_equal(f.panels[1].heading[1], ":depths=2");
    assert_true(strlen(f.panels[2].heading[0]) < 60 && strlen(f.panels[2].heading[1]) < 60);
    for (int p = 0; p < f.n_panels; p++) assert_true(f.panels[p].y_max - f.panels[p].y_min >= 0.1);
    kv_figure_free(&f);
}

static void keeps_points_and_bars_inside_the_panel(void **state) {
    (void)state;
    const double accuracy[] = {0, 0.02, 0.5, 0.93, 1}, bars[] = {0, 0.01, 0.3};
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 3; j++) {
            kv_cell cells[] = {cell("a", "h2o", "H2O", 100, accuracy[i], 0.01),
                               cell("a", "h2o", "H2O", 3000, accuracy[i] / 2, 700)};
            cells[0].stderr_ = cells[1].stderr_ = bars[j];
            for (int x = KV_X_BUDGET; x <= KV_X_BYTES; x++) {
                kv_figure f;
                assert_int_equal(kv_figure_make(cells, 2, (kv_figure_x)x, &f, NULL), KV_OK);
                const kv_panel *p = &f.panels[0];
                for (int c = 0; c < 2; c++) {
                    assert_true(p->y_min < cells[c].accuracy - bars[j] && cells[c].accuracy + bars[j] < p->y_max);
                    assert_true(p->x_min < kv_figure_cell_x(&f, &cells[c]) &&
                                kv_figure_cell_x(&f, &cells[c]) < p->x_max);
                }
                assert_in_range(p->n_x_tics, 2, 12);
                for (int t = 0; t < p->n_x_tics; t++) assert_true(p->x_min <= p->x_tics[t] && p->x_tics[t] <= p->x_max);
                kv_figure_free(&f);
            }
        }
}

static void draws_full_cache_alone_and_many_panels(void **state) {
    (void)state;
    need_gnuplot();
    kv_cell cells[30];
    kv_plot_files files;
    kv_error err = {0};
    cells[0] = cell("a", "full", "Full cache", 0, 1, 3);
    if (kv_report_plot(cells, 1, folder, "alone", NULL, &files, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < 30; i++) {
        char task[32];
        snprintf(task, sizeof task, "task %d", i);
        cells[i] = cell(task, "h2o", "H2O", 128, 0.5, 3);
    }
    if (kv_report_plot(cells, 30, folder, "many", NULL, &files, &err)) fail_msg("%s", err.text);
}

static void says_that_gnuplot_is_missing_and_leaves_the_data(void **state) {
    (void)state;
    static const char *const left[] = {"absent_budget.dat", "absent_budget.gp", "absent_bytes.dat", "absent_bytes.gp"};
    kv_cell c = cell("a", "h2o", "H2O", 128, 0.5, 3);
    kv_plot_files files;
    kv_error err = {0};
    assert_int_equal(kv_report_plot(&c, 1, folder, "absent", "no-such-gnuplot", &files, &err), KV_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "no-such-gnuplot"));
    assert_non_null(strstr(err.text, "install gnuplot"));
    assert_string_equal(files.budget_svg, "");
    for (int i = 0; i < 4; i++) assert_int_equal(access(in_folder(left[i]), R_OK), 0);
    char *dat = read_text(in_folder("absent_budget.dat"));
    assert_non_null(strstr(dat, "\n128 0.5 0.05 40\n"));
    free(dat);
}

/* A program that stands in for gnuplot. */
static const char *fake_gnuplot(const char *name, const char *body) {
    const char *path = in_folder(name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\n%s\n", body);
    fclose(f);
    assert_int_equal(chmod(path, 0755), 0);
    return path;
}

static void passes_the_complaints_of_gnuplot_on(void **state) {
    (void)state;
    static const struct {
        const char *body, *word;
        int code;
    } cases[] = {
        {"echo 'line 7: undefined variable' >&2; exit 3", "line 7: undefined variable", KV_EIO},
        {"kill -9 $$", "status 137", KV_EIO},
        {"exit 0", "drew nothing", KV_EIO},
        {"for i in budget bytes; do echo '<svg><g>' > fake_$i.svg; echo x > fake_$i.png; done", "did not finish",
         KV_EFORMAT},
        {"for i in budget bytes; do echo '<svg></svg>' > fake_$i.svg; echo x > fake_$i.png; done", "not understood",
         KV_EFORMAT},
    };
    kv_cell c = cell("a", "h2o", "H2O", 128, 0.5, 3);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_plot_files files;
        kv_error err = {0};
        char name[16];
        snprintf(name, sizeof name, "gnuplot%zu", i);
        int rc = kv_report_plot(&c, 1, folder, "fake", fake_gnuplot(name, cases[i].body), &files, &err);
        if (rc != cases[i].code || !strstr(err.text, cases[i].word)) fail_msg("%d: %s", rc, err.text);
    }
}

static void refuses_what_cannot_be_plotted(void **state) {
    (void)state;
    kv_cell c = cell("a", "h2o", "H2O", 128, 0.5, 3), empty = cell("a", "h2o", "H2O", 128, NAN, 0);
    empty.n = 0;
    kv_plot_files files;
    kv_error err = {0};
    assert_int_equal(kv_report_plot(&empty, 1, folder, "none", NULL, &files, &err), KV_ENOTFOUND);
    assert_int_equal(kv_report_plot(NULL, 0, folder, "none", NULL, &files, &err), KV_ENOTFOUND);
    assert_int_equal(kv_report_plot(&c, 1, folder, "a/b", NULL, &files, &err), KV_EARG);
    assert_int_equal(kv_report_plot(&c, 1, folder, "", NULL, &files, &err), KV_EARG);
    assert_int_equal(kv_report_plot(&c, 1, folder, "a\nb", NULL, &files, &err), KV_EARG);
    assert_int_equal(kv_report_plot(&c, 1, in_folder("gone"), "x", NULL, &files, &err), KV_EIO);
    assert_non_null(strstr(err.text, "gone"));
    char deep[700];
    memset(deep, 'd', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    assert_int_equal(kv_report_plot(&c, 1, deep, "x", NULL, &files, &err), KV_ELIMIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(points_equal_the_rows_of_the_query),
        cmocka_unit_test(draws_texts_literally_and_runs_none_of_them),
        cmocka_unit_test(never_joins_unlike_cells_by_a_line),
        cmocka_unit_test(splits_series_by_seed_and_by_gates_where_there_are_some),
        cmocka_unit_test(gives_every_task_and_variant_a_panel),
        cmocka_unit_test(breaks_long_titles_over_their_panel),
        cmocka_unit_test(keeps_points_and_bars_inside_the_panel),
        cmocka_unit_test(draws_full_cache_alone_and_many_panels),
        cmocka_unit_test(says_that_gnuplot_is_missing_and_leaves_the_data),
        cmocka_unit_test(passes_the_complaints_of_gnuplot_on),
        cmocka_unit_test(refuses_what_cannot_be_plotted),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
