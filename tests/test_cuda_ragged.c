/* test_cuda_ragged.c - heads of unlike lengths on a GPU: slots, counts and bytes are those of the CPU's cache.
 *
 * The policies here score by position alone, so that fp32 and bf16 must keep the same slots as the CPU; DBTrimKV's own
 * slots on a GPU are in test_gates_golden.c.  Skipped without a GPU. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/ragged.h"

enum { NEW = 60 };

typedef struct run_case {
    int random; /* 1: the policy `random`, scored on the device; 0: `ragged`, scored on the host */
    tr_state state;
    int n_prompt, chunk, n_context, budget, buffer;
} run_case;

static const run_case cases[] = {
    {0, {KV_POOL_MODEL, 0, -1, 2}, 448, 0, 0, 258, 16}, {1, {KV_POOL_MODEL, 0, -1, 2}, 448, 16, 0, 258, 16},
    {0, {KV_POOL_MODEL, 9, -1, 2}, 90, 0, 33, 20, 7},   {0, {KV_POOL_MODEL, 0, -1, 2}, 99, 5, 0, 3, 5},
    {0, {KV_POOL_MODEL, 0, -1, 2}, 40, 0, 0, 1, 1},     {1, {KV_POOL_MODEL, 0, -1, 2}, 150, 0, 70, 33, 1},
    {0, {KV_POOL_LAYER, 0, -1, 2}, 200, 0, 0, 50, 8},   {0, {KV_POOL_LAYER, 3, -1, 2}, 60, 4, 0, 12, 6},
};
enum { N_CASES = sizeof cases / sizeof *cases };

typedef struct opened {
    th_policy random;
    kv_policy pooled;
    kv_setup setup;
} opened;

static void open_case(opened *o, const kv_engine *e, const run_case *c) {
    o->setup = (kv_setup){&tr_policy, &c->state, "ragged", c->budget, c->buffer, NULL};
    if (!c->random) return;
    th_policy_open(&o->random, e, NULL, "random", c->budget, c->buffer);
    o->pooled = tr_pooled(o->random.setup.policy);
    o->setup = o->random.setup;
    o->setup.policy = &o->pooled;
}

static void close_case(opened *o, const run_case *c) {
    if (c->random) th_policy_close(&o->random);
}

typedef struct outcome {
    th_result r;
    kv_generate_stats stats;
    tr_witness w;
} outcome;

/* traced 0: no witness. */
static void run(kv_engine *e, const run_case *c, int traced, outcome *o) {
    opened p;
    kv_error err;
    int n_prompt = c->n_prompt;
    int32_t *prompt = malloc(sizeof(int32_t) * TH_MAX_PROMPT);
    memset(o, 0, sizeof *o);
    open_case(&p, e, c);
    th_random_prompts(prompt, &n_prompt, 1, kv_engine_info(e)->n_vocab, 8);
    tr_witness_open(&o->w, &p.setup, e, &o->r);
    kv_trace trace = tr_witness_trace(&o->w, 0);
    th_config cfg = {.batch = 1, .chunk = c->chunk, .n_context = c->n_context, .max_new = NEW, .ignore_eos = 1};
    if (traced) cfg.trace = &trace;
    if (th_generate(e, &p.setup, prompt, &n_prompt, 1, &cfg, &o->r, &o->stats, &err)) fail_msg("%s", err.text);
    if (o->r.status) fail_msg("%s", o->r.err);
    tr_witness_close(&o->w);
    close_case(&p, c);
    free(prompt);
}

/* Bytes of a page of these policies, which have no columns. */
static size_t page_bytes(const kv_engine *e, kv_cache_type type) {
    kv_page_layout l;
    kv_page_layout_init(&l, type, kv_engine_info(e)->shape.head_dim, 0, 0);
    return l.bytes;
}

/* Slots, counts, and pages of these sizes. */
static void expect_same_cache(const outcome *a, size_t a_page, const outcome *b, size_t b_page, size_t i) {
    if (a->r.peak_slots != b->r.peak_slots || a->r.mean_slots != b->r.mean_slots ||
        a->r.n_triggers != b->r.n_triggers || a->stats.n_evictions != b->stats.n_evictions)
        fail_msg("case %zu: %g slots at most, %g on average, %d reductions, %lld evictions; then %g, %g, %d, %lld", i,
                 a->r.peak_slots, a->r.mean_slots, a->r.n_triggers, (long long)a->stats.n_evictions, b->r.peak_slots,
                 b->r.mean_slots, b->r.n_triggers, (long long)b->stats.n_evictions);
    if (a->r.kv_bytes_peak % a_page || a->r.kv_bytes_peak / a_page * b_page != b->r.kv_bytes_peak ||
        a->stats.kv_live_peak / a_page * b_page != b->stats.kv_live_peak)
        fail_msg("case %zu: %zu live bytes in pages of %zu, then %zu in pages of %zu", i, a->r.kv_bytes_peak, a_page,
                 b->r.kv_bytes_peak, b_page);
}

static void fp32_keeps_the_slots_and_says_the_tokens_of_the_cpu(void **st) {
    (void)st;
    kv_engine *gpu = th_open_tiny_cuda(KV_EXACT), *cpu = th_open_tiny(KV_EXACT, 2);
    const size_t page = page_bytes(cpu, KV_CACHE_F32);
    for (size_t i = 0; i < N_CASES; i++) {
        static outcome a, b;
        run(cpu, &cases[i], 1, &a);
        run(gpu, &cases[i], 1, &b);
        expect_same_cache(&a, page, &b, page, i);
        if (a.w.hash != b.w.hash) fail_msg("case %zu: other slots kept", i);
        assert_int_equal(a.stats.n_moved, b.stats.n_moved);
        assert_int_equal(a.r.n, b.r.n);
        assert_memory_equal(a.r.tokens, b.r.tokens, (size_t)a.r.n * sizeof *a.r.tokens);
    }
    kv_engine_close(gpu);
    kv_engine_close(cpu);
}

static void bf16_keeps_the_slots_of_the_cpu_traced_or_not(void **st) {
    (void)st;
    kv_engine *gpu = th_open_tiny_cuda(KV_FAST), *cpu = th_open_tiny(KV_FAST, 2);
    const size_t f16 = page_bytes(cpu, KV_CACHE_F16), bf16 = page_bytes(gpu, KV_CACHE_BF16);
    for (size_t i = 0; i < N_CASES; i++) {
        static outcome a, b, c;
        run(cpu, &cases[i], 1, &a);
        run(gpu, &cases[i], 1, &b);
        run(gpu, &cases[i], 0, &c);
        expect_same_cache(&a, f16, &b, bf16, i);
        expect_same_cache(&b, bf16, &c, bf16, i);
        if (a.w.hash != b.w.hash) fail_msg("case %zu: other slots kept", i);
        if (b.r.hash != c.r.hash) fail_msg("case %zu: the trace changes bits", i);
        if (cases[i].random) assert_int_equal(c.stats.n_decode_allocs, 0);
    }
    kv_engine_close(gpu);
    kv_engine_close(cpu);
}

static void live_bytes_are_those_of_the_slots_held_by_unlike_heads(void **st) {
    (void)st;
    static const run_case wide = {0, {KV_POOL_MODEL, 0, -1, 2}, 1200, 16, 0, 380, 16};
    kv_engine_close(th_open_tiny_cuda(KV_FAST)); /* skips without a GPU */
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++) {
        kv_engine_options options = {.model_path = "synth:tiny", .numerics = (kv_numerics)numerics, .device = KV_CUDA};
        kv_engine *e;
        kv_error err;
        static outcome o;
        if (kv_engine_open(&options, &e, &err)) fail_msg("%s", err.text);
        const kv_model_info *in = kv_engine_info(e);
        run(e, &wide, 1, &o);
        double heads = (double)in->shape.n_layers * in->shape.n_kv_heads;
        double slots = o.r.peak_slots * heads * (double)(in->bytes_per_slot + sizeof(int32_t)); /* and its position */
        double share = (double)o.r.kv_bytes_peak / slots;
        print_message("%s: heads of %d to %d slots, %.1f on average at most: live bytes %.4f of the slots'\n",
                      in->cache_type, o.w.shortest, o.w.longest, o.r.peak_slots, share);
        assert_true(o.w.shortest < 80 && o.w.longest > 600 && o.r.mean_slots >= 256);
        assert_true(share >= 1 && share <= 1.05);
        kv_engine_close(e);
    }
}

static void bits_do_not_depend_on_the_batch_or_a_shared_prefill(void **st) {
    (void)st;
    enum { N = 12 };
    static const char *const specs[] = {"dbtrimkv", "dbtrimkv:floor=4", "dbtrimkv:pool=layer:lookahead=8"};
    static const int batches[] = {2, 5, N};
    static int32_t prompts[N * TH_MAX_PROMPT];
    int n_tokens[N];
    for (int i = 0; i < N; i++) n_tokens[i] = 3 + i * 29 % 97;
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++)
        for (size_t k = 0; k < sizeof specs / sizeof *specs; k++) {
            kv_engine *e = th_open_tiny_cuda((kv_numerics)numerics);
            th_policy p;
            th_result one[N], many[N];
            kv_prefix *prefix[N];
            kv_error err;
            th_random_prompts(prompts, n_tokens, N, kv_engine_info(e)->n_vocab, 5);
            th_policy_open(&p, e, th_tiny_gates, specs[k], 16, 6);
            assert_string_equal(kv_engine_score_path(e, &p.setup), "device");
            for (int i = 0; i < N; i++)
                if (kv_prefix_create(e, &p.setup, 1, prompts + i * TH_MAX_PROMPT, n_tokens[i], &prefix[i], NULL, &err))
                    fail_msg("%s", err.text);
            th_config cfg = {.batch = 1, .max_new = 40, .ignore_eos = 1};
            if (th_generate(e, &p.setup, prompts, n_tokens, N, &cfg, one, NULL, &err)) fail_msg("%s", err.text);
            for (size_t b = 0; b <= sizeof batches / sizeof *batches; b++) {
                int shared = b == sizeof batches / sizeof *batches;
                cfg.batch = shared ? 3 : batches[b];
                cfg.prefix = shared ? (const kv_prefix *const *)prefix : NULL;
                if (th_generate(e, &p.setup, prompts, n_tokens, N, &cfg, many, NULL, &err)) fail_msg("%s", err.text);
                for (int i = 0; i < N; i++) {
                    assert_int_equal(one[i].status, KV_OK);
                    assert_true(one[i].n == 40 && one[i].n_triggers > 1);
                    if (one[i].hash != many[i].hash) fail_msg("%s: sequence %d has other bits", specs[k], i);
                    assert_true(one[i].kv_bytes_peak == many[i].kv_bytes_peak);
                    assert_true(one[i].peak_slots == many[i].peak_slots && one[i].mean_slots == many[i].mean_slots);
                }
            }
            for (int i = 0; i < N; i++) kv_prefix_free(prefix[i]);
            th_policy_close(&p);
            kv_engine_close(e);
        }
}

static void a_score_that_is_no_number_ends_the_sequence_with_its_head(void **st) {
    (void)st;
    const tr_state state = {KV_POOL_MODEL, 0, 3, 2};
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++) {
        kv_engine *e = th_open_tiny_cuda((kv_numerics)numerics);
        kv_setup s = {&tr_policy, &state, "ragged", 20, 4, NULL};
        int n_tokens[3] = {50, 5, 19}; /* the second one never gets to M + B, the third one while decoding */
        th_result r[3];
        kv_error err;
        int32_t *prompts = malloc(sizeof(int32_t) * 3 * TH_MAX_PROMPT);
        th_random_prompts(prompts, n_tokens, 3, kv_engine_info(e)->n_vocab, 5);
        th_config cfg = {.batch = 3, .max_new = 12, .ignore_eos = 1};
        if (th_generate(e, &s, prompts, n_tokens, 3, &cfg, r, NULL, &err)) fail_msg("%s", err.text);
        for (int i = 0; i < 3; i += 2) {
            assert_int_equal(r[i].status, KV_ENUM);
            assert_non_null(strstr(r[i].err, "layer 1, KV head 1"));
        }
        assert_int_equal(r[1].status, KV_OK);
        assert_int_equal(r[1].n, 12);
        free(prompts);
        kv_engine_close(e);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fp32_keeps_the_slots_and_says_the_tokens_of_the_cpu),
        cmocka_unit_test(bf16_keeps_the_slots_of_the_cpu_traced_or_not),
        cmocka_unit_test(live_bytes_are_those_of_the_slots_held_by_unlike_heads),
        cmocka_unit_test(bits_do_not_depend_on_the_batch_or_a_shared_prefill),
        cmocka_unit_test(a_score_that_is_no_number_ends_the_sequence_with_its_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
