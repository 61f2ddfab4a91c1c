/* gate.cu - the retention gates (arXiv 2512.03324, 2605.09649) behind their first product, in fp32.
 *
 * The first product is a matrix product like any other and comes in; here are bias and silu (or the product of the two
 * halves of rg3), the second map of rg10, one short dot product per KV head and logsigmoid, the same formulas as
 * policies/gate.c. */
#include "engine/cuda/gate.cuh"

enum { THREADS = 128 };

/* Grid: n blocks, one per row; block: THREADS; dynamic shared memory: n_hidden floats, with a second map twice that. */
static __global__ void __launch_bounds__(THREADS) gate_rows(const __grid_constant__ kv_cuda_gate g) {
    extern __shared__ float act[];
    int n_hidden = g.n_hidden, n_first = g.b1 ? n_hidden : 2 * n_hidden;
    const float *m = g.mid + (size_t)blockIdx.x * g.mid_stride;
    for (int i = threadIdx.x; i < n_hidden; i += THREADS) {
        float x = g.n_parts == 2 ? m[i] + m[n_first + i] : m[i];
        if (g.b1) {
            act[i] = silu<float>(x + g.b1[i]);
        } else {
            const float *up = m + n_hidden;
            act[i] = silu<float>(x) * (g.n_parts == 2 ? up[i] + up[n_first + i] : up[i]);
        }
    }
    __syncthreads();
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const float *last = act;
    if (g.map) {
        float *second = act + n_hidden;
        for (int i = warp; i < n_hidden; i += THREADS / 32) {
            float z = warp_dot(g.map + (size_t)i * n_hidden, act, n_hidden);
            if (lane == 0) second[i] = silu<float>(z + g.map_b[i]);
        }
        __syncthreads();
        last = second;
    }
    for (int h = warp; h < g.n_kv_heads; h += THREADS / 32) {
        float z = warp_dot(g.w2 + (size_t)h * n_hidden, last, n_hidden);
        if (lane == 0) g.stats[((size_t)blockIdx.x * g.n_kv_heads + h) * g.n_stats + g.at] = logsigmoid(z + g.bias[h]);
    }
}

cudaError_t kv_cuda_gate_rows(const kv_cuda_gate *g, cudaStream_t stream) {
    int shared = g->map ? 2 * g->n_hidden : g->n_hidden;
    if (g->n == 0) return cudaSuccess;
    if (shared > KV_CUDA_GATE_FLOATS) return cudaErrorInvalidValue;
    gate_rows<<<g->n, THREADS, (size_t)shared * sizeof(float), stream>>>(*g);
    return cudaGetLastError();
}

/* Grid: (n, n_kv_heads) heads, one per block; block: THREADS. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    pack_kv(T *__restrict__ out, const T *__restrict__ k, const T *__restrict__ v, int head_dim) {
    size_t head = blockIdx.x;
    for (int i = threadIdx.x; i < head_dim; i += THREADS) {
        out[2 * head * head_dim + i] = k[head * head_dim + i];
        out[(2 * head + 1) * head_dim + i] = v[head * head_dim + i];
    }
}

cudaError_t kv_cuda_pack_kv(void *out, const void *k, const void *v, kv_cuda_type type, int n, int n_kv_heads,
                            int head_dim, cudaStream_t stream) {
    if (n == 0) return cudaSuccess;
    KV_CUDA_CASE(type, T,
                 pack_kv<<<n * n_kv_heads, THREADS, 0, stream>>>((T *)out, (const T *)k, (const T *)v, head_dim);
                 return cudaGetLastError());
}
