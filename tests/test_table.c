/* test_table.c - layout of tables, JSON lines and CSV, by itself and from lists of fields. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/rows.h"

static void lines_columns_up(void **state) {
    static const kv_column columns[] = {{"name", 1, 0}, {"n", 0, 0}, {"share", 0, 8}, {"", 1, 0}};
    kv_table t = {.columns = columns, .n_columns = 4, .gap = 2};
    kv_string out = {0};
    (void)state;
    kv_table_add(&t, "na\xc3\xafve");
    kv_table_add_count(&t, 12345, "-");
    kv_table_addf(&t, "%.2f", 0.5);
    kv_table_add(&t, "");
    kv_table_add(&t, "a\xff\nb");
    kv_table_add_count(&t, 0, "-");
    kv_table_add(&t, "");
    kv_table_add(&t, "note");
    kv_table_print(&t, &out);
    assert_string_equal(out.p, "name       n     share\n"
                               "na\xc3\xafve  12345      0.50\n"
                               "a? b       -            note\n");
    kv_string_free(&t.cells);
    kv_string_free(&out);
}

static void draws_a_rule_and_headings_without_rows(void **state) {
    static const kv_column columns[] = {{"task", 1, 6}, {"accuracy", 0, 0}};
    kv_table t = {.columns = columns, .n_columns = 2, .gap = 1, .rule = 1};
    kv_string out = {0};
    (void)state;
    kv_table_print(&t, &out);
    assert_string_equal(out.p, "task   accuracy\n------ --------\n");
    kv_string_free(&out);
}

static void breaks_a_long_list_of_constants(void **state) {
    kv_string out = {0};
    char value[51];
    (void)state;
    memset(value, 'x', sizeof value - 1);
    value[50] = 0;
    for (int i = 0; i < 4; i++) kv_table_add_constant(&out, "key", value);
    for (char *line = strtok(out.p, "\n"), *next; line; line = next) {
        next = strtok(NULL, "\n");
        assert_int_equal(strlen(line), next ? 111 : 110);
    }
    kv_string_free(&out);
}

typedef struct row {
    char policy[24];
    int64_t bytes;
    double seconds, unknown, share;
} row;

static const kv_row_field fields[] = {
    {"policy", KV_ROW_TEXT, offsetof(row, policy), 0, 0},   {"bytes", KV_ROW_INT, offsetof(row, bytes), 0, 0},
    {"seconds", KV_ROW_REAL, offsetof(row, seconds), 2, 0}, {"unknown", KV_ROW_REAL, offsetof(row, unknown), 2, 0},
    {"share", KV_ROW_REAL, offsetof(row, share), 3, 1},
};

static const row rows[] = {{"h2o,\xff", 1LL << 40, 1.0 / 3, NAN, 0.25}, {"full", 1LL << 40, NAN, NAN, INFINITY}};

static void prints(kv_format format, size_t n_rows, const char *expected) {
    kv_error err = {0};
    char text[1024] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    assert_non_null(f);
    if (kv_rows_print(f, format, fields, 5, rows, sizeof *rows, n_rows, &err)) fail_msg("%s", err.text);
    fclose(f);
    assert_string_equal(text, expected);
}

static void prints_rows_in_every_format(void **state) {
    (void)state;
    prints(KV_TABLE, 2, "bytes 1099511627776\n\npolicy  seconds\nh2o,?      0.33\nfull          -\n");
    prints(KV_TABLE, 1, "policy          bytes  seconds\nh2o,?   1099511627776     0.33\n");
    prints(KV_TABLE, 0, "");
    prints(KV_JSON, 2,
           "{\"policy\":\"h2o,?\",\"bytes\":1099511627776,\"seconds\":0.33333333333333331,\"unknown\":null,"
           "\"share\":0.25}\n"
           "{\"policy\":\"full\",\"bytes\":1099511627776,\"seconds\":null,\"unknown\":null,\"share\":null}\n");
    prints(KV_CSV, 2,
           "policy,bytes,seconds,unknown,share\r\n"
           "\"h2o,\xff\",1099511627776,0.3333333333333333,,0.25\r\nfull,1099511627776,,,\r\n");
    prints(KV_CSV, 0, "policy,bytes,seconds,unknown,share\r\n");
}

static void what_was_not_counted_is_missing(void **state) {
    static const row none[] = {{"h2o", -1, 1, NAN, 1}, {"full", 0, 2, NAN, 1}};
    char text[256] = "";
    (void)state;
    FILE *f = fmemopen(text, sizeof text, "w");
    assert_non_null(f);
    assert_int_equal(kv_rows_print(f, KV_CSV, fields, 2, none, sizeof *none, 2, NULL), KV_OK);
    assert_int_equal(kv_rows_print(f, KV_JSON, fields, 2, none, sizeof *none, 1, NULL), KV_OK);
    assert_int_equal(kv_rows_print(f, KV_TABLE, fields, 3, none, sizeof *none, 2, NULL), KV_OK);
    fclose(f);
    assert_string_equal(text, "policy,bytes\r\nh2o,\r\nfull,0\r\n{\"policy\":\"h2o\",\"bytes\":null}\n"
                              "policy  bytes  seconds\nh2o         -     1.00\nfull        0     2.00\n");
}

static void reports_a_full_device(void **state) {
    kv_error err = {0};
    FILE *f = fopen("/dev/full", "w");
    (void)state;
    assert_non_null(f);
    assert_int_equal(kv_rows_print(f, KV_TABLE, fields, 5, rows, sizeof *rows, 2, &err), KV_EIO);
    assert_non_null(strstr(err.text, "No space left"));
    fclose(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_columns_up),
        cmocka_unit_test(draws_a_rule_and_headings_without_rows),
        cmocka_unit_test(breaks_a_long_list_of_constants),
        cmocka_unit_test(prints_rows_in_every_format),
        cmocka_unit_test(what_was_not_counted_is_missing),
        cmocka_unit_test(reports_a_full_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
