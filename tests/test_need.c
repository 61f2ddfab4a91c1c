/* test_need.c - what a batch will take of memory is known before it runs; when it does not fit, nothing is lost. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "engine/load.h"
#include "tests/support/books.h"
#include "tests/support/checkpoints.h"

static void what_a_batch_takes_is_known_before_it_runs(void **state) {
    (void)state;
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++) {
        kv_engine *e = th_open_tiny((kv_numerics)numerics, 2);
        th_expect_exact_needs(e, th_tiny_gates);
        kv_engine_close(e);
        for (int i = 0; i < TC_CASES; i++) {
            e = tc_open(&tc_cases[i], (kv_numerics)numerics, KV_CPU);
            th_expect_exact_needs(e, NULL);
            kv_engine_close(e);
        }
    }
}

static void running_out_of_memory_loses_nothing(void **state) {
    (void)state;
    kv_engine *e = th_open_tiny(KV_FAST, 2);
    th_expect_balanced_books(e, th_tiny_gates);
    kv_engine_close(e);
}

static void a_model_larger_than_the_limit_is_not_opened(void **state) {
    (void)state;
    kv_engine_options o = {
        .model_path = KV_SOURCE_DIR "/tests/golden/tiny-llama.gguf", .numerics = KV_FAST, .n_threads = 1};
    kv_engine *e = NULL;
    kv_error err;
    kv_memory m;
    assert_int_equal(kv_engine_open(&o, &e, &err), KV_OK);
    assert_int_equal(kv_engine_memory(e, &m, &err), KV_OK);
    assert_true(m.room == SIZE_MAX && m.weights > 0 && m.workspace > 0 && m.kv == 0);
    size_t all = m.weights + m.workspace;
    kv_engine_close(e);
    for (size_t k = 0; k < 2; k++) {
        o.memory_limit = k ? all - 1 : m.weights / 2;
        assert_int_equal(kv_engine_open(&o, &e, &err), KV_ENOMEM);
        assert_non_null(strstr(err.text, k ? "work buffers" : "weights"));
    }
    o.memory_limit = all;
    assert_int_equal(kv_engine_open(&o, &e, &err), KV_OK);
    assert_int_equal(kv_engine_memory(e, &m, &err), KV_OK);
    assert_int_equal(m.room, 0);
    kv_engine_close(e);
}

/* Slots by hand, per head: prompt 100, M = 20, B = 4, 30 new tokens. */
static void the_load_follows_the_loops_rules(void **state) {
    (void)state;
    static const kv_policy full = {.name = "full", .never_evicts = 1}, drops = {.name = "drops"};
    kv_setup s = {.policy = &drops, .budget = 20, .buffer = 4};
    kv_request q = {.n_prompt = 100, .n_context = 100, .max_new = 30, .prefix = (const kv_prefix *)&s};
    kv_generate_options o = {.batch = 3, .like = &q};
    kv_model_info in = {.shape = {.n_layers = 1, .n_kv_heads = 1}, .n_ctx = 1000};
    kv_load l;
    kv_load_of(&s, &o, &in, &l);
    assert_true(l.first == 100 && l.start == 20 && l.most == 24 && l.max_slots == 101 && l.rows == 0);
    assert_int_equal(kv_load_pages(&l), 2 * 2 + 7); /* two are reduced when the third arrives */
    o.batch = 20;
    kv_load_of(&s, &o, &in, &l);
    assert_int_equal(kv_load_pages(&l), 19 * 2 + 7);
    q.n_context = 90; /* a question of 10 tokens behind the context */
    kv_load_of(&s, &o, &in, &l);
    assert_true(l.first == 90 && l.start == 30 && l.most == 24 && l.rows == 10);
    q.prefix = NULL;
    kv_load_of(&s, &o, &in, &l);
    assert_true(l.rows == 90 && kv_load_pages(&l) == 20 * 6);
    o.chunk = 4;
    kv_load_of(&s, &o, &in, &l);
    assert_true(l.rows == 4 && l.first == 24 && l.start == 24 && l.max_slots == 24 && kv_load_pages(&l) == 20 * 2);
    s.policy = &full;
    o.chunk = 0;
    kv_load_of(&s, &o, &in, &l);
    assert_true(l.most == 129 && l.max_slots == 129 && kv_load_pages(&l) == 20 * 9);
    in.n_ctx = 110; /* the context ends the answer */
    kv_load_of(&s, &o, &in, &l);
    assert_int_equal(l.most, 109);
}

static kv_pool pool_model(const void *state, int *floor) {
    (void)state, (void)floor;
    return KV_POOL_MODEL;
}

/* Six heads share a budget of 6 * 20: one may win it all, and every head's last page may hold a single slot. */
static void heads_that_share_a_budget_are_counted_at_their_worst(void **state) {
    (void)state;
    static const kv_policy shares = {.name = "shares", .pool = pool_model};
    const kv_setup s = {.policy = &shares, .budget = 20, .buffer = 4};
    const kv_model_info in = {.shape = {.n_layers = 3, .n_kv_heads = 2}, .n_ctx = 1000};
    kv_request q = {.n_prompt = 100, .n_context = 100, .max_new = 50, .prefix = (const kv_prefix *)&s};
    const kv_generate_options o = {.batch = 2, .like = &q};
    kv_load l;
    kv_load_of(&s, &o, &in, &l);
    assert_true(l.shares && l.start == 20 && l.most == 24 && l.fullest == 124 && l.max_slots == 125);
    assert_int_equal(kv_load_pages(&l), 6 * (20 + 15) / 16 + 6 * (100 + 15) / 16);
    q.max_new = 10;
    kv_load_of(&s, &o, &in, &l);
    assert_true(l.fullest == 109 && l.max_slots == 109);
    q.n_prompt = q.n_context = 10;
    kv_load_of(&s, &o, &in, &l);
    assert_true(l.most == 19 && l.fullest == 19);
    assert_int_equal(kv_load_pages(&l), 2 * (6 * (19 + 15) / 16));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_batch_takes_is_known_before_it_runs),
        cmocka_unit_test(running_out_of_memory_loses_nothing),
        cmocka_unit_test(a_model_larger_than_the_limit_is_not_opened),
        cmocka_unit_test(the_load_follows_the_loops_rules),
        cmocka_unit_test(heads_that_share_a_budget_are_counted_at_their_worst),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
