/* test_sampler.c - the filters against transformers, and how often a token is drawn against its probability.
 *
 * A row's distribution is read back exactly: over the random numbers 0..2^53 - 1 the token drawn only moves on along
 * the order of likelihood, so bisection finds where each token's share begins and ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/draw.h"
#include "engine/sampler.h"
#include "tests/support/golden.h"
#include "tests/support/narrow.h"

enum { MAX_ROW = 512 };
static const uint64_t NUMBERS = (uint64_t)1 << 53;

typedef struct share {
    int id;
    double p;
} share;

/* Tokens with a probability of at least `least`, in the order of the running sum. */
static int read_shares(const kv_sampling *s, const float *row, int n, double least, share *out) {
    uint64_t keys[MAX_ROW], from = 0;
    int count = 0;
    while (from < NUMBERS) {
        int id = kv_sample_number(s, from, row, n, keys);
        uint64_t low = from, high = NUMBERS; /* low: this token; high: the next one, or the end */
        assert_true(id >= 0 && id < n && count < n);
        while (high - low > 1) {
            uint64_t mid = low + (high - low) / 2;
            if (kv_sample_number(s, mid, row, n, keys) == id)
                low = mid;
            else
                high = mid;
        }
        double p = (double)(high - from) * 0x1p-53;
        if (p >= least) out[count++] = (share){id, p};
        from = high;
    }
    return count;
}

static int read_row(const cJSON *rows, int i, float *row) {
    const cJSON *x, *list = cJSON_GetArrayItem(rows, i);
    int n = 0;
    cJSON_ArrayForEach(x, list) {
        assert_true(n < MAX_ROW);
        row[n++] = (float)x->valuedouble;
    }
    return n;
}

/* 1 when the tokens are the same but for equals. */
static int compare_case(const cJSON *c, const float *row, int n, double least) {
    kv_sampling s = {.temperature = (float)gj_number(c, "temperature"),
                     .top_p = (float)gj_number(c, "top_p"),
                     .top_k = (int)gj_number(c, "top_k"),
                     .min_p = (float)gj_number(c, "min_p")};
    const cJSON *probs = gj_get(c, "probs");
    share got[MAX_ROW];
    int n_want, n_got = read_shares(&s, row, n, least, got), moved = 0;
    int32_t *want = gj_ids(c, "ids", &n_want);
    if (n_got != n_want || cJSON_GetArraySize(probs) != n_want)
        fail_msg("T %g k %d p %g min %g, row of %d: %d tokens left, expected %d", s.temperature, s.top_k, s.top_p,
                 s.min_p, n, n_got, n_want);
    const cJSON *p = probs->child;
    for (int i = 0; i < n_got; i++, p = p->next) {
        /* fp32: a distance of 16 to 32 from the best logit is known to 2e-6 */
        if (fabs(got[i].p - p->valuedouble) > 2e-6 * p->valuedouble + 1e-12)
            fail_msg("T %g k %d p %g min %g, row of %d, rank %d: probability %.12g, expected %.12g", s.temperature,
                     s.top_k, s.top_p, s.min_p, n, i, got[i].p, p->valuedouble);
        if (got[i].id == want[i]) continue;
        /* equals to the step of draw.h: transformers keeps whichever its sort put last */
        assert_true(fabsf(row[got[i].id] - row[want[i]]) <= 0x1p-26f * s.temperature);
        moved = 1;
    }
    free(want);
    return moved;
}

static void filters_leave_what_transformers_leaves(void **state) {
    (void)state;
    cJSON *golden = gj_load("sampling.json");
    const cJSON *c, *rows = gj_get(golden, "rows"), *cases = gj_get(golden, "cases");
    int n_cases = 0, n_moved = 0;
    cJSON_ArrayForEach(c, cases) {
        float row[MAX_ROW];
        int n = read_row(rows, (int)gj_number(c, "row"), row);
        n_moved += compare_case(c, row, n, gj_number(golden, "least"));
        n_cases++;
    }
    assert_int_equal(n_cases, 165);
    print_message("%d cases, %d of them with equals in another order\n", n_cases, n_moved);
    cJSON_Delete(golden);
}

static void top_k_keeps_all_that_tie_with_the_last(void **state) {
    (void)state;
    const float row[6] = {1, 3, 2, 2, 2, 0};
    const kv_sampling s = {.temperature = 1, .top_p = 1, .top_k = 2};
    share got[6];
    assert_int_equal(read_shares(&s, row, 6, 0, got), 4);
    for (int i = 0; i < 4; i++) assert_int_equal(got[i].id, i + 1);
    for (int i = 2; i < 4; i++) assert_true(fabs(got[i].p - got[1].p) < 1e-15);
}

static void top_p_keeps_the_lower_ids_among_equals(void **state) {
    (void)state;
    const float row[5] = {-1, -1, -1, -1, -1};
    const kv_sampling s = {.temperature = 1, .top_p = 0.5f};
    share got[5];
    assert_int_equal(read_shares(&s, row, 5, 0, got), 3);
    for (int i = 0; i < 3; i++) assert_int_equal(got[i].id, i);
}

static void a_row_that_is_no_number_is_reported(void **state) {
    (void)state;
    const float rows[][3] = {{0, NAN, 1}, {INFINITY, 0, 1}, {0, 1, -INFINITY}};
    const kv_sampling s = {.temperature = 1, .top_p = 0.9f};
    uint64_t keys[3];
    for (int i = 0; i < 3; i++) assert_int_equal(kv_sample(&s, 0, rows[i], 3, keys), KV_ENUM);
}

/* ---- the stream and its weights ---------------------------------------------------------------------------------- */

static void the_stream_is_splitmix64(void **state) {
    (void)state;
    static const uint64_t published[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                         4593380528125082431u, 16408922859458223821u};
    for (uint64_t i = 0; i < 5; i++) assert_true(kv_draw_number(1234567, i) == published[i] >> 11);
}

static void weights_are_exponentials_and_never_rise(void **state) {
    (void)state;
    uint64_t last = kv_draw_weight(0);
    assert_true(last == (uint64_t)1 << 43);
    for (uint64_t q = 1; q < (uint64_t)KV_DRAW_REACH << 26; q += q < 100000 ? 1 : 997) {
        uint64_t w = kv_draw_weight((uint32_t)q);
        double want = exp((double)q * -0x1p-26) * 0x1p43;
        if (w > last || fabs((double)w - want) > 2e-8 * want + 1)
            fail_msg("weight of %llu steps: %llu, %.17g expected", (unsigned long long)q, (unsigned long long)w, want);
        last = w;
    }
    assert_int_equal(last, 0);
}

/* Pearson's statistic of n counts; the last cell takes what is expected less than five times. */
static double chi_square(const int *seen, const share *p, int n, int draws, int *degrees) {
    double sum = 0, rest_p = 1;
    int rest = draws;
    *degrees = 0;
    for (int i = 0; i < n && p[i].p * draws >= 5; i++) {
        double want = p[i].p * draws;
        sum += (seen[p[i].id] - want) * (seen[p[i].id] - want) / want;
        rest -= seen[p[i].id];
        rest_p -= p[i].p;
        (*degrees)++;
    }
    if (rest_p * draws < 5) {
        (*degrees)--;
        assert_true(rest <= 30);
        return sum;
    }
    return sum + (rest - rest_p * draws) * (rest - rest_p * draws) / (rest_p * draws);
}

/* by_seed: the first number of many streams, which is what the samples of many items begin with. */
static void compare_frequencies(const kv_sampling *how, int by_seed) {
    enum { N = 40, DRAWS = 60000 };
    float row[N];
    share p[N];
    uint64_t keys[N];
    int seen[N] = {0}, degrees;
    for (int i = 0; i < N; i++) row[i] = 5 * sinf((float)(i * i));
    int n = read_shares(how, row, N, 0, p);
    for (int i = 0; i < DRAWS; i++) {
        kv_sampling s = *how;
        s.seed = by_seed ? (uint64_t)i : 7;
        seen[kv_sample(&s, by_seed ? 0 : (uint64_t)i, row, N, keys)]++;
    }
    double x = chi_square(seen, p, n, DRAWS, &degrees);
    /* Wilson and Hilferty: a normal deviate; 3.7 is passed by chance once in 9,000 */
    double z = (cbrt(x / degrees) - (1 - 2.0 / (9 * degrees))) / sqrt(2.0 / (9 * degrees));
    print_message("T %g k %d p %g min %g: %d tokens, chi-square %.1f with %d degrees of freedom\n", how->temperature,
                  how->top_k, how->top_p, how->min_p, n, x, degrees);
    assert_true(degrees >= 4);
    assert_true(fabs(z) < 3.7);
}

static void tokens_are_drawn_as_often_as_their_probability_says(void **state) {
    (void)state;
    static const kv_sampling how[] = {{.temperature = 1, .top_p = 1},
                                      {.temperature = 0.6f, .top_p = 0.95f, .top_k = 20},
                                      {.temperature = 2, .top_p = 0.9f, .min_p = 0.2f},
                                      {.temperature = 4, .top_p = 1, .top_k = 9}};
    for (int i = 0; i < 4; i++)
        for (int by_seed = 0; by_seed < 2; by_seed++) compare_frequencies(&how[i], by_seed);
}

static void every_parameter_reaches_the_draw(void **state) {
    (void)state;
    kv_engine *e = th_open_tiny(KV_FAST, 2);
    th_expect_parameters_to_arrive(e);
    kv_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters_leave_what_transformers_leaves),
        cmocka_unit_test(top_k_keeps_all_that_tie_with_the_last),
        cmocka_unit_test(top_p_keeps_the_lower_ids_among_equals),
        cmocka_unit_test(a_row_that_is_no_number_is_reported),
        cmocka_unit_test(the_stream_is_splitmix64),
        cmocka_unit_test(weights_are_exponentials_and_never_rise),
        cmocka_unit_test(every_parameter_reaches_the_draw),
        cmocka_unit_test(tokens_are_drawn_as_often_as_their_probability_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
