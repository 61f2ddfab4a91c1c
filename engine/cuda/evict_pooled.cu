/* evict_pooled.cu - the reduction where heads share a budget (engine/pooled.h).
 *
 * Scores are computed where the policy computes them, and come to the host with the positions; the selection is the
 * CPU's own function; what stays goes up and is compacted on the device.  The stream waits for the host once per
 * reduction, and the host knows every head's length from then on without reading it back. */
#include "engine/cuda/engine.cuh"
#include "policies/heads.cuh"

#include <stdlib.h>

/* One row's scores, positions and what stays, on the host: (heads, stride) each. */
typedef struct table {
    int n_heads, stride;
    kv_select_head *heads;
    float *score;
    int32_t *pos, *kept, *n_kept, *select; /* n_kept (heads) behind kept; negative: the head is left alone */
} table;

static int table_open(table *t, const kv_cuda_runner *r, int32_t row, int stride, kv_error *err) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    *t = (table){s->n_layers * s->n_kv_heads, stride, NULL, NULL, NULL, NULL, NULL, NULL};
    size_t n = t->n_heads, slots = n * stride;
    t->heads = (kv_select_head *)malloc(n * sizeof *t->heads);
    t->score = (float *)malloc(slots * sizeof *t->score);
    t->pos = (int32_t *)malloc((3 * slots + n) * sizeof *t->pos);
    if (!t->heads || !t->score || !t->pos)
        return kv_fail(err, KV_ENOMEM, "out of memory for the scores of an eviction");
    t->kept = t->pos + slots;
    t->n_kept = t->kept + slots;
    t->select = t->n_kept + n;
    for (size_t i = 0; i < n; i++) {
        t->heads[i] = (kv_select_head){t->score + i * stride, t->pos + i * stride, r->rows[row].heads[i],
                                       t->kept + i * stride, r->rows[row].heads[i]};
        t->n_kept[i] = -1;
    }
    return KV_OK;
}

static void table_close(table *t) {
    free(t->heads);
    free(t->score);
    free(t->pos);
}

/* Positions of every slot, laid out as the scores.  Launch: one block a head. */
static __global__ void gather_positions(const __grid_constant__ kv_cuda_heads h, int32_t *pos) {
    kv_cuda_head v;
    if (!kv_cuda_head_find(h, (int)blockIdx.x, &v)) return;
    for (int i = (int)threadIdx.x; i < v.n_slots; i += (int)blockDim.x) pos[v.row + i] = kv_cuda_pos(h, v, i);
}

/* Scores and positions of all heads to the host. */
static int bring(kv_cuda_runner *r, const kv_cuda_heads *h, int32_t row, const table *t, kv_error *err) {
    size_t slots = (size_t)t->n_heads * t->stride;
    cudaStream_t stream = r->b->stream;
    int32_t *pos = (int32_t *)r->kept.p;
    cudaError_t c = cudaMemcpyAsync(r->list, &row, sizeof row, cudaMemcpyHostToDevice, stream);
    int rc = c == cudaSuccess && r->host_score ? kv_cuda_score_on_host(r, h, &row, 1, err) : KV_OK;
    if (rc) return rc;
    if (c == cudaSuccess && !r->host_score) c = (cudaError_t)r->setup->policy->score_cuda(r->setup->state, h);
    if (c == cudaSuccess) {
        gather_positions<<<(unsigned)t->n_heads, 128, 0, stream>>>(*h, pos);
        c = cudaGetLastError();
    }
    if (c == cudaSuccess)
        c = cudaMemcpyAsync(t->score, h->score, slots * sizeof(float), cudaMemcpyDeviceToHost, stream);
    if (c == cudaSuccess) c = cudaMemcpyAsync(t->pos, pos, slots * sizeof *pos, cudaMemcpyDeviceToHost, stream);
    if (c == cudaSuccess) c = cudaStreamSynchronize(stream);
    return kv_cuda_check(c, "the scores of an eviction", err);
}

/* A score is no number: the host hears of it with a later result, as from the device's own selection.  Until then every
 * head keeps its newest. */
static int keep_newest(kv_cuda_runner *r, int32_t row, const table *t, int bad_head, kv_error *err) {
    int32_t bad = 1 + bad_head;
    for (int i = 0; i < t->n_heads; i++) {
        kv_select_head *h = &t->heads[i];
        t->n_kept[i] = h->n_kept = h->n_slots < r->setup->budget ? h->n_slots : r->setup->budget;
        for (int k = 0; k < h->n_kept; k++) h->kept[k] = h->n_slots - h->n_kept + k;
    }
    return kv_cuda_check(cudaMemcpyAsync(r->bad + row, &bad, sizeof bad, cudaMemcpyHostToDevice, r->b->stream),
                         "an eviction", err);
}

static int choose(kv_cuda_runner *r, int32_t row, const table *t, int at, kv_error *err) {
    int size = r->pooling.size, bad = 0;
    for (int first = 0; first < t->n_heads; first += size) {
        int64_t held = 0;
        for (int i = first; i < first + size; i++) held += t->heads[i].n_slots;
        int slots = kv_pooled_slots(held, size);
        if (slots < at || slots <= r->setup->budget) continue;
        if (kv_pooled_select(r->setup, r->pooling, t->heads + first, t->select, &bad))
            return keep_newest(r, row, t, first + bad, err);
        for (int i = first; i < first + size; i++) t->n_kept[i] = t->heads[i].n_kept;
    }
    return KV_OK;
}

static int put(kv_cuda_runner *r, const kv_cuda_heads *h, const table *t, kv_error *err) {
    kv_cuda_reduce d = kv_cuda_evict_reduce(r, h);
    size_t n = (size_t)t->n_heads * t->stride + t->n_heads;
    cudaError_t c = cudaMemcpyAsync(d.kept, t->kept, n * sizeof *t->kept, cudaMemcpyHostToDevice, r->b->stream);
    if (c == cudaSuccess) c = kv_cuda_compact_slots(&d, r->b->stream);
    return kv_cuda_check(c, "eviction", err);
}

static void tell(const kv_cuda_runner *r, int row, const kv_trace *trace, const table *t) {
    const kv_seq *q = r->rows[row].seq;
    int n_kv_heads = r->base.engine->model.info.shape.n_kv_heads;
    for (int i = 0; i < t->n_heads; i++) {
        const kv_select_head *h = &t->heads[i];
        if (t->n_kept[i] < 0) continue;
        for (int k = 0; k < h->n_kept; k++) t->select[k] = h->pos[h->kept[k]];
        trace->on_evict(trace->user, q->request_user, i / n_kv_heads, i % n_kv_heads, q->n_seen, h->pos, h->n_slots,
                        t->select, h->n_kept);
    }
}

int kv_cuda_evict_pooled(kv_cuda_runner *r, int32_t row, int at, const kv_trace *trace, kv_error *err) {
    int most = r->rows[row].slots, rc = kv_cuda_evict_prepare(r, 1, most, err);
    table t = {};
    if (rc) return rc;
    kv_cuda_heads h = kv_cuda_evict_heads(r, r->list, 1, 0, most);
    h.budget = -1; /* every head takes part, an empty one too */
    rc = table_open(&t, r, row, h.stride, err);
    if (rc == KV_OK) rc = bring(r, &h, row, &t, err);
    if (rc == KV_OK) rc = choose(r, row, &t, at, err);
    if (rc == KV_OK) rc = put(r, &h, &t, err);
    if (rc == KV_OK && trace) tell(r, row, trace, &t);
    if (rc == KV_OK) kv_cuda_row_reduced_heads(r, row, t.n_kept);
    table_close(&t);
    return rc;
}
