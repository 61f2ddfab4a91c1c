/* attend_f32.cu - fp32 attention over the paged cache, for parity with the CPU.
 *
 * Plain and exact: fp32 throughout, expf, online softmax (Milakov and Gimelshein, arXiv:1805.02867) over tiles of a
 * fixed number of slots.  A block handles one row and one KV head, with the same number of threads for every query head
 * of the group, which walk over the same tile together, so K and V come from memory once per group.  Every sum has an
 * order that depends on the slots that the row sees and on the shape of the model only.  Needs no scratch. */
#include "engine/cuda/common.cuh"

enum {
    MOST_WARPS = 8, /* of a query head */
    SCORES = 4096,  /* group * (slots of a tile); a tile has 4 slots per thread of a head */
    PER_SLOT = 8,   /* lanes that share a slot's dot product */
    HEAD_MOST = 256
};

typedef struct tile_memory {
    float score[SCORES];                    /* (group, tile) scores, then probabilities; at the end partial sums */
    float q[KV_CUDA_GROUP_MAX * HEAD_MOST]; /* (group, head_dim) */
    float part[KV_CUDA_GROUP_MAX][2][MOST_WARPS]; /* of maxima, of sums */
    const char *page[SCORES / KV_PAGE];
    int seg;
} tile_memory;

/* The segment that holds the row, or -1.  The whole block takes part. */
KV_DEVICE int find_segment(const kv_cuda_attend &a, int row, tile_memory *sh) {
    int tid = threadIdx.y * blockDim.x + threadIdx.x, n = blockDim.x * blockDim.y;
    if (tid == 0) sh->seg = -1;
    __syncthreads();
    for (int i = tid; i < a.n_segs; i += n)
        if (row >= a.segs[i].row && row < a.segs[i].row + a.segs[i].n) sh->seg = i;
    __syncthreads();
    return sh->seg;
}

/* Scores of the tile's n slots; returns the largest of those that the thread wrote. */
template <int V> KV_DEVICE float score_tile(const kv_cuda_attend &a, tile_memory *sh, float *score, int n) {
    int d = a.head_dim, lane = threadIdx.x % PER_SLOT;
    const float *q = sh->q + threadIdx.y * d;
    float top = -INFINITY;
    for (int first = 0; first < n; first += blockDim.x / PER_SLOT) {
        int slot = first + threadIdx.x / PER_SLOT;
        float s = 0;
        if (slot < n) {
            const float *k = (const float *)sh->page[slot / KV_PAGE] + k_at(d, slot % KV_PAGE, 0);
            for (int i = lane * V; i < d; i += PER_SLOT * V) {
                float kv[V], qv[V];
                load_vec(kv, k + i);
                load_vec(qv, q + i);
#pragma unroll
                for (int j = 0; j < V; j++) s += kv[j] * qv[j];
            }
        }
        s = warp_sum(s, PER_SLOT) * a.scale;
        if (slot >= n) continue;
        if (lane == 0) score[slot] = s;
        top = fmaxf(top, s);
    }
    return top;
}

/* acc += p V for the slots of the tile that are this thread's: `part`, part + n_parts, ... */
template <int V>
KV_DEVICE void add_values(const kv_cuda_attend &a, const tile_memory *sh, const float *p, int n, float (&acc)[V],
                          int dim, int part, int n_parts) {
#pragma unroll 4
    for (int s = part; s < n; s += n_parts) {
        float v[V];
        load_vec(v,
                 (const float *)(sh->page[s / KV_PAGE] + a.layout.off_v) + v_at<float>(a.head_dim, s % KV_PAGE, dim));
#pragma unroll
        for (int j = 0; j < V; j++) acc[j] += p[s] * v[j];
    }
}

/* Largest, or sum, over the threads of a query head; warps in order.  The whole block takes part, and passes a barrier
 * before it writes to the same part again. */
KV_DEVICE float head_max(float x, float *part) {
    x = warp_max(x, 32);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
    __syncthreads();
    for (unsigned w = 0; w < blockDim.x / 32; w++) x = fmaxf(x, part[w]);
    return x;
}

KV_DEVICE float head_sum(float x, float *part) {
    x = warp_sum(x, 32);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0;
    for (unsigned w = 0; w < blockDim.x / 32; w++) x += part[w];
    return x;
}

/* Grid: rows * n_kv_heads blocks, the KV head fastest; block: (256 or 128, group), group * threads <= 1024.  V 4 or 2
 * divides head_dim. */
template <int V> static __global__ void __launch_bounds__(1024) attend_f32(kv_cuda_attend a) {
    __shared__ __align__(16) tile_memory sh;
    int row = blockIdx.x / a.n_kv_heads, kv_head = blockIdx.x % a.n_kv_heads, d = a.head_dim;
    int t = threadIdx.x, g = threadIdx.y, n_threads = blockDim.x, tile = 4 * n_threads;
    int seg = find_segment(a, row, &sh);
    if (seg < 0) return;
    const kv_cuda_segment s = a.segs[seg];
    head_view head = view_head(&a.seqs[s.seq], a.layer, kv_head, a.n_kv_heads);
    int n_seen = head.n_slots - s.n + (row - s.row) + 1, query = kv_head * (int)blockDim.y + g;
    const float *q = (const float *)a.q + (size_t)row * a.q_stride + (size_t)query * d;
    for (int i = t; i < d; i += n_threads) sh.q[g * d + i] = q[i];

    int n_vec = d / V, n_parts = n_threads / n_vec, part = t / n_vec, dim = t % n_vec * V;
    float *score = sh.score + g * tile, acc[V] = {0}, top = -INFINITY, sum = 0;
    for (int first = 0; first < n_seen; first += tile) {
        int n = min(tile, n_seen - first);
        for (int i = g * n_threads + t; i * KV_PAGE < n; i += n_threads * blockDim.y)
            sh.page[i] = page_of(head, first + i * KV_PAGE);
        __syncthreads();
        float larger = fmaxf(top, head_max(score_tile<V>(a, &sh, score, n), sh.part[g][0]));
        float shrink = expf(top - larger);
        top = larger;
        sum *= shrink;
        for (int i = t; i < n; i += n_threads) sum += score[i] = expf(score[i] - top);
        __syncthreads();
#pragma unroll
        for (int j = 0; j < V; j++) acc[j] *= shrink;
        if (part < n_parts) add_values<V>(a, &sh, score, n, acc, dim, part, n_parts);
        __syncthreads();
    }
    sum = head_sum(sum, sh.part[g][1]);
    if (part < n_parts) store_vec(score + part * d + dim, acc);
    __syncthreads();
    size_t at = (size_t)row * a.n_heads + query;
    for (int i = t; i < d; i += n_threads) {
        float o = 0;
        for (int j = 0; j < n_parts; j++) o += score[j * d + i];
        ((float *)a.out)[at * d + i] = o / sum;
    }
    if (a.lse && t == 0) a.lse[at] = top + logf(sum);
}

cudaError_t kv_cuda_attend_f32(const kv_cuda_attend *a, cudaStream_t stream) {
    int group = a->n_heads / a->n_kv_heads, d = a->head_dim;
    if (a->n_rows == 0) return cudaSuccess;
    if (group > KV_CUDA_GROUP_MAX || d % 2 || d > HEAD_MOST || a->layout.type != KV_CACHE_F32)
        return cudaErrorInvalidValue;
    dim3 block(group <= 2 ? 256 : 128, group);
    if (d % 4 == 0) {
        attend_f32<4><<<a->n_rows * a->n_kv_heads, block, 0, stream>>>(*a);
    } else {
        attend_f32<2><<<a->n_rows * a->n_kv_heads, block, 0, stream>>>(*a);
    }
    return cudaGetLastError();
}
