/* test_store_averages.c - averages over samples as read back from the file: grouped by item, for both verdicts, and as
 * the figures' queries see them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/file.h"
#include "results/store_internal.h"
#include "tests/support/scratch.h"

static int near(double a, double b) {
    return fabs(a - b) < 1e-12;
}

static kv_store *open_store(const char *name) {
    kv_store *s;
    kv_error err = {0};
    if (kv_store_open(scratch_path(&scratch_dir, name), &s, &err)) fail_msg("%s", err.text);
    return s;
}

static int64_t begin(kv_store *s, const char *key) {
    kv_run_row r = {.cell_key = key, .prefill = "full", .query = "after", .backend = "cpu", .numerics = "fast"};
    int64_t run;
    kv_error err = {0};
    if (kv_store_task(s, &(kv_task_row){.name = "sums"}, &r.task_id, &err) ||
        kv_store_policy(s, &(kv_policy_row){.name = "h2o"}, &r.policy_id, &err) ||
        kv_store_begin_run(s, &r, &run, &err))
        fail_msg("%s", err.text);
    return run;
}

/* answers: one letter a sample; r right for both, c right by the published rule only, w wrong, - none given, e failed.
 */
static void add(kv_store *s, int64_t run, const char *item, const char *answers) {
    for (int k = 0; answers[k]; k++) {
        char a = answers[k];
        kv_sample_row r = {.item = item,
                           .k = k,
                           .score = a == 'e' ? NAN : a == 'r',
                           .partial = 0,
                           .compat = a == 'e' ? NAN : a == 'r' || a == 'c',
                           .strict = NAN,
                           .answered = a != '-' && a != 'e',
                           .extracted = (char[]){a, 0},
                           .kv_bytes_peak = 1000,
                           .status = a == 'e' ? "error" : "ok"};
        kv_error err = {0};
        if (kv_store_sample(s, run, &r, &err)) fail_msg("%s", err.text);
    }
}

static kv_cell *cells_of(kv_store *s, const char *const *keys, size_t n_keys, size_t want) {
    kv_cell *c;
    size_t n;
    kv_error err = {0};
    if (kv_store_cells(s, keys, n_keys, &c, &n, &err)) fail_msg("%s", err.text);
    assert_int_equal(n, want);
    return c;
}

/* Means 3/4 and 0; of the published rule 3/4 and 1/2. */
static void a_cell_has_the_averages_of_its_items(void **state) {
    (void)state;
    kv_store *s = open_store("one.sqlite");
    int64_t run = begin(s, "k");
    add(s, run, "b", "rrwr");
    add(s, run, "a", "ccw-");
    kv_cell *c = cells_of(s, NULL, 0, 1);
    assert_int_equal(c->k, 4);
    assert_int_equal(c->n, 8);
    assert_int_equal(c->n_items, 2);
    assert_true(near(c->accuracy, 3. / 8));
    assert_true(near(c->stderr_, 3. / 8)); /* sd of 3/4 and 0 is 3 sqrt(2) / 8 */
    assert_true(near(c->stderr_fixed, 0.125));
    assert_true(near(c->pass_at_k, 0.5) && near(c->maj_at_k, 0.5));
    assert_true(near(c->compat, 5. / 8));
    assert_true(near(c->compat_stderr, 0.125));
    assert_true(near(c->compat_stderr_fixed, sqrt(3. / 16 / 3 + 1. / 4 / 3) / 2));
    assert_true(near(c->compat_pass_at_k, 1) && near(c->compat_maj_at_k, 1));
    free(c);
    kv_store_close(s);
}

static void cells_keep_their_samples_apart(void **state) {
    (void)state;
    static const char *const keys[] = {"m", "none", "c", "z"};
    kv_store *s = open_store("many.sqlite");
    add(s, begin(s, "z"), "i", "r");
    add(s, begin(s, "c"), "i", "wr");
    begin(s, "none");
    int64_t m = begin(s, "m");
    add(s, m, "i", "re"); /* a sample that failed is not one */
    add(s, m, "j", "ww");
    kv_cell *c = cells_of(s, keys, 4, 4);
    static const int k[] = {1, 0, 2, 1};
    for (int i = 0; i < 4; i++) {
        assert_string_equal(c[i].cell_key, keys[i]);
        assert_int_equal(c[i].k, k[i]);
    }
    assert_int_equal(c[0].n_items, 2);
    assert_true(near(c[0].accuracy, 1. / 3) && near(c[0].stderr_, 0.5));
    assert_true(isnan(c[0].stderr_fixed) && near(c[0].pass_at_k, 0.5));
    assert_true(isnan(c[1].stderr_) && isnan(c[1].pass_at_k) && isnan(c[1].compat_stderr));
    assert_true(isnan(c[2].stderr_) && near(c[2].stderr_fixed, 0.5) && near(c[2].pass_at_k, 1));
    assert_true(near(c[2].maj_at_k, 0)); /* the wrong one came first */
    free(c);
    c = cells_of(s, &keys[2], 1, 1);
    assert_int_equal(c->k, 2);
    free(c);
    kv_store_close(s);
}

static void the_queries_of_the_figures_have_the_same_error(void **state) {
    (void)state;
    static const char *const names[] = {"budget", "bytes"};
    kv_store *s = open_store("one.sqlite");
    kv_cell *c = cells_of(s, NULL, 0, 1);
    for (int i = 0; i < 2; i++) {
        char path[512], *sql;
        size_t size;
        sqlite3_stmt *st;
        snprintf(path, sizeof path, "%s/results/queries/%s.sql", KV_SOURCE_DIR, names[i]);
        assert_int_equal(kv_read_file(path, &sql, &size, NULL), KV_OK);
        assert_int_equal(sqlite3_prepare_v2(s->db, sql, -1, &st, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(st), SQLITE_ROW);
        assert_true(near(sqlite3_column_double(st, 4), c->stderr_ * c->stderr_));
        sqlite3_finalize(st);
        free(sql);
    }
    free(c);
    kv_store_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cell_has_the_averages_of_its_items),
        cmocka_unit_test(cells_keep_their_samples_apart),
        cmocka_unit_test(the_queries_of_the_figures_have_the_same_error),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
