/* evict.cu - the reduction: scores of the policy (on the device, or by its definition on the host), the shared
 * selector, compaction. */
#include "engine/cuda/engine.cuh"
#include "policies/heads.cuh"

#include <stdlib.h>

static size_t heads_of(const kv_cuda_runner *r) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    return (size_t)s->n_layers * s->n_kv_heads;
}

static int stride_of(int most_slots) {
    return (most_slots + 31) / 32 * 32;
}

static int sees_queries(const kv_cuda_runner *r) {
    return (r->setup->policy->needs & KV_NEED_QUERIES) != 0;
}

kv_cuda_evict_sizes kv_cuda_evict_bytes(const kv_cuda_runner *r, int n, int most_slots) {
    if (r->pooling.size > 1) n = 1;
    size_t heads = n * heads_of(r), slots = heads * stride_of(most_slots);
    size_t scratch = sees_queries(r) && !r->host_score ? slots * (r->columns->window + 2) * sizeof(float) : 0;
    return {slots * sizeof(float), (slots + heads) * sizeof(int32_t), scratch};
}

int kv_cuda_evict_prepare(kv_cuda_runner *r, int n, int most_slots, kv_error *err) {
    kv_cuda_evict_sizes e = kv_cuda_evict_bytes(r, n, most_slots);
    int rc = kv_cuda_grow(r, &r->score, KV_USE_WORKSPACE, e.score, "scores", err);
    if (rc == KV_OK) rc = kv_cuda_grow(r, &r->kept, KV_USE_WORKSPACE, e.kept, "kept slots", err);
    if (rc == KV_OK)
        rc = kv_cuda_grow(r, &r->score_scratch, KV_USE_WORKSPACE, e.scratch, "the scores of recent queries", err);
    return rc;
}

kv_cuda_heads kv_cuda_evict_heads(const kv_cuda_runner *r, const int32_t *seq_of, int n, int at, int most_slots) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    kv_cuda_heads h = {};
    h.layout = r->layout;
    h.seqs = r->seqs;
    h.seq_of = seq_of;
    h.n = n;
    h.n_layers = s->n_layers;
    h.n_kv_heads = s->n_kv_heads;
    h.group = s->n_heads / s->n_kv_heads;
    h.head_dim = s->head_dim;
    h.window = r->columns->window;
    h.at = at;
    h.budget = r->setup->budget;
    h.score = (float *)r->score.p;
    h.stride = stride_of(most_slots);
    h.first_stat = r->columns->n_sets ? r->columns->first[0] : 0;
    h.stream = r->b->stream;
    h.scratch = (float *)r->score_scratch.p;
    h.scratch_floats = r->score_scratch.bytes / sizeof(float);
    return h;
}

/* Heads with a score that is no number were left out, and the host hears of it a step later.  Until then they must hold
 * as many slots as the host counts, so they keep their newest.  Launch: one block a head. */
static __global__ void keep_newest(const __grid_constant__ kv_cuda_reduce r) {
    kv_cuda_head v;
    if (r.n_kept[blockIdx.x] >= 0 || !kv_cuda_head_find(r.heads, (int)blockIdx.x, &v)) return;
    int n = r.heads.budget;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) r.kept[v.row + i] = v.n_slots - n + i;
    __syncthreads();
    if (threadIdx.x == 0) r.n_kept[blockIdx.x] = n;
}

kv_cuda_reduce kv_cuda_evict_reduce(const kv_cuda_runner *r, const kv_cuda_heads *h) {
    kv_cuda_reduce d = {};
    d.heads = *h;
    if (r->setup->policy->protect) r->setup->policy->protect(r->setup->state, &d.n_sink, &d.n_recent);
    d.kept = (int32_t *)r->kept.p;
    d.n_kept = d.kept + (size_t)h->n * heads_of(r) * h->stride;
    d.free_pages = r->free_pages;
    d.n_free = r->n_free;
    d.n_moved = r->n_moved;
    d.bad = r->bad;
    return d;
}

static cudaError_t select_compact(kv_cuda_runner *r, const kv_cuda_heads *h) {
    kv_cuda_reduce d = kv_cuda_evict_reduce(r, h);
    cudaError_t rc = kv_cuda_select_slots(&d, r->b->stream);
    if (rc != cudaSuccess) return rc;
    keep_newest<<<(unsigned)kv_cuda_heads_count(h), 128, 0, r->b->stream>>>(d);
    rc = cudaGetLastError();
    return rc == cudaSuccess ? kv_cuda_compact_slots(&d, r->b->stream) : rc;
}

cudaError_t kv_cuda_evict_enqueue(kv_cuda_runner *r, const int32_t *seq_of, int n, int at, int most_slots) {
    kv_cuda_heads h = kv_cuda_evict_heads(r, seq_of, n, at, most_slots);
    cudaError_t rc = (cudaError_t)r->setup->policy->score_cuda(r->setup->state, &h);
    return rc == cudaSuccess ? select_compact(r, &h) : rc;
}

/* Positions of every head of a row, (n_layers, n_kv_heads, slots), to the host. */
static int read_positions(kv_cuda_runner *r, int row, int slots, int32_t *out, kv_error *err) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    cudaError_t rc = cudaSuccess;
    for (int l = 0; l < s->n_layers; l++)
        for (int h = 0; rc == cudaSuccess && h < s->n_kv_heads; h++) {
            rc = kv_cuda_gather_head(r->seqs, row, &r->layout, l, h, s->n_kv_heads, slots, NULL, NULL,
                                     (int32_t *)r->score.p, NULL, r->b->stream);
            if (rc == cudaSuccess)
                rc = cudaMemcpyAsync(out + ((size_t)l * s->n_kv_heads + h) * slots, r->score.p, slots * sizeof *out,
                                     cudaMemcpyDeviceToHost, r->b->stream);
        }
    if (rc == cudaSuccess) rc = cudaStreamSynchronize(r->b->stream);
    return rc == cudaSuccess ? KV_OK : kv_cuda_failed(rc, "positions for the trace", err);
}

static void tell(kv_cuda_runner *r, int row, const kv_trace *trace, const int32_t *before, int n_before,
                 const int32_t *kept, int n_kept) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    const kv_seq *q = r->rows[row].seq;
    for (int l = 0; l < s->n_layers; l++)
        for (int h = 0; h < s->n_kv_heads; h++) {
            size_t head = (size_t)l * s->n_kv_heads + h;
            trace->on_evict(trace->user, q->request_user, l, h, q->n_seen, before + head * n_before, n_before,
                            kept + head * n_kept, n_kept);
        }
}

/* One row, with what the trace wants to know read before and after. */
static int evict_row(kv_cuda_runner *r, int32_t row, int at, const kv_trace *trace, kv_error *err) {
    int slots = r->rows[row].slots, budget = r->setup->budget;
    int32_t *before = NULL, *kept = NULL;
    int rc = kv_cuda_evict_prepare(r, 1, slots, err);
    if (rc == KV_OK && trace) {
        before = (int32_t *)malloc(heads_of(r) * slots * sizeof *before);
        kept = (int32_t *)malloc(heads_of(r) * budget * sizeof *kept);
        rc = before && kept ? read_positions(r, row, slots, before, err)
                            : kv_fail(err, KV_ENOMEM, "out of memory for the trace");
    }
    cudaError_t c = cudaSuccess;
    if (rc == KV_OK) c = cudaMemcpyAsync(r->list, &row, sizeof row, cudaMemcpyHostToDevice, r->b->stream);
    if (rc == KV_OK && c == cudaSuccess && r->host_score) {
        kv_cuda_heads h = kv_cuda_evict_heads(r, r->list, 1, at, slots);
        rc = kv_cuda_score_on_host(r, &h, &row, 1, err);
        if (rc == KV_OK) c = select_compact(r, &h);
    } else if (rc == KV_OK && c == cudaSuccess) {
        c = kv_cuda_evict_enqueue(r, r->list, 1, at, slots);
    }
    if (rc == KV_OK && c != cudaSuccess) rc = kv_cuda_failed(c, "eviction", err);
    if (rc == KV_OK && trace) rc = read_positions(r, row, budget, kept, err);
    if (rc == KV_OK && trace) tell(r, row, trace, before, slots, kept, budget);
    free(before);
    free(kept);
    if (rc == KV_OK) kv_cuda_row_reduced(r, row, budget);
    return rc;
}

int kv_cuda_evict_rows(kv_cuda_runner *r, const int32_t *rows, const int *at, int n, const kv_trace *trace,
                       kv_error *err) {
    const kv_trace *told = trace && trace->on_evict ? trace : NULL;
    for (int i = 0; i < n; i++) {
        int slots = kv_cuda_row_trigger_slots(r, rows[i]), shared = r->pooling.size > 1;
        if (at[i] <= 0 || slots < at[i] || slots <= r->setup->budget) continue;
        int rc = shared ? kv_cuda_evict_pooled(r, rows[i], at[i], told, err) : evict_row(r, rows[i], at[i], told, err);
        if (rc) return rc;
    }
    return KV_OK;
}
