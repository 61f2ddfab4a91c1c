/* narrow.c - does every sampling parameter get to where tokens are drawn, on whatever device?
 *
 * Each of top-k, top-p, min-p and temperature alone can leave nothing but the likeliest token; a parameter that is lost
 * or takes another's place would not. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tests/support/narrow.h"

enum { N = 8, NEW = 24 };

static void generate(kv_engine *e, const kv_sampling *s, th_result *r) {
    static int32_t prompts[N * TH_MAX_PROMPT];
    int n_tokens[N];
    th_policy p;
    kv_error err;
    th_config cfg = {.batch = 3, .max_new = NEW, .ignore_eos = 1, .sampling = *s};
    for (int i = 0; i < N; i++) n_tokens[i] = 5 + 7 * i;
    th_random_prompts(prompts, n_tokens, N, kv_engine_info(e)->n_vocab, 31);
    th_policy_open(&p, e, th_tiny_gates, "h2o", 24, 8);
    if (th_generate(e, &p.setup, prompts, n_tokens, N, &cfg, r, NULL, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < N; i++)
        if (r[i].status || r[i].n != NEW) fail_msg("sequence %d: %d tokens %s", i, r[i].n, r[i].err);
    th_policy_close(&p);
}

static int count_same(const th_result *a, const th_result *b) {
    int same = 0;
    for (int i = 0; i < N; i++) same += !memcmp(a[i].tokens, b[i].tokens, sizeof(int32_t) * NEW);
    return same;
}

void th_expect_parameters_to_arrive(kv_engine *e) {
    static const kv_sampling greedy = {.top_p = 1}, wide = {.temperature = 1, .top_p = 1, .seed = 5};
    static const kv_sampling narrow[] = {{.temperature = 1, .top_p = 1, .top_k = 1, .seed = 5},
                                         {.temperature = 1, .top_p = 1e-6f, .seed = 5},
                                         {.temperature = 1, .top_p = 1, .min_p = 1, .seed = 5},
                                         {.temperature = 1e-7f, .top_p = 1, .seed = 5}};
    static th_result best[N], first[N], other[N];
    generate(e, &greedy, best);
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++) {
        generate(e, &narrow[i], other);
        assert_int_equal(count_same(best, other), N);
    }
    generate(e, &wide, first);
    assert_int_equal(count_same(best, first), 0);
    generate(e, &wide, other);
    assert_int_equal(count_same(first, other), N);
    generate(e, &(kv_sampling){.temperature = 1, .top_p = 1, .seed = 5000}, other);
    assert_int_equal(count_same(first, other), 0);
}
