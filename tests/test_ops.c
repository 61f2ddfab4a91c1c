/* test_ops.c - the CPU backend's products and row ops, in every instruction set this machine has, against
 * double-precision twins, and the promise that a row's bits depend on that row alone. */
#include "engine/cpu/cpu.h"
#include "tests/support/ops.h"
#include "tests/support/ref_ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int sizes[][2] = {{1, 1}, {31, 33}, {33, 31}, {97, 64}, {64, 127}, {130, 200}}; /* n_out, n_in */
enum { N_SIZES = sizeof sizes / sizeof *sizes };

static void check(const float *got, const double *want, const double *scale, size_t n, double abs, double eps) {
    for (size_t i = 0; i < n; i++) {
        double limit = abs + eps * (scale ? scale[i] : fabs(want[i]));
        if (!(fabs(got[i] - want[i]) <= limit)) fail_msg("element %zu: %.9g, expected %.9g", i, got[i], want[i]);
    }
}

static void multiply(kv_backend *b, float *out, const float *x, const float *w, int n_rows, int n_out, int n_in) {
    kv_matrix *m = kv_test_matrix(b, w, n_out, n_in);
    kv_matmul_args a = {.out = out, .x = x, .w = m, .n_rows = n_rows};
    b->ops->matmul(b, &a);
    b->ops->matrix_free(b, m);
}

static void exact_products_match_double_precision(void **state) {
    (void)state;
    FOR_EACH_BACKEND(b, KV_EXACT, 2, 32) {
        for (int s = 0; s < N_SIZES; s++) {
            int n_out = sizes[s][0], n_in = sizes[s][1], n_rows = 29;
            float *w = kv_test_floats((size_t)n_out * n_in, 1), *x = kv_test_floats((size_t)n_rows * n_in, 2);
            float *out = kv_test_floats((size_t)n_rows * n_out, 3);
            double *want = kv_test_doubles((size_t)n_rows * n_out), *scale = kv_test_doubles((size_t)n_rows * n_out);
            double *xd = kv_test_widen(x, (size_t)n_rows * n_in);
            kv_ref_linear(want, scale, xd, w, NULL, n_rows, n_in, n_out);
            multiply(b, out, x, w, n_rows, n_out, n_in);
            check(out, want, scale, (size_t)n_rows * n_out, 1e-7, 2e-6);
            kv_test_free(6, w, x, out, want, scale, xd);
        }
    }
}

static void int8_products_match_the_quantised_operands(void **state) {
    (void)state;
    FOR_EACH_BACKEND(b, KV_FAST, 2, 32) {
        for (int s = 0; s < N_SIZES; s++) {
            int n_out = sizes[s][0], n_in = sizes[s][1], n_rows = 29;
            size_t nw = (size_t)n_out * n_in, nx = (size_t)n_rows * n_in, n = (size_t)n_rows * n_out;
            float *w = kv_test_floats(nw, 1), *x = kv_test_floats(nx, 2), *out = kv_test_floats(n, 3);
            int n_pad = (n_in + 63) / 64 * 64;
            double *want = kv_test_doubles(n), *scale = kv_test_doubles(n);
            double *xq = kv_test_doubles((size_t)n_rows * n_pad), *wq = kv_test_doubles((size_t)n_out * n_pad),
                   *xd = kv_test_widen(x, nx);
            for (int r = 0; r < n_rows; r++) kv_ref_quantize(xq + (size_t)r * n_pad, x + (size_t)r * n_in, n_in);
            for (int j = 0; j < n_out; j++) kv_ref_quantize(wq + (size_t)j * n_pad, w + (size_t)j * n_in, n_in);
            multiply(b, out, x, w, n_rows, n_out, n_in);
            for (int r = 0; r < n_rows; r++) {
                for (int j = 0; j < n_out; j++) {
                    double sum = 0, abs = 0;
                    for (int k = 0; k < n_pad; k++) {
                        double p = xq[(size_t)r * n_pad + k] * wq[(size_t)j * n_pad + k];
                        sum += p;
                        abs += fabs(p);
                    }
                    want[(size_t)r * n_out + j] = sum;
                    scale[(size_t)r * n_out + j] = abs;
                }
            }
            check(out, want, scale, n, 1e-7, 1e-6);
            kv_ref_linear(want, scale, xd, w, NULL, n_rows, n_in, n_out);
            check(out, want, scale, n, 1e-3, 3e-2);
            kv_test_free(8, w, x, out, want, scale, xq, wq, xd);
        }
    }
}

static void prologues_match_double_precision(void **state) {
    (void)state;
    enum { IN = 75, OUT = 41, ROWS = 17 };
    float *w = kv_test_floats(OUT * IN, 1), *x = kv_test_floats(ROWS * 2 * IN, 2), *nw = kv_test_floats(IN, 3);
    float *base = kv_test_floats(ROWS * OUT, 4), *out = kv_test_floats(ROWS * OUT, 4);
    float *norm = kv_test_floats(ROWS * IN, 5);
    double *in = kv_test_doubles(ROWS * IN), *want = kv_test_doubles(ROWS * OUT), *scale = kv_test_doubles(ROWS * OUT);
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++) {
        double eps = numerics == KV_EXACT ? 3e-6 : 3e-2;
        FOR_EACH_BACKEND(b, numerics, 2, 32) {
            kv_matrix *m = kv_test_matrix(b, w, OUT, IN);
            for (int kind = 0; kind < 4; kind++) { /* norm, norm with its rows, swiglu, accumulated swiglu */
                kv_matmul_args a = {.out = out, .x = x, .w = m, .n_rows = ROWS};
                memcpy(out, base, ROWS * OUT * sizeof *out);
                if (kind < 2) {
                    a.norm_weight = nw;
                    a.norm_eps = 1e-5f;
                    a.norm_out = kind ? norm : NULL;
                    kv_ref_rmsnorm(in, x, nw, 1e-5, ROWS, IN);
                } else {
                    a.swiglu = 1;
                    a.accumulate = kind == 3;
                    kv_ref_swiglu(in, x, ROWS, IN);
                }
                kv_ref_linear(want, scale, in, w, NULL, ROWS, IN, OUT);
                for (int i = 0; kind == 3 && i < ROWS * OUT; i++) want[i] += base[i];
                b->ops->matmul(b, &a);
                check(out, want, scale, ROWS * OUT, 1e-3 * numerics + 1e-6, eps);
                if (kind == 1) check(norm, in, NULL, ROWS * IN, 1e-7, 2e-6);
            }
            b->ops->matrix_free(b, m);
        }
    }
    kv_test_free(9, w, x, nw, base, out, norm, in, want, scale);
}

/* A product with every prologue; n_rows rows starting at `first` of the shared inputs. */
static void run_products(kv_backend *b, kv_matrix *m, const float *x, const float *nw, float *out[3], int first,
                         int n_rows) {
    int n_in = m->n_in, n_out = m->n_out;
    for (int kind = 0; kind < 3; kind++) {
        const float *rows = x + (size_t)first * n_in * (kind == 2 ? 2 : 1);
        kv_matmul_args a = {.out = out[kind] + (size_t)first * n_out, .x = rows, .w = m, .n_rows = n_rows};
        if (kind == 1) {
            a.norm_weight = nw;
            a.norm_eps = 1e-6f;
        }
        a.swiglu = kind == 2;
        b->ops->matmul(b, &a);
    }
}

static void rows_do_not_depend_on_their_neighbours_or_on_threads(void **state) {
    (void)state;
    enum { IN = 139, OUT = 75, ROWS = 67 };
    float *w = kv_test_floats(OUT * IN, 1), *x = kv_test_floats(ROWS * 2 * IN, 2), *nw = kv_test_floats(IN, 3);
    float *want[3], *got[3];
    for (int i = 0; i < 3; i++) {
        want[i] = kv_test_floats(ROWS * OUT, 4);
        got[i] = kv_test_floats(ROWS * OUT, 5);
    }
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++) {
        for (int isa = 0; isa < KV_N_ISA; isa++) {
            for (int threads = 1; threads <= 3; threads++) {
                kv_backend *b = kv_test_backend(isa, numerics, threads, ROWS);
                if (!b) continue;
                kv_matrix *m = kv_test_matrix(b, w, OUT, IN);
                for (int r = 0; threads == 1 && r < ROWS; r++) run_products(b, m, x, nw, want, r, 1);
                for (int n = 1; n <= ROWS; n += threads == 1 ? 1 : 7 * threads) {
                    run_products(b, m, x, nw, got, 0, n);
                    run_products(b, m, x, nw, got, ROWS - n, n);
                    for (int i = 0; i < 3; i++) {
                        assert_memory_equal(got[i], want[i], (size_t)n * OUT * sizeof(float));
                        assert_memory_equal(got[i] + (ROWS - n) * OUT, want[i] + (ROWS - n) * OUT,
                                            (size_t)n * OUT * sizeof(float));
                    }
                }
                b->ops->matrix_free(b, m);
                b->ops->destroy(b);
            }
        }
    }
    for (int i = 0; i < 3; i++) kv_test_free(2, want[i], got[i]);
    kv_test_free(3, w, x, nw);
}

static void avx2_and_avx512_give_the_same_bits(void **state) {
    (void)state;
    enum { IN = 203, OUT = 165, ROWS = 19 };
    float *w = kv_test_floats(OUT * IN, 1), *x = kv_test_floats(ROWS * 2 * IN, 2), *nw = kv_test_floats(IN, 3);
    float *out[2][3];
    if (!kv_cpu_kernels_for(KV_ISA_AVX512)) skip();
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++) {
        for (int i = 0; i < 2; i++) {
            kv_backend *b = kv_test_backend(i ? KV_ISA_AVX512 : KV_ISA_AVX2, numerics, 2, ROWS);
            kv_matrix *m = kv_test_matrix(b, w, OUT, IN);
            for (int k = 0; k < 3; k++) out[i][k] = kv_test_floats(ROWS * OUT, 4);
            run_products(b, m, x, nw, out[i], 0, ROWS);
            b->ops->matrix_free(b, m);
            b->ops->destroy(b);
        }
        for (int k = 0; k < 3; k++) {
            assert_memory_equal(out[0][k], out[1][k], ROWS * OUT * sizeof(float));
            kv_test_free(2, out[0][k], out[1][k]);
        }
    }
    kv_test_free(3, w, x, nw);
}

static void norm_rope_and_gate_products_match_double_precision(void **state) {
    (void)state;
    static const int dims[] = {2, 8, 30, 64, 90, 256};
    FOR_EACH_BACKEND(b, KV_EXACT, 2, 8) {
        for (size_t s = 0; s < sizeof dims / sizeof *dims; s++) {
            enum { ROWS = 37, HEADS = 3, POSITIONS = 50 };
            int d = dims[s], n = ROWS * HEADS * d, half = d / 2;
            float *x = kv_test_floats((size_t)n, 1), *w = kv_test_floats((size_t)HEADS * d * d, 2);
            float *out = kv_test_floats((size_t)n, 3), *table = kv_test_floats((size_t)2 * POSITIONS * half, 4);
            double *want = kv_test_doubles((size_t)n), *scale = kv_test_doubles((size_t)n);
            double *xd = kv_test_widen(x, (size_t)n);
            int32_t pos[ROWS];
            for (int i = 0; i < ROWS; i++) pos[i] = i * 13 % POSITIONS;
            kv_rope_table t = {table, table + POSITIONS * half, POSITIONS, half};

            kv_ref_rmsnorm(want, x, w, 1e-5, ROWS, HEADS * d);
            b->ops->rmsnorm(b, out, x, w, 1e-5f, ROWS, HEADS * d);
            check(out, want, NULL, (size_t)n, 1e-7, 2e-6);

            kv_ref_linear(want, scale, xd, w, x, ROWS, HEADS * d, d);
            b->ops->linear_f32(b, out, x, w, x, ROWS, HEADS * d, d);
            check(out, want, scale, (size_t)ROWS * d, 1e-7, 2e-6);

            kv_ref_rope(xd, ROWS, HEADS, d, pos, &t);
            b->ops->rope(b, &(kv_rope_args){.x = x,
                                            .stride = (size_t)HEADS * d,
                                            .n_rows = ROWS,
                                            .n_heads = HEADS - 1,
                                            .n_kv_heads = 1,
                                            .head_dim = d,
                                            .pos = pos,
                                            .table = &t});
            check(x, xd, NULL, (size_t)n, 1e-6, 1e-6);
            kv_test_free(7, x, w, out, table, want, scale, xd);
        }
    }
}

static void bias_and_head_norms_come_before_the_rotation(void **state) {
    (void)state;
    enum { ROWS = 19, Q = 3, KV = 1, D = 34, WIDTH = (Q + 2 * KV) * D, HALF = D / 2 };
    float *x = kv_test_floats(ROWS * WIDTH, 1), *bias = kv_test_floats(WIDTH, 2), *w = kv_test_floats(2 * D, 3);
    float *table = kv_test_floats(2 * ROWS * HALF, 4), *got = kv_test_floats(ROWS * WIDTH, 5);
    int32_t pos[ROWS];
    for (int i = 0; i < ROWS; i++) pos[i] = ROWS - 1 - i;
    const kv_rope_table t = {table, table + ROWS * HALF, ROWS, HALF};
    FOR_EACH_BACKEND(b, KV_EXACT, 2, 8) {
        float *want = kv_test_floats(ROWS * WIDTH, 6);
        for (int i = 0; i < ROWS * WIDTH; i++) want[i] = x[i] + bias[i % WIDTH];
        for (int r = 0; r < ROWS; r++) {
            float *row = want + r * WIDTH;
            b->ops->rmsnorm(b, row, row, w, 1e-5f, Q, D);
            b->ops->rmsnorm(b, row + Q * D, row + Q * D, w + D, 1e-5f, KV, D);
        }
        kv_rope_args a = {.x = want,
                          .stride = WIDTH,
                          .n_rows = ROWS,
                          .n_heads = Q,
                          .n_kv_heads = KV,
                          .head_dim = D,
                          .pos = pos,
                          .table = &t};
        b->ops->rope(b, &a);
        memcpy(got, x, ROWS * WIDTH * sizeof *got);
        a.x = got;
        a.bias = bias;
        a.q_norm = w;
        a.k_norm = w + D;
        a.norm_eps = 1e-5f;
        b->ops->rope(b, &a);
        assert_memory_equal(got, want, ROWS * WIDTH * sizeof *got);
        kv_test_free(1, want);
    }
    kv_test_free(5, x, bias, w, table, got);
}

static void gate_products_do_not_depend_on_the_number_of_rows(void **state) {
    (void)state;
    enum { IN = 77, OUT = 130, ROWS = 67 };
    float *w = kv_test_floats(OUT * IN, 1), *x = kv_test_floats(ROWS * IN, 2);
    float *want = kv_test_floats(ROWS * OUT, 3), *got = kv_test_floats(ROWS * OUT, 4);
    FOR_EACH_BACKEND(b, KV_FAST, 3, 8) {
        for (int r = 0; r < ROWS; r++) b->ops->linear_f32(b, want + r * OUT, x + r * IN, w, w, 1, IN, OUT);
        for (int n = 1; n <= ROWS; n++) {
            b->ops->linear_f32(b, got, x, w, w, n, IN, OUT);
            assert_memory_equal(got, want, (size_t)n * OUT * sizeof *got);
        }
    }
    kv_test_free(4, w, x, want, got);
}

/* silu through a product with the identity: the vector exp over its whole range. */
static void silu_is_accurate_to_a_few_ulp(void **state) {
    (void)state;
    enum { N = 256, ROWS = 64 };
    float *w = calloc(N * N, sizeof *w), *x = kv_test_floats(ROWS * 2 * N, 1), *out = kv_test_floats(ROWS * N, 2);
    double *want = kv_test_doubles(ROWS * N);
    assert_non_null(w);
    for (int i = 0; i < N; i++) w[i * N + i] = 1;
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < N; i++) {
            x[r * 2 * N + i] = (float)(r * N + i - ROWS * N / 2) * (87.0f / (ROWS * N / 2));
            x[r * 2 * N + N + i] = 1;
        }
    }
    kv_ref_swiglu(want, x, ROWS, N);
    FOR_EACH_BACKEND(b, KV_EXACT, 1, ROWS) {
        kv_matrix *m = kv_test_matrix(b, w, N, N);
        kv_matmul_args a = {.out = out, .x = x, .w = m, .n_rows = ROWS, .swiglu = 1};
        b->ops->matmul(b, &a);
        check(out, want, NULL, ROWS * N, 1e-37, 4e-7);
        b->ops->matrix_free(b, m);
    }
    kv_test_free(4, w, x, out, want);
}

static void a_bad_number_reaches_every_output_of_its_row(void **state) {
    (void)state;
    enum { IN = 200, OUT = 40, ROWS = 5 };
    float *w = kv_test_floats(OUT * IN, 1), *x = kv_test_floats(ROWS * IN, 2), *out = kv_test_floats(ROWS * OUT, 3);
    x[1 * IN + 77] = NAN;
    x[3 * IN + 199] = INFINITY;
    for (int numerics = 0; numerics < KV_N_NUMERICS; numerics++) {
        FOR_EACH_BACKEND(b, numerics, 1, 8) {
            multiply(b, out, x, w, ROWS, OUT, IN);
            for (int i = 0; i < ROWS * OUT; i++) assert_int_equal(isfinite(out[i]) != 0, i / OUT != 1 && i / OUT != 3);
        }
    }
    kv_test_free(3, w, x, out);
}

static void create_names_what_is_wrong(void **state) {
    (void)state;
    kv_backend *b = NULL;
    kv_matrix *m = NULL;
    kv_error err;
    static const float w[4] = {1, 2, 3, 4};
    kv_weights none = kv_weights_of_floats(w, 0, 4), one = kv_weights_of_floats(w, 1, 4);
    assert_int_equal(kv_cpu_backend_create(KV_FAST, -1, 8, &b, &err), KV_EARG);
    assert_null(b);
    assert_int_equal(kv_cpu_backend_create(KV_FAST, 0, 0, &b, &err), KV_EARG);
    assert_int_equal(kv_cpu_backend_create(KV_FAST, 0, 8, &b, &err), KV_OK);
    assert_true(b->n_threads >= 1);
    assert_int_equal(b->ops->matrix_create(b, &none, &m, &err), KV_EARG);
    assert_int_equal(b->ops->matrix_create(b, &one, &m, &err), KV_OK);
    assert_string_equal(b->ops->matrix_format(m), "int8 g64 rotated");
    assert_true(b->ops->matrix_bytes(m) >= 4);
    b->ops->matrix_free(b, m);
    b->ops->destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_products_match_double_precision),
        cmocka_unit_test(int8_products_match_the_quantised_operands),
        cmocka_unit_test(prologues_match_double_precision),
        cmocka_unit_test(rows_do_not_depend_on_their_neighbours_or_on_threads),
        cmocka_unit_test(avx2_and_avx512_give_the_same_bits),
        cmocka_unit_test(norm_rope_and_gate_products_match_double_precision),
        cmocka_unit_test(bias_and_head_norms_come_before_the_rotation),
        cmocka_unit_test(gate_products_do_not_depend_on_the_number_of_rows),
        cmocka_unit_test(silu_is_accurate_to_a_few_ulp),
        cmocka_unit_test(a_bad_number_reaches_every_output_of_its_row),
        cmocka_unit_test(create_names_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
