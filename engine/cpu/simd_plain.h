/* simd_plain.h - the 16-lane vector as four 4-lane ones of the compiler's vector extension: any CPU. */
#ifndef KV_CPU_SIMD_H
#define KV_CPU_SIMD_H

#include "engine/dequant.h"

#include <string.h>

#define VI static inline __attribute__((always_inline))

typedef float v4 __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));
typedef struct v16 {
    v4 p[4];
} v16;

/* Rows of the register tiles; F32_ROWS_WIDE: the most that take both vectors of a block at once. */
#define F32_ROWS 2
#define F32_ROWS_WIDE 2
#define Q8_ROWS 1
#define LINEAR_ROWS 1
#define ATTEND_ROWS 3

#define V_EACH(expr)                                                                                                   \
    v16 o;                                                                                                             \
    for (int i = 0; i < 4; i++) o.p[i] = (expr);                                                                       \
    return o

VI v16 v_set1(float f) {
    V_EACH(((v4){f, f, f, f}));
}
VI v16 v_zero(void) {
    return v_set1(0.0f);
}
VI v16 v_load(const float *p) {
    v16 o;
    memcpy(&o, p, sizeof o);
    return o;
}
VI void v_store(float *p, v16 v) {
    memcpy(p, &v, sizeof v);
}
VI v16 v_load_n(const float *p, int n) {
    v16 o = v_zero();
    memcpy(&o, p, (size_t)n * sizeof *p);
    return o;
}
VI void v_store_n(float *p, v16 v, int n) {
    memcpy(p, &v, (size_t)n * sizeof *p);
}
/* Lane i = sum over j of (-1)^popcount(i & j) times lane j: four rounds of sums and differences. */
VI v16 v_hadamard(v16 v) {
    float f[16];
    v_store(f, v);
    for (int h = 1; h < 16; h *= 2) {
        for (int i = 0; i < 16; i++) {
            if (i & h) continue;
            float a = f[i], b = f[i + h];
            f[i] = a + b;
            f[i + h] = a - b;
        }
    }
    return v_load(f);
}
VI v16 v_load_half(const uint16_t *p) {
    float f[16];
    for (int i = 0; i < 16; i++) f[i] = kv_f16_to_f32(p[i]);
    return v_load(f);
}
VI void v_store_half(uint16_t *p, v16 v) {
    float f[16];
    v_store(f, v);
    for (int i = 0; i < 16; i++) p[i] = kv_f32_to_f16(f[i]);
}
VI v16 v_add(v16 a, v16 b) {
    V_EACH(a.p[i] + b.p[i]);
}
VI v16 v_sub(v16 a, v16 b) {
    V_EACH(a.p[i] - b.p[i]);
}
VI v16 v_mul(v16 a, v16 b) {
    V_EACH(a.p[i] * b.p[i]);
}
VI v16 v_div(v16 a, v16 b) {
    V_EACH(a.p[i] / b.p[i]);
}
VI v16 v_fma(v16 a, v16 b, v16 c) {
    V_EACH(a.p[i] * b.p[i] + c.p[i]);
}
VI v4 v4_select(v4i m, v4 a, v4 b) {
    return (v4)(((v4i)a & m) | ((v4i)b & ~m));
}
/* As the x86 instructions: the second operand when either is NaN. */
VI v16 v_max(v16 a, v16 b) {
    V_EACH(v4_select(a.p[i] > b.p[i], a.p[i], b.p[i]));
}
VI v16 v_min(v16 a, v16 b) {
    V_EACH(v4_select(a.p[i] < b.p[i], a.p[i], b.p[i]));
}
VI v4i v4_magnitude(v4 a) {
    const v4i m = {0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff};
    return (v4i)a & m;
}
/* The larger magnitude; infinity is above every number and NaN above infinity. */
VI v16 v_larger(v16 a, v16 b) {
    V_EACH(v4_select(v4_magnitude(a.p[i]) > v4_magnitude(b.p[i]), a.p[i], b.p[i]));
}
/* Lanes below n from a, the others from b. */
VI v16 v_first(v16 a, v16 b, int n) {
    float f[16];
    v_store(f, b);
    v_store_n(f, a, n);
    return v_load(f);
}
/* x * 2^n for whole n in [-126, 127]. */
VI v16 v_ldexp(v16 x, v16 n) {
    const v4i bias = {127, 127, 127, 127};
    V_EACH(x.p[i] * (v4)((__builtin_convertvector(n.p[i], v4i) + bias) << 23));
}
VI float v_sum(v16 a) {
    v4 s = (a.p[0] + a.p[2]) + (a.p[1] + a.p[3]);
    return (s[0] + s[2]) + (s[1] + s[3]);
}
VI float v_top(v16 a) {
    float f[16], m;
    v_store(f, a);
    m = f[0];
    for (int i = 1; i < 16; i++) m = f[i] > m ? f[i] : m;
    return m;
}
/* The largest magnitude of all lanes, in the same order. */
VI float v_largest(v16 a) {
    int32_t n[16], top = 0;
    float f;
    memcpy(n, &a, sizeof n);
    for (int i = 0; i < 16; i++) top = (n[i] & 0x7fffffff) > top ? n[i] & 0x7fffffff : top;
    memcpy(&f, &top, sizeof f);
    return f;
}
/* Rounds to nearest; |lane| <= 127. */
VI void v_store_i8(int8_t *p, v16 a) {
    float f[16];
    v_store(f, a);
    for (int i = 0; i < 16; i++) p[i] = (int8_t)(int)((f[i] + 12582912.0f) - 12582912.0f);
}
#undef V_EACH

/* Sum of KV_GROUP numbers. */
VI int32_t sum_i8(const int8_t *q) {
    int32_t s = 0;
    for (int i = 0; i < 64; i++) s += q[i];
    return s;
}

#endif
