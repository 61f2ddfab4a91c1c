/* test_conformance.c - what every policy of the registry must do, with no per-policy code.
 *
 * The engine's trace (rows appended, slots before and after every reduction) is replayed: the scores are recomputed in
 * double precision by the twin in support/ref_scores.c from queries, keys and gate inputs, never taken from the
 * policy, and the slots that were kept must be the best ones.  Where the border is a near-tie, fp32 may decide
 * otherwise; such cases are counted and must stay rare. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/pooled.h"
#include "tests/support/harness.h"
#include "tests/support/ref_scores.h"

enum { N_SEQS = 3, MAX_T = 160, MAX_LAYERS = 2, MAX_HEADS = 2, MAX_EVENTS = 320, NEW = 60 };

/* What the trace tells about one sequence. */
typedef struct history {
    int n_prompt, n_seen[MAX_LAYERS];
    float *hidden[MAX_LAYERS], *q[MAX_LAYERS], *k[MAX_LAYERS]; /* rows by position */
    kv_ref_event events[MAX_LAYERS][MAX_HEADS][MAX_EVENTS];
    int n_events[MAX_LAYERS][MAX_HEADS], live[MAX_LAYERS][MAX_HEADS];
} history;

/* What is left of the heads that share a budget: the worst score that stayed, the best that left. */
typedef struct shared {
    int n_kept;
    double worst_kept, best_dropped, size;
} shared;

typedef struct watch {
    const kv_engine *e;
    const th_policy *p;
    int chunk, n_sharing; /* heads that share a budget, 1: none do */
    shared pool;
    th_result *results; /* request_user points into this array */
    history *h;         /* (N_SEQS) */
    int n_evictions, n_near_ties;
} watch;

static void add_event(history *h, int layer, int head, kv_ref_kind kind, const int32_t *pos, int n) {
    int i = h->n_events[layer][head]++;
    assert_true(i < MAX_EVENTS);
    int32_t *copy = malloc((size_t)n * sizeof *copy);
    memcpy(copy, pos, (size_t)n * sizeof *copy);
    h->events[layer][head][i] = (kv_ref_event){kind, n, copy};
}

static void on_append(void *user, void *request_user, int layer, int n, const int32_t *pos, const float *hidden,
                      const float *q, const float *k, const float *v) {
    (void)v;
    watch *w = user;
    history *h = &w->h[(th_result *)request_user - w->results];
    const kv_shape *s = &kv_engine_info(w->e)->shape;
    size_t nq = (size_t)s->n_heads * s->head_dim, nk = (size_t)s->n_kv_heads * s->head_dim;
    for (int i = 0; i < n; i++) {
        assert_int_equal(pos[i], h->n_seen[layer] + i);
        memcpy(h->hidden[layer] + pos[i] * s->dim, hidden + i * s->dim, (size_t)s->dim * sizeof(float));
        memcpy(h->q[layer] + pos[i] * nq, q + i * nq, nq * sizeof(float));
        memcpy(h->k[layer] + pos[i] * nk, k + i * nk, nk * sizeof(float));
    }
    h->n_seen[layer] += n;
    int limit = w->p->setup.budget + w->p->setup.buffer, held = 0;
    int limited = !w->p->setup.policy->never_evicts && (w->chunk || pos[0] >= h->n_prompt);
    for (int head = 0; head < s->n_kv_heads; head++) {
        add_event(h, layer, head, KV_REF_APPEND, pos, n);
        h->live[layer][head] += n;
        if (limited && w->n_sharing == 1 && h->live[layer][head] > limit)
            fail_msg("%s holds %d slots at position %d, more than M+B = %d", w->p->spec.canonical, h->live[layer][head],
                     pos[0], limit);
    }
    if (!limited || w->n_sharing == 1 || layer < s->n_layers - 1) return;
    int n_heads = s->n_layers * s->n_kv_heads;
    for (int i = 0; i < n_heads; i++) held += h->live[i / s->n_kv_heads][i % s->n_kv_heads];
    if (held > n_heads * limit)
        fail_msg("%s holds %d slots at position %d, more than M+B = %d in each of %d heads", w->p->spec.canonical, held,
                 pos[0], limit, n_heads);
}

static void near_tie(watch *w, double margin, double size, int layer, int head, int n_seen) {
    if (!(margin <= 2e-5 * size))
        fail_msg("%s, layer %d, head %d, T = %d: other slots were kept although the border is %g wide",
                 w->p->spec.canonical, layer, head, n_seen, margin);
    w->n_near_ties++;
}

/* Heads with a budget of their own: the best `budget` stay. */
static void check_alone(watch *w, const double *score, const int32_t *live, int n, const int32_t *kept, int n_kept,
                        int layer, int head, int n_seen) {
    int32_t want[MAX_T];
    int n_sink, n_recent, differ = 0;
    double size = 0, margin;
    kv_error err;
    assert_int_equal(n_kept, w->p->setup.budget);
    if (kv_ref_protect(&w->p->spec, w->p->setup.budget, &n_sink, &n_recent, &err)) fail_msg("%s", err.text);
    assert_int_equal(kv_ref_select(score, live, n, w->p->setup.budget, n_sink, n_recent, want, &margin), n_kept);
    for (int i = 0; i < n_kept; i++) differ |= live[want[i]] != kept[i];
    for (int i = 0; i < n; i++) size = fmax(size, fabs(score[i]));
    if (differ) near_tie(w, margin, size, layer, head, n_seen);
}

/* Heads that share: behind the last of them, all that stayed must be at least as good as what left. */
static void check_shared(watch *w, const double *score, const int32_t *live, int n, const int32_t *kept, int n_kept,
                         int layer, int head, int n_seen) {
    shared *p = &w->pool;
    int index = layer * kv_engine_info(w->e)->shape.n_kv_heads + head;
    if (index % w->n_sharing == 0) *p = (shared){0, INFINITY, -INFINITY, 0};
    p->n_kept += n_kept;
    for (int i = 0, k = 0; i < n; i++) {
        int stays = k < n_kept && kept[k] == live[i];
        k += stays;
        if (stays)
            p->worst_kept = fmin(p->worst_kept, score[i]);
        else
            p->best_dropped = fmax(p->best_dropped, score[i]);
        p->size = fmax(p->size, fabs(score[i]));
    }
    if ((index + 1) % w->n_sharing) return;
    assert_int_equal(p->n_kept, w->n_sharing * w->p->setup.budget);
    if (p->worst_kept < p->best_dropped) near_tie(w, p->best_dropped - p->worst_kept, p->size, layer, head, n_seen);
}

static void on_evict(void *user, void *request_user, int layer, int head, int n_seen, const int32_t *before,
                     int n_before, const int32_t *kept, int n_kept) {
    watch *w = user;
    history *h = &w->h[(th_result *)request_user - w->results];
    int32_t live[MAX_T];
    double score[MAX_T];
    kv_error err;
    kv_ref_trace t = {.shape = kv_engine_info(w->e)->shape,
                      .layer = layer,
                      .kv_head = head,
                      .n_seen = n_seen,
                      .hidden = h->hidden[layer],
                      .q = h->q[layer],
                      .k = h->k[layer],
                      .gates = w->p->gates ? kv_gates_view(w->p->gates) : NULL,
                      .seed = 7,
                      .events = h->events[layer][head],
                      .n_events = h->n_events[layer][head]};
    assert_int_equal(n_seen, h->n_seen[layer]);
    for (int i = 1; i < n_kept; i++) assert_true(kept[i - 1] < kept[i]); /* temporal order */
    int n = kv_ref_score(&w->p->spec, &t, live, score, &err);
    if (n < 0) fail_msg("%s", err.text);
    assert_int_equal(n, n_before);
    assert_memory_equal(live, before, (size_t)n * sizeof *live);
    (w->n_sharing == 1 ? check_alone : check_shared)(w, score, live, n, kept, n_kept, layer, head, n_seen);
    w->n_evictions++;
    add_event(h, layer, head, KV_REF_EVICT, kept, n_kept);
    h->live[layer][head] = n_kept;
}

static history *history_new(const kv_engine *e, const int *n_tokens) {
    const kv_shape *s = &kv_engine_info(e)->shape;
    history *h = calloc(N_SEQS, sizeof *h);
    assert_true(s->n_layers <= MAX_LAYERS && s->n_kv_heads <= MAX_HEADS);
    for (int i = 0; i < N_SEQS; i++) {
        h[i].n_prompt = n_tokens[i];
        for (int l = 0; l < s->n_layers; l++) {
            h[i].hidden[l] = malloc(sizeof(float) * MAX_T * s->dim);
            h[i].q[l] = malloc(sizeof(float) * MAX_T * s->n_heads * s->head_dim);
            h[i].k[l] = malloc(sizeof(float) * MAX_T * s->n_kv_heads * s->head_dim);
        }
    }
    return h;
}

static void history_free(history *h) {
    for (int i = 0; i < N_SEQS; i++) {
        for (int l = 0; l < MAX_LAYERS; l++) {
            free(h[i].hidden[l]);
            free(h[i].q[l]);
            free(h[i].k[l]);
            for (int k = 0; k < MAX_HEADS; k++)
                for (int j = 0; j < h[i].n_events[l][k]; j++) free((void *)(uintptr_t)h[i].events[l][k][j].pos);
        }
    }
    free(h);
}

/* Runs one policy traced; returns the number of evictions checked. */
static int replay(const char *name, int budget, int buffer, int chunk, int *near_ties) {
    int n_tokens[N_SEQS] = {5, 40, 75};
    kv_error err;
    kv_engine *e = th_open_tiny(KV_EXACT, 2);
    th_policy p;
    th_policy_open(&p, e, th_tiny_gates, name, budget, buffer);
    int32_t *prompts = malloc(sizeof(int32_t) * N_SEQS * TH_MAX_PROMPT);
    th_random_prompts(prompts, n_tokens, N_SEQS, kv_engine_info(e)->n_vocab, 21);
    th_result results[N_SEQS];
    int n_sharing = kv_pooling_of(&p.setup, &kv_engine_info(e)->shape).size;
    watch w = {e, &p, chunk, n_sharing, {0}, results, history_new(e, n_tokens), 0, 0};
    kv_trace trace = {&w, on_append, on_evict};
    th_config cfg = {.batch = N_SEQS,
                     .chunk = chunk,
                     .max_new = NEW,
                     .ignore_eos = 1,
                     .trace = &trace,
                     .sampling = {.temperature = 1, .top_p = 1, .seed = 3}};
    if (th_generate(e, &p.setup, prompts, n_tokens, N_SEQS, &cfg, results, NULL, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < N_SEQS; i++) {
        if (results[i].status) fail_msg("%s", results[i].err);
        if (chunk && !p.setup.policy->never_evicts) assert_true(results[i].peak_slots <= budget + buffer);
    }
    history_free(w.h);
    free(prompts);
    th_policy_close(&p);
    kv_engine_close(e);
    *near_ties += w.n_near_ties;
    return w.n_evictions;
}

static void every_policy_keeps_the_highest_scores_and_never_holds_more_than_allowed(void **st) {
    (void)st;
    static const struct {
        int budget, buffer, chunk;
    } cases[] = {{16, 1, 0}, {16, 7, 0}, {24, 8, 8}, {12, 5, 3}, {1, 1, 1}, {40, 32, 32}};
    int n, total = 0, near_ties = 0;
    const kv_policy *const *all = kv_policy_all(&n);
    for (int i = 0; i < n; i++) {
        int evictions = 0;
        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
            evictions += replay(all[i]->name, cases[k].budget, cases[k].buffer, cases[k].chunk, &near_ties);
        if (all[i]->never_evicts ? evictions != 0 : evictions < 100)
            fail_msg("%s: %d evictions were seen", all[i]->name, evictions);
        total += evictions;
    }
    print_message("%d evictions replayed in double precision, %d near-ties decided otherwise\n", total, near_ties);
    assert_true(near_ties * 200 <= total);
}

static void budget_of_the_whole_length_gives_the_tokens_of_the_full_cache(void **st) {
    (void)st;
    int n_policies, n_tokens[N_SEQS] = {5, 40, 75};
    const kv_policy *const *all = kv_policy_all(&n_policies);
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++) {
        kv_engine *e = th_open_tiny((kv_numerics)numerics, 2);
        kv_error err;
        int32_t *prompts = malloc(sizeof(int32_t) * N_SEQS * TH_MAX_PROMPT);
        th_random_prompts(prompts, n_tokens, N_SEQS, kv_engine_info(e)->n_vocab, 21);
        th_result full[N_SEQS], r[N_SEQS];
        for (int i = -1; i < n_policies; i++) {
            th_policy p;
            th_policy_open(&p, e, th_tiny_gates, i < 0 ? "full" : all[i]->name, 75 + NEW, 8);
            th_config cfg = {.batch = 2, .max_new = NEW, .ignore_eos = 1};
            if (th_generate(e, &p.setup, prompts, n_tokens, N_SEQS, &cfg, i < 0 ? full : r, NULL, &err))
                fail_msg("%s", err.text);
            for (int k = 0; i >= 0 && k < N_SEQS; k++)
                if (r[k].status || r[k].n != full[k].n || memcmp(r[k].tokens, full[k].tokens, (size_t)r[k].n * 4) ||
                    r[k].hash != full[k].hash || r[k].n_triggers)
                    fail_msg("%s with M >= length differs from full", all[i]->name);
            th_policy_close(&p);
        }
        free(prompts);
        kv_engine_close(e);
    }
}

/* One engine runs the same request before and after others under every policy: nothing may be left behind. */
static void a_policy_leaves_nothing_behind_for_the_next_run(void **st) {
    (void)st;
    int n_policies, n_tokens[N_SEQS] = {64, 9, 33};
    const kv_policy *const *all = kv_policy_all(&n_policies);
    kv_engine *e = th_open_tiny(KV_FAST, 2);
    int32_t *prompts = malloc(sizeof(int32_t) * N_SEQS * TH_MAX_PROMPT);
    th_random_prompts(prompts, n_tokens, N_SEQS, kv_engine_info(e)->n_vocab, 2);
    kv_error err;
    th_result first[16][N_SEQS], again[N_SEQS];
    for (int round = 0; round < 2; round++) {
        for (int j = 0; j < n_policies && j < 16; j++) {
            int i = round ? n_policies - 1 - j : j;
            th_policy p;
            th_policy_open(&p, e, th_tiny_gates, all[i]->name, 20, 6);
            th_config cfg = {.batch = 3, .max_new = 40, .ignore_eos = 1, .chunk = i % 2 ? 6 : 0};
            if (th_generate(e, &p.setup, prompts, n_tokens, N_SEQS, &cfg, round ? again : first[i], NULL, &err))
                fail_msg("%s", err.text);
            for (int k = 0; round && k < N_SEQS; k++)
                if (again[k].hash != first[i][k].hash || again[k].n_triggers != first[i][k].n_triggers)
                    fail_msg("%s gives other bits the second time", all[i]->name);
            th_policy_close(&p);
        }
    }
    free(prompts);
    kv_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_policy_keeps_the_highest_scores_and_never_holds_more_than_allowed),
        cmocka_unit_test(budget_of_the_whole_length_gives_the_tokens_of_the_full_cache),
        cmocka_unit_test(a_policy_leaves_nothing_behind_for_the_next_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
