/* attend_prompt.cu - bf16 causal attention of a whole prompt with itself, on Hopper's matrix units.
 *
 * The algorithm is FlashAttention (arXiv:2205.14135) in the schedule of FlashAttention-3 (arXiv:2407.08608): one
 * warpgroup feeds shared memory, two multiply 64 query rows each.  A warpgroup issues the scores of the next key tile
 * before the weighted values of the current one, so that its softmax runs beside the latter, and the two warpgroups
 * take turns in issuing, so that one's softmax runs beside the other's products.
 *
 * Key tiles are visited from the diagonal down to tile 0, at positions that do not depend on n, and masked keys add
 * exact zeros: row i has the same bits in every prompt that starts with rows 0..i.  Here the weights are rounded to
 * bf16 before they meet v, as the matrix units want them; their sum is taken before the rounding. */
#include "engine/cuda/cuda.h"
#include "engine/cuda/wgmma.cuh"

enum {
    WARPGROUP = 128,
    N_READERS = 2, /* warpgroups that multiply */
    N_THREADS = (1 + N_READERS) * WARPGROUP,
    N_STAGES = 2,
    TURN_BAR = 1,            /* named barriers TURN_BAR + reader: its turn to issue */
    SECTION_BYTES = 24 << 20 /* keys and values that blocks in flight share, about half of the L2 */
};

typedef struct prompt_args {
    __nv_bfloat16 *out;    /* (n, n_heads * D) */
    float *lse;            /* (n, n_heads) or NULL */
    int n, n_heads, group; /* group: query heads per KV head */
    int section;           /* KV heads whose blocks come one after another */
    float scale_log2;      /* of scores, in powers of two */
} prompt_args;

/* Running softmax of a thread's two rows, 8 apart. */
typedef struct row_state {
    float max[2], sum[2]; /* of raw scores; sum: of this thread's columns only */
    float shrink[2];      /* what the newest tile makes of older sums */
} row_state;

template <int D> struct prompt_memory {
    typedef tile_ring<N_STAGES, tile_shape<D>::BYTES> ring;
    enum { TILES = 1 + 2 * N_STAGES, BARRIERS = 1 + 4 * N_STAGES };
    enum { BYTES = 1024 + TILES * tile_shape<D>::BYTES + 8 * BARRIERS }; /* 1024: to align the tiles */
    uint32_t q, q_full;
    ring k, v;
    __device__ __forceinline__ explicit prompt_memory(uint32_t base) {
        q = (base + 1023) & ~1023u;
        k.tiles = q + tile_shape<D>::BYTES;
        v.tiles = k.tiles + N_STAGES * tile_shape<D>::BYTES;
        q_full = v.tiles + N_STAGES * tile_shape<D>::BYTES;
        k.full = q_full + 8;
        k.empty = k.full + 8 * N_STAGES;
        v.full = k.empty + 8 * N_STAGES;
        v.empty = v.full + 8 * N_STAGES;
    }
};

/* The query tile and head of a block: sections of KV heads in turn; within one the longest tiles first, the heads of a
 * tile side by side. */
static __device__ __forceinline__ void find_work(const prompt_args &a, int *tile, int *head) {
    const int n_tiles = (a.n + TILE_ROWS - 1) / TILE_ROWS, heads = a.section * a.group;
    const int section = (int)blockIdx.x / (heads * n_tiles), at = (int)blockIdx.x % (heads * n_tiles);
    const int here = min(heads, a.n_heads - section * heads); /* the last section may be smaller */
    *tile = n_tiles - 1 - at / here;
    *head = section * heads + at % here;
}

/* The feeding thread: q, then k and v of tiles `tile` ... 0 in the order in which readers want them. */
template <int D>
static __device__ __forceinline__ void feed_tiles(const prompt_memory<D> &m, const CUtensorMap *q, const CUtensorMap *k,
                                                  const CUtensorMap *v, int tile, int head, int kv_head) {
    load_tile<D>(m.q, q, tile * TILE_ROWS, head, m.q_full);
    for (int i = 0; i <= tile + 1; i++) {
        if (i <= tile) {
            m.k.wait_empty(i);
            load_tile<D>(m.k.tile(i), k, (tile - i) * TILE_ROWS, kv_head, m.k.full_bar(i));
        }
        if (i > 0) {
            m.v.wait_empty(i - 1);
            load_tile<D>(m.v.tile(i - 1), v, (tile - i + 1) * TILE_ROWS, kv_head, m.v.full_bar(i - 1));
        }
    }
}

/* o (64, D) += p (64, 128) times the value tile; left in flight as one group. */
template <int D>
static __device__ __forceinline__ void weigh_values(float (&o)[D / 2], const uint32_t (&p)[32], uint32_t tile) {
    const uint64_t vd = columns_desc<D>(tile);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < TILE_ROWS / 16; k++) wgmma_add<MN_MAJOR>(o, p + 4 * k, vd + columns_step<D>(k));
    wgmma_commit();
}

/* Keys after the query, in the tile on the diagonal; row: the thread's first, within the tile. */
static __device__ __forceinline__ void mask_scores(float (&s)[64], int row) {
    const int column = 2 * ((int)threadIdx.x % 4);
#pragma unroll
    for (int i = 0; i < 64; i++)
        if (8 * (i / 4) + column + i % 2 > row + 8 * (i / 2 % 2)) s[i] = -INFINITY;
}

/* Scores become weights relative to the largest score so far. */
static __device__ __forceinline__ void soften_scores(float (&s)[64], row_state *r, float scale_log2) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = r->max[h], sum = 0;
#pragma unroll
        for (int i = 2 * h; i < 64; i += 4) top = fmaxf(top, fmaxf(s[i], s[i + 1]));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
        r->shrink[h] = exp2_fast((r->max[h] - top) * scale_log2);
        r->max[h] = top;
        const float shift = top * scale_log2;
#pragma unroll
        for (int i = 2 * h; i < 64; i += 4) {
            s[i] = exp2_fast(fmaf(s[i], scale_log2, -shift));
            s[i + 1] = exp2_fast(fmaf(s[i + 1], scale_log2, -shift));
            sum += s[i] + s[i + 1];
        }
        r->sum[h] = fmaf(r->sum[h], r->shrink[h], sum);
    }
}

/* Accumulator columns 16 k ... 16 k + 15 are, in pairs, the A operand of the k-th product. */
static __device__ __forceinline__ void pack_weights(uint32_t (&p)[32], const float (&s)[64]) {
#pragma unroll
    for (int i = 0; i < 32; i++) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(p[i]) : "f"(s[2 * i + 1]), "f"(s[2 * i]));
}

template <int D>
static __device__ __forceinline__ void write_rows(const float (&o)[D / 2], row_state *r, const prompt_args &a, int row,
                                                  int head) {
    const int column = (int)threadIdx.x % 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        r->sum[h] += __shfl_xor_sync(~0u, r->sum[h], 1);
        r->sum[h] += __shfl_xor_sync(~0u, r->sum[h], 2);
        const int at = row + 8 * h;
        if (at >= a.n) continue;
        const float inverse = 1.0f / r->sum[h];
        __nv_bfloat162 *out = (__nv_bfloat162 *)(a.out + ((size_t)at * (size_t)a.n_heads + (size_t)head) * D) + column;
#pragma unroll
        for (int i = 0; i < D / 8; i++)
            out[4 * i] = __floats2bfloat162_rn(o[4 * i + 2 * h] * inverse, o[4 * i + 2 * h + 1] * inverse);
        if (a.lse && column == 0)
            a.lse[(size_t)at * (size_t)a.n_heads + (size_t)head] =
                fmaf(r->max[h] * a.scale_log2, 0.69314718056f, logf(r->sum[h]));
    }
}

/* A warpgroup's 64 query rows against key tiles `tile` ... 0.  Item i of the rings is tile - i. */
template <int D>
static __device__ __forceinline__ void attend_rows(const prompt_memory<D> &m, const prompt_args &a, int reader,
                                                   int tile, int head) {
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x % WARPGROUP / 32;
    const int row = reader * 64 + warp * 16 + lane / 4; /* within the tile; the other one is row + 8 */
    const uint32_t q = m.q + (uint32_t)(reader * 64 * tile_shape<D>::ROW_BYTES);
    row_state r = {{-INFINITY, -INFINITY}, {0, 0}, {1, 1}};
    float o[D / 2], s[64];
    uint32_t p[32];
#pragma unroll
    for (int i = 0; i < D / 2; i++) o[i] = 0;
#pragma unroll
    for (int i = 0; i < 64; i++) s[i] = 0;

    barrier_wait(m.q_full, 0);
    m.k.wait_full(0);
    multiply_rows<D>(s, q, m.k.tile(0));
    wgmma_wait<0>();
    pin(s);
    if (lane == 0) m.k.release(0);
    mask_scores(s, row);
    soften_scores(s, &r, a.scale_log2);
    pack_weights(p, s);

    if (reader == 1 && tile > 0) named_arrive(TURN_BAR, N_READERS * WARPGROUP); /* reader 0 opens */
    m.k.wait_full(min(1, tile));
    for (int i = 1; i <= tile; i++) {
        named_sync(TURN_BAR + reader, N_READERS * WARPGROUP);
        multiply_rows<D>(s, q, m.k.tile(i));
        m.v.wait_full(i - 1);
        weigh_values<D>(o, p, m.v.tile(i - 1));
        if (reader == 0 || i < tile) /* no arrival is left over that nobody waits for */
            named_arrive(TURN_BAR + 1 - reader, N_READERS * WARPGROUP);
        wgmma_wait<1>();
        pin(s);
        if (lane == 0) m.k.release(i);
        soften_scores(s, &r, a.scale_log2);
        /* The next keys are needed soon; this branch also keeps the compiler from waiting for the values before it is
         * done with the softmax. */
        m.k.wait_full(min(i + 1, tile));
        wgmma_wait<0>();
        pin(o);
        pin(p);
        if (lane == 0) m.v.release(i - 1);
        pack_weights(p, s);
#pragma unroll
        for (int j = 0; j < D / 2; j++) o[j] *= r.shrink[j / 2 % 2];
    }
    m.v.wait_full(tile);
    weigh_values<D>(o, p, m.v.tile(tile));
    wgmma_wait<0>();
    pin(o);
    write_rows<D>(o, &r, a, tile * TILE_ROWS + row, head);
}

/* <<<query tiles * n_heads, N_THREADS, prompt_memory<D>::BYTES>>>; maps: q (n, n_heads, D), k and v (n, n_kv_heads,
 * D). */
template <int D>
static __global__ void __launch_bounds__(N_THREADS, 1)
    attend_prompt(const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k,
                  const __grid_constant__ CUtensorMap v, const __grid_constant__ prompt_args a) {
    extern __shared__ uint8_t shared[];
    const prompt_memory<D> m(shared_address(shared));
    const int warpgroup = __shfl_sync(~0u, (int)threadIdx.x / WARPGROUP, 0); /* the same in the whole warp */
    int tile, head;
    if (threadIdx.x == 0) {
        barrier_init(m.q_full, 1);
        m.k.init(1, N_READERS * WARPGROUP / 32);
        m.v.init(1, N_READERS * WARPGROUP / 32);
        barrier_publish();
    }
    __syncthreads();
    find_work(a, &tile, &head);
    if (warpgroup == 0) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == 0) feed_tiles<D>(m, &q, &k, &v, tile, head, head / a.group);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        attend_rows<D>(m, a, warpgroup - 1, tile, head);
    }
}

template <int D>
static cudaError_t launch(const prompt_args *a, const void *q, size_t q_stride, const void *k, const void *v,
                          size_t kv_stride, cudaStream_t stream) {
    const int n_kv_heads = a->n_heads / a->group, n_tiles = (a->n + TILE_ROWS - 1) / TILE_ROWS;
    CUtensorMap q_map, k_map, v_map;
    cudaError_t rc = map_tiles<D>(&q_map, q, q_stride, a->n, a->n_heads);
    if (rc == cudaSuccess) rc = map_tiles<D>(&k_map, k, kv_stride, a->n, n_kv_heads);
    if (rc == cudaSuccess) rc = map_tiles<D>(&v_map, v, kv_stride, a->n, n_kv_heads);
    if (rc == cudaSuccess)
        rc = cudaFuncSetAttribute(attend_prompt<D>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  prompt_memory<D>::BYTES);
    if (rc != cudaSuccess) return rc;
    attend_prompt<D>
        <<<(unsigned)(n_tiles * a->n_heads), N_THREADS, prompt_memory<D>::BYTES, stream>>>(q_map, k_map, v_map, *a);
    return cudaGetLastError();
}

cudaError_t kv_cuda_attend_prompt(void *out, float *lse, const void *q, size_t q_stride, const void *k, const void *v,
                                  size_t kv_stride, int n, int n_heads, int n_kv_heads, int head_dim, float scale,
                                  cudaStream_t stream) {
    if (n < 1 || n_kv_heads < 1 || n_heads % n_kv_heads) return cudaErrorInvalidValue;
    const size_t fit = SECTION_BYTES / (4 * (size_t)n * (size_t)head_dim); /* k and v of a head: 4 n head_dim bytes */
    const int section = fit < 1 ? 1 : fit < (size_t)n_kv_heads ? (int)fit : n_kv_heads;
    const prompt_args a = {(__nv_bfloat16 *)out,  lse, n, n_heads, n_heads / n_kv_heads, section,
                           scale * 1.44269504089f};
    switch (head_dim) {
    case 64:
        return launch<64>(&a, q, q_stride, k, v, kv_stride, stream);
    case 96:
        return launch<96>(&a, q, q_stride, k, v, kv_stride, stream);
    case 128:
        return launch<128>(&a, q, q_stride, k, v, kv_stride, stream);
    default:
        return cudaErrorInvalidValue;
    }
}
