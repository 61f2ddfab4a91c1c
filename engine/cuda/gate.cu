/* gate.cu - the retention gate of TRIM-KV (arXiv:2512.03324) behind its first product, in fp32.
 *
 * The first product W1 x is a matrix product like any other and comes in; here are the bias, silu, one short dot
 * product per KV head and logsigmoid, the same formulas as policies/trimkv.c. */
#include "engine/cuda/common.cuh"

enum { THREADS = 128, HIDDEN_MOST = 12288 }; /* 48 KiB of shared memory */

KV_DEVICE float logsigmoid(float z) {
    return z >= 0 ? -log1pf(expf(-z)) : z - log1pf(expf(z));
}

/* Grid: n blocks, one per row; block: THREADS; dynamic shared memory: n_hidden floats. */
static __global__ void __launch_bounds__(THREADS)
    gate_rows(float *stats,                   /* (n, n_kv_heads, n_stats) */
              const float *__restrict__ mid,  /* (n, mid_stride) */
              const float *__restrict__ b1,   /* (n_hidden) */
              const float *__restrict__ w2,   /* (n_kv_heads, n_hidden) */
              const float *__restrict__ bias, /* (n_kv_heads) */
              int n_stats, int at, int mid_stride, int n_parts, int n_hidden, int n_kv_heads) {
    extern __shared__ float act[];
    const float *m = mid + (size_t)blockIdx.x * mid_stride;
    for (int i = threadIdx.x; i < n_hidden; i += THREADS) {
        float x = (n_parts == 2 ? m[i] + m[n_hidden + i] : m[i]) + b1[i];
        act[i] = x / (1.0f + expf(-x));
    }
    __syncthreads();
    int lane = threadIdx.x % 32;
    for (int h = threadIdx.x / 32; h < n_kv_heads; h += THREADS / 32) {
        const float *w = w2 + (size_t)h * n_hidden;
        float z = 0;
        for (int i = lane; i < n_hidden; i += 32) z += act[i] * w[i];
        z = warp_sum(z, 32);
        if (lane == 0) stats[((size_t)blockIdx.x * n_kv_heads + h) * n_stats + at] = logsigmoid(z + bias[h]);
    }
}

cudaError_t kv_cuda_gate_rows(float *stats, int n_stats, int at, const float *mid, int mid_stride, int n_parts,
                              const float *b1, const float *w2, const float *bias, int n, int n_hidden, int n_kv_heads,
                              cudaStream_t stream) {
    if (n == 0) return cudaSuccess;
    if (n_hidden > HIDDEN_MOST) return cudaErrorInvalidValue;
    gate_rows<<<n, THREADS, (size_t)n_hidden * sizeof(float), stream>>>(stats, mid, b1, w2, bias, n_stats, at,
                                                                        mid_stride, n_parts, n_hidden, n_kv_heads);
    return cudaGetLastError();
}
