/* test_averages.c - avg@k, pass@k, maj@k and their errors: worked examples, and a numpy program's results. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "results/averages.h"
#include "results/vote.h"
#include "tests/support/golden.h"

static int near(double a, double b) {
    return fabs(a - b) <= 1e-12 || (isnan(a) && isnan(b));
}

/* Two items, four samples each.  Means 3/4 and 1/4; items as a draw: sd = sqrt(2 (1/4)^2) = 0.35355, over sqrt(2) =
 * 0.25; items fixed: sqrt(2 (3/16) / 3) / 2 = 0.17678. */
static void averages_two_items(void **state) {
    (void)state;
    static const kv_answer a[] = {{0, 1, "x"}, {0, 1, "x"}, {0, 0, "y"}, {0, 1, "x"},
                                  {7, 0, "p"}, {7, 0, "q"}, {7, 0, "q"}, {7, 1, "r"}};
    kv_averages v;
    kv_averages_of(a, 8, &v);
    assert_int_equal(v.n, 8);
    assert_int_equal(v.n_items, 2);
    assert_int_equal(v.k, 4);
    assert_true(near(v.avg, 0.5));
    assert_true(near(v.se_random, 0.25));
    assert_true(near(v.se_fixed, sqrt(0.125) / 2));
    assert_true(near(v.pass, 1)); /* both have a right one */
    assert_true(near(v.maj, 0.5));
}

static void pass_at_k_is_unbiased(void **state) {
    (void)state;
    assert_true(near(kv_pass_at_k(4, 1, 1), 0.25));
    assert_true(near(kv_pass_at_k(4, 1, 2), 0.5));          /* 3 of 6 pairs hold the right one */
    assert_true(near(kv_pass_at_k(5, 2, 3), 0.9));          /* 9 of 10 triples */
    assert_true(near(kv_pass_at_k(10, 3, 5), 1 - 1. / 12)); /* C(7,5) / C(10,5) = 21 / 252 */
    assert_true(near(kv_pass_at_k(3, 0, 2), 0));
    assert_true(near(kv_pass_at_k(3, 2, 2), 1)); /* one wrong answer cannot fill two places */
    assert_true(near(kv_pass_at_k(200, 200, 100), 1));
}

/* Fewest samples: two.  pass@2: item 0 of four with one right 1/2, item 1 of two with none 0. */
static void items_with_unlike_numbers_of_samples(void **state) {
    (void)state;
    static const kv_answer a[] = {{0, 0, "a"}, {0, 1, "b"}, {0, 0, "a"}, {0, 0, "a"}, {1, 0, "c"}, {1, 0, "c"}};
    kv_averages v;
    kv_averages_of(a, 6, &v);
    assert_int_equal(v.k, 2);
    assert_true(near(v.avg, 1. / 6));
    assert_true(near(v.pass, 0.25));
    assert_true(near(v.maj, 0));
    assert_true(near(v.se_random, sqrt(2 * 0.125 * 0.125) / sqrt(2)));
    assert_true(near(v.se_fixed, sqrt(3. / 16 / 3) / 2));
}

static void spellings_of_an_answer_vote_together(void **state) {
    (void)state;
    static const char *const forms[][2] = {{"18", "18"},
                                           {" $18.00$ ", "18"},
                                           {"\\$18", "18"},
                                           {"+018.", "18"},
                                           {"18 dollars", "18"},
                                           {"18\\text{ dollars}", "18"},
                                           {"x = 18", "18"},
                                           {"1,234.50", "1234.5"},
                                           {"1{,}234.5", "1234.5"},
                                           {".5", "0.5"},
                                           {"-0.50", "-0.5"},
                                           {"\\dfrac{1}{2}", "1/2"},
                                           {"\\frac12", "1/2"},
                                           {"1/2", "1/2"},
                                           {"\\frac{11}{2}", "11/2"},
                                           {"\\tfrac{\\pi}{2}", "\\frac{\\pi}{2}"},
                                           {"90^\\circ", "90"},
                                           {"\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\frac{\\pi}{2})"},
                                           {"(3,4]", "(3,4]"},
                                           {"1,2", "1,2"},
                                           {"12", "12"},
                                           {"2\\frac{1}{2}", "2 1/2"},
                                           {"2 1/2", "2 1/2"},
                                           {"21/2", "21/2"},
                                           {"2^\\frac12", "2^\\frac12"},
                                           {"\\frac{1}{2}3", "\\frac{1}{2}3"},
                                           {"1234,567", "1234,567"},
                                           {"\\text{(C)}", "c"},
                                           {"C", "c"},
                                           {"\\text{East}", "east"},
                                           {"1\\\\ 2", "1\\\\2"},
                                           {"2x", "2x"},
                                           {"\\leftarrow", "\\leftarrow"},
                                           {"$ $", ""},
                                           {"", ""}};
    char out[64], tiny[8];
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        assert_int_equal(kv_vote_text(forms[i][0], out, sizeof out), strlen(forms[i][1]));
        assert_string_equal(out, forms[i][1]);
        kv_vote_text(forms[i][0], tiny, sizeof tiny); /* cut, never beyond its end */
        assert_true(strlen(tiny) < sizeof tiny);
    }
    assert_int_equal(kv_vote_text(".5,,,,,", tiny, sizeof tiny), 7); /* no room to grow */
}

static double majority_of(const kv_answer *a, size_t n) {
    kv_averages v;
    kv_averages_of(a, n, &v);
    return v.maj;
}

static void the_first_seen_wins_a_tie_and_silence_has_no_vote(void **state) {
    (void)state;
    static const kv_answer right_first[] = {{0, 1, "1"}, {0, 0, "2"}, {0, 0, "2"}, {0, 1, "1"}};
    static const kv_answer wrong_first[] = {{0, 0, "2"}, {0, 1, "1"}, {0, 1, "1"}, {0, 0, "2"}};
    static const kv_answer quiet[] = {{0, 0, NULL}, {0, 0, ""}, {0, 0, NULL}, {0, 1, "1"}};
    static const kv_answer silent[] = {{0, 0, NULL}, {0, 0, ""}};
    assert_true(majority_of(right_first, 4) == 1);
    assert_true(majority_of(wrong_first, 4) == 0);
    assert_true(majority_of(quiet, 4) == 1);
    assert_true(majority_of(silent, 2) == 0);
}

/* With one sample per item the error is that of a plain mean. */
static void one_sample_per_item_is_a_plain_mean(void **state) {
    (void)state;
    static const kv_answer a[] = {{0, 1, "x"}, {1, 1, "x"}, {2, 0, "x"}, {3, 1, "x"}};
    kv_averages v;
    kv_averages_of(a, 4, &v);
    assert_int_equal(v.k, 1);
    assert_true(near(v.avg, 0.75) && near(v.pass, 0.75) && near(v.maj, 0.75));
    assert_true(near(v.se_random, 0.25));
    assert_true(isnan(v.se_fixed));
}

static void what_the_answers_do_not_tell_is_not_a_number(void **state) {
    (void)state;
    static const kv_answer shares[] = {{0, 0.5, "a"}, {0, 1, "b"}, {1, 0.25, "c"}, {1, 0.25, "c"}};
    static const kv_answer ungraded[] = {{0, NAN, "a"}, {1, NAN, "b"}};
    kv_averages v;
    kv_averages_of(NULL, 0, &v);
    assert_int_equal(v.n + v.n_items + v.k, 0);
    assert_true(isnan(v.avg) && isnan(v.se_random) && isnan(v.se_fixed) && isnan(v.pass) && isnan(v.maj));
    kv_averages_of(shares, 4, &v);
    assert_true(near(v.avg, 0.5) && isnan(v.pass) && isnan(v.maj));
    assert_true(near(v.se_fixed, sqrt(0.125 / 2) / 2)); /* variance of 0.5 and 1 is 1/8, of their mean 1/16 */
    kv_averages_of(shares, 2, &v);
    assert_true(isnan(v.se_random) && !isnan(v.se_fixed));
    kv_averages_of(ungraded, 2, &v);
    assert_true(isnan(v.avg) && isnan(v.se_random) && isnan(v.pass) && isnan(v.maj));
}

/* ---- numpy --------------------------------------------------------------------------------------------------------
 */

static double number_or_nan(const cJSON *o, const char *key) {
    const cJSON *v = gj_get(o, key);
    return cJSON_IsNull(v) ? NAN : v->valuedouble;
}

static void agrees_with_numpy(void **state) {
    (void)state;
    static const char *const texts[] = {NULL, "right", "wrong", "other"};
    cJSON *golden = gj_load("averages.json");
    const cJSON *c, *item, *x, *cases = gj_get(golden, "cases");
    int n_cases = 0;
    cJSON_ArrayForEach(c, cases) {
        static kv_answer a[4096];
        size_t n = 0;
        int i = 0;
        kv_averages v;
        cJSON_ArrayForEach(item, gj_get(c, "items")) {
            cJSON_ArrayForEach(x, item) {
                assert_true(n < sizeof a / sizeof *a);
                a[n++] = (kv_answer){i, x->valueint == 1, texts[x->valueint]};
            }
            i++;
        }
        kv_averages_of(a, n, &v);
        assert_int_equal(v.n, (int64_t)gj_number(c, "n"));
        assert_int_equal(v.n_items, i);
        assert_int_equal(v.k, (int)gj_number(c, "k"));
        assert_true(near(v.avg, number_or_nan(c, "avg")));
        assert_true(near(v.se_random, number_or_nan(c, "se_random")));
        assert_true(near(v.se_fixed, number_or_nan(c, "se_fixed")));
        assert_true(near(v.pass, number_or_nan(c, "pass")));
        assert_true(near(v.maj, number_or_nan(c, "maj")));
        n_cases++;
    }
    assert_int_equal(n_cases, 9);
    cJSON_Delete(golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(averages_two_items),
        cmocka_unit_test(pass_at_k_is_unbiased),
        cmocka_unit_test(items_with_unlike_numbers_of_samples),
        cmocka_unit_test(spellings_of_an_answer_vote_together),
        cmocka_unit_test(the_first_seen_wins_a_tie_and_silence_has_no_vote),
        cmocka_unit_test(one_sample_per_item_is_a_plain_mean),
        cmocka_unit_test(what_the_answers_do_not_tell_is_not_a_number),
        cmocka_unit_test(agrees_with_numpy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
