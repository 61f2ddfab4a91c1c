/* test_heatmap.c - the needle's heat map against the samples it was drawn from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/file.h"
#include "results/process.h"
#include "results/report.h"
#include "tests/support/scratch.h"

typedef struct fixture {
    scratch s;
    kv_store *store;
    kv_cell *cells;
    size_t n;
} fixture;

static void add_cell(kv_store *s, int i, const char *policy, const char *title, int budget, const char *query,
                     const char *const *items, const double *scores, int n) {
    char key[65];
    int64_t policy_id, task, run;
    kv_error err;
    snprintf(key, sizeof key, "%064d", i);
    assert_int_equal(kv_store_policy(s, &(kv_policy_row){.name = policy, .title = title}, &policy_id, &err), KV_OK);
    assert_int_equal(kv_store_task(s, &(kv_task_row){.name = "needle_grid"}, &task, &err), KV_OK);
    kv_run_row r = {.cell_key = key,
                    .policy_id = policy_id,
                    .task_id = task,
                    .budget = budget,
                    .buffer = budget ? 32 : 0,
                    .prefill = "full",
                    .query = query,
                    .backend = "cpu",
                    .numerics = "fast",
                    .max_new = 32};
    assert_int_equal(kv_store_begin_run(s, &r, &run, &err), KV_OK);
    for (int k = 0; k < n; k++) {
        kv_sample_row sample = {.item = items[k], .score = scores[k], .kv_bytes_peak = 1000000, .status = "ok"};
        if (scores[k] < 0) sample.status = sample.error = "error";
        assert_int_equal(kv_store_sample(s, run, &sample, &err), KV_OK);
    }
    assert_int_equal(kv_store_end_run(s, run, "done", NULL, &err), KV_OK);
}

/* Two grids, of which one lacks a point, and a cell of other items. */
static void open_fixture(fixture *f) {
    static const char *const all[] = {"1000/0/0", "1000/0/1", "1000/100/0", "1000/100/1",
                                      "2500/0/0", "2500/0/1", "2500/100/0", "2500/100/1"};
    static const char *const some[] = {"2500/0/0", "1000/0/0", "2500/50/0", "1000/50/0"};
    static const char *const others[] = {"0", "1", "1000/50"};
    kv_error err;
    assert_int_equal(scratch_open(&f->s), 0);
    if (kv_store_open(scratch_path(&f->s, "r.sqlite"), &f->store, &err)) fail_msg("%s", err.text);
    add_cell(f->store, 1, "full", "Full cache", 0, "after", all, (const double[]){1, 1, 1, 0, 1, 1, 0, 0}, 8);
    add_cell(f->store, 2, "snapkv", "SnapKV", 256, "before", some, (const double[]){0.25, 1, 0, -1}, 4);
    add_cell(f->store, 3, "full", "Full cache", 0, "after", others, (const double[]){1, 1, 1}, 3);
    assert_int_equal(kv_store_cells(f->store, NULL, 0, &f->cells, &f->n, &err), KV_OK);
    assert_int_equal(f->n, 3);
}

static void close_fixture(fixture *f) {
    kv_store_close(f->store);
    free(f->cells);
    scratch_close(&f->s);
}

static char *read_text(fixture *f, const char *name) {
    char *text = NULL;
    size_t size;
    kv_error err;
    if (kv_read_file(scratch_path(&f->s, name), &text, &size, &err)) fail_msg("%s", err.text);
    return text;
}

static void expect_data(fixture *f) {
    char *dat = read_text(f, "x_heatmap.dat");
    const char *full = strstr(dat, "# Full cache, query after\n"),
               *snapkv = strstr(dat, "# SnapKV, M = 256, B = 32, query before\n");
    assert_non_null(full);
    assert_non_null(snapkv);
    assert_memory_equal(strchr(full, '\n') + 1,
                        "0 0 1 1000 0 2\n1 0 1 2500 0 2\n0 1 0.5 1000 100 2\n1 1 0 2500 100 2\n\n\n", 65);
    /* the failed sample is no point */
    assert_string_equal(strchr(snapkv, '\n') + 1,
                        "0 0 1 1000 0 1\n1 0 0.25 2500 0 1\n0 1 NaN 1000 50 0\n1 1 0 2500 50 1\n");
    assert_null(strstr(strchr(snapkv, '\n'), "#"));
    free(dat);
}

static void draws_a_map_for_every_grid(void **state) {
    fixture f;
    kv_plot_files files = {0};
    kv_error err = {0};
    int status;
    char complaint[64];
    const char *argv[] = {"gnuplot", "--version", NULL};
    (void)state;
    if (kv_process_run(argv, "/", &status, complaint, sizeof complaint, NULL)) skip();
    open_fixture(&f);
    if (kv_report_heatmap(f.store, f.cells, f.n, f.s.dir, "x", NULL, &files, &err)) fail_msg("%s", err.text);
    assert_string_equal(files.heatmap_svg, scratch_path(&f.s, "x_heatmap.svg"));
    assert_string_equal(files.heatmap_png, scratch_path(&f.s, "x_heatmap.png"));
    assert_int_equal(access(files.heatmap_png, R_OK), 0);
    expect_data(&f);
    char *svg = read_text(&f, "x_heatmap.svg");
    assert_non_null(strstr(svg, "<title>Full cache, query after</title>"));
    assert_non_null(strstr(svg, "<title>SnapKV, M = 256, B = 32, query before</title>"));
    assert_non_null(strstr(svg, "answers a point 1 to 2"));
    assert_non_null(strstr(svg, "depth (%)"));
    free(svg);
    /* the page takes it in */
    if (kv_report_html(f.cells, f.n, &files, "t", "f", scratch_path(&f.s, "x.html"), &err)) fail_msg("%s", err.text);
    char *page = read_text(&f, "x.html");
    assert_non_null(strstr(page, "Score by depth and length"));
    free(page);
    close_fixture(&f);
}

static void without_gnuplot_the_data_are_there(void **state) {
    fixture f;
    kv_plot_files files = {0};
    kv_error err = {0};
    (void)state;
    open_fixture(&f);
    assert_int_equal(kv_report_heatmap(f.store, f.cells, f.n, f.s.dir, "x", "/nonexistent/gnuplot", &files, &err),
                     KV_EUNSUPPORTED);
    assert_string_equal(files.heatmap_svg, "");
    expect_data(&f);
    close_fixture(&f);
}

static void without_a_grid_nothing_is_drawn(void **state) {
    fixture f;
    kv_plot_files files = {.heatmap_svg = "x"};
    kv_error err = {0};
    (void)state;
    open_fixture(&f);
    assert_int_equal(kv_report_heatmap(f.store, f.cells + 2, 1, f.s.dir, "y", NULL, &files, &err), KV_OK);
    assert_int_equal(kv_report_heatmap(f.store, f.cells, 0, f.s.dir, "y", NULL, &files, &err), KV_OK);
    assert_string_equal(files.heatmap_svg, "");
    assert_int_not_equal(access(scratch_path(&f.s, "y_heatmap.dat"), R_OK), 0);
    close_fixture(&f);
}

static void scores_are_those_that_count(void **state) {
    fixture f;
    kv_item_score *scores;
    size_t n;
    kv_error err;
    (void)state;
    open_fixture(&f);
    assert_int_equal(kv_store_scores(f.store, f.cells[1].cell_key, &scores, &n, &err), KV_OK);
    assert_int_equal(n, 3);
    assert_string_equal(scores[0].item, "1000/0/0");
    assert_string_equal(scores[1].item, "2500/0/0");
    assert_true(scores[0].score == 1 && scores[1].score == 0.25);
    free(scores);
    assert_int_equal(kv_store_scores(f.store, "none", &scores, &n, &err), KV_OK);
    assert_null(scores);
    assert_int_equal(n, 0);
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_a_map_for_every_grid),
        cmocka_unit_test(without_gnuplot_the_data_are_there),
        cmocka_unit_test(without_a_grid_nothing_is_drawn),
        cmocka_unit_test(scores_are_those_that_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
