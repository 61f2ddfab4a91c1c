/* checkpoints.c - see checkpoints.h. */
#include "tests/support/checkpoints.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/json.h"

const tc_case tc_cases[TC_CASES] = {
    {"qwen3", "qwen3", 0},     {"qwen3.gguf", "qwen3", 0}, {"qwen3-untied", "qwen3-untied", 0},
    {"qwen2", "qwen2", 0},     {"qwen2.gguf", "qwen2", 0}, {"llama3", "llama3", 0},
    {"mistral", "mistral", 0}, {"phi3", "phi3", 256},      {"phi3", "phi3-long", 0},
};

kv_engine *tc_open(const tc_case *c, kv_numerics numerics, kv_device_kind device) {
    char path[512];
    kv_engine *e = NULL;
    kv_error err = {0};
    snprintf(path, sizeof path, TC_DIR "%s", c->path);
    kv_engine_options o = {
        .model_path = path, .numerics = numerics, .n_threads = 1, .device = device, .max_ctx = c->max_ctx};
    int rc = kv_engine_open(&o, &e, &err);
    if (device == KV_CUDA && (rc == KV_ENOTFOUND || rc == KV_EUNSUPPORTED)) {
        print_message("skipped: %s\n", err.text);
        skip();
    }
    if (rc) fail_msg("%s: %s", path, err.text);
    return e;
}

/* List i of a list of lists, or the list itself, as numbers. */
static int read_numbers(const cJSON *list, double *out, int cap) {
    const cJSON *v;
    int n = 0;
    cJSON_ArrayForEach(v, list) {
        assert_true(n < cap && cJSON_IsNumber(v));
        out[n++] = v->valuedouble;
    }
    return n;
}

static int read_ids(const cJSON *list, int32_t *out, int cap) {
    double x[TC_PROMPT];
    int n = read_numbers(list, x, cap < TC_PROMPT ? cap : TC_PROMPT);
    for (int i = 0; i < n; i++) out[i] = (int32_t)x[i];
    return n;
}

tc_golden *tc_load(const tc_case *c) {
    cJSON *root;
    kv_error err = {0};
    tc_golden *g = calloc(1, sizeof *g);
    assert_non_null(g);
    if (kv_json_load(TC_DIR "golden.json", &root, &err)) fail_msg("%s", err.text);
    const cJSON *o = cJSON_GetObjectItem(root, c->golden);
    g->n_prompt = read_ids(cJSON_GetObjectItem(o, "prompt"), g->prompt, TC_PROMPT);
    g->n_greedy = read_ids(cJSON_GetObjectItem(o, "greedy"), g->greedy, TC_GREEDY);
    assert_true(g->n_prompt > 0 && g->n_greedy > 0);
    const cJSON *ids = cJSON_GetObjectItem(o, "logit_ids")->child, *x = cJSON_GetObjectItem(o, "logits")->child;
    for (int t = 0; t < g->n_prompt; t++, ids = ids->next, x = x->next) {
        assert_int_equal(read_ids(ids, g->ids[t], TC_TOP), TC_TOP);
        assert_int_equal(read_numbers(x, g->logits[t], TC_TOP), TC_TOP);
    }
    cJSON_Delete(root);
    return g;
}
