/* snapkv.cu - the score of snapkv.c (what the last queries look at) on a device, in three launches.
 *
 *   dot_keys    logits x[t][j] of the group's best query head: a product of (window x group) queries with the past
 *               keys, in plain fp32; eight queries by four slots per thread keep it bound by arithmetic
 *   sum_rows    largest logit and the weight 1 / (sum of exp * queries) of every row
 *   pool_means  mean over the rows, maximum over the neighbours
 *
 * Every sum runs over the head's own slots in an order that depends on their number alone. */
#include "policies/heads.cuh"

#include <cuda_bf16.h>
#include <math.h>

enum {
    SLOTS = 128, /* of a tile of dot_keys */
    WARPS = 4,   /* of dot_keys */
    ROWS = 8,    /* query rows of a warp: whole groups */
    DIMS = 32,   /* staged at once */
    PITCH = 36,  /* floats between staged slots: lanes of consecutive slots read 16 bytes without conflicts */
    PER_LANE = SLOTS / 32,
    DOT_PARTS = 64,
    THREADS = 256,
    POOL_MAX = 255
};

typedef struct dot_tile {
    float k[SLOTS][PITCH];
    float q[WARPS * ROWS][DIMS];
    const char *page[SLOTS / KV_PAGE];
} dot_tile;

static __device__ __forceinline__ float *logits_row(const kv_cuda_heads &h, const kv_cuda_head &v, int t) {
    return h.scratch + v.row * (size_t)(h.window + 2) + (size_t)t * (size_t)h.stride;
}

static __device__ __forceinline__ float low_half(uint32_t x) {
    return __uint_as_float(x << 16);
}

static __device__ __forceinline__ float high_half(uint32_t x) {
    return __uint_as_float(x & 0xffff0000u);
}

/* Dimensions [d0, d0 + DIMS) of the tile's keys, 0 past head_dim. */
static __device__ __forceinline__ void stage_keys(dot_tile *s, int d0, int head_dim, const float *) {
    for (int i = (int)threadIdx.x; i < SLOTS * (DIMS / 4); i += WARPS * 32) {
        int slot = i / (DIMS / 4), at = i % (DIMS / 4) * 4;
        float4 x = make_float4(0, 0, 0, 0);
        if (d0 + at < head_dim)
            x = *(const float4 *)((const float *)s->page[slot / KV_PAGE] + slot % KV_PAGE * head_dim + d0 + at);
        *(float4 *)&s->k[slot][at] = x;
    }
}

static __device__ __forceinline__ void stage_keys(dot_tile *s, int d0, int head_dim, const __nv_bfloat16 *) {
#pragma unroll
    for (int i = (int)threadIdx.x; i < SLOTS * (DIMS / 8); i += WARPS * 32) {
        int slot = i / (DIMS / 8), at = i % (DIMS / 8) * 8;
        uint4 x = make_uint4(0, 0, 0, 0);
        if (d0 + at < head_dim)
            x = *(const uint4 *)((const __nv_bfloat16 *)s->page[slot / KV_PAGE] + slot % KV_PAGE * head_dim + d0 + at);
        *(float4 *)&s->k[slot][at] = make_float4(low_half(x.x), high_half(x.x), low_half(x.y), high_half(x.y));
        *(float4 *)&s->k[slot][at + 4] = make_float4(low_half(x.z), high_half(x.z), low_half(x.w), high_half(x.w));
    }
}

/* Row r of warp w holds query head r % group of query t0 + w * (ROWS / group) + r / group; rows without one are 0. */
static __device__ __forceinline__ void stage_queries(dot_tile *s, const kv_cuda_heads &h, const kv_cuda_head &v, int t0,
                                                     int n_queries, int d0) {
    int per_warp = ROWS / h.group;
    for (int i = (int)threadIdx.x; i < WARPS * ROWS * (DIMS / 4); i += WARPS * 32) {
        int row = i / (DIMS / 4), dim = d0 + i % (DIMS / 4) * 4, r = row % ROWS;
        int t = t0 + row / ROWS * per_warp + r / h.group;
        float4 x = make_float4(0, 0, 0, 0);
        if (r < per_warp * h.group && t < n_queries && dim < h.head_dim) {
            size_t at = (size_t)(v.layer * h.window + (v.n_seen - n_queries + t) % h.window) * (size_t)h.n_kv_heads;
            at = (at + (size_t)v.kv_head) * (size_t)h.group + (size_t)(r % h.group);
            x = *(const float4 *)(v.ring + at * (size_t)h.head_dim + dim);
        }
        *(float4 *)&s->q[row][i % (DIMS / 4) * 4] = x;
    }
}

static __device__ __forceinline__ void add_products(const dot_tile *s, float acc[ROWS][PER_LANE]) {
    int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x / 32 * ROWS;
#pragma unroll
    for (int d = 0; d < DIMS; d += 4) {
        float4 k[PER_LANE];
#pragma unroll
        for (int j = 0; j < PER_LANE; j++) k[j] = *(const float4 *)&s->k[lane + 32 * j][d];
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            float4 q = *(const float4 *)&s->q[row + r][d];
#pragma unroll
            for (int j = 0; j < PER_LANE; j++) {
                acc[r][j] = fmaf(q.x, k[j].x, acc[r][j]);
                acc[r][j] = fmaf(q.y, k[j].y, acc[r][j]);
                acc[r][j] = fmaf(q.z, k[j].z, acc[r][j]);
                acc[r][j] = fmaf(q.w, k[j].w, acc[r][j]);
            }
        }
    }
}

/* Scaled logits of the best query head of every group, for the slots from `first` on. */
static __device__ __forceinline__ void write_logits(const kv_cuda_heads &h, const kv_cuda_head &v, int t0,
                                                    int n_queries, int first, int n_past, float scale,
                                                    const float acc[ROWS][PER_LANE]) {
    int per_warp = ROWS / h.group, t = t0 + (int)threadIdx.x / 32 * per_warp, g = 0;
    float best[PER_LANE];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
#pragma unroll
        for (int j = 0; j < PER_LANE; j++) best[j] = g == 0 || acc[r][j] > best[j] ? acc[r][j] : best[j];
        if (++g < h.group) continue;
        g = 0;
        if (t < n_queries) {
            float *x = logits_row(h, v, t++);
#pragma unroll
            for (int j = 0; j < PER_LANE; j++) {
                int slot = first + (int)threadIdx.x % 32 + 32 * j;
                if (slot < n_past) x[slot] = best[j] * scale;
            }
        }
    }
}

/* scratch (head, t, slot) = max over the group of q_t . k_slot * scale, slots before the last `window`.
 * Launch: (heads, parts of the slots), WARPS * 32; head_dim a multiple of 16 bytes of T, group <= ROWS. */
template <typename T>
static __global__ void __launch_bounds__(WARPS * 32)
    dot_keys(const __grid_constant__ kv_cuda_heads h, int window, float scale) {
    __shared__ __align__(16) dot_tile s;
    kv_cuda_head v;
    if (!kv_cuda_head_find(h, (int)blockIdx.x, &v)) return;
    int n_past = v.n_slots - window, n_queries = v.n_seen < window ? v.n_seen : window;
    int per_pass = WARPS * (ROWS / h.group);
    for (int first = (int)blockIdx.y * SLOTS; first < n_past; first += (int)gridDim.y * SLOTS) {
        __syncthreads();
        if (threadIdx.x < SLOTS / KV_PAGE) {
            int slot = first + (int)threadIdx.x * KV_PAGE;
            s.page[threadIdx.x] = kv_cuda_page(v, slot < n_past ? slot : n_past - 1);
        }
        for (int t0 = 0; t0 < n_queries; t0 += per_pass) {
            float acc[ROWS][PER_LANE] = {};
            for (int d0 = 0; d0 < h.head_dim; d0 += DIMS) {
                __syncthreads();
                stage_keys(&s, d0, h.head_dim, (const T *)nullptr);
                stage_queries(&s, h, v, t0, n_queries, d0);
                __syncthreads();
                add_products(&s, acc);
            }
            write_logits(h, v, t0, n_queries, first, n_past, scale, acc);
        }
    }
}

/* Largest value and sum of the block's threads, in one order. */
static __device__ float block_max(float x) {
    __shared__ float part[THREADS / 32];
    for (int o = 16; o; o /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, o));
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
    __syncthreads();
    for (int i = 0; i < THREADS / 32; i++) x = fmaxf(x, part[i]);
    return x;
}

static __device__ double block_sum(double x) {
    __shared__ double part[THREADS / 32];
    for (int o = 16; o; o /= 2) x += __shfl_down_sync(~0u, x, o);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0;
    for (int i = 0; i < THREADS / 32; i++) x += part[i];
    return x;
}

/* Rows window and window + 1 of the head's scratch: (window) largest logit, (window) 1 / (sum of exp * n_queries).
 * Launch: (heads, window), THREADS. */
static __global__ void sum_rows(const __grid_constant__ kv_cuda_heads h, int window) {
    kv_cuda_head v;
    int t = (int)blockIdx.y;
    if (!kv_cuda_head_find(h, (int)blockIdx.x, &v)) return;
    int n_past = v.n_slots - window, n_queries = v.n_seen < window ? v.n_seen : window;
    if (t >= n_queries || n_past <= 0) return;
    const float *x = logits_row(h, v, t);
    float top = -INFINITY;
    for (int j = (int)threadIdx.x; j < n_past; j += THREADS) top = fmaxf(top, x[j]);
    top = block_max(top);
    double sum = 0;
    for (int j = (int)threadIdx.x; j < n_past; j += THREADS) sum += expf(x[j] - top);
    sum = block_sum(sum);
    if (threadIdx.x) return;
    logits_row(h, v, h.window)[t] = top;
    logits_row(h, v, h.window + 1)[t] = (float)(1 / (sum * n_queries));
}

/* h.score = largest mean probability among the pool / 2 neighbours on either side; 0 for the last `window` slots.
 * Launch: (heads, parts of the slots), THREADS. */
static __global__ void pool_means(const __grid_constant__ kv_cuda_heads h, int window, int pool) {
    __shared__ float mean[THREADS + POOL_MAX - 1];
    kv_cuda_head v;
    if (!kv_cuda_head_find(h, (int)blockIdx.x, &v)) return;
    int n_past = v.n_slots - window, n_queries = v.n_seen < window ? v.n_seen : window, half = pool / 2;
    const float *top = logits_row(h, v, h.window), *weight = logits_row(h, v, h.window + 1);
    for (int first = (int)blockIdx.y * THREADS; first < v.n_slots; first += (int)gridDim.y * THREADS) {
        __syncthreads();
        for (int i = (int)threadIdx.x; i < THREADS + 2 * half; i += THREADS) {
            int j = first - half + i;
            float sum = 0;
            for (int t = 0; j >= 0 && j < n_past && t < n_queries; t++)
                sum = __fadd_rn(sum, __fmul_rn(expf(logits_row(h, v, t)[j] - top[t]), weight[t]));
            mean[i] = sum;
        }
        __syncthreads();
        int j = first + (int)threadIdx.x;
        if (j >= v.n_slots) continue;
        int from = j < half ? 0 : j - half, to = j + half < n_past ? j + half : n_past - 1;
        float best = j < n_past ? mean[from - first + half] : 0;
        for (int i = from + 1; j < n_past && i <= to; i++) {
            float x = mean[i - first + half];
            best = x > best ? x : best;
        }
        h.score[v.row + j] = best;
    }
}

extern "C" int kv_cuda_score_attention(const kv_cuda_heads *h, int window, int pool) {
    size_t heads = (size_t)kv_cuda_heads_count(h), need = heads * (size_t)(h->window + 2) * (size_t)h->stride;
    int bf16 = h->layout.type == KV_CACHE_BF16;
    if (heads == 0) return cudaSuccess;
    if (h->group > ROWS || window > h->window || window < 1 || pool > POOL_MAX || h->scratch_floats < need ||
        h->head_dim % (bf16 ? 8 : 4) || (!bf16 && h->layout.type != KV_CACHE_F32))
        return cudaErrorInvalidValue;
    int tiles = (h->stride + SLOTS - 1) / SLOTS, n = (int)heads;
    dim3 grid((unsigned)n, (unsigned)(tiles < DOT_PARTS ? tiles : DOT_PARTS));
    cudaStream_t stream = (cudaStream_t)h->stream;
    float scale = 1 / sqrtf((float)h->head_dim);
    if (bf16)
        dot_keys<__nv_bfloat16><<<grid, WARPS * 32, 0, stream>>>(*h, window, scale);
    else
        dot_keys<float><<<grid, WARPS * 32, 0, stream>>>(*h, window, scale);
    cudaError_t rc = cudaGetLastError();
    if (rc != cudaSuccess) return rc;
    sum_rows<<<dim3((unsigned)n, (unsigned)window), THREADS, 0, stream>>>(*h, window);
    rc = cudaGetLastError();
    if (rc != cudaSuccess) return rc;
    pool_means<<<grid, THREADS, 0, stream>>>(*h, window, pool);
    return cudaGetLastError();
}
