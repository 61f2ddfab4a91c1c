/* test_synth.c - synthetic models: their shapes are the published ones, their weights are what the definition says. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/gates.h"
#include "engine/synth.h"
#include "engine/synth_value.h"

static const kv_synth_shape *shape_of(const char *name) {
    const kv_synth_shape *s = kv_synth_find(name);
    assert_non_null(s);
    return s;
}

/* Totals of the published weight files (tied heads counted once); in billions without embedding and head, as the Qwen3
 * model cards round them, or 0. */
static void shapes_have_the_parameters_that_were_published(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t params;
        double without_embedding;
    } published[] = {{"qwen3-1.7b", 1720574976, 1.4},  {"qwen3-4b", 4022468096, 3.6},   {"qwen3-8b", 8190735360, 6.95},
                     {"qwen3-14b", 14768307200, 13.2}, {"llama-3.1-8b", 8030261248, 0}, {"phi-3-mini", 3821079552, 0},
                     {"smollm2-135m", 134515008, 0}};
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        const kv_synth_shape *s = shape_of(published[i].name);
        assert_true(kv_synth_params(s) == published[i].params);
        double embedding = (double)s->n_vocab * s->shape.dim * (s->tied ? 1 : 2);
        if (published[i].without_embedding > 0)
            assert_true(fabs(((double)kv_synth_params(s) - embedding) / 1e9 - published[i].without_embedding) < 0.05);
    }
}

static void every_shape_is_one_that_kernels_can_run(void **state) {
    (void)state;
    int n;
    const kv_synth_shape *all = kv_synth_all(&n);
    assert_true(n >= 7);
    for (int i = 0; i < n; i++) {
        const kv_synth_shape *s = &all[i];
        const kv_shape *m = &s->shape;
        assert_ptr_equal(kv_synth_find(s->name), s);
        assert_true(m->head_dim == 64 || m->head_dim == 96 || m->head_dim == 128);
        assert_int_equal(m->n_heads % m->n_kv_heads, 0);
        assert_true(m->n_heads / m->n_kv_heads <= 8);
        assert_int_equal(m->dim % 64, 0);
        assert_int_equal(s->n_ff % 64, 0);
        assert_true(s->n_ctx >= 131072);
        assert_true(s->rope_base >= 1e4f && s->rms_eps > 0 && s->rms_eps <= 1e-5f);
        assert_true(s->n_gate_hidden > 0);
        if (i > 0) assert_true(kv_synth_params(s) > kv_synth_params(s - 1));
    }
}

static void dimensions_are_those_of_the_fused_matrices(void **state) {
    (void)state;
    static const int expected[][2] = {{151936, 2560}, {151936, 2560}, {6144, 2560},
                                      {2560, 4096},   {19456, 2560},  {2560, 9728}};
    for (int p = KV_SYNTH_EMBED; p <= KV_SYNTH_DOWN; p++) {
        int n_out, n_in;
        kv_synth_dims(shape_of("qwen3-4b"), (kv_synth_part)p, &n_out, &n_in);
        assert_int_equal(n_out, expected[p][0]);
        assert_int_equal(n_in, expected[p][1]);
    }
}

static void names_the_model_that_was_meant(void **state) {
    (void)state;
    static const struct {
        const char *name, *meant;
    } cases[] = {{"qwen-4b", "synth:qwen3-4b'"}, {"Qwen3-8B", "synth:qwen3-8b'"},     {"qwen3-14", "synth:qwen3-14b'"},
                 {"phi3", "synth:phi-3-mini'"},  {"llama-8b", "synth:llama-3.1-8b'"}, {"tinny", "synth:tiny'"}};
    const kv_synth_shape *s;
    kv_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(kv_synth_get(cases[i].name, &s, &err), KV_ENOTFOUND);
        assert_null(s);
        if (!strstr(err.text, cases[i].meant)) fail_msg("'%s' not in: %s", cases[i].meant, err.text);
    }
    assert_int_equal(kv_synth_get("xyz", &s, &err), KV_ENOTFOUND);
    assert_null(strstr(err.text, "Did you mean"));
    int n;
    const kv_synth_shape *all = kv_synth_all(&n);
    for (int i = 0; i < n; i++) assert_non_null(strstr(err.text, all[i].name));
    assert_int_equal(kv_synth_get("tiny", &s, &err), KV_OK);
    assert_string_equal(s->name, "tiny");
}

/* Levels from an implementation of the definition in another language: weights must not change by accident, results
 * would no longer compare. */
static void values_are_what_they_always_were(void **state) {
    (void)state;
    static const int levels[] = {42, 30, 28, 35, 32, 38, 24, 25, 22};
    for (int i = 0; i < 9; i++) assert_true(kv_synth_value(1, 0, (uint64_t)i) == kv_synth_scaled(levels[i], 1));
    assert_true(kv_synth_value(7, 41, 1000003) == kv_synth_scaled(35, 1));
    assert_true(kv_synth_value(UINT64_C(1) << 63, UINT64_C(1) << 40, (UINT64_C(1) << 40) + 3) ==
                kv_synth_scaled(36, 1));
}

static void a_filled_matrix_holds_the_value_of_every_index(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 3, 4, 5, 31, 33, 1009};
    float x[1010];
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (size_t i = 0; i < 1010; i++) x[i] = -7;
        kv_synth_fill(x, sizes[s], 5, 12, 0.02f);
        for (size_t i = 0; i < sizes[s]; i++) assert_true(x[i] == kv_synth_value(5, 12, i) * 0.02f);
        for (size_t i = sizes[s]; i < 1010; i++) assert_true(x[i] == -7);
    }
}

static double correlation(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum / (double)n;
}

static void values_are_centred_with_deviation_one_and_independent(void **state) {
    (void)state;
    enum { N = 1 << 20 };
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0, most = 0;
    assert_non_null(x);
    assert_non_null(y);
    kv_synth_fill(x, N, 1, 3, 1);
    for (int i = 0; i < N; i++) {
        double v = x[i];
        m1 += v, m2 += v * v, m3 += v * v * v, m4 += v * v * v * v;
        most = fmax(most, fabs(v));
    }
    const double tolerance = 5 / sqrt(N);
    assert_true(fabs(m1 / N) < tolerance);
    assert_true(fabs(m2 / N - 1) < 2 * tolerance);
    assert_true(fabs(m3 / N) < 4 * tolerance);
    assert_true(fabs(m4 / N - 2.7) < 10 * tolerance);
    assert_true(most > 3 && most < 3.26);
    for (int lag = 1; lag <= 4; lag++) assert_true(fabs(correlation(x, x + lag, N - lag)) < tolerance);
    kv_synth_fill(y, N, 1, 4, 1);
    assert_true(fabs(correlation(x, y, N)) < tolerance);
    kv_synth_fill(y, N, 2, 3, 1);
    assert_true(fabs(correlation(x, y, N)) < tolerance);
    free(x);
    free(y);
}

static void every_matrix_has_a_number_of_its_own(void **state) {
    (void)state;
    enum { LAYERS = 64 };
    char taken[LAYERS * KV_SYNTH_PARTS] = {0};
    for (int l = 0; l < LAYERS; l++) {
        for (int p = 0; p < KV_SYNTH_PARTS; p++) {
            uint64_t at = kv_synth_matrix((kv_synth_part)p, l);
            assert_true(at < sizeof taken);
            assert_int_equal(taken[at % sizeof taken]++, 0);
        }
    }
}

/* out (n_out) = W x with the weights of layer 0. */
static double deviation_after(const kv_synth_shape *s, kv_synth_part part, uint64_t input) {
    int n_out, n_in;
    double sum = 0;
    kv_synth_dims(s, part, &n_out, &n_in);
    float *w = malloc((size_t)n_out * (size_t)n_in * sizeof *w), *x = malloc((size_t)n_in * sizeof *x);
    assert_non_null(w);
    assert_non_null(x);
    kv_synth_fill(w, (size_t)n_out * (size_t)n_in, 1, kv_synth_matrix(part, 0), kv_synth_std(s, part));
    kv_synth_fill(x, (size_t)n_in, 2, input, 1);
    for (int o = 0; o < n_out; o++) {
        double y = 0;
        for (int i = 0; i < n_in; i++) y += (double)w[(size_t)o * (size_t)n_in + (size_t)i] * x[i];
        sum += y * y;
    }
    free(w);
    free(x);
    return sqrt(sum / n_out);
}

static void maps_keep_the_scale_of_their_input(void **state) {
    (void)state;
    const kv_synth_shape *s = shape_of("tiny");
    const double residual = 1 / sqrt(2.0 * s->shape.n_layers);
    assert_true(fabs(deviation_after(s, KV_SYNTH_HEAD, 0) - 1) < 0.15);
    assert_true(fabs(deviation_after(s, KV_SYNTH_QKV, 1) - 1) < 0.15);
    assert_true(fabs(deviation_after(s, KV_SYNTH_GATE_UP, 2) - 1) < 0.15);
    assert_true(fabs(deviation_after(s, KV_SYNTH_OUT, 3) / residual - 1) < 0.15);
    assert_true(fabs(deviation_after(s, KV_SYNTH_DOWN, 4) / residual - 1) < 0.15);
    assert_true(kv_synth_std(s, KV_SYNTH_EMBED) == 1.0f);
    assert_true(kv_synth_std(shape_of("qwen3-4b"), KV_SYNTH_EMBED) == 0.02f);
}

static void must_be_bf16(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        if ((u & 0xffff) != 0 || !isfinite(x[i])) fail_msg("value %zu is %.9g", i, x[i]);
    }
}

static void gates_are_bf16_and_the_same_for_the_same_seed(void **state) {
    (void)state;
    const kv_synth_shape *s = shape_of("tiny");
    size_t dim = (size_t)s->shape.dim, h = (size_t)s->n_gate_hidden, kv = (size_t)s->shape.n_kv_heads;
    kv_gate_file *a, *b, *c;
    kv_error err;
    assert_int_equal(kv_gates_synth(&s->shape, s->n_gate_hidden, 3, &a, &err), KV_OK);
    assert_int_equal(kv_gates_synth(&s->shape, s->n_gate_hidden, 3, &b, &err), KV_OK);
    assert_int_equal(kv_gates_synth(&s->shape, s->n_gate_hidden, 4, &c, &err), KV_OK);
    const kv_gates *v = kv_gates_view(a);
    assert_int_equal(v->type, KV_GATE_RG);
    assert_int_equal(v->n_layers, s->shape.n_layers);
    assert_int_equal(v->n_in, s->shape.dim);
    assert_int_equal(v->n_hidden, s->n_gate_hidden);
    assert_int_equal(v->n_kv_heads, s->shape.n_kv_heads);
    assert_true(v->id == kv_gates_view(b)->id && v->id != kv_gates_view(c)->id);
    for (int l = 0; l < v->n_layers; l++) {
        const kv_gate_layer *x = &v->layers[l], *y = &kv_gates_view(b)->layers[l], *z = &kv_gates_view(c)->layers[l];
        must_be_bf16(x->w1, h * dim);
        must_be_bf16(x->b1, h);
        must_be_bf16(x->w2, kv * h);
        must_be_bf16(x->bias, kv);
        assert_memory_equal(x->w1, y->w1, h * dim * sizeof *x->w1);
        assert_memory_equal(x->b1, y->b1, h * sizeof *x->b1);
        assert_memory_equal(x->w2, y->w2, kv * h * sizeof *x->w2);
        assert_memory_equal(x->bias, y->bias, kv * sizeof *x->bias);
        assert_memory_not_equal(x->w1, z->w1, h * dim * sizeof *x->w1);
        if (l > 0) assert_memory_not_equal(x->w1, v->layers[l - 1].w1, h * dim * sizeof *x->w1);
    }
    kv_gates_close(a);
    kv_gates_close(b);
    kv_gates_close(c);
}

/* Logit of a gate before logsigmoid, in double. */
static double gate_logit(const kv_gates *g, int layer, int head, const float *x) {
    const kv_gate_layer *gl = &g->layers[layer];
    double z = gl->bias[head];
    for (int i = 0; i < g->n_hidden; i++) {
        double m = gl->b1[i];
        for (int d = 0; d < g->n_in; d++) m += (double)gl->w1[(size_t)i * (size_t)g->n_in + (size_t)d] * x[d];
        z += gl->w2[(size_t)head * (size_t)g->n_hidden + (size_t)i] * m / (1 + exp(-m));
    }
    return z;
}

static void gates_tell_tokens_apart(void **state) {
    (void)state;
    enum { TOKENS = 200 };
    const kv_synth_shape *s = shape_of("tiny");
    float x[256];
    double z[TOKENS], sum = 0, squares = 0;
    kv_gate_file *g;
    kv_error err;
    assert_int_equal(kv_gates_synth(&s->shape, s->n_gate_hidden, 1, &g, &err), KV_OK);
    for (int l = 0; l < s->shape.n_layers; l++) {
        for (int t = 0; t < TOKENS; t++) {
            kv_synth_fill(x, 256, 9, (uint64_t)t, 1);
            z[t] = gate_logit(kv_gates_view(g), l, 1, x);
            for (int u = 0; u < t; u++) assert_true(z[t] != z[u]);
        }
        double mean = 0;
        for (int t = 0; t < TOKENS; t++) mean += z[t] / TOKENS;
        for (int t = 0; t < TOKENS; t++) squares += (z[t] - mean) * (z[t] - mean);
        sum += mean;
    }
    double deviation = sqrt(squares / (TOKENS * s->shape.n_layers));
    assert_true(fabs(sum / s->shape.n_layers - 4) < 1.5);
    assert_true(deviation > 1.3 && deviation < 2.7);
    kv_gates_close(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_have_the_parameters_that_were_published),
        cmocka_unit_test(every_shape_is_one_that_kernels_can_run),
        cmocka_unit_test(dimensions_are_those_of_the_fused_matrices),
        cmocka_unit_test(names_the_model_that_was_meant),
        cmocka_unit_test(values_are_what_they_always_were),
        cmocka_unit_test(a_filled_matrix_holds_the_value_of_every_index),
        cmocka_unit_test(values_are_centred_with_deviation_one_and_independent),
        cmocka_unit_test(every_matrix_has_a_number_of_its_own),
        cmocka_unit_test(maps_keep_the_scale_of_their_input),
        cmocka_unit_test(gates_are_bf16_and_the_same_for_the_same_seed),
        cmocka_unit_test(gates_tell_tokens_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
