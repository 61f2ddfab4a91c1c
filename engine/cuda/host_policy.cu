/* host_policy.cu - a policy without device code: what it declared comes to the host, its definition runs there.
 *
 * Slow (the stream waits at every layer or trigger) and exact: a new policy is one .c file and runs on CUDA on its
 * first day.  Its rows say score_path = host. */
#include "engine/cuda/bf16.h"
#include "engine/cuda/engine.cuh"

#include <stdlib.h>
#include <string.h>

/* n values of the backend's type to the host, as fp32. */
static cudaError_t bring(const kv_cuda_runner *r, float *out, const void *src, size_t n) {
    size_t e = kv_cuda_type_bytes(r->b->type);
    cudaError_t rc = cudaMemcpyAsync(out, src, n * e, cudaMemcpyDeviceToHost, r->b->stream);
    if (rc == cudaSuccess) rc = cudaStreamSynchronize(r->b->stream);
    if (rc == cudaSuccess && e == 2)
        for (size_t i = n; i-- > 0;) { /* in place, from the end */
            uint16_t v;
            memcpy(&v, (const char *)out + 2 * i, sizeof v);
            out[i] = kv_bf16_to(v);
        }
    return rc;
}

/* Every sum in ascending order. */
static void linear(void *ctx, float *out, const float *x, const float *w, const float *b, int n_rows, int n_in,
                   int n_out) {
    (void)ctx;
    for (int r = 0; r < n_rows; r++)
        for (int o = 0; o < n_out; o++) {
            float s = b ? b[o] : 0;
            for (int i = 0; i < n_in; i++) s += x[(size_t)r * n_in + i] * w[(size_t)o * n_in + i];
            out[(size_t)r * n_out + o] = s;
        }
}

typedef struct host_rows {
    float *hidden, *k, *v, *stats, *one, *scratch;
    int32_t *pos;
} host_rows;

static void call_observe(const kv_cuda_runner *r, int set, int layer, int n, const host_rows *h) {
    const kv_setup *s = r->columns->sets[set];
    int n_kv_heads = r->base.engine->model.info.shape.n_kv_heads, n_stats = s->policy->n_stats;
    int width = r->columns->n_cols - r->columns->has_mass, first = r->columns->first[set] - r->columns->has_mass;
    kv_services sv = {NULL, linear, h->scratch, KV_MIN_SCRATCH};
    kv_observe_args a = {layer, n, h->hidden, h->k, h->v, h->pos, h->one};
    s->policy->observe(s->state, &sv, &a);
    for (int i = 0; i < n * n_kv_heads; i++)
        for (int c = 0; c < n_stats; c++) h->stats[(size_t)i * width + first + c] = h->one[i * n_stats + c];
}

int kv_cuda_observe_on_host(kv_cuda_runner *r, int layer, int n, const void *hidden, const void *k, const void *v,
                            const int32_t *pos, float *stats, kv_error *err) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    size_t rows = n, nk = (size_t)s->n_kv_heads * s->head_dim, width = r->columns->n_cols - r->columns->has_mass;
    size_t floats = rows * (s->dim + 2 * nk + s->n_kv_heads * (width + KV_MAX_STATS)) + KV_MIN_SCRATCH;
    float *mem = (float *)malloc(floats * sizeof *mem + rows * sizeof(int32_t));
    if (!mem) return kv_fail(err, KV_ENOMEM, "out of memory for a policy that runs on the host");
    host_rows h;
    h.hidden = mem;
    h.k = h.hidden + rows * s->dim;
    h.v = h.k + rows * nk;
    h.stats = h.v + rows * nk;
    h.one = h.stats + rows * s->n_kv_heads * width;
    h.scratch = h.one + rows * s->n_kv_heads * KV_MAX_STATS;
    h.pos = (int32_t *)(h.scratch + KV_MIN_SCRATCH);
    cudaStream_t stream = r->b->stream;
    size_t stat_bytes = rows * s->n_kv_heads * width * sizeof *stats;
    cudaError_t rc = bring(r, h.hidden, hidden, rows * s->dim);
    if (rc == cudaSuccess) rc = bring(r, h.k, k, rows * nk);
    if (rc == cudaSuccess) rc = bring(r, h.v, v, rows * nk);
    if (rc == cudaSuccess) rc = cudaMemcpyAsync(h.pos, pos, rows * sizeof *pos, cudaMemcpyDeviceToHost, stream);
    if (rc == cudaSuccess) rc = cudaMemcpyAsync(h.stats, stats, stat_bytes, cudaMemcpyDeviceToHost, stream);
    if (rc == cudaSuccess) rc = cudaStreamSynchronize(stream);
    for (int i = 0; rc == cudaSuccess && i < r->columns->n_sets; i++)
        if (r->sets[i].gate_col < 0) call_observe(r, i, layer, n, &h);
    if (rc == cudaSuccess) rc = cudaMemcpyAsync(stats, h.stats, stat_bytes, cudaMemcpyHostToDevice, stream);
    free(mem);
    return rc == cudaSuccess ? KV_OK : kv_cuda_failed(rc, "a policy that runs on the host", err);
}

typedef struct host_head {
    float *keys, *cols, *queries, *score, *scratch;
    int32_t *pos;
    char *device; /* staging for gather_head: keys, cols, pos */
} host_head;

/* The group's last queries of one head, oldest first: (n, group, head_dim). */
static cudaError_t bring_queries(const kv_cuda_runner *r, const kv_cuda_heads *h, int row, int layer, int head,
                                 int n_seen, int n, float *out) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    size_t each = (size_t)h->group * h->head_dim, token = (size_t)s->n_heads * h->head_dim;
    const float *ring = r->rings + (size_t)row * h->n_layers * h->window * token + (size_t)layer * h->window * token;
    cudaError_t rc = cudaSuccess;
    for (int i = 0; rc == cudaSuccess && i < n; i++)
        rc = cudaMemcpyAsync(out + i * each, ring + ((n_seen - n + i) % h->window) * token + head * each,
                             each * sizeof *out, cudaMemcpyDeviceToHost, r->b->stream);
    return rc;
}

static cudaError_t score_head(kv_cuda_runner *r, const kv_cuda_heads *h, int i, int row, int layer, int head,
                              const host_head *m) {
    const kv_setup *st = r->setup;
    const kv_policy *p = st->policy;
    const kv_seq *q = r->rows[row].seq;
    const float *stats[KV_MAX_STATS] = {NULL};
    const kv_cuda_row *held = &r->rows[row];
    int n = held->heads ? held->heads[layer * h->n_kv_heads + head] : held->slots, n_cols = h->layout.n_cols;
    if (n == 0) return cudaSuccess;
    float *dkeys = (float *)m->device, *dcols = dkeys + (size_t)n * h->head_dim;
    int32_t *dpos = (int32_t *)(dcols + (size_t)n * n_cols);
    cudaStream_t stream = r->b->stream;
    cudaError_t rc = kv_cuda_gather_head(h->seqs, row, &h->layout, layer, head, h->n_kv_heads, n, dkeys, NULL, dpos,
                                         n_cols ? dcols : NULL, stream);
    if (rc == cudaSuccess)
        rc = cudaMemcpyAsync(m->keys, dkeys, (size_t)n * h->head_dim * sizeof(float), cudaMemcpyDeviceToHost, stream);
    if (rc == cudaSuccess && n_cols)
        rc = cudaMemcpyAsync(m->cols, dcols, (size_t)n * n_cols * sizeof(float), cudaMemcpyDeviceToHost, stream);
    if (rc == cudaSuccess) rc = cudaMemcpyAsync(m->pos, dpos, n * sizeof *dpos, cudaMemcpyDeviceToHost, stream);
    kv_score_args a = {};
    if (rc == cudaSuccess && (p->needs & KV_NEED_QUERIES)) {
        int w = p->window(st->state);
        a.queries = m->queries;
        a.n_queries = q->n_seen < w ? q->n_seen : w;
        rc = bring_queries(r, h, row, layer, head, q->n_seen, a.n_queries, m->queries);
    }
    if (rc == cudaSuccess) rc = cudaStreamSynchronize(stream);
    if (rc != cudaSuccess) return rc;
    for (int k = 0; k < p->n_stats; k++) stats[k] = m->cols + (size_t)(h->first_stat + k) * n;
    a.layer = layer;
    a.kv_head = head;
    a.n_slots = n;
    a.n_seen = q->n_seen;
    a.pos = m->pos;
    a.stats = stats;
    a.mass = h->layout.has_mass ? m->cols : NULL;
    a.keys = p->needs & KV_NEED_KEYS ? m->keys : NULL;
    a.group = h->group;
    a.head_dim = h->head_dim;
    a.scratch = m->scratch;
    p->score(st->state, &a, m->score);
    return cudaMemcpyAsync(h->score + (((size_t)i * h->n_layers + layer) * h->n_kv_heads + head) * h->stride, m->score,
                           n * sizeof(float), cudaMemcpyHostToDevice, stream);
}

size_t kv_cuda_gathered_bytes(const kv_cuda_runner *r, int most_slots) {
    size_t each = r->base.engine->model.info.shape.head_dim + r->layout.n_cols + 1;
    return r->host_score ? most_slots * each * sizeof(float) : 0;
}

int kv_cuda_score_on_host(kv_cuda_runner *r, const kv_cuda_heads *h, const int32_t *rows, int n, kv_error *err) {
    size_t most = 0, w = h->window, d = h->head_dim, c = h->layout.n_cols;
    for (int i = 0; i < n; i++)
        if ((size_t)r->rows[rows[i]].slots > most) most = r->rows[rows[i]].slots;
    size_t floats = most * (d + c + 2 + w + 4) + w * h->group * d;
    host_head m = {};
    m.keys = (float *)malloc(floats * sizeof(float) + most * sizeof(int32_t));
    int rc = m.keys ? KV_OK : kv_fail(err, KV_ENOMEM, "out of memory for a policy that runs on the host");
    if (rc == KV_OK)
        rc = kv_cuda_grow(r, &r->gathered, KV_USE_WORKSPACE, kv_cuda_gathered_bytes(r, (int)most),
                          "a policy that runs on the host", err);
    m.device = (char *)r->gathered.p;
    m.cols = m.keys + most * d;
    m.score = m.cols + most * c;
    m.scratch = m.score + most;
    m.queries = m.scratch + most * (w + 5);
    m.pos = (int32_t *)(m.keys + floats);
    for (int i = 0; rc == KV_OK && i < n; i++)
        for (int l = 0; l < h->n_layers; l++)
            for (int k = 0; rc == KV_OK && k < h->n_kv_heads; k++) {
                cudaError_t e = score_head(r, h, i, rows[i], l, k, &m);
                if (e != cudaSuccess) rc = kv_cuda_failed(e, "a policy that runs on the host", err);
            }
    if (rc == KV_OK) /* the last scores may still be on their way from here */
        rc = kv_cuda_check(cudaStreamSynchronize(r->b->stream), "a policy that runs on the host", err);
    free(m.keys);
    return rc;
}
