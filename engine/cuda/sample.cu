/* sample.cu - the next token of every row of logits: hash, greedy choice, draw.
 *
 * scan_rows splits a row over many blocks and finds its largest logit, its hash and whether all is finite; pick_tokens
 * joins the parts, which is all that greedy rows need, and draws for the others with the arithmetic of engine/draw.h,
 * so the token is the one that engine/sampler.c would draw.  An element is a key: its steps below the best logit and
 * its id below, so that keys ascend in the order of the definition, ties included.  The place where a running sum in
 * key order passes a limit is found by histograms over the key's digits, until few enough elements share a digit to be
 * sorted; top-k, top-p and the draw itself are three such limits. */
#include "engine/cuda/cuda.h"
#include "engine/cuda/pdl.cuh"
#include "engine/draw.h"

enum {
    PARTS = 32, /* of a row: a lane of pick_tokens each */
    SCAN_THREADS = 256,
    THREADS = 1024, /* of pick_tokens */
    AHEAD = 8,      /* logits of a thread on their way at once */
    BINS = 2 * THREADS,
    LIST = 2 * THREADS,
    DIGIT = 11,     /* bits of a key per histogram */
    TOP_SHIFT = 41, /* of the first digit */
    ID_BITS = 20
};

typedef unsigned long long u64;

typedef struct row_part {
    u64 hash;
    float best;
    int index, bad;
} row_part;

/* ---- scan ------------------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ u64 hash_of(int i, uint32_t bits) {
    u64 z = ((u64)(i + 1) << 32 | bits) * 0x9E3779B97F4A7C15u;
    z ^= z >> 32;
    z *= 0xD6E8FEB86659FD93u;
    return z ^ z >> 29;
}

static __device__ __forceinline__ void join(row_part *p, const row_part &o) {
    p->hash += o.hash;
    p->bad |= o.bad;
    if (o.best > p->best || (o.best == p->best && o.index < p->index)) {
        p->best = o.best;
        p->index = o.index;
    }
}

static __device__ __forceinline__ row_part join_warp(row_part p) {
    for (int o = 16; o; o /= 2)
        join(&p, row_part{__shfl_xor_sync(~0u, p.hash, o), __shfl_xor_sync(~0u, p.best, o),
                          __shfl_xor_sync(~0u, p.index, o), __shfl_xor_sync(~0u, p.bad, o)});
    return p;
}

/* parts (n, PARTS).  Launch: (PARTS, n), SCAN_THREADS. */
static __global__ void __launch_bounds__(SCAN_THREADS)
    scan_rows(row_part *parts, const float *logits, int n_vocab, const int32_t *skip) {
    __shared__ row_part warp[SCAN_THREADS / 32];
    int row = (int)blockIdx.y, step = (n_vocab + PARTS - 1) / PARTS, from = (int)blockIdx.x * step;
    int to = min(n_vocab, from + step);
    const float *x = logits + (size_t)row * (size_t)n_vocab;
    pdl_trigger();
    pdl_wait();
    if (skip && skip[row]) return;
    row_part p = {0, -INFINITY, n_vocab, 0};
#pragma unroll 4
    for (int i = from + (int)threadIdx.x; i < to; i += SCAN_THREADS) {
        float v = x[i];
        uint32_t bits = __float_as_uint(v);
        p.hash += hash_of(i, bits);
        p.bad |= (bits & 0x7f800000u) == 0x7f800000u;
        if (v > p.best) {
            p.best = v;
            p.index = i;
        }
    }
    p = join_warp(p);
    if (threadIdx.x % 32 == 0) warp[threadIdx.x / 32] = p;
    __syncthreads();
    if (threadIdx.x) return;
    for (int w = 1; w < SCAN_THREADS / 32; w++) join(&p, warp[w]);
    parts[row * PARTS + (int)blockIdx.x] = p;
}

/* ---- draw ------------------------------------------------------------------------------------------------------- */

typedef struct draw_row {
    const float *logits; /* (n_vocab) */
    int n_vocab;
    float best, temperature;
} draw_row;

typedef struct draw_state {
    unsigned count[BINS], low[BINS], high[BINS]; /* of a histogram: elements, their weight in two words */
    u64 list[LIST];
    u64 warp[THREADS / 32];
    row_part row;
    int n_list, top;              /* top: the histogram is that of the first digit */
    u64 key, count_to, weight_to; /* what a search found */
} draw_state;

/* Logits i, i + THREADS, ...; past the row -inf, which no key stands for. */
static __device__ __forceinline__ void load_ahead(const draw_row &r, int i, float x[AHEAD]) {
#pragma unroll
    for (int j = 0; j < AHEAD; j++) x[j] = i + j * THREADS < r.n_vocab ? r.logits[i + j * THREADS] : -INFINITY;
}

/* False for tokens out of reach. */
static __device__ __forceinline__ bool key_of(const draw_row &r, int i, float x, u64 *key) {
    uint32_t steps;
    if (!kv_draw_steps(r.best, x, r.temperature, &steps)) return false;
    *key = (u64)steps << ID_BITS | (unsigned)i;
    return true;
}

static __device__ __forceinline__ u64 weight_of(u64 key) {
    return kv_draw_weight((uint32_t)(key >> ID_BITS));
}

static __device__ __forceinline__ u64 bin_weight(const draw_state *s, int b) {
    return (u64)s->high[b] << 32 | s->low[b];
}

/* Sum of x over the threads before this one; *total over all. */
static __device__ u64 sum_before(draw_state *s, u64 x, u64 *total) {
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    u64 sum = x, before = 0, all = 0;
    for (int o = 1; o < 32; o *= 2) {
        u64 y = __shfl_up_sync(~0u, sum, o);
        if (lane >= o) sum += y;
    }
    if (lane == 31) s->warp[warp] = sum;
    __syncthreads();
    for (int w = 0; w < THREADS / 32; w++) {
        if (w < warp) before += s->warp[w];
        all += s->warp[w];
    }
    __syncthreads();
    *total = all;
    return before + sum - x;
}

/* Histogram of the digit at `shift` over the keys whose higher digits are `prefix`. */
static __device__ void fill_bins(draw_state *s, const draw_row &r, u64 prefix, int shift) {
    for (int b = (int)threadIdx.x; b < BINS; b += THREADS) s->count[b] = s->low[b] = s->high[b] = 0;
    __syncthreads();
    for (int i = (int)threadIdx.x; i < r.n_vocab; i += AHEAD * THREADS) {
        float x[AHEAD];
        load_ahead(r, i, x);
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            u64 key;
            if (!key_of(r, i + j * THREADS, x[j], &key) || key >> (shift + DIGIT) != prefix) continue;
            int b = (int)(key >> shift) & (BINS - 1);
            u64 w = weight_of(key);
            unsigned low = (unsigned)w, old = atomicAdd(&s->low[b], low);
            atomicAdd(&s->high[b], (unsigned)(w >> 32) + (old + low < low));
            atomicAdd(&s->count[b], 1u);
        }
    }
    if (threadIdx.x == 0) s->top = shift == TOP_SHIFT;
    __syncthreads();
}

/* The bin where the running count or weight reaches target; what precedes it goes to s->count_to and s->weight_to. */
static __device__ int find_bin(draw_state *s, bool by_count, u64 target) {
    int b = 2 * (int)threadIdx.x;
    u64 total, n[2] = {s->count[b], s->count[b + 1]}, w[2] = {bin_weight(s, b), bin_weight(s, b + 1)};
    u64 n_to = sum_before(s, n[0] + n[1], &total), w_to = sum_before(s, w[0] + w[1], &total);
    for (int j = 0; j < 2; j++) {
        u64 to = by_count ? n_to : w_to, own = by_count ? n[j] : w[j];
        if (to < target && to + own >= target) {
            s->n_list = b + j;
            s->count_to = n_to;
            s->weight_to = w_to;
        }
        n_to += n[j];
        w_to += w[j];
    }
    __syncthreads();
    return s->n_list;
}

/* The keys whose digits down to `shift` are `prefix`, at most LIST of them, ascending; returns how many. */
static __device__ int list_keys(draw_state *s, const draw_row &r, u64 prefix, int shift) {
    int t = (int)threadIdx.x, size = 2;
    __syncthreads();
    if (t == 0) s->n_list = 0;
    s->list[t] = s->list[t + THREADS] = ~(u64)0;
    __syncthreads();
    for (int i = t; i < r.n_vocab; i += AHEAD * THREADS) {
        float x[AHEAD];
        load_ahead(r, i, x);
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            u64 key;
            if (key_of(r, i + j * THREADS, x[j], &key) && key >> shift == prefix)
                s->list[atomicAdd(&s->n_list, 1)] = key;
        }
    }
    __syncthreads();
    while (size < s->n_list) size *= 2;
    for (int run = 2; run <= size; run *= 2)
        for (int gap = run / 2; gap; gap /= 2) {
            int a = t / gap * 2 * gap + t % gap, b = a + gap;
            if (2 * t < size) {
                u64 x = s->list[a], y = s->list[b];
                if ((x > y) == ((a & run) == 0)) {
                    s->list[a] = y;
                    s->list[b] = x;
                }
            }
            __syncthreads();
        }
    return s->n_list;
}

/* s->key = the element where the running count or weight, in key order, reaches target (from 1 to its total);
 * s->weight_to = the weight up to that element, itself included. */
static __device__ void find_element(draw_state *s, const draw_row &r, bool by_count, u64 target) {
    u64 prefix = 0, n_to = 0, w_to = 0, total;
    int shift = TOP_SHIFT;
    if (!s->top) fill_bins(s, r, 0, shift);
    for (;;) {
        int bin = find_bin(s, by_count, target - (by_count ? n_to : w_to));
        n_to += s->count_to;
        w_to += s->weight_to;
        prefix = prefix << DIGIT | (unsigned)bin;
        if (s->count[bin] <= LIST) break;
        shift -= DIGIT; /* ends: ids differ, so no more than 2^8 keys share the four digits above bit 8 */
        __syncthreads();
        fill_bins(s, r, prefix, shift);
    }
    int n = list_keys(s, r, prefix, shift), at = 2 * (int)threadIdx.x;
    u64 w[2] = {at < n ? weight_of(s->list[at]) : 0, at + 1 < n ? weight_of(s->list[at + 1]) : 0};
    w_to += sum_before(s, w[0] + w[1], &total);
    n_to += (u64)at;
    for (int j = 0; j < 2 && at + j < n; j++) {
        u64 to = by_count ? n_to : w_to, own = by_count ? 1 : w[j];
        n_to++;
        w_to += w[j];
        if (to >= target || to + own < target) continue;
        s->key = s->list[at + j];
        s->weight_to = w_to;
    }
    __syncthreads();
}

/* Weight of the elements up to `end` that weigh at least `least`. */
static __device__ u64 sum_within(draw_state *s, const draw_row &r, u64 end, u64 least) {
    u64 sum = 0, total;
    for (int i = (int)threadIdx.x; i < r.n_vocab; i += AHEAD * THREADS) {
        float x[AHEAD];
        load_ahead(r, i, x);
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            u64 key;
            if (!key_of(r, i + j * THREADS, x[j], &key) || key > end) continue;
            u64 w = weight_of(key);
            if (w >= least) sum += w;
        }
    }
    sum_before(s, sum, &total);
    return total;
}

/* The order of kv_sample: temperature, top-k, top-p, min-p, draw. */
static __device__ int draw_token(draw_state *s, const draw_row &r, const kv_cuda_sampling &a, u64 step) {
    const u64 id = (1u << ID_BITS) - 1;
    u64 end = ~(u64)0, n_all, total;
    int b = 2 * (int)threadIdx.x;
    fill_bins(s, r, 0, TOP_SHIFT);
    sum_before(s, (u64)s->count[b] + s->count[b + 1], &n_all);
    sum_before(s, bin_weight(s, b) + bin_weight(s, b + 1), &total);
    if (a.top_k > 0 && (u64)a.top_k < n_all) {
        find_element(s, r, true, (u64)a.top_k);
        end = s->key | id; /* with all that tie */
        total = sum_within(s, r, end, 0);
    }
    if (a.top_p < 1) {
        find_element(s, r, false, kv_draw_top_p(a.top_p, total));
        end = s->key;
        total = s->weight_to;
        __syncthreads();
    }
    if (a.min_p > 0) total = sum_within(s, r, end, kv_draw_min_p(a.min_p));
    find_element(s, r, false, kv_draw_place(kv_draw_number(a.seed, step), total));
    return (int)(s->key & id);
}

/* token, step and hash of every row from its parts.  Launch: one block per row, THREADS. */
static __global__ void __launch_bounds__(THREADS)
    pick_tokens(const __grid_constant__ kv_cuda_sample a, const row_part *parts) {
    __shared__ draw_state s;
    int row = (int)blockIdx.x;
    pdl_trigger();
    pdl_wait();
    if (a.skip && a.skip[row]) return;
    if (threadIdx.x < PARTS) {
        row_part p = join_warp(parts[row * PARTS + (int)threadIdx.x]);
        if (threadIdx.x == 0) s.row = p;
    }
    __syncthreads();
    kv_cuda_sampling how = a.sampling[row];
    int token = s.row.bad ? (int)KV_ENUM : s.row.index, step = a.step[row];
    if (!s.row.bad && how.temperature > 0) {
        draw_row r = {a.logits + (size_t)row * (size_t)a.n_vocab, a.n_vocab, s.row.best, how.temperature};
        token = draw_token(&s, r, how, (u64)step);
    }
    __syncthreads();
    if (threadIdx.x) return;
    u64 h = (a.hash[row] ^ s.row.hash) * 0x100000001b3u;
    a.hash[row] = h ^ h >> 31;
    a.token[row] = token;
    a.step[row] = step + 1;
}

size_t kv_cuda_sample_scratch_bytes(int n, int n_vocab) {
    (void)n_vocab;
    return (size_t)n * PARTS * sizeof(row_part);
}

cudaError_t kv_cuda_sample_rows(const kv_cuda_sample *s, cudaStream_t stream) {
    row_part *parts = (row_part *)s->scratch;
    if (s->n == 0) return cudaSuccess;
    if (s->scratch_bytes < kv_cuda_sample_scratch_bytes(s->n, s->n_vocab) || s->n_vocab > 1 << ID_BITS)
        return cudaErrorInvalidValue;
    cudaError_t rc = pdl_launch(scan_rows, dim3(PARTS, (unsigned)s->n), dim3(SCAN_THREADS), 0, 1, stream, parts,
                                s->logits, s->n_vocab, s->skip);
    return rc == cudaSuccess ? pdl_launch(pick_tokens, dim3((unsigned)s->n), dim3(THREADS), 0, 1, stream, *s, parts)
                             : rc;
}
