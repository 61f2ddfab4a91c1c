/* simd_avx2.h - the 16-lane vector as two AVX2 registers; needs FMA and F16C. */
#ifndef KV_CPU_SIMD_H
#define KV_CPU_SIMD_H

#include <immintrin.h>
#include <stdint.h>

#define VI static inline __attribute__((always_inline))

typedef struct v16 {
    __m256 a, b;
} v16;

/* Rows of the register tiles; F32_ROWS_WIDE: the most that take both vectors of a block at once. */
#define F32_ROWS 6
#define F32_ROWS_WIDE 3
#define Q8_ROWS 4
#define LINEAR_ROWS 1
#define ATTEND_ROWS 6

VI v16 v_pair(__m256 a, __m256 b) {
    v16 o = {a, b};
    return o;
}
VI v16 v_set1(float f) {
    return v_pair(_mm256_set1_ps(f), _mm256_set1_ps(f));
}
VI v16 v_zero(void) {
    return v_pair(_mm256_setzero_ps(), _mm256_setzero_ps());
}
VI v16 v_load(const float *p) {
    return v_pair(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
VI void v_store(float *p, v16 v) {
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
VI __m256i lanes_below(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
VI v16 v_load_n(const float *p, int n) {
    return v_pair(_mm256_maskload_ps(p, lanes_below(n)), _mm256_maskload_ps(p + 8, lanes_below(n - 8)));
}
VI void v_store_n(float *p, v16 v, int n) {
    _mm256_maskstore_ps(p, lanes_below(n), v.a);
    _mm256_maskstore_ps(p + 8, lanes_below(n - 8), v.b);
}
VI __m256 hadamard_eight(__m256 v) {
    __m256 t = _mm256_permute_ps(v, 0xB1);
    v = _mm256_blend_ps(_mm256_add_ps(t, v), _mm256_sub_ps(t, v), 0xAA);
    t = _mm256_permute_ps(v, 0x4E);
    v = _mm256_blend_ps(_mm256_add_ps(t, v), _mm256_sub_ps(t, v), 0xCC);
    t = _mm256_permute2f128_ps(v, v, 1);
    return _mm256_blend_ps(_mm256_add_ps(t, v), _mm256_sub_ps(t, v), 0xF0);
}
/* Lane i = sum over j of (-1)^popcount(i & j) times lane j: four rounds of sums and differences. */
VI v16 v_hadamard(v16 v) {
    __m256 a = hadamard_eight(v.a), b = hadamard_eight(v.b);
    return v_pair(_mm256_add_ps(a, b), _mm256_sub_ps(a, b));
}
VI v16 v_load_half(const uint16_t *p) {
    return v_pair(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                  _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8))));
}
VI void v_store_half(uint16_t *p, v16 v) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
VI v16 v_add(v16 x, v16 y) {
    return v_pair(_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b));
}
VI v16 v_sub(v16 x, v16 y) {
    return v_pair(_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b));
}
VI v16 v_mul(v16 x, v16 y) {
    return v_pair(_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b));
}
VI v16 v_div(v16 x, v16 y) {
    return v_pair(_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b));
}
VI v16 v_fma(v16 x, v16 y, v16 z) {
    return v_pair(_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b));
}
/* The second operand when either is NaN. */
VI v16 v_max(v16 x, v16 y) {
    return v_pair(_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b));
}
VI v16 v_min(v16 x, v16 y) {
    return v_pair(_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b));
}
VI __m256i magnitude(__m256 x) {
    return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
}
/* The larger magnitude; infinity is above every number and NaN above infinity. */
VI v16 v_larger(v16 x, v16 y) {
    return v_pair(_mm256_castsi256_ps(_mm256_max_epi32(magnitude(x.a), magnitude(y.a))),
                  _mm256_castsi256_ps(_mm256_max_epi32(magnitude(x.b), magnitude(y.b))));
}
/* Lanes below n from x, the others from y. */
VI v16 v_first(v16 x, v16 y, int n) {
    return v_pair(_mm256_blendv_ps(y.a, x.a, _mm256_castsi256_ps(lanes_below(n))),
                  _mm256_blendv_ps(y.b, x.b, _mm256_castsi256_ps(lanes_below(n - 8))));
}
VI __m256 pow2(__m256 n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
/* x * 2^n for whole n in [-126, 127]. */
VI v16 v_ldexp(v16 x, v16 n) {
    return v_pair(_mm256_mul_ps(x.a, pow2(n.a)), _mm256_mul_ps(x.b, pow2(n.b)));
}
VI float v_sum(v16 x) {
    __m256 s = _mm256_add_ps(x.a, x.b);
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}
VI float v_top(v16 x) {
    __m256 s = _mm256_max_ps(x.a, x.b);
    __m128 t = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_max_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}
/* The largest magnitude of all lanes, in the same order. */
VI float v_largest(v16 x) {
    __m256i s = _mm256_max_epi32(magnitude(x.a), magnitude(x.b));
    __m128i t = _mm_max_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0x4e));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epi32(t, _mm_shuffle_epi32(t, 0xb1))));
}
/* Rounds to nearest; |lane| <= 127. */
VI void v_store_i8(int8_t *p, v16 x) {
    __m256i w = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
    w = _mm256_permute4x64_epi64(w, 0xd8);
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}
/* Sum of KV_GROUP numbers. */
VI int32_t sum_i8(const int8_t *q) {
    const __m256i one = _mm256_set1_epi8(1), wide = _mm256_set1_epi16(1);
    __m256i s = _mm256_add_epi16(_mm256_maddubs_epi16(one, _mm256_loadu_si256((const __m256i *)q)),
                                 _mm256_maddubs_epi16(one, _mm256_loadu_si256((const __m256i *)(q + 32))));
    s = _mm256_madd_epi16(s, wide);
    __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(t, _mm_shuffle_epi32(t, 0xb1)));
}

#endif
