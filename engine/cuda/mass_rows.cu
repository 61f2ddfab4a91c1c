/* mass_rows.cu - attention mass of slots: probabilities received, for policies that rank by it (H2O, arXiv:2306.14048).
 *
 * Attention keeps only the log of its sums; the probabilities of a tile of slots are computed again from queries, keys
 * and those logs, and added to the mass column one by one: rows in order, then the heads of the group in order.  So the
 * bits of a mass do not depend on how rows were cut into calls, nor on what else is packed.  fp32 sums for both types.
 */
#include "engine/cuda/common.cuh"

enum {
    THREADS = 128,
    SLOTS = 64,   /* of a block */
    COLUMNS = 32, /* (row, query head) pairs computed at once, 8 per warp */
    EACH = 8,
    HEAD_MOST = 256
};

/* Floats of a row in shared memory: 4 more than head_dim rounded up to 4, so that lanes which read different rows hit
 * different banks. */
static inline __host__ __device__ int row_stride(int head_dim) {
    return (head_dim + 3) / 4 * 4 + 4;
}

static size_t shared_bytes(int head_dim) {
    return ((SLOTS + COLUMNS) * (size_t)row_stride(head_dim) + COLUMNS * SLOTS) * sizeof(float);
}

/* to (n, stride) = the rows that row(r) points at, in fp32; zeros where that is NULL and past head_dim.  Whole block.
 */
template <int V, typename F> KV_DEVICE void load_rows(float *to, int n, int head_dim, F row) {
    int stride = row_stride(head_dim), n_vec = (stride - 4) / V;
    for (int i = threadIdx.x; i < n * n_vec; i += THREADS) {
        int r = i / n_vec, at = i % n_vec * V;
        auto from = row(r);
        float v[V] = {0};
        if (from && at < head_dim) load_vec(v, from + at);
        store_vec(to + r * stride + at, v);
    }
}

/* dot[j][e] = q row j . k row (lane + 32 e), in order of the dims. */
KV_DEVICE void multiply(float (&dot)[EACH][2], const float *q, const float *k, int stride) {
    k += threadIdx.x % 32 * stride;
    for (int i = 0; i < stride - 4; i += 4) {
        float a[4], b[4], c[4];
        load_vec(a, k + i);
        load_vec(b, k + 32 * stride + i);
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            load_vec(c, q + j * stride + i);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                dot[j][0] += a[e] * c[e];
                dot[j][1] += b[e] * c[e];
            }
        }
    }
}

/* The block's slots, and the (row, head) pairs of its segment: pair c is row c / group, head c % group of the KV head.
 */
typedef struct mass_block {
    kv_cuda_segment seg;
    head_view head;
    int first, kv_head, group;
    int before; /* slots held before the segment's rows: row i sees slots <= before + i */
} mass_block;

/* p (COLUMNS, SLOTS) = probabilities of pairs [c0, c0 + COLUMNS) that are this warp's, 0 for slots out of sight. */
KV_DEVICE void find_probabilities(const kv_cuda_attend &a, const mass_block &b, float *p, const float *q,
                                  const float *k, int c0) {
    int own = threadIdx.x / 32 * EACH, lane = threadIdx.x % 32, stride = row_stride(a.head_dim);
    if (c0 + own >= b.seg.n * b.group) return;
    float dot[EACH][2] = {{0}};
    multiply(dot, q + own * stride, k, stride);
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        int c = min(c0 + own + j, b.seg.n * b.group - 1), row = c / b.group;
        float lse = a.lse[(size_t)(b.seg.row + row) * a.n_heads + b.kv_head * b.group + c % b.group];
#pragma unroll
        for (int e = 0; e < 2; e++) {
            int slot = lane + 32 * e;
            p[(own + j) * SLOTS + slot] = b.first + slot <= b.before + row ? expf(a.scale * dot[j][e] - lse) : 0.0f;
        }
    }
}

/* Grid: (tiles of SLOTS slots, n_kv_heads, n_segs); block: THREADS; dynamic shared memory: shared_bytes.  V elements of
 * T per load. */
template <typename T, int V> static __global__ void __launch_bounds__(THREADS, 3) mass_rows(kv_cuda_attend a) {
    extern __shared__ __align__(16) float memory[];
    int d = a.head_dim, stride = row_stride(d), t = threadIdx.x;
    float *k = memory, *q = k + SLOTS * stride, *p = q + COLUMNS * stride;
    mass_block b;
    b.seg = a.segs[blockIdx.z];
    b.kv_head = blockIdx.y;
    b.head = view_head(&a.seqs[b.seg.seq], a.layer, b.kv_head, a.n_kv_heads);
    b.first = blockIdx.x * SLOTS;
    b.group = a.n_heads / a.n_kv_heads;
    b.before = b.head.n_slots - b.seg.n;
    if (b.first >= b.head.n_slots) return;
    load_rows<V>(k, SLOTS, d, [&](int r) -> const T * {
        int slot = b.first + r;
        return slot < b.head.n_slots ? (const T *)page_of(b.head, slot) + k_at(d, slot % KV_PAGE, 0) : NULL;
    });
    int own = b.first + t, mine = t < SLOTS && own < b.head.n_slots;
    float *mass = mine ? (float *)(page_of(b.head, own) + a.layout.off_cols) + own % KV_PAGE : NULL;
    float sum = mine ? *mass : 0;
    int end = b.seg.n * b.group;
    for (int c0 = max(0, b.first - b.before) * b.group; c0 < end; c0 += COLUMNS) {
        load_rows<V>(q, COLUMNS, d, [&](int r) -> const T * {
            int c = c0 + r, head = b.kv_head * b.group + c % b.group;
            return c < end ? (const T *)a.q + (size_t)(b.seg.row + c / b.group) * a.q_stride + (size_t)head * d : NULL;
        });
        __syncthreads();
        find_probabilities(a, b, p, q, k, c0);
        __syncthreads();
        if (mine)
            for (int c = 0; c < min(COLUMNS, end - c0); c++) sum += p[c * SLOTS + t];
    }
    if (mine) *mass = sum;
}

template <typename T, int V> static cudaError_t launch(const kv_cuda_attend *a, cudaStream_t stream) {
    size_t bytes = shared_bytes(a->head_dim);
    dim3 grid(kv_cuda_ceil(a->most_slots, SLOTS), a->n_kv_heads, a->n_segs);
    cudaError_t rc = cudaFuncSetAttribute(mass_rows<T, V>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (rc != cudaSuccess) return rc;
    mass_rows<T, V><<<grid, THREADS, bytes, stream>>>(*a);
    return cudaGetLastError();
}

cudaError_t kv_cuda_mass_rows(const kv_cuda_attend *a, cudaStream_t stream) {
    int d = a->head_dim;
    if (a->n_segs == 0 || a->most_slots == 0) return cudaSuccess;
    if (!a->layout.has_mass || !a->lse || d > HEAD_MOST || d % 2) return cudaErrorInvalidValue;
    if (a->layout.type == KV_CACHE_F32) return d % 4 ? launch<float, 2>(a, stream) : launch<float, 4>(a, stream);
    if (a->layout.type != KV_CACHE_BF16 || d % 16) return cudaErrorInvalidValue;
    return launch<__nv_bfloat16, 8>(a, stream);
}
