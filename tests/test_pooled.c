/* test_pooled.c - budgets that heads share: the selection of a pool, and an engine whose heads have unlike lengths.
 *
 * DBTrimKV's worked example is in test_policies.c, its slots and tokens on three architectures in
 * test_gates_golden.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policies/select.h"
#include "tests/support/ragged.h"
#include "tests/support/ref_scores.h"

/* ---- kv_select_pooled -------------------------------------------------------------------------------------------- */

enum { MAX_HEADS = 6, MAX_N = 60 };

static uint32_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

typedef struct pool {
    int n;
    kv_select_head heads[MAX_HEADS];
    float score[MAX_HEADS][MAX_N];
    int32_t pos[MAX_HEADS][MAX_N], kept[MAX_HEADS][MAX_N], scratch[MAX_HEADS * MAX_N];
} pool;

/* Heads of n_slots[h] slots at the last positions before 100; scores: those of all heads, one after the other. */
static void fill(pool *p, int n, const int *n_slots, const float *scores) {
    p->n = n;
    for (int h = 0; h < n; h++) {
        p->heads[h] = (kv_select_head){p->score[h], p->pos[h], n_slots[h], p->kept[h], -1};
        for (int i = 0; i < n_slots[h]; i++) {
            p->score[h][i] = *scores++;
            p->pos[h][i] = 100 - n_slots[h] + i;
        }
    }
}

static int run_select(pool *p, int keep, int floor, int n_sink, int n_recent) {
    int bad = -1, rc = kv_select_pooled(p->heads, p->n, keep, floor, n_sink, n_recent, p->scratch, &bad);
    return rc ? -1 - bad : 0;
}

static void expect_kept(const pool *p, int head, int n, const int *want) {
    assert_int_equal(p->heads[head].n_kept, n);
    for (int i = 0; i < n; i++) assert_int_equal(p->kept[head][i], want[i]);
}

static void equal_scores_go_to_the_newer_position_then_to_the_later_head(void **st) {
    (void)st;
    static const float zeros[12] = {0};
    pool p;
    fill(&p, 3, (int[]){4, 4, 4}, zeros);
    assert_int_equal(run_select(&p, 2, 0, 0, 0), 0); /* two newest of every head */
    for (int h = 0; h < 3; h++) expect_kept(&p, h, 2, (int[]){2, 3});
    fill(&p, 2, (int[]){3, 4}, zeros);
    assert_int_equal(run_select(&p, 1, 0, 0, 0), 0); /* the newest of each */
    expect_kept(&p, 0, 1, (int[]){2});
    expect_kept(&p, 1, 1, (int[]){3});
    fill(&p, 3, (int[]){4, 4, 4}, zeros);
    for (int h = 0; h < 3; h++) p.pos[h][3] = 200 - h; /* head 0 has the newest, head 1 the next */
    p.score[2][3] = -1;
    assert_int_equal(run_select(&p, 1, 0, 0, 0), 0); /* positions 200 and 199, then 98 of the last head */
    expect_kept(&p, 0, 1, (int[]){3});
    expect_kept(&p, 1, 1, (int[]){3});
    expect_kept(&p, 2, 1, (int[]){2});
}

static void a_head_may_win_all_or_nothing(void **st) {
    (void)st;
    static const float scores[6] = {9, 8, 7, 1, 2, 3};
    pool p;
    fill(&p, 2, (int[]){3, 3}, scores);
    assert_int_equal(run_select(&p, 1, 0, 0, 0), 0);
    expect_kept(&p, 0, 2, (int[]){0, 1});
    expect_kept(&p, 1, 0, NULL);
    fill(&p, 2, (int[]){6, 0}, scores); /* one that is empty already */
    assert_int_equal(run_select(&p, 2, 0, 0, 0), 0);
    expect_kept(&p, 0, 4, (int[]){0, 1, 2, 5});
    expect_kept(&p, 1, 0, NULL);
    fill(&p, 2, (int[]){3, 3}, scores);
    assert_int_equal(run_select(&p, 3, 0, 0, 0), 0); /* all fit */
    expect_kept(&p, 1, 3, (int[]){0, 1, 2});
}

static void a_floor_is_kept_out_of_the_sharing(void **st) {
    (void)st;
    static const float scores[8] = {9, 8, 7, 6, 1, 2, 3, 0};
    pool p;
    fill(&p, 2, (int[]){4, 4}, scores);
    assert_int_equal(run_select(&p, 2, 1, 0, 0), 0); /* 9 and 8 win the two shared; one more each */
    expect_kept(&p, 0, 3, (int[]){0, 1, 2});
    expect_kept(&p, 1, 1, (int[]){2});
    assert_int_equal(run_select(&p, 2, 5, 0, 0), 0); /* more than the budget: nothing is shared */
    expect_kept(&p, 0, 2, (int[]){0, 1});
    expect_kept(&p, 1, 2, (int[]){1, 2});
    fill(&p, 2, (int[]){7, 1}, scores);
    assert_int_equal(run_select(&p, 3, 2, 0, 0), 0); /* what the short head lacks goes to nobody */
    expect_kept(&p, 0, 4, (int[]){0, 1, 2, 3});
    expect_kept(&p, 1, 1, (int[]){0});
}

static void protection_outranks_scores_across_heads(void **st) {
    (void)st;
    static const float scores[8] = {9, 8, 7, 6, -1, -2, -3, -4};
    pool p;
    fill(&p, 2, (int[]){4, 4}, scores);
    assert_int_equal(run_select(&p, 3, 0, 0, 2), 0); /* two newest of both, then 9 and 8 */
    expect_kept(&p, 0, 4, (int[]){0, 1, 2, 3});
    expect_kept(&p, 1, 2, (int[]){2, 3});
    assert_int_equal(run_select(&p, 1, 0, 97, 1), 0); /* sinks (96) first: both */
    expect_kept(&p, 0, 1, (int[]){0});
    expect_kept(&p, 1, 1, (int[]){0});
    assert_int_equal(run_select(&p, 1, 0, 0, 4), 0); /* more protected than there is room: the newest */
    expect_kept(&p, 0, 1, (int[]){3});
    expect_kept(&p, 1, 1, (int[]){3});
}

static void nan_is_refused_only_where_it_matters(void **st) {
    (void)st;
    static const float scores[8] = {9, 8, 7, 6, -1, NAN, -3, NAN};
    pool p;
    fill(&p, 2, (int[]){4, 4}, scores);
    assert_int_equal(run_select(&p, 3, 0, 0, 0), -2);
    assert_int_equal(run_select(&p, 3, 0, 0, 1), -2);
    assert_int_equal(run_select(&p, 1, 0, 0, 1), 0);
    assert_int_equal(run_select(&p, 4, 0, 0, 0), 0);
    assert_int_equal(run_select(&p, 2, 1, 0, 1), -2); /* its floor is a choice of its own */
}

/* A pool of one head is kv_select; a pool of many agrees with sorting everything by class, score, position and head. */
static void agrees_with_sorting_on_random_inputs(void **st) {
    (void)st;
    uint64_t rng = 3;
    static pool p;
    for (int round = 0; round < 3000; round++) {
        int n = 1 + (int)(next_random(&rng) % MAX_HEADS), levels = 1 << next_random(&rng) % 10, total = 0;
        int n_sink = next_random(&rng) % 3 ? 0 : (int)(next_random(&rng) % 9);
        int n_recent = next_random(&rng) % 3 ? 0 : (int)(next_random(&rng) % 7);
        int keep = 1 + (int)(next_random(&rng) % 30), won[MAX_HEADS] = {0}, taken[MAX_HEADS][MAX_N] = {{0}};
        p.n = n;
        for (int h = 0; h < n; h++) {
            int n_slots = (int)(next_random(&rng) % MAX_N), last = -1;
            p.heads[h] = (kv_select_head){p.score[h], p.pos[h], n_slots, p.kept[h], -1};
            for (int i = 0; i < n_slots; i++) {
                p.score[h][i] = (float)(next_random(&rng) % (uint32_t)levels) - (float)levels / 2;
                last = p.pos[h][i] = last + 1 + (int)(next_random(&rng) % 3);
            }
            total += n_slots;
        }
        for (int k = 0; k < n * keep && k < total; k++) { /* the best that is left, one after the other */
            int best_h = -1, best_i = 0, best_class = 0;
            for (int h = 0; h < n; h++)
                for (int i = 0; i < p.heads[h].n_slots; i++) {
                    int class = p.pos[h][i] < n_sink ? 2 : i >= p.heads[h].n_slots - n_recent ? 1 : 0;
                    float score = class ? 0 : p.score[h][i], best = 0;
                    if (taken[h][i]) continue;
                    if (best_h >= 0) best = best_class ? 0 : p.score[best_h][best_i];
                    if (best_h >= 0 && (class < best_class || (class == best_class && score < best))) continue;
                    if (best_h >= 0 && class == best_class && score == best && p.pos[h][i] < p.pos[best_h][best_i])
                        continue;
                    best_h = h, best_i = i, best_class = class;
                }
            taken[best_h][best_i] = 1;
            won[best_h]++;
        }
        assert_int_equal(run_select(&p, keep, 0, n_sink, n_recent), 0);
        for (int h = 0; h < n; h++) {
            assert_int_equal(p.heads[h].n_kept, won[h]);
            for (int i = 0; i < won[h]; i++) {
                assert_true(taken[h][p.kept[h][i]]);
                assert_true(i == 0 || p.kept[h][i] > p.kept[h][i - 1]);
            }
        }
        if (n > 1) continue;
        int32_t kept[MAX_N], scratch[MAX_N];
        int m = kv_select(p.score[0], p.pos[0], p.heads[0].n_slots, keep, n_sink, n_recent, kept, scratch);
        assert_int_equal(m, won[0]);
        assert_memory_equal(kept, p.kept[0], (size_t)m * sizeof *kept);
    }
}

/* ---- the engine -------------------------------------------------------------------------------------------------- */

enum { PROMPT = 448, NEW = 60, BUDGET = 258, BUFFER = 16 };

typedef struct outcome {
    th_result r;
    kv_generate_stats stats;
    tr_witness w;
} outcome;

static kv_setup ragged_setup(const tr_state *state, int budget, int buffer) {
    return (kv_setup){&tr_policy, state, "ragged", budget, buffer, NULL};
}

static void run_traced(kv_engine *e, const kv_setup *s, int n_prompt, int chunk, int n_context, outcome *o) {
    kv_error err;
    int32_t *prompt = malloc(sizeof(int32_t) * TH_MAX_PROMPT);
    th_random_prompts(prompt, &n_prompt, 1, kv_engine_info(e)->n_vocab, 8);
    tr_witness_open(&o->w, s, e, &o->r);
    kv_trace trace = tr_witness_trace(&o->w, 1);
    th_config cfg = {
        .batch = 1, .chunk = chunk, .n_context = n_context, .max_new = NEW, .ignore_eos = 1, .trace = &trace};
    if (th_generate(e, s, prompt, &n_prompt, 1, &cfg, &o->r, &o->stats, &err)) fail_msg("%s", err.text);
    if (o->r.status) fail_msg("%s", o->r.err);
    tr_witness_close(&o->w);
    free(prompt);
}

/* What the engine counted is what the trace shows, to the slot and to the byte. */
static void expect_counts(kv_engine *e, const kv_setup *s, const outcome *o, int n_pools_per_reduction) {
    const kv_shape *shape = &kv_engine_info(e)->shape;
    kv_page_layout l;
    kv_page_layout_init(&l, kv_engine_info(e)->cache_type[1] == '3' ? KV_CACHE_F32 : KV_CACHE_F16, shape->head_dim,
                        s->policy->n_stats, 0);
    assert_int_equal(o->stats.n_evictions, o->w.n_dropped);
    assert_int_equal(o->stats.n_moved, o->w.n_moved);
    assert_int_equal(o->r.n_triggers * n_pools_per_reduction, o->w.n_pools);
    assert_true(o->r.peak_slots == o->w.peak);
    assert_true(fabs(o->r.mean_slots - o->w.held_sum / (double)o->w.n_steps) < 1e-9);
    assert_int_equal(o->r.kv_bytes_peak, (size_t)o->w.peak_pages * l.bytes);
    assert_int_equal(o->stats.kv_live_peak, o->r.kv_bytes_peak);
}

static void every_pool_keeps_its_best_and_all_is_counted(void **st) {
    (void)st;
    static const struct {
        tr_state state;
        int n_prompt, chunk, n_context, budget, buffer, n_pools;
    } cases[] = {
        {{KV_POOL_MODEL, 0, -1, 2}, PROMPT, 0, 0, BUDGET, BUFFER, 1},
        {{KV_POOL_MODEL, 0, -1, 2}, PROMPT, 16, 0, BUDGET, BUFFER, 1},
        {{KV_POOL_MODEL, 9, -1, 2}, 90, 0, 33, 20, 7, 1},
        {{KV_POOL_MODEL, 0, -1, 2}, 99, 5, 0, 3, 5, 1},
        {{KV_POOL_MODEL, 0, -1, 2}, 40, 0, 0, 1, 1, 1},
        {{KV_POOL_LAYER, 0, -1, 2}, 200, 0, 0, 50, 8, 2},
        {{KV_POOL_LAYER, 3, -1, 2}, 60, 4, 0, 12, 6, 2},
        {{KV_POOL_HEAD, 0, -1, 2}, 200, 0, 0, 50, 8, 4},
    };
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++) {
        kv_engine *e = th_open_tiny((kv_numerics)numerics, 2);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            kv_setup s = ragged_setup(&cases[i].state, cases[i].budget, cases[i].buffer);
            outcome o;
            run_traced(e, &s, cases[i].n_prompt, cases[i].chunk, cases[i].n_context, &o);
            expect_counts(e, &s, &o, cases[i].n_pools);
            assert_true(o.r.n_triggers >= NEW / (cases[i].buffer + 1));
            if (cases[i].chunk) assert_true(o.r.peak_slots <= cases[i].budget + cases[i].buffer);
            if (cases[i].budget == 1) assert_int_equal(o.w.shortest, 0); /* a head was left empty, and refilled */
        }
        kv_engine_close(e);
    }
}

static void live_bytes_are_those_of_the_slots_held_by_unlike_heads(void **st) {
    (void)st;
    const tr_state state = {KV_POOL_MODEL, 0, -1, 2};
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++) {
        kv_engine *e = th_open_tiny((kv_numerics)numerics, 2);
        const kv_model_info *in = kv_engine_info(e);
        kv_setup s = ragged_setup(&state, BUDGET, BUFFER);
        outcome o;
        run_traced(e, &s, PROMPT, BUFFER, 0, &o);
        assert_true(o.w.shortest < 50 && o.w.longest > 400 && o.r.mean_slots >= 256);
        double heads = (double)in->shape.n_layers * in->shape.n_kv_heads;
        double slots = o.r.peak_slots * heads * (double)(in->bytes_per_slot + sizeof(int32_t)); /* and its position */
        double share = (double)o.r.kv_bytes_peak / slots;
        print_message("%s: heads of %d to %d slots, %.1f on average at most: live bytes %.4f of the slots'\n",
                      in->cache_type, o.w.shortest, o.w.longest, o.r.peak_slots, share);
        assert_true(share >= 1 && share <= 1.05);
        kv_engine_close(e);
    }
}

static void bits_do_not_depend_on_batch_threads_trace_or_a_shared_prefill(void **st) {
    (void)st;
    enum { N = 12 };
    static const char *const specs[] = {"ragged", "dbtrimkv", "dbtrimkv:floor=4:pool=layer"};
    const tr_state state = {KV_POOL_MODEL, 2, -1, 2};
    int n_tokens[N];
    int32_t *prompts = malloc(sizeof(int32_t) * N * TH_MAX_PROMPT);
    for (int i = 0; i < N; i++) n_tokens[i] = 3 + i * 29 % 97;
    for (int n_threads = 1; n_threads <= 3; n_threads += 2)
        for (size_t k = 0; k < sizeof specs / sizeof *specs; k++) {
            kv_engine *e = th_open_tiny(KV_FAST, n_threads);
            kv_setup s = ragged_setup(&state, 16, 6);
            th_policy p;
            th_result one[N], many[N], forked[N];
            kv_prefix *prefix[N];
            kv_error err;
            if (k) {
                th_policy_open(&p, e, th_tiny_gates, specs[k], 16, 6);
                s = p.setup;
            }
            th_random_prompts(prompts, n_tokens, N, kv_engine_info(e)->n_vocab, 5);
            for (int i = 0; i < N; i++)
                assert_int_equal(
                    kv_prefix_create(e, &s, 1, prompts + i * TH_MAX_PROMPT, n_tokens[i], &prefix[i], NULL, &err), 0);
            th_config cfg = {.batch = 1, .max_new = 30, .ignore_eos = 1};
            assert_int_equal(th_generate(e, &s, prompts, n_tokens, N, &cfg, one, NULL, &err), KV_OK);
            cfg.batch = 5;
            assert_int_equal(th_generate(e, &s, prompts, n_tokens, N, &cfg, many, NULL, &err), KV_OK);
            cfg.prefix = (const kv_prefix *const *)prefix;
            assert_int_equal(th_generate(e, &s, prompts, n_tokens, N, &cfg, forked, NULL, &err), KV_OK);
            for (int i = 0; i < N; i++) {
                assert_true(one[i].n_triggers > 0);
                assert_true(one[i].hash == many[i].hash && one[i].hash == forked[i].hash);
                assert_true(one[i].kv_bytes_peak == many[i].kv_bytes_peak && one[i].mean_slots == many[i].mean_slots);
                kv_prefix_free(prefix[i]);
            }
            if (k) th_policy_close(&p);
            kv_engine_close(e);
        }
    free(prompts);
}

static void a_score_that_is_no_number_ends_the_sequence_with_its_head(void **st) {
    (void)st;
    const tr_state state = {KV_POOL_MODEL, 0, 3, 2};
    kv_engine *e = th_open_tiny(KV_FAST, 1);
    kv_setup s = ragged_setup(&state, 20, 4);
    int n_tokens[2] = {50, 5}; /* the second one never gets to M + B */
    th_result r[2];
    kv_error err;
    int32_t *prompts = malloc(sizeof(int32_t) * 2 * TH_MAX_PROMPT);
    th_random_prompts(prompts, n_tokens, 2, kv_engine_info(e)->n_vocab, 5);
    th_config cfg = {.batch = 2, .max_new = 12, .ignore_eos = 1};
    assert_int_equal(th_generate(e, &s, prompts, n_tokens, 2, &cfg, r, NULL, &err), KV_OK);
    assert_int_equal(r[0].status, KV_ENUM);
    assert_non_null(strstr(r[0].err, "layer 1, KV head 1"));
    assert_int_equal(r[1].status, KV_OK);
    assert_int_equal(r[1].n, 12);
    free(prompts);
    kv_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_scores_go_to_the_newer_position_then_to_the_later_head),
        cmocka_unit_test(a_head_may_win_all_or_nothing),
        cmocka_unit_test(a_floor_is_kept_out_of_the_sharing),
        cmocka_unit_test(protection_outranks_scores_across_heads),
        cmocka_unit_test(nan_is_refused_only_where_it_matters),
        cmocka_unit_test(agrees_with_sorting_on_random_inputs),
        cmocka_unit_test(every_pool_keeps_its_best_and_all_is_counted),
        cmocka_unit_test(live_bytes_are_those_of_the_slots_held_by_unlike_heads),
        cmocka_unit_test(bits_do_not_depend_on_batch_threads_trace_or_a_shared_prefill),
        cmocka_unit_test(a_score_that_is_no_number_ends_the_sequence_with_its_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
