/* test_cuda_engine.c - the whole path on a GPU against the CPU's, which is tested against other programs.
 *
 * In fp32 both devices must evict the same slots and say the same tokens; in bf16 a sequence's bits must not depend on
 * its batch, on sharing a prefill, or on where a policy's scores are computed.  Skipped without a GPU. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/books.h"
#include "tests/support/harness.h"
#include "tests/support/narrow.h"

enum { N = 70, NEW = 24, BUDGET = 16, BUFFER = 6 };

static const char *const policies[] = {"full", "window", "random", "h2o", "snapkv", "snapkv:window=4:pool=3", "trimkv"};
enum { N_POLICIES = sizeof policies / sizeof *policies };

static int32_t *make_prompts(const kv_engine *e, int *n_tokens) {
    int32_t *p = malloc(sizeof(int32_t) * N * TH_MAX_PROMPT);
    for (int i = 0; i < N; i++) n_tokens[i] = 1 + i * 13 % 41 + (i == 3 ? 300 : 0);
    th_random_prompts(p, n_tokens, N, kv_engine_info(e)->n_vocab, 5);
    return p;
}

static void run(kv_engine *e, const kv_setup *s, const int32_t *prompts, const int *n_tokens, int n,
                const th_config *cfg, th_result *r, kv_generate_stats *stats) {
    kv_error err;
    if (th_generate(e, s, prompts, n_tokens, n, cfg, r, stats, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < n; i++)
        if (r[i].status || r[i].done != 1) fail_msg("sequence %d did not finish: %s", i, r[i].err);
}

static void expect_same(const th_result *a, const th_result *b, int n, int bits, const char *what) {
    for (int i = 0; i < n; i++) {
        if (a[i].n != b[i].n || memcmp(a[i].tokens, b[i].tokens, (size_t)a[i].n * 4) ||
            (bits && a[i].hash != b[i].hash))
            fail_msg("%s: sequence %d differs", what, i);
        if (a[i].peak_slots != b[i].peak_slots || a[i].n_triggers != b[i].n_triggers)
            fail_msg("%s: sequence %d held %g slots (%d reductions), then %g (%d)", what, i, a[i].peak_slots,
                     a[i].n_triggers, b[i].peak_slots, b[i].n_triggers);
    }
}

/* A running hash of every reduction: order of calls, positions before and kept. */
static void on_evict(void *user, void *request_user, int layer, int head, int n_seen, const int32_t *before,
                     int n_before, const int32_t *kept, int n_kept) {
    uint64_t *h = user;
    (void)request_user;
    int32_t facts[] = {layer, head, n_seen, n_before, n_kept};
    for (int i = 0; i < 5; i++) *h = (*h ^ (uint32_t)facts[i]) * 0x100000001b3u;
    for (int i = 0; i < n_before; i++) *h = (*h ^ (uint32_t)before[i]) * 0x100000001b3u;
    for (int i = 0; i < n_kept; i++) *h = (*h ^ (uint32_t)kept[i]) * 0x100000001b3u;
}

static void fp32_evicts_the_same_slots_and_says_the_same_as_the_cpu(void **st) {
    (void)st;
    static const int setups[][3] = {{16, 6, 0}, {16, 6, 5}, {24, 1, 0}, {7, 32, 0}, {20, 8, 8}};
    int n_tokens[4] = {40, 90, 17, 200}, reductions = 0;
    kv_engine *gpu = th_open_tiny_cuda(KV_EXACT), *cpu = th_open_tiny(KV_EXACT, 2);
    int32_t *prompts = malloc(sizeof(int32_t) * 4 * TH_MAX_PROMPT);
    th_random_prompts(prompts, n_tokens, 4, kv_engine_info(cpu)->n_vocab, 21);
    for (int k = 0; k < N_POLICIES; k++)
        for (size_t s = 0; s < sizeof setups / sizeof *setups; s++)
            for (int context = 0; context < 2; context++) {
                th_policy p;
                th_result a[4], b[4];
                uint64_t ha = 0, hb = 0;
                kv_trace ta = {.user = &ha, .on_evict = on_evict}, tb = {.user = &hb, .on_evict = on_evict};
                th_config cfg = {.batch = 1, .chunk = setups[s][2], .max_new = 40, .ignore_eos = 1};
                cfg.n_context = context ? 11 : 0;
                th_policy_open(&p, cpu, th_tiny_gates, policies[k], setups[s][0], setups[s][1]);
                cfg.trace = &ta;
                run(cpu, &p.setup, prompts, n_tokens, 4, &cfg, a, NULL);
                cfg.trace = &tb;
                run(gpu, &p.setup, prompts, n_tokens, 4, &cfg, b, NULL);
                expect_same(a, b, 4, 0, policies[k]);
                if (ha != hb) fail_msg("%s, M=%d B=%d: other slots kept", policies[k], setups[s][0], setups[s][1]);
                for (int i = 0; i < 4; i++) reductions += a[i].n_triggers;
                th_policy_close(&p);
            }
    assert_true(reductions > 500);
    free(prompts);
    kv_engine_close(gpu);
    kv_engine_close(cpu);
}

static void bits_do_not_depend_on_the_batch(void **st) {
    (void)st;
    static const int batches[] = {2, 3, 7, 16, 64, N};
    static const int chunks[] = {0, 5};
    int n_tokens[N], order[N];
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++) {
        kv_engine *e = th_open_tiny_cuda((kv_numerics)numerics);
        int32_t *prompts = make_prompts(e, n_tokens);
        for (int i = 0; i < N; i++) order[i] = i * 27 % N;
        for (int k = 0; k < N_POLICIES; k++)
            for (int c = 0; c < 2; c++) {
                th_policy p;
                th_result *one = calloc(N, sizeof *one), *many = calloc(N, sizeof *many);
                th_config cfg = {.batch = 1,
                                 .chunk = chunks[c],
                                 .max_new = NEW,
                                 .ignore_eos = 1,
                                 .sampling = {.temperature = 0.8f, .top_p = 0.95f, .seed = 11}};
                th_policy_open(&p, e, th_tiny_gates, policies[k], BUDGET, BUFFER);
                run(e, &p.setup, prompts, n_tokens, N, &cfg, one, NULL);
                cfg.order = order;
                for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
                    cfg.batch = batches[b];
                    run(e, &p.setup, prompts, n_tokens, N, &cfg, many, NULL);
                    expect_same(one, many, N, 1, policies[k]);
                }
                th_policy_close(&p);
                free(one);
                free(many);
            }
        free(prompts);
        kv_engine_close(e);
    }
}

static void every_sampling_parameter_reaches_the_draw(void **st) {
    (void)st;
    kv_engine *e = th_open_tiny_cuda(KV_FAST);
    th_expect_parameters_to_arrive(e);
    kv_engine_close(e);
}

static void a_shared_prefill_changes_no_bit(void **st) {
    (void)st;
    enum { K = 3 };
    int n_tokens[K] = {20, 61, 333};
    kv_engine *e = th_open_tiny_cuda(KV_FAST);
    kv_error err;
    int32_t *prompts = malloc(sizeof(int32_t) * K * TH_MAX_PROMPT);
    th_policy p[N_POLICIES];
    kv_setup setups[N_POLICIES];
    kv_prefix *prefix[K];
    th_random_prompts(prompts, n_tokens, K, kv_engine_info(e)->n_vocab, 3);
    for (int i = 0; i < N_POLICIES; i++) {
        th_policy_open(&p[i], e, th_tiny_gates, policies[i], i % 2 ? 12 : 24, 4);
        setups[i] = p[i].setup;
    }
    for (int split = 0; split < 2; split++) {
        int context = split ? 15 : 0;
        for (int i = 0; i < K; i++)
            if (kv_prefix_create(e, setups, N_POLICIES, prompts + i * TH_MAX_PROMPT, split ? context : n_tokens[i],
                                 &prefix[i], NULL, &err))
                fail_msg("%s", err.text);
        for (int i = 0; i < N_POLICIES; i++) {
            th_result alone[K], shared[K];
            th_config cfg = {.batch = 2, .max_new = 20, .n_context = context, .ignore_eos = 1};
            run(e, &setups[i], prompts, n_tokens, K, &cfg, alone, NULL);
            cfg.prefix = (const kv_prefix *const *)prefix;
            run(e, &setups[i], prompts, n_tokens, K, &cfg, shared, NULL);
            expect_same(alone, shared, K, 1, policies[i]);
        }
        for (int i = 0; i < K; i++) kv_prefix_free(prefix[i]);
    }
    for (int i = 0; i < N_POLICIES; i++) th_policy_close(&p[i]);
    free(prompts);
    kv_engine_close(e);
}

/* Without its CUDA score, and its gate read from the observed column, a policy runs by its definition on the host. */
static void a_policy_without_device_code_runs_by_its_definition(void **st) {
    (void)st;
    int n_tokens[3] = {40, 90, 17};
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++) {
        kv_engine *e = th_open_tiny_cuda((kv_numerics)numerics);
        int32_t *prompts = malloc(sizeof(int32_t) * 3 * TH_MAX_PROMPT);
        th_random_prompts(prompts, n_tokens, 3, kv_engine_info(e)->n_vocab, 4);
        for (int k = 1; k < N_POLICIES; k++) {
            th_policy p;
            th_result device[3], host[3];
            th_config cfg = {.batch = 2, .max_new = 30, .ignore_eos = 1};
            th_policy_open(&p, e, th_tiny_gates, policies[k], BUDGET, BUFFER);
            assert_string_equal(kv_engine_score_path(e, &p.setup), "device");
            run(e, &p.setup, prompts, n_tokens, 3, &cfg, device, NULL);
            kv_policy plain = *p.setup.policy;
            plain.score_cuda = NULL;
            p.setup.policy = &plain;
            assert_string_equal(kv_engine_score_path(e, &p.setup), "host");
            run(e, &p.setup, prompts, n_tokens, 3, &cfg, host, NULL);
            expect_same(device, host, 3, 1, policies[k]);
            if (plain.gate_stat && numerics == KV_EXACT) {
                plain.gate_stat = NULL; /* columns from the host, too: sums in another order */
                run(e, &p.setup, prompts, n_tokens, 3, &cfg, host, NULL);
                expect_same(device, host, 3, 0, policies[k]);
            }
            th_policy_close(&p);
        }
        free(prompts);
        kv_engine_close(e);
    }
}

static void a_budget_above_the_length_is_the_full_cache_bit_for_bit(void **st) {
    (void)st;
    int n_tokens[3] = {40, 90, 17};
    kv_engine *e = th_open_tiny_cuda(KV_FAST);
    int32_t *prompts = malloc(sizeof(int32_t) * 3 * TH_MAX_PROMPT);
    th_result full[3], wide[3];
    th_random_prompts(prompts, n_tokens, 3, kv_engine_info(e)->n_vocab, 4);
    for (int k = 0; k < N_POLICIES; k++) {
        th_policy p;
        th_config cfg = {.batch = 3, .max_new = 30, .ignore_eos = 1};
        th_policy_open(&p, e, th_tiny_gates, policies[k], 300, 10);
        run(e, &p.setup, prompts, n_tokens, 3, &cfg, k ? wide : full, NULL);
        if (k) expect_same(full, wide, 3, 1, policies[k]);
        th_policy_close(&p);
    }
    free(prompts);
    kv_engine_close(e);
}

static void bf16_logits_stay_near_those_of_fp32(void **st) {
    (void)st;
    enum { T = 300 };
    kv_engine *gpu[KV_N_NUMERICS], *cpu;
    for (int i = 0; i < KV_N_NUMERICS; i++) gpu[i] = th_open_tiny_cuda((kv_numerics)i);
    cpu = th_open_tiny(KV_EXACT, 2);
    size_t n_vocab = (size_t)kv_engine_info(cpu)->n_vocab;
    int n = T;
    int32_t ids[TH_MAX_PROMPT];
    kv_error err;
    float *want = malloc(T * n_vocab * sizeof *want), *got = malloc(T * n_vocab * sizeof *got);
    th_random_prompts(ids, &n, 1, (int)n_vocab, 2);
    assert_int_equal(kv_engine_logits(cpu, ids, T, want, &err), KV_OK);
    for (int k = 0; k < KV_N_NUMERICS; k++) {
        if (kv_engine_logits(gpu[k], ids, T, got, &err)) fail_msg("%s", err.text);
        double diff = 0, size = 0, worst = 0;
        for (size_t i = 0; i < T * n_vocab; i++) {
            double d = (double)got[i] - want[i];
            diff += d * d;
            size += (double)want[i] * want[i];
            if (fabs(d) > worst) worst = fabs(d);
        }
        print_message("%s: relative error %.2g, largest difference %.2g\n", k == KV_EXACT ? "fp32" : "bf16",
                      sqrt(diff / size), worst);
        assert_true(sqrt(diff / size) < (k == KV_EXACT ? 1e-5 : 2e-2));
        kv_engine_close(gpu[k]);
    }
    free(want);
    free(got);
    kv_engine_close(cpu);
}

static void live_bytes_follow_the_slots_and_decode_allocates_nothing(void **st) {
    (void)st;
    int n_tokens[4] = {360, 360, 360, 360};
    kv_engine *e = th_open_tiny_cuda(KV_FAST);
    const kv_model_info *in = kv_engine_info(e);
    int32_t *prompts = malloc(sizeof(int32_t) * 4 * TH_MAX_PROMPT);
    th_random_prompts(prompts, n_tokens, 4, in->n_vocab, 4);
    for (int k = 1; k < N_POLICIES; k++) {
        th_policy p;
        th_result r[4];
        kv_generate_stats s;
        th_config cfg = {.batch = 4, .chunk = 16, .max_new = 100, .ignore_eos = 1};
        th_policy_open(&p, e, th_tiny_gates, policies[k], 256, 16);
        run(e, &p.setup, prompts, n_tokens, 4, &cfg, r, &s);
        double heads = (double)in->shape.n_layers * in->shape.n_kv_heads;
        double slots = r[0].peak_slots * heads * (double)in->bytes_per_slot;
        if (strcmp(policies[k], "window") == 0) assert_true((double)r[0].kv_bytes_peak <= slots * 1.05);
        assert_true((double)r[0].kv_bytes_peak >= slots);
        assert_true(s.kv_live_peak >= r[0].kv_bytes_peak && s.kv_live_peak <= 4 * r[0].kv_bytes_peak);
        assert_int_equal(s.n_decode_allocs, 0);
        assert_true(s.n_launches > 0 && s.n_triggers > 0 && s.n_evictions > 0);
        th_policy_close(&p);
    }
    free(prompts);
    kv_engine_close(e);
}

static void what_a_batch_takes_is_known_before_it_runs(void **st) {
    (void)st;
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++) {
        kv_engine *e = th_open_tiny_cuda((kv_numerics)numerics);
        th_expect_exact_needs(e, th_tiny_gates);
        kv_engine_close(e);
    }
}

static void running_out_of_memory_loses_nothing(void **st) {
    (void)st;
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++) {
        kv_engine *e = th_open_tiny_cuda((kv_numerics)numerics);
        th_expect_balanced_books(e, th_tiny_gates);
        kv_engine_close(e);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fp32_evicts_the_same_slots_and_says_the_same_as_the_cpu),
        cmocka_unit_test(bits_do_not_depend_on_the_batch),
        cmocka_unit_test(every_sampling_parameter_reaches_the_draw),
        cmocka_unit_test(a_shared_prefill_changes_no_bit),
        cmocka_unit_test(a_policy_without_device_code_runs_by_its_definition),
        cmocka_unit_test(a_budget_above_the_length_is_the_full_cache_bit_for_bit),
        cmocka_unit_test(bf16_logits_stay_near_those_of_fp32),
        cmocka_unit_test(live_bytes_follow_the_slots_and_decode_allocates_nothing),
        cmocka_unit_test(what_a_batch_takes_is_known_before_it_runs),
        cmocka_unit_test(running_out_of_memory_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
