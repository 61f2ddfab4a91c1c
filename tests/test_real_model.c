/* test_real_model.c - the default model against transformers on the same dequantised weights.
 *
 * Golden file: golden/logits_smollm2.json, made by scripts/golden_logits.py (fp32, eager attention), base model and
 * adapter-merged model.  `exact` must agree to 1e-3 in every stored logit and in 64 greedy tokens; `fast` is held
 * to the architecture's bounds: KL to exact at most 0.02 nats per token and top-1 agreement of at least 97%.
 * Needs models/SmolLM2-135M-Instruct.Q4_1.gguf (scripts/get_model.sh); skipped, and said so, without it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/golden.h"
#include "tests/support/harness.h"

#define MODEL KV_SOURCE_DIR "/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define ADAPTER KV_SOURCE_DIR "/policies/trimkv-smollm2-135m"

static void need_model(void) {
#if defined(__SANITIZE_ADDRESS__)
    print_message(
        "SKIPPED under the address sanitizer: the tiny model covers the same code in a hundredth of the time\n");
    skip();
#endif
    if (gj_exists(MODEL)) return;
    print_message("SKIPPED: %s is not there (scripts/get_model.sh fetches it)\n", MODEL);
    skip();
}

static double compare_list(const cJSON *row, const char *ids_key, const char *values_key, const float *logits) {
    int n;
    int32_t *ids = gj_ids(row, ids_key, &n);
    const cJSON *v;
    double worst = 0;
    int i = 0;
    cJSON_ArrayForEach(v, gj_get(row, values_key)) {
        worst = fmax(worst, fabs(v->valuedouble - logits[ids[i]]));
        i++;
    }
    assert_int_equal(i, n);
    free(ids);
    return worst;
}

static double log_sum_exp(const float *x, int n) {
    double most = x[0], sum = 0;
    for (int i = 1; i < n; i++) most = fmax(most, x[i]);
    for (int i = 0; i < n; i++) sum += exp(x[i] - most);
    return most + log(sum);
}

static void check_variant(kv_engine *e, const cJSON *prompt, const char *variant) {
    kv_error err;
    int n, n_greedy, n_vocab = kv_engine_info(e)->n_vocab;
    int32_t *ids = gj_ids(prompt, "ids", &n);
    const cJSON *want = gj_get(prompt, variant), *row;
    float *logits = malloc(sizeof(float) * (size_t)n * n_vocab);
    if (kv_engine_logits(e, ids, n, logits, &err)) fail_msg("%s", err.text);
    double worst = 0;
    cJSON_ArrayForEach(row, gj_get(want, "rows")) {
        const float *r = logits + (size_t)gj_number(row, "pos") * n_vocab;
        worst = fmax(worst, compare_list(row, "top_ids", "top", r));
        worst = fmax(worst, compare_list(row, "stride_ids", "stride", r));
        worst = fmax(worst, fabs(log_sum_exp(r, n_vocab) - gj_number(row, "logsumexp")));
    }
    print_message("%s, %s: largest logit difference %.2g over %d tokens\n", gj_get(prompt, "name")->valuestring,
                  variant, worst, n);
    assert_true(worst <= 1e-3);
    int32_t *greedy = gj_ids(want, "greedy", &n_greedy);
    th_policy p;
    th_policy_open(&p, e, ADAPTER, "full", 1, 1);
    int32_t *prompts = calloc(TH_MAX_PROMPT, sizeof *prompts);
    memcpy(prompts, ids, (size_t)n * sizeof *ids);
    th_result r;
    th_config cfg = {.batch = 1, .max_new = n_greedy, .ignore_eos = 1};
    if (th_generate(e, &p.setup, prompts, &n, 1, &cfg, &r, NULL, &err)) fail_msg("%s", err.text);
    assert_int_equal(r.n, n_greedy);
    assert_memory_equal(r.tokens, greedy, sizeof(int32_t) * (size_t)n_greedy);
    th_policy_close(&p);
    free(prompts);
    free(greedy);
    free(logits);
    free(ids);
}

static void exact_logits_and_greedy_tokens_equal_those_of_transformers(void **st) {
    (void)st;
    need_model();
    cJSON *g = gj_load("logits_smollm2.json");
    const cJSON *prompt;
    for (int merged = 0; merged < 2; merged++) {
        kv_engine *e = th_open(MODEL, merged ? ADAPTER : NULL, KV_EXACT, 2);
        cJSON_ArrayForEach(prompt, gj_get(g, "prompts")) check_variant(e, prompt, merged ? "merged" : "base");
        kv_engine_close(e);
    }
    cJSON_Delete(g);
}

/* KL(exact || fast) of one row, and whether both agree on the best token. */
static double row_kl(const float *exact, const float *fast, int n, int *same_top) {
    double le = log_sum_exp(exact, n), lf = log_sum_exp(fast, n), kl = 0;
    int be = 0, bf = 0;
    for (int i = 0; i < n; i++) {
        kl += exp(exact[i] - le) * ((exact[i] - le) - (fast[i] - lf));
        if (exact[i] > exact[be]) be = i;
        if (fast[i] > fast[bf]) bf = i;
    }
    *same_top = be == bf;
    return kl;
}

static void fast_stays_within_its_stated_distance_of_exact(void **st) {
    (void)st;
    need_model();
    cJSON *g = gj_load("logits_smollm2.json");
    const cJSON *prompt;
    kv_error err;
    kv_engine *exact = th_open(MODEL, ADAPTER, KV_EXACT, 2), *fast = th_open(MODEL, ADAPTER, KV_FAST, 2);
    int n_vocab = kv_engine_info(exact)->n_vocab, rows = 0, agree = 0;
    double kl = 0;
    cJSON_ArrayForEach(prompt, gj_get(g, "prompts")) {
        int n, n_greedy, same;
        int32_t *ids = gj_ids(prompt, "ids", &n), *greedy = gj_ids(gj_get(prompt, "merged"), "greedy", &n_greedy);
        ids = realloc(ids, sizeof(int32_t) * (size_t)(n + n_greedy)); /* teacher-forced over prompt and answer */
        memcpy(ids + n, greedy, sizeof(int32_t) * (size_t)n_greedy);
        n += n_greedy;
        float *a = malloc(sizeof(float) * (size_t)n * n_vocab), *b = malloc(sizeof(float) * (size_t)n * n_vocab);
        assert_int_equal(kv_engine_logits(exact, ids, n, a, &err), KV_OK);
        assert_int_equal(kv_engine_logits(fast, ids, n, b, &err), KV_OK);
        for (int i = 0; i < n; i++, rows++) {
            kl += row_kl(a + (size_t)i * n_vocab, b + (size_t)i * n_vocab, n_vocab, &same);
            agree += same;
        }
        free(a);
        free(b);
        free(ids);
        free(greedy);
    }
    print_message("fast against exact over %d teacher-forced tokens: KL %.5f nats per token, top-1 agreement %.2f%%\n",
                  rows, kl / rows, 100.0 * agree / rows);
    assert_true(kl / rows <= 0.02);
    assert_true(agree >= 0.97 * rows);
    kv_engine_close(exact);
    kv_engine_close(fast);
    cJSON_Delete(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_logits_and_greedy_tokens_equal_those_of_transformers),
        cmocka_unit_test(fast_stays_within_its_stated_distance_of_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
