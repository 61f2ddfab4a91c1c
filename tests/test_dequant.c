/* test_dequant.c - conversion of weights to fp32: golden blocks from the gguf Python package
 * (scripts/golden_dequant.py) and every half against the definition of the format. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/dequant.h"
#include "engine/file.h"
#include "tests/support/quantize.h"

static uint32_t bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* IEEE 754 binary16 by the book. */
static double half_value(unsigned h) {
    double sign = h & 0x8000 ? -1 : 1, mantissa = h & 0x3ff;
    int exponent = h >> 10 & 31;
    if (exponent == 31) return mantissa != 0 ? (double)NAN : sign * (double)INFINITY;
    return exponent == 0 ? sign * ldexp(mantissa, -24) : sign * ldexp(1024 + mantissa, exponent - 25);
}

static void converts_every_half_exactly(void **state) {
    (void)state;
    for (unsigned h = 0; h < 0x10000; h++) {
        float f = kv_f16_to_f32((uint16_t)h);
        double want = half_value(h);
        if (isnan(want)) {
            assert_true(isnan(f));
            assert_true(isnan(kv_f16_to_f32(kv_f32_to_f16(f))));
        } else {
            assert_int_equal(bits(f), bits((float)want));
            assert_int_equal(kv_f32_to_f16(f), h);
        }
    }
}

static void rounds_to_the_nearest_half_and_ties_to_even(void **state) {
    (void)state;
    for (unsigned h = 0; h < 0x7c00; h++) {
        float low = (float)half_value(h);
        float high = h + 1 == 0x7c00 ? 65536.0f : (float)half_value(h + 1);
        float middle = 0.5f * (low + high);
        assert_int_equal(kv_f32_to_f16(middle), h % 2 ? h + 1 : h);
        assert_int_equal(kv_f32_to_f16(-middle), (h % 2 ? h + 1 : h) | 0x8000);
        assert_int_equal(kv_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(kv_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
    }
    assert_int_equal(kv_f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(kv_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(kv_f32_to_f16(1e-45f), 0);
}

static void converts_every_bfloat16(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) assert_int_equal(bits(kv_bf16_to_f32((uint16_t)h)), h << 16);
}

static kv_dtype type_by_name(const char *name) {
    for (int t = 0; t < KV_N_DTYPES; t++)
        if (strcmp(kv_dtype_name((kv_dtype)t), name) == 0) return (kv_dtype)t;
    fail_msg("unknown type %s", name);
    return KV_N_DTYPES;
}

static unsigned char *unhex(const char *hex, size_t *n) {
    *n = strlen(hex) / 2;
    unsigned char *out = malloc(*n + 1);
    assert_non_null(out);
    for (size_t i = 0; i < *n; i++) {
        unsigned v;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
        out[i] = (unsigned char)v;
    }
    return out;
}

static void agrees_bit_for_bit_with_the_gguf_package(void **state) {
    (void)state;
    char *text, *save = NULL;
    size_t size, n_raw, n_want;
    kv_error err;
    assert_int_equal(kv_read_file(KV_SOURCE_DIR "/tests/golden/dequant.txt", &text, &size, &err), KV_OK);
    unsigned seen = 0;
    for (char *name = strtok_r(text, " \n", &save); name; name = strtok_r(NULL, " \n", &save)) {
        kv_dtype t = type_by_name(name);
        size_t n = strtoul(strtok_r(NULL, " \n", &save), NULL, 10);
        unsigned char *raw = unhex(strtok_r(NULL, " \n", &save), &n_raw);
        unsigned char *want = unhex(strtok_r(NULL, " \n", &save), &n_want);
        assert_int_equal(n_raw, kv_dtype_bytes(t, n));
        assert_int_equal(n_want, n * sizeof(float));
        float *out = malloc(n_want);
        unsigned char *shifted = malloc(n_raw + 1);
        assert_non_null(out);
        assert_non_null(shifted);
        kv_dequantize(t, raw, out, n);
        assert_memory_equal(out, want, n_want);
        memcpy(shifted + 1, raw, n_raw); /* the same from an odd address */
        memset(out, 0, n_want);
        kv_dequantize(t, shifted + 1, out, n);
        assert_memory_equal(out, want, n_want);
        seen |= 1u << t;
        free(raw);
        free(want);
        free(out);
        free(shifted);
    }
    assert_int_equal(seen, (1u << KV_N_DTYPES) - 1);
    free(text);
}

static void test_quantizers_stay_within_half_a_step(void **state) {
    (void)state;
    static const struct {
        kv_dtype type;
        float tolerance; /* of values in [-1, 1) */
    } cases[] = {{KV_F32, 0},
                 {KV_F16, 0x1p-12f},
                 {KV_BF16, 0x1p-9f},
                 {KV_Q8_0, 0.5f / 127 + 0.0006f},
                 {KV_Q4_0, 1.0f / 8 + 0.01f},
                 {KV_Q4_1, 1.0f / 15 + 0.01f}};
    float x[256], y[256];
    unsigned char raw[1024];
    uint64_t seed = 7;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        for (int i = 0; i < 256; i++) x[i] = tq_uniform(&seed);
        assert_int_equal(tq_quantize(cases[c].type, x, raw, 256), 0);
        kv_dequantize(cases[c].type, raw, y, 256);
        for (int i = 0; i < 256; i++) assert_true(fabsf(x[i] - y[i]) <= cases[c].tolerance);
    }
    assert_int_equal(tq_quantize(KV_Q4_K, x, raw, 256), -1);
    assert_int_equal(tq_quantize(KV_Q6_K, x, raw, 256), -1);
}

static void random_test_blocks_are_centred_and_bounded(void **state) {
    (void)state;
    enum { N = 256 * 64 };
    unsigned char *raw = malloc(N * sizeof(float));
    float *x = malloc(N * sizeof *x);
    assert_non_null(raw);
    assert_non_null(x);
    uint64_t seed = 11;
    for (int t = 0; t < KV_N_DTYPES; t++) {
        tq_random((kv_dtype)t, raw, N, 0.5f, &seed);
        kv_dequantize((kv_dtype)t, raw, x, N);
        double sum = 0, top = 0;
        for (int i = 0; i < N; i++) {
            sum += x[i];
            top = fmax(top, fabs(x[i]));
        }
        assert_true(fabs(sum / N) < 0.02);
        assert_true(top > 0.2 && top < 1.0);
    }
    free(raw);
    free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(converts_every_half_exactly),
        cmocka_unit_test(rounds_to_the_nearest_half_and_ties_to_even),
        cmocka_unit_test(converts_every_bfloat16),
        cmocka_unit_test(agrees_bit_for_bit_with_the_gguf_package),
        cmocka_unit_test(test_quantizers_stay_within_half_a_step),
        cmocka_unit_test(random_test_blocks_are_centred_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
