/* skinny.cu - the product of skinny.cuh for few rows, in bands: a block has a tile at a time, each of its warps a run
 * of k. */
#include "engine/cuda/mma.cuh"
#include "engine/cuda/skinny_tile.cuh"

enum {
    WARPS = RUNS,
    THREADS = 32 * WARPS,
    PER_SM = 2, /* blocks of a multiprocessor: what the registers allow */
    FEW = 16    /* most rows that x fits in registers of */
};

typedef struct frag {
    uint4 lo, hi; /* 8 weights of row lane / 4 and of row lane / 4 + 8 */
} frag;

KV_DEVICE uint4 load_weights(const __nv_bfloat16 *p) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

/* Not through the read-only path: the kernel before this one has just written it. */
KV_DEVICE uint4 load_x(const __nv_bfloat16 *p) {
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}

/* Where a lane's two rows of a tile begin: rows r and r + 8; for swiglu gate row and up row of one h. */
template <int KIND>
KV_DEVICE void tile_rows(const kv_cuda_skinny &a, int tile, int lane, const __nv_bfloat16 **lo,
                         const __nv_bfloat16 **hi) {
    int r = lane / 4;
    size_t k = (size_t)a.n_in;
    if (KIND == KV_SKINNY_SWIGLU) {
        int row = min(tile * 8 + r, a.n_out - 1);
        *lo = a.w + (size_t)row * k;
        *hi = a.w + (size_t)(a.n_out + row) * k;
        return;
    }
    const __nv_bfloat16 *w = a.w;
    int n = a.n_out, first = kv_cuda_ceil(a.n_out, TILE);
    if (KIND == KV_SKINNY_PLAIN && tile >= first) {
        w = a.w2;
        n = a.n_out2;
        tile -= first;
    }
    *lo = w + (size_t)min(tile * TILE + r, n - 1) * k;
    *hi = w + (size_t)min(tile * TILE + r + 8, n - 1) * k;
}

/* rstd of every row into shared memory; a batch of partial sums is loaded at once. */
static __device__ void load_rstd(const kv_cuda_skinny &a, float *rstd) {
    enum { BATCH = 8 };
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, rows = a.n;
    for (int n = warp; n < rows; n += WARPS) {
        const float *p = a.squares + (size_t)n * a.n_squares;
        float sum = 0, s[BATCH];
        for (int i0 = lane; i0 < a.n_squares; i0 += 32 * BATCH) {
#pragma unroll
            for (int k = 0; k < BATCH; k++) s[k] = i0 + 32 * k < a.n_squares ? __ldcg(p + i0 + 32 * k) : 0;
#pragma unroll
            for (int k = 0; k < BATCH; k++) sum += s[k];
        }
        sum = warp_sum(sum, 32);
        if (lane == 0) rstd[n] = rstd_of(a, sum);
    }
}

/* Sum of the warps' runs, in order; red is (WARPS, columns, 16 rows). */
template <int COLUMNS> static __device__ inline float sum_runs(const float *red, int n, int row) {
    float v = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++) v += red[(w * COLUMNS + n) * TILE + row];
    return v;
}

template <int COLUMNS>
static __device__ void put_plain(const kv_cuda_skinny &a, const float *red, const float *rstd, int tile) {
    const int tiles1 = kv_cuda_ceil(a.n_out, TILE), second = tile >= tiles1;
    for (int i = threadIdx.x; i < COLUMNS * TILE; i += THREADS) {
        int n = i / TILE, r = i % TILE;
        if (n >= a.n) continue;
        float v = sum_runs<COLUMNS>(red, n, r) * rstd[n];
        int at = (second ? tile - tiles1 : tile) * TILE + r;
        if (at >= (second ? a.n_out2 : a.n_out)) continue;
        (second ? a.out2 + (size_t)n * a.out2_stride : a.out + (size_t)n * a.out_stride)[at] = v;
    }
}

template <int COLUMNS>
static __device__ void put_swiglu(const kv_cuda_skinny &a, const float *red, const float *rstd, int tile) {
    for (int i = threadIdx.x; i < COLUMNS * 8; i += THREADS) {
        int n = i / 8, r = i % 8, at = tile * 8 + r;
        if (n >= a.n || at >= a.n_out) continue;
        float gate = sum_runs<COLUMNS>(red, n, r) * rstd[n], up = sum_runs<COLUMNS>(red, n, r + 8) * rstd[n];
        a.h[place_of(a, n, at)] = __float2bfloat16_rn(swiglu(gate, up));
    }
}

/* What a residual product adds to, for the values of this thread: fetched while the weights stream. */
template <int COLUMNS> struct residual_regs {
    static constexpr int EACH = (COLUMNS * TILE + THREADS - 1) / THREADS;
    float x[EACH], w[EACH];
};

template <int COLUMNS>
static __device__ inline void load_residual(const kv_cuda_skinny &a, int tile, residual_regs<COLUMNS> &v) {
#pragma unroll
    for (int k = 0; k < residual_regs<COLUMNS>::EACH; k++) {
        int i = threadIdx.x + k * THREADS, n = i / TILE, at = tile * TILE + i % TILE, real = n < a.n && at < a.n_out;
        v.x[k] = real ? __ldcg(a.residual + (size_t)n * a.n_out + at) : 0;
        v.w[k] = real ? a.norm_weight[at] : 0;
    }
}

/* Sixteen neighbouring lanes hold the rows of one column; whole warps take part in every round. */
template <int COLUMNS>
static __device__ void put_residual(const kv_cuda_skinny &a, const float *red, int tile, int n_tiles,
                                    const residual_regs<COLUMNS> &before) {
    static_assert(COLUMNS * TILE % 32 == 0, "rounds end at whole warps");
#pragma unroll
    for (int k = 0; k < residual_regs<COLUMNS>::EACH; k++) {
        int i = threadIdx.x + k * THREADS, n = i / TILE, r = i % TILE, at = tile * TILE + r, real = n < a.n;
        if (n >= COLUMNS) break;
        float v = 0;
        if (real && at < a.n_out) {
            v = before.x[k] + sum_runs<COLUMNS>(red, n, r);
            a.residual[(size_t)n * a.n_out + at] = v;
            a.normed[place_of(a, n, at)] = __float2bfloat16_rn(v * before.w[k]);
        }
        float s = __fmul_rn(v, v);
        for (int d = 8; d; d /= 2) s += __shfl_xor_sync(~0u, s, d);
        if (real && r == 0) a.squares_out[(size_t)n * n_tiles + tile] = s;
    }
}

/* The slice of `rows` rows that a block works on. */
static __device__ inline kv_cuda_skinny slice_rows(kv_cuda_skinny a, int slice, int rows) {
    size_t row = (size_t)slice * rows;
    a.n = min(a.n - (int)row, rows);
    a.x += row * a.n_in;
    if (a.squares) a.squares += row * a.n_squares;
    if (a.out) a.out += row * a.out_stride;
    if (a.out2) a.out2 += row * a.out2_stride;
    if (a.h) a.h += row * a.n_out;
    if (a.residual) {
        a.residual += row * a.n_out;
        a.normed += row * a.n_out;
        a.squares_out += row * kv_cuda_skinny_squares(a.n_out);
    }
    return a;
}

/* Slices of n rows: a block has the columns of one.  Those of a tile lie side by side, so that they share what the L2
 * cache holds of the weights. */
template <int GROUPS> static __host__ __device__ int count_slices(int n) {
    return GROUPS >= 4 ? kv_cuda_ceil(n, 8 * GROUPS) : 1;
}

/* Launch: THREADS threads, any number of blocks times slices; shared memory: WARPS * 16 * 8 * GROUPS floats.
 * GROUPS: groups of 8 columns; STEPS: chunks in flight per buffer.  One long function, because its registers are the
 * pipeline: two buffers of weights, one loading while the other is multiplied, also across tiles. */
template <int KIND, int GROUPS, int STEPS>
static __global__ void __launch_bounds__(THREADS, PER_SM) multiply_rows(kv_cuda_skinny a, int n_tiles) {
    extern __shared__ float red[]; /* (WARPS, GROUPS * 8 columns, 16 rows) */
    __shared__ float rstd[8 * GROUPS];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int slices = count_slices<GROUPS>(a.n), step = gridDim.x / slices;
    if (GROUPS >= 4) a = slice_rows(a, blockIdx.x % slices, 8 * GROUPS);
    const int n_chunks = a.n_in / CHUNK, from = run_start(warp, n_chunks), to = run_start(warp + 1, n_chunks);
    pdl_trigger();

    const __nv_bfloat16 *lo, *hi;
    frag buf[2][STEPS];
    uint4 col[2][STEPS][GROUPS]; /* the x that goes with them */
    int tile = blockIdx.x / slices;
    auto point = [&](int t) {
        tile_rows<KIND>(a, t, lane, &lo, &hi);
        lo += 8 * (lane % 4);
        hi += 8 * (lane % 4);
    };
    auto fetch = [&](frag(&f)[STEPS], int chunk) {
#pragma unroll
        for (int s = 0; s < STEPS; s++)
            if (chunk + s < to) {
                f[s].lo = load_weights(lo + (size_t)(chunk + s) * CHUNK);
                f[s].hi = load_weights(hi + (size_t)(chunk + s) * CHUNK);
            }
    };
    const __nv_bfloat16 *x = a.x + 8 * lane; /* in bands: 8 elements from 8 (lane % 4) on, of row lane / 4 */
    auto fetch_x = [&](uint4(&b)[STEPS][GROUPS], int chunk) {
#pragma unroll
        for (int s = 0; s < STEPS; s++)
#pragma unroll
            for (int g = 0; g < GROUPS; g++)
                b[s][g] = chunk + s < to && g * 8 + lane / 4 < a.n
                              ? load_x(x + (size_t)g * KV_BAND * a.n_in + (size_t)(chunk + s) * (KV_BAND * CHUNK))
                              : make_uint4(0, 0, 0, 0);
    };
    constexpr int COLUMNS = GROUPS * 8;
    residual_regs<COLUMNS> before;
    float acc[GROUPS][4];
    auto work = [&](const frag(&f)[STEPS], const uint4(&b)[STEPS][GROUPS], int chunk) {
#pragma unroll
        for (int s = 0; s < STEPS; s++)
            if (chunk + s < to) {
#pragma unroll
                for (int g = 0; g < GROUPS; g++) {
                    const frag &w = f[s];
                    mma(acc[g], w.lo.x, w.hi.x, w.lo.y, w.hi.y, b[s][g].x, b[s][g].y);
                    mma(acc[g], w.lo.z, w.hi.z, w.lo.w, w.hi.w, b[s][g].z, b[s][g].w);
                }
            }
    };

    if (tile < n_tiles) {
        point(tile);
        fetch(buf[0], from);
        fetch(buf[1], from + STEPS);
    }
    pdl_wait();
    fetch_x(col[0], from);
    fetch_x(col[1], from + STEPS);
    if (a.squares) {
        load_rstd(a, rstd);
    } else if (threadIdx.x < 8 * GROUPS) {
        rstd[threadIdx.x] = 1;
    }

    for (; tile < n_tiles; tile += step) {
        int next = tile + step;
        if (KIND == KV_SKINNY_RESIDUAL && GROUPS == 1) load_residual<COLUMNS>(a, tile, before);
#pragma unroll
        for (int g = 0; g < GROUPS; g++)
#pragma unroll
            for (int i = 0; i < 4; i++) acc[g][i] = 0;
        for (int c = from; c < to; c += 2 * STEPS) {
            /* as soon as a buffer is used up it loads again: of this tile, then of the next */
            int more = c + 2 * STEPS < to, go_on = more || next < n_tiles, then = more ? c + 2 * STEPS : from;
            work(buf[0], col[0], c);
            if (!more && go_on) point(next);
            if (go_on) {
                fetch(buf[0], then);
                fetch_x(col[0], then);
            }
            work(buf[1], col[1], c + STEPS);
            if (go_on) {
                fetch(buf[1], then + STEPS);
                fetch_x(col[1], then + STEPS);
            }
        }
        if (from >= to && next < n_tiles) point(next);
#pragma unroll
        for (int g = 0; g < GROUPS; g++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                red[(warp * COLUMNS + g * 8 + 2 * (lane % 4) + i % 2) * TILE + lane / 4 + 8 * (i / 2)] = acc[g][i];
        /* with more columns registers are short: late is better than spilled */
        if (KIND == KV_SKINNY_RESIDUAL && GROUPS > 1) load_residual<COLUMNS>(a, tile, before);
        __syncthreads();
        if (KIND == KV_SKINNY_SWIGLU)
            put_swiglu<COLUMNS>(a, red, rstd, tile);
        else if (KIND == KV_SKINNY_RESIDUAL)
            put_residual<COLUMNS>(a, red, tile, n_tiles, before);
        else
            put_plain<COLUMNS>(a, red, rstd, tile);
        __syncthreads();
    }
}

template <int KIND, int GROUPS, int STEPS>
static cudaError_t launch(const kv_cuda_skinny *a, int pdl, cudaStream_t stream) {
    int n_sm = kv_cuda_multiprocessors(), n_tiles = count_tiles((kv_skinny_kind)KIND, a);
    if (!n_sm) return cudaErrorInvalidDevice;
    const int most = PER_SM * n_sm, blocks = n_tiles < most ? n_tiles : most;
    return pdl_launch(multiply_rows<KIND, GROUPS, STEPS>, dim3(blocks * count_slices<GROUPS>(a->n)), dim3(THREADS),
                      WARPS * TILE * 8 * GROUPS * sizeof(float), pdl, stream, *a, n_tiles);
}

template <int KIND> static cudaError_t launch_kind(const kv_cuda_skinny *a, int pdl, cudaStream_t stream) {
    if (a->n <= 8) return launch<KIND, 1, 4>(a, pdl, stream);
    return a->n <= FEW ? launch<KIND, 2, 2>(a, pdl, stream) : launch<KIND, 4, 1>(a, pdl, stream);
}

/* More rows go through shared memory; but a few more may read weights that are in the L2 cache anyway. */
kv_order kv_cuda_skinny_order(kv_skinny_kind kind, const kv_cuda_skinny *a) {
    enum { CACHED = 16 << 20, FEW_MORE = 32 };
    int cached = (size_t)count_tiles(kind, a) * TILE * a->n_in * sizeof *a->w <= CACHED;
    return a->n > FEW && !(cached && a->n <= FEW_MORE) ? KV_ORDER_TURNED : KV_ORDER_BANDS;
}

cudaError_t kv_cuda_skinny_rows(kv_skinny_kind kind, const kv_cuda_skinny *a, int pdl, cudaStream_t stream) {
    if (a->n < 1 || a->n_in % CHUNK || (a->w2 && kind != KV_SKINNY_PLAIN)) return cudaErrorInvalidValue;
    if (a->order == KV_ORDER_PLAIN) return cudaErrorInvalidValue;
    if (a->out_order != KV_ORDER_PLAIN && kind != KV_SKINNY_PLAIN && a->n_out % CHUNK) return cudaErrorInvalidValue;
    if (a->order == KV_ORDER_TURNED) return kv_cuda_skinny_wide(kind, a, pdl, stream);
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
