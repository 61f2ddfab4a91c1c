/* test_gates_types.c - worked examples of every published gate type, and how each is recognised in a file. */
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
#include "policies/gate.h"
#include "tests/support/mini_cache.h"
#include "tests/support/quantize.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/scratch.h"

/* Three inputs, two hidden units, two KV heads. */
static const float w1[6] = {.2f, -.4f, .1f, .3f, .5f, -.2f}, b1[2] = {.1f, -.1f}, w2[4] = {1, -2, .5f, 1.5f},
                   bias[2] = {8, 4}, up[6] = {.1f, .2f, .3f, -.3f, .2f, .1f}, mid[4] = {.7f, -.3f, .4f, .6f},
                   mid_b[2] = {.05f, -.2f}, w3[4] = {1, -1, 2, .5f};
static const float x[6] = {.5f, -1, 2, 1.25f, .75f, -.5f}; /* two rows */

static const kv_gate_layer rg = {.w1 = w1, .b1 = b1, .w2 = w2, .bias = bias};
static const kv_gate_layer rg10 = {.w1 = w1, .b1 = b1, .w2 = w3, .bias = bias, .mid = mid, .mid_b = mid_b};

/* lb (n_rows, 2) from hidden (n_rows, 3) or from K and V (n_rows, 2, head_dim). */
static void observe(const kv_gates *g, int head_dim, int bf16, const float *hidden, const float *k, const float *v,
                    int n_rows, size_t n_scratch, float *lb) {
    float *scratch = malloc(n_scratch * sizeof *scratch);
    assert_non_null(scratch);
    kv_services sv = {.linear = kv_mini_linear, .scratch = scratch, .n_scratch = n_scratch};
    kv_observe_args a = {.n_rows = n_rows, .hidden = hidden, .k = k, .v = v, .stats = lb};
    kv_gate_observe(g, head_dim, bf16, &sv, &a, 1, 0);
    free(scratch);
}

static void assert_near(const float *got, const double *want, int n, double eps) {
    for (int i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= eps)) fail_msg("value %d is %.9g, not %.9g", i, got[i], want[i]);
}

static void rg_and_rg10_look_at_the_hidden_state(void **st) {
    (void)st;
    const kv_gates one = {KV_GATE_RG, 1, 3, 2, 2, &rg, 0}, ten = {KV_GATE_RG10, 1, 3, 2, 2, &rg10, 0};
    float lb[2];
    observe(&one, 2, 0, x, NULL, NULL, 1, KV_MIN_SCRATCH, lb);
    assert_near(lb, (double[]){-.000116, -.020155}, 2, 1e-6);
    observe(&ten, 2, 0, x, NULL, NULL, 1, KV_MIN_SCRATCH, lb);
    assert_near(lb, (double[]){-.000229, -.009897}, 2, 1e-6);
}

/* The example has inputs of 3, keys and values together an even number: a fourth one with weights of zero. */
static void rg3_multiplies_two_maps(void **st) {
    (void)st;
    const float wide1[8] = {.2f, -.4f, .1f, 0, .3f, .5f, -.2f, 0}, wide_up[8] = {.1f, .2f, .3f, 0, -.3f, .2f, .1f, 0};
    const float k[2] = {.5f, 2}, v[2] = {-1, 100}; /* heads of size 1: x = k_0 v_0 k_1 v_1 */
    const kv_gate_layer layer = {.w1 = wide1, .w2 = w2, .bias = bias, .up = wide_up};
    const kv_gates g = {KV_GATE_RG3, 1, 4, 2, 2, &layer, 0};
    float lb[2];
    observe(&g, 1, 0, NULL, k, v, 1, KV_MIN_SCRATCH, lb);
    assert_near(lb, (double[]){-.000292, -.015497}, 2, 1e-6);
}

/* Every hidden unit of this gate sees one input, and its weight tells which. */
static void rg2_reads_keys_and_values_head_by_head(void **st) {
    (void)st;
    static const double order[8] = {1, 2, 5, 6, 3, 4, 7, 8};
    const float k[4] = {1, 2, 3, 4}, v[4] = {5, 6, 7, 8};
    float unit[64] = {0}, none[8] = {0}, last[16];
    double want[2] = {0, 0};
    for (int i = 0; i < 8; i++) {
        unit[i * 9] = 1;
        last[i] = -0.01f * (float)(i + 1);
        last[8 + i] = 0.003f * (float)(i * i + 1);
        for (int h = 0; h < 2; h++) want[h] += (double)last[h * 8 + i] * order[i] / (1 + exp(-order[i]));
    }
    for (int h = 0; h < 2; h++) want[h] = -log1p(exp(-want[h]));
    const kv_gate_layer layer = {.w1 = unit, .b1 = none, .w2 = last, .bias = none};
    const kv_gates g = {KV_GATE_RG2, 1, 8, 8, 2, &layer, 0};
    float lb[2];
    observe(&g, 2, 0, NULL, k, v, 1, KV_MIN_SCRATCH, lb);
    assert_near(lb, want, 2, 1e-6);
}

/* 8 significant bits, ties to even. */
static float to_bf16(float f) {
    int e;
    float m = frexpf(f, &e);
    return ldexpf(nearbyintf(ldexpf(m, 8)), e - 8);
}

/* Expected values: the same gates in PyTorch, bfloat16. */
static void every_type_rounds_to_bf16_like_the_reference(void **st) {
    (void)st;
    float r[8][6], inputs[8] = {0}, wide1[8] = {0}, wide_up[8] = {0}, lb[4];
    const float *const from[8] = {w1, b1, w2, up, mid, mid_b, w3, bias};
    static const int n[8] = {6, 2, 4, 6, 4, 2, 4, 2};
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < n[i]; j++) r[i][j] = to_bf16(from[i][j]);
    const kv_gate_layer ten = {.w1 = r[0], .b1 = r[1], .w2 = r[6], .bias = r[7], .mid = r[4], .mid_b = r[5]};
    const kv_gates g10 = {KV_GATE_RG10, 1, 3, 2, 2, &ten, 0};
    observe(&g10, 2, 1, x, NULL, NULL, 2, KV_MIN_SCRATCH, lb);
    assert_near(lb, (double[]){-.00023078918457, -.009765625, -.000368118286133, -.019287109375}, 4, 1e-9);
    for (int i = 0; i < 6; i++) {
        wide1[i / 3 * 4 + i % 3] = r[0][i];
        wide_up[i / 3 * 4 + i % 3] = r[3][i];
    }
    for (int row = 0; row < 2; row++) { /* k_0 v_0 k_1 v_1 */
        inputs[row * 2] = x[row * 3];
        inputs[4 + row * 2] = x[row * 3 + 1];
        inputs[row * 2 + 1] = x[row * 3 + 2];
    }
    const kv_gate_layer three = {.w1 = wide1, .w2 = r[2], .bias = r[7], .up = wide_up};
    const kv_gates g3 = {KV_GATE_RG3, 1, 4, 2, 2, &three, 0};
    observe(&g3, 1, 1, NULL, inputs, inputs + 4, 2, KV_MIN_SCRATCH, lb);
    assert_near(lb, (double[]){-.000295639038086, -.0155639648438, -.000246047973633, -.023193359375}, 4, 1e-9);
}

static void no_type_depends_on_how_rows_are_cut(void **st) {
    (void)st;
    float many[28], k[14 * 2], v[14 * 2], whole[14], cut[14];
    const float four[8] = {.2f, -.4f, .1f, .3f, .3f, .5f, -.2f, -.1f};
    const kv_gate_layer two = {.w1 = four, .b1 = b1, .w2 = w2, .bias = bias},
                        three = {.w1 = four, .w2 = w2, .bias = bias, .up = four};
    const kv_gates gates[4] = {{KV_GATE_RG, 1, 3, 2, 2, &rg, 0},
                               {KV_GATE_RG2, 1, 4, 2, 2, &two, 0},
                               {KV_GATE_RG3, 1, 4, 2, 2, &three, 0},
                               {KV_GATE_RG10, 1, 3, 2, 2, &rg10, 0}};
    for (int i = 0; i < 28; i++) {
        many[i] = (float)((i * 37 % 23) - 11) / 7;
        k[i] = (float)((i * 29 % 19) - 9) / 5;
        v[i] = (float)((i * 31 % 17) - 8) / 6;
    }
    for (int t = 0; t < 4; t++) {
        observe(&gates[t], 1, 0, many, k, v, 7, KV_MIN_SCRATCH, whole);
        for (size_t n_scratch = 10; n_scratch <= 40; n_scratch += 10) {
            memset(cut, 0, sizeof cut);
            observe(&gates[t], 1, 0, many, k, v, 7, n_scratch, cut);
            assert_memory_equal(whole, cut, sizeof whole);
        }
    }
}

/* ---- files ---- */

typedef struct named {
    const char *leaf;
    int64_t rows, cols;
} named;

static void write_file(scratch *s, const named *parts, int n_parts, const char *config) {
    sw_writer *w = sw_new();
    char name[120];
    float values[256];
    uint64_t seed = 3;
    for (int i = 0; i < 256; i++) values[i] = tq_uniform(&seed);
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < n_parts; i++) {
            snprintf(name, sizeof name, "model.layers.%d.self_attn.retention_gate.%s", l, parts[i].leaf);
            sw_tensor(w, name, KV_F32, parts[i].cols ? 2 : 1, (int64_t[]){parts[i].rows, parts[i].cols}, values);
        }
    assert_int_equal(sw_write(w, scratch_path(s, "trimkv_weights.safetensors")), 0);
    sw_free(w);
    scratch_write(s, "config.json", config, strlen(config));
}

static void must_be(const scratch *s, const kv_shape *shape, kv_gate_type type, int n_in) {
    kv_gate_file *g;
    kv_error err = {0};
    if (kv_gates_open(s->dir, shape, &g, &err)) fail_msg("%s", err.text);
    const kv_gates *v = kv_gates_view(g);
    assert_int_equal(v->type, type);
    assert_int_equal(v->n_in, n_in);
    assert_int_equal(v->n_hidden, 5);
    for (int l = 0; l < 2; l++) {
        const kv_gate_layer *w = &v->layers[l];
        assert_true(w->w1 && w->w2 && w->bias);
        assert_int_equal(w->b1 == NULL, type == KV_GATE_RG3);
        assert_int_equal(w->up != NULL, type == KV_GATE_RG3);
        assert_int_equal(w->mid != NULL && w->mid_b != NULL, type == KV_GATE_RG10);
    }
    kv_gates_close(g);
}

static const kv_shape tiny = {.n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 3, .dim = 8};
static const named file_rg2[] = {
    {"linear1.weight", 5, 12}, {"linear1.bias", 5, 0}, {"linear2.weight", 2, 5}, {"bias", 2, 0}};

static void types_are_recognised_by_their_tensors(void **st) {
    (void)st;
    static const named three[] = {{"gate_proj.weight", 5, 12},
                                  {"up_proj.weight", 5, 12},
                                  {"down_proj.weight", 2, 5},
                                  {"bias", 2, 0}},
                       ten[] = {{"linear1.weight", 5, 8}, {"linear1.bias", 5, 0},   {"linear2.weight", 5, 5},
                                {"linear2.bias", 5, 0},   {"linear3.weight", 2, 5}, {"bias", 2, 0}};
    scratch s;
    assert_int_equal(scratch_open(&s), 0);
    write_file(&s, file_rg2, 4, "{}");
    must_be(&s, &tiny, KV_GATE_RG2, 12);
    write_file(&s, three, 4, "{\"retention_gate\":\"rg3\"}");
    must_be(&s, &tiny, KV_GATE_RG3, 12);
    write_file(&s, ten, 6, "{\"retention_gate\":\"rg10\",\"retention_gate_intermediate_size\":5}");
    must_be(&s, &tiny, KV_GATE_RG10, 8);
    scratch_close(&s);
}

/* Qwen3-1.7B is such a model: 2 x 8 x 128 = 2048. */
static void the_config_decides_where_both_inputs_are_as_wide(void **st) {
    (void)st;
    kv_shape same = tiny;
    kv_gate_file *g;
    kv_error err;
    scratch s;
    same.dim = 12;
    assert_int_equal(scratch_open(&s), 0);
    write_file(&s, file_rg2, 4, "{}");
    must_be(&s, &same, KV_GATE_RG, 12);
    write_file(&s, file_rg2, 4, "{\"retention_gate\":\"rg2\"}");
    must_be(&s, &same, KV_GATE_RG2, 12);
    write_file(&s, file_rg2, 4, "{\"retention_gate\":\"rg3\"}");
    assert_int_equal(kv_gates_open(s.dir, &same, &g, &err), KV_EFORMAT);
    assert_non_null(strstr(err.text, "type rg, config.json says rg3"));
    scratch_close(&s);
}

static void a_config_says_more_than_the_type(void **st) {
    (void)st;
    static const char text[] = "{\"base_model\":\"Qwen/Qwen3-4B\",\"retention_gate\":\"rg10\",\"memory_size\":128,"
                               "\"buffer_size\":null,\"strategy\":\"fixed_budget\",\"lookahead_steps\":4,"
                               "\"sliding_window_size\":16,\"hidden_act\":\"silu\"}";
    kv_gates_config c;
    kv_error err;
    scratch s;
    assert_int_equal(scratch_open(&s), 0);
    assert_int_equal(kv_gates_read_config(scratch_write(&s, "config.json", text, sizeof text - 1), &c, &err), KV_OK);
    assert_string_equal(c.base_model, "Qwen/Qwen3-4B");
    assert_string_equal(c.type, "rg10");
    assert_string_equal(c.strategy, "fixed_budget");
    assert_true(c.budget == 128 && c.buffer == 0 && c.lookahead == 4 && c.window == 16 && c.n_hidden == 0);
    static const char *const bad[] = {"{\"lookahead_steps\":0}", "{\"base_model\":7}", "{\"sliding_window_size\":-1}"};
    for (int i = 0; i < 3; i++) {
        scratch_write(&s, "config.json", bad[i], strlen(bad[i]));
        assert_int_equal(kv_gates_read_config(scratch_path(&s, "config.json"), &c, &err), KV_EFORMAT);
        assert_non_null(strstr(err.text, "config.json"));
    }
    scratch_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rg_and_rg10_look_at_the_hidden_state),
        cmocka_unit_test(rg3_multiplies_two_maps),
        cmocka_unit_test(rg2_reads_keys_and_values_head_by_head),
        cmocka_unit_test(every_type_rounds_to_bf16_like_the_reference),
        cmocka_unit_test(no_type_depends_on_how_rows_are_cut),
        cmocka_unit_test(types_are_recognised_by_their_tensors),
        cmocka_unit_test(the_config_decides_where_both_inputs_are_as_wide),
        cmocka_unit_test(a_config_says_more_than_the_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
