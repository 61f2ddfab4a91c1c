/* test_ref_scores.c - every registered policy against its double-precision twin, over long random runs of the mini
 * cache: same live slots, same scores, same slots kept (near-ties excepted, and counted).  Head layouts with and
 * without grouping, prompts longer than the trigger, budgets smaller than what is protected. */
#include "policies/gate.h"
#include "tests/support/mini_cache.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { N_TOKENS = 120, N_HIDDEN = 5, MAX_ROW = 128 };

static double uniform(uint64_t *rng) {
    *rng = *rng * 6364136223846793005u + 1442695040888963407u;
    return (double)(*rng >> 33) / 2147483648.0 - 1;
}

static void fill(uint64_t *rng, float *x, size_t n, double scale) {
    for (size_t i = 0; i < n; i++) x[i] = (float)(uniform(rng) * scale);
}

/* Compares one head before its reduction and predicts the reduction; returns 1 on a near-tie. */
static int check_head(kv_mini *m, int head, int32_t *want, int *n_want) {
    kv_error err = {0};
    kv_ref_trace t = kv_mini_trace(m, head);
    int32_t live[N_TOKENS], kept[N_TOKENS];
    double score[N_TOKENS], margin;
    int n_sink, n_recent, n = kv_ref_score(&m->spec, &t, live, score, &err);
    if (n < 0) fail_msg("%s", err.text);
    assert_int_equal(n, m->heads[head].n_slots);
    assert_memory_equal(live, m->heads[head].pos, (size_t)n * sizeof *live);
    if (m->spec.policy->never_evicts) return 0;
    kv_mini_score(m, head);
    for (int i = 0; i < n; i++)
        if (!(fabs(m->score[i] - score[i]) <= 1e-6 + 1e-5 * fabs(score[i])))
            fail_msg("%s: slot %d of %d scores %.8g, twin %.8g", m->spec.canonical, i, n, m->score[i], score[i]);
    assert_int_equal(kv_ref_protect(&m->spec, m->budget, &n_sink, &n_recent, &err), KV_OK);
    *n_want = kv_ref_select(score, live, n, m->budget, n_sink, n_recent, kept, &margin);
    for (int i = 0; i < *n_want; i++) want[i] = live[kept[i]];
    return margin != 0 && margin < 1e-5;
}

static void run(const char *policy, kv_gate_type type, kv_shape shape, int prompt, int budget, int buffer, int *n_ties,
                int *n_checks) {
    uint64_t rng = (uint64_t)(shape.n_heads * 1000 + budget);
    float v1[N_HIDDEN * MAX_ROW], c1[N_HIDDEN], v2[MAX_ROW * N_HIDDEN], bias[MAX_ROW];
    float up[N_HIDDEN * MAX_ROW], mid[N_HIDDEN * N_HIDDEN];
    float hidden[N_TOKENS * MAX_ROW], q[N_TOKENS * MAX_ROW], k[N_TOKENS * MAX_ROW];
    const kv_gate_layer layer = {.w1 = v1,
                                 .b1 = type == KV_GATE_RG3 ? NULL : c1,
                                 .w2 = v2,
                                 .bias = bias,
                                 .up = type == KV_GATE_RG3 ? up : NULL,
                                 .mid = type == KV_GATE_RG10 ? mid : NULL,
                                 .mid_b = type == KV_GATE_RG10 ? c1 : NULL},
                        layers[2] = {layer, layer};
    const kv_gates gates = {type, 2, kv_gate_n_in(type, &shape), N_HIDDEN, shape.n_kv_heads, layers, 0};
    assert_true(gates.n_in <= MAX_ROW);
    fill(&rng, v1, N_HIDDEN * MAX_ROW, 1);
    fill(&rng, c1, N_HIDDEN, 1);
    fill(&rng, v2, MAX_ROW * N_HIDDEN, 1);
    fill(&rng, up, N_HIDDEN * MAX_ROW, 0.3);
    fill(&rng, mid, N_HIDDEN * N_HIDDEN, 1);
    for (int i = 0; i < MAX_ROW; i++) bias[i] = 3;
    kv_mini m;
    kv_mini_open(&m, &(kv_mini_options){.policy = policy,
                                        .shape = shape,
                                        .layer = 1,
                                        .budget = budget,
                                        .buffer = buffer,
                                        .cap = N_TOKENS,
                                        .seed = 11,
                                        .gates = &gates});
    for (int seen = 0, n = prompt; seen < N_TOKENS; seen += n, n = 1 + (int)((uniform(&rng) + 1) * 1.4)) {
        int32_t want[8][N_TOKENS];
        int n_want[8], tie[8];
        if (n > N_TOKENS - seen) n = N_TOKENS - seen;
        fill(&rng, hidden, (size_t)(n * shape.dim), 1);
        fill(&rng, q, (size_t)(n * shape.n_heads * shape.head_dim), 3);
        fill(&rng, k, (size_t)(n * shape.n_kv_heads * shape.head_dim), 3);
        kv_mini_append(&m, n, hidden, q, k);
        for (int h = 0; h < shape.n_kv_heads; h++) tie[h] = check_head(&m, h, want[h], &n_want[h]);
        if (!kv_mini_reduce(&m)) continue;
        for (int h = 0; h < shape.n_kv_heads; h++) {
            kv_mini_head *c = &m.heads[h];
            for (int i = 1; i < c->n_slots; i++) assert_true(c->pos[i - 1] < c->pos[i]);
            *n_checks += 1;
            *n_ties += tie[h];
            if (tie[h]) continue;
            assert_int_equal(c->n_slots, n_want[h]);
            assert_memory_equal(c->pos, want[h], (size_t)n_want[h] * sizeof *c->pos);
        }
    }
    kv_mini_close(&m);
}

static void run_shapes(const char *policy, kv_gate_type type) {
    static const kv_shape shapes[3] = {
        {.n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 6, .dim = 7},
        {.n_layers = 2, .n_heads = 3, .n_kv_heads = 3, .head_dim = 18, .dim = 7},
        {.n_layers = 2, .n_heads = 3, .n_kv_heads = 1, .head_dim = 16, .dim = 4},
    };
    int n_ties = 0, n_checks = 0;
    for (int i = 0; i < 3; i++) {
        run(policy, type, shapes[i], 40, 20, 1, &n_ties, &n_checks);
        run(policy, type, shapes[i], 17, 16, 8, &n_ties, &n_checks); /* the prompt lies between M and M+B */
        run(policy, type, shapes[i], 1, 3, 2, &n_ties, &n_checks);
        run(policy, type, shapes[i], 9, 1, 1, &n_ties, &n_checks);
    }
    if (strcmp(policy, "full") == 0) return;
    assert_true(n_checks > 500);
    if (n_ties * 100 > n_checks) fail_msg("%s: %d near-ties in %d reductions", policy, n_ties, n_checks);
}

static void every_policy_agrees_with_its_twin(void **st) {
    (void)st;
    int n;
    const kv_policy *const *all = kv_policy_all(&n);
    for (int i = 0; i < n; i++) run_shapes(all[i]->name, KV_GATE_RG);
}

static void parameters_reach_policy_and_twin_alike(void **st) {
    (void)st;
    const char *policies[] = {"window:sinks=0",     "random:seed=3",          "h2o:recent=0",
                              "h2o:recent=100",     "snapkv:window=3:pool=1", "snapkv:window=1:pool=9",
                              "trimkv:lookahead=6", "trimkv:knorm=1:window=2"};
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) run_shapes(policies[i], KV_GATE_RG);
}

static void every_gate_type_agrees_with_its_twin(void **st) {
    (void)st;
    for (kv_gate_type t = KV_GATE_RG2; t < KV_GATE_TYPES; t++) run_shapes("trimkv", t);
}

static void contradicting_events_are_refused(void **st) {
    (void)st;
    const int32_t pos[4] = {0, 1, 2, 3};
    const kv_ref_event gap[2] = {{KV_REF_APPEND, 1, pos}, {KV_REF_APPEND, 1, pos + 2}},
                       ghost[3] = {{KV_REF_APPEND, 4, pos}, {KV_REF_EVICT, 2, pos}, {KV_REF_EVICT, 1, pos + 3}};
    kv_policy_spec spec;
    kv_error err;
    int32_t live[4];
    double score[4];
    assert_int_equal(kv_policy_parse("window", &spec, &err), KV_OK);
    kv_ref_trace t = {.n_seen = 4, .events = gap, .n_events = 2};
    assert_int_equal(kv_ref_score(&spec, &t, live, score, &err), KV_EARG);
    t.n_events = 1;
    assert_int_equal(kv_ref_score(&spec, &t, live, score, &err), KV_EARG);
    t.events = ghost;
    t.n_events = 3;
    assert_int_equal(kv_ref_score(&spec, &t, live, score, &err), KV_EARG);
    t.n_events = 2;
    assert_int_equal(kv_ref_score(&spec, &t, live, score, &err), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_policy_agrees_with_its_twin),
        cmocka_unit_test(every_gate_type_agrees_with_its_twin),
        cmocka_unit_test(parameters_reach_policy_and_twin_alike),
        cmocka_unit_test(contradicting_events_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
