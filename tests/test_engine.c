/* test_engine.c - the tiny model against independent programs.
 *
 * tiny-llama.gguf has width 256, every supported tensor type and an untied head.  Its logits and greedy tokens come
 * from transformers (scripts/golden_tiny.py); the slots kept at every reduction and the tokens under TRIM-KV, window
 * and H2O from a separate PyTorch program (scripts/golden_evict.py).  `exact` must reproduce them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#include "engine/file.h"
#include "tests/support/golden.h"
#include "tests/support/harness.h"
#include "tests/support/scratch.h"

#define TINY KV_SOURCE_DIR "/tests/golden/tiny-llama.gguf"
#define TINY_ADAPTER KV_SOURCE_DIR "/tests/golden/tiny-adapter"

static void run_greedy(kv_engine *e, const kv_setup *s, const int32_t *ids, int n, int max_new, int chunk,
                       const kv_trace *trace, th_result *r) {
    int32_t *prompt = calloc(TH_MAX_PROMPT, sizeof *prompt);
    kv_error err;
    memcpy(prompt, ids, (size_t)n * sizeof *ids);
    th_config cfg = {.batch = 1, .chunk = chunk, .max_new = max_new, .ignore_eos = 1, .trace = trace};
    if (th_generate(e, s, prompt, &n, 1, &cfg, r, NULL, &err)) fail_msg("%s", err.text);
    if (r->status) fail_msg("%s", r->err);
    free(prompt);
}

static void check_prompt(kv_engine *e, const cJSON *prompt, const char *variant) {
    int n, n_greedy, i, n_vocab = kv_engine_info(e)->n_vocab;
    int32_t *ids = gj_ids(prompt, "ids", &n);
    const cJSON *want = gj_get(prompt, variant), *row, *v;
    float *logits = malloc(sizeof(float) * (size_t)n * n_vocab);
    kv_error err;
    if (kv_engine_logits(e, ids, n, logits, &err)) fail_msg("%s", err.text);
    cJSON_ArrayForEach(row, gj_get(want, "rows")) {
        const float *got = logits + (size_t)gj_number(row, "pos") * n_vocab;
        i = 0;
        cJSON_ArrayForEach(v, gj_get(row, "logits")) {
            if (!(fabs(got[i] - v->valuedouble) <= 1e-4))
                fail_msg("%s: logit %d is %f, transformers has %f", variant, i, got[i], v->valuedouble);
            i++;
        }
        assert_int_equal(i, n_vocab);
    }
    int32_t *greedy = gj_ids(want, "greedy", &n_greedy);
    th_policy p;
    th_result r;
    th_policy_open(&p, e, th_tiny_gates, "full", 1, 1);
    run_greedy(e, &p.setup, ids, n, n_greedy, 0, NULL, &r);
    assert_int_equal(r.n, n_greedy);
    assert_memory_equal(r.tokens, greedy, sizeof(int32_t) * (size_t)n_greedy);
    th_policy_close(&p);
    free(greedy);
    free(logits);
    free(ids);
}

static void logits_and_greedy_tokens_equal_those_of_transformers(void **st) {
    (void)st;
    cJSON *g = gj_load("tiny-llama.json");
    const cJSON *prompt;
    for (int merged = 0; merged < 2; merged++) {
        kv_engine *e = th_open(TINY, merged ? TINY_ADAPTER : NULL, KV_EXACT, 2);
        assert_true(cJSON_GetArraySize(gj_get(g, "prompts")) >= 2);
        cJSON_ArrayForEach(prompt, gj_get(g, "prompts")) check_prompt(e, prompt, merged ? "merged" : "base");
        kv_engine_close(e);
    }
    cJSON_Delete(g);
}

/* Compares each reduction with the golden list as it happens. */
typedef struct follower {
    const cJSON *triggers, *now;
    int index, n_heads, head_calls, n_layers, near_ties;
    const char *name;
} follower;

static int is_near_tie(const cJSON *trigger, int layer, int head) {
    const cJSON *pair;
    cJSON_ArrayForEach(pair, gj_get(trigger, "near_ties")) if (cJSON_GetArrayItem(pair, 0)->valueint == layer &&
                                                               cJSON_GetArrayItem(pair, 1)->valueint == head) return 1;
    return 0;
}

static void on_evict(void *user, void *request_user, int layer, int head, int n_seen, const int32_t *before,
                     int n_before, const int32_t *kept, int n_kept) {
    (void)request_user, (void)before, (void)n_before;
    follower *f = user;
    if (f->head_calls == f->n_layers * f->n_heads) {
        f->head_calls = 0;
        f->now = f->now->next;
        f->index++;
    }
    f->head_calls++;
    if (!f->now) fail_msg("%s: more reductions than the golden run", f->name);
    assert_int_equal(n_seen, (int)gj_number(f->now, "n_seen"));
    const cJSON *want = cJSON_GetArrayItem(cJSON_GetArrayItem(gj_get(f->now, "kept"), layer), head);
    assert_int_equal(cJSON_GetArraySize(want), n_kept);
    int differ = 0, i = 0;
    const cJSON *v;
    cJSON_ArrayForEach(v, want) differ += v->valueint != kept[i++];
    if (!differ) return;
    if (!is_near_tie(f->now, layer, head))
        fail_msg("%s, reduction %d, layer %d, head %d: other slots kept", f->name, f->index, layer, head);
    f->near_ties++;
}

static void check_eviction(kv_engine *e, const cJSON *c, const int32_t *ids, int n, int max_new) {
    char name[96];
    int budget = (int)gj_number(c, "budget"), buffer = (int)gj_number(c, "buffer"), chunk = 0, n_tokens;
    const char *policy = gj_get(c, "policy")->valuestring, *prefill = gj_get(c, "prefill")->valuestring;
    if (strcmp(prefill, "full") != 0) assert_int_equal(sscanf(prefill, "stream:%d", &chunk), 1);
    snprintf(name, sizeof name, "%s M=%d B=%d %s", policy, budget, buffer, prefill);
    th_policy p;
    th_policy_open(&p, e, th_tiny_gates, policy, budget, buffer);
    const cJSON *triggers = gj_get(c, "triggers");
    const kv_shape *s = &kv_engine_info(e)->shape;
    follower f = {
        .triggers = triggers, .now = triggers->child, .n_heads = s->n_kv_heads, .n_layers = s->n_layers, .name = name};
    kv_trace trace = {.user = &f, .on_evict = on_evict};
    th_result r;
    run_greedy(e, &p.setup, ids, n, max_new, chunk, &trace, &r);
    int32_t *tokens = gj_ids(c, "tokens", &n_tokens);
    assert_int_equal(f.near_ties, 0);
    assert_int_equal(r.n, n_tokens);
    if (memcmp(r.tokens, tokens, sizeof(int32_t) * (size_t)n_tokens)) fail_msg("%s: other tokens", name);
    assert_true(fabs(r.peak_slots - gj_number(c, "peak_slots")) < 1e-9);
    assert_true(fabs(r.mean_slots - gj_number(c, "mean_slots")) < 1e-4);
    /* the golden run lists the reduction after its last forward; that token is never fed here either */
    assert_int_equal(r.n_triggers, cJSON_GetArraySize(triggers));
    free(tokens);
    th_policy_close(&p);
}

static void evicted_slots_and_tokens_equal_those_of_a_pytorch_program(void **st) {
    (void)st;
    cJSON *g = gj_load("tiny-evict.json");
    const cJSON *c;
    int n, cases = 0;
    int32_t *ids = gj_ids(g, "ids", &n);
    kv_engine *e = th_open_tiny(KV_EXACT, 2);
    cJSON_ArrayForEach(c, gj_get(g, "cases")) {
        check_eviction(e, c, ids, n, (int)gj_number(g, "max_new"));
        cases++;
    }
    assert_int_equal(cases, 24);
    kv_engine_close(e);
    free(ids);
    cJSON_Delete(g);
}

/* ---- what ends a sequence, and what fails one ---- */

typedef struct fixture {
    kv_engine *e;
    th_policy p;
    int32_t *prompts;
} fixture;

static fixture fixture_new(const char *spec) {
    fixture f;
    f.e = th_open_tiny(KV_FAST, 1);
    th_policy_open(&f.p, f.e, th_tiny_gates, spec, 16, 4);
    f.prompts = calloc((size_t)8 * TH_MAX_PROMPT, sizeof *f.prompts);
    return f;
}

static void fixture_free(fixture *f) {
    th_policy_close(&f->p);
    free(f->prompts);
    kv_engine_close(f->e);
}

static void a_sequence_stops_at_the_end_of_text_the_length_limit_and_the_context(void **st) {
    (void)st;
    fixture f = fixture_new("full");
    int n_tokens[3] = {20, 20, 505}; /* the context is 512 */
    kv_error err;
    th_result r[3];
    th_random_prompts(f.prompts, n_tokens, 3, kv_engine_info(f.e)->n_vocab, 4);
    th_config cfg = {.batch = 3, .max_new = 30, .ignore_eos = 1};
    assert_int_equal(th_generate(f.e, &f.p.setup, f.prompts, n_tokens, 3, &cfg, r, NULL, &err), KV_OK);
    assert_int_equal(r[0].n, 30);
    assert_int_equal(r[0].stop, KV_STOP_LENGTH);
    assert_int_equal(r[2].n, 7);
    assert_int_equal(r[2].stop, KV_STOP_CONTEXT);
    int32_t stop = r[0].tokens[9];
    int first = 0;
    while (r[0].tokens[first] != stop) first++;
    cfg.ignore_eos = 0;
    cfg.stop_ids[0] = stop;
    cfg.n_stop_ids = 1;
    assert_int_equal(th_generate(f.e, &f.p.setup, f.prompts, n_tokens, 1, &cfg, r, NULL, &err), KV_OK);
    assert_int_equal(r[0].n, first);
    assert_int_equal(r[0].stop, KV_STOP_EOS);
    fixture_free(&f);
}

static void a_prompt_longer_than_the_context_fails_alone(void **st) {
    (void)st;
    fixture f = fixture_new("window");
    int n_tokens[3] = {20, 513, 31};
    kv_error err;
    th_result r[3];
    th_random_prompts(f.prompts, n_tokens, 3, kv_engine_info(f.e)->n_vocab, 4);
    th_config cfg = {.batch = 2, .max_new = 5, .ignore_eos = 1};
    assert_int_equal(th_generate(f.e, &f.p.setup, f.prompts, n_tokens, 3, &cfg, r, NULL, &err), KV_OK);
    assert_int_equal(r[0].status, KV_OK);
    assert_int_equal(r[2].status, KV_OK);
    assert_int_equal(r[1].status, KV_ELIMIT);
    assert_non_null(strstr(r[1].err, "513 tokens, the model's context is 512"));
    fixture_free(&f);
}

static void ids_outside_the_vocabulary_and_empty_prompts_fail_alone(void **st) {
    (void)st;
    fixture f = fixture_new("window");
    int n_tokens[3] = {4, 0, 4};
    kv_error err;
    th_result r[3];
    f.prompts[2] = 100000;
    th_config cfg = {.batch = 1, .max_new = 5, .ignore_eos = 1};
    assert_int_equal(th_generate(f.e, &f.p.setup, f.prompts, n_tokens, 3, &cfg, r, NULL, &err), KV_OK);
    assert_int_equal(r[0].status, KV_EARG);
    assert_non_null(strstr(r[0].err, "token id 100000 at position 2"));
    assert_int_equal(r[1].status, KV_EARG);
    assert_int_equal(r[2].status, KV_OK);
    fixture_free(&f);
}

static void settings_that_make_no_sense_are_refused(void **st) {
    (void)st;
    fixture f = fixture_new("window");
    int n_tokens[1] = {4};
    kv_error err;
    th_result r[1];
    th_config good = {.batch = 1, .max_new = 5, .ignore_eos = 1}, cfg = good;
    cfg.batch = KV_MAX_BATCH + 1;
    assert_int_equal(th_generate(f.e, &f.p.setup, f.prompts, n_tokens, 1, &cfg, r, NULL, &err), KV_EARG);
    cfg = good;
    cfg.chunk = 5; /* the buffer is 4 */
    assert_int_equal(th_generate(f.e, &f.p.setup, f.prompts, n_tokens, 1, &cfg, r, NULL, &err), KV_EARG);
    assert_non_null(strstr(err.text, "stream:5 needs a buffer of at least 5"));
    kv_setup s = f.p.setup;
    s.budget = 0;
    assert_int_equal(th_generate(f.e, &s, f.prompts, n_tokens, 1, &good, r, NULL, &err), KV_EARG);
    fixture_free(&f);
}

static void a_model_cut_at_any_4_KiB_is_refused(void **st) {
    (void)st;
    scratch dir;
    char *whole, path[192];
    size_t size;
    kv_error err = {0};
    assert_int_equal(scratch_open(&dir), 0);
    assert_int_equal(kv_read_file(TINY, &whole, &size, &err), KV_OK);
    snprintf(path, sizeof path, "%s", scratch_write(&dir, "cut.gguf", whole, size));
    for (size_t n = (size - 1) / 4096 * 4096 + 4096; n > 0;) {
        n -= 4096;
        assert_int_equal(truncate(path, (off_t)n), 0);
        for (kv_numerics kind = KV_EXACT; kind <= KV_FAST; kind++) {
            kv_engine *e = NULL;
            int rc =
                kv_engine_open(&(kv_engine_options){.model_path = path, .numerics = kind, .n_threads = 1}, &e, &err);
            if (rc != KV_EFORMAT || !strstr(err.text, "cut.gguf"))
                fail_msg("%zu of %zu bytes: code %d, '%s'", n, size, rc, err.text);
        }
    }
    free(whole);
    scratch_close(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_cut_at_any_4_KiB_is_refused),
        cmocka_unit_test(logits_and_greedy_tokens_equal_those_of_transformers),
        cmocka_unit_test(evicted_slots_and_tokens_equal_those_of_a_pytorch_program),
        cmocka_unit_test(a_sequence_stops_at_the_end_of_text_the_length_limit_and_the_context),
        cmocka_unit_test(a_prompt_longer_than_the_context_fails_alone),
        cmocka_unit_test(ids_outside_the_vocabulary_and_empty_prompts_fail_alone),
        cmocka_unit_test(settings_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
