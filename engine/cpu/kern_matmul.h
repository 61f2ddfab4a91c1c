/* kern_matmul.h - fp32 products: packing, the register tile, and the gates' row-major product.
 *
 * Every output is one chain of multiply-adds over k = 0, 1, ..., so tiles of any height give the same bits. */

static void pack_f32(float *block, const float *w, int n_rows, int n_in) {
    for (int k = 0; k < n_in; k++)
        for (int j = 0; j < KV_BLOCK; j++) block[(size_t)k * KV_BLOCK + j] = j < n_rows ? w[(size_t)j * n_in + k] : 0;
}

static void pack_q8(uint8_t *block, const float *w, int n_rows, int n_in) {
    int n_groups = (n_in + KV_GROUP - 1) / KV_GROUP;
    for (int g = 0; g < n_groups; g++) {
        uint8_t *p = block + (size_t)g * KV_Q8_GROUP_BYTES;
        float *scale = (float *)(p + KV_BLOCK * KV_GROUP);
        for (int j = 0; j < KV_BLOCK; j++) {
            int8_t q[KV_GROUP] = {0};
            scale[j] = 0;
            if (j < n_rows) {
                v16 v[4];
                load_group(v, w + (size_t)j * n_in + (size_t)g * KV_GROUP, n_in - g * KV_GROUP);
                scale[j] = quantize_group(q, v);
            }
            for (int k = 0; k < KV_GROUP; k++) p[k / 4 * (KV_BLOCK * 4) + j * 4 + k % 4] = (uint8_t)(q[k] + 128);
        }
    }
}

/* Columns [c, c + n) of a row of the block, n <= 16. */
VI void put_columns(float *out, v16 v, int n, int accumulate) {
    if (n >= 16) {
        v_store(out, accumulate ? v_add(v_load(out), v) : v);
    } else if (n > 0) {
        v_store_n(out, accumulate ? v_add(v_load_n(out, n), v) : v, n);
    }
}

/* R rows times C vectors of columns from vector c0 of the block. */
VI void tile_f32_of(const int R, const int C, int c0, const kv_tile_args *a, int r0) {
    const float *w = (const float *)a->block + 16 * c0;
    const float *x = a->x + (size_t)r0 * a->x_stride;
    size_t xs = a->x_stride;
    v16 acc[F32_ROWS][2];
    KV_UNROLL
    for (int r = 0; r < R; r++) {
        KV_UNROLL
        for (int c = 0; c < C; c++) acc[r][c] = v_zero();
    }
    for (int k = 0; k < a->n_in; k++, w += KV_BLOCK, x++) {
        v16 wv[2];
        KV_UNROLL
        for (int c = 0; c < C; c++) wv[c] = v_load(w + 16 * c);
        KV_UNROLL
        for (int r = 0; r < R; r++) {
            v16 xv = v_set1(x[r * xs]);
            KV_UNROLL
            for (int c = 0; c < C; c++) acc[r][c] = v_fma(xv, wv[c], acc[r][c]);
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

#define TILE_F32(R)                                                                                                    \
    static void tile_f32_##R(const kv_tile_args *a, int r0) {                                                          \
        if (R <= F32_ROWS_WIDE) {                                                                                      \
            tile_f32_of(R, 2, 0, a, r0);                                                                               \
        } else {                                                                                                       \
            tile_f32_of(R, 1, 0, a, r0);                                                                               \
            tile_f32_of(R, 1, 1, a, r0);                                                                               \
        }                                                                                                              \
    }
TILE_F32(1)
TILE_F32(2)
#if F32_ROWS > 2
TILE_F32(3)
TILE_F32(4)
TILE_F32(5)
TILE_F32(6)
#endif
#if F32_ROWS > 6
TILE_F32(7)
TILE_F32(8)
TILE_F32(9)
TILE_F32(10)
TILE_F32(11)
TILE_F32(12)
#endif

static void tile_f32(const kv_tile_args *a) {
    static void (*const of[])(const kv_tile_args *, int) = {
        tile_f32_1,
        tile_f32_2,
#if F32_ROWS > 2
        tile_f32_3,
        tile_f32_4,
        tile_f32_5,
        tile_f32_6,
#endif
#if F32_ROWS > 6
        tile_f32_7,
        tile_f32_8,
        tile_f32_9,
        tile_f32_10,
        tile_f32_11,
        tile_f32_12,
#endif
    };
    for (int r = 0; r < a->n_rows; r += F32_ROWS) {
        int n = a->n_rows - r;
        of[(n < F32_ROWS ? n : F32_ROWS) - 1](a, r);
    }
}

/* R rows times J outputs; each output is 16 partial sums over k, then one tree. */
VI void linear_of(const int R, const int J, float *out, const float *x, const float *w, const float *bias, int n_in,
                  int n_out, int j) {
    v16 acc[LINEAR_ROWS][4];
    KV_UNROLL
    for (int r = 0; r < R; r++) {
        KV_UNROLL
        for (int c = 0; c < J; c++) acc[r][c] = v_zero();
    }
    for (int k = 0; k < n_in; k += 16) {
        int n = n_in - k;
        v16 wv[4];
        KV_UNROLL
        for (int c = 0; c < J; c++) {
            const float *p = w + (size_t)(j + c) * n_in + k;
            wv[c] = n >= 16 ? v_load(p) : v_load_n(p, n);
        }
        KV_UNROLL
        for (int r = 0; r < R; r++) {
            const float *p = x + (size_t)r * n_in + k;
            v16 xv = n >= 16 ? v_load(p) : v_load_n(p, n);
            KV_UNROLL
            for (int c = 0; c < J; c++) acc[r][c] = v_fma(xv, wv[c], acc[r][c]);
        }
    }
    KV_UNROLL
    for (int r = 0; r < R; r++) {
        KV_UNROLL
        for (int c = 0; c < J; c++) out[(size_t)r * n_out + j + c] = v_sum(acc[r][c]) + (bias ? bias[j + c] : 0.0f);
    }
}

static void linear(float *out, const float *x, const float *w, const float *bias, int n_rows, int n_in, int n_out,
                   int j0, int j1) {
    int r = 0;
    for (; r + LINEAR_ROWS <= n_rows; r += LINEAR_ROWS) {
        float *o = out + (size_t)r * n_out;
        const float *xr = x + (size_t)r * n_in;
        int j = j0;
        for (; j + 4 <= j1; j += 4) linear_of(LINEAR_ROWS, 4, o, xr, w, bias, n_in, n_out, j);
        for (; j < j1; j++) linear_of(LINEAR_ROWS, 1, o, xr, w, bias, n_in, n_out, j);
    }
    for (; r < n_rows; r++) {
        float *o = out + (size_t)r * n_out;
        const float *xr = x + (size_t)r * n_in;
        int j = j0;
        for (; j + 4 <= j1; j += 4) linear_of(1, 4, o, xr, w, bias, n_in, n_out, j);
        for (; j < j1; j++) linear_of(1, 1, o, xr, w, bias, n_in, n_out, j);
    }
}
