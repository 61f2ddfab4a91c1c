/* test_select.c - the shared selector against a twin that sorts whole records. */
#include "policies/select.h"
#include "tests/support/ref_scores.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_N = 300 };

static uint32_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static void assert_kept(const float *score, const int32_t *pos, int n, int keep, int n_sink, int n_recent,
                        const int *want) {
    int32_t kept[MAX_N], scratch[MAX_N];
    int got = kv_select(score, pos, n, keep, n_sink, n_recent, kept, scratch);
    assert_int_equal(got, keep < n ? keep : n);
    for (int i = 0; i < got; i++) assert_int_equal(kept[i], want[i]);
}

static const int32_t positions[8] = {0, 1, 2, 3, 4, 5, 6, 7};

static void keeps_highest_scores_in_temporal_order(void **st) {
    (void)st;
    const float s[8] = {3, -1, 7, 0, 9, -8, 2, 5};
    assert_kept(s, positions, 8, 4, 0, 0, (int[]){0, 2, 4, 7});
    assert_kept(s, positions, 8, 1, 0, 0, (int[]){4});
}

static void keeps_the_newest_of_equal_scores(void **st) {
    (void)st;
    const float equal[8] = {2, 2, 2, 2, 2, 2, 2, 2}, some[8] = {1, 5, 1, 5, 1, 5, 1, 0};
    assert_kept(equal, positions, 8, 3, 0, 0, (int[]){5, 6, 7});
    assert_kept(equal, positions, 8, 5, 2, 0, (int[]){0, 1, 5, 6, 7});
    assert_kept(some, positions, 8, 2, 0, 0, (int[]){3, 5});
    assert_kept(some, positions, 8, 5, 0, 0, (int[]){1, 3, 4, 5, 6});
}

static void treats_both_zeros_as_equal(void **st) {
    (void)st;
    const float s[8] = {0.0f, -0.0f, 0.0f, -0.0f, -1, -1, -1, -1};
    assert_kept(s, positions, 8, 2, 0, 0, (int[]){2, 3});
}

static void orders_infinities_and_tiny_numbers(void **st) {
    (void)st;
    const float s[8] = {-INFINITY, 1e-45f, -1e-45f, INFINITY, 3e38f, -3e38f, 0, -1};
    assert_kept(s, positions, 8, 5, 0, 0, (int[]){1, 2, 3, 4, 6});
    assert_kept(s, positions, 8, 7, 0, 0, (int[]){1, 2, 3, 4, 5, 6, 7});
}

static void protection_outranks_every_score(void **st) {
    (void)st;
    const float s[8] = {-9, -9, 5, 6, 7, INFINITY, -9, -9};
    assert_kept(s, positions, 8, 5, 2, 2, (int[]){0, 1, 5, 6, 7});
    assert_kept(s, positions, 8, 4, 2, 2, (int[]){0, 1, 6, 7});
}

static void keeps_newest_protected_when_budget_is_smaller(void **st) {
    (void)st;
    const float s[8] = {0};
    assert_kept(s, positions, 8, 3, 2, 4, (int[]){0, 1, 7}); /* sinks first, then the newest of the window */
    assert_kept(s, positions, 8, 1, 2, 4, (int[]){1});
    assert_kept(s, positions, 8, 3, 0, 100, (int[]){5, 6, 7});
    assert_kept(s, positions, 8, 3, 100, 100, (int[]){5, 6, 7});
}

static void counts_sinks_by_position_not_by_slot(void **st) {
    (void)st;
    const int32_t pos[5] = {1, 3, 4, 10, 11};
    const float s[5] = {0, 1, 2, 3, 4};
    assert_kept(s, pos, 5, 3, 4, 0, (int[]){0, 1, 4});
}

static void keeping_all_or_more_changes_nothing(void **st) {
    (void)st;
    const float s[3] = {NAN, 1, NAN};
    assert_kept(s, positions, 3, 3, 0, 0, (int[]){0, 1, 2});
    assert_kept(s, positions, 3, 9, 1, 1, (int[]){0, 1, 2});
    int32_t kept[1], scratch[1];
    assert_int_equal(kv_select(s, positions, 0, 4, 0, 0, kept, scratch), 0);
}

static void refuses_nan_only_where_it_matters(void **st) {
    (void)st;
    const float nan_sink[8] = {NAN, 1, 2, 3, 4, 5, 6, NAN}, nan_past[8] = {0, 1, 2, NAN, 4, 5, 6, 7};
    int32_t kept[8], scratch[8];
    assert_kept(nan_sink, positions, 8, 4, 1, 1, (int[]){0, 5, 6, 7});
    assert_int_equal(kv_select(nan_sink, positions, 8, 4, 1, 0, kept, scratch), KV_ENUM);
    assert_int_equal(kv_select(nan_past, positions, 8, 4, 0, 0, kept, scratch), KV_ENUM);
    assert_kept(nan_past, positions, 8, 4, 2, 2, (int[]){0, 1, 6, 7}); /* no room left to compete for */
}

static void agrees_with_sorting_on_random_inputs(void **st) {
    (void)st;
    uint64_t rng = 1;
    for (int round = 0; round < 4000; round++) {
        int n = 1 + (int)(next_random(&rng) % MAX_N), levels = 1 << next_random(&rng) % 12, last = -1;
        int keep = 1 + (int)(next_random(&rng) % (uint32_t)(n + 2));
        int n_sink = next_random(&rng) % 3 ? 0 : (int)(next_random(&rng) % 40);
        int n_recent = next_random(&rng) % 3 ? 0 : (int)(next_random(&rng) % (uint32_t)(n + 9));
        float score[MAX_N];
        double wide[MAX_N];
        int32_t pos[MAX_N], kept[MAX_N], want[MAX_N], scratch[MAX_N];
        for (int i = 0; i < n; i++) {
            float x = (float)(next_random(&rng) % (uint32_t)levels) - (float)levels / 2;
            score[i] = round % 2 ? x : x * 1e-3f + (float)next_random(&rng) * 1e-9f;
            wide[i] = score[i];
            last = pos[i] = last + 1 + (int)(next_random(&rng) % 3);
        }
        int m = kv_ref_select(wide, pos, n, keep, n_sink, n_recent, want, NULL);
        assert_int_equal(kv_select(score, pos, n, keep, n_sink, n_recent, kept, scratch), m);
        assert_memory_equal(kept, want, (size_t)m * sizeof *kept);
    }
}

static void handles_the_longest_caches(void **st) {
    (void)st;
    enum { N = 131072, KEEP = 1024 };
    float *score = malloc(N * sizeof *score);
    int32_t *pos = malloc(N * sizeof *pos), *kept = malloc(N * sizeof *kept), *scratch = malloc(N * sizeof *scratch);
    assert_true(score && pos && kept && scratch);
    for (int shape = 0; shape < 3; shape++) {
        for (int i = 0; i < N; i++) {
            pos[i] = i;
            score[i] = shape == 0 ? (float)i : shape == 1 ? (float)-i : 0;
        }
        assert_int_equal(kv_select(score, pos, N, KEEP, 0, 0, kept, scratch), KEEP);
        for (int i = 0; i < KEEP; i++) assert_int_equal(kept[i], shape == 1 ? i : N - KEEP + i);
    }
    free(score);
    free(pos);
    free(kept);
    free(scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_highest_scores_in_temporal_order),
        cmocka_unit_test(keeps_the_newest_of_equal_scores),
        cmocka_unit_test(treats_both_zeros_as_equal),
        cmocka_unit_test(orders_infinities_and_tiny_numbers),
        cmocka_unit_test(protection_outranks_every_score),
        cmocka_unit_test(keeps_newest_protected_when_budget_is_smaller),
        cmocka_unit_test(counts_sinks_by_position_not_by_slot),
        cmocka_unit_test(keeping_all_or_more_changes_nothing),
        cmocka_unit_test(refuses_nan_only_where_it_matters),
        cmocka_unit_test(agrees_with_sorting_on_random_inputs),
        cmocka_unit_test(handles_the_longest_caches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
