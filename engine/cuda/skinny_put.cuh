/* skinny_put.cuh - what becomes of finished sums of skinny_wide.cu, which a warp holds as fragments: lane l rows r
 * (values 0 and 1) and r + 8 (2 and 3) of a tile, r = row_in_tile(l), columns 2 (l % 4) and the next of a group of 8.
 */
#ifndef KV_CUDA_SKINNY_PUT_H
#define KV_CUDA_SKINNY_PUT_H

#include "engine/cuda/skinny_tile.cuh"

/* Columns of a block: rows [first, first + n) of x. */
typedef struct columns {
    int first, n;
} columns;

/* Where a fragment belongs: a tile, counted over both matrices, up to the end of its own; a group of columns. */
typedef struct place {
    columns c;
    int end, tile, group;
} place;

/* The four lanes with the same row, counted: 0, 4, 1, 5, 2, 6, 3, 7, so that in shared memory, where the swizzle moves
 * rows from 4 on by half a line, eight neighbouring lanes read different banks. */
KV_DEVICE int row_in_tile(int lane) {
    return lane / 4 % 2 * 4 + lane / 8;
}

KV_DEVICE int row_of(const place &p, int i) {
    return p.tile * TILE + row_in_tile(threadIdx.x % 32) + 8 * (i / 2);
}
KV_DEVICE int column_of(const place &p, int i) {
    return p.group * 8 + 2 * (threadIdx.x % 4) + i % 2;
}

/* rstd of 8 columns of the block from `first` on, by one warp, summed as load_rstd of skinny.cu does.  Of a pair of
 * lanes one goes on with one half of the columns, the other with the other. */
KV_DEVICE void load_rstds(const kv_cuda_skinny &a, const columns &c, int first, float *rstd) {
    enum { EACH = 8 };
    const int lane = threadIdx.x % 32, n = min((int)EACH, c.n - first);
    if (n <= 0) return;
    const float *p = a.squares + (size_t)(c.first + first) * a.n_squares;
    float s[EACH] = {};
#pragma unroll 4
    for (int i = lane; i < a.n_squares; i += 32)
#pragma unroll
        for (int k = 0; k < EACH; k++) s[k] += __ldcg(p + (size_t)min(k, n - 1) * a.n_squares + i);
    int d = 16, column = 0;
#pragma unroll
    for (int half = EACH / 2; half; half /= 2, d /= 2) {
#pragma unroll
        for (int k = 0; k < half; k++) {
            const float mine = lane & d ? s[k + half] : s[k], other = lane & d ? s[k] : s[k + half];
            s[k] = mine + __shfl_xor_sync(~0u, other, d);
        }
        if (lane & d) column += half;
    }
    const float sum = warp_sum(s[0], 2 * d);
    if (lane % (2 * d) == 0 && column < n) rstd[first + column] = rstd_of(a, sum);
}

/* By warp number `helper` of `helpers`: rstd of columns [first, end) of the block. */
KV_DEVICE void prepare_rstd(const kv_cuda_skinny &a, const columns &c, int helper, int helpers, int first, int end,
                            float *rstd) {
    for (int i = first + 8 * helper; i < end; i += 8 * helpers) {
        if (a.squares)
            load_rstds(a, c, i, rstd);
        else if (threadIdx.x % 32 < 8)
            rstd[i + threadIdx.x % 32] = 1;
    }
}

/* What a residual product adds to, and the weights of the next norm: fetched before the sums are there. */
typedef struct residual_regs {
    float x[4], w[2];
} residual_regs;

KV_DEVICE void load_residual(const kv_cuda_skinny &a, const place &p, residual_regs &r) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int at = row_of(p, i), n = column_of(p, i);
        if (i % 2 == 0) r.w[i / 2] = at < a.n_out ? a.norm_weight[at] : 0;
        r.x[i] = at < a.n_out && n < p.c.n ? __ldcg(a.residual + (size_t)(p.c.first + n) * a.n_out + at) : 0;
    }
}

KV_DEVICE void put_plain(const kv_cuda_skinny &a, const float *rstd, const place &p, const float v[4]) {
    const int tiles1 = kv_cuda_ceil(a.n_out, TILE), second = p.tile >= tiles1;
    float *out = second ? a.out2 : a.out;
    const int n_out = second ? a.n_out2 : a.n_out, stride = second ? a.out2_stride : a.out_stride;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int n = column_of(p, i), at = row_of(p, i) - (second ? tiles1 * TILE : 0);
        if (n < p.c.n && at < n_out) out[(size_t)(p.c.first + n) * stride + at] = v[i] * rstd[n];
    }
}

KV_DEVICE void put_swiglu(const kv_cuda_skinny &a, const float *rstd, const place &p, const float v[4]) {
    const int at = p.tile * 8 + row_in_tile(threadIdx.x % 32);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int n = column_of(p, i);
        const __nv_bfloat16 h = __float2bfloat16_rn(swiglu(v[i] * rstd[n], v[i + 2] * rstd[n]));
        if (n < p.c.n && at < a.n_out) a.h[place_of(a, p.c.first + n, at)] = h;
    }
}

/* By a whole warp, also for a tile behind the last. */
KV_DEVICE void put_residual(const kv_cuda_skinny &a, const place &p, const float v[4], const residual_regs &before) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int n = column_of(p, i), is = n < p.c.n && p.tile < p.end;
        float square[2] = {0, 0};
#pragma unroll
        for (int k = i; k < 4; k += 2) {
            const int at = row_of(p, k);
            if (!is || at >= a.n_out) continue;
            const size_t to = (size_t)(p.c.first + n) * a.n_out + at;
            const float x = before.x[k] + v[k];
            a.residual[to] = x;
            a.normed[place_of(a, p.c.first + n, at)] = __float2bfloat16_rn(x * before.w[k / 2]);
            square[k / 2] = __fmul_rn(x, x);
        }
        float s = square[0] + square[1]; /* then over the rows 4, 2 and 1 apart, as skinny.cu does */
        s += __shfl_xor_sync(~0u, s, 4);
        s += __shfl_xor_sync(~0u, s, 16);
        s += __shfl_xor_sync(~0u, s, 8);
        if (is && threadIdx.x % 32 / 4 == 0) a.squares_out[(size_t)(p.c.first + n) * p.end + p.tile] = s;
    }
}

/* By a whole warp; rstd: of the block's columns. */
template <int KIND>
KV_DEVICE void put(const kv_cuda_skinny &a, const float *rstd, const place &p, const float v[4],
                   const residual_regs &before) {
    if (KIND == KV_SKINNY_RESIDUAL)
        put_residual(a, p, v, before);
    else if (p.tile >= p.end)
        return;
    else if (KIND == KV_SKINNY_SWIGLU)
        put_swiglu(a, rstd, p, v);
    else
        put_plain(a, rstd, p, v);
}

#endif
