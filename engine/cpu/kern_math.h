/* kern_math.h - exp, and the row operations around a product: RMSNorm, SwiGLU, 8-bit quantisation, rotation.
 *
 * exp: x = n ln 2 + r with |r| <= ln 2 / 2 and the degree-6 polynomial of Cephes' expf; at most 2 ulp between -87.3
 * and 88.3, where it saturates; NaN stays NaN. */
#include "engine/cpu/kernels.h"

#include <math.h>
#include <string.h>

#if defined(__clang__)
#define KV_UNROLL _Pragma("unroll")
#else
#define KV_UNROLL _Pragma("GCC unroll 16")
#endif

VI v16 v_exp(v16 x) {
    const v16 magic = v_set1(12582912.0f); /* adding 1.5 * 2^23 rounds to whole numbers */
    x = v_max(v_set1(-87.33654f), v_min(v_set1(88.3762589f), x));
    v16 n = v_sub(v_add(v_mul(x, v_set1(1.44269504088896341f)), magic), magic);
    v16 r = v_fma(n, v_set1(-0.693359375f), x);
    r = v_fma(n, v_set1(2.12194440e-4f), r);
    v16 p = v_fma(v_set1(1.9875691500e-4f), r, v_set1(1.3981999507e-3f));
    p = v_fma(p, r, v_set1(8.3334519073e-3f));
    p = v_fma(p, r, v_set1(4.1665795894e-2f));
    p = v_fma(p, r, v_set1(1.6666665459e-1f));
    p = v_fma(p, r, v_set1(5.0000001201e-1f));
    p = v_fma(p, v_mul(r, r), r);
    return v_ldexp(v_add(p, v_set1(1.0f)), n);
}

static void norm_row(float *out, const float *x, const float *w, float eps, int n) {
    v16 s = v_zero();
    int i = 0;
    for (; i + 16 <= n; i += 16) s = v_fma(v_load(x + i), v_load(x + i), s);
    if (i < n) s = v_fma(v_load_n(x + i, n - i), v_load_n(x + i, n - i), s);
    v16 scale = v_set1(1.0f / sqrtf(v_sum(s) / (float)n + eps));
    for (i = 0; i + 16 <= n; i += 16) v_store(out + i, v_mul(v_mul(v_load(x + i), scale), v_load(w + i)));
    if (i < n) v_store_n(out + i, v_mul(v_mul(v_load_n(x + i, n - i), scale), v_load_n(w + i, n - i)), n - i);
}

VI v16 silu_times(v16 g, v16 u) {
    v16 e = v_exp(v_sub(v_zero(), g));
    return v_mul(v_div(g, v_add(v_set1(1.0f), e)), u);
}

static void swiglu_row(float *out, const float *gate, const float *up, int n) {
    int i = 0;
    for (; i + 16 <= n; i += 16) v_store(out + i, silu_times(v_load(gate + i), v_load(up + i)));
    if (i < n) v_store_n(out + i, silu_times(v_load_n(gate + i, n - i), v_load_n(up + i, n - i)), n - i);
}

/* KV_GROUP floats, symmetric: returns the scale.  A group with NaN or infinity gets scale NaN and zeros, so that the
 * damage reaches the logits, where the engine looks for it. */
VI float quantize_group(int8_t *q, const v16 x[4]) {
    float m = v_largest(v_larger(v_larger(x[0], x[1]), v_larger(x[2], x[3])));
    if (!(m > 1e-30f && m < INFINITY)) {
        memset(q, 0, KV_GROUP);
        return m - m;
    }
    v16 inv = v_set1(127.0f / m);
    KV_UNROLL
    for (int i = 0; i < 4; i++) v_store_i8(q + 16 * i, v_mul(x[i], inv));
    return m * (1.0f / 127.0f);
}

/* The orthonormal Walsh-Hadamard transform of a group.  Weights and activations are both rotated, which leaves their
 * products as they are and spreads an outlier over the whole group, so that the 8-bit steps become smaller (QuaRot,
 * arXiv 2404.00456, with one block per group). */
VI void rotate_group(v16 v[4]) {
    KV_UNROLL
    for (int i = 0; i < 4; i++) v[i] = v_hadamard(v[i]);
    v16 a = v_add(v[0], v[1]), b = v_sub(v[0], v[1]), c = v_add(v[2], v[3]), d = v_sub(v[2], v[3]);
    v16 s = v_set1(0.125f);
    v[0] = v_mul(v_add(a, c), s);
    v[1] = v_mul(v_add(b, d), s);
    v[2] = v_mul(v_sub(a, c), s);
    v[3] = v_mul(v_sub(b, d), s);
}

/* Up to 64 inputs, rotated, as they are quantised. */
VI void load_group(v16 v[4], const float *x, int n) {
    KV_UNROLL
    for (int i = 0; i < 4; i++) {
        int left = n - 16 * i;
        v[i] = left >= 16 ? v_load(x + 16 * i) : left > 0 ? v_load_n(x + 16 * i, left) : v_zero();
    }
    rotate_group(v);
}

static void quantize_row(const kv_q8_rows *q, int row, const float *x, int n) {
    size_t at = (size_t)row * q->n_groups;
    for (int g = 0; g < q->n_groups; g++) {
        v16 v[4];
        int8_t *dst = q->q + (at + g) * KV_GROUP;
        load_group(v, x + (size_t)g * KV_GROUP, n - g * KV_GROUP);
        q->scale[at + g] = quantize_group(dst, v);
        q->comp[at + g] = -128 * sum_i8(dst);
    }
}

static void rope_row(float *x, int n_heads, int head_dim, const float *cos, const float *sin) {
    int half = head_dim / 2;
    for (int h = 0; h < n_heads; h++) {
        float *a = x + (size_t)h * head_dim, *b = a + half;
        for (int i = 0; i < half; i += 16) {
            int n = half - i < 16 ? half - i : 16;
            v16 c = v_load_n(cos + i, n), s = v_load_n(sin + i, n), u = v_load_n(a + i, n), v = v_load_n(b + i, n);
            v_store_n(a + i, v_sub(v_mul(u, c), v_mul(v, s)), n);
            v_store_n(b + i, v_fma(v, c, v_mul(u, s)), n);
        }
    }
}
