/* mass_prompt.cu - how much attention every key of a prompt received, for policies that rank by it (H2O,
 * arXiv:2306.14048).
 *
 * Attention itself keeps no weights, so they are made again from q, k and the rows' log-sums: a block owns 128 keys,
 * walks the query tiles at and after them, and sums the exponentials of k q^T along rows, which stay in registers.
 * Order: query tiles ascending, heads of the group within a tile; a tile's sum is formed first, then added. */
#include "engine/cuda/cuda.h"
#include "engine/cuda/wgmma.cuh"

enum {
    N_READER_WARPS = 8, /* two warpgroups, 64 keys each */
    N_READER_THREADS = 32 * N_READER_WARPS,
    N_THREADS = N_READER_THREADS + 32, /* and one warp that feeds them */
    N_STAGES = 2,
    PER_LANE = TILE_ROWS / 32
};

typedef struct mass_args {
    float *mass;      /* (n_kv_heads, n) */
    const float *lse; /* (n, n_heads) */
    int n, n_heads, n_kv_heads;
    float scale_log2; /* of scores, in powers of two */
} mass_args;

template <int D> struct mass_memory {
    typedef tile_ring<N_STAGES, tile_shape<D>::BYTES> ring;
    enum { LSE_BYTES = N_STAGES * TILE_ROWS * 4, BARRIERS = 1 + 2 * N_STAGES };
    enum { BYTES = 1024 + (1 + N_STAGES) * tile_shape<D>::BYTES + LSE_BYTES + 8 * BARRIERS }; /* 1024: to align */
    uint32_t k, k_full;
    float *lse; /* (N_STAGES, TILE_ROWS), in powers of two */
    ring q;
    __device__ __forceinline__ explicit mass_memory(uint8_t *shared) {
        const uint32_t base = shared_address(shared), lse_at = (1 + N_STAGES) * tile_shape<D>::BYTES;
        k = (base + 1023) & ~1023u;
        q.tiles = k + tile_shape<D>::BYTES;
        lse = (float *)(shared + (k - base) + lse_at);
        k_full = k + lse_at + LSE_BYTES;
        q.full = k_full + 8;
        q.empty = q.full + 8 * N_STAGES;
    }
};

/* A lane's log-sums of a query tile; rows past n get +inf, which makes their weights zero. */
static __device__ __forceinline__ void read_lse(float (&x)[PER_LANE], const mass_args &a, int tile, int head) {
#pragma unroll
    for (int j = 0; j < PER_LANE; j++) {
        const int row = tile * TILE_ROWS + (int)threadIdx.x % 32 + 32 * j;
        x[j] = row < a.n ? a.lse[(size_t)row * (size_t)a.n_heads + (size_t)head] * 1.44269504089f : INFINITY;
    }
}

/* The feeding warp: the key tile, then n_items pairs (query tile, head of the group). */
template <int D>
static __device__ __forceinline__ void feed_queries(const mass_memory<D> &m, const mass_args &a, const CUtensorMap *q,
                                                    const CUtensorMap *k, int tile, int kv_head, int n_items) {
    const int lane = (int)threadIdx.x % 32, group = a.n_heads / a.n_kv_heads;
    float lse[PER_LANE];
    if (lane == 0) load_tile<D>(m.k, k, tile * TILE_ROWS, kv_head, m.k_full);
    read_lse(lse, a, tile, kv_head * group);
    for (int i = 0; i < n_items; i++) {
        m.q.wait_empty(i);
        if (lane == 0)
            load_tile<D>(m.q.tile(i), q, (tile + i / group) * TILE_ROWS, kv_head * group + i % group, m.q.full_bar(i));
#pragma unroll
        for (int j = 0; j < PER_LANE; j++) m.lse[i % N_STAGES * TILE_ROWS + lane + 32 * j] = lse[j];
        barrier_arrive(m.q.full_bar(i));
        read_lse(lse, a, tile + (i + 1) / group, kv_head * group + (i + 1) % group); /* ahead of the wait */
    }
}

/* sum += this thread's columns of exp(scores - lse), for its two rows; lse: of the tile's queries. */
static __device__ __forceinline__ void add_weights(float (&sum)[2], const float (&s)[64], const float *lse,
                                                   float scale_log2) {
    const float2 *pairs = (const float2 *)lse + threadIdx.x % 4;
    float part[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 64; i += 4) {
        const float2 shift = pairs[i];
#pragma unroll
        for (int h = 0; h < 2; h++)
            part[h] += exp2_fast(fmaf(s[i + 2 * h], scale_log2, -shift.x)) +
                       exp2_fast(fmaf(s[i + 2 * h + 1], scale_log2, -shift.y));
    }
    sum[0] += part[0];
    sum[1] += part[1];
}

/* A warpgroup's 64 keys against all items. */
template <int D>
static __device__ __forceinline__ void sum_keys(const mass_memory<D> &m, const mass_args &a, int tile, int kv_head,
                                                int n_items) {
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, group = a.n_heads / a.n_kv_heads;
    const int row = warp * 16 + lane / 4, column = 2 * (lane % 4); /* within the tile; the other row is row + 8 */
    const uint32_t k = m.k + (uint32_t)(warp / 4 * 64 * tile_shape<D>::ROW_BYTES);
    float s[64], sum[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 64; i++) s[i] = 0;
    barrier_wait(m.k_full, 0);
    for (int i = 0; i < n_items; i++) {
        m.q.wait_full(i);
        multiply_rows<D>(s, k, m.q.tile(i));
        wgmma_wait<0>();
        pin(s);
        if (i < group) { /* the tile on the diagonal: queries before the key do not see it */
#pragma unroll
            for (int j = 0; j < 64; j++)
                if (8 * (j / 4) + column + j % 2 < row + 8 * (j / 2 % 2)) s[j] = -INFINITY;
        }
        add_weights(sum, s, m.lse + i % N_STAGES * TILE_ROWS, a.scale_log2);
        m.q.release(i); /* every lane for itself: all of them have read the log-sums */
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int key = tile * TILE_ROWS + row + 8 * h;
        sum[h] += __shfl_xor_sync(~0u, sum[h], 1);
        sum[h] += __shfl_xor_sync(~0u, sum[h], 2);
        if (column == 0 && key < a.n) a.mass[(size_t)kv_head * (size_t)a.n + (size_t)key] = sum[h];
    }
}

/* <<<key tiles * n_kv_heads, N_THREADS, mass_memory<D>::BYTES>>>; maps: q (n, n_heads, D), k (n, n_kv_heads, D).  The
 * first key tiles have the most queries and come first; the heads of a tile are neighbours. */
template <int D>
static __global__ void __launch_bounds__(N_THREADS, 2)
    mass_prompt(const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k,
                const __grid_constant__ mass_args a) {
    extern __shared__ uint8_t shared[];
    const mass_memory<D> m(shared);
    const int tile = (int)blockIdx.x / a.n_kv_heads, kv_head = (int)blockIdx.x % a.n_kv_heads;
    const int n_tiles = (a.n + TILE_ROWS - 1) / TILE_ROWS, n_items = (n_tiles - tile) * (a.n_heads / a.n_kv_heads);
    if (threadIdx.x == 0) {
        barrier_init(m.k_full, 1);
        /* the copy engine's arrival, and every feeding lane's after its log-sums; every reading lane's */
        m.q.init(1 + 32, N_READER_THREADS);
        barrier_publish();
    }
    __syncthreads();
    if (__shfl_sync(~0u, (int)threadIdx.x / 32, 0) == N_READER_WARPS)
        feed_queries<D>(m, a, &q, &k, tile, kv_head, n_items);
    else
        sum_keys<D>(m, a, tile, kv_head, n_items);
}

template <int D>
static cudaError_t launch(const mass_args *a, const void *q, size_t q_stride, const void *k, size_t kv_stride,
                          cudaStream_t stream) {
    const int n_tiles = (a->n + TILE_ROWS - 1) / TILE_ROWS;
    CUtensorMap q_map, k_map;
    cudaError_t rc = map_tiles<D>(&q_map, q, q_stride, a->n, a->n_heads);
    if (rc == cudaSuccess) rc = map_tiles<D>(&k_map, k, kv_stride, a->n, a->n_kv_heads);
    if (rc == cudaSuccess)
        rc = cudaFuncSetAttribute(mass_prompt<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, mass_memory<D>::BYTES);
    if (rc != cudaSuccess) return rc;
    mass_prompt<D><<<(unsigned)(n_tiles * a->n_kv_heads), N_THREADS, mass_memory<D>::BYTES, stream>>>(q_map, k_map, *a);
    return cudaGetLastError();
}

cudaError_t kv_cuda_mass_prompt(float *mass, const float *lse, const void *q, size_t q_stride, const void *k,
                                size_t kv_stride, int n, int n_heads, int n_kv_heads, int head_dim, float scale,
                                cudaStream_t stream) {
    if (n < 1 || n_kv_heads < 1 || n_heads % n_kv_heads) return cudaErrorInvalidValue;
    const mass_args a = {mass, lse, n, n_heads, n_kv_heads, scale * 1.44269504089f};
    switch (head_dim) {
    case 64:
        return launch<64>(&a, q, q_stride, k, kv_stride, stream);
    case 96:
        return launch<96>(&a, q, q_stride, k, kv_stride, stream);
    case 128:
        return launch<128>(&a, q, q_stride, k, kv_stride, stream);
    default:
        return cudaErrorInvalidValue;
    }
}
