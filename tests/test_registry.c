/* test_registry.c - what holds for every policy's declaration, and the name:key=value notation. */
#include "policies/registry.h"

#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const kv_shape shape = {.n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 4, .dim = 3};
static const float zeros[64];
static const kv_gate_layer gate_layers[2] = {{.w1 = zeros, .b1 = zeros, .w2 = zeros, .bias = zeros},
                                             {.w1 = zeros, .b1 = zeros, .w2 = zeros, .bias = zeros}};
static const kv_gates gates = {KV_GATE_RG, 2, 3, 2, 2, gate_layers, 0};

static const char *canonical(const char *text, kv_policy_spec *spec) {
    kv_error err = {0};
    if (kv_policy_parse(text, spec, &err)) fail_msg("%s: %s", text, err.text);
    return spec->canonical;
}

/* The text must be refused with this code and an explanation that holds `part`. */
static void refused(const char *text, int code, const char *part) {
    kv_policy_spec spec;
    kv_error err = {0};
    assert_int_equal(kv_policy_parse(text, &spec, &err), code);
    assert_int_equal(err.code, code);
    if (!strstr(err.text, part)) fail_msg("'%s' gives '%s', which lacks '%s'", text, err.text, part);
    assert_int_equal(kv_policy_parse(text, &spec, NULL), code);
}

static void names_are_unique_and_found(void **st) {
    (void)st;
    int n;
    const kv_policy *const *all = kv_policy_all(&n);
    assert_true(n >= 6);
    for (int i = 0; i < n; i++) {
        assert_ptr_equal(kv_policy_find(all[i]->name), all[i]);
        for (const char *c = all[i]->name; *c; c++) assert_true(islower(*c) || isdigit(*c) || *c == '-');
        assert_true(all[i]->title[0] && all[i]->help[0] && all[i]->paper);
    }
    assert_null(kv_policy_find("nothing"));
}

static void declarations_are_complete(void **st) {
    (void)st;
    int n;
    const kv_policy *const *all = kv_policy_all(&n);
    for (int i = 0; i < n; i++) {
        const kv_policy *p = all[i];
        assert_non_null(p->open);
        assert_true(p->never_evicts || p->score);
        assert_true(p->n_stats >= 0 && p->n_stats <= KV_MAX_STATS);
        assert_int_equal(p->n_stats > 0, (p->needs & KV_NEED_OBSERVE) != 0);
        assert_int_equal(p->observe != NULL, (p->needs & KV_NEED_OBSERVE) != 0);
        assert_int_equal(p->window != NULL, (p->needs & KV_NEED_QUERIES) != 0);
    }
}

static void options_are_documented_and_defaults_in_range(void **st) {
    (void)st;
    int n;
    const kv_policy *const *all = kv_policy_all(&n);
    for (int i = 0; i < n; i++) {
        int count = 0;
        for (const kv_option *o = all[i]->options; o && o->name; o++) {
            assert_true(++count <= KV_MAX_OPTIONS);
            assert_true(o->help && o->help[0]);
            assert_true(o->min <= o->max);
            if (isnan(o->def))
                assert_non_null(strstr(o->help, "default: "));
            else
                assert_true(o->def >= o->min && o->def <= o->max);
            for (const kv_option *other = all[i]->options; other != o; other++)
                assert_string_not_equal(other->name, o->name);
        }
    }
}

static void every_policy_opens_with_defaults_and_closes(void **st) {
    (void)st;
    int n;
    const kv_policy *const *all = kv_policy_all(&n);
    for (int i = 0; i < n; i++) {
        kv_policy_spec spec;
        kv_error err = {0};
        void *state = NULL;
        assert_string_equal(canonical(all[i]->name, &spec), all[i]->name);
        kv_policy_args args = {spec.values, 8, 2, 1, &gates};
        assert_int_equal(spec.policy->open(&state, &shape, &args, &err), KV_OK);
        if (spec.policy->protect) {
            int n_sink = -1, n_recent = -1;
            spec.policy->protect(state, &n_sink, &n_recent);
            assert_true(n_sink >= 0 && n_recent >= 0);
        }
        if (spec.policy->window) assert_true(spec.policy->window(state) >= 1);
        if (spec.policy->close) spec.policy->close(state);
    }
}

static void canonical_form_is_one_per_configuration(void **st) {
    (void)st;
    kv_policy_spec spec;
    assert_string_equal(canonical("window", &spec), "window");
    assert_string_equal(canonical("window:sinks=4", &spec), "window");
    assert_string_equal(canonical("window:sinks=0", &spec), "window:sinks=0");
    assert_string_equal(canonical("window:sinks=-0", &spec), "window:sinks=0");
    assert_string_equal(canonical("window:sinks=+16.0", &spec), "window:sinks=16");
    assert_string_equal(canonical("window:sinks=1e3", &spec), "window:sinks=1000");
    assert_string_equal(canonical("h2o", &spec), "h2o");
    assert_true(isnan(spec.values[0]));
    assert_string_equal(canonical("h2o:recent=64", &spec), "h2o:recent=64");
    assert_string_equal(canonical("snapkv:pool=5:window=016", &spec), "snapkv:window=16:pool=5");
    assert_string_equal(canonical("snapkv:pool=7:window=16", &spec), "snapkv:window=16");
    assert_string_equal(canonical("trimkv:round=bf16:lookahead=4:knorm=0", &spec), "trimkv:lookahead=4:round=bf16");
    assert_string_equal(canonical("trimkv:round=fp32", &spec), "trimkv");
    assert_string_equal(canonical("random:seed=9007199254740991", &spec), "random:seed=9007199254740991");
}

static void canonical_form_parses_to_itself(void **st) {
    (void)st;
    const char *texts[] = {"full", "random:seed=123456789", "trimkv:round=bf16:knorm=1:window=3:lookahead=1048576"};
    for (int i = 0; i < 3; i++) {
        kv_policy_spec a, b;
        canonical(texts[i], &a);
        assert_string_equal(canonical(a.canonical, &b), a.canonical);
        assert_memory_equal(a.values, b.values, sizeof a.values);
    }
}

static void unknown_policy_suggests_the_nearest_and_lists_all(void **st) {
    (void)st;
    refused("trimvk", KV_ENOTFOUND, "did you mean 'trimkv'");
    refused("H2O", KV_ENOTFOUND, "did you mean 'h2o'");
    refused("windw:sinks=4", KV_ENOTFOUND, "did you mean 'window'");
    refused("", KV_ENOTFOUND, "full, window, random, h2o, snapkv, trimkv");
    refused(" full", KV_ENOTFOUND, "did you mean 'full'");
}

static void unknown_key_suggests_the_nearest(void **st) {
    (void)st;
    refused("window:sink=4", KV_EARG, "did you mean 'sinks'");
    refused("snapkv:w=4", KV_EARG, "It has: window, pool");
    refused("full:budget=4", KV_EARG, "takes no parameters");
}

static void malformed_parameters_are_refused(void **st) {
    (void)st;
    refused("h2o:", KV_EARG, "key=value");
    refused("h2o:recent", KV_EARG, "key=value");
    refused("h2o::recent=4", KV_EARG, "key=value");
    refused("h2o:recent=4:recent=4", KV_EARG, "twice");
    refused("h2o:recent=", KV_EARG, "not a number");
    const char *garbage[] = {"nan", "NAN", "inf", "-inf", "infinity", "0x10", "1e999",  "4x",  "4 ", " 4", "4,5",
                             "--4", "1e",  "e",   ".",    "4=4",      "4;",   "nan(4)", "1e+", "+",  "-"};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        char text[64] = "h2o:recent=";
        refused(strcat(text, garbage[i]), KV_EARG, "not a number");
    }
    refused("h2o:recent=1.5", KV_EARG, "whole number");
    refused("h2o:recent=-1", KV_EARG, "out of range");
    refused("h2o:recent=1e7", KV_EARG, "from 0 to 1048576");
    refused("snapkv:window=0", KV_EARG, "out of range");
    refused("trimkv:round=fp16", KV_EARG, "fp32|bf16");
    refused("trimkv:round=", KV_EARG, "fp32|bf16");
    refused("trimkv:round=fp32|bf16", KV_EARG, "fp32|bf16");
}

static void overlong_words_are_refused(void **st) {
    (void)st;
    char text[4096];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    refused(text, KV_EARG, "too long");
    memcpy(text, "h2o:recent=", 11);
    refused(text, KV_EARG, "too long");
    text[63] = '\0';
    memset(text, 'a', 63);
    refused(text, KV_ENOTFOUND, "did you mean");
}

static int open_error(const char *text, const kv_gates *g, kv_error *err) {
    kv_policy_spec spec;
    void *state = NULL;
    canonical(text, &spec);
    kv_policy_args args = {spec.values, 8, 2, 1, g};
    return spec.policy->open(&state, &shape, &args, err);
}

static void snapkv_needs_an_odd_pool(void **st) {
    (void)st;
    kv_error err = {0};
    assert_int_equal(open_error("snapkv:pool=6", NULL, &err), KV_EARG);
    assert_non_null(strstr(err.text, "use 5 or 7"));
}

static void trimkv_checks_its_gates(void **st) {
    (void)st;
    kv_error err = {0};
    assert_int_equal(open_error("trimkv", NULL, &err), KV_EARG);
    assert_non_null(strstr(err.text, "--gates"));
    kv_gates other = gates;
    other.n_kv_heads = 3;
    assert_int_equal(open_error("trimkv", &other, &err), KV_EARG);
    assert_non_null(strstr(err.text, "3 KV heads"));
    other = gates;
    other.n_hidden = KV_MIN_SCRATCH;
    assert_int_equal(open_error("trimkv", &other, &err), KV_EUNSUPPORTED);
    other = gates;
    other.type = KV_GATE_RG2; /* whose input is K and V */
    assert_int_equal(open_error("trimkv", &other, &err), KV_EARG);
    assert_non_null(
        strstr(err.text, "the gates (rg2) are for 2 layers, inputs of 3, 2 KV heads, but the model has 2, 16, 2"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_unique_and_found),
        cmocka_unit_test(declarations_are_complete),
        cmocka_unit_test(options_are_documented_and_defaults_in_range),
        cmocka_unit_test(every_policy_opens_with_defaults_and_closes),
        cmocka_unit_test(canonical_form_is_one_per_configuration),
        cmocka_unit_test(canonical_form_parses_to_itself),
        cmocka_unit_test(unknown_policy_suggests_the_nearest_and_lists_all),
        cmocka_unit_test(unknown_key_suggests_the_nearest),
        cmocka_unit_test(malformed_parameters_are_refused),
        cmocka_unit_test(overlong_words_are_refused),
        cmocka_unit_test(snapkv_needs_an_odd_pool),
        cmocka_unit_test(trimkv_checks_its_gates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
