/* attend_decode.cu - the fused decode step of one layer's attention: head norms, rotation, append, ring, attention.
 *
 * The step waits for this kernel in every layer, and most of its time is latency: so whatever does not depend on the
 * product in front (tables, angles, all slots but the newest) is fetched before that has ended, the newest slot reaches
 * the tensor core through shared memory and not through its page, and a block has as many splits of its head as let
 * the waves of blocks come out even. */
#include "engine/cuda/attend_decode.cuh"

#include "engine/cuda/attend_pages.cuh"
#include "engine/cuda/pdl.cuh"

static_assert(WARPS == COLUMNS, "a warp rotates the query of one column");

typedef struct decode_args {
    kv_cuda_decode_attend d;
    int splits, max_splits; /* of a block, of a head */
    float *parts;           /* (n, n_kv_heads, max_splits, part_floats) */
} decode_args;

/* What the rotation of a position needs and the kernels before this one do not write: fetched while they still run. */
template <int D> struct rotation {
    static constexpr int HALF = D / 2, EACH = (HALF + 31) / 32;
    float c[EACH], s[EACH], w0[EACH], w1[EACH]; /* cosine, sine, norm weights of both halves */
};

template <int D>
KV_DEVICE void load_rotation(const kv_cuda_decode_attend &a, int pos, const float *norm, rotation<D> &r) {
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

/* One head of D values, by one warp: bias (D) when not NULL, norm, rotation; to out and copy, bf16, and out32 (D each,
 * the last two may be NULL). */
template <int D>
KV_DEVICE void rotate_head(const kv_cuda_decode_attend &a, const float *x, const float *bias, int norm,
                           const rotation<D> &t, __nv_bfloat16 *out, __nv_bfloat16 *copy, float *out32) {
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
        __nv_bfloat16 y0 = __float2bfloat16_rn(u * t.c[j] - v * t.s[j]);
        __nv_bfloat16 y1 = __float2bfloat16_rn(v * t.c[j] + u * t.s[j]);
        out[i] = y0;
        out[i + HALF] = y1;
        if (copy) copy[i] = y0, copy[i + HALF] = y1;
        if (out32) out32[i] = __bfloat162float(y0), out32[i + HALF] = __bfloat162float(y1); /* as attention sees it */
    }
}

/* The newest slot of a head: K and V to its page, and to shared memory for the block's own attention.  By warps
 * WARPS - 3 to WARPS - 1. */
template <int D>
KV_DEVICE void append_token(const kv_cuda_decode_attend &a, int row, int kv_head, int at, int pos, char *page,
                            __nv_bfloat16 *sk, __nv_bfloat16 *sv) {
    int warp = threadIdx.x / 32;
    const float *qkv = a.qkv + (size_t)row * (a.n_heads + 2 * a.n_kv_heads) * D;
    const float *k = qkv + (size_t)(a.n_heads + kv_head) * D, *v = k + (size_t)a.n_kv_heads * D;
    const float *bias = a.bias ? a.bias + (size_t)(a.n_heads + kv_head) * D : NULL; /* of k; that of v as k and v lie */
    if (warp == WARPS - 1) {
        rotation<D> t;
        load_rotation<D>(a, pos, a.k_norm, t);
        rotate_head<D>(a, k, bias, a.k_norm != NULL, t, sk, (__nv_bfloat16 *)page + at * D, NULL);
    }
    if (warp >= WARPS - 3 && warp < WARPS - 1) {
        __nv_bfloat16 *dst = (__nv_bfloat16 *)(page + a.layout.off_v);
        for (int i = threadIdx.x - 32 * (WARPS - 3); i < D; i += 64) {
            float x = __ldcg(v + i);
            if (bias) x += bias[(size_t)a.n_kv_heads * D + i];
            sv[i] = dst[v_at<__nv_bfloat16>(D, at, i)] = __float2bfloat16_rn(x);
        }
    }
}

/* Slot `at` of the page in x, which was read before the slot was written. */
template <int D> KV_DEVICE void patch_page(page_regs<D> &x, int at, const __nv_bfloat16 *sk, const __nv_bfloat16 *sv) {
    const int lane = threadIdx.x % 32;
    if (lane / 4 == at % 8)
#pragma unroll
        for (int c = 0; c < D / 32; c++) {
            uint4 v = *(const uint4 *)(sk + 32 * c + 8 * (lane % 4));
            if (at < 8)
                x.k[0][c] = v;
            else
                x.k[1][c] = v;
        }
    if (lane % 4 != at % 8 / 2) return;
    const uint32_t shift = 16 * (at % 2), keep = at % 2 ? 0xffffu : 0xffff0000u;
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
        uint32_t lo = (uint32_t)__bfloat16_as_ushort(sv[16 * i + lane / 4]) << shift;
        uint32_t hi = (uint32_t)__bfloat16_as_ushort(sv[16 * i + 8 + lane / 4]) << shift;
        if (at < 8) {
            x.v[i].x = (x.v[i].x & keep) | lo;
            x.v[i].y = (x.v[i].y & keep) | hi;
        } else {
            x.v[i].z = (x.v[i].z & keep) | lo;
            x.v[i].w = (x.v[i].w & keep) | hi;
        }
    }
}

/* Launch: (blocks of a head, n_kv_heads, n) blocks of THREADS, PER_SM of them on a multiprocessor. */
template <int D, int PER_SM>
static __global__ void __launch_bounds__(THREADS, PER_SM) attend_decode(const __grid_constant__ decode_args a) {
    __shared__ __align__(16) __nv_bfloat16 sq[COLUMNS][D + 8], sk[D], sv[D];
    __shared__ __align__(16) warp_parts<D> sh;
    __shared__ __align__(16) partial own[COLUMNS * D / 2]; /* of a whole head: an entry belongs to one thread */
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = blockIdx.z, kv_head = blockIdx.y;
    const int group = a.d.n_heads / a.d.n_kv_heads, head = a.d.layer * a.d.n_kv_heads + kv_head;
    pdl_trigger();
    const int active = a.d.active[row], n_slots = __ldcg(a.d.n_slots + row * a.d.slots_stride + head);
    const kv_cuda_seq s = a.d.seqs[row];
    const int n_splits = count_splits(n_slots), last_page = (n_slots - 1) / KV_PAGE;
    const int first = blockIdx.x * a.splits, end = min(first + a.splits, n_splits);
    if (!active || first >= n_splits) return;
    const head_view table = {s.pages + (size_t)head * s.page_cap, n_slots};
    page_list list = list_pages(table, first, end);
    page_regs<D> x;
    int now = take_page(list);
    if (now < 32) load_page<D>(x, page_at(list, now), a.d.layout.off_v);
    if (list.todo) ask_page<D>(page_at(list, __ffs(list.todo) - 1), a.d.layout.off_v);
    const int pos = s.n_seen - 1;
    rotation<D> turn;
    load_rotation<D>(a.d, pos, a.d.q_norm, turn);
    char *newest = end == n_splits ? (char *)__ldcg((const unsigned long long *)table.pages + last_page) : NULL;
    const int at = (n_slots - 1) % KV_PAGE;

    pdl_wait();
    if (warp < group) {
        int h = kv_head * group + warp;
        const float *q = a.d.qkv + (size_t)row * (a.d.n_heads + 2 * a.d.n_kv_heads) * D + (size_t)h * D;
        float *ring = s.ring && first == 0
                          ? s.ring + (((size_t)a.d.layer * a.d.window + pos % a.d.window) * a.d.n_heads + h) * D
                          : NULL;
        const float *bias = a.d.bias ? a.d.bias + (size_t)h * D : NULL;
        rotate_head<D>(a.d, q, bias, a.d.q_norm != NULL, turn, sq[warp], NULL, ring);
    } else {
        for (int i = lane; i < D; i += 32) sq[warp][i] = __float2bfloat16_rn(0);
    }
    if (newest) append_token<D>(a.d, row, kv_head, at, pos, newest, sk, sv);
    __syncthreads();

    view w = {};
    w.q = (uint32_t)__cvta_generic_to_shared(&sq[lane / 4][8 * (lane % 4)]);
    w.seen[0] = 2 * (lane % 4) < group ? n_slots : 0;
    w.seen[1] = 2 * (lane % 4) + 1 < group ? n_slots : 0;
    w.n_slots = n_slots;
    w.scale = a.d.scale;
    const size_t heads = (size_t)row * a.d.n_heads + kv_head * group; /* the first of the group */
    if (a.d.scores) w.scores = a.d.scores + heads * a.d.score_stride;
    w.stride = a.d.score_stride;
    float *parts = a.parts + ((size_t)row * a.d.n_kv_heads + kv_head) * a.max_splits * part_floats(D);
    const int whole = first == 0 && end == n_splits, live = group * D / 2;
    for (int i = first; i < end; i++) {
        state<D> t;
        clear<D>(t);
        while (now < 32 && split_at(list, now) == i) {
            const int slot = slot_at(list, now);
            now = take_page(list);
            const char *then = page_at(list, now);
            if (slot / KV_PAGE == last_page) patch_page<D>(x, at, sk, sv);
            attend_page<D>(w, slot, x, then, a.d.layout.off_v, t);
        }
        if (i > first) __syncthreads(); /* all have read the split before */
        put_warp<D>(sh, t);
        __syncthreads();
        for (int k = threadIdx.x; k < live; k += THREADS) {
            const int c = k / (D / 2), d = k % (D / 2) * 2;
            partial p = merge_warps<D>(sh, c, d);
            if (whole) {
                partial before = i > first ? own[k] : no_part();
                merge_part(before, p);
                own[k] = before;
            } else {
                put_part<D>(parts + i * part_floats(D), c, d, p);
            }
        }
    }
    if (!whole && !arrive_last(a.d.counters + (size_t)row * a.d.n_kv_heads + kv_head, kv_cuda_ceil(n_splits, a.splits)))
        return;
    for (int k = threadIdx.x; k < live; k += THREADS) {
        const int c = k / (D / 2), d = k % (D / 2) * 2;
        const size_t to = kv_cuda_place(a.d.out_order, row, (kv_head * group + c) * D + d, a.d.n_heads * D);
        put_out(a.d.out + to, a.d.lse, heads + c, d, whole ? own[k] : merge_parts<D>(parts, n_splits, c, d));
    }
}

/* Blocks that run at once, of so many: small heads leave room for a third on a multiprocessor. */
template <int D> static int blocks_at_once(int blocks, int n_sm) {
    return (D <= 64 && blocks > 2 * n_sm ? 3 : 2) * n_sm;
}

/* What takes least time, if a wave of blocks takes that of the splits that a block has on average and of one more. Long
 * heads have large splits, and one a block shares the GPU best. */
template <int D> static int choose_splits(int heads, int max_splits, int n_sm) {
    int best = 1;
    float least = 0;
    if (max_splits > SPLITS_MOST) return 1;
    for (int most = 1; most <= max_splits; most++) {
        const int splits = kv_cuda_ceil(max_splits, most), of_head = kv_cuda_ceil(max_splits, splits);
        const int blocks = heads * of_head, waves = kv_cuda_ceil(blocks, blocks_at_once<D>(blocks, n_sm));
        const float time = waves * ((float)max_splits / of_head + 1);
        if (most == 1 || time < least) {
            best = splits;
            least = time;
        }
    }
    return best;
}

template <int D> static cudaError_t launch(decode_args a, int n_sm, cudaStream_t stream) {
    if (!a.splits) a.splits = choose_splits<D>(a.d.n * a.d.n_kv_heads, a.max_splits, n_sm);
    dim3 grid(kv_cuda_ceil(a.max_splits, a.splits), a.d.n_kv_heads, a.d.n);
    if constexpr (D <= 64)
        if (blocks_at_once<D>((int)(grid.x * grid.y * grid.z), n_sm) > 2 * n_sm)
            return pdl_launch(attend_decode<D, 3>, grid, dim3(THREADS), 0, 1, stream, a);
    return pdl_launch(attend_decode<D, 2>, grid, dim3(THREADS), 0, 1, stream, a);
}

size_t kv_cuda_decode_attend_scratch_bytes(int n, int n_kv_heads, int head_dim, int most_slots) {
    return (size_t)n * n_kv_heads * count_splits(most_slots) * part_floats(head_dim) * sizeof(float);
}

cudaError_t kv_cuda_decode_attend_slots(const kv_cuda_decode_attend *d, cudaStream_t stream) {
    decode_args a = {*d, d->splits, count_splits(d->most_slots), (float *)d->scratch};
    int n_sm = kv_cuda_multiprocessors();
    if (d->n_heads > d->n_kv_heads * KV_CUDA_GROUP_MAX || d->n * d->n_kv_heads > KV_CUDA_COUNTERS ||
        d->scratch_bytes < kv_cuda_decode_attend_scratch_bytes(d->n, d->n_kv_heads, d->head_dim, d->most_slots) ||
        d->splits < 0 || d->splits > SPLITS_MOST)
        return cudaErrorInvalidValue;
    if (!n_sm) return cudaErrorInvalidDevice;
    switch (d->head_dim) {
    case 32:
        return launch<32>(a, n_sm, stream);
    case 64:
        return launch<64>(a, n_sm, stream);
    case 96:
        return launch<96>(a, n_sm, stream);
    case 128:
        return launch<128>(a, n_sm, stream);
    }
    return cudaErrorInvalidValue;
}
