/* test_hf.c - tiny checkpoints of every architecture against transformers (tests/data/checkpoints, made by
 * scripts/golden_checkpoints.py): logits and greedy tokens in fp32, whole and chunked prompts, GGUF twins. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/json.h"
#include "tests/support/harness.h"

#define CHECKPOINTS KV_SOURCE_DIR "/tests/data/checkpoints/"

static const struct {
    const char *path, *golden; /* below CHECKPOINTS; member of golden.json */
    int max_ctx;
} cases[] = {
    {"qwen3", "qwen3", 0},     {"qwen3.gguf", "qwen3", 0}, {"qwen3-untied", "qwen3-untied", 0},
    {"qwen2", "qwen2", 0},     {"qwen2.gguf", "qwen2", 0}, {"llama3", "llama3", 0},
    {"mistral", "mistral", 0}, {"phi3", "phi3", 256},      {"phi3", "phi3-long", 0},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static kv_engine *open_case(int i, kv_numerics numerics) {
    char path[512];
    kv_engine *e;
    kv_error err = {0};
    snprintf(path, sizeof path, CHECKPOINTS "%s", cases[i].path);
    kv_engine_options o = {.model_path = path, .numerics = numerics, .n_threads = 1, .max_ctx = cases[i].max_ctx};
    if (kv_engine_open(&o, &e, &err)) fail_msg("%s: %s", path, err.text);
    return e;
}

static cJSON *load_golden(void) {
    cJSON *root;
    kv_error err = {0};
    if (kv_json_load(CHECKPOINTS "golden.json", &root, &err)) fail_msg("%s", err.text);
    return root;
}

static const cJSON *list_of(const cJSON *golden, int i, const char *key) {
    const cJSON *list = cJSON_GetObjectItem(cJSON_GetObjectItem(golden, cases[i].golden), key);
    assert_true(cJSON_GetArraySize(list) > 0);
    return list;
}

static int read_ids(const cJSON *list, int32_t *out, int cap) {
    const cJSON *v;
    int n = 0;
    cJSON_ArrayForEach(v, list) {
        assert_true(n < cap);
        out[n++] = v->valueint;
    }
    return n;
}

static void logits_are_those_of_transformers(void **state) {
    (void)state;
    cJSON *golden = load_golden();
    for (int i = 0; i < N_CASES; i++) {
        int32_t prompt[512];
        int n = read_ids(list_of(golden, i, "prompt"), prompt, 512);
        kv_engine *e = open_case(i, KV_EXACT);
        int n_vocab = kv_engine_info(e)->n_vocab;
        kv_error err = {0};
        float *logits = malloc((size_t)n * (size_t)n_vocab * sizeof *logits);
        assert_non_null(logits);
        if (kv_engine_logits(e, prompt, n, logits, &err)) fail_msg("%s: %s", cases[i].path, err.text);
        const cJSON *ids = list_of(golden, i, "logit_ids")->child, *values = list_of(golden, i, "logits")->child;
        for (int t = 0; t < n; t++, ids = ids->next, values = values->next) {
            const cJSON *id = ids->child, *v = values->child;
            for (; id; id = id->next, v = v->next) {
                double got = logits[(size_t)t * (size_t)n_vocab + (size_t)id->valueint];
                if (!(fabs(got - v->valuedouble) < 1e-4))
                    fail_msg("%s (%s): logit %d at %d is %.6f, transformers has %.6f", cases[i].path, cases[i].golden,
                             id->valueint, t, got, v->valuedouble);
            }
        }
        free(logits);
        kv_engine_close(e);
    }
    cJSON_Delete(golden);
}

static void greedy_tokens_are_those_of_transformers(void **state) {
    (void)state;
    cJSON *golden = load_golden();
    for (int i = 0; i < N_CASES; i++) {
        int32_t *prompt = calloc(TH_MAX_PROMPT, sizeof *prompt), want[TH_MAX_TOKENS];
        assert_non_null(prompt);
        int n = read_ids(list_of(golden, i, "prompt"), prompt, TH_MAX_PROMPT);
        int n_want = read_ids(list_of(golden, i, "greedy"), want, TH_MAX_TOKENS);
        kv_engine *e = open_case(i, KV_EXACT);
        for (int chunk = 0; chunk <= 16; chunk += 16) {
            th_policy full;
            th_result r;
            kv_error err = {0};
            const th_config cfg = {
                .batch = 1, .chunk = chunk, .max_new = n_want, .sampling = {.top_p = 1}, .ignore_eos = 1};
            th_policy_open(&full, e, NULL, "full", 512, 512);
            if (th_generate(e, &full.setup, prompt, &n, 1, &cfg, &r, NULL, &err)) fail_msg("%s", err.text);
            th_policy_close(&full);
            if (r.n != n_want || memcmp(r.tokens, want, (size_t)n_want * sizeof *want) != 0) {
                int k = 0;
                while (k < r.n && k < n_want && r.tokens[k] == want[k]) k++;
                fail_msg("%s (%s), chunk %d: %d tokens, the first other one is %d", cases[i].path, cases[i].golden,
                         chunk, r.n, k);
            }
        }
        kv_engine_close(e);
        free(prompt);
    }
    cJSON_Delete(golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_transformers),
        cmocka_unit_test(greedy_tokens_are_those_of_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
