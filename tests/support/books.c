/* books.c - see books.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/books.h"

typedef struct cell {
    const char *policy;
    int budget, buffer, ctx, max_new, batch;
} cell;

typedef struct batch {
    const kv_request *like;
    int n, next, n_failed;
    uint64_t hash;
    char why[256];
} batch;

static int next_request(void *user, kv_request *r) {
    batch *b = user;
    if (b->next++ == b->n) return 0;
    *r = *b->like;
    return 1;
}

static int take_result(void *user, const kv_request *r, const kv_completion *c) {
    batch *b = user;
    (void)r;
    b->hash += c->logits_hash;
    b->n_failed += c->status != 0;
    if (c->status && c->status != KV_ENOMEM) fail_msg("%s", c->err.text);
    if (c->status) snprintf(b->why, sizeof b->why, "%.255s", c->err.text);
    return 0;
}

/* reserves: memory is taken for all of them first. */
static int run(kv_engine *e, const kv_setup *s, const kv_request *like, int n, int reserves, batch *b,
               kv_generate_stats *stats, kv_error *err) {
    *b = (batch){.like = like, .n = n};
    kv_generate_options o = {
        .batch = n, .like = reserves ? like : NULL, .next = next_request, .done = take_result, .user = b};
    return kv_generate(e, s, &o, stats, err);
}

static size_t held(kv_engine *e, kv_memory *m) {
    kv_error err;
    if (kv_engine_memory(e, m, &err)) fail_msg("%s", err.text);
    return m->weights + m->kv + m->workspace + m->graphs;
}

static kv_memory need_of(kv_engine *e, const kv_setup *s, const kv_request *like, int n) {
    kv_generate_options o = {.batch = n, .like = like};
    kv_memory need;
    kv_error err;
    if (kv_generate_need(e, s, &o, &need, &err)) fail_msg("%s", err.text);
    return need;
}

static kv_request make_request(kv_engine *e, const cell *c, int32_t *prompt) {
    th_random_prompts(prompt, &c->ctx, 1, kv_engine_info(e)->n_vocab, 9);
    return (kv_request){.prompt = prompt,
                        .n_prompt = c->ctx,
                        .n_context = c->ctx,
                        .max_new = c->max_new,
                        .ignore_eos = 1,
                        .sampling = {.top_p = 1}};
}

static void expect_exact(kv_engine *e, const char *gates, const cell *c) {
    int32_t prompt[TH_MAX_PROMPT];
    kv_request like = make_request(e, c, prompt);
    kv_prefix *prefix;
    kv_generate_stats stats;
    kv_error err;
    kv_memory m;
    th_policy p;
    batch b;
    th_policy_open(&p, e, gates, c->policy, c->budget, c->buffer);
    if (kv_prefix_create(e, &p.setup, 1, prompt, c->ctx, &prefix, NULL, &err)) fail_msg("%s", err.text);
    like.prefix = prefix;
    size_t before = held(e, &m);
    kv_memory need = need_of(e, &p.setup, &like, c->batch);
    assert_int_equal(held(e, &m), before);
    if (run(e, &p.setup, &like, c->batch, 1, &b, &stats, &err)) fail_msg("%s", err.text);
    assert_int_equal(b.n_failed, 0);
    size_t said = before + need.kv + need.workspace + stats.memory.graphs;
    /* a CPU's pages come as they are filled: what heads that share a budget will hold is bounded only */
    int exact = !p.setup.policy->pool || strncmp(kv_engine_info(e)->backend, "cpu", 3) != 0;
    if (exact ? stats.memory.peak != said : stats.memory.peak > said)
        fail_msg("%s M=%d B=%d context %d batch %d: %zu bytes at most, predicted %zu", c->policy, c->budget, c->buffer,
                 c->ctx, c->batch, stats.memory.peak - before, said - before);
    assert_true(need.kv >= stats.kv_live_peak);
    assert_int_equal(held(e, &m), before);
    kv_prefix_free(prefix);
    th_policy_close(&p);
}

void th_expect_exact_needs(kv_engine *e, const char *gates) {
    static const cell cells[] = {
        {"full", 0, 0, 70, 40, 3},       {"full", 0, 0, 5, 90, 7},
        {"window", 24, 8, 100, 40, 5},   {"window", 48, 3, 49, 12, 2},
        {"random", 16, 16, 200, 40, 1},  {"h2o", 24, 8, 100, 40, 4},
        {"h2o", 64, 8, 20, 90, 3},       {"snapkv:window=4", 24, 8, 90, 30, 3},
        {"trimkv", 16, 6, 130, 30, 6},   {"trimkv", 40, 1, 41, 9, 17},
        {"dbtrimkv", 16, 6, 130, 30, 6}, {"dbtrimkv:pool=layer:floor=4", 40, 1, 41, 60, 7},
        {"dbtrimkv", 64, 8, 20, 90, 3},
    };
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++) {
        cell c = cells[i];
        if (!gates && strstr(c.policy, "trimkv")) continue;
        if (!c.budget) c.budget = c.buffer = kv_engine_info(e)->n_ctx;
        expect_exact(e, gates, &c);
    }
}

/* One limit: a prefill, a run with all memory taken first, a run that meets the limit on its way. */
static int squeeze(kv_engine *e, const kv_setup *s, const kv_request *like, int n, size_t limit) {
    kv_memory m;
    kv_prefix *second = NULL;
    kv_error err;
    batch b;
    size_t before = held(e, &m);
    kv_engine_limit_memory(e, limit);
    int refused = kv_prefix_create(e, s, 1, like->prompt, like->n_prompt, &second, NULL, &err);
    if (refused && (refused != KV_ENOMEM || !strstr(err.text, "memory"))) fail_msg("%s", err.text);
    if (!refused) kv_prefix_free(second);
    assert_int_equal(held(e, &m), before);
    kv_generate_stats stats;
    int rc = run(e, s, like, n, 1, &b, &stats, &err);
    if (rc == KV_OK) assert_true(stats.memory.peak <= limit);
    if (rc && (rc != KV_ENOMEM || !strstr(err.text, " for "))) fail_msg("%s", err.text);
    assert_int_equal(held(e, &m), before);
    int later = run(e, s, like, n, 0, &b, NULL, &err);
    if (later && (later != KV_ENOMEM || !strstr(err.text, "memory"))) fail_msg("%s", err.text);
    if (b.n_failed) assert_non_null(strstr(b.why, "--device-memory")); /* the limit is what stops it, and is named */
    assert_int_equal(held(e, &m), before);
    kv_engine_limit_memory(e, 0);
    return rc == KV_ENOMEM;
}

void th_expect_balanced_books(kv_engine *e, const char *gates) {
    enum { STEPS = 16, BATCH = 5 };
    static const char *const policies[] = {"h2o", "snapkv:window=4", "trimkv", "dbtrimkv"};
    for (size_t k = 0; k < sizeof policies / sizeof *policies; k++) {
        const cell c = {policies[k], 32, 8, 300, 30, BATCH};
        int32_t prompt[TH_MAX_PROMPT];
        kv_request like = make_request(e, &c, prompt);
        kv_error err;
        kv_memory m;
        th_policy p;
        batch first, last;
        int refused = 0;
        kv_prefix *prefix;
        th_policy_open(&p, e, gates, c.policy, c.budget, c.buffer);
        if (kv_prefix_create(e, &p.setup, 1, prompt, c.ctx, &prefix, NULL, &err)) fail_msg("%s", err.text);
        like.prefix = prefix;
        if (run(e, &p.setup, &like, BATCH, 1, &first, NULL, &err)) fail_msg("%s", err.text);
        kv_memory need = need_of(e, &p.setup, &like, BATCH);
        size_t before = held(e, &m), all = need.kv + need.workspace;
        for (size_t i = 0; i < STEPS; i++)
            refused += squeeze(e, &p.setup, &like, BATCH, before + 1 + (all >> (STEPS - i)));
        /* where a whole slab of pages has no room, a GPU's pool takes the pages alone: less than what was said */
        if (refused < STEPS / 2)
            fail_msg("%s: %d of %d limits below %zu + %zu bytes were kept to", c.policy, refused, STEPS, before, all);
        squeeze(e, &p.setup, &like, BATCH, before + all); /* all but captured graphs */
        if (run(e, &p.setup, &like, BATCH, 1, &last, NULL, &err)) fail_msg("%s", err.text);
        assert_true(first.hash == last.hash && last.n_failed == 0);
        kv_prefix_free(prefix);
        th_policy_close(&p);
    }
}
