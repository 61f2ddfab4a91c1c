/* test_gates_golden.c - published gate types against an independent PyTorch program (scripts/golden_trimkv.py).
 *
 * For models and gates in tests/golden/trimkv, every type, budget, buffer and prefill mode: the slots that each layer
 * and KV head keeps at every reduction and the greedy tokens must be the same, alone and beside two other sequences. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/checkpoints.h"
#include "tests/support/golden.h"
#include "tests/support/harness.h"

enum { DIGITS = 4 };

typedef struct follower {
    const char *name;   /* of the case */
    const char *kept;   /* DIGITS for every reduction, layer and head */
    const void *result; /* the sequence that is looked at */
    size_t at;
    int n_layers, n_heads;
} follower;

/* FNV-1a over T and the kept positions, folded to 16 bits. */
static void digest(int n_seen, const int32_t *kept, int n, char out[DIGITS + 1]) {
    uint32_t h = (2166136261u ^ (uint32_t)n_seen) * 16777619u;
    for (int i = 0; i < n; i++) h = (h ^ (uint32_t)kept[i]) * 16777619u;
    snprintf(out, DIGITS + 1, "%04x", (unsigned)((h >> 16) ^ (h & 0xffff)));
}

static void on_evict(void *user, void *request_user, int layer, int head, int n_seen, const int32_t *before,
                     int n_before, const int32_t *kept, int n_kept) {
    (void)before, (void)n_before;
    follower *f = user;
    char got[DIGITS + 1];
    if (request_user != f->result) return;
    size_t per = (size_t)(f->n_layers * f->n_heads), index = f->at++;
    if (index % per != (size_t)(layer * f->n_heads + head)) fail_msg("%s: heads come in another order", f->name);
    if (strlen(f->kept) < (index + 1) * DIGITS) fail_msg("%s: more reductions than the golden run", f->name);
    digest(n_seen, kept, n_kept, got);
    if (memcmp(got, f->kept + index * DIGITS, DIGITS) != 0)
        fail_msg("%s: reduction %zu (T = %d), layer %d, head %d: other slots kept", f->name, index / per, n_seen, layer,
                 head);
}

/* The case's prompt and the start of n_others more, as rows of (n_others + 1, TH_MAX_PROMPT). */
static int32_t *take_prompts(const cJSON *golden, int first, int n_others, int *n_tokens) {
    const cJSON *all = gj_get(golden, "prompts");
    int n_all = cJSON_GetArraySize(all);
    int32_t *prompts = calloc((size_t)(n_others + 1) * TH_MAX_PROMPT, sizeof *prompts);
    assert_non_null(prompts);
    for (int i = 0; i <= n_others; i++) {
        const cJSON *ids = cJSON_GetArrayItem(all, (first + i) % n_all), *v;
        n_tokens[i] = 0;
        cJSON_ArrayForEach(v, ids) {
            if (i > 0 && n_tokens[i] == 9 * i + 4) break;
            prompts[(size_t)i * TH_MAX_PROMPT + (size_t)n_tokens[i]++] = v->valueint;
        }
    }
    return prompts;
}

static void check_case(kv_engine *e, const char *model, const cJSON *golden, const cJSON *c, int n_others) {
    char name[160], gates[512];
    const char *type = gj_get(c, "gates")->valuestring, *spec = gj_get(c, "policy")->valuestring,
               *prefill = gj_get(c, "prefill")->valuestring;
    int budget = (int)gj_number(c, "budget"), buffer = (int)gj_number(c, "buffer"), chunk = 0, n_want, n_tokens[3];
    if (strcmp(prefill, "full") != 0) assert_int_equal(sscanf(prefill, "stream:%d", &chunk), 1);
    snprintf(name, sizeof name, "%s, %s, %s M=%d B=%d %s, batch %d", model, type, spec, budget, buffer, prefill,
             n_others + 1);
    snprintf(gates, sizeof gates, KV_SOURCE_DIR "/tests/golden/trimkv/%s-%s", model, type);
    int32_t *prompts = take_prompts(golden, (int)gj_number(c, "prompt"), n_others, n_tokens);
    int32_t *want = gj_ids(c, "tokens", &n_want);
    th_policy p;
    th_result r[3];
    kv_error err;
    th_policy_open(&p, e, gates, spec, budget, buffer);
    const kv_shape *s = &kv_engine_info(e)->shape;
    follower f = {.name = name,
                  .kept = gj_get(c, "kept")->valuestring,
                  .result = &r[0],
                  .n_layers = s->n_layers,
                  .n_heads = s->n_kv_heads};
    kv_trace trace = {.user = &f, .on_evict = on_evict};
    th_config cfg = {.batch = n_others + 1, .chunk = chunk, .max_new = n_want, .ignore_eos = 1, .trace = &trace};
    if (th_generate(e, &p.setup, prompts, n_tokens, n_others + 1, &cfg, r, NULL, &err))
        fail_msg("%s: %s", name, err.text);
    if (r[0].status) fail_msg("%s: %s", name, r[0].err);
    if (f.at * DIGITS != strlen(f.kept)) fail_msg("%s: fewer reductions than the golden run", name);
    assert_int_equal(r[0].n, n_want);
    for (int i = 0; i < n_want; i++)
        if (r[0].tokens[i] != want[i]) fail_msg("%s: token %d is %d, not %d", name, i, r[0].tokens[i], want[i]);
    th_policy_close(&p);
    free(want);
    free(prompts);
}

/* Cases of all four types with every pair of budget and buffer must be there. */
static void check_model(kv_engine *e, const char *model) {
    char file[64];
    unsigned seen[4] = {0};
    const cJSON *c;
    snprintf(file, sizeof file, "trimkv/%s.json", model);
    cJSON *golden = gj_load(file);
    cJSON_ArrayForEach(c, gj_get(golden, "cases")) {
        static const char *const types[] = {"rg", "rg2", "rg3", "rg10"};
        int budget = (int)gj_number(c, "budget"), buffer = (int)gj_number(c, "buffer"),
            streamed = strcmp(gj_get(c, "prefill")->valuestring, "full") != 0;
        int m = budget == 1 ? 0 : budget == 7 ? 1 : 2, b = buffer == 1 ? 0 : buffer == 7 ? 1 : 2;
        for (int t = 0; t < 4; t++)
            if (strcmp(gj_get(c, "gates")->valuestring, types[t]) == 0) seen[t] |= 1u << ((m * 3 + b) * 2 + streamed);
        for (int n_others = 0; n_others <= 2; n_others += 2) check_case(e, model, golden, c, n_others);
    }
    for (int t = 0; t < 4; t++) assert_int_equal(seen[t], (1u << 18) - 1);
    cJSON_Delete(golden);
}

/* Phi-3's short rotary factors hold up to its original context. */
static const struct {
    const char *name;
    tc_case model;
} models[] = {
    {"llama", {"../../golden/tiny-llama.gguf", NULL, 0}}, {"qwen3", {"qwen3", NULL, 0}}, {"phi3", {"phi3", NULL, 256}}};

static void check_all(kv_device_kind device) {
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        kv_engine *e = tc_open(&models[i].model, KV_EXACT, device);
        check_model(e, models[i].name);
        kv_engine_close(e);
    }
}

static void slots_and_tokens_are_those_of_the_pytorch_program(void **st) {
    (void)st;
    check_all(KV_CPU);
}

static void slots_and_tokens_are_the_same_on_a_gpu(void **st) {
    (void)st;
    check_all(KV_CUDA);
}

/* bf16 has no golden run: a sequence must be the same, to the bit, alone and beside two others. */
static void every_type_runs_in_bf16_on_a_gpu_whatever_the_batch(void **st) {
    (void)st;
    static const char *const types[] = {"rg", "rg2", "rg3", "rg10"};
    kv_engine *e = tc_open(&models[0].model, KV_FAST, KV_CUDA);
    cJSON *golden = gj_load("trimkv/llama.json");
    int n_tokens[3];
    int32_t *prompts = take_prompts(golden, 0, 2, n_tokens);
    for (int t = 0; t < 4; t++) {
        char gates[512];
        th_policy p;
        th_result alone[3], beside[3];
        kv_error err;
        snprintf(gates, sizeof gates, KV_SOURCE_DIR "/tests/golden/trimkv/llama-%s", types[t]);
        th_policy_open(&p, e, gates, "trimkv", 7, 7);
        th_config cfg = {.batch = 1, .max_new = 40, .ignore_eos = 1};
        if (th_generate(e, &p.setup, prompts, n_tokens, 1, &cfg, alone, NULL, &err)) fail_msg("%s", err.text);
        cfg.batch = 3;
        if (th_generate(e, &p.setup, prompts, n_tokens, 3, &cfg, beside, NULL, &err)) fail_msg("%s", err.text);
        assert_string_equal(kv_engine_score_path(e, &p.setup), "device");
        assert_int_equal(alone[0].status, KV_OK);
        assert_true(alone[0].n == 40 && alone[0].n_triggers > 4);
        if (alone[0].hash != beside[0].hash) fail_msg("%s: other bits in a batch of 3", types[t]);
        th_policy_close(&p);
    }
    free(prompts);
    cJSON_Delete(golden);
    kv_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_and_tokens_are_those_of_the_pytorch_program),
        cmocka_unit_test(slots_and_tokens_are_the_same_on_a_gpu),
        cmocka_unit_test(every_type_runs_in_bf16_on_a_gpu_whatever_the_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
