/* skinny_wide.cu - the product of skinny.cuh for many rows of small models (decode batches of more than 64).
 *
 * There the weights are no longer what takes the time, and a warp to each run of k would spend it on adding the runs.
 * Here a warp goes through all of k for its own rows and columns, adds up one run after the other, and has the finished
 * sums in registers: the same order, so the same bits. */
#include "engine/cuda/skinny_tile.cuh"

enum {
    WARPS = 4,
    THREADS = 32 * WARPS,
    GROUPS = 4, /* of 8 columns: those of a block */
    COLUMNS = 8 * GROUPS,
    STEPS = 2 /* chunks of a buffer; one of two loads while the other is multiplied */
};

/* Columns of the block: rows [first, first + n) of x. */
typedef struct columns {
    int first, n;
} columns;

typedef struct chunk_regs {
    frag w;
    uint4 x[GROUPS];
} chunk_regs;

/* Sums of a lane: rows lane / 4 and + 8 of a tile, columns 2 (lane % 4) and the next of a group. */
typedef struct sums {
    float v[GROUPS][4];
} sums;

KV_DEVICE void clear(sums &s) {
#pragma unroll
    for (int g = 0; g < GROUPS; g++)
#pragma unroll
        for (int i = 0; i < 4; i++) s.v[g][i] = 0;
}

KV_DEVICE void add(sums &to, const sums &s) {
#pragma unroll
    for (int g = 0; g < GROUPS; g++)
#pragma unroll
        for (int i = 0; i < 4; i++) to.v[g][i] += s.v[g][i];
}

/* Row and column of value i of a lane's sums. */
KV_DEVICE int row_of(int tile, int i) {
    return tile * TILE + threadIdx.x % 32 / 4 + 8 * (i / 2);
}
KV_DEVICE int column_of(int g, int i) {
    return g * 8 + 2 * (threadIdx.x % 4) + i % 2;
}

KV_DEVICE void put_plain(const kv_cuda_skinny &a, const float *rstd, const columns &c, int tile, int g,
                         const float v[4]) {
    const int tiles1 = (a.n_out + TILE - 1) / TILE, second = tile >= tiles1;
    float *out = second ? a.out2 : a.out;
    const int n_out = second ? a.n_out2 : a.n_out, stride = second ? a.out2_stride : a.out_stride;
    if (second) tile -= tiles1;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int n = column_of(g, i), at = row_of(tile, i);
        if (n < c.n && at < n_out) out[(size_t)(c.first + n) * stride + at] = v[i] * rstd[n];
    }
}

KV_DEVICE void put_swiglu(const kv_cuda_skinny &a, const float *rstd, const columns &c, int tile, int g,
                          const float v[4]) {
    const int at = tile * 8 + threadIdx.x % 32 / 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int n = column_of(g, i);
        if (n >= c.n || at >= a.n_out) continue;
        a.h[(size_t)(c.first + n) * a.n_out + at] = __float2bfloat16_rn(swiglu(v[i] * rstd[n], v[i + 2] * rstd[n]));
    }
}

/* What a residual product adds to, fetched while the weights stream. */
typedef struct residual_regs {
    float x[GROUPS][4], w[2];
} residual_regs;

KV_DEVICE void load_residual(const kv_cuda_skinny &a, const columns &c, int tile, residual_regs &r) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int at = row_of(tile, i);
        if (i % 2 == 0) r.w[i / 2] = at < a.n_out ? a.norm_weight[at] : 0;
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            const int n = column_of(g, i);
            r.x[g][i] = at < a.n_out && n < c.n ? __ldcg(a.residual + (size_t)(c.first + n) * a.n_out + at) : 0;
        }
    }
}

KV_DEVICE void put_residual(const kv_cuda_skinny &a, const columns &c, int n_tiles, int tile, int g, const float v[4],
                            const float before[4], const float w[2]) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int n = column_of(g, i), is = n < c.n && tile < n_tiles;
        float square[2] = {0, 0};
#pragma unroll
        for (int k = i; k < 4; k += 2) {
            const int at = row_of(tile, k);
            if (!is || at >= a.n_out) continue;
            const size_t to = (size_t)(c.first + n) * a.n_out + at;
            const float x = before[k] + v[k];
            a.residual[to] = x;
            a.normed[to] = __float2bfloat16_rn(x * w[k / 2]);
            square[k / 2] = __fmul_rn(x, x);
        }
        float s = square[0] + square[1]; /* then over the rows, as the other kernel's lanes have them */
        for (int d = 16; d >= 4; d /= 2) s += __shfl_xor_sync(~0u, s, d);
        if (is && threadIdx.x % 32 / 4 == 0) a.squares_out[(size_t)(c.first + n) * n_tiles + tile] = s;
    }
}

/* rstd of the block's columns: all of a warp's at once, each summed as load_rstd of skinny.cu does. */
KV_DEVICE void load_rstds(const kv_cuda_skinny &a, const columns &c, float *rstd) {
    enum { EACH = COLUMNS / WARPS };
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const float *p = a.squares + (size_t)(c.first + warp * EACH) * a.n_squares;
    float sum[EACH] = {};
    for (int i = lane; i < a.n_squares; i += 32)
#pragma unroll
        for (int k = 0; k < EACH; k++) sum[k] += warp * EACH + k < c.n ? __ldcg(p + (size_t)k * a.n_squares + i) : 0;
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        const float s = warp_sum(sum[k], 32);
        if (lane == 0) rstd[warp * EACH + k] = rsqrtf(s / (float)a.dim + a.eps);
    }
}

/* Launch: (tiles / WARPS, columns / COLUMNS) blocks of THREADS. */
template <int KIND>
static __global__ void __launch_bounds__(THREADS) multiply_wide(const __grid_constant__ kv_cuda_skinny a, int n_tiles) {
    __shared__ float rstd[COLUMNS];
    const int lane = threadIdx.x % 32, tile = blockIdx.x * WARPS + threadIdx.x / 32, n_chunks = a.n_in / CHUNK;
    const columns c = {(int)blockIdx.y * COLUMNS, min(a.n - (int)blockIdx.y * COLUMNS, (int)COLUMNS)};
    pdl_trigger();

    const __nv_bfloat16 *lo, *hi, *rows = a.x + (size_t)(c.first + lane / 4) * a.n_in + 8 * (lane % 4);
    tile_rows<KIND>(a, min(tile, n_tiles - 1), lane, &lo, &hi);
    lo += 8 * (lane % 4);
    hi += 8 * (lane % 4);
    chunk_regs buf[2][STEPS];
    auto fetch_w = [&](chunk_regs(&b)[STEPS], int chunk) {
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            if (chunk + s >= n_chunks) continue;
            b[s].w.lo = load_weights(lo + (size_t)(chunk + s) * CHUNK);
            b[s].w.hi = load_weights(hi + (size_t)(chunk + s) * CHUNK);
        }
    };
    auto fetch_x = [&](chunk_regs(&b)[STEPS], int chunk) {
#pragma unroll
        for (int s = 0; s < STEPS; s++)
#pragma unroll
            for (int g = 0; g < GROUPS; g++)
                b[s].x[g] = chunk + s < n_chunks && g * 8 + lane / 4 < c.n
                                ? load_x(rows + (size_t)g * 8 * a.n_in + (size_t)(chunk + s) * CHUNK)
                                : make_uint4(0, 0, 0, 0);
    };
    fetch_w(buf[0], 0);
    fetch_w(buf[1], STEPS);
    pdl_wait();
    fetch_x(buf[0], 0);
    fetch_x(buf[1], STEPS);
    if (a.squares) {
        load_rstds(a, c, rstd);
    } else if (threadIdx.x < COLUMNS) {
        rstd[threadIdx.x] = 1;
    }
    __syncthreads();

    residual_regs before;
    if (KIND == KV_SKINNY_RESIDUAL) load_residual(a, c, tile, before);
    sums total, run;
    clear(total);
    clear(run);
    int n_run = 0, run_end = run_start(1, n_chunks);
    auto work = [&](const chunk_regs(&b)[STEPS], int chunk) {
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            if (chunk + s >= n_chunks) continue;
            while (chunk + s == run_end) { /* a run may be empty */
                add(total, run);
                clear(run);
                run_end = run_start(++n_run + 1, n_chunks);
            }
#pragma unroll
            for (int g = 0; g < GROUPS; g++) {
                const frag &w = b[s].w;
                const uint4 &x = b[s].x[g];
                mma(run.v[g], w.lo.x, w.hi.x, w.lo.y, w.hi.y, x.x, x.y);
                mma(run.v[g], w.lo.z, w.hi.z, w.lo.w, w.hi.w, x.z, x.w);
            }
        }
    };
    for (int chunk = 0; chunk < n_chunks; chunk += 2 * STEPS) {
        work(buf[0], chunk);
        fetch_w(buf[0], chunk + 2 * STEPS);
        fetch_x(buf[0], chunk + 2 * STEPS);
        work(buf[1], chunk + STEPS);
        fetch_w(buf[1], chunk + 3 * STEPS);
        fetch_x(buf[1], chunk + 3 * STEPS);
    }
    add(total, run);
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        if (KIND == KV_SKINNY_RESIDUAL)
            put_residual(a, c, n_tiles, tile, g, total.v[g], before.x[g], before.w);
        else if (tile >= n_tiles)
            continue;
        else if (KIND == KV_SKINNY_SWIGLU)
            put_swiglu(a, rstd, c, tile, g, total.v[g]);
        else
            put_plain(a, rstd, c, tile, g, total.v[g]);
    }
}

template <int KIND> static cudaError_t launch(const kv_cuda_skinny *a, int pdl, cudaStream_t stream) {
    int n_tiles = count_tiles((kv_skinny_kind)KIND, a);
    dim3 grid((n_tiles + WARPS - 1) / WARPS, (a->n + COLUMNS - 1) / COLUMNS);
    return pdl_launch(multiply_wide<KIND>, grid, dim3(THREADS), 0, pdl, stream, *a, n_tiles);
}

cudaError_t kv_cuda_skinny_wide(kv_skinny_kind kind, const kv_cuda_skinny *a, int pdl, cudaStream_t stream) {
    switch (kind) {
    case KV_SKINNY_PLAIN:
        return launch<KV_SKINNY_PLAIN>(a, pdl, stream);
    case KV_SKINNY_RESIDUAL:
        return launch<KV_SKINNY_RESIDUAL>(a, pdl, stream);
    case KV_SKINNY_SWIGLU:
        return launch<KV_SKINNY_SWIGLU>(a, pdl, stream);
    }
    return cudaErrorInvalidValue;
}
