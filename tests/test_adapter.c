/* test_adapter.c - PEFT adapters: the project's own one against a double-precision merge, small ones made here for
 * the scale, the shapes and every configuration that must be refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/adapter.h"
#include "engine/safetensors.h"
#include "tests/support/quantize.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/scratch.h"

#define REAL KV_SOURCE_DIR "/policies/trimkv-smollm2-135m"
#define PREFIX "base_model.model.model.layers."

enum { RANK = 4, N_IN = 5, N_OUT = 3, N_MODULES = 7 };

static const char *const modules[N_MODULES] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                               "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                               "mlp.down_proj"};

static const char plain[] =
    "{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"bias\":\"none\",\"init_lora_weights\":\"gaussian\"}";

static void fill(float *x, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++) x[i] = tq_uniform(&seed);
}

/* One adapted map in layer 1; `b_rows` and `a_cols` may be wrong on purpose. */
static void write_small(scratch *s, const char *config, const char *map, int64_t b_rows, int64_t a_cols, int with_b) {
    float x[64];
    char name[160];
    sw_writer *w = sw_new();
    assert_non_null(w);
    fill(x, 64, 1);
    snprintf(name, sizeof name, PREFIX "%s.lora_A.weight", map);
    sw_tensor(w, name, KV_F32, 2, (int64_t[]){RANK, a_cols}, x);
    fill(x, 64, 2);
    snprintf(name, sizeof name, PREFIX "%s.lora_B.weight", map);
    if (with_b) sw_tensor(w, name, KV_BF16, 2, (int64_t[]){b_rows, RANK}, x);
    assert_int_equal(sw_write(w, scratch_path(s, "adapter_model.safetensors")), 0);
    sw_free(w);
    assert_non_null(scratch_write(s, "adapter_config.json", config, strlen(config)));
}

/* The whole map at once. */
static int merge(const kv_adapter *a, int layer, const char *module, float *w, int n_out, int n_in, kv_error *err) {
    kv_lora l;
    int rc = kv_adapter_lora(a, layer, module, n_out, n_in, &l, err);
    if (rc == KV_OK && l.a) kv_lora_merge(&l, w, 0, n_out);
    kv_lora_free(&l);
    return rc;
}

static void merges_the_projects_adapter_like_a_double_precision_sum(void **state) {
    (void)state;
    static const struct {
        const char *module;
        int n_out, n_in;
    } maps[] = {{"self_attn.q_proj", 576, 576}, {"self_attn.k_proj", 192, 576}, {"self_attn.v_proj", 192, 576},
                {"self_attn.o_proj", 576, 576}, {"mlp.gate_proj", 1536, 576},   {"mlp.up_proj", 1536, 576},
                {"mlp.down_proj", 576, 1536}};
    enum { R = 16, MOST = 1536 * 576 };
    kv_adapter *a;
    kv_safetensors *file;
    kv_error err;
    float *w = malloc(MOST * sizeof *w), *fa = malloc(R * 1536 * sizeof *fa), *fb = malloc(R * 1536 * sizeof *fb);
    assert_true(w && fa && fb);
    assert_int_equal(kv_adapter_open(REAL, &a, &err), KV_OK);
    assert_int_equal(kv_adapter_check(a, 30, modules, N_MODULES, &err), KV_OK);
    assert_int_equal(kv_safetensors_open(REAL "/adapter_model.safetensors", &file, &err), KV_OK);
    for (size_t m = 0; m < sizeof maps / sizeof *maps; m++) {
        size_t n_out = (size_t)maps[m].n_out, n_in = (size_t)maps[m].n_in;
        char name[160];
        snprintf(name, sizeof name, PREFIX "29.%s.lora_A.weight", maps[m].module);
        const kv_st_tensor *ta = kv_safetensors_find(file, name);
        kv_dequantize(ta->type, ta->data, fa, R * n_in);
        snprintf(name, sizeof name, PREFIX "29.%s.lora_B.weight", maps[m].module);
        const kv_st_tensor *tb = kv_safetensors_find(file, name);
        kv_dequantize(tb->type, tb->data, fb, R * n_out);
        fill(w, n_out * n_in, m + 1);
        assert_int_equal(merge(a, 29, maps[m].module, w, maps[m].n_out, maps[m].n_in, &err), KV_OK);
        uint64_t seed = m + 1;
        double moved = 0;
        for (size_t o = 0; o < n_out; o++) {
            for (size_t i = 0; i < n_in; i++) {
                double sum = 0, size = 1;
                for (size_t r = 0; r < R; r++) {
                    double term = (double)fb[o * R + r] * fa[r * n_in + i];
                    sum += term;
                    size += fabs(term);
                }
                double want = tq_uniform(&seed) + 2 * sum;
                if (!(fabs(w[o * n_in + i] - want) <= 1e-6 * size)) fail_msg("%s (%zu, %zu)", maps[m].module, o, i);
                moved += fabs(sum);
            }
        }
        assert_true(moved > 0);
    }
    kv_safetensors_close(file);
    kv_adapter_close(a);
    free(w);
    free(fa);
    free(fb);
}

static void leaves_maps_without_an_adapter_alone(void **state) {
    (void)state;
    kv_adapter *a;
    kv_error err;
    float w[4] = {1, 2, 3, 4};
    assert_int_equal(kv_adapter_open(REAL, &a, &err), KV_OK);
    assert_int_equal(merge(a, 30, "mlp.up_proj", w, 2, 2, &err), KV_OK);
    assert_int_equal(merge(a, 0, "mlp.other", w, 2, 2, &err), KV_OK);
    assert_memory_equal(w, ((float[]){1, 2, 3, 4}), sizeof w);
    char longest[300];
    memset(longest, 'm', sizeof longest);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(merge(a, 0, longest, w, 2, 2, &err), KV_EARG);
    kv_adapter_close(a);
}

static void names_both_shapes_when_the_model_is_another_one(void **state) {
    (void)state;
    kv_adapter *a;
    kv_error err;
    float w[4];
    assert_int_equal(kv_adapter_open(REAL, &a, &err), KV_OK);
    assert_int_equal(merge(a, 3, "mlp.up_proj", w, 1536, 512, &err), KV_EFORMAT);
    assert_non_null(strstr(err.text, "layers.3.mlp.up_proj.lora_A.weight' has shape (16, 576), (16, 512) expected"));
    assert_int_equal(merge(a, 3, "mlp.up_proj", w, 1535, 576, &err), KV_EFORMAT);
    assert_non_null(strstr(err.text, "lora_B.weight' has shape (1536, 16), (1535, 16) expected"));
    assert_int_equal(kv_adapter_check(a, 29, modules, N_MODULES, &err), KV_EFORMAT);
    assert_non_null(strstr(err.text, "is for layer 29, the model has 29"));
    kv_adapter_close(a);
}

static void scales_by_alpha_over_rank_or_its_root(void **state) {
    (void)state;
    static const struct {
        const char *config;
        double scale;
    } cases[] = {
        {plain, 2},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"use_rslora\":true}", 4},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":1,\"use_rslora\":false}", 0.25},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":-0.5,\"modules_to_save\":[],\"rank_pattern\":{}}", -0.125},
    };
    float a[RANK * N_IN], b[N_OUT * RANK];
    unsigned char half[2 * N_OUT * RANK];
    fill(a, RANK * N_IN, 1);
    fill(b, N_OUT * RANK, 2);
    tq_quantize(KV_BF16, b, half, N_OUT * RANK);
    kv_dequantize(KV_BF16, half, b, N_OUT * RANK);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        scratch s;
        kv_adapter *ad;
        kv_error err;
        assert_int_equal(scratch_open(&s), 0);
        write_small(&s, cases[c].config, "1.self_attn.k_proj", N_OUT, N_IN, 1);
        assert_int_equal(kv_adapter_open(s.dir, &ad, &err), KV_OK);
        float w[N_OUT * N_IN] = {0};
        assert_int_equal(merge(ad, 1, "self_attn.k_proj", w, N_OUT, N_IN, &err), KV_OK);
        for (int o = 0; o < N_OUT; o++) {
            for (int i = 0; i < N_IN; i++) {
                double sum = 0;
                for (int r = 0; r < RANK; r++) sum += (double)b[o * RANK + r] * a[r * N_IN + i];
                assert_true(fabs(w[o * N_IN + i] - cases[c].scale * sum) < 2e-6);
            }
        }
        kv_adapter_close(ad);
        scratch_close(&s);
    }
}

static void refuses_configurations_that_are_not_plain_lora(void **state) {
    (void)state;
    static const struct {
        const char *config;
        int code;
        const char *part;
    } cases[] = {
        {"", KV_EFORMAT, "not valid JSON"},
        {"[]", KV_EFORMAT, "one JSON object"},
        {"{}", KV_EUNSUPPORTED, "peft_type"},
        {"{\"peft_type\":\"IA3\"}", KV_EUNSUPPORTED, "peft_type"},
        {"{\"peft_type\":\"LORA\"}", KV_EFORMAT, "no rank 'r'"},
        {"{\"peft_type\":\"LORA\",\"r\":0,\"lora_alpha\":1}", KV_EFORMAT, "'r'"},
        {"{\"peft_type\":\"LORA\",\"r\":2.5,\"lora_alpha\":1}", KV_EFORMAT, "'r'"},
        {"{\"peft_type\":\"LORA\",\"r\":\"4\",\"lora_alpha\":1}", KV_EFORMAT, "'r'"},
        {"{\"peft_type\":\"LORA\",\"r\":1e12,\"lora_alpha\":1}", KV_EFORMAT, "'r'"},
        {"{\"peft_type\":\"LORA\",\"r\":4}", KV_EFORMAT, "'lora_alpha'"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":1e999}", KV_EFORMAT, "'lora_alpha'"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"bias\":\"all\"}", KV_EUNSUPPORTED, "bias"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"use_dora\":true}", KV_EUNSUPPORTED, "use_dora"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"fan_in_fan_out\":true}", KV_EUNSUPPORTED, "fan_in"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"rank_pattern\":{\"q_proj\":8}}", KV_EUNSUPPORTED,
         "rank_pattern"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"modules_to_save\":[\"lm_head\"]}", KV_EUNSUPPORTED,
         "modules_to_save"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"init_lora_weights\":\"pissa_niter_4\"}", KV_EUNSUPPORTED,
         "init_lora_weights = pissa_niter_4"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"init_lora_weights\":\"olora\"}", KV_EUNSUPPORTED,
         "init_lora_weights = olora"},
    };
    scratch s;
    assert_int_equal(scratch_open(&s), 0);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        kv_adapter *a;
        kv_error err;
        write_small(&s, cases[c].config, "1.mlp.up_proj", N_OUT, N_IN, 1);
        int rc = kv_adapter_open(s.dir, &a, &err);
        if (rc != cases[c].code || a || !strstr(err.text, cases[c].part) || !strstr(err.text, "adapter_config.json"))
            fail_msg("%s: code %d, '%s'", cases[c].config, rc, err.text);
    }
    scratch_close(&s);
}

static void refuses_tensors_that_no_linear_map_can_take(void **state) {
    (void)state;
    static const struct {
        const char *map;
        int code;
    } cases[] = {{"1.mlp.up_proj", KV_OK},
                 {"0.self_attn.o_proj", KV_OK},
                 {"2.mlp.up_proj", KV_EFORMAT},
                 {"1.mlp.qkv_proj", KV_EUNSUPPORTED},
                 {"1.up_proj", KV_EUNSUPPORTED},
                 {"01.mlp.up_proj", KV_EUNSUPPORTED},
                 {"x.mlp.up_proj", KV_EUNSUPPORTED},
                 {"1", KV_EUNSUPPORTED},
                 {"", KV_EUNSUPPORTED},
                 {"99999999999.mlp.up_proj", KV_EUNSUPPORTED},
                 {"-1.mlp.up_proj", KV_EUNSUPPORTED}};
    scratch s;
    assert_int_equal(scratch_open(&s), 0);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        kv_adapter *a;
        kv_error err;
        write_small(&s, plain, cases[c].map, N_OUT, N_IN, 1);
        assert_int_equal(kv_adapter_open(s.dir, &a, &err), KV_OK);
        if (kv_adapter_check(a, 2, modules, N_MODULES, &err) != cases[c].code)
            fail_msg("'%s': %s", cases[c].map, err.text);
        kv_adapter_close(a);
    }
    scratch_close(&s);
}

static void refuses_half_an_adapter(void **state) {
    (void)state;
    scratch s;
    kv_adapter *a;
    kv_error err;
    float w[N_OUT * N_IN] = {0};
    assert_int_equal(scratch_open(&s), 0);
    write_small(&s, plain, "1.mlp.up_proj", N_OUT, N_IN, 0);
    assert_int_equal(kv_adapter_open(s.dir, &a, &err), KV_OK);
    assert_int_equal(merge(a, 1, "mlp.up_proj", w, N_OUT, N_IN, &err), KV_EFORMAT);
    assert_non_null(strstr(err.text, "no tensor '" PREFIX "1.mlp.up_proj.lora_B.weight'"));
    kv_adapter_close(a);
    scratch_close(&s);
}

static void names_the_missing_file(void **state) {
    (void)state;
    scratch s;
    kv_adapter *a;
    kv_error err;
    assert_int_equal(kv_adapter_open("no/such/folder", &a, &err), KV_ENOTFOUND);
    assert_non_null(strstr(err.text, "no/such/folder/adapter_config.json"));
    assert_int_equal(scratch_open(&s), 0);
    scratch_write(&s, "adapter_config.json", plain, strlen(plain));
    assert_int_equal(kv_adapter_open(s.dir, &a, &err), KV_ENOTFOUND);
    assert_non_null(strstr(err.text, "adapter_model.safetensors"));
    scratch_write(&s, "adapter_model.safetensors", plain, strlen(plain));
    assert_int_equal(kv_adapter_open(s.dir, &a, &err), KV_EFORMAT);
    scratch_close(&s);
    char path[5000];
    memset(path, 'p', sizeof path);
    path[sizeof path - 1] = 0;
    assert_int_equal(kv_adapter_open(path, &a, &err), KV_ELIMIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_the_projects_adapter_like_a_double_precision_sum),
        cmocka_unit_test(leaves_maps_without_an_adapter_alone),
        cmocka_unit_test(names_both_shapes_when_the_model_is_another_one),
        cmocka_unit_test(scales_by_alpha_over_rank_or_its_root),
        cmocka_unit_test(refuses_configurations_that_are_not_plain_lora),
        cmocka_unit_test(refuses_tensors_that_no_linear_map_can_take),
        cmocka_unit_test(refuses_half_an_adapter),
        cmocka_unit_test(names_the_missing_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
