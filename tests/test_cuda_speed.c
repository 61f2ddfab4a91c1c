/* test_cuda_speed.c - `speed` where memory runs out on a GPU: rows that say what did not fit, cells that go on, and the
 * largest batch.  --device-memory makes any GPU a small one.  Skipped without a GPU. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "tests/support/cli.h"
#include "tests/support/harness.h"
#include "tests/support/scratch.h"

/* Cells of the tiny shape with a limit in GiB (0 = none), as an array of rows. */
static cJSON *measure(const char *cells, double limit, int code) {
    char line[1024], limited[64] = "";
    if (limit > 0) snprintf(limited, sizeof limited, "--device-memory %.4f ", limit);
    snprintf(line, sizeof line,
             "speed --backend cuda --model synth:tiny --budget 32 --buffer 8 --max-new 30 --reps 1 --warmup 1 --quiet "
             "--format json %s%s --db %s",
             limited, cells, scratch_path(&scratch_dir, "speed.sqlite"));
    return cli_json(line, code);
}

static const char *text_of(const cJSON *rows, int i, const char *field) {
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(rows, i), field));
    if (!text) fail_msg("row %d has no %s", i, field);
    return text;
}

static double number_of(const cJSON *rows, int i, const char *field) {
    return cJSON_GetNumberValue(cJSON_GetObjectItem(cJSON_GetArrayItem(rows, i), field));
}

static void expect_status(const cJSON *rows, int i, const char *status) {
    if (strcmp(text_of(rows, i, "status"), status))
        fail_msg("row %d is %s (%s), expected %s", i, text_of(rows, i, "status"), text_of(rows, i, "error"), status);
}

static void skip_without_gpu(void) {
    kv_engine_close(th_open_tiny_cuda(KV_FAST));
}

static void the_largest_batch_fits_and_larger_ones_are_rows(void **state) {
    (void)state;
    skip_without_gpu();
    const double gib = 1 << 30;
    char cells[128];
    cJSON *rows = measure("--policy full --ctx 40000 --batch 1", 0, 0);
    double limit = number_of(rows, 0, "mem_sum") / gib + 0.75;
    assert_true(number_of(rows, 0, "mem_kv") > number_of(rows, 0, "kv_live_peak"));
    cJSON_Delete(rows);
    rows = measure("--policy full,window --ctx 40000 --batch 1,1024,max", limit, 1);
    expect_status(rows, 0, "done");
    expect_status(rows, 1, "done");
    expect_status(rows, 2, "oom");
    assert_non_null(strstr(text_of(rows, 2, "error"), "KV cache"));
    expect_status(rows, 4, "done");
    expect_status(rows, 5, "done");
    int most = (int)number_of(rows, 4, "batch");
    assert_true(most >= 4 && most < 20 && number_of(rows, 5, "batch") > 4 * most);
    for (int i = 4; i < 6; i++) assert_true(number_of(rows, i, "mem_sum") <= limit * gib);
    cJSON_Delete(rows);
    snprintf(cells, sizeof cells, "--policy full --ctx 40000 --batch %d,%d", most, most + 4);
    rows = measure(cells, limit, 1);
    expect_status(rows, 0, "done");
    expect_status(rows, 1, "oom");
    cJSON_Delete(rows);
}

static void a_prompt_that_does_not_fit_is_a_row_and_the_next_one_runs(void **state) {
    (void)state;
    skip_without_gpu();
    cJSON *rows = measure("--policy full,trimkv --ctx 40000,64 --batch 2", 0.25, 1);
    for (int i = 0; i < 4; i++) expect_status(rows, i, i < 2 ? "oom" : "done");
    assert_non_null(strstr(text_of(rows, 0, "error"), " for "));
    cJSON_Delete(rows);
    rows = measure("--policy full --ctx 64 --batch 1,max", 0.01, 1);
    for (int i = 0; i < 2; i++) expect_status(rows, i, "oom");
    cJSON_Delete(rows);
}

/* The shape's head is a matrix of its own: of the embedding a step reads a row a sequence, which is not counted. */
static void a_step_reads_every_weight_but_the_embedding_once(void **state) {
    (void)state;
    skip_without_gpu();
    enum { LAYERS = 4, KV_HEADS = 2, HEAD = 64, DIM = 256, N_FF = 512, VOCAB = 1000, BATCH = 3 };
    const double layer = DIM * ((4 + 2 * KV_HEADS) * HEAD + DIM + 3 * N_FF), slot = 2 * HEAD * KV_HEADS * LAYERS;
    cJSON *rows = measure("--policy full --ctx 70 --batch 3", 0, 0);
    const double live = (number_of(rows, 0, "slots_first") + number_of(rows, 0, "slots_last")) / 2;
    assert_true(live > 70 && live < 100);
    const double want = 2 * (LAYERS * layer + VOCAB * DIM + BATCH * live * slot);
    if (number_of(rows, 0, "bytes_per_step") != want)
        fail_msg("%.1f bytes a step, expected %.1f", number_of(rows, 0, "bytes_per_step"), want);
    cJSON_Delete(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_reads_every_weight_but_the_embedding_once),
        cmocka_unit_test(the_largest_batch_fits_and_larger_ones_are_rows),
        cmocka_unit_test(a_prompt_that_does_not_fit_is_a_row_and_the_next_one_runs),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
