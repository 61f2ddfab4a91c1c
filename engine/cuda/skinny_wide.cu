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

KV_DEVICE void put_plain(const kv_cuda_skinny &a, const float *rstd, const columns &c, int tile, int g,
                         const float v[4]) {
    const int lane = threadIdx.x % 32, tiles1 = (a.n_out + TILE - 1) / TILE, second = tile >= tiles1;
    float *out = second ? a.out2 : a.out;
    const int n_out = second ? a.n_out2 : a.n_out, stride = second ? a.out2_stride : a.out_stride;
    if (second) tile -= tiles1;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int n = g * 8 + 2 * (lane % 4) + i % 2, at = tile * TILE + lane / 4 + 8 * (i / 2);
        if (n < c.n && at < n_out) out[(size_t)(c.first + n) * stride + at] = v[i] * rstd[n];
    }
}

KV_DEVICE void put_swiglu(const kv_cuda_skinny &a, const float *rstd, const columns &c, int tile, int g,
                          const float v[4]) {
    const int lane = threadIdx.x % 32, at = tile * 8 + lane / 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int n = g * 8 + 2 * (lane % 4) + i;
        if (n >= c.n || at >= a.n_out) continue;
        a.h[(size_t)(c.first + n) * a.n_out + at] = __float2bfloat16_rn(swiglu(v[i] * rstd[n], v[i + 2] * rstd[n]));
    }
}

KV_DEVICE void put_residual(const kv_cuda_skinny &a, const columns &c, int n_tiles, int tile, int g, const float v[4]) {
    const int lane = threadIdx.x % 32, row = tile * TILE + lane / 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int n = g * 8 + 2 * (lane % 4) + i, is = n < c.n && tile < n_tiles;
        float square[2] = {0, 0};
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int at = row + 8 * half;
            if (!is || at >= a.n_out) continue;
            const size_t to = (size_t)(c.first + n) * a.n_out + at;
            const float x = __ldcg(a.residual + to) + v[i + 2 * half];
            a.residual[to] = x;
            a.normed[to] = __float2bfloat16_rn(x * a.norm_weight[at]);
            square[half] = __fmul_rn(x, x);
        }
        float s = square[0] + square[1]; /* then over the rows, as the other kernel's lanes have them */
        for (int d = 16; d >= 4; d /= 2) s += __shfl_xor_sync(~0u, s, d);
        if (is && lane / 4 == 0) a.squares_out[(size_t)(c.first + n) * n_tiles + tile] = s;
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
        load_rstd<WARPS>(a, c.first, c.n, rstd);
    } else if (threadIdx.x < COLUMNS) {
        rstd[threadIdx.x] = 1;
    }
    __syncthreads();

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
                put_residual(a, c, n_tiles, tile, g, total.v[t][g]);
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
    return pdl_launch(multiply_wide<KIND, TILES>, grid, dim3(THREADS), 0, pdl, 1, stream, *a, n_tiles);
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
