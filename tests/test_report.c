/* test_report.c - the results table, JSON lines and CSV, and the rules for what becomes a column. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "results/fields.h"
#include "results/report.h"

static kv_cell cell(const char *policy, int budget, double accuracy) {
    kv_cell c = {.status = "done",
                 .model = "tiny",
                 .task = "needle",
                 .prefill = "full",
                 .query = "after",
                 .numerics = "fast",
                 .backend = "cpu",
                 .budget = budget,
                 .buffer = 32,
                 .batch = 4,
                 .max_new = 64,
                 .n = 40,
                 .k = 1,
                 .n_items = 40,
                 .accuracy = accuracy,
                 .stderr_ = 0.0361,
                 .partial = accuracy,
                 .compat = accuracy,
                 .compat_stderr = 0.0361,
                 .peak_slots = budget + 32,
                 .mean_slots = budget + 9.25,
                 .kv_bytes_peak = 3 << 20,
                 .kv_bytes_batch_peak = 12 << 20,
                 .prefill_tok_s = NAN,
                 .decode_tok_s = 61.23,
                 .mean_tokens = 20};
    snprintf(c.policy, sizeof c.policy, "%s", policy);
    snprintf(c.cell_key, sizeof c.cell_key, "%s-%d", policy, budget);
    return c;
}

static kv_cell failed(const char *policy, int budget, const char *status, const char *error) {
    kv_cell c = cell(policy, budget, NAN);
    c.n = 0;
    c.k = 0;
    c.n_items = 0;
    c.stderr_ = c.partial = c.compat = c.compat_stderr = c.peak_slots = c.mean_slots = c.decode_tok_s = c.mean_tokens =
        NAN;
    c.kv_bytes_peak = c.kv_bytes_batch_peak = 0;
    snprintf(c.status, sizeof c.status, "%s", status);
    snprintf(c.error, sizeof c.error, "%s", error);
    return c;
}

/* What kv_report_cells writes; the caller frees. */
static char *report(kv_format format, const kv_cell *cells, size_t n) {
    kv_error err = {0};
    FILE *f = tmpfile();
    assert_non_null(f);
    if (kv_report_cells(f, format, cells, n, &err)) fail_msg("%s", err.text);
    long size = ftell(f);
    char *text = calloc(1, (size_t)size + 1);
    assert_non_null(text);
    rewind(f);
    assert_int_equal(fread(text, 1, (size_t)size, f), size);
    fclose(f);
    return text;
}

static void names_constant_columns_above_the_table(void **state) {
    (void)state;
    const kv_cell cells[] = {cell("full", 0, 1), cell("h2o", 128, 0.9449), cell("h2o", 256, 0)};
    char *t = report(KV_TABLE, cells, 3);
    assert_string_equal(t,
                        "model tiny, backend cpu, numerics fast, task needle, prefill full, query after, max new 64, "
                        "seed 0, batch 4,\nB 32, n 40\n\n"
                        "policy    M      accuracy  peak slots  mean slots   peak KV  decode/s  tokens\n"
                        "------  ---  ------------  ----------  ----------  --------  --------  ------\n"
                        "full      -  1.000 +-.036        32.0        9.25  3.00 MiB      61.2    20.0\n"
                        "h2o     128   .945 +-.036         160         137  3.00 MiB      61.2    20.0\n"
                        "h2o     256   .000 +-.036         288         265  3.00 MiB      61.2    20.0\n"
                        "\naccuracy: mean +- standard error over n samples; slots: per layer and KV head, the prompt "
                        "included\npeak KV: cache bytes of one sequence, measured\n");
    free(t);
}

static void shows_columns_that_vary(void **state) {
    (void)state;
    kv_cell cells[] = {cell("h2o", 128, 0.5), cell("h2o", 128, 0.25)};
    snprintf(cells[1].query, sizeof cells[1].query, "before");
    cells[1].n = 39;
    cells[1].partial = 0.75;
    cells[1].compat = 0.5;
    cells[1].n_no_answer = 2;
    cells[1].n_length = 3;
    cells[1].n_errors = 1;
    cells[0].stderr_ = cells[1].stderr_ = NAN;
    char *t = report(KV_TABLE, cells, 2);
    assert_non_null(strstr(t, "\n\nquery   policy    M   n  accuracy  compat  partial"));
    assert_non_null(strstr(t, "cut off  no answer  errors\n"));
    assert_non_null(strstr(t, "before  h2o     128  39      .250    .500     .750"));
    assert_null(strstr(t, "query after"));
    free(t);
}

static void tells_cells_of_other_gates_sampling_and_seed_apart(void **state) {
    (void)state;
    kv_cell cells[] = {cell("h2o", 128, 0.5), cell("trimkv", 128, 0.5), cell("trimkv", 128, 0.5)};
    for (int i = 0; i < 3; i++) {
        snprintf(cells[i].adapter, sizeof cells[i].adapter, "lora");
        snprintf(cells[i].gates, sizeof cells[i].gates, "%s", i ? "old" : ""); /* h2o has none */
        snprintf(cells[i].sampling, sizeof cells[i].sampling, "greedy");
    }
    char *t = report(KV_TABLE, cells, 3);
    assert_memory_equal(t, "model tiny, adapter lora, gates old, ", 37);
    assert_non_null(strstr(t, "sampling greedy, seed 0,"));
    free(t);
    snprintf(cells[2].gates, sizeof cells[2].gates, "new");
    snprintf(cells[2].sampling, sizeof cells[2].sampling, "temperature 1");
    cells[1].seed = 7;
    t = report(KV_TABLE, cells, 3);
    assert_non_null(strstr(t, "\n\ngates  sampling       seed  policy"));
    assert_non_null(strstr(t, "\n-      greedy            0  h2o "));
    assert_non_null(strstr(t, "\nold    greedy            7  trimkv "));
    assert_non_null(strstr(t, "\nnew    temperature 1     0  trimkv "));
    free(t);
}

/* The errors and pass@k and maj@k of both verdicts, only where an item has several samples. */
static void shows_averages_over_samples(void **state) {
    (void)state;
    kv_cell cells[] = {cell("full", 0, 0.5), cell("h2o", 128, 0.25)};
    for (int i = 0; i < 2; i++) {
        cells[i].k = 4;
        cells[i].n_items = 10;
        cells[i].stderr_fixed = 0.021;
        cells[i].pass_at_k = cells[i].compat_pass_at_k = 0.75;
        cells[i].maj_at_k = cells[i].compat_maj_at_k = 0.5;
    }
    char *t = report(KV_TABLE, cells, 2);
    assert_non_null(strstr(t, ", n 40, k 4\n"));
    assert_non_null(strstr(t, "policy    M     accuracy  +-fixed  pass@k  maj@k  peak slots"));
    assert_non_null(strstr(t, "h2o     128  .250 +-.036     .021    .750   .500 "));
    assert_non_null(strstr(t, "\naccuracy: avg@k, mean over n samples; slots: "));
    free(t);
    cells[1].compat = 0.5;
    cells[1].compat_pass_at_k = 1;
    cells[0].k = 1;
    t = report(KV_TABLE, cells, 2);
    assert_non_null(strstr(t, "policy    M  k     accuracy  +-fixed  pass@k  maj@k  compat  compat pass@k  "));
    assert_non_null(strstr(t, "full      -  1  .500 +-.036        -       -      -    .500              -"));
    free(t);
    t = report(KV_JSON, &cells[1], 1);
    cJSON *o = cJSON_Parse(t);
    assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(o, "k")) == 4);
    assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(o, "stderr")) == 0.0361);
    assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(o, "stderr_items_fixed")) == 0.021);
    assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(o, "compat_pass_at_k")) == 1);
    cJSON_Delete(o);
    free(t);
}

static void lists_unfinished_cells_with_their_error(void **state) {
    (void)state;
    kv_cell cells[] = {cell("full", 0, 1), failed("h2o", 128, "oom", "12 GiB wanted,\n8 GiB free"),
                       failed("full", 0, "timeout", ""), cell("h2o", 256, 0.5)};
    snprintf(cells[3].status, sizeof cells[3].status, "interrupted");
    char *t = report(KV_TABLE, cells, 4);
    assert_non_null(strstr(t, "h2o     128   0           oom"));
    assert_non_null(strstr(t, "\nnot finished:\n  needle h2o M=128: oom: 12 GiB wanted, 8 GiB free\n"
                              "  needle full: timeout\n  needle h2o M=256: interrupted\n"));
    free(t);
}

static void prints_a_table_of_nothing(void **state) {
    (void)state;
    char *t = report(KV_TABLE, NULL, 0);
    assert_string_equal(t, "no cells\n");
    free(t);
    t = report(KV_JSON, NULL, 0);
    assert_string_equal(t, "");
    free(t);
}

static void keeps_policy_budget_and_accuracy_of_a_single_cell(void **state) {
    (void)state;
    kv_cell c = failed("h2o", 128, "error", "NaN logits");
    char *t = report(KV_TABLE, &c, 1);
    assert_non_null(strstr(t, "policy    M  accuracy\n------  ---  --------\nh2o     128     error\n"));
    free(t);
}

static void writes_one_json_object_per_cell(void **state) {
    (void)state;
    static const char *const keys[] = {
        "status", "policy",     "task",       "budget",        "buffer",        "prefill",      "n",    "accuracy",
        "stderr", "peak_slots", "mean_slots", "kv_bytes_peak", "prefill_tok_s", "decode_tok_s", "error"};
    kv_cell cells[] = {cell("h2o:recent=8", 128, 1.0 / 3),
                       failed("h2o", 256, "oom", "a \"quoted\" \\ text\twith \xff")};
    char *t = report(KV_JSON, cells, 2), *line = t;
    for (int i = 0; i < 2; i++) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        *end = 0;
        cJSON *o = cJSON_Parse(line);
        assert_non_null(o);
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) assert_true(cJSON_HasObjectItem(o, keys[k]));
        const char *error = cJSON_GetStringValue(cJSON_GetObjectItem(o, "error"));
        if (i == 0) {
            assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(o, "accuracy")) == 1.0 / 3);
            assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(o, "policy")), "h2o:recent=8");
            assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(o, "kv_bytes_peak")) == 3 << 20);
            assert_true(cJSON_IsNull(cJSON_GetObjectItem(o, "prefill_tok_s")));
            assert_null(error);
        } else {
            assert_true(cJSON_IsNull(cJSON_GetObjectItem(o, "accuracy")));
            assert_true(cJSON_IsNull(cJSON_GetObjectItem(o, "kv_bytes_peak")));
            assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(o, "n")) == 0);
            assert_string_equal(error, "a \"quoted\" \\ text with ?");
        }
        cJSON_Delete(o);
        line = end + 1;
    }
    assert_string_equal(line, "");
    free(t);
}

static void quotes_csv_as_rfc_4180_says(void **state) {
    (void)state;
    kv_cell cells[] = {failed("window:sinks=0", 128, "error", "one, \"two\"\nthree"), cell("h2o", 128, 0.1)};
    char *t = report(KV_CSV, cells, 2), *first = strstr(t, "\r\n"), *last = strstr(t, "\r\ndone,");
    assert_non_null(first);
    assert_memory_equal(t, "status,model,", 13);
    assert_memory_equal(
        first + 2, "error,tiny,,,cpu,fast,needle,,full,after,64,,0,4,window:sinks=0,,128,32,0,0,0,,,,,,,,,,,,", 89);
    assert_non_null(last);
    assert_true(last > first);
    const char *tail = ",window:sinks=0-128,\"one, \"\"two\"\"\nthree\"";
    assert_memory_equal(last - strlen(tail), tail, strlen(tail));
    assert_non_null(strstr(
        last, ",40,1,40,0.1,0.0361,,,,0.1,0.0361,,,,0.1,160,137.25,3145728,12582912,,61.23,20,0,0,0,h2o-128,\r\n"));
    free(t);
}

static void writes_bytes_with_three_digits(void **state) {
    (void)state;
    static const struct {
        double bytes;
        const char *text;
    } cases[] = {{1, "1 B"},          {999, "999 B"},      {1000, "0.98 KiB"},   {1024, "1.00 KiB"},
                 {10230, "9.99 KiB"}, {10240, "10.0 KiB"}, {1023000, "999 KiB"}, {1024000, "0.98 MiB"},
                 {3.5e9, "3.26 GiB"}, {102400, "100 KiB"}, {1.5e15, "1364 TiB"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[32];
        kv_field_bytes(cases[i].bytes, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
}

static void knows_its_formats(void **state) {
    (void)state;
    kv_format f;
    kv_error err = {0};
    assert_int_equal(kv_format_parse("json", &f, &err), KV_OK);
    assert_int_equal(f, KV_JSON);
    assert_int_equal(kv_format_parse("csv", &f, &err), KV_OK);
    assert_int_equal(f, KV_CSV);
    assert_int_equal(kv_format_parse("table", &f, &err), KV_OK);
    assert_int_equal(f, KV_TABLE);
    assert_int_equal(kv_format_parse("xml", &f, &err), KV_EARG);
    assert_non_null(strstr(err.text, "xml"));
}

static void reports_a_full_device(void **state) {
    (void)state;
    kv_cell c = cell("h2o", 128, 0.5);
    kv_error err = {0};
    FILE *f = fopen("/dev/full", "w");
    assert_non_null(f);
    assert_int_equal(kv_report_cells(f, KV_CSV, &c, 1, &err), KV_EIO);
    fclose(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_constant_columns_above_the_table),
        cmocka_unit_test(shows_columns_that_vary),
        cmocka_unit_test(tells_cells_of_other_gates_sampling_and_seed_apart),
        cmocka_unit_test(shows_averages_over_samples),
        cmocka_unit_test(lists_unfinished_cells_with_their_error),
        cmocka_unit_test(prints_a_table_of_nothing),
        cmocka_unit_test(keeps_policy_budget_and_accuracy_of_a_single_cell),
        cmocka_unit_test(writes_one_json_object_per_cell),
        cmocka_unit_test(quotes_csv_as_rfc_4180_says),
        cmocka_unit_test(writes_bytes_with_three_digits),
        cmocka_unit_test(knows_its_formats),
        cmocka_unit_test(reports_a_full_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
