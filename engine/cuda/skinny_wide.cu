/* skinny_wide.cu - the product of skinny.cuh for many rows (decode batches of more than 64, small models).
 *
 * With many columns the weights are no longer what takes the time, and a warp to each run of k would spend it on adding
 * the runs.  Here a warp goes through all of k for its own rows and columns, adds up one run after the other, and has
 * the finished sums in registers: the same order, so the same bits. */
#include "engine/cuda/skinny_tile.cuh"

enum {
    WARPS = 4,
    THREADS = 32 * WARPS,
    GROUPS = 4, /* of 8 columns: those of a block */
    COLUMNS = 8 * GROUPS,
    DEPTH = 3 /* chunks on their way */
};

/* Columns of the block: rows [first, first + n) of x. */
typedef struct columns {
    int first, n;
} columns;

template <int TILES> struct chunk_regs {
    frag w[TILES];
    uint4 x[GROUPS];
};

/* Sums of a lane: rows lane / 4 and + 8 of a tile, columns 2 (lane % 4) and the next of a group. */
template <int TILES> struct sums { float v[TILES][GROUPS][4]; };

template <int TILES> KV_DEVICE void clear(sums<TILES> &s) {
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int g = 0; g < GROUPS; g++)
#pragma unroll
            for (int i = 0; i < 4; i++) s.v[t][g][i] = 0;
}

template <int TILES> KV_DEVICE void add(sums<TILES> &to, const sums<TILES> &s) {
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int g = 0; g < GROUPS; g++)
#pragma unroll
            for (int i = 0; i < 4; i++) to.v[t][g][i] += s.v[t][g][i];
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
template <int TILES> struct residual_regs { float x[TILES][GROUPS][4], w[TILES][2]; };

template <int TILES>
KV_DEVICE void load_residual(const kv_cuda_skinny &a, const columns &c, int first, residual_regs<TILES> &r) {
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int at = row_of(first + t, i);
            if (i % 2 == 0) r.w[t][i / 2] = at < a.n_out ? a.norm_weight[at] : 0;
#pragma unroll
            for (int g = 0; g < GROUPS; g++) {
                const int n = column_of(g, i);
                r.x[t][g][i] = at < a.n_out && n < c.n ? __ldcg(a.residual + (size_t)(c.first + n) * a.n_out + at) : 0;
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

/* rstd of the block's columns: all of a warp's at once, each summed as load_rstd does. */
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

/* Launch: (units of TILES tiles / WARPS, columns / COLUMNS) blocks of THREADS. */
template <int KIND, int TILES>
static __global__ void __launch_bounds__(THREADS) multiply_wide(const __grid_constant__ kv_cuda_skinny a, int n_tiles) {
    __shared__ float rstd[COLUMNS];
    const int lane = threadIdx.x % 32, first = (blockIdx.x * WARPS + threadIdx.x / 32) * TILES;
    const int n_chunks = a.n_in / CHUNK;
    const columns c = {(int)blockIdx.y * COLUMNS, min(a.n - (int)blockIdx.y * COLUMNS, (int)COLUMNS)};
    pdl_trigger();

    const __nv_bfloat16 *lo[TILES], *hi[TILES];
#pragma unroll
    for (int t = 0; t < TILES; t++) {
        tile_rows<KIND>(a, min(first + t, n_tiles - 1), lane, &lo[t], &hi[t]);
        lo[t] += 8 * (lane % 4);
        hi[t] += 8 * (lane % 4);
    }
    const __nv_bfloat16 *rows = a.x + (size_t)(c.first + lane / 4) * a.n_in + 8 * (lane % 4);
    chunk_regs<TILES> buf[DEPTH];
    auto fetch_w = [&](chunk_regs<TILES> &b, int chunk) {
        if (chunk < n_chunks)
#pragma unroll
            for (int t = 0; t < TILES; t++) {
                b.w[t].lo = load_weights(lo[t] + (size_t)chunk * CHUNK);
                b.w[t].hi = load_weights(hi[t] + (size_t)chunk * CHUNK);
            }
    };
    auto fetch_x = [&](chunk_regs<TILES> &b, int chunk) {
#pragma unroll
        for (int g = 0; g < GROUPS; g++)
            b.x[g] = chunk < n_chunks && g * 8 + lane / 4 < c.n
                         ? load_x(rows + (size_t)g * 8 * a.n_in + (size_t)chunk * CHUNK)
                         : make_uint4(0, 0, 0, 0);
    };
#pragma unroll
    for (int s = 0; s < DEPTH; s++) fetch_w(buf[s], s);
    pdl_wait();
#pragma unroll
    for (int s = 0; s < DEPTH; s++) fetch_x(buf[s], s);
    if (a.squares) {
        load_rstds(a, c, rstd);
    } else if (threadIdx.x < COLUMNS) {
        rstd[threadIdx.x] = 1;
    }
    __syncthreads();

    residual_regs<TILES> before;
    if (KIND == KV_SKINNY_RESIDUAL) load_residual<TILES>(a, c, first, before);
    sums<TILES> total, run;
    clear(total);
    clear(run);
    int n_run = 0, run_end = run_start(1, n_chunks);
    for (int chunk = 0; chunk < n_chunks; chunk += DEPTH) {
#pragma unroll
        for (int s = 0; s < DEPTH; s++) {
            if (chunk + s >= n_chunks) continue;
            while (chunk + s == run_end) { /* a run may be empty */
                add(total, run);
                clear(run);
                run_end = run_start(++n_run + 1, n_chunks);
            }
#pragma unroll
            for (int t = 0; t < TILES; t++)
#pragma unroll
                for (int g = 0; g < GROUPS; g++) {
                    const frag &w = buf[s].w[t];
                    const uint4 &x = buf[s].x[g];
                    mma(run.v[t][g], w.lo.x, w.hi.x, w.lo.y, w.hi.y, x.x, x.y);
                    mma(run.v[t][g], w.lo.z, w.hi.z, w.lo.w, w.hi.w, x.z, x.w);
                }
            fetch_w(buf[s], chunk + s + DEPTH);
            fetch_x(buf[s], chunk + s + DEPTH);
        }
    }
    add(total, run);
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            const int tile = first + t;
            if (KIND == KV_SKINNY_RESIDUAL)
                put_residual(a, c, n_tiles, tile, g, total.v[t][g], before.x[t][g], before.w[t]);
            else if (tile >= n_tiles)
                continue;
            else if (KIND == KV_SKINNY_SWIGLU)
                put_swiglu(a, rstd, c, tile, g, total.v[t][g]);
            else
                put_plain(a, rstd, c, tile, g, total.v[t][g]);
        }
}

template <int KIND, int TILES>
static cudaError_t launch(const kv_cuda_skinny *a, int n_tiles, int pdl, cudaStream_t stream) {
    dim3 grid((n_tiles + TILES * WARPS - 1) / (TILES * WARPS), (a->n + COLUMNS - 1) / COLUMNS);
    return pdl_launch(multiply_wide<KIND, TILES>, grid, dim3(THREADS), 0, pdl, stream, *a, n_tiles);
}

/* Two tiles a warp read x half as often; with few tiles more warps are better. */
template <int KIND> static cudaError_t launch_kind(const kv_cuda_skinny *a, int pdl, cudaStream_t stream) {
    enum { MANY = 1024 };
    int n_tiles = count_tiles((kv_skinny_kind)KIND, a);
    return n_tiles >= MANY ? launch<KIND, 2>(a, n_tiles, pdl, stream) : launch<KIND, 1>(a, n_tiles, pdl, stream);
}

cudaError_t kv_cuda_skinny_wide(kv_skinny_kind kind, const kv_cuda_skinny *a, int pdl, cudaStream_t stream) {
    switch (kind) {
    case KV_SKINNY_PLAIN:
        return launch_kind<KV_SKINNY_PLAIN>(a, pdl, stream);
    case KV_SKINNY_RESIDUAL:
        return launch_kind<KV_SKINNY_RESIDUAL>(a, pdl, stream);
    case KV_SKINNY_SWIGLU:
        return launch_kind<KV_SKINNY_SWIGLU>(a, pdl, stream);
    }
    return cudaErrorInvalidValue;
}
