/* slots.cu - copies of cached slots: one head to plain arrays, one sequence to another.
 *
 * The plain arrays serve the host's definition of a score, traces and tests; the other copy starts many sequences from
 * one shared prefill whose columns belong to several policies. */
#include "engine/cuda/common.cuh"

enum { THREADS = 256, COLS_MAX = 40 };

typedef struct gather_args {
    const kv_cuda_seq *seqs;
    kv_page_layout layout;
    int seq, head, n_slots; /* head: layer * n_kv_heads + kv_head */
    float *keys, *values;   /* (n_slots, head_dim) or NULL */
    int32_t *pos;           /* (n_slots) or NULL */
    float *cols;            /* (n_cols, n_slots) or NULL */
} gather_args;

/* One page of a head to plain arrays.  Launch: a block per page, THREADS. */
template <typename T> static __global__ void gather_head(const __grid_constant__ gather_args a) {
    const kv_cuda_seq *s = a.seqs + a.seq;
    const char *page = (const char *)s->pages[(size_t)a.head * (size_t)s->page_cap + blockIdx.x];
    const T *k = (const T *)page, *v = (const T *)(page + a.layout.off_v);
    int first = (int)blockIdx.x * KV_PAGE, n = min(KV_PAGE, a.n_slots - first), d = a.layout.head_dim;
    for (int i = (int)threadIdx.x; i < n * d; i += THREADS) {
        int slot = i / d, dim = i % d;
        if (a.keys) a.keys[(size_t)first * d + i] = to_float(k[i]);
        if (a.values) a.values[(size_t)first * d + i] = to_float(v[v_at<T>(d, slot, dim)]);
    }
    for (int i = (int)threadIdx.x; i < n * (1 + a.layout.n_cols); i += THREADS) {
        int slot = i % n, c = i / n - 1;
        if (c < 0 && a.pos) a.pos[first + slot] = ((const int32_t *)(page + a.layout.off_pos))[slot];
        if (c >= 0 && a.cols)
            a.cols[(size_t)c * a.n_slots + first + slot] =
                ((const float *)(page + a.layout.off_cols))[c * KV_PAGE + slot];
    }
}

cudaError_t kv_cuda_gather_head(const kv_cuda_seq *seqs, int seq, const kv_page_layout *layout, int layer, int kv_head,
                                int n_kv_heads, int n_slots, float *keys, float *values, int32_t *pos, float *cols,
                                cudaStream_t stream) {
    gather_args a = {seqs, *layout, seq, layer * n_kv_heads + kv_head, n_slots, keys, values, pos, cols};
    unsigned n_pages = (unsigned)((n_slots + KV_PAGE - 1) / KV_PAGE);
    if (n_slots == 0) return cudaSuccess;
    if (layout->type == KV_CACHE_BF16)
        gather_head<__nv_bfloat16><<<n_pages, THREADS, 0, stream>>>(a);
    else if (layout->type == KV_CACHE_F32)
        gather_head<float><<<n_pages, THREADS, 0, stream>>>(a);
    else
        return cudaErrorInvalidValue;
    return cudaGetLastError();
}

typedef struct copy_args {
    const kv_cuda_seq *seqs;
    kv_page_layout to, from;
    int dst, src, n;
    int cols[COLS_MAX]; /* of dst: which column of src, or -1 */
} copy_args;

/* One page of one head, dst from src; K and V as they lie, so unused slots come along.
 * Launch: (pages, heads), THREADS. */
static __global__ void copy_slots(const __grid_constant__ copy_args a) {
    const kv_cuda_seq *ds = a.seqs + a.dst, *ss = a.seqs + a.src;
    char *to = (char *)ds->pages[(size_t)blockIdx.y * (size_t)ds->page_cap + blockIdx.x];
    const char *from = (const char *)ss->pages[(size_t)blockIdx.y * (size_t)ss->page_cap + blockIdx.x];
    int n = min(KV_PAGE, a.n - (int)blockIdx.x * KV_PAGE);
    int pieces = KV_PAGE * a.to.head_dim * (a.to.type == KV_CACHE_F32 ? 4 : 2) / 16;
#pragma unroll 2
    for (int i = (int)threadIdx.x; i < pieces; i += THREADS) {
        ((uint4 *)to)[i] = ((const uint4 *)from)[i];
        ((uint4 *)(to + a.to.off_v))[i] = ((const uint4 *)(from + a.from.off_v))[i];
    }
    for (int i = (int)threadIdx.x; i < n * (1 + a.to.n_cols); i += THREADS) {
        int slot = i % n, c = i / n - 1;
        if (c < 0)
            ((int32_t *)(to + a.to.off_pos))[slot] = ((const int32_t *)(from + a.from.off_pos))[slot];
        else
            ((float *)(to + a.to.off_cols))[c * KV_PAGE + slot] =
                a.cols[c] < 0 ? 0 : ((const float *)(from + a.from.off_cols))[a.cols[c] * KV_PAGE + slot];
    }
}

cudaError_t kv_cuda_copy_slots(const kv_cuda_seq *seqs, int dst, const kv_page_layout *dl, int src,
                               const kv_page_layout *sl, const int *cols, int n, int n_layers, int n_kv_heads,
                               cudaStream_t stream) {
    copy_args a = {seqs, *dl, *sl, dst, src, n, {}};
    if (dl->n_cols > COLS_MAX || dl->type != sl->type || dl->head_dim != sl->head_dim) return cudaErrorInvalidValue;
    for (int c = 0; c < dl->n_cols; c++) a.cols[c] = cols[c];
    if (n == 0) return cudaSuccess;
    dim3 grid((unsigned)((n + KV_PAGE - 1) / KV_PAGE), (unsigned)(n_layers * n_kv_heads));
    copy_slots<<<grid, THREADS, 0, stream>>>(a);
    return cudaGetLastError();
}
