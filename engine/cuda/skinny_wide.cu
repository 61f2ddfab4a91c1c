/* skinny_wide.cu - the product of skinny.cuh for many rows, with x turned.
 *
 * There x no longer has room in registers beside the weights that must be on their way to keep the memory busy, and if
 * every warp read its own, the L2 cache would have more to do for x than for the weights.  So a block has nearly
 * all shared memory of its multiprocessor for a ring (skinny_ring.cuh).  A warp takes the weights of a tile from there
 * to registers, lane by lane as in skinny.cu; x is the operand in shared memory of a warpgroup's product over four
 * tiles. While that runs, the weights of the next stage are read.
 *
 * Where tiles are many, a block goes through all of k, adds up one run after the other, and takes its next tiles.
 * Where they are few, two or eight blocks, each with its runs, form a cluster: as soon as a run is there it is sent, in
 * equal parts of the columns, to the blocks, which add up the runs in order.  The tensor core's sums of 16 k are the
 * same by warp and by warpgroup, so the bits are those of skinny.cu. */
#include "engine/cuda/cluster.cuh"
#include "engine/cuda/skinny_put.cuh"
#include "engine/cuda/skinny_ring.cuh"
#include "engine/cuda/wgmma.cuh"

enum {
    GROUP_SUMS = 8 * TILE * sizeof(float), /* bytes of a tile's sums of a group of columns */
    WARPGROUP = 4,                         /* warps that multiply together, a tile each */
    MOST_TILES = 12,                       /* of a unit */
    FEW_STAGES = 4,                        /* enough to keep the memory busy */
    HELPERS = 3,                           /* warps that prepare rstd */
    OTHERS = 1 + HELPERS,                  /* and one that copies */
    ROOM = 222 << 10 /* shared memory of a block: nearly all there is; 4 KiB more were a little slower */
};

/* Groups of columns that a block of a cluster finishes; the last blocks may have none. */
template <int GROUPS, int SPLIT> constexpr int OWN_GROUPS = GROUPS > SPLIT ? GROUPS / SPLIT : 1;

/* Bytes behind the stages for each tile: whole rows: its sums; in a cluster: (RUNS, OWN_GROUPS) that others send. */
template <int GROUPS, int SPLIT>
constexpr int TILE_SUMS = (SPLIT == 1 ? GROUPS : RUNS * OWN_GROUPS<GROUPS, SPLIT>)*GROUP_SUMS;

/* Most tiles of a unit that leave room for a few stages. */
template <int GROUPS, int SPLIT>
constexpr int FITTING_TILES = (ROOM - FEW_STAGES * GROUPS * PART) / (TILE_SUMS<GROUPS, SPLIT> + FEW_STAGES * 2 * PART);

/* ---- sums -----------------------------------------------------------------------------------------------------------
 */

KV_DEVICE float4 load_sums(uint32_t at) {
    const uint4 v = load_shared(at);
    return make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w));
}

KV_DEVICE void store_sums(uint32_t at, const float v[4]) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(at), "f"(v[0]), "f"(v[1]), "f"(v[2]), "f"(v[3])
                 : "memory");
}

/* ---- the product ----------------------------------------------------------------------------------------------------
 */

/* The x of a stage as B operand, K-major: rows of 128 bytes, groups of 8 rows one after the other, the 128-byte
 * swizzle, which starts anew every 1024 bytes, as stages do.  16 k further: B_NEXT on. */
enum { B_NEXT = 2 * 16 >> 4 };
KV_DEVICE uint64_t describe_x(uint32_t at) {
    return (uint64_t)((at & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)(PART >> 4) << 32 | (uint64_t)1 << 62;
}

/* A lane's weights of a stage: A operands of four products of 16 k. */
typedef struct operands {
    uint32_t a[4][4];
} operands;

/* A warp's way through the stages; rows r and r + 8 of its tile lie at lo and hi of each. */
typedef struct reader {
    uint32_t lo, hi;
    cursor at;
} reader;

/* The weights of the next stage; returns where it lies.  Where the swizzle puts the first chunk of a row, the second
 * lies in the other half. */
KV_DEVICE uint32_t next_operands(operands &w, const ring &r, const reader &t) {
    wait_full(r, t.at);
    const uint32_t stage = stage_at(r, t.at);
#pragma unroll
    for (int c = 0; c < 2; c++) {
        const uint4 l = load_shared((stage + t.lo) ^ (c * ROW_BYTES / 2));
        const uint4 h = load_shared((stage + t.hi) ^ (c * ROW_BYTES / 2));
        w.a[2 * c][0] = l.x, w.a[2 * c][1] = h.x, w.a[2 * c][2] = l.y, w.a[2 * c][3] = h.y;
        w.a[2 * c + 1][0] = l.z, w.a[2 * c + 1][1] = h.z, w.a[2 * c + 1][2] = l.w, w.a[2 * c + 1][3] = h.w;
    }
    return stage;
}

/* sum += the first N of the four products of a stage, left in flight. */
template <int N, int SUMS> KV_DEVICE void multiply(float (&sum)[SUMS], const operands &w, uint32_t stage) {
    const uint64_t x = describe_x(stage);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < N; i++) wgmma_add<K_MAJOR>(sum, w.a[i], x + i * B_NEXT);
    wgmma_commit();
}

/* The product in flight, which has read w until now, is over, and its stage free. */
template <int SUMS> KV_DEVICE void end_step(float (&sum)[SUMS], operands &w, const ring &r, reader &t) {
    wgmma_wait<0>();
    pin(sum);
#pragma unroll
    for (int i = 0; i < 4; i++) pin(w.a[i]);
    if (threadIdx.x % 32 == 0) barrier_arrive(r.empty + 8 * t.at.stage);
    advance(r, t.at);
}

/* sum = a run of `chunks` chunks. */
template <int SUMS> KV_DEVICE void multiply_run(float (&sum)[SUMS], const ring &r, reader &t, int chunks) {
    operands w, next = {};
#pragma unroll
    for (int i = 0; i < SUMS; i++) sum[i] = 0;
    if (chunks >= 2) {
        uint32_t stage = next_operands(w, r, t);
        for (int i = chunks / 2; i > 0; i--) {
            multiply<4>(sum, w, stage);
            if (i > 1) {
                reader ahead = t;
                advance(r, ahead.at);
                stage = next_operands(next, r, ahead);
            }
            end_step(sum, w, r, t);
            w = next;
        }
    }
    if (chunks % 2) {
        const uint32_t stage = next_operands(w, r, t);
        multiply<2>(sum, w, stage);
        end_step(sum, w, r, t);
    }
}

/* Whole rows: by way of shared memory at sums, the lane's own place, because a loop over registers would be eight times
 * as long and mostly wait for its instructions. */
template <int KIND, int GROUPS>
KV_DEVICE void finish_rows(const kv_cuda_skinny &a, const float *rstd, place p, const float (&total)[4 * GROUPS],
                           uint32_t sums) {
    residual_regs before;
#pragma unroll
    for (int g = 0; g < GROUPS; g++) store_sums(sums + g * GROUP_SUMS, total + 4 * g);
#pragma unroll 4
    for (int g = 0; g < GROUPS; g++) {
        const float4 s = load_sums(sums + g * GROUP_SUMS);
        const float v[4] = {s.x, s.y, s.z, s.w};
        p.group = g;
        if (KIND == KV_SKINNY_RESIDUAL) load_residual(a, p, before);
        put<KIND>(a, rstd, p, v, before);
    }
}

/* Run number n of a tile, with its lane's place in the tile's inbox. */
template <int GROUPS, int SPLIT>
KV_DEVICE void send_run(const float (&run)[4 * GROUPS], int n, uint32_t inbox, uint32_t bar) {
    constexpr int OWN = OWN_GROUPS<GROUPS, SPLIT>;
#pragma unroll
    for (int g = 0; g < GROUPS; g++) send_shared(inbox + (n * OWN + g % OWN) * GROUP_SUMS, run + 4 * g, bar, g / OWN);
}

template <int KIND, int GROUPS, int SPLIT>
KV_DEVICE void finish_runs(const kv_cuda_skinny &a, const float *rstd, place p, uint32_t inbox, uint32_t bar,
                           int rank) {
    constexpr int OWN = OWN_GROUPS<GROUPS, SPLIT>;
    residual_regs before[OWN];
    if (rank >= GROUPS / OWN) return;
#pragma unroll
    for (int g = 0; g < OWN && KIND == KV_SKINNY_RESIDUAL; g++) {
        p.group = rank * OWN + g;
        load_residual(a, p, before[g]);
    }
    wait_for_peers(bar);
#pragma unroll
    for (int g = 0; g < OWN; g++) {
        float v[4] = {0, 0, 0, 0};
#pragma unroll
        for (int k = 0; k < RUNS; k++) {
            const float4 s = load_sums(inbox + (k * OWN + g) * GROUP_SUMS);
            v[0] += s.x, v[1] += s.y, v[2] += s.z, v[3] += s.w;
        }
        p.group = rank * OWN + g;
        put<KIND>(a, rstd, p, v, before[g]);
    }
}

/* How the product is shared out. */
typedef struct shape {
    int n_tiles, tiles; /* of both matrices, of a unit */
    int n_units, n_stages;
} shape;

template <int KIND, int GROUPS, int SPLIT> KV_DEVICE block_work work_of(const kv_cuda_skinny &a, const shape &s) {
    const int runs = RUNS / SPLIT;
    block_work b;
    b.first_run = blockIdx.x % SPLIT * runs;
    b.end_run = b.first_run + runs;
    b.n_chunks = a.n_in / CHUNK;
    b.first_unit = blockIdx.y;
    b.n_units = s.n_units;
    b.every = gridDim.y;
    b.tiles = s.tiles;
    b.tiles1 = KIND == KV_SKINNY_PLAIN ? kv_cuda_ceil(a.n_out, TILE) : s.n_tiles;
    b.n_tiles = s.n_tiles;
    b.column = 8 * GROUPS * (blockIdx.x / SPLIT);
    b.up = KIND == KV_SKINNY_SWIGLU ? a.n_out : 0;
    return b;
}

/* Where a lane finds its rows of tile `tile` of a unit. */
template <int KIND> KV_DEVICE reader find_rows(const ring &r, int tile, int tiles) {
    const int swiglu = KIND == KV_SKINNY_SWIGLU, lane = threadIdx.x % 32, row = row_in_tile(lane);
    const uint32_t in_tile = row * ROW_BYTES + (row / 4 * 4 + (lane % 4 ^ row % 4)) * 16;
    const uint32_t lo = r.x_bytes + tile * (swiglu ? PART : 2 * PART) + in_tile;
    const reader t = {lo, lo + (swiglu ? tiles * PART : PART), {0, 0}};
    return t;
}

/* Launch: (SPLIT * slices of 8 GROUPS columns, units; of whole rows any number of blocks) blocks of 4, 8 or 12 + OTHERS
 * warps, in clusters of SPLIT; shared memory: n_stages stages, TILE_SUMS for each tile of a unit. */
template <int KIND, int GROUPS, int SPLIT>
static __global__ void __launch_bounds__(32 * (MOST_TILES + OTHERS), 1)
    multiply_wide(const __grid_constant__ kv_cuda_skinny a, const __grid_constant__ maps m, shape s) {
    static_assert(FEW_STAGES >= 2, "a warp reads the stage behind the one it holds");
    static_assert(RUNS % SPLIT == 0, "blocks of a cluster have equally many runs");
    constexpr int OWN = OWN_GROUPS<GROUPS, SPLIT>, SUMS = TILE_SUMS<GROUPS, SPLIT>;
    extern __shared__ __align__(1024) char shared[];
    __shared__ uint64_t full[MOST_STAGES], empty[MOST_STAGES], sent[MOST_TILES];
    __shared__ float rstd[8 * GROUPS];
    const int warps = blockDim.x / 32 - OTHERS, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int rank = blockIdx.x % SPLIT;
    const block_work b = work_of<KIND, GROUPS, SPLIT>(a, s);
    const columns c = {b.column, min(a.n - b.column, 8 * GROUPS)};
    ring r;
    r.first = shared_address(shared);
    r.x_bytes = GROUPS * PART;
    r.bytes = r.x_bytes + s.tiles * 2 * PART;
    r.full = shared_address(full);
    r.empty = shared_address(empty);
    r.n = s.n_stages;
    pdl_trigger();

    if (threadIdx.x == 32 * warps) {
        init_ring(r, warps);
#pragma unroll 1
        for (int i = 0; i < s.tiles && SPLIT > 1; i++) {
            barrier_init(shared_address(sent + i), 1);
            barrier_expect(shared_address(sent + i), SUMS);
        }
        barrier_publish();
    }
    __syncthreads();
    if (SPLIT > 1) cluster_arrive();

    if (warp >= warps) {
        if (warp > warps) {
            const int first = SPLIT == 1 ? 0 : 8 * OWN * rank, end = SPLIT == 1 ? 8 * GROUPS : first + 8 * OWN;
            pdl_wait();
            prepare_rstd(a, c, warp - warps - 1, HELPERS, first, min(end, 8 * GROUPS), rstd);
            __syncwarp();
            named_arrive(1, 32 * (warps + HELPERS));
        } else if (lane == 0) {
            copy_all(r, m, b, s.n_stages * 2 / 3);
        }
        __syncwarp();
        if (SPLIT > 1) cluster_wait();
        return;
    }

    pdl_wait();
    const int own = min(warp, s.tiles - 1); /* the last warps of a product may have no tile: they multiply another's */
    const uint32_t sums = r.first + s.n_stages * r.bytes + own * SUMS + 16 * lane, bar = shared_address(sent + own);
    reader rows = find_rows<KIND>(r, own, s.tiles);
    for (int unit = b.first_unit; unit < b.n_units; unit += b.every) {
        float sum[4 * GROUPS], total[4 * GROUPS];
#pragma unroll
        for (int i = 0; i < 4 * GROUPS; i++) total[i] = 0;
        for (int run = b.first_run; run < b.end_run; run++) {
            multiply_run(sum, r, rows, run_start(run + 1, b.n_chunks) - run_start(run, b.n_chunks));
#pragma unroll
            for (int i = 0; i < 4 * GROUPS && SPLIT == 1; i++) total[i] += sum[i];
            if (SPLIT > 1 && run == b.first_run) cluster_wait(); /* the barriers of all blocks are there */
            if (SPLIT > 1 && warp < s.tiles) send_run<GROUPS, SPLIT>(sum, run, sums, bar);
        }
        if (unit == b.first_unit) named_sync(1, 32 * (warps + HELPERS)); /* rstd is there */
        if (warp >= s.tiles) continue;
        const unit_tiles t = find_tiles(b, unit);
        const place p = {c, t.end, t.first + own, 0};
        if constexpr (SPLIT == 1)
            finish_rows<KIND, GROUPS>(a, rstd, p, total, sums);
        else
            finish_runs<KIND, GROUPS, SPLIT>(a, rstd, p, sums, bar, rank);
    }
}

/* ---- launch ---------------------------------------------------------------------------------------------------------
 */

/* How a product is shared out: units of `tiles` tiles, of which `at_once` are worked on; cost: bytes that a
 * multiprocessor reads one after the other, and what it could read while sums are handed over. */
typedef struct plan {
    int tiles, n_units, at_once;
    size_t cost;
} plan;

/* clusters: of SPLIT blocks, that fit on the device. */
template <int GROUPS, int SPLIT> static plan share_out(int tiles1, int tiles2, int slices, int n_in, int clusters) {
    enum { HAND_OVER = SPLIT > 1 ? 64 << 10 : 0 };
    const int fit = FITTING_TILES<GROUPS, SPLIT>, most = fit < MOST_TILES ? fit : (int)MOST_TILES;
    plan best = {0, 0, 0, SIZE_MAX};
    if (clusters < 1) return best;
    const int at_once = clusters > slices ? clusters / slices : 1, rounds = kv_cuda_ceil(slices, clusters);
    for (int tiles = 1; tiles <= most; tiles++) {
        const int n_units = kv_cuda_ceil(tiles1, tiles) + kv_cuda_ceil(tiles2, tiles);
        const size_t bytes = (size_t)(TILE * tiles + 8 * GROUPS) * n_in * sizeof(__nv_bfloat16) / SPLIT;
        const plan p = {tiles, n_units, at_once, (size_t)rounds * kv_cuda_ceil(n_units, at_once) * (bytes + HAND_OVER)};
        if (p.cost <= best.cost) best = p;
    }
    return best;
}

/* Clusters that fit on the device. */
template <int KIND, int GROUPS, int SPLIT> static cudaError_t count_clusters(int *n) {
    cudaLaunchAttribute cluster;
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = SPLIT;
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(SPLIT);
    config.blockDim = dim3(32 * (MOST_TILES + OTHERS));
    config.dynamicSmemBytes = ROOM;
    config.attrs = &cluster;
    config.numAttrs = 1;
    return cudaOccupancyMaxActiveClusters(n, multiply_wide<KIND, GROUPS, SPLIT>, &config);
}

template <int KIND, int GROUPS, int SPLIT>
static cudaError_t launch(const kv_cuda_skinny *a, const plan *p, int pdl, cudaStream_t stream) {
    const int slices = kv_cuda_ceil(a->n, 8 * GROUPS), swiglu = KIND == KV_SKINNY_SWIGLU;
    const int sums = p->tiles * TILE_SUMS<GROUPS, SPLIT>, stage = (GROUPS + 2 * p->tiles) * PART;
    const int most = (ROOM - sums) / stage, n_stages = most < MOST_STAGES ? most : MOST_STAGES;
    const int box = p->tiles * (swiglu ? 8 : TILE), blocks = p->n_units < p->at_once ? p->n_units : p->at_once;
    const shape s = {count_tiles((kv_skinny_kind)KIND, a), p->tiles, p->n_units, n_stages};
    maps m = {};
    cudaError_t rc = map_rows(&m.w, a->w, swiglu ? 2 * a->n_out : a->n_out, a->n_in, box);
    if (rc == cudaSuccess && a->w2) rc = map_rows(&m.w2, a->w2, a->n_out2, a->n_in, box);
    if (rc == cudaSuccess) rc = map_rows(&m.x, a->x, a->n, a->n_in, 8 * GROUPS);
    if (rc != cudaSuccess) return rc;
    const dim3 grid(SPLIT * slices, SPLIT == 1 ? blocks : p->n_units);
    const dim3 block(32 * (kv_cuda_ceil(p->tiles, WARPGROUP) * WARPGROUP + OTHERS));
    return pdl_launch_clusters(multiply_wide<KIND, GROUPS, SPLIT>, grid, SPLIT, block, n_stages * stage + sums, pdl,
                               stream, *a, m, s);
}

template <int KIND, int GROUPS>
static cudaError_t launch_groups(const kv_cuda_skinny *a, int pdl, cudaStream_t stream) {
    const int slices = kv_cuda_ceil(a->n, 8 * GROUPS), n_tiles = count_tiles((kv_skinny_kind)KIND, a);
    const int tiles2 = a->w2 ? kv_cuda_ceil(a->n_out2, TILE) : 0, tiles1 = n_tiles - tiles2;
    int pairs = 0, eights = 0;
    cudaError_t rc = count_clusters<KIND, GROUPS, 2>(&pairs);
    if (rc == cudaSuccess) rc = count_clusters<KIND, GROUPS, RUNS>(&eights);
    if (rc != cudaSuccess) return rc;
    const plan one = share_out<GROUPS, 1>(tiles1, tiles2, slices, a->n_in, kv_cuda_multiprocessors());
    const plan two = share_out<GROUPS, 2>(tiles1, tiles2, slices, a->n_in, pairs);
    const plan eight = share_out<GROUPS, RUNS>(tiles1, tiles2, slices, a->n_in, eights);
    if (!one.tiles) return cudaErrorInvalidDevice;
    if (one.cost <= two.cost && one.cost <= eight.cost) return launch<KIND, GROUPS, 1>(a, &one, pdl, stream);
    if (two.cost <= eight.cost) return launch<KIND, GROUPS, 2>(a, &two, pdl, stream);
    return launch<KIND, GROUPS, RUNS>(a, &eight, pdl, stream);
}

static_assert(8 * 8 == KV_SKINNY_ROWS, "the columns of the larger kernel");
template <int KIND> static cudaError_t launch_kind(const kv_cuda_skinny *a, int pdl, cudaStream_t stream) {
    return a->n <= 32 ? launch_groups<KIND, 4>(a, pdl, stream) : launch_groups<KIND, 8>(a, pdl, stream);
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

template <int KIND, int GROUPS, int SPLIT> static cudaError_t allow_shared(void) {
    return cudaFuncSetAttribute(multiply_wide<KIND, GROUPS, SPLIT>, cudaFuncAttributeMaxDynamicSharedMemorySize, ROOM);
}

template <int KIND, int GROUPS> static cudaError_t prepare_groups(void) {
    cudaError_t rc = allow_shared<KIND, GROUPS, 1>();
    if (rc == cudaSuccess) rc = allow_shared<KIND, GROUPS, 2>();
    return rc == cudaSuccess ? allow_shared<KIND, GROUPS, RUNS>() : rc;
}

template <int KIND> static cudaError_t prepare_kind(void) {
    cudaError_t rc = prepare_groups<KIND, 4>();
    return rc == cudaSuccess ? prepare_groups<KIND, 8>() : rc;
}

cudaError_t kv_cuda_skinny_prepare(void) {
    cudaError_t rc = prepare_kind<KV_SKINNY_PLAIN>();
    if (rc == cudaSuccess) rc = prepare_kind<KV_SKINNY_RESIDUAL>();
    return rc == cudaSuccess ? prepare_kind<KV_SKINNY_SWIGLU>() : rc;
}
