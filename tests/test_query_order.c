/* test_query_order.c - no row, table, page or plot leaves open whether the question was seen before the compression.
 *
 * The answer decides what a figure means, so it is looked for in everything that `run` and `plot` print, with one order
 * and with both, and in figures whose other texts leave little room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <cjson/cJSON.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/file.h"
#include "results/figure.h"
#include "tests/support/cli.h"
#include "tests/support/scratch.h"

#define SWEEP                                                                                                          \
    "run --model golden/tiny-llama.gguf --prompt-variant short --policy full,window --budget 24 --buffer 8 --limit 2 " \
    "--max-new 4 --threads 1 --quiet "

/* Runs the sweep, output in *out; the caller frees with cli_free. */
static cli_result sweep(const char *options, const char *db) {
    char line[1024];
    snprintf(line, sizeof line, SWEEP "%s --db %s", options, scratch_path(&scratch_dir, db));
    cli_result r = cli_run(line);
    if (r.code) fail_msg("%s: %s", line, r.err);
    return r;
}

static void every_row_says_it(void **state) {
    (void)state;
    cli_result r = sweep("--query after,before --format json", "both.sqlite");
    int seen[2] = {0};
    for (char *l = strtok(r.out, "\n"); l; l = strtok(NULL, "\n")) {
        cJSON *row = cJSON_Parse(l);
        const char *query = cJSON_GetStringValue(cJSON_GetObjectItem(row, "query"));
        assert_non_null(query);
        seen[0] += !strcmp(query, "after");
        seen[1] += !strcmp(query, "before");
        cJSON_Delete(row);
    }
    assert_int_equal(seen[0], 2);
    assert_int_equal(seen[1], 2);
    cli_free(&r);
    r = sweep("--query after,before --format csv", "both.sqlite");
    assert_non_null(strstr(r.out, ",prefill,query,max_new,"));
    assert_non_null(strstr(r.out, ",full,after,4,"));
    assert_non_null(strstr(r.out, ",full,before,4,"));
    cli_free(&r);
}

static void every_table_says_it(void **state) {
    (void)state;
    cli_result r = sweep("--query after", "after.sqlite");
    assert_non_null(strstr(r.out, "query after"));
    cli_free(&r);
    r = sweep("--query before", "before.sqlite");
    assert_non_null(strstr(r.out, "query before"));
    cli_free(&r);
    r = sweep("--query after,before", "both.sqlite");
    assert_non_null(strstr(r.out, "query   policy"));
    assert_non_null(strstr(r.out, "\nafter   window"));
    assert_non_null(strstr(r.out, "\nbefore  window"));
    cli_free(&r);
    r = sweep("--query after,before --dry-run", "both.sqlite");
    assert_non_null(strstr(r.out, " query "));
    assert_non_null(strstr(r.out, " before "));
    cli_free(&r);
}

static void every_query_of_a_figure_returns_it(void **state) {
    (void)state;
    static const char *const queries[] = {"budget.sql", "bytes.sql", "cells.sql"};
    cli_result r = sweep("--query after,before", "both.sqlite");
    cli_free(&r);
    for (int i = 0; i < 3; i++) {
        char path[512], *sql;
        size_t size;
        sqlite3 *db;
        sqlite3_stmt *st;
        int col = 0, n = 0, before = 0;
        snprintf(path, sizeof path, "%s/results/queries/%s", KV_SOURCE_DIR, queries[i]);
        assert_int_equal(kv_read_file(path, &sql, &size, NULL), KV_OK);
        assert_int_equal(sqlite3_open(scratch_path(&scratch_dir, "both.sqlite"), &db), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
        while (strcmp(sqlite3_column_name(st, col), "query")) assert_true(++col < sqlite3_column_count(st));
        for (; sqlite3_step(st) == SQLITE_ROW; n++)
            before += !strcmp((const char *)sqlite3_column_text(st, col), "before");
        assert_int_equal(n, 4);
        assert_int_equal(before, 2);
        sqlite3_finalize(st);
        sqlite3_close(db);
        free(sql);
    }
}

static void the_page_says_it(void **state) {
    (void)state;
    static const char *const options[] = {"--query before", "--query after,before"};
    static const char *const marks[] = {"query <b>before</b>", "<th scope=\"col\" class=\"text\">query</th>"};
    for (int i = 0; i < 2; i++) {
        char name[32], line[512], *page;
        size_t size;
        snprintf(name, sizeof name, "page%d.sqlite", i);
        cli_result r = sweep(options[i], name);
        cli_free(&r);
        snprintf(line, sizeof line, "plot --gnuplot /nowhere/gnuplot --db %s", scratch_path(&scratch_dir, name));
        r = cli_run(line); /* the page is written without figures too */
        cli_free(&r);
        snprintf(name, sizeof name, "page%d.html", i);
        assert_int_equal(kv_read_file(scratch_path(&scratch_dir, name), &page, &size, NULL), KV_OK);
        assert_non_null(strstr(page, marks[i]));
        free(page);
    }
}

/* ---- figures ------------------------------------------------------------------------------------------------------
 */

static kv_cell cell(const char *task, const char *policy, const char *query) {
    kv_cell c = {.status = "done", .prefill = "full", .numerics = "fast", .backend = "cpu", .buffer = 32, .n = 40};
    c.budget = strcmp(policy, "full") ? 128 : 0;
    c.accuracy = 0.5;
    c.kv_bytes_peak = 1 << 20;
    snprintf(c.task, sizeof c.task, "%s", task);
    snprintf(c.policy, sizeof c.policy, "%s", policy);
    snprintf(c.query, sizeof c.query, "%s", query);
    return c;
}

static void a_figure_names_its_order_however_long_the_rest_is(void **state) {
    (void)state;
    kv_cell cells[3] = {cell("a", "h2o", "before"), cell("a", "h2o", "before"), cell("a", "h2o", "before")};
    kv_figure f;
    for (int i = 0; i < 3; i++) {
        memset(cells[i].model, 'm', sizeof cells[i].model - 1);
        memset(cells[i].adapter, 'a', sizeof cells[i].adapter - 1);
        memset(cells[i].backend, 'b', sizeof cells[i].backend - 1);
        cells[i].model[0] = cells[i].adapter[0] = cells[i].backend[0] = (char)('0' + i);
        cells[i].n += i;
    }
    assert_int_equal(kv_figure_make(cells, 3, KV_X_BUDGET, &f, NULL), KV_OK);
    assert_memory_equal(f.subtitle[0], "query before,", 13);
    kv_figure_free(&f);
}

static void panels_of_unlike_order_say_theirs(void **state) {
    (void)state;
    kv_cell cells[] = {cell("a", "h2o", "after"), cell("b", "h2o", "before"), cell("c", "h2o", "after"),
                       cell("c", "h2o", "before")};
    kv_figure f;
    assert_int_equal(kv_figure_make(cells, 4, KV_X_BYTES, &f, NULL), KV_OK);
    assert_memory_equal(f.subtitle[0], "query after/before", 18);
    assert_string_equal(f.panels[0].title, "a, query after");
    assert_string_equal(f.panels[1].title, "b, query before");
    assert_string_equal(f.panels[2].title, "c");
    assert_non_null(strstr(f.series[f.series_of[2]].label, "query after"));
    assert_non_null(strstr(f.series[f.series_of[3]].label, "query before"));
    kv_figure_free(&f);
}

static void a_level_of_another_order_is_labelled(void **state) {
    (void)state;
    kv_cell cells[] = {cell("a", "full", "after"), cell("a", "h2o", "before")};
    kv_figure f;
    assert_int_equal(kv_figure_make(cells, 2, KV_X_BUDGET, &f, NULL), KV_OK);
    assert_non_null(strstr(f.series[0].label, "query after"));
    assert_non_null(strstr(f.series[1].label, "query before"));
    kv_figure_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_says_it),
        cmocka_unit_test(every_table_says_it),
        cmocka_unit_test(every_query_of_a_figure_returns_it),
        cmocka_unit_test(the_page_says_it),
        cmocka_unit_test(a_figure_names_its_order_however_long_the_rest_is),
        cmocka_unit_test(panels_of_unlike_order_say_theirs),
        cmocka_unit_test(a_level_of_another_order_is_labelled),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
