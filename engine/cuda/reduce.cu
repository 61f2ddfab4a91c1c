/* reduce.cu - eviction on the device: which slots of a head stay, and moving them to the front.
 *
 * Selection follows policies/select.c: sinks are a prefix and the recent window a suffix; between them the k-th best
 * score is found by radix selection, four histograms of 256 bins over the scores as order-preserving integers, and of
 * equal scores the newest stay.  Only integers are counted, so no order of execution can change the result.
 *
 * Compaction is in place.  Kept indices ascend, so the sources of destination page i lie at 16 i or behind: once every
 * thread holds its part of page i in registers, the page may be overwritten, and loads of later pages may already be
 * under way, since no store to page i touches their sources. */
#include "engine/cuda/cuda.h"
#include "policies/heads.cuh"

enum {
    THREADS = 256, /* of select_slots */
    WARPS = THREADS / 32,
    ROUNDS = 4,         /* slots per thread between two barriers of put_best */
    TILE = 1024,        /* kept slots whose sources are looked up at once */
    MOVE_THREADS = 512, /* most of compact_slots */
    WORDS = 4           /* positions or column values per thread and barrier */
};

/* ---- select ----------------------------------------------------------------------------------------------------- */

typedef struct select_state {
    int count[256];
    int warp[2][WARPS]; /* put_best: slots above the threshold | slots equal to it << 16 of each warp, two buffers */
    int sum[WARPS];
    int bin, left, ties;
} select_state;

/* Both zeros get one key, since they compare equal as scores. */
static __device__ __forceinline__ uint32_t order_key(float x) {
    uint32_t u = __float_as_uint(x);
    if (u == 0x80000000u) u = 0;
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* From the filled histogram: the bin that holds the k-th largest, what is left of k inside it, and its count. */
static __device__ void find_bin(select_state *s, int k) {
    int t = (int)threadIdx.x, lane = t % 32, own = s->count[255 - t], sum = own;
    for (int o = 1; o < 32; o *= 2) {
        int x = __shfl_up_sync(~0u, sum, o);
        if (lane >= o) sum += x;
    }
    if (lane == 31) s->sum[t / 32] = sum;
    __syncthreads();
    for (int w = 0; w < t / 32; w++) sum += s->sum[w];
    if (sum >= k && sum - own < k) {
        s->bin = 255 - t;
        s->left = k - (sum - own);
        s->ties = own;
    }
    __syncthreads();
}

/* Key of the k-th largest of n scores, 1 <= k <= n; *n_skip = how many of the scores equal to it leave.  False when a
 * score is NaN. */
static __device__ bool find_threshold(select_state *s, const float *score, int n, int k, uint32_t *key, int *n_skip) {
    uint32_t prefix = 0, mask = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int nan = 0;
        s->count[threadIdx.x] = 0;
        __syncthreads();
#pragma unroll 4
        for (int i = (int)threadIdx.x; i < n; i += THREADS) {
            float x = score[i];
            uint32_t u = order_key(x);
            nan |= x != x;
            if ((u & mask) == prefix) atomicAdd(&s->count[u >> shift & 255], 1);
        }
        if (__syncthreads_or(nan)) return false;
        find_bin(s, k);
        k = s->left;
        prefix |= (uint32_t)s->bin << shift;
        mask |= 255u << shift;
    }
    *key = prefix;
    *n_skip = s->ties - k;
    return true;
}

/* kept receives, ascending, from + i of the n scores above `key` and of those equal to it but the oldest n_skip. */
static __device__ void put_best(select_state *s, const float *score, int from, int n, uint32_t key, int n_skip,
                                int32_t *kept) {
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, buffer = 0;
    int above = 0, equal = 0; /* before this tile */
    for (int base = 0; base < n; base += THREADS * ROUNDS, buffer ^= 1) {
        uint32_t up[ROUNDS], eq[ROUNDS];
        int at = base + warp * 32 * ROUNDS + lane, own = 0;
#pragma unroll
        for (int j = 0; j < ROUNDS; j++) {
            uint32_t u = at + 32 * j < n ? order_key(score[at + 32 * j]) : 0; /* the key of no number but NaN */
            up[j] = __ballot_sync(~0u, u > key);
            eq[j] = __ballot_sync(~0u, u == key);
            own += __popc(up[j]) + (__popc(eq[j]) << 16);
        }
        if (lane == 0) s->warp[buffer][warp] = own;
        __syncthreads();
        int before = 0, all = 0;
        for (int w = 0; w < WARPS; w++) {
            if (w < warp) before += s->warp[buffer][w];
            all += s->warp[buffer][w];
        }
        int a = above + (before & 0xffff), e = equal + (before >> 16);
        uint32_t below = (1u << lane) - 1;
#pragma unroll
        for (int j = 0; j < ROUNDS; j++) {
            int ties = e + __popc(eq[j] & below), rank = a + __popc(up[j] & below) + max(0, ties - n_skip);
            if (up[j] >> lane & 1 || (eq[j] >> lane & 1 && ties >= n_skip)) kept[rank] = from + at + 32 * j;
            a += __popc(up[j]);
            e += __popc(eq[j]);
        }
        above += all & 0xffff;
        equal += all >> 16;
    }
}

static __device__ __forceinline__ void put_range(int32_t *kept, int from, int n) {
    for (int i = (int)threadIdx.x; i < n; i += THREADS) kept[i] = from + i;
}

/* Slots of positions below n_sink: among the first n_sink slots, since positions of a head differ. */
static __device__ int count_sinks(select_state *s, const kv_cuda_heads &h, const kv_cuda_head &v, int n_sink) {
    int n = 0, most = min(n_sink, v.n_slots);
    if (most <= 0) return 0;
    for (int i = (int)threadIdx.x; i < most; i += THREADS) n += kv_cuda_pos(h, v, i) < n_sink;
    for (int o = 16; o; o /= 2) n += __shfl_xor_sync(~0u, n, o);
    if (threadIdx.x % 32 == 0) s->sum[threadIdx.x / 32] = n;
    __syncthreads();
    n = 0;
    for (int w = 0; w < WARPS; w++) n += s->sum[w];
    __syncthreads();
    return n;
}

/* kept (n_kept) of every head; n_kept = -1 for heads that are left alone, those with a NaN among the competing scores
 * included.  Launch: one block per head, THREADS. */
static __global__ void __launch_bounds__(THREADS) select_slots(const __grid_constant__ kv_cuda_reduce r) {
    __shared__ select_state s;
    const kv_cuda_heads &h = r.heads;
    kv_cuda_head v;
    if (!kv_cuda_head_find(h, (int)blockIdx.x, &v)) {
        if (threadIdx.x == 0) r.n_kept[blockIdx.x] = -1;
        return;
    }
    int n = v.n_slots, keep = max(h.budget, 0), n_recent = max(r.n_recent, 0);
    int sink_end = count_sinks(&s, h, v, r.n_sink);
    int recent_start = n_recent < n - sink_end ? n - n_recent : sink_end;
    int take_sink = min(sink_end, keep), take_recent = min(n - recent_start, keep - take_sink);
    int room = keep - take_sink - take_recent, n_skip = 0;
    const float *score = h.score + v.row + sink_end;
    int32_t *kept = r.kept + v.row;
    uint32_t key = 0;
    if (room > 0 && !find_threshold(&s, score, recent_start - sink_end, room, &key, &n_skip)) {
        if (threadIdx.x == 0) {
            r.n_kept[blockIdx.x] = -1;
            atomicMax(&r.bad[v.seq], 1 + v.layer * h.n_kv_heads + v.kv_head);
        }
        return;
    }
    put_range(kept, sink_end - take_sink, take_sink);
    if (room > 0) put_best(&s, score, sink_end, recent_start - sink_end, key, n_skip, kept + take_sink);
    put_range(kept + take_sink + room, n - take_recent, take_recent);
    if (threadIdx.x == 0) r.n_kept[blockIdx.x] = keep;
}

cudaError_t kv_cuda_select_slots(const kv_cuda_reduce *r, cudaStream_t stream) {
    int n = kv_cuda_heads_count(&r->heads);
    if (n == 0) return cudaSuccess;
    select_slots<<<(unsigned)n, THREADS, 0, stream>>>(*r);
    return cudaGetLastError();
}

/* ---- compact ---------------------------------------------------------------------------------------------------- */

/* Where the kept slots of a tile come from: address of the page, slot in its low four bits (pages are aligned to 64
 * bytes), and the pages they go to. */
typedef struct move_tile {
    uintptr_t src[TILE];
    char *dst[TILE / KV_PAGE];
} move_tile;

static __device__ __forceinline__ const char *src_page(uintptr_t src) {
    return (const char *)(src & ~(uintptr_t)(KV_PAGE - 1));
}

static __device__ __forceinline__ int src_slot(uintptr_t src) {
    return (int)(src & (KV_PAGE - 1));
}

/* What one thread of 2 * head_dim holds of a page: 16-byte pieces of K and V. */
template <typename T> struct page_part;

/* Two pieces of each: slots s and s + 8. */
template <> struct page_part<float> {
    uint4 k[2], v[2];

    __device__ __forceinline__ void load(const uintptr_t *src, int t, const kv_page_layout &l) {
        int per_slot = l.head_dim / 4, at = t % per_slot;
#pragma unroll
        for (int j = 0; j < 2; j++) {
            uintptr_t s = src[t / per_slot + 8 * j];
            size_t from = (size_t)(src_slot(s) * per_slot + at);
            k[j] = ((const uint4 *)src_page(s))[from];
            v[j] = ((const uint4 *)(src_page(s) + l.off_v))[from];
        }
    }
    __device__ __forceinline__ void store(char *dst, int t, const kv_page_layout &l) const {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            ((uint4 *)dst)[t + j * 2 * l.head_dim] = k[j];
            ((uint4 *)(dst + l.off_v))[t + j * 2 * l.head_dim] = v[j];
        }
    }
};

/* One piece of each.  Piece t of V holds, for its two dimensions, slots 2 q, 2 q + 1, 8 + 2 q and 9 + 2 q with q = t %
 * 4; the piece of the same dimensions that holds a source slot gives 8 bytes, its pair of slots in both dimensions. */
template <> struct page_part<__nv_bfloat16> {
    uint4 k;
    uint2 v[4];
    uint32_t pick[2]; /* byte selectors: which slot of the pair */

    __device__ __forceinline__ void load(const uintptr_t *src, int t, const kv_page_layout &l) {
        int per_slot = l.head_dim / 8, q = t % 4, odd[4];
        uintptr_t s = src[t / per_slot];
        k = ((const uint4 *)src_page(s))[src_slot(s) * per_slot + t % per_slot];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            s = src[j / 2 * 8 + 2 * q + j % 2];
            int slot = src_slot(s), piece = t - q + slot % 8 / 2;
            v[j] = ((const uint2 *)(src_page(s) + l.off_v))[piece * 2 + slot / 8];
            odd[j] = slot % 2;
        }
#pragma unroll
        for (int j = 0; j < 2; j++) pick[j] = (odd[2 * j] ? 0x32u : 0x10u) | (odd[2 * j + 1] ? 0x7600u : 0x5400u);
    }
    __device__ __forceinline__ void store(char *dst, int t, const kv_page_layout &l) const {
        ((uint4 *)dst)[t] = k;
        ((uint4 *)(dst + l.off_v))[t] =
            make_uint4(__byte_perm(v[0].x, v[1].x, pick[0]), __byte_perm(v[0].y, v[1].y, pick[0]),
                       __byte_perm(v[2].x, v[3].x, pick[1]), __byte_perm(v[2].y, v[3].y, pick[1]));
    }
};

/* K and V of n_pages pages; the next page's loads are under way while a page is stored. */
template <typename T> static __device__ void move_pages(const move_tile *m, int n_pages, const kv_page_layout &l) {
    int t = (int)threadIdx.x;
    bool active = t < 2 * l.head_dim;
    page_part<T> now, next;
    if (active) now.load(m->src, t, l);
    for (int p = 0; p < n_pages; p++) {
        bool more = active && p + 1 < n_pages;
        if (more) next.load(m->src + (p + 1) * KV_PAGE, t, l);
        __syncthreads();
        if (active) now.store(m->dst[p], t, l);
        if (more) now = next;
    }
}

/* One 32-bit field of n slots, at byte `off` of every page. */
static __device__ void move_words(const move_tile *m, int n, size_t off) {
    for (int base = 0; base < n; base += WORDS * (int)blockDim.x) {
        uint32_t x[WORDS];
#pragma unroll
        for (int j = 0; j < WORDS; j++) {
            int i = base + j * (int)blockDim.x + (int)threadIdx.x;
            if (i < n) x[j] = ((const uint32_t *)(src_page(m->src[i]) + off))[src_slot(m->src[i])];
        }
        __syncthreads();
#pragma unroll
        for (int j = 0; j < WORDS; j++) {
            int i = base + j * (int)blockDim.x + (int)threadIdx.x;
            if (i < n) ((uint32_t *)(m->dst[i / KV_PAGE] + off))[i % KV_PAGE] = x[j];
        }
    }
}

/* How many of the block's n kept slots have their own index already: a prefix. */
static __device__ int count_unmoved(const int32_t *kept, int n) {
    __shared__ int part[MOVE_THREADS / 32];
    int same = 0;
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) same += kept[i] == i;
    for (int o = 16; o; o /= 2) same += __shfl_xor_sync(~0u, same, o);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = same;
    __syncthreads();
    same = 0;
    for (int w = 0; w < (int)blockDim.x / 32; w++) same += part[w];
    return same;
}

/* Pages [first, end) of the head go to the stack of free pages. */
static __device__ void push_pages(const kv_cuda_reduce &r, void *const *pages, int first, int end) {
    __shared__ int at;
    if (first >= end) return;
    if (threadIdx.x == 0) at = atomicAdd(r.n_free, end - first);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < end - first; i += (int)blockDim.x) r.free_pages[at + i] = pages[first + i];
}

/* Moves the kept slots of a head to its front, in place, and gives back the pages behind them.
 * Launch: one block per head, 2 * head_dim threads rounded up to whole warps. */
template <typename T>
static __global__ void __launch_bounds__(MOVE_THREADS) compact_slots(const __grid_constant__ kv_cuda_reduce r) {
    __shared__ move_tile m;
    const kv_page_layout &l = r.heads.layout;
    kv_cuda_head v;
    int n = r.n_kept[blockIdx.x];
    if (n < 0 || !kv_cuda_head_find(r.heads, (int)blockIdx.x, &v)) return;
    const int32_t *kept = r.kept + v.row;
    int same = count_unmoved(kept, n);
    for (int base = same == n ? n : same / KV_PAGE * KV_PAGE; base < n; base += TILE) {
        int n_tile = min(TILE, n - base), n_pages = (n_tile + KV_PAGE - 1) / KV_PAGE;
        for (int i = (int)threadIdx.x; i < n_pages * KV_PAGE; i += (int)blockDim.x) {
            int from = kept[base + min(i, n_tile - 1)]; /* the last page's unused slots get copies of the last */
            m.src[i] = (uintptr_t)v.pages[from / KV_PAGE] | (uintptr_t)(from % KV_PAGE);
        }
        for (int i = (int)threadIdx.x; i < n_pages; i += (int)blockDim.x)
            m.dst[i] = (char *)v.pages[base / KV_PAGE + i];
        __syncthreads();
        move_words(&m, n_tile, l.off_pos);
        for (int c = 0; c < l.n_cols; c++) move_words(&m, n_tile, l.off_cols + (size_t)c * KV_PAGE * sizeof(float));
        move_pages<T>(&m, n_pages, l);
        __syncthreads();
    }
    push_pages(r, v.pages, (n + KV_PAGE - 1) / KV_PAGE, (v.n_slots + KV_PAGE - 1) / KV_PAGE);
    if (threadIdx.x) return;
    *v.n_slots_at = n;
    atomicAdd(&r.n_moved[v.seq], (unsigned long long)(n - same));
}

cudaError_t kv_cuda_compact_slots(const kv_cuda_reduce *r, cudaStream_t stream) {
    const kv_page_layout *l = &r->heads.layout;
    int n = kv_cuda_heads_count(&r->heads), threads = (2 * l->head_dim + 31) / 32 * 32;
    bool bf16 = l->type == KV_CACHE_BF16;
    if (n == 0) return cudaSuccess;
    if (threads > MOVE_THREADS || l->head_dim % (bf16 ? 16 : 4) || (!bf16 && l->type != KV_CACHE_F32))
        return cudaErrorInvalidValue;
    if (bf16)
        compact_slots<__nv_bfloat16><<<(unsigned)n, threads, 0, stream>>>(*r);
    else
        compact_slots<float><<<(unsigned)n, threads, 0, stream>>>(*r);
    return cudaGetLastError();
}
