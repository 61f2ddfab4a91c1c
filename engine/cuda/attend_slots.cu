/* attend_slots.cu - bf16 attention of a few rows per sequence over the paged cache (attend_pages.cuh): the chunks of a
 * streamed prompt, whose slots are there already. */
#include "engine/cuda/attend_pages.cuh"

typedef struct slots_args {
    kv_cuda_attend d;
    int groups_per_seg, first_unit, max_splits; /* units: the launch's first column group */
    float *parts;                               /* (units, n_kv_heads, max_splits, part_floats) */
} slots_args;

/* What a block works on. */
typedef struct work {
    int row, n_rows; /* rows of the segment */
    int col, n_cols; /* first column of the block, columns of the segment: column = token * group + head */
    int n_slots, kv_head, group;
} work;

/* Last visible slot + 1 of the block's column c (0 for columns that do not exist). */
KV_DEVICE int visible(const work &w, int c) {
    c += w.col;
    return c < w.n_cols ? w.n_slots - w.n_rows + c / w.group + 1 : 0;
}

/* Where column c of the block goes: index of its first output, (row, head). */
KV_DEVICE size_t out_head(const slots_args &a, const work &w, int c) {
    int col = w.col + c;
    return (size_t)(w.row + col / w.group) * a.d.n_heads + w.kv_head * w.group + col % w.group;
}

template <int D> KV_DEVICE void load_queries(const slots_args &a, const work &w, __nv_bfloat16 (*sq)[D + 8]) {
    for (int i = threadIdx.x; i < COLUMNS * D / 8; i += THREADS) {
        int c = i / (D / 8), d = i % (D / 8) * 8, col = w.col + c;
        uint4 v = make_uint4(0, 0, 0, 0);
        if (col < w.n_cols)
            v = *(const uint4 *)((const __nv_bfloat16 *)a.d.q + (size_t)(w.row + col / w.group) * a.d.q_stride +
                                 (size_t)(w.kv_head * w.group + col % w.group) * D + d);
        *(uint4 *)&sq[c][d] = v;
    }
}

/* Launch: (most splits, n_kv_heads, units) blocks of THREADS.  A unit is a column group of a segment. */
template <int D>
static __global__ void __launch_bounds__(THREADS, 2) attend_slots(const __grid_constant__ slots_args a) {
    __shared__ __align__(16) __nv_bfloat16 sq[COLUMNS][D + 8];
    __shared__ __align__(16) warp_parts<D> sh;
    const int lane = threadIdx.x % 32, unit = blockIdx.z, split = blockIdx.x;
    const int group = a.d.n_heads / a.d.n_kv_heads;
    const kv_cuda_segment g = a.d.segs[(a.first_unit + unit) / a.groups_per_seg];
    work w = {g.row, g.n, (a.first_unit + unit) % a.groups_per_seg * COLUMNS, g.n * group, 0, (int)blockIdx.y, group};
    if (w.col >= w.n_cols) return;
    const head_view head = view_head(a.d.seqs + g.seq, a.d.layer, w.kv_head, a.d.n_kv_heads);
    w.n_slots = head.n_slots;
    const int n_splits = count_splits(w.n_slots);
    if (split >= n_splits) return;
    load_queries<D>(a, w, sq);
    __syncthreads();

    view v = {};
    v.q = (uint32_t)__cvta_generic_to_shared(&sq[lane / 4][8 * (lane % 4)]);
    v.seen[0] = visible(w, 2 * (lane % 4));
    v.seen[1] = visible(w, 2 * (lane % 4) + 1);
    v.n_slots = w.n_slots;
    v.scale = a.d.scale;
    page_regs<D> x;
    state<D> t;
    clear<D>(t);
    page_list list = list_pages(head, split, split + 1);
    int now = take_page(list);
    if (now < 32) load_page<D>(x, page_at(list, now), a.d.layout.off_v);
    while (now < 32) {
        const int slot = slot_at(list, now);
        now = take_page(list);
        attend_page<D>(v, slot, x, page_at(list, now), a.d.layout.off_v, t);
    }
    put_warp<D>(sh, t);
    __syncthreads();
    const int live = min(COLUMNS, w.n_cols - w.col) * D / 2;
    float *parts = a.parts + ((size_t)unit * a.d.n_kv_heads + w.kv_head) * a.max_splits * part_floats(D);
    __nv_bfloat16 *out = (__nv_bfloat16 *)a.d.out;
    for (int i = threadIdx.x; i < live; i += THREADS) {
        const int c = i / (D / 2), d = i % (D / 2) * 2;
        partial p = merge_warps<D>(sh, c, d);
        if (n_splits == 1)
            put_out(out + out_head(a, w, c) * D + d, a.d.lse, out_head(a, w, c), d, p);
        else
            put_part<D>(parts + split * part_floats(D), c, d, p);
    }
    if (n_splits == 1 || !arrive_last(a.d.counters + (size_t)unit * a.d.n_kv_heads + w.kv_head, n_splits)) return;
    for (int i = threadIdx.x; i < live; i += THREADS) {
        const int c = i / (D / 2), d = i % (D / 2) * 2;
        put_out(out + out_head(a, w, c) * D + d, a.d.lse, out_head(a, w, c), d, merge_parts<D>(parts, n_splits, c, d));
    }
}

static int units_of(int n_segs, int most_rows, int group) {
    return n_segs * ((most_rows * group + COLUMNS - 1) / COLUMNS);
}

/* Less will do, down to one unit: they are then done one group after the other. */
size_t kv_cuda_attend_scratch_bytes(int n_segs, int most_rows, int n_heads, int n_kv_heads, int head_dim,
                                    int most_slots) {
    size_t units = (size_t)units_of(n_segs, most_rows, n_heads / n_kv_heads);
    return units * n_kv_heads * count_splits(most_slots) * part_floats(head_dim) * sizeof(float);
}

static cudaError_t launch(const slots_args *a, int units, cudaStream_t stream) {
    dim3 grid(a->max_splits, a->d.n_kv_heads, units);
    switch (a->d.head_dim) {
    case 32:
        attend_slots<32><<<grid, THREADS, 0, stream>>>(*a);
        return cudaGetLastError();
    case 64:
        attend_slots<64><<<grid, THREADS, 0, stream>>>(*a);
        return cudaGetLastError();
    case 96:
        attend_slots<96><<<grid, THREADS, 0, stream>>>(*a);
        return cudaGetLastError();
    case 128:
        attend_slots<128><<<grid, THREADS, 0, stream>>>(*a);
        return cudaGetLastError();
    }
    return cudaErrorInvalidValue;
}

/* Units that scratch and counters have room for at once. */
static int units_at_once(const slots_args *a) {
    enum { GRID_Z = 65535 };
    size_t each = (size_t)a->d.n_kv_heads * a->max_splits * part_floats(a->d.head_dim) * sizeof(float);
    size_t n = a->d.scratch_bytes / each, most = (size_t)KV_CUDA_COUNTERS / a->d.n_kv_heads;
    if (n > most) n = most;
    return n > GRID_Z ? GRID_Z : (int)n;
}

cudaError_t kv_cuda_attend_slots(const kv_cuda_attend *d, cudaStream_t stream) {
    int group = d->n_heads / d->n_kv_heads, units = units_of(d->n_segs, d->most_rows, group);
    slots_args a = {*d, units / d->n_segs, 0, count_splits(d->most_slots), (float *)d->scratch};
    if (group > KV_CUDA_GROUP_MAX) return cudaErrorInvalidValue;
    int most = units_at_once(&a);
    cudaError_t rc = most ? cudaSuccess : cudaErrorInvalidValue;
    for (; rc == cudaSuccess && a.first_unit < units; a.first_unit += most)
        rc = launch(&a, units - a.first_unit < most ? units - a.first_unit : most, stream);
    return rc;
}
