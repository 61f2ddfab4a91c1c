/* kern_q8_avx512.h - the 8-bit tile with VNNI: vpdpbusd of unsigned weights (w + 128) and signed activations.
 *
 * The offset's share, 128 times the sum of the activations, is the start value of the integer accumulators. */

/* Multiplies and adds 4 neighbours per lane; as assembly because compilers copy the accumulators of the intrinsic. */
VI __m512i dot4(__m512i sum, __m512i w, __m512i x) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
}

VI void tile_q8_of(const int R, const kv_tile_args *a, int r0) {
    size_t ng = a->q->n_groups, at = (size_t)(a->row + r0) * ng, stride = ng * KV_GROUP;
    const uint8_t *w = a->block;
    const int8_t *q = a->q->q + at * KV_GROUP;
    __m512 acc[Q8_ROWS][2];
    KV_UNROLL
    for (int r = 0; r < R; r++) acc[r][0] = acc[r][1] = _mm512_setzero_ps();
    for (size_t g = 0; g < ng; g++) {
        __m512i sum[Q8_ROWS][2];
        KV_UNROLL
        for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = _mm512_set1_epi32(a->q->comp[at + r * ng + g]);
        for (int k = 0; k < KV_GROUP; k += 4, w += KV_BLOCK * 4, q += 4) {
            __m512i w0 = _mm512_loadu_si512(w), w1 = _mm512_loadu_si512(w + 64);
            KV_UNROLL
            for (int r = 0; r < R; r++) {
                int32_t x;
                memcpy(&x, q + r * stride, sizeof x);
                __m512i xv = _mm512_set1_epi32(x);
                sum[r][0] = dot4(sum[r][0], w0, xv);
                sum[r][1] = dot4(sum[r][1], w1, xv);
            }
        }
        __m512 s0 = _mm512_loadu_ps(w), s1 = _mm512_loadu_ps(w + 64);
        w += KV_BLOCK * sizeof(float);
        KV_UNROLL
        for (int r = 0; r < R; r++) {
            __m512 sa = _mm512_set1_ps(a->q->scale[at + r * ng + g]);
            acc[r][0] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][0]), s0), sa, acc[r][0]);
            acc[r][1] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][1]), s1), sa, acc[r][1]);
        }
    }
    KV_UNROLL
    for (int r = 0; r < R; r++) {
        float *out = a->out + (size_t)(r0 + r) * a->out_stride;
        put_columns(out, acc[r][0], a->n_cols, a->accumulate);
        put_columns(out + 16, acc[r][1], a->n_cols - 16, a->accumulate);
    }
}

#define TILE_Q8(R)                                                                                                     \
    static void tile_q8_##R(const kv_tile_args *a, int r0) {                                                           \
        tile_q8_of(R, a, r0);                                                                                          \
    }
TILE_Q8(1)
TILE_Q8(2)
TILE_Q8(3)
TILE_Q8(4)
TILE_Q8(5)
TILE_Q8(6)

static void tile_q8(const kv_tile_args *a) {
    static void (*const of[])(const kv_tile_args *, int) = {tile_q8_1, tile_q8_2, tile_q8_3,
                                                            tile_q8_4, tile_q8_5, tile_q8_6};
    for (int r = 0; r < a->n_rows; r += Q8_ROWS) {
        int n = a->n_rows - r;
        of[(n < Q8_ROWS ? n : Q8_ROWS) - 1](a, r);
    }
}

#define KV_HAVE_PERMUTE_HALVES
/* As PERMUTE of kern_rows.h, a vector at a time. */
static void permute_halves(uint16_t *dst, const uint16_t *src, int n_vec, const uint8_t *from, int lane0, int lane1) {
    uint16_t lane[KV_PAGE] = {0};
    for (int j = lane0; j < lane1; j++) lane[j] = from[j];
    __m256i at = _mm256_loadu_si256((const __m256i *)lane);
    __mmask16 m = (__mmask16)(lanes_below(lane1) & ~lanes_below(lane0));
    for (int i = 0; i < n_vec; i++, dst += KV_PAGE, src += KV_PAGE) {
        __m256i v = _mm256_permutexvar_epi16(at, _mm256_loadu_si256((const __m256i *)src));
        _mm256_mask_storeu_epi16(dst, m, v);
    }
}
