/* test_samples.c - sample j of item i is the same answer whatever else runs with it, before it or after it.
 *
 * Samples of the tiny model through the whole program: batch sizes, sharing, other items, other samples, runs that
 * were cut off, and a number of samples raised later, always compared with one straight run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/sampling.h"
#include "tests/support/cli.h"
#include "tests/support/db.h"
#include "tests/support/scratch.h"

/* Runs the sweep with these further options into a database of the scratch folder. */
static void run(const char *db, const char *options) {
    char line[1024];
    snprintf(line, sizeof line,
             "run --model golden/tiny-llama.gguf --gates golden/tiny-gates --prompt-variant short --task "
             "countdown_0.5k,needle:words=40 --policy full,h2o,trimkv --budget 24 --buffer 8 --max-new 24 --threads 1 "
             "--temperature 0.9 --top-p 0.95 --top-k 40 --seed 3 --quiet --db %s %s",
             scratch_path(&scratch_dir, db), options);
    cli_expect(line, 0, "");
}

/* "item TAB k TAB tokens TAB score" lines in order; the caller frees. */
static char *dump(const char *db) {
    return db_dump(scratch_path(&scratch_dir, db));
}

static void expect_same(const char *db, const char *expected) {
    char *got = dump(db);
    assert_string_equal(got, expected);
    free(got);
}

static void batch_and_sharing_change_no_sample(void **state) {
    (void)state;
    run("one.sqlite", "--limit 3 --samples 3 --query after,before --batch 1 --no-share");
    char *expected = dump("one.sqlite");
    assert_true(strlen(expected) > 1000);
    run("three.sqlite", "--limit 3 --samples 3 --query after,before --batch 3");
    expect_same("three.sqlite", expected);
    run("sixteen.sqlite", "--limit 3 --samples 3 --query after,before --batch 16");
    expect_same("sixteen.sqlite", expected);
    free(expected);
}

/* Room for some of the 40 prompts, and then none for the sequences, were it not kept. */
static void shared_prompts_leave_room_under_a_limit(void **state) {
    static const char sweep[] = "run --model golden/tiny-llama.gguf --prompt-variant short --task needle:words=40 "
                                "--policy full,window --budget 16 --limit 40 --batch 2 --max-new 4 --threads 1 --quiet "
                                "--db %s %s";
    char line[1024];
    (void)state;
    snprintf(line, sizeof line, sweep, scratch_path(&scratch_dir, "alone.sqlite"), "--no-share");
    cli_expect(line, 0, "");
    snprintf(line, sizeof line, sweep, scratch_path(&scratch_dir, "tight.sqlite"), "--device-memory 0.014");
    cli_expect(line, 0, "");
    char *expected = dump("alone.sqlite");
    expect_same("tight.sqlite", expected);
    free(expected);
}

/* What is missing comes back in another order and in other batches than in a straight run. */
static void samples_lost_at_random_come_back_the_same(void **state) {
    (void)state;
    static const char *const batches[] = {"1", "3", "16"};
    run("lost.sqlite", "--limit 4 --samples 3 --batch 16");
    char *expected = dump("lost.sqlite"), line[160];
    for (int i = 0; i < 3; i++) {
        snprintf(line, sizeof line, "DELETE FROM sample WHERE id * 2654435761 %% 7 IN (%d, %d, %d)", i, i + 2, i + 3);
        db_exec(scratch_path(&scratch_dir, "lost.sqlite"), line);
        snprintf(line, sizeof line, "--limit 4 --samples 3 --batch %s", batches[i]);
        run("lost.sqlite", line);
        expect_same("lost.sqlite", expected);
    }
    free(expected);
}

static void more_samples_and_more_items_extend_a_cell(void **state) {
    (void)state;
    run("whole.sqlite", "--limit 4 --samples 4 --batch 5");
    char *expected = dump("whole.sqlite");
    run("grown.sqlite", "--limit 2 --samples 2");
    char *first = dump("grown.sqlite");
    run("grown.sqlite", "--limit 2 --samples 4 --batch 3");
    run("grown.sqlite", "--limit 4 --samples 4 --batch 2");
    expect_same("grown.sqlite", expected);
    run("grown.sqlite", "--limit 4 --samples 1"); /* nothing to do */
    expect_same("grown.sqlite", expected);
    for (char *l = strtok(first, "\n"); l; l = strtok(NULL, "\n")) assert_non_null(strstr(expected, l));
    free(first);
    free(expected);
}

static void samples_of_an_item_differ(void **state) {
    (void)state;
    run("differ.sqlite", "--limit 2 --samples 4");
    const char *path = scratch_path(&scratch_dir, "differ.sqlite");
    assert_int_equal(db_int(path, "SELECT count(DISTINCT cell_key || item) FROM sample"), 12);
    assert_true(db_int(path, "SELECT min(n) FROM (SELECT count(DISTINCT tokens) AS n FROM sample GROUP BY cell_key, "
                             "item)") >= 3);
}

/* sha256 of "seed/item/k", its first 16 digits: python3 -c "import hashlib; ..." */
static void streams_are_named_by_seed_item_and_sample(void **state) {
    (void)state;
    assert_true(kv_sampling_seed(0, "countdown-0", 0) == 0xc3709689a4973127u);
    assert_true(kv_sampling_seed(0, "countdown-0", 1) == 0x459350f2d02fcaf9u);
    assert_true(kv_sampling_seed(1, "countdown-0", 0) == 0x407dfb56bdc028e0u);
    assert_true(kv_sampling_seed(-3, "a b", 12) == 0xcd258164864fad4bu);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_and_sharing_change_no_sample),
        cmocka_unit_test(shared_prompts_leave_room_under_a_limit),
        cmocka_unit_test(samples_lost_at_random_come_back_the_same),
        cmocka_unit_test(more_samples_and_more_items_extend_a_cell),
        cmocka_unit_test(samples_of_an_item_differ),
        cmocka_unit_test(streams_are_named_by_seed_item_and_sample),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
