/* test_policies.c - worked examples of every policy, computed by an independent numpy program, to the six digits it
 * printed; and the corner cases of each.  Fixture A: one KV head, query heads a and b, head size 2, eight tokens. */
#include "policies/select.h"
#include "tests/support/mini_cache.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const float K[8][2] = {{-1.6f, .9f}, {-1, .3f},   {-.8f, -1},  {-.1f, 2},
                              {-1, -1.8f},  {-.3f, .5f}, {1.2f, .8f}, {.8f, -1.9f}};
static const float Q[8][2][2] = {{{-1.5f, 1.3f}, {-1.1f, 0}}, {{.2f, .1f}, {.2f, -.9f}},  {{-.2f, -.5f}, {1.1f, -.3f}},
                                 {{-.5f, -.3f}, {1, 1.4f}},   {{-1, .7f}, {.7f, -1.2f}},  {{-.4f, 1.3f}, {-1.2f, .3f}},
                                 {{-.4f, .4f}, {-.9f, -.8f}}, {{-.7f, 1.3f}, {-1.3f, -1}}};
static const kv_shape shape_a = {.n_layers = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 2, .dim = 1};
static const kv_shape shape_ab = {.n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 2, .dim = 1};

static void assert_near(const float *got, const double *want, int n, double tolerance) {
    for (int i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= tolerance)) fail_msg("entry %d: %.8f, expected %.6f", i, got[i], want[i]);
}

static void assert_near_double(const double *got, const double *want, int n, double tolerance) {
    for (int i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= tolerance)) fail_msg("entry %d: %.8f, expected %.6f", i, got[i], want[i]);
}

static void assert_slots(const kv_mini *m, int n, const int32_t *want) {
    assert_int_equal(m->heads[0].n_slots, n);
    assert_memory_equal(m->heads[0].pos, want, (size_t)n * sizeof *want);
}

/* A policy opened for direct calls. */
typedef struct opened {
    kv_policy_spec spec;
    void *state;
} opened;

static opened open_policy(const char *text, kv_shape shape, int budget, uint64_t seed, const kv_gates *gates) {
    opened o = {.state = NULL};
    kv_error err = {0};
    if (kv_policy_parse(text, &o.spec, &err)) fail_msg("%s", err.text);
    kv_policy_args args = {o.spec.values, budget, 1, seed, gates};
    if (o.spec.policy->open(&o.state, &shape, &args, &err)) fail_msg("%s", err.text);
    return o;
}

static void close_policy(opened *o) {
    if (o->spec.policy->close) o->spec.policy->close(o->state);
}

static void assert_keeps(const opened *o, const float *score, const int32_t *pos, int n, int keep,
                         const int32_t *want) {
    int32_t kept[16], scratch[16];
    int n_sink = 0, n_recent = 0;
    if (o->spec.policy->protect) o->spec.policy->protect(o->state, &n_sink, &n_recent);
    assert_int_equal(kv_select(score, pos, n, keep, n_sink, n_recent, kept, scratch), keep);
    for (int i = 0; i < keep; i++) assert_int_equal(pos[kept[i]], want[i]);
}

/* window ----------------------------------------------------------------------------------------------------- */

static void run_window(const char *policy, const int32_t want[3][5]) {
    kv_mini m;
    kv_mini_open(&m, &(kv_mini_options){.policy = policy, .shape = shape_a, .budget = 5, .buffer = 1, .cap = 8});
    for (int t = 0; t < 8; t++) {
        kv_mini_append(&m, 1, NULL, Q[t][0], K[t]);
        assert_int_equal(kv_mini_reduce(&m), t >= 5);
        if (t >= 5) assert_slots(&m, 5, want[t - 5]);
    }
    kv_mini_close(&m);
}

static void window_keeps_sinks_and_newest(void **st) {
    (void)st;
    run_window("window:sinks=2", (const int32_t[3][5]){{0, 1, 3, 4, 5}, {0, 1, 4, 5, 6}, {0, 1, 5, 6, 7}});
    run_window("window", (const int32_t[3][5]){{0, 1, 2, 3, 5}, {0, 1, 2, 3, 6}, {0, 1, 2, 3, 7}});
}

static void window_without_sinks_slides(void **st) {
    (void)st;
    run_window("window:sinks=0", (const int32_t[3][5]){{1, 2, 3, 4, 5}, {2, 3, 4, 5, 6}, {3, 4, 5, 6, 7}});
}

static void window_with_more_sinks_than_budget_keeps_the_newest_sinks(void **st) {
    (void)st;
    run_window("window:sinks=100", (const int32_t[3][5]){{1, 2, 3, 4, 5}, {2, 3, 4, 5, 6}, {3, 4, 5, 6, 7}});
}

/* random ----------------------------------------------------------------------------------------------------- */

static void random_scores(const opened *o, int layer, int head, int n, const int32_t *pos, float *score) {
    kv_score_args a = {.layer = layer, .kv_head = head, .n_slots = n, .n_seen = n, .pos = pos};
    o->spec.policy->score(o->state, &a, score);
}

static void random_score_belongs_to_the_position(void **st) {
    (void)st;
    const int32_t all[5] = {0, 1, 2, 3, 4}, some[2] = {1, 4};
    float a[5], b[5], c[5];
    opened one = open_policy("random", shape_a, 4, 7, NULL), two = open_policy("random", shape_a, 99, 7, NULL),
           other = open_policy("random", shape_a, 4, 8, NULL),
           given = open_policy("random:seed=7", shape_a, 4, 8, NULL);
    random_scores(&one, 3, 2, 5, all, a);
    random_scores(&two, 3, 2, 2, some, b);
    assert_true(a[1] == b[0] && a[4] == b[1]);
    random_scores(&given, 3, 2, 5, all, b);
    assert_memory_equal(a, b, sizeof a);
    random_scores(&other, 3, 2, 5, all, b);
    random_scores(&one, 2, 3, 5, all, c);
    for (int i = 0; i < 5; i++) assert_true(a[i] != b[i] && a[i] != c[i]);
    close_policy(&one);
    close_policy(&two);
    close_policy(&other);
    close_policy(&given);
}

static void random_scores_are_uniform(void **st) {
    (void)st;
    enum { N = 100000, BINS = 50 };
    int32_t *pos = malloc(N * sizeof *pos);
    float *score = malloc(N * sizeof *score);
    assert_true(pos && score);
    for (int i = 0; i < N; i++) pos[i] = i;
    opened o = open_policy("random", shape_a, 4, 0, NULL);
    for (int head = 0; head < 4; head++) {
        int count[BINS] = {0};
        double chi2 = 0, product = 0;
        random_scores(&o, 0, head, N, pos, score);
        for (int i = 0; i < N; i++) {
            assert_true(score[i] >= 0 && score[i] < 1);
            count[(int)(score[i] * BINS)]++;
            if (i) product += (score[i] - .5) * (score[i - 1] - .5) * 12 / N;
        }
        for (int b = 0; b < BINS; b++) chi2 += pow(count[b] - (double)N / BINS, 2) / ((double)N / BINS);
        assert_true(chi2 < 95);             /* 49 degrees of freedom: p = 1e-4 */
        assert_true(fabs(product) < 0.013); /* correlation of neighbours: 4 sigma */
    }
    close_policy(&o);
    free(score);
    free(pos);
}

static void random_holds_a_uniform_sample_whatever_the_buffer(void **st) {
    (void)st;
    int32_t want[6];
    const int buffers[4] = {1, 4, 10, 40}; /* all divide 40, so token 45 ends in a reduction */
    for (int i = 0; i < 4; i++) {
        kv_mini m;
        kv_mini_open(
            &m, &(kv_mini_options){
                    .policy = "random", .shape = shape_a, .budget = 6, .buffer = buffers[i], .cap = 46, .seed = 5});
        for (int t = 0; t < 46; t++) {
            kv_mini_append(&m, 1, NULL, Q[t % 8][0], K[t % 8]);
            kv_mini_reduce(&m);
        }
        if (i == 0) memcpy(want, m.heads[0].pos, sizeof want);
        assert_slots(&m, 6, want);
        kv_mini_close(&m);
    }
}

/* h2o -------------------------------------------------------------------------------------------------------- */

static const double h2o_sums[8] = {3.191323, 1.661897, 1.031992, 1.394191, .191698, .360356, .161961, .006582};

static void append_a(kv_mini *m, int from, int n) {
    float q[8][2];
    for (int i = 0; i < n; i++) memcpy(q[i], Q[from + i][0], sizeof q[i]);
    kv_mini_append(m, n, NULL, q[0], K[from]);
}

static void h2o_adds_up_what_every_query_gave(void **st) {
    (void)st;
    kv_mini m;
    kv_mini_open(&m,
                 &(kv_mini_options){.policy = "h2o:recent=2", .shape = shape_a, .budget = 4, .buffer = 4, .cap = 8});
    append_a(&m, 0, 8);
    kv_mini_score(&m, 0);
    assert_near(m.score, h2o_sums, 8, 1e-6);
    assert_near_double(m.heads[0].last_p,
                       (double[]){.283211, .121227, .033237, .370515, .017589, .103031, .064608, .006582}, 8, 1e-6);
    assert_true(kv_mini_reduce(&m));
    assert_slots(&m, 4, (int32_t[]){0, 1, 6, 7});
    kv_mini_close(&m);
}

static void h2o_sums_over_the_group(void **st) {
    (void)st;
    const double mean[6] = {2.738729, 1.587270, 1.201696, 1.196361, .840564, .290841};
    double sum[6];
    kv_mini m;
    kv_mini_open(&m,
                 &(kv_mini_options){.policy = "h2o:recent=2", .shape = shape_ab, .budget = 5, .buffer = 3, .cap = 8});
    kv_mini_append(&m, 8, NULL, Q[0][0], K[0]);
    kv_mini_score(&m, 0);
    for (int i = 0; i < 6; i++) sum[i] = 2 * mean[i];
    assert_near(m.score, sum, 6, 2e-6);
    assert_true(kv_mini_reduce(&m));
    assert_slots(&m, 5, (int32_t[]){0, 1, 2, 6, 7});
    kv_mini_close(&m);
}

static void h2o_step(kv_mini *m, int t, const double p[5], const double acc[5], const int32_t kept[4]) {
    append_a(m, t, 1);
    assert_near_double(m->heads[0].last_p, p, 5, 1e-6);
    kv_mini_score(m, 0);
    assert_near(m->score, acc, 5, 1e-6);
    assert_true(kv_mini_reduce(m));
    assert_slots(m, 4, kept);
}

static void h2o_keeps_its_sums_through_evictions(void **st) {
    (void)st;
    kv_mini m;
    kv_mini_open(&m, &(kv_mini_options){.policy = "h2o", .shape = shape_a, .budget = 4, .buffer = 1, .cap = 8});
    append_a(&m, 0, 6);
    kv_mini_score(&m, 0);
    assert_near(m.score, (double[]){2.687019, 1.383210, .895736, .826234, .087171, .120630}, 6, 1e-6);
    assert_true(kv_mini_reduce(&m));
    assert_slots(&m, 4, (int32_t[]){0, 1, 4, 5});
    h2o_step(&m, 6, (double[]){.316055, .225091, .124280, .195407, .139167},
             (double[]){3.003074, 1.608301, .211450, .316037, .139167}, (int32_t[]){0, 1, 5, 6});
    h2o_step(&m, 7, (double[]){.489426, .209496, .178051, .111651, .011375},
             (double[]){3.492500, 1.817798, .494088, .250818, .011375}, (int32_t[]){0, 1, 6, 7});
    kv_mini_close(&m);
}

static void h2o_protects_half_the_budget_by_default(void **st) {
    (void)st;
    int n_sink, n_recent;
    opened o = open_policy("h2o", shape_a, 9, 0, NULL), none = open_policy("h2o:recent=0", shape_a, 9, 0, NULL);
    o.spec.policy->protect(o.state, &n_sink, &n_recent);
    assert_true(n_sink == 0 && n_recent == 4);
    none.spec.policy->protect(none.state, &n_sink, &n_recent);
    assert_true(n_sink == 0 && n_recent == 0);
    close_policy(&o);
    close_policy(&none);
}

/* snapkv ----------------------------------------------------------------------------------------------------- */

/* Scores fixture A with the queries at positions q0 and q1. */
static void snapkv_scores(const opened *o, int q0, int q1, int n_slots, const int32_t *pos, float *score) {
    float queries[2][2][2], scratch[6 * 8];
    memcpy(queries[0], Q[q0], sizeof queries[0]);
    memcpy(queries[1], Q[q1], sizeof queries[1]);
    kv_score_args a = {.n_slots = n_slots,
                       .n_seen = 8,
                       .pos = pos,
                       .keys = K[0],
                       .queries = queries[0][0],
                       .n_queries = 2,
                       .group = 2,
                       .head_dim = 2,
                       .scratch = scratch};
    o->spec.policy->score(o->state, &a, score);
}

static const int32_t eight[8] = {0, 1, 2, 3, 4, 5, 6, 7};

static void snapkv_takes_the_softmax_of_group_maxima_over_the_past(void **st) {
    (void)st;
    const double logits[2][6] = {{.707107, .466690, 1.074802, .593970, 1.654630, .226274},
                                 {1.619275, .770746, 1.442498, 1.887975, 2.192031, .608112}};
    const double rows[2][6] = {{.136588, .107399, .197287, .121977, .352302, .084448},
                               {.175094, .074948, .146723, .229069, .310468, .063698}};
    opened o = open_policy("snapkv:window=2:pool=1", shape_ab, 5, 0, NULL);
    for (int r = 0; r < 2; r++) {
        float score[8];
        snapkv_scores(&o, 6 + r, 6 + r, 8, eight, score); /* the mean of a row with itself is the row */
        assert_near(score, rows[r], 6, 1e-6);
        for (int j = 1; j < 6; j++) assert_true(fabs(log(score[j] / score[0]) - (logits[r][j] - logits[r][0])) < 2e-6);
    }
    close_policy(&o);
}

static void snapkv_averages_over_the_window_and_pools(void **st) {
    (void)st;
    float score[8];
    opened plain = open_policy("snapkv:window=2:pool=1", shape_ab, 5, 0, NULL),
           pooled = open_policy("snapkv:window=2:pool=3", shape_ab, 5, 0, NULL);
    snapkv_scores(&plain, 6, 7, 8, eight, score);
    assert_near(score, (double[]){.155841, .091173, .172005, .175523, .331385, .074073}, 6, 1e-6);
    assert_keeps(&plain, score, eight, 8, 5, (int32_t[]){2, 3, 4, 6, 7});
    snapkv_scores(&pooled, 6, 7, 8, eight, score);
    assert_near(score, (double[]){.155841, .172005, .175523, .331385, .331385, .331385}, 6, 1e-6);
    assert_keeps(&pooled, score, eight, 8, 5, (int32_t[]){3, 4, 5, 6, 7});
    close_policy(&plain);
    close_policy(&pooled);
}

static void snapkv_runs_through_the_cache(void **st) {
    (void)st;
    kv_mini m;
    kv_mini_open(&m, &(kv_mini_options){
                         .policy = "snapkv:window=2:pool=3", .shape = shape_ab, .budget = 5, .buffer = 3, .cap = 8});
    for (int t = 0; t < 8; t++) {
        kv_mini_append(&m, 1, NULL, Q[t][0], K[t]);
        assert_int_equal(kv_mini_reduce(&m), t == 7);
    }
    assert_slots(&m, 5, (int32_t[]){3, 4, 5, 6, 7});
    kv_mini_close(&m);
}

static void snapkv_without_past_is_a_window(void **st) {
    (void)st;
    float score[8];
    opened o = open_policy("snapkv:window=8", shape_ab, 3, 0, NULL),
           wide = open_policy("snapkv:window=200", shape_ab, 3, 0, NULL);
    for (int n = 1; n <= 8; n++) {
        memset(score, 0xff, sizeof score);
        snapkv_scores(&o, 6, 7, n, eight, score);
        for (int j = 0; j < n; j++) assert_true(score[j] == 0);
    }
    assert_keeps(&o, score, eight, 8, 3, (int32_t[]){5, 6, 7});
    assert_keeps(&wide, score, eight, 8, 3, (int32_t[]){5, 6, 7});
    close_policy(&o);
    close_policy(&wide);
}

static void snapkv_survives_huge_logits(void **st) {
    (void)st;
    const float keys[4][2] = {{1e4f, 0}, {-1e4f, 0}, {1e4f, 1}, {0, 0}}, queries[1][2] = {{1e4f, 0}};
    float scratch[5 * 4], score[4];
    opened o = open_policy("snapkv:window=1:pool=1", shape_a, 2, 0, NULL);
    kv_score_args a = {.n_slots = 4,
                       .n_seen = 4,
                       .pos = eight,
                       .keys = keys[0],
                       .queries = queries[0],
                       .n_queries = 1,
                       .group = 1,
                       .head_dim = 2,
                       .scratch = scratch};
    o.spec.policy->score(o.state, &a, score);
    assert_near(score, (double[]){.5, 0, .5, 0}, 4, 1e-6);
    close_policy(&o);
}

/* trimkv ----------------------------------------------------------------------------------------------------- */

static const float w1[2][3] = {{.2f, -.4f, .1f}, {.3f, .5f, -.2f}}, b1[2] = {.1f, -.1f},
                   w2[2][2] = {{1, -2}, {.5f, 1.5f}}, bias[2] = {8, 4};
static const kv_gate_layer gate_layer = {.w1 = w1[0], .b1 = b1, .w2 = w2[0], .bias = bias};
static const kv_gates gates = {KV_GATE_RG, 1, 3, 2, 2, &gate_layer, 0};
static const kv_shape shape_gate = {.n_layers = 1, .n_heads = 2, .n_kv_heads = 2, .head_dim = 2, .dim = 3};

static void trimkv_scores(const opened *o, int n, const int32_t *pos, int n_seen, const double *beta,
                          const double *norms, float *score) {
    float lb[8], lnk[8];
    const float *stats[2] = {lb, lnk};
    for (int i = 0; i < n; i++) {
        lb[i] = (float)log(beta[i]);
        lnk[i] = norms ? (float)log(norms[i]) : 0;
    }
    kv_score_args a = {.n_slots = n, .n_seen = n_seen, .pos = pos, .stats = stats};
    o->spec.policy->score(o->state, &a, score);
}

static const double beta[6] = {.999, .5, .9, .97, .99, .8};

static void trimkv_decays_with_age(void **st) {
    (void)st;
    float score[6];
    opened o = open_policy("trimkv", shape_gate, 4, 0, &gates),
           w = open_policy("trimkv:window=1", shape_gate, 2, 0, &gates);
    trimkv_scores(&o, 6, eight, 6, beta, NULL, score);
    assert_near(score, (double[]){-.007004, -4.158883, -.526803, -.121837, -.030151, -.446287}, 6, 1e-6);
    assert_keeps(&o, score, eight, 6, 4, (int32_t[]){0, 3, 4, 5});
    assert_keeps(&o, score, eight, 6, 2, (int32_t[]){0, 4});
    assert_keeps(&w, score, eight, 6, 2, (int32_t[]){0, 5});
    close_policy(&o);
    close_policy(&w);
}

static void trimkv_rescores_survivors_at_the_next_trigger(void **st) {
    (void)st;
    const double later[6] = {.999, .97, .99, .8, .6, .95};
    const int32_t pos[6] = {0, 3, 4, 5, 6, 7};
    float score[6];
    opened o = open_policy("trimkv", shape_gate, 4, 0, &gates);
    trimkv_scores(&o, 6, pos, 8, later, NULL, score);
    assert_near(score, (double[]){-.009005, -.182755, -.050252, -.892574, -1.532477, -.102587}, 6, 1e-6);
    assert_keeps(&o, score, pos, 6, 4, (int32_t[]){0, 3, 4, 7});
    close_policy(&o);
}

static void trimkv_looks_ahead(void **st) {
    (void)st;
    float score[6];
    opened two = open_policy("trimkv:lookahead=2", shape_gate, 4, 0, &gates),
           four = open_policy("trimkv:lookahead=4", shape_gate, 4, 0, &gates);
    trimkv_scores(&two, 6, eight, 6, beta, NULL, score);
    assert_near(score, (double[]){.684643, -4.446565, .009691, .525738, .647933, -.081644}, 6, 1e-6);
    assert_keeps(&two, score, eight, 6, 4, (int32_t[]){0, 2, 3, 4});
    trimkv_scores(&four, 6, eight, 6, beta, NULL, score);
    assert_near(score, (double[]){1.376790, -4.223422, .603018, 1.188889, 1.331081, .413052}, 6, 1e-6);
    assert_keeps(&four, score, eight, 6, 4, (int32_t[]){0, 2, 3, 4});
    close_policy(&two);
    close_policy(&four);
}

static void trimkv_lookahead_is_finite_for_saturated_gates(void **st) {
    (void)st;
    const float lb[6] = {0, -0.0f, -1e-9f, -0.9e-7f, -1.1e-7f, -1e-6f}, lnk[6] = {0}, *stats[2] = {lb, lnk};
    float score[6];
    opened o = open_policy("trimkv:lookahead=4", shape_gate, 4, 0, &gates);
    kv_score_args a = {.n_slots = 6, .n_seen = 100, .pos = eight, .stats = stats};
    o.spec.policy->score(o.state, &a, score);
    for (int i = 0; i < 6; i++) assert_true(fabs(score[i] - (log(4) + (102 - i + 1.5) * lb[i])) < 1e-6);
    close_policy(&o);
}

static void trimkv_adds_the_key_norm(void **st) {
    (void)st;
    float score[6];
    opened o = open_policy("trimkv:knorm=1", shape_gate, 4, 0, &gates);
    trimkv_scores(&o, 6, eight, 6, beta, (double[]){2, 1, 3, .5, 1, 1.5}, score);
    assert_near(score, (double[]){.686144, -4.158883, .571810, -.814984, -.030151, -.040822}, 6, 1e-6);
    assert_keeps(&o, score, eight, 6, 4, (int32_t[]){0, 2, 4, 5});
    close_policy(&o);
}

static void observe(const opened *o, const float *x, const float *k, int n, size_t n_scratch, float *stats) {
    float *scratch = malloc(n_scratch * sizeof *scratch);
    assert_non_null(scratch);
    kv_services sv = {.linear = kv_mini_linear, .scratch = scratch, .n_scratch = n_scratch};
    kv_observe_args a = {.n_rows = n, .hidden = x, .k = k, .v = k, .pos = eight, .stats = stats};
    o->spec.policy->observe(o->state, &sv, &a);
    free(scratch);
}

static void trimkv_gate_gives_log_retention(void **st) {
    (void)st;
    const float x[3] = {.5f, -1, 2}, k[2][2] = {{3, 4}, {0, 0}};
    float stats[2][2];
    opened o = open_policy("trimkv", shape_gate, 4, 0, &gates),
           knorm = open_policy("trimkv:knorm=1", shape_gate, 4, 0, &gates);
    observe(&o, x, k[0], 1, KV_MIN_SCRATCH, stats[0]);
    assert_near((float[]){stats[0][0], stats[1][0]}, (double[]){-.000116, -.020155}, 2, 1e-6);
    assert_near((float[]){stats[0][1], stats[1][1]}, (double[]){0, 0}, 2, 0);
    observe(&knorm, x, k[0], 1, KV_MIN_SCRATCH, stats[0]);
    assert_near((float[]){stats[0][0], stats[1][0]}, (double[]){-.000116, -.020155}, 2, 1e-6);
    assert_near((float[]){stats[0][1], stats[1][1]}, (double[]){log(5), log(1e-12)}, 2,
                2e-6); /* a zero key is finite */
    close_policy(&o);
    close_policy(&knorm);
}

/* Expected values: the same gate in PyTorch, bfloat16. */
static void trimkv_gate_rounds_to_bf16_like_the_reference(void **st) {
    (void)st;
    const float v1[2][3] = {{.200195312f, -.400390625f, .100097656f}, {.30078125f, .5f, -.200195312f}},
                c1[2] = {.100097656f, -.100097656f}, x[2][3] = {{.5f, -1, 2}, {1.25f, .75f, -.5f}}, k[8] = {0};
    const kv_gate_layer layer = {.w1 = v1[0], .b1 = c1, .w2 = w2[0], .bias = bias};
    const kv_gates rounded = {KV_GATE_RG, 1, 3, 2, 2, &layer, 0};
    float stats[4][2];
    opened o = open_policy("trimkv:round=bf16", shape_gate, 4, 0, &rounded);
    observe(&o, x[0], k, 2, KV_MIN_SCRATCH, stats[0]);
    assert_near((float[]){stats[0][0], stats[1][0], stats[2][0], stats[3][0]},
                (double[]){-0.000115871429, -0.0202636719, -0.000911712646, -0.00860595703}, 4, 1e-9);
    close_policy(&o);
}

static void trimkv_gate_rounds_ties_to_even(void **st) {
    (void)st;
    static const float zero[6], halfway[2] = {1 + 0x1p-8f, 1 + 0x3p-8f}; /* to 1 and to 1 + 2^-6 */
    const kv_gate_layer layer = {.w1 = zero, .b1 = zero, .w2 = zero, .bias = halfway};
    const kv_gates ties = {KV_GATE_RG, 1, 3, 2, 2, &layer, 0};
    float stats[2][2];
    opened o = open_policy("trimkv:round=bf16", shape_gate, 4, 0, &ties);
    observe(&o, zero, zero, 1, KV_MIN_SCRATCH, stats[0]);
    assert_true(stats[0][0] == -0x1.4p-2f && stats[1][0] == -158 * 0x1p-9f);
    close_policy(&o);
}

static void trimkv_gate_is_stable_at_both_ends(void **st) {
    (void)st;
    static const float zero[6], far[2] = {-200, 200};
    const kv_gate_layer layer = {.w1 = zero, .b1 = zero, .w2 = zero, .bias = far};
    const kv_gates extreme = {KV_GATE_RG, 1, 3, 2, 2, &layer, 0};
    float stats[2][2];
    opened o = open_policy("trimkv", shape_gate, 4, 0, &extreme);
    observe(&o, zero, zero, 1, KV_MIN_SCRATCH, stats[0]);
    assert_true(stats[0][0] == -200 && stats[1][0] <= 0 && stats[1][0] > -1e-30f);
    close_policy(&o);
}

static void trimkv_gate_does_not_depend_on_how_rows_are_cut(void **st) {
    (void)st;
    float x[7][3], k[7][2][2] = {{{0}}}, whole[7][2][2], cut[7][2][2];
    for (int i = 0; i < 21; i++) x[i / 3][i % 3] = (float)((i * 37 % 23) - 11) / 7;
    opened o = open_policy("trimkv", shape_gate, 4, 0, &gates);
    observe(&o, x[0], k[0][0], 7, KV_MIN_SCRATCH, whole[0][0]);
    for (size_t scratch = 4; scratch <= 12; scratch += 4) {
        memset(cut, 0, sizeof cut);
        observe(&o, x[0], k[0][0], 7, scratch, cut[0][0]);
        assert_memory_equal(whole, cut, sizeof whole);
    }
    close_policy(&o);
}

/* dbtrimkv --------------------------------------------------------------------------------------------------- */

static const kv_shape shape_pool = {.n_layers = 2, .n_heads = 2, .n_kv_heads = 2, .head_dim = 2, .dim = 3};
static const kv_gate_layer two_layers[2] = {{.w1 = w1[0], .b1 = b1, .w2 = w2[0], .bias = bias},
                                            {.w1 = w1[0], .b1 = b1, .w2 = w2[0], .bias = bias}};
static const kv_gates pool_gates = {KV_GATE_RG, 2, 3, 2, 2, two_layers, 0};

/* Two layers of two heads with three tokens each, T = 3; masks: which tokens every head keeps of a budget of 2. */
static void dbtrimkv_case(const char *spec, const char *const masks[4]) {
    static const double betas[4][3] = {{.9, .5, .7}, {.99, .98, .6}, {.3, .4, .95}, {.8, .85, .2}};
    static const double want[4][3] = {{-.421442, -2.079442, -.713350},
                                      {-.040201, -.060608, -1.021651},
                                      {-4.815891, -2.748872, -.102587},
                                      {-.892574, -.487557, -3.218876}};
    float score[4][3];
    int32_t kept[4][3], scratch[12];
    kv_select_head heads[4];
    int floor = 0, bad;
    opened o = open_policy(spec, shape_pool, 2, 0, &pool_gates);
    for (int h = 0; h < 4; h++) {
        float lb[3];
        const float *stats[1] = {lb};
        for (int i = 0; i < 3; i++) lb[i] = (float)log(betas[h][i]);
        kv_score_args a = {.layer = h / 2, .kv_head = h % 2, .n_slots = 3, .n_seen = 3, .pos = eight, .stats = stats};
        o.spec.policy->score(o.state, &a, score[h]);
        assert_near(score[h], want[h], 3, 1e-6);
        heads[h] = (kv_select_head){score[h], eight, 3, kept[h], 0};
    }
    int size = o.spec.policy->pool(o.state, &floor) == KV_POOL_MODEL ? 4 : 2;
    for (int first = 0; first < 4; first += size)
        assert_int_equal(kv_select_pooled(heads + first, size, 2, floor, 0, 0, scratch, &bad), KV_OK);
    for (int h = 0; h < 4; h++) {
        char got[4] = "000";
        for (int i = 0; i < heads[h].n_kept; i++) got[kept[h][i]] = '1';
        assert_string_equal(got, masks[h]);
    }
    close_policy(&o);
}

static void dbtrimkv_ranks_all_heads_together(void **st) {
    (void)st;
    dbtrimkv_case("dbtrimkv", (const char *const[]){"101", "111", "001", "110"});
}

/* Each head's first slot counts for itself: lengths 2 3 2 1 where the authors' flat cache has 3 2 2 1. */
static void dbtrimkv_floor_counts_every_slot_for_its_own_head(void **st) {
    (void)st;
    dbtrimkv_case("dbtrimkv:floor=1", (const char *const[]){"101", "111", "011", "010"});
}

static void dbtrimkv_shares_inside_a_layer(void **st) {
    (void)st;
    dbtrimkv_case("dbtrimkv:pool=layer", (const char *const[]){"101", "110", "011", "110"});
}

static void dbtrimkv_refuses_a_floor_above_the_budget(void **st) {
    (void)st;
    kv_policy_spec spec;
    kv_error err;
    void *state;
    assert_int_equal(kv_policy_parse("dbtrimkv:floor=3", &spec, &err), KV_OK);
    kv_policy_args args = {spec.values, 2, 1, 0, &pool_gates};
    assert_int_equal(spec.policy->open(&state, &shape_pool, &args, &err), KV_EARG);
    args.gates = NULL;
    assert_int_equal(spec.policy->open(&state, &shape_pool, &args, &err), KV_EARG);
    assert_non_null(strstr(err.text, "--gates"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(window_keeps_sinks_and_newest),
        cmocka_unit_test(window_without_sinks_slides),
        cmocka_unit_test(window_with_more_sinks_than_budget_keeps_the_newest_sinks),
        cmocka_unit_test(random_score_belongs_to_the_position),
        cmocka_unit_test(random_scores_are_uniform),
        cmocka_unit_test(random_holds_a_uniform_sample_whatever_the_buffer),
        cmocka_unit_test(h2o_adds_up_what_every_query_gave),
        cmocka_unit_test(h2o_sums_over_the_group),
        cmocka_unit_test(h2o_keeps_its_sums_through_evictions),
        cmocka_unit_test(h2o_protects_half_the_budget_by_default),
        cmocka_unit_test(snapkv_takes_the_softmax_of_group_maxima_over_the_past),
        cmocka_unit_test(snapkv_averages_over_the_window_and_pools),
        cmocka_unit_test(snapkv_runs_through_the_cache),
        cmocka_unit_test(snapkv_without_past_is_a_window),
        cmocka_unit_test(snapkv_survives_huge_logits),
        cmocka_unit_test(trimkv_decays_with_age),
        cmocka_unit_test(trimkv_rescores_survivors_at_the_next_trigger),
        cmocka_unit_test(trimkv_looks_ahead),
        cmocka_unit_test(trimkv_lookahead_is_finite_for_saturated_gates),
        cmocka_unit_test(trimkv_adds_the_key_norm),
        cmocka_unit_test(trimkv_gate_gives_log_retention),
        cmocka_unit_test(trimkv_gate_rounds_to_bf16_like_the_reference),
        cmocka_unit_test(trimkv_gate_rounds_ties_to_even),
        cmocka_unit_test(trimkv_gate_is_stable_at_both_ends),
        cmocka_unit_test(trimkv_gate_does_not_depend_on_how_rows_are_cut),
        cmocka_unit_test(dbtrimkv_ranks_all_heads_together),
        cmocka_unit_test(dbtrimkv_floor_counts_every_slot_for_its_own_head),
        cmocka_unit_test(dbtrimkv_shares_inside_a_layer),
        cmocka_unit_test(dbtrimkv_refuses_a_floor_above_the_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
