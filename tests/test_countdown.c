/* test_countdown.c - the countdown search: its text against every released trace, the worked examples, and the
 * generator of new problems. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datasets/countdown.h"
#include "datasets/task.h"
#include "engine/file.h"

#define ROOT KV_SOURCE_DIR "/datasets"

static char *trace(const kv_countdown *p, int frame) {
    kv_text t = {0};
    assert_true(kv_countdown_write(p, frame, &t));
    assert_false(t.failed);
    return t.s;
}

static void reproduces_all_600_released_traces(void **state) {
    FILE *f = fopen("golden/countdown_traces.sha256", "r");
    char want[65], level[8], hex[65];
    kv_countdown p;
    int n = 0;
    (void)state;
    assert_non_null(f);
    while (fscanf(f, "%64s %7s %d %d %d %d %d", want, level, &p.nums[0], &p.nums[1], &p.nums[2], &p.nums[3],
                  &p.target) == 7) {
        char *text = trace(&p, KV_COUNTDOWN_TAGGED);
        kv_sha256_bytes(text, strlen(text), hex);
        free(text);
        if (strcmp(hex, want)) fail_msg("item %d (%s): the trace differs from the released one", n, level);
        n++;
    }
    fclose(f);
    assert_int_equal(n, 600);
}

static void worked_examples_have_the_published_lengths_and_solutions(void **state) {
    const kv_countdown a = {{40, 19, 23, 7}, 29}, b = {{9, 16, 6, 18}, 12};
    kv_text all = {0};
    (void)state;
    char *ta = trace(&a, KV_COUNTDOWN_OFFICIAL), *tb = trace(&b, KV_COUNTDOWN_OFFICIAL);
    assert_int_equal(strlen(ta), 1330);
    assert_int_equal(strlen(tb), 12892);
    assert_non_null(strstr(ta, "<Solution>\n40 + 19 = 59\n59 - 23 = 36\n36 - 7 = 29\n</Solution>\n"));
    assert_non_null(strstr(tb, "<Solution>\n16 * 9 = 144\n18 - 6 = 12\n144 / 12 = 12\n</Solution>\n"));
    kv_countdown_examples(&all);
    const char *second = strstr(all.s, "\n\n\n# Example\nNumbers: [9, 16, 6, 18]\nTarget: 12\n\n# Search Procedure\n");
    assert_non_null(second);
    assert_memory_equal(all.s, "# Example\nNumbers: [40, 19, 23, 7]\nTarget: 29\n\n# Search Procedure\nInitial", 70);
    assert_string_equal(second + strlen("\n\n\n# Example\nNumbers: [9, 16, 6, 18]\nTarget: 12\n\n"), tb);
    free(ta);
    free(tb);
    kv_text_free(&all);
}

/* The search text of a problem without a solution: every branch. */
static char *whole_search(const kv_countdown *p) {
    kv_countdown_result r;
    kv_text t = {0};
    kv_countdown_search(p, &t, &r);
    assert_false(r.solved);
    assert_false(t.failed);
    return t.s;
}

static void writes_every_kind_of_line(void **state) {
    static const char *const lines[] = {
        "Initial number set: [50, 48, 2, 2], target: 1999. Options for choosing two numbers: [(50, 48), (50, 2), (50, "
        "2), (48, 2), (48, 2), (2, 2)].\n",
        "\n |- Pick two numbers (50, 48) (numbers left: [2, 2]). Try possible operations.\n",
        "\n  |- Try 50 + 48 = 98. Add 98 to the number set. Current number set: [98, 2, 2], target: 1999. Options for "
        "choosing two numbers: [(98, 2), (98, 2), (2, 2)].\n",
        "\n  |- Try 50 * 48 = 2400. 2400 exceeds the maximum intermediate result, drop this branch.\n",
        "\n   |- Pick two numbers (2, 2) (numbers left: [98]). Try possible operations.\n",
        "\n    |- Try 2 - 2 = 0. Add 0 to the number set. Current number set: [0, 98], target: 1999, just two numbers "
        "left.\n",
        "\n     |- Try 98 + 0 = 98. Evaluate 98 != 1999, drop this branch.\n",
        "\n     |- Try 98 / 0 (invalid operation). drop this branch.\n",
        "\n     |- Try 98 / 4 = 24.5. 24.5 is a decimal, drop this branch.\n",
    };
    const kv_countdown p = {{50, 48, 2, 2}, 1999}, solved = {{1, 2, 3, 4}, 10};
    (void)state;
    char *text = whole_search(&p);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(text, lines[i])) fail_msg("line %zu is missing: %s", i, lines[i]);
    free(text);
    text = trace(&solved, KV_COUNTDOWN_OFFICIAL);
    assert_non_null(strstr(text, "\n     |- Try 6 + 4 = 10. Evaluate 10 == 10, target found!\n\nNow we have found"));
    free(text);
}

static void limit_of_2000_is_exclusive(void **state) {
    const kv_countdown p = {{1999, 1, 1, 1}, 50};
    (void)state;
    char *text = whole_search(&p);
    assert_non_null(strstr(text, "Try 1999 + 1 = 2000. 2000 exceeds the maximum"));
    assert_non_null(strstr(text, "Try 1999 * 1 = 1999. Add 1999 to the number set."));
    free(text);
}

static void counts_the_lines_it_writes(void **state) {
    const kv_countdown p = {{9, 16, 6, 18}, 12};
    kv_countdown_result with, without;
    kv_text t = {0};
    int n = 0;
    (void)state;
    kv_countdown_search(&p, &t, &with);
    kv_countdown_search(&p, NULL, &without);
    for (const char *s = t.s; (s = strstr(s, "|- ")); s++) n++;
    assert_int_equal(with.lines, n);
    assert_int_equal(without.lines, n);
    assert_true(without.solved);
    assert_string_equal(without.eq[2], "144 / 12 = 12");
    kv_text_free(&t);
}

static void says_when_there_is_no_solution(void **state) {
    const kv_countdown p = {{1, 1, 1, 1}, 50};
    kv_text t = {0};
    kv_countdown_result r;
    (void)state;
    assert_false(kv_countdown_write(&p, KV_COUNTDOWN_OFFICIAL, &t));
    kv_countdown_search(&p, NULL, &r);
    assert_false(r.solved);
    kv_text_free(&t);
}

/* --- new problems --------------------------------------------------------------------------------------------- */

static kv_task *open_task(const char *spec, uint64_t seed) {
    kv_task_options o = {.root = ROOT, .variant = "short", .seed = seed};
    kv_error err = {0};
    kv_task *t = NULL;
    if (kv_task_open(spec, &o, &t, &err)) fail_msg("%s: %s", spec, err.text);
    return t;
}

static kv_countdown problem(kv_task *t, int i) {
    kv_item it;
    kv_error err;
    assert_int_equal(kv_task_item(t, i, &it, &err), KV_OK);
    kv_countdown p = *(kv_countdown *)it.data;
    kv_item_free(&it);
    return p;
}

static void new_problems_have_the_wanted_length(void **state) {
    static const int ranges[][2] = {{3, 12}, {33, 68}, {143, 288}, {500, 600}};
    (void)state;
    for (size_t k = 0; k < sizeof ranges / sizeof *ranges; k++) {
        char spec[80];
        snprintf(spec, sizeof spec, "countdown_gen:n=20:min_lines=%d:max_lines=%d", ranges[k][0], ranges[k][1]);
        kv_task *t = open_task(spec, 1);
        for (int i = 0; i < 20; i++) {
            kv_countdown p = problem(t, i);
            kv_countdown_result r;
            kv_countdown_search(&p, NULL, &r);
            assert_true(r.solved);
            assert_in_range(r.lines, ranges[k][0], ranges[k][1]);
            for (int j = 0; j < 4; j++) assert_in_range(p.nums[j], 1, 49);
            assert_in_range(p.target, 10, 50);
        }
        kv_task_close(t);
    }
}

static void new_problems_depend_on_seed_and_index_only(void **state) {
    (void)state;
    kv_task *few = open_task("countdown_gen:n=5", 3), *many = open_task("countdown_gen:n=50", 3);
    kv_task *by_name = open_task("countdown_gen:n=5:seed=3", 9), *other = open_task("countdown_gen:n=5", 4);
    int equal = 0;
    for (int i = 4; i >= 0; i--) {
        kv_countdown a = problem(few, i), b = problem(many, i), c = problem(by_name, i), d = problem(other, i);
        assert_memory_equal(&a, &b, sizeof a);
        assert_memory_equal(&a, &c, sizeof a);
        equal += !memcmp(&a, &d, sizeof a);
    }
    assert_true(equal < 2);
    assert_string_not_equal(kv_task_get_info(few)->data_sha256, kv_task_get_info(other)->data_sha256);
    assert_string_equal(kv_task_get_info(few)->data_sha256, kv_task_get_info(by_name)->data_sha256);
    assert_string_equal(kv_task_get_info(by_name)->name, "countdown_gen:n=5:seed=3");
    kv_task_close(few);
    kv_task_close(many);
    kv_task_close(by_name);
    kv_task_close(other);
}

/* Fixed so that a change of the generator cannot pass unnoticed on any platform. */
static void first_problems_of_seed_0_are_these(void **state) {
    static const kv_countdown want[] = {{{38, 41, 12, 30}, 39}, {{40, 33, 41, 11}, 37}};
    (void)state;
    kv_task *t = open_task("countdown_gen:n=2", 0);
    for (int i = 0; i < 2; i++) {
        kv_countdown p = problem(t, i);
        if (memcmp(&p, &want[i], sizeof p))
            fail_msg("item %d is [%d, %d, %d, %d] -> %d", i, p.nums[0], p.nums[1], p.nums[2], p.nums[3], p.target);
    }
    kv_task_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reproduces_all_600_released_traces),
        cmocka_unit_test(worked_examples_have_the_published_lengths_and_solutions),
        cmocka_unit_test(writes_every_kind_of_line),
        cmocka_unit_test(limit_of_2000_is_exclusive),
        cmocka_unit_test(counts_the_lines_it_writes),
        cmocka_unit_test(says_when_there_is_no_solution),
        cmocka_unit_test(new_problems_have_the_wanted_length),
        cmocka_unit_test(new_problems_depend_on_seed_and_index_only),
        cmocka_unit_test(first_problems_of_seed_0_are_these),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
