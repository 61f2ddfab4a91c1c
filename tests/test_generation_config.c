/* test_generation_config.c - what a checkpoint recommends, and how --sampling and its options go together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "bench/sampling.h"
#include "engine/generation.h"
#include "tests/support/scratch.h"

static const char qwen[] = "{\"bos_token_id\":151643,\"do_sample\":true,\"eos_token_id\":[151645,151643],"
                           "\"temperature\":0.6,\"top_k\":20,\"top_p\":0.95,\"transformers_version\":\"4.51.0\"}";

static void expect_sampling(kv_sampling s, double temperature, double top_p, int top_k, double min_p) {
    assert_true(s.temperature == (float)temperature);
    assert_true(s.top_p == (float)top_p);
    assert_int_equal(s.top_k, top_k);
    assert_true(s.min_p == (float)min_p);
    assert_true(s.seed == 0);
}

static kv_sampling sampling_of(const char *json) {
    kv_generation g = kv_generation_none();
    kv_error err = {0};
    if (kv_generation_parse(json, strlen(json), "g.json", &g, &err)) fail_msg("%s", err.text);
    return kv_sampling_recommended(&g);
}

static void reads_what_transformers_would_do(void **state) {
    (void)state;
    expect_sampling(sampling_of(qwen), 0.6, 0.95, 20, 0);
    expect_sampling(sampling_of("{\"do_sample\":true,\"min_p\":0.05}"), 1, 1, 50, 0.05);
    expect_sampling(sampling_of("{\"do_sample\":true,\"top_k\":0,\"temperature\":null}"), 1, 1, 0, 0);
    expect_sampling(sampling_of("{\"temperature\":0.6}"), 0, 1, 0, 0); /* greedy unless the file says otherwise */
    expect_sampling(sampling_of("{\"do_sample\":false,\"temperature\":0.6}"), 0, 1, 0, 0);
    expect_sampling(sampling_of("{\"do_sample\":null}"), 0, 1, 0, 0);
}

static void refuses_values_of_the_wrong_kind(void **state) {
    (void)state;
    static const struct {
        const char *json, *key;
    } cases[] = {{"{\"do_sample\":1}", "do_sample"},
                 {"{\"temperature\":\"0.6\"}", "temperature"},
                 {"{\"temperature\":-1}", "temperature"},
                 {"{\"temperature\":1e9}", "temperature"},
                 {"{\"top_p\":1.01}", "top_p"},
                 {"{\"min_p\":[0]}", "min_p"},
                 {"{\"top_k\":2.5}", "top_k"},
                 {"{\"top_k\":-2}", "top_k"},
                 {"{\"top_k\":99999999999}", "top_k"},
                 {"{\"eos_token_id\":\"2\"}", "eos_token_id"},
                 {"{\"eos_token_id\":[2,-1]}", "eos_token_id"},
                 {"{\"eos_token_id\":99999999}", "eos_token_id"},
                 {"[]", "g.json"},
                 {"{\"top_k\":20", "g.json"},
                 {"", "g.json"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_generation g = kv_generation_none();
        kv_error err = {0};
        if (kv_generation_parse(cases[i].json, strlen(cases[i].json), "g.json", &g, &err) != KV_EFORMAT)
            fail_msg("%s was taken", cases[i].json);
        if (!strstr(err.text, cases[i].key))
            fail_msg("%s: '%s' does not name %s", cases[i].json, err.text, cases[i].key);
    }
}

static void survives_every_truncation(void **state) {
    (void)state;
    for (size_t n = 0; n < sizeof qwen - 1; n++) {
        kv_generation g = kv_generation_none();
        kv_error err = {0};
        assert_int_equal(kv_generation_parse(qwen, n, "g.json", &g, &err), KV_EFORMAT);
        assert_true(err.text[0] != 0);
    }
}

/* ---- --sampling ---------------------------------------------------------------------------------------------------
 */

/* Words are separated by single blanks; returns kv_sampling_choose's code. */
static int choose(const char *line, const char *model, kv_sampling *out, kv_error *err) {
    char text[256], *argv[16];
    int argc = 0;
    kv_opts o;
    kv_identity id = {0};
    snprintf(text, sizeof text, "%s", line);
    for (char *p = strtok(text, " "); p; p = strtok(NULL, " ")) argv[argc++] = p;
    snprintf(id.model_path, sizeof id.model_path, "%s", model);
    if (kv_opts_parse(KV_CMD_RUN, argc, argv, &o, err)) fail_msg("%s", err->text);
    int rc = kv_sampling_choose(&o, &id, out, err);
    kv_opts_free(&o);
    return rc;
}

static void options_decide_what_is_sampled(void **state) {
    (void)state;
    static const struct {
        const char *line;
        double temperature, top_p;
        int top_k;
        double min_p;
    } cases[] = {{"", 0, 1, 0, 0},
                 {"--sampling greedy", 0, 1, 0, 0},
                 {"--sampling custom", 1, 1, 0, 0},
                 {"--temperature 0.7 --top-k 5", 0.7, 1, 5, 0},
                 {"--top-p 0.9", 1, 0.9, 0, 0},
                 {"--temperature 0", 0, 1, 0, 0},
                 {"--sampling custom --min-p 0.1 --temperature 2", 2, 1, 0, 0.1},
                 {"--sampling model", 0.6, 0.95, 20, 0},
                 {"--sampling model --top-k 0 --temperature 1", 1, 0.95, 0, 0}};
    char model[256], folder[256];
    kv_sampling s;
    kv_error err = {0};
    assert_non_null(scratch_write(&scratch_dir, "generation_config.json", qwen, sizeof qwen - 1));
    snprintf(model, sizeof model, "%s", scratch_path(&scratch_dir, "m.gguf"));
    snprintf(folder, sizeof folder, "%s", scratch_dir.dir);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (choose(cases[i].line, model, &s, &err)) fail_msg("%s: %s", cases[i].line, err.text);
        expect_sampling(s, cases[i].temperature, cases[i].top_p, cases[i].top_k, cases[i].min_p);
    }
    assert_int_equal(choose("--sampling model", folder, &s, &err), KV_OK); /* a checkpoint's folder */
    expect_sampling(s, 0.6, 0.95, 20, 0);
}

static void says_what_contradicts_or_is_missing(void **state) {
    (void)state;
    kv_sampling s;
    kv_error err = {0};
    assert_int_equal(choose("--sampling greedy --min-p 0.1", "m.gguf", &s, &err), KV_EARG);
    assert_non_null(strstr(err.text, "--min-p"));
    assert_int_equal(choose("--sampling model", "/nowhere/m.gguf", &s, &err), KV_EARG);
    assert_non_null(strstr(err.text, "/nowhere/generation_config.json"));
    assert_int_equal(choose("--sampling model", "m.gguf", &s, &err), KV_EARG);
    assert_non_null(strstr(err.text, "model: generation_config.json"));
    scratch_write(&scratch_dir, "generation_config.json", "{\"top_p\":2}", 11);
    assert_int_equal(choose("--sampling model", scratch_path(&scratch_dir, "m.gguf"), &s, &err), KV_EFORMAT);
    assert_non_null(strstr(err.text, "top_p"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_transformers_would_do),    cmocka_unit_test(refuses_values_of_the_wrong_kind),
        cmocka_unit_test(survives_every_truncation),           cmocka_unit_test(options_decide_what_is_sampled),
        cmocka_unit_test(says_what_contradicts_or_is_missing),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
