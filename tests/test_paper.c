/* test_paper.c - published numbers: the file in the project, importing it twice, and files that are wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "results/paper.h"
#include "tests/support/scratch.h"

#define NUMBERS KV_SOURCE_DIR "/results/paper/paper-numbers.tsv"
#define HEADER                                                                                                         \
    "paper\tversion\ttable_or_figure\tmodel\ttask\tmetric\tpolicy\tbudget_M\tbuffer\tcontext\tbatch\tgen_len\t"        \
    "hardware\tvalue\tunit\tread_from\tsource\tnote\n"
#define ROW(value, note)                                                                                               \
    "1234.5\tv1\tTable 1\tm\tt\tspeed\tp\t64\t\t100\t4\t10\tbox\t" value "\ttok/s\ttable\ts\t" note "\n"

static kv_store *open_store(const char *name) {
    kv_store *s = NULL;
    kv_error err = {0};
    if (kv_store_open(scratch_path(&scratch_dir, name), &s, &err)) fail_msg("%s", err.text);
    return s;
}

static void imports_the_published_numbers_once(void **state) {
    (void)state;
    kv_store *s = open_store("all.sqlite");
    kv_error err = {0};
    int64_t n = 0;
    if (kv_paper_import(s, NUMBERS, &n, &err)) fail_msg("%s", err.text);
    assert_true(n > 2500);
    assert_int_equal(kv_paper_import(s, NUMBERS, &n, &err), KV_OK);
    assert_int_equal(n, 0);
    kv_store_close(s);
}

static void finds_the_rows_of_a_table_in_printed_order(void **state) {
    (void)state;
    kv_store *s = open_store("all.sqlite");
    kv_error err = {0};
    kv_paper_number *r;
    size_t n;
    assert_int_equal(kv_paper_find(s, "2512.03324", "Table 5", "throughput", &r, &n, &err), KV_OK);
    assert_int_equal(n, 12);
    static const char *const policies[] = {"FullKV", "SeerAttn-R", "SnapKV", "TRIM-KV"};
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(r[i].policy, policies[i % 4]);
        assert_string_equal(r[i].context, i < 4 ? "32786" : "16378");
        assert_string_equal(r[i].batch, i < 8 ? "4" : "8");
        assert_string_equal(r[i].unit, "tok/s");
    }
    assert_true(r[0].value == 68.44 && r[3].value == 130.48 && r[11].value == 279.9);
    free(r);
    assert_int_equal(kv_paper_find(s, "2512.03324", "Table 99", "throughput", &r, &n, &err), KV_OK);
    assert_true(n == 0 && r == NULL);
    kv_store_close(s);
}

static void a_corrected_value_replaces_the_older_one(void **state) {
    (void)state;
    static const char old[] = HEADER ROW("10", "first reading"), corrected[] = HEADER ROW("12.5", "read again");
    kv_store *s = open_store("corrected.sqlite");
    kv_error err = {0};
    kv_paper_number *r;
    size_t n;
    assert_int_equal(kv_paper_import(s, scratch_write(&scratch_dir, "a.tsv", old, sizeof old - 1), NULL, &err), KV_OK);
    assert_int_equal(
        kv_paper_import(s, scratch_write(&scratch_dir, "b.tsv", corrected, sizeof corrected - 1), NULL, &err), KV_OK);
    assert_int_equal(kv_paper_find(s, "1234.5", "Table 1", "speed", &r, &n, &err), KV_OK);
    assert_int_equal(n, 1);
    assert_true(r[0].value == 12.5);
    assert_string_equal(r[0].note, "read again");
    assert_string_equal(r[0].buffer, "");
    free(r);
    kv_store_close(s);
}

static void a_file_that_is_wrong_adds_nothing(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "empty"},
        {"paper\tversion\n", "column 3"},
        {"paper\tvresion\ttable_or_figure\n", "'vresion'"},
        {HEADER ROW("1", "a") "1234.5\tv1\tTable 1\n", "line 3 has 3 columns"},
        {HEADER ROW("1", "a\textra"), "line 2 has 19 columns"},
        {HEADER ROW("ten", "a"), "'ten' is no number"},
        {HEADER ROW("", "a"), "is no number"},
        {HEADER ROW("nan", "a"), "is no number"},
        {HEADER ROW("1", "a") "\n" ROW("2", "b"), "line 3 has 1 columns"},
        {HEADER "\tv1\tT\tm\tt\ts\tp\t\t\t\t\t\t\t1\tu\ttable\ts\t\n", "names no paper"},
    };
    kv_store *s = open_store("bad.sqlite");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        kv_error err = {0};
        kv_paper_number *r;
        size_t n;
        const char *path = scratch_write(&scratch_dir, "bad.tsv", bad[i].text, strlen(bad[i].text));
        int rc = kv_paper_import(s, path, NULL, &err);
        if (rc != KV_EFORMAT || !strstr(err.text, bad[i].says)) fail_msg("case %zu: code %d, '%s'", i, rc, err.text);
        assert_int_equal(kv_paper_find(s, "1234.5", "Table 1", "speed", &r, &n, &err), KV_OK);
        assert_int_equal(n, 0);
    }
    kv_error err = {0};
    assert_int_equal(kv_paper_import(s, "nowhere.tsv", NULL, &err), KV_ENOTFOUND);
    kv_store_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(imports_the_published_numbers_once),
        cmocka_unit_test(finds_the_rows_of_a_table_in_printed_order),
        cmocka_unit_test(a_corrected_value_replaces_the_older_one),
        cmocka_unit_test(a_file_that_is_wrong_adds_nothing),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
