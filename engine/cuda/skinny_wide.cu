/* skinny_wide.cu - the product of skinny.cuh for many rows, with x in product order.
 *
 * There x no longer has room in registers beside the weights that must be on their way to keep the memory busy, and if
 * every warp read its own, the L2 cache would have more to do for x than for the weights.  So the copy engine brings
 * both, a chunk of k at a time, into a ring in shared memory.  A warp takes the weights of a tile from there to
 * registers, lane by lane as in skinny.cu; x, in product order, is the operand in shared memory of a warpgroup's
 * product over four tiles.
 *
 * Where the tiles are enough for all multiprocessors, a block goes through all of k and adds up one run after the
 * other.  Where they are not, eight blocks with a run each form a cluster: each sends an eighth of the columns to every
 * one of them, which adds them up in the order of the runs.  The tensor core's sums of 16 k are the same by warp and by
 * warpgroup, so the bits are those of skinny.cu. */
#include "engine/cuda/skinny_put.cuh"
#include "engine/cuda/wgmma.cuh"

enum {
    ROW_BYTES = 2 * CHUNK, /* of a row's chunk */
    PART = 8 * ROW_BYTES, /* of 8 rows' chunk: a group of columns of x, half a tile; also of a group's sums of a tile */
    FOUR = 4,             /* warps of a warpgroup, a tile each */
    WHOLE_TILES = 8,      /* most of a block with whole rows: its warps keep two sums of each */
    MOST_TILES = 12,      /* most of a block in a cluster */
    OTHERS = 1,           /* a warp that copies */
    MOST_STAGES = 12,
    ROOM = 112 << 10 /* shared memory of a block: with 1 KiB for variables and 1 for the system, half of all there is */
};

/* Boxes of CHUNK columns: of the weights the rows of a block (swiglu: gate rows or up rows), of x its columns. */
typedef struct maps {
    CUtensorMap w, w2, x;
} maps;

/* ---- shared memory --------------------------------------------------------------------------------------------------
 */

/* A place in the ring, and how often it has been there. */
typedef struct cursor {
    int stage;
    uint32_t round;
} cursor;

/* A stage is the chunk of x, then that of the weights; barriers take 8 bytes. */
typedef struct ring {
    uint32_t first, bytes; /* stages, and the bytes of one */
    uint32_t full;         /* barriers: all bytes are there */
    uint32_t empty;        /* all warps have multiplied it */
    int n;
} ring;

KV_DEVICE uint32_t stage_at(const ring &r, const cursor &c) {
    return r.first + c.stage * r.bytes;
}

KV_DEVICE void advance(const ring &r, cursor &c) {
    if (++c.stage == r.n) c.stage = 0, c.round++;
}

KV_DEVICE void wait_for(uint32_t bars, const cursor &c) {
    barrier_wait(bars + 8 * c.stage, c.round & 1);
}

/* ---- copies ---------------------------------------------------------------------------------------------------------
 */

/* The box at column k and row `row`, to shared memory; announced to bar before. */
KV_DEVICE void copy_box(uint32_t to, const CUtensorMap *map, int k, int row, uint32_t bar) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
                 "[%4];" ::"r"(to),
                 "l"((uint64_t)map), "r"(k), "r"(row), "r"(bar)
                 : "memory");
}

/* Tiles of a block: of the first matrix or of the second, never of both. */
typedef struct block_tiles {
    int second, in_matrix; /* the first one, counted within its matrix */
    int first, end;        /* counted over both; end: of the matrix */
} block_tiles;

KV_DEVICE block_tiles find_tiles(int block, int each, int tiles1, int n_tiles) {
    const int blocks1 = (tiles1 + each - 1) / each, second = block >= blocks1;
    const int in_matrix = (block - (second ? blocks1 : 0)) * each;
    const block_tiles t = {second, in_matrix, (second ? tiles1 : 0) + in_matrix, second ? n_tiles : tiles1};
    return t;
}

/* Rows of the weights that a block reads; swiglu: then the up rows, `up_at` bytes behind the gate rows. */
typedef struct block_rows {
    const CUtensorMap *map;
    int first, up; /* up: -1 without */
    uint32_t up_at;
} block_rows;

KV_DEVICE void copy_weights(uint32_t to, const block_rows &w, int chunk, uint32_t bar) {
    copy_box(to, w.map, chunk * CHUNK, w.first, bar);
    if (w.up >= 0) copy_box(to + w.up_at, w.map, chunk * CHUNK, w.up, bar);
}

/* By one thread: chunks [from, to).  The weights of the first stages do not wait for the kernel in front. */
KV_DEVICE void copy_chunks(const ring &r, const block_rows &w, const CUtensorMap *x, uint32_t x_bytes, int column,
                           int from, int to) {
    const int ahead = min(to - from, r.n);
    for (int i = 0; i < ahead; i++) {
        barrier_expect(r.full + 8 * i, r.bytes);
        copy_weights(r.first + i * r.bytes + x_bytes, w, from + i, r.full + 8 * i);
    }
    pdl_wait();
    cursor c = {0, 0};
    for (int i = 0; i < ahead; i++, advance(r, c))
        copy_box(stage_at(r, c), x, (from + i) * CHUNK, column, r.full + 8 * c.stage);
    for (int chunk = from + ahead; chunk < to; chunk++, advance(r, c)) {
        const uint32_t bar = r.full + 8 * c.stage;
        barrier_wait(r.empty + 8 * c.stage, (c.round - 1) & 1);
        barrier_expect(bar, r.bytes);
        copy_weights(stage_at(r, c) + x_bytes, w, chunk, bar);
        copy_box(stage_at(r, c), x, chunk * CHUNK, column, bar);
    }
}

/* The x of a chunk as B operand, K-major: rows of 64 bytes, groups of 8 rows one after the other, the 64-byte swizzle,
 * which starts anew every 512 bytes, as stages do.  The second 16 k: B_SECOND on. */
enum { B_SECOND = ROW_BYTES / 2 >> 4 };
KV_DEVICE uint64_t describe_x(uint32_t at) {
    return (uint64_t)((at & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)(PART >> 4) << 32 | (uint64_t)2 << 62;
}

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

/* The two halves of a barrier of all threads of the cluster. */
KV_DEVICE void cluster_arrive(void) {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

KV_DEVICE void cluster_wait(void) {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/* To that shared address of the cluster's block `rank`; 16 bytes, which complete on its barrier bar. */
KV_DEVICE void send_sums(uint32_t at, const float v[4], uint32_t bar, int rank) {
    uint32_t to, on;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(at), "r"(rank));
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(on) : "r"(bar), "r"(rank));
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
        "f"(v[0]), "f"(v[1]), "f"(v[2]), "f"(v[3]), "r"(on)
        : "memory");
}

/* What other blocks have sent is there. */
KV_DEVICE void wait_for_peers(uint32_t bar) {
    uint32_t over;
    do {
        asm volatile("{\n\t.reg .pred p;\n\t"
                     "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0;\n\t"
                     "selp.u32 %0, 1, 0, p;\n\t}"
                     : "=r"(over)
                     : "r"(bar)
                     : "memory");
    } while (!over);
}

/* Onto the sums of the runs before; 0 then. */
template <int N> KV_DEVICE void add_run(float (&to)[N], float (&run)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) {
        to[i] += run[i];
        run[i] = 0;
    }
}

/* rstd of EACH columns of the block from `first` on, by one warp, summed as load_rstd of skinny.cu does.  Of a pair of
 * lanes one goes on with one half of the columns, the other with the other. */
template <int EACH> KV_DEVICE void load_rstds(const kv_cuda_skinny &a, const columns &c, int first, float *rstd) {
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
    if (lane % (2 * d) == 0 && column < n) rstd[first + column] = rsqrtf(sum / (float)a.dim + a.eps);
}

/* ---- the product ----------------------------------------------------------------------------------------------------
 */

/* Chunks [from, to) of a warp's tile, whose rows r and rows r + 8 lie at lo and hi of a stage: the sums of all its
 * columns.  ENDS: of more than one run, which are added up in order; n_chunks: of all runs. */
template <int GROUPS, int ENDS>
KV_DEVICE void multiply_chunks(float (&total)[4 * GROUPS], const ring &r, uint32_t lo, uint32_t hi, int from, int to,
                               int n_chunks) {
    float sum[4 * GROUPS];
#pragma unroll
    for (int i = 0; i < 4 * GROUPS; i++) sum[i] = total[i] = 0;
    cursor at = {0, 0};
    int n_run = 0, run_end = run_start(1, n_chunks);
    for (int i = from; i < to; i++, advance(r, at)) {
        while (ENDS && i == run_end) { /* a run may be empty */
            add_run(total, sum);
            run_end = run_start(++n_run + 1, n_chunks);
        }
        wait_for(r.full, at);
        const uint4 l = load_shared(stage_at(r, at) + lo), h = load_shared(stage_at(r, at) + hi);
        const uint32_t first[4] = {l.x, h.x, l.y, h.y}, second[4] = {l.z, h.z, l.w, h.w};
        const uint64_t x = describe_x(stage_at(r, at));
        wgmma_fence();
        wgmma_add<K_MAJOR>(sum, first, x);
        wgmma_add<K_MAJOR>(sum, second, x + B_SECOND);
        wgmma_commit();
        wgmma_wait<0>(); /* loading the next weights before would overwrite registers that the product still reads */
        pin(sum);
        if (threadIdx.x % 32 == 0) barrier_arrive(r.empty + 8 * at.stage);
    }
    add_run(total, sum);
}

/* Whole rows: by way of shared memory at sums, the lane's own place, because a loop over registers would be eight times
 * as long and mostly wait for its instructions. */
template <int KIND, int GROUPS>
KV_DEVICE void finish_rows(const kv_cuda_skinny &a, const float *rstd, place p, const float (&total)[4 * GROUPS],
                           uint32_t sums) {
    residual_regs before;
#pragma unroll
    for (int g = 0; g < GROUPS; g++) store_sums(sums + g * PART, total + 4 * g);
#pragma unroll 4
    for (int g = 0; g < GROUPS; g++) {
        const float4 s = load_sums(sums + g * PART);
        const float v[4] = {s.x, s.y, s.z, s.w};
        p.group = g;
        if (KIND == KV_SKINNY_RESIDUAL) load_residual(a, p, before);
        put<KIND>(a, rstd, p, v, before);
    }
}

/* A run: its group g goes to block g of the cluster, which has the tile's runs of that group side by side at inbox. */
template <int KIND, int GROUPS>
KV_DEVICE void finish_run(const kv_cuda_skinny &a, const float *rstd, place p, const float (&run)[4 * GROUPS],
                          uint32_t inbox, uint32_t bar, int rank) {
    residual_regs before;
#pragma unroll
    for (int g = 0; g < GROUPS; g++) send_sums(inbox + rank * PART, run + 4 * g, bar, g);
    if (rank >= GROUPS) return;
    p.group = rank;
    if (KIND == KV_SKINNY_RESIDUAL) load_residual(a, p, before);
    wait_for_peers(bar);
    float v[4] = {0, 0, 0, 0};
#pragma unroll
    for (int k = 0; k < RUNS; k++) {
        const float4 s = load_sums(inbox + k * PART);
        v[0] += s.x, v[1] += s.y, v[2] += s.z, v[3] += s.w;
    }
    put<KIND>(a, rstd, p, v, before);
}

/* Launch: (SPLIT * slices of 8 GROUPS columns, tiles / `tiles`) blocks of 4, 8 or 12 + OTHERS warps, in clusters of
 * SPLIT; shared memory: n_stages stages, then in a cluster the runs that others send. */
template <int KIND, int GROUPS, int SPLIT>
static __global__ void __launch_bounds__(32 * ((SPLIT == 1 ? WHOLE_TILES : MOST_TILES) + OTHERS), 2)
    multiply_wide(const __grid_constant__ kv_cuda_skinny a, const __grid_constant__ maps m, int n_tiles, int tiles,
                  int n_stages) {
    static_assert(SPLIT == 1 || SPLIT == RUNS, "a block of a cluster has one run");
    static_assert(GROUPS <= RUNS, "and finishes at most one group of columns");
    extern __shared__ __align__(1024) char shared[];
    __shared__ uint64_t full[MOST_STAGES], empty[MOST_STAGES], sent[MOST_TILES];
    __shared__ float rstd[8 * GROUPS];
    const int warps = blockDim.x / 32 - OTHERS, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int rank = blockIdx.x % SPLIT, n_chunks = a.n_in / CHUNK, column = 8 * GROUPS * (blockIdx.x / SPLIT);
    const int from = SPLIT == 1 ? 0 : run_start(rank, n_chunks);
    const int to = SPLIT == 1 ? n_chunks : run_start(rank + 1, n_chunks);
    const int swiglu = KIND == KV_SKINNY_SWIGLU, plain = KIND == KV_SKINNY_PLAIN;
    const columns c = {column, min(a.n - column, 8 * GROUPS)};
    const block_tiles t = find_tiles(blockIdx.y, tiles, plain ? (a.n_out + TILE - 1) / TILE : n_tiles, n_tiles);
    const uint32_t x_bytes = GROUPS * PART, bytes = x_bytes + tiles * 2 * PART;
    const ring r = {shared_address(shared), bytes, shared_address(full), shared_address(empty), n_stages};
    pdl_trigger();

    if (threadIdx.x == 32 * warps) {
        for (int i = 0; i < n_stages; i++) {
            barrier_init(r.full + 8 * i, 1);
            barrier_init(r.empty + 8 * i, warps);
        }
        for (int i = 0; i < tiles && SPLIT > 1; i++) {
            barrier_init(shared_address(sent + i), 1);
            barrier_expect(shared_address(sent + i), RUNS * PART);
        }
        barrier_publish();
    }
    __syncthreads();
    if (SPLIT > 1) cluster_arrive();

    if (warp >= warps) {
        const int row = t.in_matrix * (swiglu ? 8 : TILE);
        const block_rows w = {t.second ? &m.w2 : &m.w, row, swiglu ? a.n_out + row : -1, (uint32_t)(tiles * PART)};
        if (lane == 0) copy_chunks(r, w, &m.x, x_bytes, column, from, to);
        __syncwarp();
        if (SPLIT > 1) cluster_wait();
        return;
    }

    pdl_wait();
    if (!a.squares) {
        for (int i = threadIdx.x; i < 8 * GROUPS; i += 32 * warps) rstd[i] = 1;
    } else if (SPLIT == 1) {
        for (int i = 8 * warp; i < 8 * GROUPS; i += 8 * warps) load_rstds<8>(a, c, i, rstd);
    } else {
        for (int i = warp; i < 8 && rank < GROUPS; i += warps) load_rstds<1>(a, c, 8 * rank + i, rstd);
    }
    const int own = min(warp, tiles - 1); /* the last warps of a product may have no tile: they multiply another's */
    const uint32_t lo = x_bytes + 16 * lane + own * (swiglu ? PART : 2 * PART);
    const uint32_t hi = lo + (swiglu ? tiles * PART : PART);
    float sum[4 * GROUPS];
    multiply_chunks<GROUPS, SPLIT == 1>(sum, r, lo, hi, from, to, n_chunks);
    named_sync(1, 32 * warps);     /* rstd is there, and nobody reads the stages any more */
    if (SPLIT > 1) cluster_wait(); /* the barriers of all blocks are there */
    if (warp >= tiles) return;
    const place p = {c, t.end, t.first + own, 0};
    if (SPLIT == 1)
        finish_rows<KIND, GROUPS>(a, rstd, p, sum, r.first + own * GROUPS * PART + 16 * lane);
    else
        finish_run<KIND, GROUPS>(a, rstd, p, sum, r.first + n_stages * bytes + own * RUNS * PART + 16 * lane,
                                 shared_address(sent + own), rank);
}

/* ---- launch ---------------------------------------------------------------------------------------------------------
 */

/* (rows, n_in) bf16 in boxes of box_rows. */
static cudaError_t map_rows(CUtensorMap *map, const void *x, int rows, int n_in, int box_rows,
                            CUtensorMapSwizzle swizzle) {
    const cuuint64_t dims[2] = {(cuuint64_t)n_in, (cuuint64_t)rows}, stride = sizeof(__nv_bfloat16) * (cuuint64_t)n_in;
    const cuuint32_t box[2] = {CHUNK, (cuuint32_t)box_rows};
    return map_tensor(map, x, 2, dims, &stride, box, swizzle);
}

/* Tiles of a block.  Whole rows: so that every multiprocessor has equally many blocks.  Clusters: so that it has one,
 * if that is possible; else smaller ones, because of two each not all would fit at once. */
static int choose_tiles(int n_tiles, int per_wave, int split) {
    if (split == 1) return kv_cuda_ceil(n_tiles, per_wave * kv_cuda_ceil(n_tiles, WHOLE_TILES * per_wave));
    return n_tiles <= MOST_TILES * per_wave ? kv_cuda_ceil(n_tiles, per_wave) : (int)WHOLE_TILES;
}

template <int KIND, int GROUPS, int SPLIT>
static cudaError_t launch(const kv_cuda_skinny *a, int n_tiles, int n_sm, int pdl, cudaStream_t stream) {
    const int slices = kv_cuda_ceil(a->n, 8 * GROUPS), swiglu = KIND == KV_SKINNY_SWIGLU;
    const int per_wave = n_sm / (SPLIT * slices);
    const int tiles = choose_tiles(n_tiles, per_wave ? per_wave : 1, SPLIT);
    const int tiles2 = a->w2 ? kv_cuda_ceil(a->n_out2, TILE) : 0, box = tiles * (swiglu ? 8 : TILE);
    const int inbox = SPLIT == 1 ? 0 : tiles * RUNS * PART, stage = (GROUPS + 2 * tiles) * PART;
    const int warps = kv_cuda_ceil(tiles, FOUR) * FOUR;
    int n_stages = (ROOM - inbox) / stage;
    if (n_stages > MOST_STAGES) n_stages = MOST_STAGES;
    maps m = {};
    cudaError_t rc = map_rows(&m.w, a->w, swiglu ? 2 * a->n_out : a->n_out, a->n_in, box, CU_TENSOR_MAP_SWIZZLE_NONE);
    if (rc == cudaSuccess && a->w2) rc = map_rows(&m.w2, a->w2, a->n_out2, a->n_in, box, CU_TENSOR_MAP_SWIZZLE_NONE);
    if (rc == cudaSuccess) rc = map_rows(&m.x, a->x, a->n, a->n_in, 8 * GROUPS, CU_TENSOR_MAP_SWIZZLE_64B);
    if (rc != cudaSuccess) return rc;
    const dim3 grid(SPLIT * slices, kv_cuda_ceil(n_tiles - tiles2, tiles) + kv_cuda_ceil(tiles2, tiles));
    return pdl_launch_clusters(multiply_wide<KIND, GROUPS, SPLIT>, grid, SPLIT, dim3(32 * (warps + OTHERS)),
                               n_stages * stage + inbox, pdl, stream, *a, m, n_tiles, tiles, n_stages);
}

/* A matrix of a few megabytes is read from the L2 cache: handing over sums would cost more than it gains. */
template <int KIND, int GROUPS>
static cudaError_t launch_groups(const kv_cuda_skinny *a, int pdl, cudaStream_t stream) {
    enum { SMALL = 4 << 20 };
    const int n_sm = kv_cuda_multiprocessors(), n_tiles = count_tiles((kv_skinny_kind)KIND, a);
    if (!n_sm) return cudaErrorInvalidDevice;
    const int enough = n_tiles * kv_cuda_ceil(a->n, 8 * GROUPS) >= 4 * n_sm;
    if (enough || (size_t)n_tiles * TILE * a->n_in * sizeof *a->w <= SMALL)
        return launch<KIND, GROUPS, 1>(a, n_tiles, n_sm, pdl, stream);
    return launch<KIND, GROUPS, RUNS>(a, n_tiles, n_sm, pdl, stream);
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

template <int KIND> static cudaError_t prepare_kind(void) {
    cudaError_t rc = allow_shared<KIND, 4, 1>();
    if (rc == cudaSuccess) rc = allow_shared<KIND, 4, RUNS>();
    if (rc == cudaSuccess) rc = allow_shared<KIND, 8, 1>();
    return rc == cudaSuccess ? allow_shared<KIND, 8, RUNS>() : rc;
}

cudaError_t kv_cuda_skinny_prepare(void) {
    cudaError_t rc = prepare_kind<KV_SKINNY_PLAIN>();
    if (rc == cudaSuccess) rc = prepare_kind<KV_SKINNY_RESIDUAL>();
    return rc == cudaSuccess ? prepare_kind<KV_SKINNY_SWIGLU>() : rc;
}
