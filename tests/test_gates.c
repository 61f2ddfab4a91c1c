/* test_gates.c - retention gates: the project's own file, and small ones made here, whole and damaged. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/gates.h"
#include "engine/safetensors.h"
#include "tests/support/quantize.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/scratch.h"

#define REAL KV_SOURCE_DIR "/policies/trimkv-smollm2-135m"
#define GATE "model.layers.%d.self_attn.retention_gate.%s"

static const kv_shape smollm2 = {.n_layers = 30, .n_heads = 9, .n_kv_heads = 3, .head_dim = 64, .dim = 576};
static const kv_shape tiny = {.n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 3, .dim = 8};

enum { HIDDEN = 5 };

static void put(sw_writer *w, kv_dtype type, int layer, const char *leaf, int64_t rows, int64_t cols, float bad) {
    char name[120];
    float x[256];
    uint64_t seed = (uint64_t)layer * 7 + (uint64_t)rows * 3 + (uint64_t)cols;
    for (int i = 0; i < 256; i++) x[i] = tq_uniform(&seed);
    if (bad != 0) x[1] = bad;
    snprintf(name, sizeof name, GATE, layer, leaf);
    sw_tensor(w, name, type, cols ? 2 : 1, (int64_t[]){rows, cols}, x);
}

/* A gate file for `tiny`; layer 1's tensor `changed` gets `rows` and `cols` instead (rows 0: it is left out). */
static void write_gates(scratch *s, kv_dtype type, const char *changed, int64_t rows, int64_t cols, float bad) {
    static const struct {
        const char *leaf;
        int64_t rows, cols;
    } parts[] = {
        {"linear1.weight", HIDDEN, 8}, {"linear1.bias", HIDDEN, 0}, {"linear2.weight", 2, HIDDEN}, {"bias", 2, 0}};
    sw_writer *w = sw_new();
    assert_non_null(w);
    for (int l = 0; l < 2; l++) {
        for (int i = 0; i < 4; i++) {
            int hit = l == 1 && strcmp(parts[i].leaf, changed) == 0;
            if (!hit) put(w, type, l, parts[i].leaf, parts[i].rows, parts[i].cols, 0);
            if (hit && rows > 0) put(w, type, l, parts[i].leaf, rows, cols, bad);
        }
    }
    assert_int_equal(sw_write(w, scratch_path(s, "trimkv_weights.safetensors")), 0);
    sw_free(w);
}

static void must_refuse(const char *path, const kv_shape *shape, int code, const char *part) {
    kv_gate_file *g;
    kv_error err;
    int rc = kv_gates_open(path, shape, &g, &err);
    if (rc != code || g || !strstr(err.text, part)) fail_msg("code %d, '%s', wanted '%s'", rc, err.text, part);
}

/* memory_size and buffer_size of the config.json that belongs to a path. */
static void must_have_budget(const char *path, int budget, int buffer) {
    char weights[KV_GATES_PATH], config[KV_GATES_PATH];
    kv_gates_config c;
    kv_error err;
    assert_int_equal(kv_gates_find(path, weights, config, &err), KV_OK);
    assert_int_equal(kv_gates_read_config(config, &c, &err), KV_OK);
    assert_int_equal(c.budget, budget);
    assert_int_equal(c.buffer, buffer);
}

static void reads_the_projects_gates(void **state) {
    (void)state;
    kv_gate_file *g;
    kv_safetensors *file;
    kv_error err;
    assert_int_equal(kv_gates_open(REAL, &smollm2, &g, &err), KV_OK);
    must_have_budget(REAL, 256, 32);
    const kv_gates *v = kv_gates_view(g);
    assert_int_equal(v->type, KV_GATE_RG);
    assert_int_equal(v->n_layers, 30);
    assert_int_equal(v->n_in, 576);
    assert_int_equal(v->n_hidden, 128);
    assert_int_equal(v->n_kv_heads, 3);
    assert_int_equal(kv_safetensors_open(REAL "/trimkv_weights.safetensors", &file, &err), KV_OK);
    float *x = malloc(128 * 576 * sizeof *x);
    assert_non_null(x);
    for (int l = 0; l < 30; l++) {
        const char *const leaves[] = {"linear1.weight", "linear1.bias", "linear2.weight", "bias"};
        const float *const got[] = {v->layers[l].w1, v->layers[l].b1, v->layers[l].w2, v->layers[l].bias};
        for (int i = 0; i < 4; i++) {
            char name[120];
            snprintf(name, sizeof name, GATE, l, leaves[i]);
            const kv_st_tensor *t = kv_safetensors_find(file, name);
            kv_dequantize(t->type, t->data, x, t->bytes / 2);
            assert_memory_equal(got[i], x, t->bytes / 2 * sizeof *x);
        }
    }
    free(x);
    kv_safetensors_close(file);
    kv_gates_close(g);
}

static void takes_the_file_itself_and_finds_the_config_beside_it(void **state) {
    (void)state;
    kv_gate_file *g;
    kv_error err;
    assert_int_equal(kv_gates_open(REAL "/trimkv_weights.safetensors", &smollm2, &g, &err), KV_OK);
    must_have_budget(REAL "/trimkv_weights.safetensors", 256, 32);
    kv_gates_close(g);
}

static void names_found_and_expected_shape_for_another_model(void **state) {
    (void)state;
    kv_shape s = smollm2;
    s.dim = 512;
    must_refuse(
        REAL, &s, KV_EFORMAT,
        "gates of type rg, made for HuggingFaceTB/SmolLM2-135M-Instruct for 30 layers, inputs of 576, 3 KV heads; "
        "the model has 30, 512, 3");
    s = smollm2;
    s.n_kv_heads = 4;
    must_refuse(REAL, &s, KV_EFORMAT, "30 layers, inputs of 576, 3 KV heads; the model has 30, 576, 4");
    s = smollm2;
    s.n_layers = 31;
    must_refuse(REAL, &s, KV_EFORMAT, "for 30 layers, inputs of 576, 3 KV heads; the model has 31, 576, 3");
    s.n_layers = 29;
    must_refuse(REAL, &s, KV_EFORMAT,
                "'model.layers.29.self_attn.retention_gate.bias' does not belong to gates of type rg for 29 layers");
}

static void reads_every_float_type_without_a_config(void **state) {
    (void)state;
    static const kv_dtype types[] = {KV_F32, KV_F16, KV_BF16};
    scratch s;
    assert_int_equal(scratch_open(&s), 0);
    for (int i = 0; i < 3; i++) {
        kv_gate_file *g;
        kv_error err;
        write_gates(&s, types[i], "", 0, 0, 0);
        assert_int_equal(kv_gates_open(s.dir, &tiny, &g, &err), KV_OK);
        must_have_budget(s.dir, 0, 0);
        uint64_t seed = 7 + 2 * 3; /* layer 1's bias */
        for (int h = 0; h < 2; h++)
            assert_true(fabsf(kv_gates_view(g)->layers[1].bias[h] - tq_uniform(&seed)) <= 0x1p-8f);
        kv_gates_close(g);
    }
    scratch_close(&s);
}

static void rejects_missing_misshapen_and_extra_tensors(void **state) {
    (void)state;
    static const struct {
        const char *leaf;
        int64_t rows, cols;
        const char *part;
    } cases[] = {
        {"linear1.weight", 0, 0, "no tensor 'model.layers.1.self_attn.retention_gate.linear1.weight'"},
        {"linear1.bias", 0, 0, "no tensor 'model.layers.1.self_attn.retention_gate.linear1.bias'"},
        {"linear2.weight", 0, 0, "no tensor 'model.layers.1.self_attn.retention_gate.linear2.weight'"},
        {"bias", 0, 0, "no tensor 'model.layers.1.self_attn.retention_gate.bias'"},
        {"linear1.weight", HIDDEN + 1, 8, "has shape (6, 8), (5, 8) expected"},
        {"linear1.weight", 8, HIDDEN, "has shape (8, 5), (5, 8) expected"},
        {"linear1.bias", HIDDEN, 1, "has shape (5, 1), (5) expected"},
        {"linear2.weight", 3, HIDDEN, "has shape (3, 5), (2, 5) expected"},
        {"bias", 3, 0, "has shape (3), (2) expected"},
    };
    scratch s;
    assert_int_equal(scratch_open(&s), 0);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        write_gates(&s, KV_F32, cases[c].leaf, cases[c].rows, cases[c].cols, 0);
        must_refuse(s.dir, &tiny, KV_EFORMAT, cases[c].part);
    }
    write_gates(&s, KV_F32, "", 0, 0, 0);
    kv_shape one = tiny;
    one.n_layers = 1;
    must_refuse(s.dir, &one, KV_EFORMAT, "'model.layers.1.self_attn.retention_gate.bias' does not belong");
    must_refuse(KV_SOURCE_DIR "/policies/trimkv-smollm2-135m/adapter_model.safetensors", &tiny, KV_EFORMAT,
                "not a gate file");
    scratch_close(&s);
}

static void rejects_numbers_that_are_not_finite(void **state) {
    (void)state;
    scratch s;
    assert_int_equal(scratch_open(&s), 0);
    write_gates(&s, KV_F16, "linear2.weight", 2, HIDDEN, NAN);
    must_refuse(s.dir, &tiny, KV_ENUM, "layers.1.self_attn.retention_gate.linear2.weight' holds NaN or infinity at 1");
    write_gates(&s, KV_F32, "bias", 2, 0, -INFINITY);
    must_refuse(s.dir, &tiny, KV_ENUM, "retention_gate.bias'");
    scratch_close(&s);
}

static void refuses_mixed_and_unknown_gates(void **state) {
    (void)state;
    static const struct {
        const char *leaf[2], *part; /* of layers 0 and 1 */
    } cases[] = {
        {{"gate_proj.weight", "linear1.weight"}, "no tensor 'model.layers.0.self_attn.retention_gate.up_proj.weight'"},
        {{"linear3.weight", "gate_proj.weight"}, "no tensor 'model.layers.0.self_attn.retention_gate.linear1.weight'"},
        {{"linear9.weight", "linear9.weight"},
         "no tensor of a retention gate of type rg, rg2, rg3 or rg10 for layer 0"},
    };
    scratch s;
    assert_int_equal(scratch_open(&s), 0);
    for (int c = 0; c < 3; c++) {
        sw_writer *w = sw_new();
        int64_t cols = strcmp(cases[c].leaf[0], "gate_proj.weight") == 0 ? 12 : HIDDEN;
        for (int l = 0; l < 2; l++) put(w, KV_F32, l, cases[c].leaf[l], 2, cols, 0);
        assert_int_equal(sw_write(w, scratch_path(&s, "trimkv_weights.safetensors")), 0);
        sw_free(w);
        must_refuse(s.dir, &tiny, KV_EFORMAT, cases[c].part);
    }
    write_gates(&s, KV_F32, "linear1.weight", HIDDEN, 12, 0);
    must_refuse(s.dir, &tiny, KV_EFORMAT,
                "layers.1.self_attn.retention_gate.linear1.weight' has shape (5, 12), (5, 8)");
    sw_writer *w = sw_new();
    static const struct {
        const char *leaf;
        int64_t rows, cols;
    } parts[] = {{"gate_proj.weight", HIDDEN, 12},
                 {"up_proj.weight", HIDDEN, 12},
                 {"down_proj.weight", 2, HIDDEN},
                 {"bias", 2, 0}};
    for (int i = 0; i < 4; i++) put(w, KV_F32, 0, parts[i].leaf, parts[i].rows, parts[i].cols, 0);
    put(w, KV_F32, 1, "linear1.weight", HIDDEN, 8, 0);
    assert_int_equal(sw_write(w, scratch_path(&s, "trimkv_weights.safetensors")), 0);
    sw_free(w);
    must_refuse(s.dir, &tiny, KV_EFORMAT, "layer 1 has tensors of a gate of type rg, layer 0 those of rg3");
    scratch_close(&s);
}

static void believes_the_config_about_type_activation_and_size(void **state) {
    (void)state;
    static const struct {
        const char *config;
        int code;
        const char *part;
    } cases[] = {
        {"{\"retention_gate\":\"rg2\"}", KV_EFORMAT,
         "gates of type rg2 for 2 layers, inputs of 8, 2 KV heads; the model has 2, 12, 2"},
        {"{\"retention_gate\":\"rg10\"}", KV_EFORMAT, "those of gates of type rg, config.json says rg10"},
        {"{\"retention_gate\":\"rg7\"}", KV_EUNSUPPORTED, "gates of type rg7; rg, rg2, rg3 and rg10 are known"},
        {"{\"retention_gate\":7}", KV_EFORMAT, "'retention_gate' must be a text"},
        {"{\"hidden_act\":\"gelu\"}", KV_EUNSUPPORTED, "hidden_act is gelu"},
        {"{\"retention_gate_intermediate_size\":6}", KV_EFORMAT, "intermediate size is 5, config.json says 6"},
        {"{\"memory_size\":-1}", KV_EFORMAT, "memory_size"},
        {"{\"memory_size\":2147483647}", KV_EFORMAT, "memory_size"},
        {"{\"buffer_size\":\"8\"}", KV_EFORMAT, "buffer_size"},
        {"{\"memory_size\":", KV_EFORMAT, "config.json: not valid JSON"},
    };
    scratch s;
    assert_int_equal(scratch_open(&s), 0);
    write_gates(&s, KV_F32, "", 0, 0, 0);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        scratch_write(&s, "config.json", cases[c].config, strlen(cases[c].config));
        must_refuse(s.dir, &tiny, cases[c].code, cases[c].part);
    }
    static const char fine[] = "{\"retention_gate\":\"rg\",\"memory_size\":64,\"buffer_size\":null}";
    kv_gate_file *g;
    kv_error err;
    scratch_write(&s, "config.json", fine, sizeof fine - 1);
    assert_int_equal(kv_gates_open(s.dir, &tiny, &g, &err), KV_OK);
    must_have_budget(s.dir, 64, 0);
    kv_gates_close(g);
    scratch_close(&s);
}

static void names_the_path_that_holds_no_gates(void **state) {
    (void)state;
    scratch s;
    assert_int_equal(scratch_open(&s), 0);
    must_refuse(s.dir, &tiny, KV_ENOTFOUND, "neither trimkv_weights.safetensors nor trimkv_weights.pth");
    must_refuse("no/such/file.safetensors", &tiny, KV_ENOTFOUND, "no/such/file.safetensors");
    must_refuse(scratch_write(&s, "trimkv_weights.pth", "PK\3\4PK\3\4PK\3\4", 12), &tiny, KV_EFORMAT, ".pth");
    scratch_close(&s);
    char path[5000];
    memset(path, 'p', sizeof path);
    path[sizeof path - 1] = 0;
    must_refuse(path, &tiny, KV_ELIMIT, "too long");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_projects_gates),
        cmocka_unit_test(takes_the_file_itself_and_finds_the_config_beside_it),
        cmocka_unit_test(names_found_and_expected_shape_for_another_model),
        cmocka_unit_test(reads_every_float_type_without_a_config),
        cmocka_unit_test(rejects_missing_misshapen_and_extra_tensors),
        cmocka_unit_test(rejects_numbers_that_are_not_finite),
        cmocka_unit_test(refuses_mixed_and_unknown_gates),
        cmocka_unit_test(believes_the_config_about_type_activation_and_size),
        cmocka_unit_test(names_the_path_that_holds_no_gates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
