/* attend_pages.cuh - what the kernels of bf16 attention over the paged cache share: one warp, one page at a time.
 *
 * A block has KV_CUDA_COLUMNS query columns of one KV head and one or more ranges of its slots (splits).  K and V go
 * from memory to registers in the order the tensor core wants, each byte once:
 *
 *   S^T = K Q^T     K is the A operand (16 slots = one page), read row by row; which dimension of the head is which k
 *                   of the fragment is free, so a lane takes 8 neighbours in one load
 *   O^T = V^T P^T   V lies in the page in fragment order (policy_cuda.h); P^T comes from S^T by an 8x8 transpose in
 *                   registers
 *
 * Softmax is online, in fp32, base 2.  The ranges depend on the head's own length alone, a block's warps take the pages
 * of a range in turn and are merged in order, and so are the ranges, by one block or by the last of several: a
 * sequence's bits do not depend on its neighbours (Flash-Decoding, with a fixed width instead of a fixed number of
 * splits). */
#ifndef KV_CUDA_ATTEND_PAGES_H
#define KV_CUDA_ATTEND_PAGES_H

#include "engine/cuda/common.cuh"
#include "engine/cuda/mma.cuh"

enum { WARPS = 8, THREADS = 32 * WARPS, COLUMNS = KV_CUDA_COLUMNS };

/* ---- splits of a head ------------------------------------------------------------------------------------------- */

/* Slots of a split for a head of n slots: eight ranges, within 128 to 512 slots each. */
static __host__ __device__ inline int split_width(int n) {
    int eighth = ((n + 7) / 8 + KV_PAGE - 1) / KV_PAGE * KV_PAGE;
    return eighth < 128 ? 128 : eighth > 512 ? 512 : eighth;
}

/* Never falls as a head grows: that of the longest head is the most of any. */
static __host__ __device__ inline int count_splits(int n) {
    return (n + split_width(n) - 1) / split_width(n);
}

/* Partial result of one split: COLUMNS x head_dim sums, then maximum and weight of each column. */
static __host__ __device__ inline size_t part_floats(int head_dim) {
    return (size_t)COLUMNS * (head_dim + 2);
}

/* ---- pages of a warp --------------------------------------------------------------------------------------------- */

/* The pages that a warp takes of the splits [first, end) of a head, in order; end - first <= SPLITS_MOST, so that a
 * lane has one at most: lane i the page i % rounds of the split first + i / rounds. */
enum { SPLITS_MOST = 8 };

typedef struct page_list {
    unsigned long long mine; /* address of the lane's page */
    unsigned todo;           /* lanes whose page has not been taken */
    int first, width, rounds;
} page_list;

KV_DEVICE page_list list_pages(const head_view &h, int first, int end) {
    page_list l;
    l.first = first;
    l.width = split_width(h.n_slots);
    l.rounds = (l.width / KV_PAGE + WARPS - 1) / WARPS;
    const int lane = threadIdx.x % 32, split = first + lane / l.rounds;
    const int page = split * l.width / KV_PAGE + threadIdx.x / 32 + WARPS * (lane % l.rounds);
    const int is = split < end && page * KV_PAGE < min((split + 1) * l.width, h.n_slots);
    l.mine = is ? (unsigned long long)__ldcg((const unsigned long long *)h.pages + page) : 0;
    l.todo = __ballot_sync(~0u, is);
    return l;
}

/* Takes the next page: its place in the list, or 32 when there is none. */
KV_DEVICE int take_page(page_list &l) {
    int i = l.todo ? __ffs(l.todo) - 1 : 32;
    l.todo &= l.todo - 1;
    return i;
}

/* By all lanes: NULL when i is 32. */
KV_DEVICE const char *page_at(const page_list &l, int i) {
    const char *p = (const char *)__shfl_sync(~0u, l.mine, i % 32);
    return i < 32 ? p : NULL;
}

KV_DEVICE int split_at(const page_list &l, int i) {
    return l.first + i / l.rounds;
}

/* First slot of the page. */
KV_DEVICE int slot_at(const page_list &l, int i) {
    return split_at(l, i) * l.width + ((int)threadIdx.x / 32 + WARPS * (i % l.rounds)) * KV_PAGE;
}

/* ---- loads ------------------------------------------------------------------------------------------------------ */

KV_DEVICE uint4 load_cache(const void *p) {
    uint4 v;
    asm volatile("ld.global.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

/* K and V of a warp's current page. */
template <int D> struct page_regs { uint4 k[2][D / 32], v[D / 16]; };

template <int D> KV_DEVICE void load_k(page_regs<D> &x, const char *page) {
    const int lane = threadIdx.x % 32;
    const __nv_bfloat16 *p = (const __nv_bfloat16 *)page + (lane / 4) * D + 8 * (lane % 4);
#pragma unroll
    for (int c = 0; c < D / 32; c++) {
        x.k[0][c] = load_cache(p + 32 * c);
        x.k[1][c] = load_cache(p + 8 * D + 32 * c);
    }
}

template <int D> KV_DEVICE void load_v(page_regs<D> &x, const char *page, size_t off_v) {
    const uint4 *p = (const uint4 *)(page + off_v) + threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < D / 16; i++) x.v[i] = load_cache(p + 32 * i);
}

template <int D> KV_DEVICE void load_page(page_regs<D> &x, const char *page, size_t off_v) {
    load_k<D>(x, page);
    load_v<D>(x, page, off_v);
}

/* Asks L2 for a page that the warp comes to later, so that it does not wait for the memory twice. */
template <int D> KV_DEVICE void ask_page(const char *page, size_t off_v) {
    enum { LINE = 128, LINES = KV_PAGE * D * 2 / LINE };
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < LINES; i += 32) {
        const char *k = page + (i + lane) * LINE, *v = k + off_v;
        if (LINES % 32 && i + lane >= LINES) continue;
        asm volatile("prefetch.global.L2 [%0];" ::"l"(k));
        asm volatile("prefetch.global.L2 [%0];" ::"l"(v));
    }
}

/* Clears the slots of a page behind the last one, which may hold anything, NaN too: a weight of 0 would not hide it.
 * n: slots of the page that count. */
template <int D> KV_DEVICE void mask_v(page_regs<D> &x, int n) {
    int slot = 2 * (threadIdx.x % 4);
    uint32_t lo = (slot < n ? 0xffffu : 0) | (slot + 1 < n ? 0xffff0000u : 0);
    uint32_t hi = (slot + 8 < n ? 0xffffu : 0) | (slot + 9 < n ? 0xffff0000u : 0);
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
        x.v[i].x &= lo;
        x.v[i].y &= lo;
        x.v[i].z &= hi;
        x.v[i].w &= hi;
    }
}

/* ---- one page --------------------------------------------------------------------------------------------------- */

/* Online softmax of one warp over its pages. */
template <int D> struct state {
    float m[2], l[2];   /* columns 2 (lane % 4) and the next: maximum, this lane's share of the weight */
    float o[D / 16][4]; /* O^T fragments: dims (lane / 4, + 8) x the two columns */
};

template <int D> KV_DEVICE void clear(state<D> &t) {
    t.m[0] = t.m[1] = -INFINITY;
    t.l[0] = t.l[1] = 0;
#pragma unroll
    for (int i = 0; i < D / 16; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) t.o[i][j] = 0;
}

KV_DEVICE uint32_t transpose(uint32_t v) {
    uint32_t t;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(t) : "r"(v));
    return t;
}

/* Probabilities of the page's logits s (already in base 2), folded into the state; b: P^T as the B operand. */
template <int D> KV_DEVICE void fold(state<D> &t, float s[4], uint32_t b[2]) {
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
    b[0] = transpose(pack_pair(s[0], s[1]));
    b[1] = transpose(pack_pair(s[2], s[3]));
}

/* What a lane knows of its block's columns. */
typedef struct view {
    uint32_t q;    /* shared address of its part of the rotated queries */
    int seen[2];   /* last visible slot + 1 of columns 2 (lane % 4) and the next; 0: there is no such column */
    int n_slots;   /* of the head */
    float scale;   /* of logits */
    float *scores; /* (columns, stride) scaled logits, or NULL */
    int stride;
} view;

/* The page that starts at `slot`, whose K and V are in x; they become those of `then`, unless that is NULL. */
template <int D>
KV_DEVICE void attend_page(const view &w, int slot, page_regs<D> &x, const char *then, size_t off_v, state<D> &t) {
    const int lane = threadIdx.x % 32, row = slot + lane / 4;
    const float scale2 = w.scale * 1.4426950408889634f;
    float s[4] = {0, 0, 0, 0};
#pragma unroll
    for (int c = 0; c < D / 32; c++) {
        uint4 q = load_shared(w.q + 64 * c); /* again for every page: registers are short */
        mma(s, x.k[0][c].x, x.k[1][c].x, x.k[0][c].y, x.k[1][c].y, q.x, q.y);
        mma(s, x.k[0][c].z, x.k[1][c].z, x.k[0][c].w, x.k[1][c].w, q.z, q.w);
    }
    if (then) load_k<D>(x, then);
    if (w.scores)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int c = 2 * (lane % 4) + i % 2, at = row + 8 * (i / 2);
            if (at < w.seen[i % 2]) store_kept(w.scores + (size_t)c * w.stride + at, s[i] * w.scale);
        }
#pragma unroll
    for (int i = 0; i < 4; i++) s[i] = row + 8 * (i / 2) < w.seen[i % 2] ? s[i] * scale2 : -INFINITY;
    uint32_t b[2];
    fold<D>(t, s, b);
    if (slot + KV_PAGE > w.n_slots) mask_v<D>(x, w.n_slots - slot);
#pragma unroll
    for (int i = 0; i < D / 16; i++) mma(t.o[i], x.v[i].x, x.v[i].y, x.v[i].z, x.v[i].w, b[0], b[1]);
    if (then) load_v<D>(x, then, off_v);
}

/* ---- merging ---------------------------------------------------------------------------------------------------- */

/* A partial result of one column: maximum (base 2), weight, and two dims of the sums. */
typedef struct partial {
    float m, l;
    float2 o;
} partial;

KV_DEVICE partial no_part(void) {
    partial p = {-INFINITY, 0, {0, 0}};
    return p;
}

/* Adds one more part to the running one.  Written out so that every kernel gets the same bits; ascending order does the
 * rest. */
KV_DEVICE void merge_part(partial &t, const partial &p) {
    float top = fmaxf(t.m, p.m), base = top == -INFINITY ? 0 : top, f = exp2f(t.m - base), g = exp2f(p.m - base);
    t.l = __fmaf_rn(t.l, f, __fmul_rn(p.l, g));
    t.o.x = __fmaf_rn(t.o.x, f, __fmul_rn(p.o.x, g));
    t.o.y = __fmaf_rn(t.o.y, f, __fmul_rn(p.o.y, g));
    t.m = top;
}

/* Results of a block's warps for one split. */
template <int D> struct warp_parts {
    float o[WARPS][COLUMNS][D + 4]; /* four columns of a warp's store lie in different banks */
    float m[WARPS][COLUMNS], l[WARPS][COLUMNS];
};

template <int D> KV_DEVICE void put_warp(warp_parts<D> &sh, const state<D> &t) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int c = 0; c < 2; c++) {
        float l = t.l[c];
        for (int d = 4; d < 32; d *= 2) l += __shfl_xor_sync(~0u, l, d);
        int col = 2 * (lane % 4) + c;
        if (lane < 4) {
            sh.m[warp][col] = t.m[c];
            sh.l[warp][col] = l;
        }
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
            sh.o[warp][col][16 * i + lane / 4] = t.o[i][c];
            sh.o[warp][col][16 * i + lane / 4 + 8] = t.o[i][c + 2];
        }
    }
}

/* Dims d and d + 1 of column c of the split, over the warps. */
template <int D> KV_DEVICE partial merge_warps(const warp_parts<D> &sh, int c, int d) {
    partial t = no_part();
#pragma unroll
    for (int k = 0; k < WARPS; k++) {
        partial p = {sh.m[k][c], sh.l[k][c], *(const float2 *)&sh.o[k][c][d]};
        merge_part(t, p);
    }
    return t;
}

/* Parts of splits in memory, each part_floats. */
template <int D> KV_DEVICE void put_part(float *part, int c, int d, const partial &p) {
    *(float2 *)(part + c * D + d) = p.o;
    if (d == 0) {
        part[COLUMNS * D + c] = p.m;
        part[COLUMNS * D + COLUMNS + c] = p.l;
    }
}

/* Dims d and d + 1 of column c over n parts; a batch of them is loaded at once. */
template <int D> KV_DEVICE partial merge_parts(const float *parts, int n, int c, int d) {
    enum { BATCH = 8 };
    partial t = no_part();
    for (int first = 0; first < n; first += BATCH) {
        partial p[BATCH];
#pragma unroll
        for (int k = 0; k < BATCH; k++) {
            const float *from = parts + (first + k) * part_floats(D);
            p[k] = no_part();
            if (first + k >= n) continue;
            p[k].m = __ldcg(from + COLUMNS * D + c);
            p[k].l = __ldcg(from + COLUMNS * D + COLUMNS + c);
            p[k].o = __ldcg((const float2 *)(from + c * D + d));
        }
#pragma unroll
        for (int k = 0; k < BATCH; k++) merge_part(t, p[k]);
    }
    return t;
}

/* By a whole block that has put its parts: is it the last of n to come here?  Then it sees those of all, and the
 * counter is 0 again. */
KV_DEVICE int arrive_last(int *counter, int n) {
    __shared__ int last;
    __syncthreads();
    if (threadIdx.x == 0) { /* one thread releases and acquires for the block, the barriers do the rest */
        int before;
        asm volatile("atom.add.acq_rel.gpu.global.s32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
        last = before == n - 1;
        if (last) *counter = 0;
    }
    __syncthreads();
    return last;
}

/* The finished dims d and d + 1 of a head, to out; lse: (heads) or NULL. */
KV_DEVICE void put_out(__nv_bfloat16 *out, float *lse, size_t head, int d, const partial &p) {
    *(__nv_bfloat162 *)out = __floats2bfloat162_rn(p.o.x / p.l, p.o.y / p.l);
    if (d == 0 && lse) lse[head] = p.m * 0.6931471805599453f + logf(p.l);
}

#endif
