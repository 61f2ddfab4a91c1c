/* simd_avx512.h - the 16-lane vector as one AVX-512 register. */
#ifndef KV_CPU_SIMD_H
#define KV_CPU_SIMD_H

#include <immintrin.h>
#include <stdint.h>

#define VI static inline __attribute__((always_inline))

typedef __m512 v16;

/* Rows of the register tiles; F32_ROWS_WIDE: the most that take both vectors of a block at once. */
#define F32_ROWS 12
#define F32_ROWS_WIDE 12
#define Q8_ROWS 6
#define LINEAR_ROWS 4
#define ATTEND_ROWS 12

VI v16 v_set1(float f) {
    return _mm512_set1_ps(f);
}
VI v16 v_zero(void) {
    return _mm512_setzero_ps();
}
VI v16 v_load(const float *p) {
    return _mm512_loadu_ps(p);
}
VI void v_store(float *p, v16 v) {
    _mm512_storeu_ps(p, v);
}
VI __mmask16 lanes_below(int n) {
    return (__mmask16)((1u << n) - 1);
}
VI v16 v_load_n(const float *p, int n) {
    return _mm512_maskz_loadu_ps(lanes_below(n), p);
}
VI void v_store_n(float *p, v16 v, int n) {
    _mm512_mask_storeu_ps(p, lanes_below(n), v);
}
VI v16 v_load_half(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
VI void v_store_half(uint16_t *p, v16 v) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
VI v16 v_add(v16 a, v16 b) {
    return _mm512_add_ps(a, b);
}
VI v16 v_sub(v16 a, v16 b) {
    return _mm512_sub_ps(a, b);
}
VI v16 v_mul(v16 a, v16 b) {
    return _mm512_mul_ps(a, b);
}
/* v with the lanes of `minus` negated, plus t, rounded once: the sums and differences of a butterfly. */
VI v16 v_butterfly(v16 v, __mmask16 minus, v16 t) {
    return _mm512_fmadd_ps(v, _mm512_mask_blend_ps(minus, v_set1(1.0f), v_set1(-1.0f)), t);
}
/* Lane i = sum over j of (-1)^popcount(i & j) times lane j: four rounds of sums and differences. */
VI v16 v_hadamard(v16 v) {
    v = v_butterfly(v, 0xAAAA, _mm512_permute_ps(v, 0xB1));
    v = v_butterfly(v, 0xCCCC, _mm512_permute_ps(v, 0x4E));
    v = v_butterfly(v, 0xF0F0, _mm512_shuffle_f32x4(v, v, 0xB1));
    return v_butterfly(v, 0xFF00, _mm512_shuffle_f32x4(v, v, 0x4E));
}
VI v16 v_div(v16 a, v16 b) {
    return _mm512_div_ps(a, b);
}
VI v16 v_fma(v16 a, v16 b, v16 c) {
    return _mm512_fmadd_ps(a, b, c);
}
/* The second operand when either is NaN. */
VI v16 v_max(v16 a, v16 b) {
    return _mm512_max_ps(a, b);
}
VI v16 v_min(v16 a, v16 b) {
    return _mm512_min_ps(a, b);
}
VI __m512i magnitude(v16 a) {
    return _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff));
}
/* The larger magnitude; infinity is above every number and NaN above infinity. */
VI v16 v_larger(v16 a, v16 b) {
    return _mm512_castsi512_ps(_mm512_max_epi32(magnitude(a), magnitude(b)));
}
/* Lanes below n from a, the others from b. */
VI v16 v_first(v16 a, v16 b, int n) {
    return _mm512_mask_mov_ps(b, lanes_below(n), a);
}
/* x * 2^n for whole n in [-126, 127]. */
VI v16 v_ldexp(v16 x, v16 n) {
    return _mm512_scalef_ps(x, n);
}
/* The same tree as the narrower vectors have. */
VI float v_sum(v16 a) {
    __m256 s = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}
VI float v_top(v16 a) {
    return _mm512_reduce_max_ps(a);
}
/* The largest magnitude of all lanes, in the same order. */
VI float v_largest(v16 a) {
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(_mm512_reduce_max_epi32(magnitude(a)))));
}
/* Rounds to nearest; |lane| <= 127. */
VI void v_store_i8(int8_t *p, v16 a) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}
/* Sum of KV_GROUP numbers. */
VI int32_t sum_i8(const int8_t *q) {
    return _mm512_reduce_add_epi32(
        _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), _mm512_loadu_si512(q)));
}

#endif
