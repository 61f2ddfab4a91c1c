/* test_batching.c - a sequence's bits do not depend on who shares its batch.
 *
 * Compared are the tokens and a hash over the bits of every logits row, at batch sizes 1 to 64, with prompts of mixed
 * lengths, shuffled arrival, one to three threads and evictions active, in both numerics and for policies that use
 * every kind of input. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/harness.h"

enum { N = 70, NEW = 24, BUDGET = 16, BUFFER = 6 };

static int32_t *make_prompts(const kv_engine *e, int *n_tokens) {
    int32_t *p = malloc(sizeof(int32_t) * N * TH_MAX_PROMPT);
    for (int i = 0; i < N; i++) n_tokens[i] = 1 + i * 13 % 41 + (i == 3 ? 300 : 0);
    th_random_prompts(p, n_tokens, N, kv_engine_info(e)->n_vocab, 5);
    return p;
}

static void expect_same(const th_result *a, const th_result *b, int n, const char *what) {
    for (int i = 0; i < n; i++) {
        if (a[i].status || b[i].status || a[i].done != 1 || b[i].done != 1)
            fail_msg("%s: sequence %d did not finish: %s%s", what, i, a[i].err, b[i].err);
        if (a[i].n != b[i].n || memcmp(a[i].tokens, b[i].tokens, (size_t)a[i].n * 4) || a[i].hash != b[i].hash)
            fail_msg("%s: sequence %d differs", what, i);
        assert_true(a[i].peak_slots == b[i].peak_slots && a[i].kv_bytes_peak == b[i].kv_bytes_peak);
    }
}

static void compare_batches(kv_numerics numerics, const char *spec, int chunk) {
    static const int batches[] = {2, 3, 7, 16, 64};
    int n_tokens[N], order[N];
    kv_error err;
    kv_engine *e = th_open_tiny(numerics, 1);
    th_policy p;
    th_policy_open(&p, e, th_tiny_gates, spec, BUDGET, BUFFER);
    int32_t *prompts = make_prompts(e, n_tokens);
    th_result *one = calloc(N, sizeof *one), *many = calloc(N, sizeof *many);
    th_config cfg = {.batch = 1,
                     .chunk = chunk,
                     .max_new = NEW,
                     .ignore_eos = 1,
                     .sampling = {.temperature = 0.8f, .top_p = 0.95f, .seed = 11}};
    assert_int_equal(th_generate(e, &p.setup, prompts, n_tokens, N, &cfg, one, NULL, &err), KV_OK);
    for (int i = 0; i < N; i++) order[i] = i * 27 % N; /* 27 and 70 share no factor */
    cfg.order = order;
    for (size_t k = 0; k < sizeof batches / sizeof *batches; k++) {
        cfg.batch = batches[k];
        kv_engine *other = th_open_tiny(numerics, 1 + (int)k % 3);
        assert_int_equal(th_generate(other, &p.setup, prompts, n_tokens, N, &cfg, many, NULL, &err), KV_OK);
        expect_same(one, many, N, spec);
        kv_engine_close(other);
    }
    free(one);
    free(many);
    free(prompts);
    th_policy_close(&p);
    kv_engine_close(e);
}

static void exact_bits_do_not_depend_on_the_batch(void **st) {
    (void)st;
    compare_batches(KV_EXACT, "h2o", 0);
    compare_batches(KV_EXACT, "trimkv", 5);
}

static void fast_bits_do_not_depend_on_the_batch(void **st) {
    (void)st;
    compare_batches(KV_FAST, "trimkv", 0);
    compare_batches(KV_FAST, "snapkv:window=4", 6);
    compare_batches(KV_FAST, "h2o", 3);
}

static void full_cache_bits_do_not_depend_on_the_batch(void **st) {
    (void)st;
    compare_batches(KV_FAST, "full", 0);
}

static void run_one(kv_engine *e, const kv_setup *s, const int32_t *prompts, const int *n_tokens, int n,
                    const th_config *cfg, th_result *r) {
    kv_error err;
    if (th_generate(e, s, prompts, n_tokens, n, cfg, r, NULL, &err)) fail_msg("%s", err.text);
}

/* Nothing is evicted: chunks of any size see the same slots in the same order as one pass over the prompt. */
static void chunked_prefill_equals_full_prefill_while_nothing_is_evicted(void **st) {
    (void)st;
    static const int chunks[] = {1, 2, 7, 32, 100};
    int n_tokens[4] = {1, 33, 300, 490};
    kv_error err;
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++) {
        kv_engine *e = th_open_tiny((kv_numerics)numerics, 2);
        int32_t *prompts = malloc(sizeof(int32_t) * 4 * TH_MAX_PROMPT);
        th_random_prompts(prompts, n_tokens, 4, kv_engine_info(e)->n_vocab, 9);
        th_policy p;
        th_policy_open(&p, e, th_tiny_gates, "trimkv", 1000, 200);
        th_result whole[4], parts[4];
        th_config cfg = {.batch = 4, .max_new = 12, .ignore_eos = 1};
        assert_int_equal(th_generate(e, &p.setup, prompts, n_tokens, 4, &cfg, whole, NULL, &err), KV_OK);
        for (size_t k = 0; k < sizeof chunks / sizeof *chunks; k++) {
            cfg.chunk = chunks[k];
            run_one(e, &p.setup, prompts, n_tokens, 4, &cfg, parts);
            expect_same(whole, parts, 4, "stream");
        }
        th_policy_close(&p);
        free(prompts);
        kv_engine_close(e);
    }
}

static void shared_prefill_gives_the_same_tokens(void **st) {
    (void)st;
    static const char *const specs[] = {"full", "window", "random", "h2o", "snapkv", "trimkv"};
    enum { K = 3, P = sizeof specs / sizeof *specs };
    int n_tokens[K] = {20, 61, 333};
    for (int split = 0; split < 2; split++) {
        kv_engine *e = th_open_tiny(KV_FAST, 2);
        kv_error err;
        int32_t *prompts = malloc(sizeof(int32_t) * K * TH_MAX_PROMPT);
        th_random_prompts(prompts, n_tokens, K, kv_engine_info(e)->n_vocab, 3);
        th_policy p[2 * P];
        kv_setup setups[2 * P];
        for (int i = 0; i < 2 * P; i++) {
            th_policy_open(&p[i], e, th_tiny_gates, specs[i % P], i < P ? 12 : 24, 4);
            setups[i] = p[i].setup;
        }
        kv_prefix *prefix[K];
        int context = split ? 15 : 0;
        for (int i = 0; i < K; i++)
            if (kv_prefix_create(e, setups, 2 * P, prompts + i * TH_MAX_PROMPT, split ? context : n_tokens[i],
                                 &prefix[i], NULL, &err))
                fail_msg("%s", err.text);
        for (int i = 0; i < 2 * P; i++) {
            th_result alone[K], shared[K];
            th_config cfg = {.batch = 2, .max_new = 20, .n_context = context, .ignore_eos = 1};
            run_one(e, &setups[i], prompts, n_tokens, K, &cfg, alone);
            cfg.prefix = (const kv_prefix *const *)prefix;
            run_one(e, &setups[i], prompts, n_tokens, K, &cfg, shared);
            expect_same(alone, shared, K, specs[i % P]);
        }
        for (int i = 0; i < K; i++) kv_prefix_free(prefix[i]);
        for (int i = 0; i < 2 * P; i++) th_policy_close(&p[i]);
        free(prompts);
        kv_engine_close(e);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_bits_do_not_depend_on_the_batch),
        cmocka_unit_test(fast_bits_do_not_depend_on_the_batch),
        cmocka_unit_test(full_cache_bits_do_not_depend_on_the_batch),
        cmocka_unit_test(chunked_prefill_equals_full_prefill_while_nothing_is_evicted),
        cmocka_unit_test(shared_prefill_gives_the_same_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
