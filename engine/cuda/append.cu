/* append.cu - what happens to q, k and v between their product and attention: bias (Qwen2), per-head RMSNorm (Qwen3),
 * rotate-half rotary embedding (RoPE, arXiv:2104.09864), and the append to the cache.
 *
 * Computed in fp32 and rounded once, when stored.  The last queries of a segment, which some policies look at, are kept
 * as rounded, so that a policy sees what attention saw.  A bf16 page holds V in fragment order: one slot is scattered
 * over it in pieces of 2 bytes, 16 slots together fill it in pieces of 16.  Therefore a block handles 16 consecutive
 * rows, and when they fill one page, which is the rule in a prefill, they go through shared memory. */
#include "engine/cuda/common.cuh"

enum { TILE = KV_PAGE, HEAD_MOST = 256, PAD = 8, MANY_ROWS = 1024, HEADS_PER_BLOCK = 4 };

template <typename T> KV_DEVICE float rounded(float x) {
    return to_float(from_float<T>(x));
}

KV_DEVICE size_t qkv_width(const kv_cuda_append &a) {
    return (size_t)(a.n_heads + 2 * a.n_kv_heads) * a.head_dim;
}

/* Where a row goes in one KV head: its page (NULL: no such row) and the slot inside it. */
typedef struct place {
    char *page;
    int slot;
} place;

KV_DEVICE place find_place(const kv_cuda_append &a, int row, int kv_head) {
    place p = {NULL, 0};
    if (row >= a.rows.n) return p;
    head_view v = view_head(&a.seqs[a.rows.seq[row]], a.layer, kv_head, a.n_kv_heads);
    int slot = v.n_slots - a.rows.back[row];
    p.page = page_of(v, slot);
    p.slot = slot % KV_PAGE;
    return p;
}

/* A head of a row over the blockDim.x lanes of that row: lane x has vectors x + j * blockDim.x of V elements of both
 * halves, zeros past the end. */
template <int V, int N> struct halves { float lo[N][V], hi[N][V]; };

template <int V, int N, typename T> KV_DEVICE void load_halves(halves<V, N> &x, const T *p, int half) {
#pragma unroll
    for (int j = 0; j < N; j++) {
        int i = (threadIdx.x + j * blockDim.x) * V;
#pragma unroll
        for (int k = 0; k < V; k++) x.lo[j][k] = x.hi[j][k] = 0;
        if (i >= half) continue;
        load_vec(x.lo[j], p + i);
        load_vec(x.hi[j], p + half + i);
    }
}

template <int V, int N, typename T> KV_DEVICE void store_halves(T *p, const halves<V, N> &x, int half) {
#pragma unroll
    for (int j = 0; j < N; j++) {
        int i = (threadIdx.x + j * blockDim.x) * V;
        if (i >= half) continue;
        store_vec(p + i, x.lo[j]);
        store_vec(p + half + i, x.hi[j]);
    }
}

/* x *= rsqrt(mean(x^2) + eps) * w; all lanes of the warp take part. */
template <int V, int N> KV_DEVICE void normalise(halves<V, N> &x, const float *w, float eps, int head_dim) {
    halves<V, N> weight;
    float sum = 0;
    load_halves(weight, w, head_dim / 2);
#pragma unroll
    for (int j = 0; j < N; j++)
#pragma unroll
        for (int k = 0; k < V; k++) sum += x.lo[j][k] * x.lo[j][k] + x.hi[j][k] * x.hi[j][k];
    float scale = 1.0f / sqrtf(warp_sum(sum, blockDim.x) / (float)head_dim + eps);
#pragma unroll
    for (int j = 0; j < N; j++)
#pragma unroll
        for (int k = 0; k < V; k++) {
            x.lo[j][k] = x.lo[j][k] * scale * weight.lo[j][k];
            x.hi[j][k] = x.hi[j][k] * scale * weight.hi[j][k];
        }
}

/* x += the bias of one head. */
template <int V, int N> KV_DEVICE void add_bias(halves<V, N> &x, const float *bias, int half) {
    halves<V, N> b;
    load_halves(b, bias, half);
#pragma unroll
    for (int j = 0; j < N; j++)
#pragma unroll
        for (int k = 0; k < V; k++) {
            x.lo[j][k] += b.lo[j][k];
            x.hi[j][k] += b.hi[j][k];
        }
}

/* cs: cosines in lo, sines in hi. */
template <int V, int N> KV_DEVICE void rotate(halves<V, N> &x, const halves<V, N> &cs) {
#pragma unroll
    for (int j = 0; j < N; j++)
#pragma unroll
        for (int k = 0; k < V; k++) {
            float a = x.lo[j][k], b = x.hi[j][k], c = cs.lo[j][k], s = cs.hi[j][k];
            x.lo[j][k] = a * c - b * s;
            x.hi[j][k] = b * c + a * s;
        }
}

/* A row with back <= window is among the last `window` of its segment. */
template <typename T, int V, int N>
KV_DEVICE void store_query(const kv_cuda_append &a, T *p, halves<V, N> &x, int row, int head) {
    int half = a.head_dim / 2;
    store_halves(p, x, half);
    if (a.rows.back[row] > a.window) return;
    float *ring = a.seqs[a.rows.seq[row]].ring;
    if (!ring) return;
#pragma unroll
    for (int j = 0; j < N; j++)
#pragma unroll
        for (int k = 0; k < V; k++) {
            x.lo[j][k] = rounded<T>(x.lo[j][k]);
            x.hi[j][k] = rounded<T>(x.hi[j][k]);
        }
    size_t at = ((size_t)a.layer * a.window + a.rows.pos[row] % a.window) * a.n_heads + head;
    store_halves(ring + at * a.head_dim, x, half);
}

template <typename T, int V, int N>
KV_DEVICE void store_key(const kv_cuda_append &a, const halves<V, N> &x, int row, int kv_head) {
    int half = a.head_dim / 2;
    place at = find_place(a, row, kv_head);
    store_halves((T *)at.page + k_at(a.head_dim, at.slot, 0), x, half);
    if (a.k_out) store_halves((T *)a.k_out + ((size_t)row * a.n_kv_heads + kv_head) * a.head_dim, x, half);
}

/* Heads [first, end) of q and k, which stand side by side in a row. */
template <typename T, int V, int N> KV_DEVICE void rotate_heads(const kv_cuda_append &a, int row, int first, int end) {
    int live = row < a.rows.n, half = a.head_dim / 2;
    halves<V, N> cs, x;
    if (!live) row = a.rows.n - 1; /* its lanes still take part in the sums of their warp */
    T *p = (T *)a.qkv + row * qkv_width(a);
    size_t angle = (size_t)a.rows.pos[row] * half;
#pragma unroll
    for (int j = 0; j < N; j++) {
        int i = (threadIdx.x + j * blockDim.x) * V;
        if (i >= half) continue;
        load_vec(cs.lo[j], a.rope_cos + angle + i);
        load_vec(cs.hi[j], a.rope_sin + angle + i);
    }
    for (int h = first; h < end; h++) {
        const float *w = h < a.n_heads ? a.q_norm : a.k_norm;
        load_halves(x, p + (size_t)h * a.head_dim, half);
        if (a.bias) add_bias(x, a.bias + (size_t)h * a.head_dim, half);
        if (w) normalise(x, w, a.eps, a.head_dim);
        rotate(x, cs);
        if (!live) continue;
        if (h < a.n_heads) {
            store_query<T>(a, p + (size_t)h * a.head_dim, x, row, h);
        } else {
            store_key<T>(a, x, row, h - a.n_heads);
        }
    }
}

/* Position and columns of the row's slot. */
KV_DEVICE void store_columns(const kv_cuda_append &a, place at, int row, int kv_head) {
    const kv_page_layout &l = a.layout;
    int n_stats = l.n_cols - l.has_mass;
    float *cols = (float *)(at.page + l.off_cols) + at.slot;
    if (threadIdx.x == 0) ((int32_t *)(at.page + l.off_pos))[at.slot] = a.rows.pos[row];
    for (int c = threadIdx.x; c < l.n_cols; c += blockDim.x) {
        int from_stats = c >= l.has_mass && a.stats;
        cols[c * KV_PAGE] =
            from_stats ? a.stats[((size_t)row * a.n_kv_heads + kv_head) * n_stats + c - l.has_mass] : 0.0f;
    }
}

/* V of up to TILE rows of one KV head in fragment order; every thread of the block takes part. */
template <int V, int N>
KV_DEVICE void store_fragments(const kv_cuda_append &a, const halves<V, N> &x, place at, int row) {
    __shared__ __align__(16) __nv_bfloat16 tile[TILE][HEAD_MOST + PAD]; /* (row, dim); the padding spreads the banks */
    int d = a.head_dim, half = d / 2, whole = 0;
    if (at.page) {
        int top = row - threadIdx.y;
        store_halves(tile[threadIdx.y], x, half);
        /* back falls by one a row inside a segment, and rises or stays where another begins */
        whole = at.slot == (int)threadIdx.y && a.rows.back[row] == a.rows.back[top] - (int)threadIdx.y;
    }
    if (__syncthreads_and(whole)) {
        __nv_bfloat16 *v = (__nv_bfloat16 *)(at.page + a.layout.off_v);
        for (int i = threadIdx.y * blockDim.x + threadIdx.x; i < 2 * d; i += TILE * blockDim.x) {
            int dim = i / 32 * 16 + i % 32 / 4, slot = i % 4 * 2;
            float f[8]; /* v_at of (slot + 8 sh + e, dim + 8 hi) = 8 i + 4 sh + 2 hi + e */
#pragma unroll
            for (int j = 0; j < 8; j++) f[j] = to_float(tile[slot + j / 4 * 8 + j % 2][dim + j / 2 % 2 * 8]);
            store_vec(v + 8 * i, f);
        }
    } else if (at.page) {
        __nv_bfloat16 *v = (__nv_bfloat16 *)(at.page + a.layout.off_v);
        for (int i = threadIdx.x; i < d; i += blockDim.x) v[v_at<__nv_bfloat16>(d, at.slot, i)] = tile[threadIdx.y][i];
    }
}

template <typename T, int V, int N> KV_DEVICE void append_values(const kv_cuda_append &a, int row, int kv_head) {
    int half = a.head_dim / 2;
    place at = find_place(a, row, kv_head);
    halves<V, N> x;
    if (at.page) {
        size_t head = a.n_heads + a.n_kv_heads + kv_head;
        load_halves(x, (const T *)a.qkv + row * qkv_width(a) + head * a.head_dim, half);
        if (a.bias) add_bias(x, a.bias + head * a.head_dim, half);
        if (a.v_out) store_halves((T *)a.v_out + ((size_t)row * a.n_kv_heads + kv_head) * a.head_dim, x, half);
        store_columns(a, at, row, kv_head);
    }
    if constexpr (sizeof(T) == 2) {
        store_fragments(a, x, at, row);
    } else if (at.page) {
        store_halves((T *)(at.page + a.layout.off_v) + v_at<T>(a.head_dim, at.slot, 0), x, half);
    }
}

/* Grid: tiles * units blocks, block b has unit b % units of rows [16 (b / units), + 16); units: per_block heads of q
 * and k each, then one KV head of v each.  Block: (lanes of a row, a power of two of 2 to 32; 16), N * V lanes >=
 * head_dim / 2. */
template <typename T, int V, int N>
static __global__ void __launch_bounds__(512) append_rows(kv_cuda_append a, int units, int per_block) {
    int row = blockIdx.x / units * TILE + threadIdx.y, unit = blockIdx.x % units;
    int n_rotate = units - a.n_kv_heads;
    if (unit >= n_rotate) {
        append_values<T, V, N>(a, row, unit - n_rotate);
    } else {
        int first = unit * per_block;
        rotate_heads<T, V, N>(a, row, first, min(first + per_block, a.n_heads + a.n_kv_heads));
    }
}

template <typename T, int V, int N> static cudaError_t launch(const kv_cuda_append *a, cudaStream_t stream) {
    int per_block = a->rows.n >= MANY_ROWS ? HEADS_PER_BLOCK : 1;
    int units = kv_cuda_ceil(a->n_heads + a->n_kv_heads, per_block) + a->n_kv_heads;
    int lanes = 2;
    while (lanes * V * N < a->head_dim / 2) lanes *= 2;
    append_rows<T, V, N><<<kv_cuda_ceil(a->rows.n, TILE) * units, dim3(lanes, TILE), 0, stream>>>(*a, units, per_block);
    return cudaGetLastError();
}

cudaError_t kv_cuda_append_rows(const kv_cuda_append *a, cudaStream_t stream) {
    int d = a->head_dim;
    if (a->rows.n == 0) return cudaSuccess;
    if (d > HEAD_MOST || d % 2 || (a->type == KV_CUDA_BF16 && d % 16)) return cudaErrorInvalidValue;
    if (a->type == KV_CUDA_BF16) return launch<__nv_bfloat16, 8, 1>(a, stream);
    return d % 8 ? launch<float, 1, 4>(a, stream) : launch<float, 4, 1>(a, stream);
}
