/* runner.cu - the generation loop's view of the GPU (runner.h): sequences, steps one behind, results in pinned memory.
 */
#include "engine/cuda/engine.cuh"

#include <math.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include "engine/sampler.h"
}

int kv_cuda_evicts(const kv_cuda_runner *r) {
    return r->setup && !r->setup->policy->never_evicts;
}

/* ---- decode steps in a row are timed together -------------------------------------------------------------------- */

static void begin_burst(kv_cuda_runner *r) {
    if (!r->in_burst) cudaEventRecord(r->burst_start, r->b->stream);
    r->in_burst = 1;
}

/* Other work comes: the device time of the steps so far is taken (this waits for them). */
static void end_burst(kv_cuda_runner *r) {
    float ms = 0;
    if (!r->in_burst) return;
    r->in_burst = 0;
    cudaEventRecord(r->burst_end, r->b->stream);
    if (cudaEventSynchronize(r->burst_end) == cudaSuccess &&
        cudaEventElapsedTime(&ms, r->burst_start, r->burst_end) == cudaSuccess)
        r->decode_s += ms / 1e3;
}

/* ---- open and close --------------------------------------------------------------------------------------------- */

static void close_runner(kv_runner *base) {
    kv_cuda_runner *r = kv_cuda_runner_of(base);
    if (!r) return;
    kv_cuda_backend *b = r->b;
    const kv_shape *s = &base->engine->model.info.shape;
    cudaStreamSynchronize(b->stream);
    /* what L2 was asked to keep (common.cuh) must not take its place in the measurement that comes next */
    if (r->scores.p && cudaCtxResetPersistingL2Cache() != cudaSuccess) cudaGetLastError();
    kv_cuda_drop_graphs(r);
    kv_cuda_pool_free(r);
    for (int i = 0; r->rows && i < r->max_seqs; i++)
        kv_cuda_give(b, KV_USE_WORKSPACE, r->rows[i].pages,
                     (size_t)s->n_layers * s->n_kv_heads * r->rows[i].page_cap * sizeof(void *));
    kv_cuda_buffer *const workspaces[] = {&r->ring_memory,    &r->logits_memory, &r->decode,   &r->attend_scratch,
                                          &r->sample_scratch, &r->scores,        &r->kept,     &r->score,
                                          &r->score_scratch,  &r->prompt,        &r->segments, &r->mass,
                                          &r->prompt_scratch, &r->last,          &r->gathered};
    for (size_t i = 0; i < sizeof workspaces / sizeof *workspaces; i++)
        kv_cuda_give(b, KV_USE_WORKSPACE, workspaces[i]->p, workspaces[i]->bytes);
    kv_cuda_give(b, KV_USE_WORKSPACE, r->state, r->state_bytes);
    for (int i = 0; i < KV_CUDA_FLIGHTS; i++)
        if (r->flights[i].done) cudaEventDestroy(r->flights[i].done);
    if (r->burst_start) cudaEventDestroy(r->burst_start);
    if (r->burst_end) cudaEventDestroy(r->burst_end);
    if (r->published) cudaFreeHost(r->published);
    free(r->rows);
    free(r->head_slots);
    free(r);
}

/* Every array of one entry per row, cut out of one allocation that starts as zeros. */
static size_t cut_state(kv_cuda_runner *r, size_t n, char *base) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    size_t at = 0;
    const struct {
        void **p;
        size_t bytes;
    } want[] = {
        {(void **)&r->seqs, n * sizeof *r->seqs},
        {(void **)&r->hash, n * sizeof *r->hash},
        {(void **)&r->n_moved, n * sizeof *r->n_moved},
        {(void **)&r->sampling, n * sizeof *r->sampling},
        {(void **)&r->active, n * sizeof(int32_t)},
        {(void **)&r->skip, n * sizeof(int32_t)},
        {(void **)&r->seq_of, n * sizeof(int32_t)},
        {(void **)&r->once, n * sizeof(int32_t)},
        {(void **)&r->token, n * sizeof(int32_t)},
        {(void **)&r->step, n * sizeof(int32_t)},
        {(void **)&r->bad, n * sizeof(int32_t)},
        {(void **)&r->n_published, sizeof(int32_t)},
        {(void **)&r->n_free, sizeof(int32_t)},
        {(void **)&r->list, 8 * n * sizeof(int32_t)},
        {(void **)&r->pair, 2 * sizeof *r->pair},
        {(void **)&r->n_slots, n * s->n_layers * s->n_kv_heads * sizeof(int32_t)},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        *want[i].p = base + at;
        at += (want[i].bytes + 255) & ~(size_t)255;
    }
    return at;
}

size_t kv_cuda_state_bytes(const kv_cuda_runner *r, int n) {
    kv_cuda_runner counted = *r;
    return cut_state(&counted, (size_t)n, NULL);
}

size_t kv_cuda_logits_bytes(const kv_cuda_runner *r, int n) {
    return (size_t)n * r->base.engine->model.info.n_vocab * sizeof(float);
}

size_t kv_cuda_rings_bytes(const kv_cuda_runner *r, int n) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    return (size_t)n * s->n_layers * r->columns->window * s->n_heads * s->head_dim * sizeof(float);
}

/* Launch: one thread a row. */
static __global__ void init_seqs(kv_cuda_seq *seqs, int n, int32_t *n_slots, int n_heads, float *rings, size_t ring) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    kv_cuda_seq s = {};
    s.n_slots = n_slots + (size_t)i * n_heads;
    s.ring = rings ? rings + i * ring : NULL;
    seqs[i] = s;
}

static int open_state(kv_cuda_runner *r, kv_error *err) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    size_t ring = (size_t)s->n_layers * r->columns->window * s->n_heads * s->head_dim;
    r->state_bytes = kv_cuda_state_bytes(r, r->max_seqs);
    int rc = kv_cuda_take(r->b, KV_USE_WORKSPACE, r->state_bytes, "the state of a batch", &r->state, err);
    if (rc) {
        r->state_bytes = 0;
        return rc;
    }
    cut_state(r, r->max_seqs, (char *)r->state);
    rc = kv_cuda_check(cudaMemsetAsync(r->state, 0, r->state_bytes, r->b->stream), "state", err);
    if (rc == KV_OK)
        rc = kv_cuda_grow(r, &r->logits_memory, KV_USE_WORKSPACE, kv_cuda_logits_bytes(r, r->max_seqs), "logits", err);
    if (rc == KV_OK)
        rc = kv_cuda_grow(r, &r->ring_memory, KV_USE_WORKSPACE, kv_cuda_rings_bytes(r, r->max_seqs), "recent queries",
                          err);
    if (rc) return rc;
    r->logits = (float *)r->logits_memory.p;
    r->rings = (float *)r->ring_memory.p;
    init_seqs<<<(r->max_seqs + 127) / 128, 128, 0, r->b->stream>>>(r->seqs, r->max_seqs, r->n_slots,
                                                                   s->n_layers * s->n_kv_heads, r->rings, ring);
    return kv_cuda_check(cudaGetLastError(), "state", err);
}

/* How each set of columns is filled. */
static int open_columns(kv_cuda_runner *r, kv_error *err) {
    const kv_gates *gates = NULL;
    for (int i = 0; i < r->columns->n_sets; i++) {
        const kv_setup *s = r->columns->sets[i];
        int stat = s->policy->gate_stat && s->gates ? s->policy->gate_stat(s->state) : -1;
        if (stat >= 0 && gates && gates != s->gates) stat = -1;
        r->sets[i] = (kv_cuda_set){r->columns->first[i], stat < 0 ? -1 : r->columns->first[i] + stat};
        if (stat < 0) {
            r->host_sets++;
        } else {
            gates = s->gates;
            r->gated = 1;
        }
    }
    return gates ? kv_cuda_bind_gates(r->base.engine, gates, err) : KV_OK;
}

int kv_cuda_setup_on_device(const kv_backend *b, const kv_setup *s) {
    const kv_policy *p = s->policy;
    (void)b;
    if (p->never_evicts) return 1;
    return p->score_cuda && (!p->n_stats || (p->gate_stat && s->gates && p->gate_stat(s->state) >= 0));
}

static int open_host(kv_cuda_runner *r, kv_error *err) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    size_t n = r->max_seqs, heads = (size_t)s->n_layers * s->n_kv_heads;
    int shared = r->pooling.size > 1;
    r->rows = (kv_cuda_row *)calloc(n, sizeof *r->rows);
    if (shared) r->head_slots = (int32_t *)calloc(n * heads, sizeof *r->head_slots);
    if (!r->rows || (shared && !r->head_slots))
        return kv_fail(err, KV_ENOMEM, "out of memory for a batch of %d", r->max_seqs);
    for (size_t i = 0; shared && i < n; i++) r->rows[i].heads = r->head_slots + i * heads;
    cudaError_t c =
        cudaHostAlloc(&r->published, (size_t)KV_CUDA_FLIGHTS * r->max_seqs * sizeof *r->published, cudaHostAllocMapped);
    for (int i = 0; c == cudaSuccess && i < KV_CUDA_FLIGHTS; i++)
        c = cudaEventCreateWithFlags(&r->flights[i].done, cudaEventDisableTiming);
    if (c == cudaSuccess) c = cudaEventCreate(&r->burst_start);
    if (c == cudaSuccess) c = cudaEventCreate(&r->burst_end);
    return kv_cuda_check(c, "pinned memory", err);
}

/* ---- sequences -------------------------------------------------------------------------------------------------- */

static int seq_open(kv_runner *base, kv_seq *s, const kv_sampling *p, int max_slots, kv_error *err) {
    kv_cuda_runner *r = kv_cuda_runner_of(base);
    kv_cuda_row *w = &r->rows[s->row];
    kv_cuda_sampling sampling = {p->temperature, p->top_p, p->min_p, p->top_k, p->seed};
    cudaStream_t stream = r->b->stream;
    int row = s->row, rc = kv_cuda_row_open(r, row, max_slots, err);
    if (rc) return rc;
    int kept = kv_cuda_evicts(r) ? r->setup->budget + r->setup->buffer : max_slots;
    w->seq = s;
    w->decode_slots = kept < max_slots ? kept : max_slots;
    s->device = w;
    cudaError_t c = cudaMemcpyAsync(r->sampling + row, &sampling, sizeof sampling, cudaMemcpyHostToDevice, stream);
    if (c == cudaSuccess) c = cudaMemsetAsync(r->step + row, 0, sizeof *r->step, stream);
    if (c == cudaSuccess) c = cudaMemsetAsync(r->bad + row, 0, sizeof *r->bad, stream);
    if (c == cudaSuccess) c = cudaMemsetAsync(r->hash + row, 0, sizeof *r->hash, stream);
    if (c == cudaSuccess) c = cudaMemsetAsync(r->n_moved + row, 0, sizeof *r->n_moved, stream);
    return kv_cuda_check(c, "a sequence", err);
}

static void seq_close(kv_runner *base, kv_seq *s) {
    kv_cuda_row_close(kv_cuda_runner_of(base), s->row, NULL);
    s->device = NULL;
}

/* Launch: one block: the source's last queries, which it holds in a ring of another size. */
static __global__ void copy_ring(float *dst, int dst_window, const float *src, int src_window, int n_seen, int each) {
    int layer = blockIdx.x, t = n_seen - 1 - (int)blockIdx.y;
    if (t < 0) return;
    const float *from = src + ((size_t)layer * src_window + t % src_window) * each;
    float *to = dst + ((size_t)layer * dst_window + t % dst_window) * each;
    for (int i = threadIdx.x; i < each; i += blockDim.x) to[i] = from[i];
}

static int fork_seq(kv_runner *base, const kv_runner *other, const kv_seq *from, kv_seq *to, kv_error *err) {
    kv_cuda_runner *r = kv_cuda_runner_of(base);
    const kv_cuda_runner *o = (const kv_cuda_runner *)other;
    const kv_model_info *in = &base->engine->model.info;
    const kv_shape *s = &in->shape;
    int cols[KV_MAX_COLUMNS], rc = kv_columns_map(from->columns, to->columns, cols, err);
    int32_t row = to->row, n = from->n_seen;
    kv_cuda_seq pair[2];
    if (rc || (rc = kv_cuda_extend_rows(r, &row, &n, 1, err))) return rc;
    end_burst(r);
    cudaStream_t stream = r->b->stream;
    /* the two runners' sequences side by side, as the kernel wants them */
    cudaError_t c = cudaMemcpyAsync(&pair[0], r->seqs + row, sizeof *pair, cudaMemcpyDeviceToHost, stream);
    if (c == cudaSuccess)
        c = cudaMemcpyAsync(&pair[1], o->seqs + from->row, sizeof *pair, cudaMemcpyDeviceToHost, stream);
    if (c == cudaSuccess) c = cudaStreamSynchronize(stream);
    rc = kv_cuda_check(c, "a shared prefill", err);
    if (rc) return rc;
    c = cudaMemcpyAsync(r->pair, pair, sizeof pair, cudaMemcpyHostToDevice, stream);
    if (c == cudaSuccess)
        c = kv_cuda_copy_slots(r->pair, 0, &r->layout, 1, &o->layout, cols, n, s->n_layers, s->n_kv_heads, stream);
    if (c == cudaSuccess && to->columns->window) {
        int each = s->n_heads * s->head_dim;
        copy_ring<<<dim3(s->n_layers, to->columns->window), 128, 0, stream>>>(
            pair[0].ring, to->columns->window, pair[1].ring, from->columns->window, n, each);
        c = cudaGetLastError();
    }
    if (c == cudaSuccess)
        c = cudaMemcpyAsync(r->logits + (size_t)row * in->n_vocab, o->logits + (size_t)from->row * in->n_vocab,
                            in->n_vocab * sizeof(float), cudaMemcpyDeviceToDevice, stream);
    if (c == cudaSuccess) c = cudaStreamSynchronize(stream);
    if (c != cudaSuccess) return kv_cuda_failed(c, "a shared prefill", err);
    to->n_seen = n;
    kv_cuda_account_held(r, to);
    return KV_OK;
}

/* ---- passes ----------------------------------------------------------------------------------------------------- */

static int most_rows(const kv_runner *r) {
    (void)r;
    return 8192;
}

/* A prompt goes through in one piece. */
static int piece_rows(const kv_runner *r, int n_done) {
    (void)n_done;
    return r->engine->model.info.n_ctx;
}

static int forward(kv_runner *base, kv_segment *segs, int n, const kv_trace *trace, kv_error *err) {
    end_burst(kv_cuda_runner_of(base));
    return kv_cuda_forward_rows(kv_cuda_runner_of(base), segs, n, trace, err);
}

/* before: kv_cuda_row_held before what may have been a reduction. */
static void account_reduced(kv_cuda_runner *r, int row, int64_t before) {
    kv_seq *q = r->rows[row].seq;
    int64_t held = kv_cuda_row_held(r, row);
    if (held == before) return;
    q->account.n_evictions += before - held;
    q->account.n_triggers++;
}

static void reduce(kv_runner *base, kv_seq *const *seqs, const int *at, int n, int *status, kv_error *errs,
                   const kv_trace *trace) {
    kv_cuda_runner *r = kv_cuda_runner_of(base);
    end_burst(r);
    for (int i = 0; i < n; i++) {
        int32_t row = seqs[i]->row;
        int64_t before = kv_cuda_row_held(r, row);
        status[i] = kv_cuda_evict_rows(r, &row, &at[i], 1, trace, &errs[i]);
        account_reduced(r, row, before);
    }
}

/* Remembers what the results of the flight that was just enqueued belong to. */
static int launch_flight(kv_cuda_runner *r, kv_seq *const *seqs, int n, kv_error *err) {
    kv_cuda_flight *f = &r->flights[(r->first_flight + r->n_flights++) % KV_CUDA_FLIGHTS];
    f->n = n;
    for (int i = 0; i < n; i++) f->rows[i] = seqs[i]->row;
    return kv_cuda_check(cudaEventRecord(f->done, r->b->stream), "a step", err);
}

/* Next tokens of these sequences, from logits that lie at their rows. */
static int enqueue_sample(kv_cuda_runner *r, kv_seq *const *seqs, int n, kv_error *err) {
    int32_t skip[KV_MAX_BATCH];
    int most = 0;
    for (int i = 0; i < r->max_seqs; i++) skip[i] = 1;
    for (int i = 0; i < n; i++) {
        skip[seqs[i]->row] = 0;
        if (seqs[i]->row + 1 > most) most = seqs[i]->row + 1;
    }
    size_t bytes = (size_t)r->max_seqs * sizeof *skip;
    int rc = kv_cuda_sampling_prepare(r, most, err);
    if (rc == KV_OK)
        rc =
            kv_cuda_check(cudaMemcpyAsync(r->once, skip, bytes, cudaMemcpyHostToDevice, r->b->stream), "sampling", err);
    if (rc == KV_OK) rc = kv_cuda_check(kv_cuda_sample_publish(r, most, r->once), "sampling", err);
    return rc ? rc : launch_flight(r, seqs, n, err);
}

static int sample(kv_runner *base, kv_seq *const *seqs, int n, kv_error *err) {
    end_burst(kv_cuda_runner_of(base));
    return enqueue_sample(kv_cuda_runner_of(base), seqs, n, err);
}

/* Rows of a graph: a few sizes, so that a batch that dwindles does not need a graph for every size. */
static int graph_rows(const kv_cuda_runner *r, int n) {
    static const int sizes[] = {1, 2, 4, 8, 12, 16, 24, 32, 48, 64};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i] >= n) return sizes[i] < r->max_seqs ? sizes[i] : r->max_seqs;
    n = (n + 63) / 64 * 64;
    return n < r->max_seqs ? n : r->max_seqs;
}

/* Who takes part from now on; and room for every page that their decode steps will take. */
static int set_members(kv_cuda_runner *r, kv_seq *const *seqs, int n, kv_error *err) {
    int32_t list[3 * KV_MAX_BATCH];
    int m = r->max_seqs;
    int64_t pages = 0;
    for (int i = 0; i < m; i++) {
        list[i] = 0;
        list[m + i] = 1;
        list[2 * m + i] = -1;
    }
    for (int i = 0; i < n; i++) {
        list[seqs[i]->row] = 1;
        list[m + seqs[i]->row] = 0;
        list[2 * m + seqs[i]->row] = seqs[i]->row;
        pages += kv_cuda_row_decode_pages(r, seqs[i]->row);
    }
    int rc = kv_cuda_pool_ensure(r, pages, err);
    cudaStream_t stream = r->b->stream;
    if (rc == KV_OK)
        rc = kv_cuda_check(cudaMemcpyAsync(r->active, list, m * sizeof *list, cudaMemcpyHostToDevice, stream), "batch",
                           err);
    if (rc == KV_OK)
        rc = kv_cuda_check(cudaMemcpyAsync(r->skip, list + m, m * sizeof *list, cudaMemcpyHostToDevice, stream),
                           "batch", err);
    if (rc == KV_OK)
        rc = kv_cuda_check(cudaMemcpyAsync(r->seq_of, list + 2 * m, m * sizeof *list, cudaMemcpyHostToDevice, stream),
                           "batch", err);
    r->n_members = n;
    r->membership = 0;
    return rc;
}

/* Bytes of weights that a step reads: the model's, but of an embedding that is not the head as well only a row for each
 * sequence, which is not counted; and the retention gates' where the device computes them. */
static int64_t step_weights(const kv_cuda_runner *r) {
    const kv_model *m = &r->base.engine->model;
    const size_t unread = m->embed_matrix == m->head ? 0 : r->b->base.ops->matrix_bytes(m->embed_matrix);
    return (int64_t)(m->info.weight_bytes - unread + (r->gated ? r->b->gates.bytes : 0));
}

/* One more slot for each, as begin_step does on the device. */
static void account_step(kv_cuda_runner *r, kv_seq *const *seqs, int n) {
    const kv_model_info *in = &r->base.engine->model.info;
    r->bytes_read += step_weights(r);
    for (int i = 0; i < n; i++) {
        kv_cuda_row_grow(r, seqs[i]->row, 1);
        seqs[i]->n_seen++;
        kv_cuda_account_held(r, seqs[i]);
        r->bytes_read += kv_cuda_row_held(r, seqs[i]->row) * (int64_t)in->bytes_per_slot;
    }
    if (r->n_live > r->live_peak) r->live_peak = r->n_live;
}

static int is_due(const kv_cuda_runner *r, const kv_seq *s) {
    if (!kv_cuda_evicts(r)) return 0;
    int slots = kv_cuda_row_trigger_slots(r, s->row);
    return slots >= r->setup->budget + r->setup->buffer && slots > r->setup->budget;
}

/* Heads that share a budget have no bound of their own: twice as much at a time, then in steps. */
static int bound_shared(int most) {
    enum { LEAST = 256, STEP = 4096 };
    int bound = LEAST;
    while (bound < most) bound += bound < STEP ? bound : STEP;
    return bound;
}

int kv_cuda_bound_slots(const kv_cuda_runner *r, int most) {
    enum { STEP = 4096 };
    if (r->pooling.size > 1) return bound_shared(most);
    int n_ctx = r->base.engine->model.info.n_ctx, kept = kv_cuda_evicts(r) ? r->setup->budget + r->setup->buffer : 0;
    if (kept > n_ctx) kept = n_ctx;
    return kv_cuda_evicts(r) && most <= kept ? kept : (most + STEP - 1) / STEP * STEP;
}

/* Bound of the slots of any head in the coming steps; coarse, since every bound has its own graph. */
static int bound_slots(const kv_cuda_runner *r, kv_seq *const *seqs, int n) {
    int most = 0;
    for (int i = 0; i < n; i++)
        if (r->rows[seqs[i]->row].slots + 1 > most) most = r->rows[seqs[i]->row].slots + 1;
    return kv_cuda_bound_slots(r, most);
}

static int fused_step(kv_cuda_runner *r, kv_seq *const *seqs, int n, const kv_trace *trace, kv_profile *profile,
                      kv_error *err) {
    int32_t due[KV_MAX_BATCH];
    int at[KV_MAX_BATCH], n_due = 0, most = 0, slots = bound_slots(r, seqs, n);
    int64_t before[KV_MAX_BATCH];
    int64_t allocs = r->b->base.books.n_allocs;
    for (int i = 0; i < n; i++)
        if (seqs[i]->row + 1 > most) most = seqs[i]->row + 1;
    int rc = r->membership || n != r->n_members ? set_members(r, seqs, n, err) : KV_OK;
    if (rc) return rc;
    account_step(r, seqs, n);
    for (int i = 0; i < n; i++) {
        if (!is_due(r, seqs[i])) continue;
        due[n_due] = seqs[i]->row;
        before[n_due] = kv_cuda_row_held(r, due[n_due]);
        at[n_due++] = r->setup->budget + r->setup->buffer;
    }
    int on_device = !r->host_score && r->pooling.size == 1 && !(trace && trace->on_evict),
        in_graph = n_due && on_device;
    rc = kv_cuda_decode_ready(r, graph_rows(r, most), slots, kv_cuda_evicts(r) && on_device, err);
    if (rc) return rc;
    begin_burst(r);
    rc = kv_cuda_decode_step(r, graph_rows(r, most), slots, in_graph, profile, err);
    if (rc == KV_OK && n_due && !in_graph) rc = kv_cuda_evict_rows(r, due, at, n_due, trace, err);
    for (int i = 0; rc == KV_OK && i < n_due; i++) {
        if (in_graph) kv_cuda_row_reduced(r, due[i], r->setup->budget);
        account_reduced(r, due[i], before[i]);
    }
    if (r->n_steps++) r->n_decode_allocs += r->b->base.books.n_allocs - allocs;
    return rc;
}

/* Steps that no graph does: fp32, and policies whose columns come from the host. */
static int plain_step(kv_cuda_runner *r, kv_seq *const *seqs, int n, const kv_trace *trace, kv_error *err) {
    kv_segment segs[KV_MAX_BATCH];
    int64_t live = 0;
    const kv_model_info *in = &r->base.engine->model.info;
    for (int i = 0; i < n; i++) {
        segs[i] = (kv_segment){seqs[i], NULL, 1, 1, KV_OK, err};
    }
    begin_burst(r);
    int rc = kv_cuda_forward_rows(r, segs, n, trace, err);
    for (int i = 0; rc == KV_OK && i < n; i++) {
        int32_t row = seqs[i]->row;
        int at = kv_cuda_evicts(r) ? r->setup->budget + r->setup->buffer : 0;
        int64_t before = kv_cuda_row_held(r, row);
        live += before;
        if (segs[i].status) return segs[i].status;
        if (!is_due(r, seqs[i])) continue;
        rc = kv_cuda_evict_rows(r, &row, &at, 1, trace, err);
        if (rc == KV_OK) account_reduced(r, row, before);
    }
    r->bytes_read += step_weights(r) + live * (int64_t)in->bytes_per_slot;
    return rc;
}

static int step(kv_runner *base, kv_seq *const *seqs, int n, const kv_trace *trace, kv_profile *profile,
                kv_error *err) {
    kv_cuda_runner *r = kv_cuda_runner_of(base);
    int rc;
    if (r->fused) {
        rc = fused_step(r, seqs, n, trace, profile, err);
        return rc ? rc : launch_flight(r, seqs, n, err);
    }
    if (profile) return kv_fail(err, KV_EUNSUPPORTED, "only steps of the bf16 path on the device have a profile");
    rc = plain_step(r, seqs, n, trace, err);
    return rc ? rc : enqueue_sample(r, seqs, n, err);
}

static int fetch(kv_runner *base, kv_result *out, kv_error *err) {
    kv_cuda_runner *r = kv_cuda_runner_of(base);
    const kv_shape *s = &base->engine->model.info.shape;
    kv_cuda_flight *f = &r->flights[r->first_flight];
    const kv_cuda_token *slot = r->published + (size_t)r->first_flight * r->max_seqs;
    int rc = kv_cuda_check(cudaEventSynchronize(f->done), "a step", err);
    r->first_flight = (r->first_flight + 1) % KV_CUDA_FLIGHTS;
    r->n_flights--;
    for (int i = 0; rc == KV_OK && i < f->n; i++) {
        const kv_cuda_token *t = &slot[f->rows[i]];
        out[i] = (kv_result){t->token, KV_OK, {}, t->hash, (int64_t)t->n_moved};
        if (t->bad)
            out[i].status =
                kv_fail(&out[i].err, KV_ENUM, "policy %s gave a score that is not a number (layer %d, KV head %d)",
                        r->setup->policy->name, (t->bad - 1) / s->n_kv_heads, (t->bad - 1) % s->n_kv_heads);
    }
    return rc;
}

static int top(kv_runner *base, kv_seq *s, int n_top, kv_top *out, kv_error *err) {
    kv_cuda_runner *r = kv_cuda_runner_of(base);
    int n_vocab = base->engine->model.info.n_vocab;
    float *row = (float *)malloc(n_vocab * sizeof *row);
    if (!row) return kv_fail(err, KV_ENOMEM, "out of memory for log-probabilities");
    cudaError_t c = cudaMemcpyAsync(row, r->logits + (size_t)s->row * n_vocab, n_vocab * sizeof *row,
                                    cudaMemcpyDeviceToHost, r->b->stream);
    if (c == cudaSuccess) c = cudaStreamSynchronize(r->b->stream);
    if (c == cudaSuccess) kv_top_logprobs(row, n_vocab, n_top, out);
    free(row);
    return kv_cuda_check(c, "log-probabilities", err);
}

static int slots(const kv_runner *base, const kv_seq *s) {
    return kv_cuda_row_trigger_slots((const kv_cuda_runner *)base, s->row);
}

static size_t seq_bytes(const kv_runner *base, const kv_seq *s) {
    return kv_cuda_row_bytes((const kv_cuda_runner *)base, s->row);
}

static void counts(kv_runner *base, kv_runner_counts *out) {
    kv_cuda_runner *r = kv_cuda_runner_of(base);
    end_burst(r);
    memset(out, 0, sizeof *out);
    out->kv_live_peak = (size_t)r->live_peak * r->layout.bytes;
    out->n_page_allocs = r->n_page_allocs;
    out->n_launches = r->n_launches;
    out->n_decode_allocs = r->n_decode_allocs;
    out->bytes_read = r->bytes_read;
    out->decode_s = r->decode_s;
}

static int finish(kv_runner *base, kv_error *err) {
    kv_cuda_runner *r = kv_cuda_runner_of(base);
    end_burst(r);
    return kv_cuda_check(cudaStreamSynchronize(r->b->stream), "the last step", err);
}

static int read_logits(kv_runner *base, int n, float *out, kv_error *err) {
    return kv_cuda_read_all_logits(kv_cuda_runner_of(base), n, out, err);
}

extern "C" int kv_cuda_runner_open(kv_engine *e, const kv_columns *c, const kv_setup *setup, int max_seqs,
                                   kv_runner **out, kv_error *err);

int kv_cuda_runner_open(kv_engine *e, const kv_columns *c, const kv_setup *setup, int max_seqs, kv_runner **out,
                        kv_error *err) {
    static const kv_runner_ops ops = {
        close_runner, kv_cuda_need, kv_cuda_reserve, seq_open, seq_close,   fork_seq, most_rows,
        piece_rows,   forward,      reduce,          sample,   step,        fetch,    top,
        slots,        seq_bytes,    counts,          finish,   read_logits,
    };
    kv_cuda_backend *b = kv_cuda_backend_of(e);
    kv_cuda_runner *r = (kv_cuda_runner *)calloc(1, sizeof *r);
    if (!r) return kv_fail(err, KV_ENOMEM, "out of memory for a batch of %d", max_seqs);
    r->base = (kv_runner){&ops, e, 1};
    r->b = b;
    r->columns = c;
    r->setup = setup;
    r->pooling = kv_pooling_of(setup, &e->model.info.shape);
    r->max_seqs = max_seqs;
    kv_page_layout_init(&r->layout, b->type == KV_CUDA_BF16 ? KV_CACHE_BF16 : KV_CACHE_F32,
                        e->model.info.shape.head_dim, c->n_cols, c->has_mass);
    int rc = kv_cuda_check(cudaSetDevice(b->device), "device", err);
    if (rc == KV_OK) rc = kv_cuda_bind_model(e, err);
    if (rc == KV_OK) rc = open_columns(r, err);
    if (rc == KV_OK) rc = open_host(r, err);
    if (rc == KV_OK) rc = open_state(r, err);
    if (rc) {
        close_runner(&r->base);
        return rc;
    }
    r->host_score = kv_cuda_evicts(r) && !setup->policy->score_cuda;
    /* the fused step fills one column of retention from a gate of type rg, and nothing from the host */
    int plain = !r->gated || b->gates.source->type == KV_GATE_RG;
    r->fused = b->type == KV_CUDA_BF16 && !r->host_sets && c->n_sets <= 1 && plain;
    *out = &r->base;
    return KV_OK;
}
