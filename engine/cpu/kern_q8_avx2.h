/* kern_q8_avx2.h - the 8-bit tile without VNNI: |w| times sign(a, w) with vpmaddubsw.
 *
 * Both factors are at most 127, so a pair sum stays within 16 bits: the dot products are exact. */

/* R rows times C vectors of 16 columns from vector c0. */
VI void tile_q8_of(const int R, const int C, int c0, const kv_tile_args *a, int r0) {
    size_t at = (size_t)(a->row + r0) * a->q->n_groups, ng = a->q->n_groups;
    const __m256i ones = _mm256_set1_epi16(1), flip = _mm256_set1_epi8((char)0x80);
    v16 acc[Q8_ROWS][2];
    KV_UNROLL
    for (int r = 0; r < R; r++) {
        KV_UNROLL
        for (int c = 0; c < C; c++) acc[r][c] = v_zero();
    }
    for (size_t g = 0; g < ng; g++) {
        const uint8_t *w = (const uint8_t *)a->block + g * KV_Q8_GROUP_BYTES;
        const float *scale = (const float *)(w + KV_BLOCK * KV_GROUP) + 16 * c0;
        const int8_t *q = a->q->q + (at + g) * KV_GROUP;
        __m256i sum[Q8_ROWS][4];
        KV_UNROLL
        for (int r = 0; r < R; r++) {
            KV_UNROLL
            for (int c = 0; c < 2 * C; c++) sum[r][c] = _mm256_setzero_si256();
        }
        w += 64 * c0;
        for (int k = 0; k < KV_GROUP; k += 4, w += KV_BLOCK * 4) {
            KV_UNROLL
            for (int c = 0; c < 2 * C; c++) {
                __m256i wv = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(w + 32 * c)), flip);
                __m256i wa = _mm256_abs_epi8(wv);
                KV_UNROLL
                for (int r = 0; r < R; r++) {
                    int32_t x;
                    memcpy(&x, q + (size_t)r * ng * KV_GROUP + k, sizeof x);
                    __m256i p = _mm256_maddubs_epi16(wa, _mm256_sign_epi8(_mm256_set1_epi32(x), wv));
                    sum[r][c] = _mm256_add_epi32(sum[r][c], _mm256_madd_epi16(p, ones));
                }
            }
        }
        KV_UNROLL
        for (int r = 0; r < R; r++) {
            v16 sa = v_set1(a->q->scale[at + (size_t)r * ng + g]);
            KV_UNROLL
            for (int c = 0; c < C; c++) {
                v16 f = v_pair(_mm256_cvtepi32_ps(sum[r][2 * c]), _mm256_cvtepi32_ps(sum[r][2 * c + 1]));
                acc[r][c] = v_fma(v_mul(f, v_load(scale + 16 * c)), sa, acc[r][c]);
            }
        }
    }
    KV_UNROLL
    for (int r = 0; r < R; r++) {
        float *out = a->out + (size_t)(r0 + r) * a->out_stride;
        KV_UNROLL
        for (int c = 0; c < C; c++)
            put_columns(out + 16 * (c0 + c), acc[r][c], a->n_cols - 16 * (c0 + c), a->accumulate);
    }
}

static void tile_q8_1(const kv_tile_args *a, int r) {
    tile_q8_of(1, 2, 0, a, r);
}
static void tile_q8_all(const kv_tile_args *a, int r) {
    tile_q8_of(Q8_ROWS, 1, 0, a, r);
    tile_q8_of(Q8_ROWS, 1, 1, a, r);
}

static void tile_q8(const kv_tile_args *a) {
    int r = 0;
    for (; r + Q8_ROWS <= a->n_rows; r += Q8_ROWS) tile_q8_all(a, r);
    for (; r < a->n_rows; r++) tile_q8_1(a, r);
}
