/* forward.c - one pass of the model over rows of any number of sequences.
 *
 * The policy seams are here: after q, k and v are rotated, policies that observe fill their columns; rows are
 * appended; attention runs over everything held and adds attention mass where a policy wants it; the last queries are
 * kept in a ring.  Eviction is not here: it comes after the last layer (reduce.c).  Every row's result depends on its
 * own sequence only, so packing sequences together changes no bit. */
#include "engine/cpu/runner.h"

#include <math.h>
#include <string.h>

typedef struct pass {
    kv_engine *e;
    kv_segment *segs; /* those that run */
    int n_segs, n_rows;
    int row_of[KV_MAX_ROWS]; /* first row of each segment */
    const kv_trace *trace;
} pass;

static void serve_linear(void *ctx, float *out, const float *x, const float *w, const float *b, int n_rows, int n_in,
                         int n_out) {
    kv_backend *be = ctx;
    be->ops->linear_f32(be, out, x, w, b, n_rows, n_in, n_out);
}

static size_t qkv_width(const kv_shape *s) {
    return (size_t)(s->n_heads + 2 * s->n_kv_heads) * s->head_dim;
}

/* Every sequence of a pass has the same columns. */
static const kv_columns *columns_of(const pass *p) {
    return p->segs[0].seq->columns;
}

static int wants_observe(const pass *p) {
    return columns_of(p)->n_sets > 0 || (p->trace != NULL && p->trace->on_append != NULL);
}

static void copy_kv(const pass *p) {
    const kv_shape *s = &p->e->model.info.shape;
    kv_workspace *ws = p->e->ws;
    size_t nk = (size_t)s->n_kv_heads * s->head_dim, width = qkv_width(s);
    for (int r = 0; r < p->n_rows; r++) {
        const float *row = ws->qkv + r * width + (size_t)s->n_heads * s->head_dim;
        memcpy(ws->k + r * nk, row, nk * sizeof(float));
        memcpy(ws->v + r * nk, row + nk, nk * sizeof(float));
    }
}

/* Fills ws->stats (row, kv head, columns after the mass). */
static void observe(const pass *p, int layer) {
    const kv_shape *s = &p->e->model.info.shape;
    kv_workspace *ws = p->e->ws;
    const kv_columns *c = columns_of(p);
    int width = c->n_cols - c->has_mass;
    kv_services sv = {p->e->backend, serve_linear, ws->services, KV_SERVICE_SCRATCH};
    for (int i = 0; i < c->n_sets; i++) {
        const kv_policy *pol = c->sets[i]->policy;
        kv_observe_args a = {layer, p->n_rows, ws->hidden, ws->k, ws->v, ws->pos, ws->stats_one};
        pol->observe(c->sets[i]->state, &sv, &a);
        float *dst = ws->stats + c->first[i] - c->has_mass;
        for (int j = 0; j < p->n_rows * s->n_kv_heads; j++)
            for (int k = 0; k < pol->n_stats; k++) dst[(size_t)j * width + k] = ws->stats_one[j * pol->n_stats + k];
    }
}

static void trace_rows(const pass *p, int layer) {
    const kv_shape *s = &p->e->model.info.shape;
    kv_workspace *ws = p->e->ws;
    size_t nq = (size_t)s->n_heads * s->head_dim, nk = (size_t)s->n_kv_heads * s->head_dim;
    for (int i = 0; i < p->n_segs; i++) {
        int r0 = p->row_of[i];
        for (int r = 0; r < p->segs[i].n; r++) /* ws->att is free until attention runs */
            memcpy(ws->att + (r0 + r) * nq, ws->qkv + (r0 + r) * qkv_width(s), nq * sizeof(float));
        p->trace->on_append(p->trace->user, p->segs[i].seq->request_user, layer, p->segs[i].n, ws->pos + r0,
                            ws->hidden + (size_t)r0 * s->dim, ws->att + r0 * nq, ws->k + r0 * nk, ws->v + r0 * nk);
    }
}

static void save_queries(const pass *p, int layer) {
    const kv_shape *s = &p->e->model.info.shape;
    size_t row = (size_t)s->n_heads * s->head_dim;
    for (int i = 0; i < p->n_segs; i++) {
        kv_seq *q = p->segs[i].seq;
        int w = q->columns->window, n = p->segs[i].n;
        for (int r = w && n > w ? n - w : 0; w && r < n; r++)
            memcpy(kv_cpu_seq_of(q)->ring + ((size_t)layer * w + (q->n_seen + r) % w) * row,
                   p->e->ws->qkv + (size_t)(p->row_of[i] + r) * qkv_width(s), row * sizeof(float));
    }
}

static int attention(const pass *p, int layer, kv_error *err) {
    kv_engine *e = p->e;
    const kv_shape *s = &e->model.info.shape;
    const kv_ops *ops = e->backend->ops;
    kv_workspace *ws = e->ws;
    size_t nq = (size_t)s->n_heads * s->head_dim, width = qkv_width(s);
    const kv_columns *c = columns_of(p);
    size_t stats_row = (size_t)s->n_kv_heads * (c->n_cols - c->has_mass);
    kv_append_task append[KV_MAX_ROWS];
    kv_attend_task attend[KV_MAX_ROWS];
    for (int i = 0; i < p->n_segs; i++) {
        const kv_segment *g = &p->segs[i];
        const kv_page_layout *l = kv_page_pool_layout(kv_cpu_seq_of(g->seq)->cache.pool);
        const kv_head_slots *heads = kv_cache_head(&kv_cpu_seq_of(g->seq)->cache, layer, 0);
        int r0 = p->row_of[i];
        const float *q = ws->qkv + r0 * width, *k = q + nq, *v = k + (size_t)s->n_kv_heads * s->head_dim;
        append[i] =
            (kv_append_task){l, heads, k, v, width, ws->pos + r0, c->n_sets ? ws->stats + r0 * stats_row : NULL, g->n};
        attend[i] = (kv_attend_task){l, heads, q, width, ws->att + r0 * nq, nq, g->n, c->has_mass};
    }
    ops->append(e->backend, append, p->n_segs, s->n_kv_heads);
    if (ops->attend(e->backend, attend, p->n_segs, s->n_heads, s->n_kv_heads, 1.0f / sqrtf((float)s->head_dim)))
        return kv_fail(err, KV_ENOMEM, "out of memory for the attention of a prompt: use a shorter one");
    return KV_OK;
}

static int run_layer(const pass *p, int layer, kv_error *err) {
    kv_engine *e = p->e;
    const kv_shape *s = &e->model.info.shape;
    const kv_layer *ly = &e->model.layers[layer];
    const kv_ops *ops = e->backend->ops;
    kv_workspace *ws = e->ws;
    float eps = e->model.rms_eps;
    int n = p->n_rows, watched = wants_observe(p);
    ops->matmul(e->backend, &(kv_matmul_args){.out = ws->qkv,
                                              .x = ws->x,
                                              .w = ly->qkv,
                                              .n_rows = n,
                                              .norm_weight = ly->attn_norm,
                                              .norm_eps = eps,
                                              .norm_out = watched ? ws->hidden : NULL});
    ops->rope(e->backend, &(kv_rope_args){.x = ws->qkv,
                                          .stride = qkv_width(s),
                                          .n_rows = n,
                                          .n_heads = s->n_heads,
                                          .n_kv_heads = s->n_kv_heads,
                                          .head_dim = s->head_dim,
                                          .bias = ly->qkv_bias,
                                          .q_norm = ly->q_norm,
                                          .k_norm = ly->k_norm,
                                          .norm_eps = eps,
                                          .pos = ws->pos,
                                          .table = &e->model.rope});
    if (watched) {
        copy_kv(p);
        observe(p, layer);
    }
    if (p->trace && p->trace->on_append) trace_rows(p, layer);
    save_queries(p, layer);
    int rc = attention(p, layer, err);
    if (rc) return rc;
    ops->matmul(e->backend, &(kv_matmul_args){.out = ws->x, .x = ws->att, .w = ly->out, .n_rows = n, .accumulate = 1});
    ops->matmul(e->backend, &(kv_matmul_args){.out = ws->gate_up,
                                              .x = ws->x,
                                              .w = ly->gate_up,
                                              .n_rows = n,
                                              .norm_weight = ly->ffn_norm,
                                              .norm_eps = eps});
    ops->matmul(
        e->backend,
        &(kv_matmul_args){.out = ws->x, .x = ws->gate_up, .w = ly->down, .n_rows = n, .swiglu = 1, .accumulate = 1});
    return KV_OK;
}

/* Logits of the last row of every segment that wants a token, one row after the other. */
static void run_head(const pass *p, float *logits) {
    kv_engine *e = p->e;
    const kv_model *m = &e->model;
    size_t dim = (size_t)m->info.shape.dim, n_vocab = (size_t)m->info.n_vocab;
    int n = 0;
    for (int i = 0; i <= p->n_segs; i++) {
        if (n == KV_HEAD_ROWS || (i == p->n_segs && n)) {
            e->backend->ops->matmul(e->backend, &(kv_matmul_args){.out = logits,
                                                                  .x = e->ws->last,
                                                                  .w = m->head,
                                                                  .n_rows = n,
                                                                  .norm_weight = m->out_norm,
                                                                  .norm_eps = m->rms_eps});
            logits += (size_t)n * n_vocab;
            n = 0;
        }
        if (i == p->n_segs || !p->segs[i].wants_token) continue;
        int last = p->row_of[i] + p->segs[i].n - 1;
        kv_cpu_seq_of(p->segs[i].seq)->logits = logits + (size_t)n * n_vocab;
        memcpy(e->ws->last + n++ * dim, e->ws->x + last * dim, dim * sizeof(float));
    }
}

static void count_work(const pass *p) {
    kv_engine *e = p->e;
    const kv_model_info *in = &e->model.info;
    e->bytes_read += (int64_t)in->weight_bytes;
    for (int i = 0; i < p->n_segs; i++) {
        kv_seq *q = p->segs[i].seq;
        const kv_cache *cache = &kv_cpu_seq_of(q)->cache;
        double held = kv_cache_mean_slots(cache);
        q->account.held = held;
        if (held > q->account.peak_slots) q->account.peak_slots = held;
        q->account.bytes_peak = cache->bytes_peak;
        e->bytes_read += (int64_t)(held * in->shape.n_layers * in->shape.n_kv_heads * (double)in->bytes_per_slot + 0.5);
    }
}

int kv_cpu_forward(kv_engine *e, kv_segment *segs, int n_segs, float *logits, const kv_trace *trace, kv_error *err) {
    kv_segment run[KV_MAX_ROWS];
    int index[KV_MAX_ROWS];
    pass p = {.e = e, .segs = run, .trace = trace};
    for (int i = 0; i < n_segs; i++) {
        segs[i].status = kv_cache_extend(&kv_cpu_seq_of(segs[i].seq)->cache, segs[i].n, segs[i].err);
        if (segs[i].status) continue;
        index[p.n_segs] = i;
        p.row_of[p.n_segs] = p.n_rows;
        run[p.n_segs++] = segs[i];
        for (int r = 0; r < segs[i].n; r++, p.n_rows++) {
            e->ws->pos[p.n_rows] = segs[i].seq->n_seen + r;
            kv_model_embed(&e->model, segs[i].tokens[r], e->ws->x + (size_t)p.n_rows * e->model.info.shape.dim);
        }
    }
    if (!p.n_segs) return KV_OK;
    for (int l = 0; l < e->model.info.shape.n_layers; l++) {
        int rc = run_layer(&p, l, err);
        if (rc) return rc;
    }
    run_head(&p, logits);
    count_work(&p);
    for (int i = 0; i < p.n_segs; i++) segs[index[i]].seq->n_seen += segs[index[i]].n;
    return KV_OK;
}
