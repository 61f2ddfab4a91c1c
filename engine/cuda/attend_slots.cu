/* attend_slots.cu - bf16 attention of few queries over the paged cache (split over slots, tensor cores).
 *
 * One block has KV_CUDA_COLUMNS query columns (heads of a group, tokens of a chunk) of one KV head and one range of
 * slots; K and V go from memory to registers in the order the tensor core wants, each byte once: S^T = K Q^T    K is
 * the A operand (16 slots = one page), read row by row; which dimension of the head is which k of the fragment is free,
 * so a lane takes 8 neighbours in one load O^T = V^T P^T  V lies in the page in fragment order (policy_cuda.h); P^T
 * comes from S^T by an 8x8 transpose in registers Softmax is online, in fp32, base 2.  The range of a block depends on
 * the head's own length alone, its warps take its pages in turn and are merged in order, and the last block of a head
 * merges the ranges in order: a sequence's bits do not depend on its neighbours (Flash-Decoding, with a fixed width
 * instead of a fixed number of splits). */
#include "engine/cuda/attend_slots.cuh"

#include "engine/cuda/common.cuh"
#include "engine/cuda/mma.cuh"
#include "engine/cuda/pdl.cuh"

enum { WARPS = 8, THREADS = 32 * WARPS, COLUMNS = KV_CUDA_COLUMNS };

static_assert(WARPS == COLUMNS, "a warp rotates the query of one column");

/* Slots per block for a head of n slots: eight ranges, within 128 to 512 slots each. */
static __host__ __device__ inline int split_width(int n) {
    int eighth = ((n + 7) / 8 + KV_PAGE - 1) / KV_PAGE * KV_PAGE;
    return eighth < 128 ? 128 : eighth > 512 ? 512 : eighth;
}

static __host__ __device__ inline int count_splits(int n) {
    return (n + split_width(n) - 1) / split_width(n);
}

/* The most splits of any head of at most n slots: their number never falls as a head grows beyond eight of them. */
static int most_splits(int n) {
    int most = count_splits(n);
    return n > 1024 && most < 8 ? 8 : most;
}

/* Partial result of one split: COLUMNS x head_dim sums, then maximum and weight of each column. */
static __host__ __device__ inline size_t part_floats(int head_dim) {
    return (size_t)COLUMNS * (head_dim + 2);
}

typedef struct slots_args {
    kv_cuda_decode_attend d; /* what both forms share; qkv only when decoding */
    const __nv_bfloat16 *q;  /* chunks: rotated queries */
    size_t q_stride;
    const kv_cuda_segment *segs;
    int groups_per_seg, first_unit, max_splits; /* chunks: the launch's first column group */
    int *counters;                              /* (units, n_kv_heads) */
    float *parts;                               /* (units, n_kv_heads, max_splits, part_floats) */
} slots_args;

static __device__ inline uint4 load_cache(const void *p) {
    uint4 v;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

static __device__ inline uint4 load_shared(uint32_t at) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(at));
    return v;
}

static __device__ inline uint32_t transpose(uint32_t v) {
    uint32_t t;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(t) : "r"(v));
    return t;
}

static __device__ inline uint32_t pack(float lo, float hi) {
    __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
    return *(uint32_t *)&v;
}

/* What the rotation of a position needs and the kernels before this one do not write: fetched while they still run. */
template <int D> struct rotation {
    static constexpr int HALF = D / 2, EACH = (HALF + 31) / 32;
    float c[EACH], s[EACH], w0[EACH], w1[EACH]; /* cosine, sine, norm weights of both halves */
};

template <int D>
static __device__ void load_rotation(const kv_cuda_decode_attend &a, int pos, const float *norm, rotation<D> &r) {
    constexpr int HALF = D / 2;
#pragma unroll
    for (int j = 0; j < rotation<D>::EACH; j++) {
        int i = threadIdx.x % 32 + 32 * j;
        r.c[j] = i < HALF ? a.rope_cos[(size_t)pos * HALF + i] : 0;
        r.s[j] = i < HALF ? a.rope_sin[(size_t)pos * HALF + i] : 0;
        r.w0[j] = i < HALF && norm ? norm[i] : 0;
        r.w1[j] = i < HALF && norm ? norm[i + HALF] : 0;
    }
}

/* One head of D values, by one warp: bias (D) when not NULL, norm, rotation; out (D) bf16 and, when not NULL, out32
 * (D).
 */
template <int D>
static __device__ void rotate_head(const kv_cuda_decode_attend &a, const float *x, const float *bias, int norm,
                                   const rotation<D> &t, __nv_bfloat16 *out, float *out32) {
    constexpr int HALF = D / 2, EACH = rotation<D>::EACH;
    int lane = threadIdx.x % 32;
    float x0[EACH], x1[EACH], s = 0;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        int i = lane + 32 * j;
        x0[j] = i < HALF ? __ldcg(x + i) : 0;
        x1[j] = i < HALF ? __ldcg(x + i + HALF) : 0;
        if (bias && i < HALF) x0[j] += bias[i], x1[j] += bias[i + HALF];
        s += x0[j] * x0[j] + x1[j] * x1[j];
    }
    float r = norm ? rsqrtf(warp_sum(s, 32) / D + a.eps) : 1;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        int i = lane + 32 * j;
        if (i >= HALF) break;
        float u = norm ? x0[j] * r * t.w0[j] : x0[j], v = norm ? x1[j] * r * t.w1[j] : x1[j];
        float y0 = u * t.c[j] - v * t.s[j], y1 = v * t.c[j] + u * t.s[j];
        out[i] = __float2bfloat16_rn(y0);
        out[i + HALF] = __float2bfloat16_rn(y1);
        if (out32) {
            out32[i] = __bfloat162float(out[i]); /* as attention sees it */
            out32[i + HALF] = __bfloat162float(out[i + HALF]);
        }
    }
}

/* Position and columns of the new token: ln of the retention gate, by the whole block.  Attention does not need them,
 * so a block does this when its part of the attention is handed on. */
static __device__ void append_columns(const kv_cuda_decode_attend &a, int row, int kv_head, int at, int pos,
                                      char *page) {
    __shared__ float sums[WARPS];
    float lb = 0;
    if (a.mid) {
        const float *mid = a.mid + (size_t)row * a.mid_stride, *w2 = a.gate_w2 + (size_t)kv_head * a.n_hidden;
        float sum = 0;
#pragma unroll 4
        for (int i = threadIdx.x; i < a.n_hidden; i += THREADS) {
            float z = __ldcg(mid + i);
            if (a.n_parts == 2) z += __ldcg(mid + a.n_hidden + i);
            z += a.gate_b1[i];
            sum += z / (1 + expf(-z)) * w2[i];
        }
        sum = warp_sum(sum, 32);
        if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
        __syncthreads();
        float z = a.gate_bias[kv_head];
        for (int i = 0; i < WARPS; i++) z += sums[i];
        lb = z >= 0 ? -log1pf(expf(-z)) : z - log1pf(expf(z));
    }
    if (threadIdx.x) return;
    float *cols = (float *)(page + a.layout.off_cols);
    for (int c = 0; c < a.layout.n_cols; c++) cols[c * KV_PAGE + at] = a.mid && c == a.gate_col ? lb : 0;
    ((int32_t *)(page + a.layout.off_pos))[at] = pos;
}

/* Writes K and V of the new token of one sequence to its slot (the last one of the head). */
template <int D>
static __device__ void append_token(const kv_cuda_decode_attend &a, int row, int kv_head, int at, int pos, char *page) {
    int warp = threadIdx.x / 32;
    const float *qkv = a.qkv + (size_t)row * (a.n_heads + 2 * a.n_kv_heads) * D;
    const float *k = qkv + (size_t)(a.n_heads + kv_head) * D, *v = k + (size_t)a.n_kv_heads * D;
    const float *bias = a.bias ? a.bias + (size_t)(a.n_heads + kv_head) * D : NULL; /* of k; that of v as k and v lie */
    if (warp == WARPS - 1) {
        rotation<D> t;
        load_rotation<D>(a, pos, a.k_norm, t);
        rotate_head<D>(a, k, bias, a.k_norm != NULL, t, (__nv_bfloat16 *)page + at * D, NULL);
    }
    if (warp >= WARPS - 3 && warp < WARPS - 1) {
        __nv_bfloat16 *dst = (__nv_bfloat16 *)(page + a.layout.off_v);
        for (int i = threadIdx.x - 32 * (WARPS - 3); i < D; i += 64) {
            float x = __ldcg(v + i);
            if (bias) x += bias[(size_t)a.n_kv_heads * D + i];
            dst[v_at<__nv_bfloat16>(D, at, i)] = __float2bfloat16_rn(x);
        }
    }
}

/* Online softmax of one warp over its pages. */
template <int D> struct state {
    float m[2], l[2];   /* columns 2 (lane % 4) and the next: maximum, this lane's share of the weight */
    float o[D / 16][4]; /* O^T fragments: dims (lane / 4, + 8) x the two columns */
};

template <int D> static __device__ inline void load_k(uint4 (&k)[2][D / 32], const char *page, int lane) {
    const __nv_bfloat16 *p = (const __nv_bfloat16 *)page + (lane / 4) * D + 8 * (lane % 4);
#pragma unroll
    for (int c = 0; c < D / 32; c++) {
        k[0][c] = load_cache(p + 32 * c);
        k[1][c] = load_cache(p + 8 * D + 32 * c);
    }
}

template <int D> static __device__ inline void load_v(uint4 (&v)[D / 16], const char *page, size_t off_v, int lane) {
    const uint4 *p = (const uint4 *)(page + off_v) + lane;
#pragma unroll
    for (int i = 0; i < D / 16; i++) v[i] = load_cache(p + 32 * i);
}

/* Clears the slots of a page behind the last one, which may hold anything, NaN too: a weight of 0 would not hide it.
 * n: slots of the page that count. */
template <int D> static __device__ inline void mask_v(uint4 (&v)[D / 16], int n, int lane) {
    int slot = 2 * (lane % 4);
    uint32_t lo = (slot < n ? 0xffffu : 0) | (slot + 1 < n ? 0xffff0000u : 0);
    uint32_t hi = (slot + 8 < n ? 0xffffu : 0) | (slot + 9 < n ? 0xffff0000u : 0);
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
        v[i].x &= lo;
        v[i].y &= lo;
        v[i].z &= hi;
        v[i].w &= hi;
    }
}

/* K and V of a warp's current page. */
template <int D> struct page_regs { uint4 k[2][D / 32], v[D / 16]; };

/* Probabilities of the page's logits s (already in base 2), folded into the state; b: P^T as the B operand. */
template <int D> static __device__ inline void fold(state<D> &t, float s[4], uint32_t b[2]) {
#pragma unroll
    for (int c = 0; c < 2; c++) {
        float top = fmaxf(s[c], s[c + 2]);
        for (int d = 4; d < 32; d *= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, d));
        top = fmaxf(top, t.m[c]);
        float base = top == -INFINITY ? 0 : top, keep = exp2f(t.m[c] - base);
        t.m[c] = top;
        s[c] = exp2f(s[c] - base);
        s[c + 2] = exp2f(s[c + 2] - base);
        t.l[c] = t.l[c] * keep + s[c] + s[c + 2];
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
            t.o[i][c] *= keep;
            t.o[i][c + 2] *= keep;
        }
    }
    b[0] = transpose(pack(s[0], s[1]));
    b[1] = transpose(pack(s[2], s[3]));
}

/* What a block works on. */
typedef struct work {
    int row, n_rows; /* rows of the segment */
    int col, n_cols; /* first column of the block, columns of the segment: column = token * group + head */
    int n_slots, from, to;
    int kv_head, group;
} work;

/* Last visible slot + 1 of the block's column c (0 for columns that do not exist). */
static __device__ inline int visible(const work &w, int c) {
    c += w.col;
    return c < w.n_cols ? w.n_slots - w.n_rows + c / w.group + 1 : 0;
}

/* mine: of the warp's pages, the one whose number is the lane's (a split has at most 32 per warp).  x: the first page's
 * K and V when loaded. */
template <int D>
static __device__ void attend_pages(const slots_args &a, const work &w, unsigned long long mine,
                                    const __nv_bfloat16 *sq, page_regs<D> &x, int loaded, state<D> &t) {
    constexpr int C = D / 32, MT = D / 16;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const float scale2 = a.d.scale * 1.4426950408889634f;
    const uint32_t q_at = (uint32_t)__cvta_generic_to_shared(sq + (lane / 4) * (D + 8) + 8 * (lane % 4));
    const int seen[2] = {visible(w, 2 * (lane % 4)), visible(w, 2 * (lane % 4) + 1)};
    int p = w.from / KV_PAGE + warp, end = (w.to + KV_PAGE - 1) / KV_PAGE, next = 0;
    const char *page = (const char *)__shfl_sync(~0u, mine, next++);
    if (!loaded && p < end) {
        load_k<D>(x.k, page, lane);
        load_v<D>(x.v, page, a.d.layout.off_v, lane);
    }
    while (p < end) {
        float s[4] = {0, 0, 0, 0};
#pragma unroll
        for (int c = 0; c < C; c++) {
            uint4 q = load_shared(q_at + 64 * c); /* again for every page: registers are short */
            mma(s, x.k[0][c].x, x.k[1][c].x, x.k[0][c].y, x.k[1][c].y, q.x, q.y);
            mma(s, x.k[0][c].z, x.k[1][c].z, x.k[0][c].w, x.k[1][c].w, q.z, q.w);
        }
        int slot = p * KV_PAGE + lane / 4;
        p += WARPS;
        page = (const char *)__shfl_sync(~0u, mine, next++);
        if (p < end) load_k<D>(x.k, page, lane);
        if (a.d.scores)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int c = 2 * (lane % 4) + i % 2, at = slot + 8 * (i / 2);
                if (at < seen[i % 2])
                    a.d.scores[((size_t)w.row * a.d.n_heads + w.kv_head * w.group + c) * a.d.score_stride + at] =
                        s[i] * a.d.scale;
            }
#pragma unroll
        for (int i = 0; i < 4; i++) s[i] = slot + 8 * (i / 2) < seen[i % 2] ? s[i] * scale2 : -INFINITY;
        uint32_t b[2];
        fold<D>(t, s, b);
        if (slot - lane / 4 + KV_PAGE > w.n_slots) mask_v<D>(x.v, w.n_slots - (slot - lane / 4), lane);
#pragma unroll
        for (int i = 0; i < MT; i++) mma(t.o[i], x.v[i].x, x.v[i].y, x.v[i].z, x.v[i].w, b[0], b[1]);
        if (p < end) load_v<D>(x.v, page, a.d.layout.off_v, lane);
    }
}

/* Where column c of the block goes: index of its first output, (row, head). */
static __device__ inline size_t out_head(const slots_args &a, const work &w, int c) {
    int col = w.col + c;
    return (size_t)(w.row + col / w.group) * a.d.n_heads + w.kv_head * w.group + col % w.group;
}

/* The finished result of column c, dims d and d + 1; l: total weight, m: maximum, base 2. */
template <int D>
static __device__ inline void put_out(const slots_args &a, const work &w, int c, int d, float2 o, float m, float l) {
    size_t head = out_head(a, w, c);
    *(__nv_bfloat162 *)(a.d.out + head * D + d) = __floats2bfloat162_rn(o.x / l, o.y / l);
    if (d == 0 && a.d.lse) a.d.lse[head] = m * 0.6931471805599453f + logf(l);
}

/* Adds one more partial result (maximum m, weight l, sums o) to the running one; ascending order fixes the bits. */
static __device__ inline void merge_part(float &m, float &l, float2 &o, float m1, float l1, float2 o1) {
    float top = fmaxf(m, m1), base = top == -INFINITY ? 0 : top, f = exp2f(m - base), f1 = exp2f(m1 - base);
    l = l * f + l1 * f1;
    o.x = o.x * f + o1.x * f1;
    o.y = o.y * f + o1.y * f1;
    m = top;
}

/* Merges the splits of a head, in order; parts are those of its first split.  Every thread has two dims of a column; a
 * batch of splits is loaded at once. */
template <int D>
static __device__ void merge_splits(const slots_args &a, const work &w, const float *parts, int n_splits, int live) {
    enum { BATCH = 8 };
    const size_t each = part_floats(D);
    for (int i = threadIdx.x; i < live * D / 2; i += THREADS) {
        int c = i / (D / 2), d = i % (D / 2) * 2;
        float m = -INFINITY, l = 0;
        float2 o = {0, 0};
        for (int s0 = 0; s0 < n_splits; s0 += BATCH) {
            float m1[BATCH], l1[BATCH];
            float2 o1[BATCH];
#pragma unroll
            for (int k = 0; k < BATCH; k++) {
                const float *p = parts + (s0 + k) * each;
                int in = s0 + k < n_splits;
                m1[k] = in ? __ldcg(p + COLUMNS * D + c) : -INFINITY;
                l1[k] = in ? __ldcg(p + COLUMNS * D + COLUMNS + c) : 0;
                o1[k] = in ? __ldcg((const float2 *)(p + c * D + d)) : make_float2(0, 0);
            }
#pragma unroll
            for (int k = 0; k < BATCH; k++) merge_part(m, l, o, m1[k], l1[k], o1[k]);
        }
        put_out<D>(a, w, c, d, o, m, l);
    }
}

/* The block's warps merged, in order; then the split's result goes out, or to the last block of the head. */
template <int D>
static __device__ void finish(const slots_args &a, const work &w, state<D> &t, int unit, int split, int n_splits) {
    enum { PITCH = D + 4 }; /* four columns of a warp's store lie in different banks */
    __shared__ __align__(16) float so[WARPS][COLUMNS][PITCH];
    __shared__ float sm[WARPS][COLUMNS], sl[WARPS][COLUMNS];
    __shared__ int last;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, live = min(COLUMNS, w.n_cols - w.col);
#pragma unroll
    for (int c = 0; c < 2; c++) {
        float l = t.l[c];
        for (int d = 4; d < 32; d *= 2) l += __shfl_xor_sync(~0u, l, d);
        int col = 2 * (lane % 4) + c;
        if (lane < 4) {
            sm[warp][col] = t.m[c];
            sl[warp][col] = l;
        }
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
            so[warp][col][16 * i + lane / 4] = t.o[i][c];
            so[warp][col][16 * i + lane / 4 + 8] = t.o[i][c + 2];
        }
    }
    __syncthreads();
    float *parts = a.parts + ((size_t)unit * a.d.n_kv_heads + w.kv_head) * a.max_splits * part_floats(D);
    float *part = parts + split * part_floats(D);
    for (int i = threadIdx.x; i < live * D / 2; i += THREADS) {
        int c = i / (D / 2), d = i % (D / 2) * 2;
        float m = -INFINITY, l = 0;
        float2 o = {0, 0};
#pragma unroll
        for (int k = 0; k < WARPS; k++) merge_part(m, l, o, sm[k][c], sl[k][c], *(const float2 *)&so[k][c][d]);
        if (n_splits == 1) {
            put_out<D>(a, w, c, d, o, m, l);
            continue;
        }
        *(float2 *)(part + c * D + d) = o;
        if (d == 0) {
            part[COLUMNS * D + c] = m;
            part[COLUMNS * D + COLUMNS + c] = l;
        }
    }
    if (n_splits == 1) return;
    int *counter = a.counters + (size_t)unit * a.d.n_kv_heads + w.kv_head;
    __syncthreads();
    if (threadIdx.x == 0) { /* one thread's fences order the whole block's writes and reads, the barriers do the rest */
        __threadfence();
        last = atomicAdd(counter, 1) == n_splits - 1;
        if (last) *counter = 0;
        __threadfence();
    }
    __syncthreads();
    if (last) merge_splits<D>(a, w, parts, n_splits, live);
}

/* Launch: (most splits, n_kv_heads, units) blocks of THREADS.  A unit is a sequence (DECODE) or a column group of a
 * segment. */
template <int D, int DECODE> static __global__ void __launch_bounds__(THREADS, 2) attend_slots(slots_args a) {
    __shared__ __align__(16) __nv_bfloat16 sq[COLUMNS][D + 8];
    const int warp = threadIdx.x / 32, unit = blockIdx.z, split = blockIdx.x, group = a.d.n_heads / a.d.n_kv_heads;
    work w;
    int seq = unit, base = 0;
    if (DECODE) {
        pdl_trigger();
        if (!a.d.active[unit]) return;
        w = (work){unit, 1, 0, group, 0, 0, 0, (int)blockIdx.y, group};
    } else {
        kv_cuda_segment g = a.segs[(a.first_unit + unit) / a.groups_per_seg];
        w = (work){g.row,           g.n,  (a.first_unit + unit) % a.groups_per_seg * COLUMNS, g.n * group, 0, 0, 0,
                   (int)blockIdx.y, group};
        seq = g.seq;
        if (w.col >= w.n_cols) return;
    }
    const kv_cuda_seq &s = a.d.seqs[seq];
    const int head = a.d.layer * a.d.n_kv_heads + w.kv_head;
    w.n_slots = __ldcg(s.n_slots + head);
    const int width = split_width(w.n_slots), n_splits = count_splits(w.n_slots);
    const unsigned long long *pages = (const unsigned long long *)s.pages + (size_t)head * s.page_cap;
    const int at = (w.n_slots - 1) % KV_PAGE, last_page = (w.n_slots - 1) / KV_PAGE;
    if (split >= n_splits) return;
    w.from = split * width;
    w.to = min(w.from + width, w.n_slots);
    const int first_page = w.from / KV_PAGE + warp, my_page = first_page + WARPS * (threadIdx.x % 32);
    const unsigned long long mine = my_page * KV_PAGE < w.to ? __ldcg(pages + my_page) : 0;
    page_regs<D> x;
    int loaded = 0;
    if (DECODE) {
        /* all but the page of the new token was written by earlier steps: it travels while the product ends */
        const char *page = (const char *)__shfl_sync(~0u, mine, 0);
        loaded = first_page * KV_PAGE < w.to && first_page != last_page;
        if (loaded) {
            load_k<D>(x.k, page, threadIdx.x % 32);
            load_v<D>(x.v, page, a.d.layout.off_v, threadIdx.x % 32);
        }
        base = __ldcg(&s.n_seen) - 1;
        rotation<D> turn;
        load_rotation<D>(a.d, base, a.d.q_norm, turn);
        char *newest = split == n_splits - 1 ? (char *)__ldcg(pages + last_page) : NULL;
        pdl_wait();
        const float *q = a.d.qkv + (size_t)unit * (a.d.n_heads + 2 * a.d.n_kv_heads) * D;
        if (warp < group) {
            int h = w.kv_head * group + warp;
            float *ring = s.ring && split == 0
                              ? s.ring + (((size_t)a.d.layer * a.d.window + base % a.d.window) * a.d.n_heads + h) * D
                              : NULL;
            const float *bias = a.d.bias ? a.d.bias + (size_t)h * D : NULL;
            rotate_head<D>(a.d, q + (size_t)h * D, bias, a.d.q_norm != NULL, turn, sq[warp], ring);
        } else {
            for (int i = threadIdx.x % 32; i < D; i += 32) sq[warp][i] = __float2bfloat16_rn(0);
        }
        if (newest) append_token<D>(a.d, unit, w.kv_head, at, base, newest);
    } else {
        for (int i = threadIdx.x; i < COLUMNS * D / 8; i += THREADS) {
            int c = i / (D / 8), d = i % (D / 8) * 8, col = w.col + c;
            uint4 v = make_uint4(0, 0, 0, 0);
            if (col < w.n_cols)
                v = *(const uint4 *)(a.q + (size_t)(w.row + col / group) * a.q_stride +
                                     (size_t)(w.kv_head * group + col % group) * D + d);
            *(uint4 *)&sq[c][d] = v;
        }
    }
    __syncthreads();
    state<D> t;
    for (int c = 0; c < 2; c++) t.m[c] = -INFINITY, t.l[c] = 0;
#pragma unroll
    for (int i = 0; i < D / 16; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) t.o[i][j] = 0;
    attend_pages<D>(a, w, mine, sq[0], x, loaded, t);
    finish<D>(a, w, t, unit, split, n_splits);
    if (DECODE && split == 0) append_columns(a.d, unit, w.kv_head, at, base, (char *)__ldcg(pages + last_page));
}

static int units_of(int n_segs, int most_rows, int group) {
    return n_segs * ((most_rows * group + COLUMNS - 1) / COLUMNS);
}

/* Less will do for chunks, down to one unit: they are then done one group after the other. */
size_t kv_cuda_attend_scratch_bytes(int n_segs, int most_rows, int n_heads, int n_kv_heads, int head_dim,
                                    int most_slots) {
    size_t units = (size_t)units_of(n_segs, most_rows, n_heads / n_kv_heads);
    return units * n_kv_heads * most_splits(most_slots) * part_floats(head_dim) * sizeof(float);
}

template <int DECODE> static cudaError_t launch(const slots_args *a, int units, cudaStream_t stream) {
    dim3 grid(a->max_splits, a->d.n_kv_heads, units);
    switch (a->d.head_dim) {
    case 32:
        return pdl_launch(attend_slots<32, DECODE>, grid, dim3(THREADS), 0, DECODE, stream, *a);
    case 64:
        return pdl_launch(attend_slots<64, DECODE>, grid, dim3(THREADS), 0, DECODE, stream, *a);
    case 96:
        return pdl_launch(attend_slots<96, DECODE>, grid, dim3(THREADS), 0, DECODE, stream, *a);
    case 128:
        return pdl_launch(attend_slots<128, DECODE>, grid, dim3(THREADS), 0, DECODE, stream, *a);
    }
    return cudaErrorInvalidValue;
}

/* Units that scratch and counters have room for at once. */
static int cut_scratch(slots_args *s, size_t scratch_bytes) {
    enum { GRID_Z = 65535 };
    s->max_splits = most_splits(s->d.most_slots);
    s->counters = s->d.counters;
    s->parts = (float *)s->d.scratch;
    if (s->d.n_heads > s->d.n_kv_heads * KV_CUDA_GROUP_MAX) return 0;
    size_t each = (size_t)s->d.n_kv_heads * s->max_splits * part_floats(s->d.head_dim) * sizeof(float);
    size_t n = scratch_bytes / each, most = (size_t)KV_CUDA_COUNTERS / s->d.n_kv_heads;
    if (n > most) n = most;
    return n > GRID_Z ? GRID_Z : (int)n;
}

cudaError_t kv_cuda_decode_attend_slots(const kv_cuda_decode_attend *a, cudaStream_t stream) {
    slots_args s = {};
    s.d = *a;
    if (cut_scratch(&s, a->scratch_bytes) < a->n) return cudaErrorInvalidValue;
    return launch<1>(&s, a->n, stream);
}

cudaError_t kv_cuda_attend_slots(const kv_cuda_attend *a, cudaStream_t stream) {
    int group = a->n_heads / a->n_kv_heads, units = units_of(a->n_segs, a->most_rows, group);
    slots_args s = {};
    s.d.out = (__nv_bfloat16 *)a->out;
    s.d.seqs = a->seqs;
    s.d.layout = a->layout;
    s.d.layer = a->layer;
    s.d.n_heads = a->n_heads;
    s.d.n_kv_heads = a->n_kv_heads;
    s.d.head_dim = a->head_dim;
    s.d.most_slots = a->most_slots;
    s.d.scale = a->scale;
    s.d.lse = a->lse;
    s.d.scratch = a->scratch;
    s.d.counters = a->counters;
    s.q = (const __nv_bfloat16 *)a->q;
    s.q_stride = a->q_stride;
    s.segs = a->segs;
    s.groups_per_seg = units / a->n_segs;
    int most = cut_scratch(&s, a->scratch_bytes);
    cudaError_t rc = most ? cudaSuccess : cudaErrorInvalidValue;
    for (; rc == cudaSuccess && s.first_unit < units; s.first_unit += most)
        rc = launch<0>(&s, units - s.first_unit < most ? units - s.first_unit : most, stream);
    return rc;
}

/* Launch: (slots / 256, n_kv_heads, n_layers * n) blocks of 256: a thread has one slot. */
static __global__ void add_mass(const kv_cuda_seq *seqs, const int32_t *active, kv_page_layout layout,
                                const float *scores, const float *lse, int stride, int n, int n_heads, int n_kv_heads) {
    int kv_head = blockIdx.y, layer = blockIdx.z / n, row = blockIdx.z % n, group = n_heads / n_kv_heads;
    if (!active[row]) return;
    const kv_cuda_seq &s = seqs[row];
    int head = layer * n_kv_heads + kv_head, slot = blockIdx.x * 256 + threadIdx.x;
    if (slot >= s.n_slots[head]) return;
    size_t first = ((size_t)layer * n + row) * n_heads + (size_t)kv_head * group;
    float sum = 0;
    for (int g = 0; g < group; g++) sum += expf(scores[(first + g) * stride + slot] - lse[first + g]);
    char *page = (char *)s.pages[(size_t)head * s.page_cap + slot / KV_PAGE];
    ((float *)(page + layout.off_cols))[slot % KV_PAGE] += sum;
}

cudaError_t kv_cuda_add_mass(const kv_cuda_seq *seqs, const int32_t *active, const kv_page_layout *layout,
                             const float *scores, const float *lse, int stride, int n, int n_layers, int n_heads,
                             int n_kv_heads, int most_slots, cudaStream_t stream) {
    dim3 grid((most_slots + 255) / 256, n_kv_heads, n_layers * n);
    add_mass<<<grid, 256, 0, stream>>>(seqs, active, *layout, scores, lse, stride, n, n_heads, n_kv_heads);
    return cudaGetLastError();
}
