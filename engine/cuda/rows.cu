/* rows.cu - elementwise work over rows: embedding, RMSNorm, SwiGLU.
 *
 * All of it is bound by memory: 16-byte accesses where the width allows, and a row is read once.  How a row is cut into
 * blocks depends on its width alone, so its bits never depend on what is packed beside it. */
#include "engine/cuda/common.cuh"

enum { NORM_THREADS = 256, NORM_MOST = 16 };

static int aligned(const void *p, size_t to) {
    return (uintptr_t)p % to == 0;
}

/* Grid: n * chunks blocks, block b has chunk b % chunks of row b / chunks; V elements per thread.  A negative token
 * (the code that sample_rows leaves for a row without a next token) reads as zeros. */
template <typename T, int V>
static __global__ void embed_rows(float *x,                          /* (n, dim) */
                                  const T *__restrict__ embed,       /* (n_vocab, dim) */
                                  const int32_t *__restrict__ token, /* (n) */
                                  int dim, int chunks) {
    int row = blockIdx.x / chunks, i = (blockIdx.x % chunks * blockDim.x + threadIdx.x) * V;
    if (i >= dim) return;
    int t = token[row];
    float v[V] = {0};
    if (t >= 0) load_vec(v, embed + (size_t)t * dim + i);
    store_vec(x + (size_t)row * dim + i, v);
}

template <typename T, int V>
static cudaError_t launch_embed(float *x, const void *embed, const int32_t *token, int n, int dim,
                                cudaStream_t stream) {
    kv_cuda_row_shape s = kv_cuda_shape_row(kv_cuda_ceil(dim, V));
    embed_rows<T, V><<<n * s.chunks, s.threads, 0, stream>>>(x, (const T *)embed, token, dim, s.chunks);
    return cudaGetLastError();
}

cudaError_t kv_cuda_embed_rows(float *x, const void *embed, kv_cuda_type type, const int32_t *token, int n, int dim,
                               cudaStream_t stream) {
    if (n == 0) return cudaSuccess;
    int wide = aligned(x, 16) && aligned(embed, 16);
    KV_CUDA_CASE(type, T, constexpr int V = 16 / sizeof(T);
                 return wide && dim % V == 0 ? launch_embed<T, V>(x, embed, token, n, dim, stream)
                                             : launch_embed<T, 1>(x, embed, token, n, dim, stream));
}

/* Grid: n blocks, one per row; block: whole warps with blockDim.x * N * V >= dim.  The row stays in registers. */
template <typename T, int V, int N>
static __global__ void __launch_bounds__(V == 1 ? 1024 : NORM_THREADS)
    norm_rows(T *out,                      /* (n, dim) in `order` */
              const float *__restrict__ x, /* (n, dim) */
              const float *__restrict__ w, /* (dim) */
              float eps, int dim, kv_order order) {
    __shared__ float sh[32];
    size_t base = (size_t)blockIdx.x * dim;
    float v[N][V] = {{0}}, sum = 0;
#pragma unroll
    for (int j = 0; j < N; j++) {
        int i = (threadIdx.x + j * blockDim.x) * V;
        if (i < dim) load_vec(v[j], x + base + i);
    }
#pragma unroll
    for (int j = 0; j < N; j++)
#pragma unroll
        for (int k = 0; k < V; k++) sum += v[j][k] * v[j][k];
    float scale = 1.0f / sqrtf(block_sum(sum, sh) / (float)dim + eps);
#pragma unroll
    for (int j = 0; j < N; j++) {
        int i = (threadIdx.x + j * blockDim.x) * V;
        if (i >= dim) break;
        float weight[V];
        load_vec(weight, w + i);
#pragma unroll
        for (int k = 0; k < V; k++) v[j][k] = v[j][k] * scale * weight[k];
        store_vec(out + kv_cuda_place(order, blockIdx.x, i, dim), v[j]);
    }
}

template <typename T, int V, int N>
static cudaError_t launch_norm(void *out, kv_order order, const float *x, const float *w, float eps, int n, int dim,
                               cudaStream_t stream) {
    int threads = kv_cuda_ceil(kv_cuda_ceil(dim, V * N), 32) * 32;
    norm_rows<T, V, N><<<n, threads, 0, stream>>>((T *)out, x, w, eps, dim, order);
    return cudaGetLastError();
}

template <typename T>
static cudaError_t pick_norm(void *out, kv_order order, const float *x, const float *w, float eps, int n, int dim,
                             cudaStream_t stream) {
    const int banded = order == KV_ORDER_BANDS && sizeof(T) == 2 && dim % KV_BAND_CHUNK == 0;
    if (order != KV_ORDER_PLAIN && !banded) return cudaErrorInvalidValue;
    if (dim > 4 * NORM_THREADS * NORM_MOST) return cudaErrorInvalidValue;
    if (dim % 4 || !aligned(x, 16) || !aligned(w, 16) || !aligned(out, 4 * sizeof(T)))
        return launch_norm<T, 1, NORM_MOST>(out, order, x, w, eps, n, dim, stream);
    int each = kv_cuda_ceil(dim, 4 * NORM_THREADS);
    if (each <= 1) return launch_norm<T, 4, 1>(out, order, x, w, eps, n, dim, stream);
    if (each <= 2) return launch_norm<T, 4, 2>(out, order, x, w, eps, n, dim, stream);
    if (each <= 4) return launch_norm<T, 4, 4>(out, order, x, w, eps, n, dim, stream);
    if (each <= 8) return launch_norm<T, 4, 8>(out, order, x, w, eps, n, dim, stream);
    return launch_norm<T, 4, NORM_MOST>(out, order, x, w, eps, n, dim, stream);
}

cudaError_t kv_cuda_norm_rows(void *out, kv_cuda_type type, kv_order order, const float *x, const float *w, float eps,
                              int n, int dim, cudaStream_t stream) {
    if (n == 0) return cudaSuccess;
    KV_CUDA_CASE(type, T, return pick_norm<T>(out, order, x, w, eps, n, dim, stream));
}

/* Grid: n * chunks blocks as embed_rows. */
template <typename T, int V>
static __global__ void swiglu_rows(T *out,                   /* (n, n_ff) */
                                   const T *__restrict__ gu, /* (n, 2 n_ff): gate, up */
                                   int n_ff, int chunks) {
    int row = blockIdx.x / chunks, i = (blockIdx.x % chunks * blockDim.x + threadIdx.x) * V;
    if (i >= n_ff) return;
    float g[V], u[V];
    load_vec(g, gu + (size_t)row * 2 * n_ff + i);
    load_vec(u, gu + (size_t)row * 2 * n_ff + n_ff + i);
#pragma unroll
    for (int k = 0; k < V; k++) g[k] = silu<T>(g[k]) * u[k];
    store_vec(out + (size_t)row * n_ff + i, g);
}

template <typename T, int V>
static cudaError_t launch_swiglu(void *out, const void *gu, int n, int n_ff, cudaStream_t stream) {
    kv_cuda_row_shape s = kv_cuda_shape_row(kv_cuda_ceil(n_ff, V));
    swiglu_rows<T, V><<<n * s.chunks, s.threads, 0, stream>>>((T *)out, (const T *)gu, n_ff, s.chunks);
    return cudaGetLastError();
}

cudaError_t kv_cuda_swiglu_rows(void *out, const void *gu, kv_cuda_type type, int n, int n_ff, cudaStream_t stream) {
    if (n == 0) return cudaSuccess;
    int wide = aligned(out, 16) && aligned(gu, 16);
    KV_CUDA_CASE(type, T, constexpr int V = 16 / sizeof(T); return wide && n_ff % V == 0
                                                                       ? launch_swiglu<T, V>(out, gu, n, n_ff, stream)
                                                                       : launch_swiglu<T, 1>(out, gu, n, n_ff, stream));
}
