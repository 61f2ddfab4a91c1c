/* forward.cu - a pass over the rows of prompts; in fp32 also every decode step.
 *
 * Layer by layer over all rows at once: products with many rows go through cuBLASLt (fp32: the own kernel), a prompt's
 * first rows attend to each other on the tensor cores (attend_prompt), rows with a past to the paged cache.  The wide
 * middle of the feed-forward network is done in slices of rows, so that its buffer does not grow with the prompt. */
#include "engine/cuda/engine.cuh"
#include "policies/gate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SLICE_ROWS = 8192 };
static const size_t attend_scratch_most = (size_t)512 << 20;

/* One pass: buffers cut out of runner.prompt, (n_rows, .) each. */
typedef struct pass {
    kv_cuda_runner *r;
    kv_cuda_type type;
    int n_rows, n_segs, n_past, most_rows, most_slots; /* most_*: of segments with a past (fp32: of all) */
    kv_cuda_rows rows;
    const kv_cuda_segment *past; /* device: those whose cache held slots before */
    kv_cuda_segment *host;       /* (n_segs), those with a past first */
    float *x, *mid, *stats, *lse;
    void *normed, *qkv, *k, *v, *packed, *att, *gate_up, *h;
    kv_error *err;
} pass;

static size_t take(size_t *at, size_t bytes) {
    size_t here = *at;
    *at += (bytes + 255) & ~(size_t)255;
    return here;
}

static int gates_see_kv(const kv_cuda_runner *r) {
    return r->gated && kv_gate_sees_kv(r->b->gates.source->type);
}

/* Sizes and pointers of every buffer; called once with base NULL to count. */
static size_t cut_buffers(pass *p, char *base) {
    const kv_cuda_runner *r = p->r;
    const kv_model_info *in = &r->base.engine->model.info;
    const kv_shape *s = &in->shape;
    size_t n = p->n_rows, e = kv_cuda_type_bytes(p->type), at = 0, dim = s->dim,
           slice = n < SLICE_ROWS ? n : (size_t)SLICE_ROWS;
    size_t nq = (size_t)s->n_heads * s->head_dim, nk = (size_t)s->n_kv_heads * s->head_dim;
    size_t mid = r->gated ? (size_t)r->b->gates.n_first * r->b->gates.n_parts : 0;
    size_t stats = (size_t)(r->columns->n_cols - r->columns->has_mass) * s->n_kv_heads;
    p->x = (float *)(base + take(&at, n * dim * 4));
    p->mid = (float *)(base + take(&at, n * mid * 4));
    p->stats = (float *)(base + take(&at, n * stats * 4));
    p->packed = base + take(&at, gates_see_kv(r) ? n * r->b->gates.source->n_in * e : 0);
    p->lse = (float *)(base + take(&at, n * s->n_heads * 4));
    p->normed = base + take(&at, n * dim * e);
    p->qkv = base + take(&at, n * (nq + 2 * nk) * e);
    p->k = base + take(&at, n * nk * e);
    p->v = base + take(&at, n * nk * e);
    p->att = base + take(&at, n * nq * e);
    p->gate_up = base + take(&at, slice * 2 * in->n_ff * e);
    p->h = base + take(&at, slice * in->n_ff * e);
    return at;
}

size_t kv_cuda_prompt_bytes(kv_cuda_runner *r, int n_rows) {
    pass p = {};
    p.r = r;
    p.type = r->b->type;
    p.n_rows = n_rows;
    return cut_buffers(&p, NULL);
}

size_t kv_cuda_prompt_list_bytes(int n_rows, int n_segs) {
    return 4 * (size_t)n_rows * sizeof(int32_t) + n_segs * sizeof(kv_cuda_segment);
}

size_t kv_cuda_prompt_scratch_bytes(const kv_cuda_runner *r, int n_segs, int most_rows, int most_slots) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    if (r->b->type != KV_CUDA_BF16 || !n_segs) return 0;
    size_t want = kv_cuda_attend_scratch_bytes(n_segs, most_rows, s->n_heads, s->n_kv_heads, s->head_dim, most_slots);
    return want < attend_scratch_most ? want : attend_scratch_most;
}

size_t kv_cuda_prompt_mass_bytes(const kv_cuda_runner *r, int n_rows) {
    return r->columns->has_mass ? (size_t)n_rows * r->base.engine->model.info.shape.n_kv_heads * sizeof(float) : 0;
}

size_t kv_cuda_prompt_last_bytes(const kv_cuda_runner *r, int n_seqs) {
    const size_t dim = r->base.engine->model.info.shape.dim;
    return (n_seqs * sizeof(float) + kv_cuda_whole_bands(n_seqs) * kv_cuda_type_bytes(r->b->type)) * dim;
}

static int product(const pass *p, void *out, int out_f32, const void *x, const void *w, int n, int n_out, int n_in,
                   int accumulate) {
    kv_cuda_backend *b = p->r->b;
    if (p->type == KV_CUDA_BF16)
        return kv_cuda_gemm_bf16(&b->gemm, out, out_f32, x, w, n, n_out, n_in, accumulate, b->stream, p->err);
    return kv_cuda_check(
        kv_cuda_gemm_f32((float *)out, (const float *)x, (const float *)w, n, n_out, n_in, accumulate, b->stream),
        "product", p->err);
}

/* Log retention of the rows into the stats, from x (n_rows, n_in). */
static int run_gates(const pass *p, int layer, const void *x) {
    kv_cuda_runner *r = p->r;
    const kv_cuda_gates *d = &r->b->gates;
    const kv_cuda_gate_layer *w = &d->layers[layer];
    kv_cuda_gate g = {};
    g.stats = p->stats;
    g.n_stats = r->columns->n_cols - r->columns->has_mass;
    g.mid = p->mid;
    g.mid_stride = d->n_first * d->n_parts;
    g.n_parts = d->n_parts;
    g.b1 = w->b1;
    g.map = w->mid;
    g.map_b = w->mid_b;
    g.w2 = w->w2;
    g.bias = w->bias;
    g.n = p->n_rows;
    g.n_hidden = d->source->n_hidden;
    g.n_kv_heads = d->source->n_kv_heads;
    int rc = product(p, p->mid, 1, x, w->w1, p->n_rows, g.mid_stride, d->source->n_in, 0);
    for (int i = 0; rc == KV_OK && i < r->columns->n_sets; i++) {
        if (r->sets[i].gate_col < 0) continue;
        g.at = r->sets[i].gate_col - r->columns->has_mass;
        rc = kv_cuda_check(kv_cuda_gate_rows(&g, r->b->stream), "retention gate", p->err);
    }
    return rc;
}

/* Columns after the mass, (n_rows, n_kv_heads, n_stats), as far as the hidden state tells them. */
static int fill_stats(const pass *p, int layer) {
    kv_cuda_runner *r = p->r;
    const kv_shape *s = &r->base.engine->model.info.shape;
    int n_stats = r->columns->n_cols - r->columns->has_mass;
    if (!n_stats) return KV_OK;
    int rc = kv_cuda_check(cudaMemsetAsync(p->stats, 0, (size_t)p->n_rows * s->n_kv_heads * n_stats * 4, r->b->stream),
                           "columns", p->err);
    return rc == KV_OK && r->gated && !gates_see_kv(r) ? run_gates(p, layer, p->normed) : rc;
}

static int append(const pass *p, int layer, const float *stats) {
    kv_cuda_runner *r = p->r;
    kv_cuda_append a = {};
    kv_cuda_set_heads(&a, r, layer);
    kv_cuda_set_rotation(&a, r, layer);
    a.qkv = p->qkv;
    a.type = p->type;
    a.rows = p->rows;
    a.stats = stats;
    a.k_out = p->k;
    a.v_out = p->v;
    return kv_cuda_check(kv_cuda_append_rows(&a, r->b->stream), "append", p->err);
}

/* mass of a fresh prompt (n_kv_heads, n) to its slots.  Launch: (n / 256, n_kv_heads) blocks of 256. */
static __global__ void put_mass(const kv_cuda_seq *seqs, int row, kv_page_layout layout, int layer, const float *mass,
                                int n) {
    int slot = blockIdx.x * 256 + threadIdx.x, head = layer * gridDim.y + blockIdx.y;
    if (slot >= n) return;
    const kv_cuda_seq &s = seqs[row];
    char *page = (char *)s.pages[(size_t)head * s.page_cap + slot / KV_PAGE];
    ((float *)(page + layout.off_cols))[slot % KV_PAGE] = mass[(size_t)blockIdx.y * n + slot];
}

static int attend_fresh(const pass *p, int layer, const kv_cuda_segment *g) {
    kv_cuda_runner *r = p->r;
    const kv_shape *s = &r->base.engine->model.info.shape;
    size_t nq = (size_t)s->n_heads * s->head_dim, nk = (size_t)s->n_kv_heads * s->head_dim, width = nq + 2 * nk;
    const __nv_bfloat16 *q = (const __nv_bfloat16 *)p->qkv + g->row * width;
    const __nv_bfloat16 *k = (const __nv_bfloat16 *)p->k + g->row * nk, *v = (const __nv_bfloat16 *)p->v + g->row * nk;
    float *lse = r->columns->has_mass ? p->lse + (size_t)g->row * s->n_heads : NULL,
          scale = 1 / sqrtf((float)s->head_dim);
    int rc = kv_cuda_check(kv_cuda_attend_prompt((__nv_bfloat16 *)p->att + g->row * nq, lse, q, width, k, v, nk, g->n,
                                                 s->n_heads, s->n_kv_heads, s->head_dim, scale, r->b->stream),
                           "attention of a prompt", p->err);
    if (rc || !lse) return rc;
    rc = kv_cuda_grow(r, &r->mass, KV_USE_WORKSPACE, kv_cuda_prompt_mass_bytes(r, g->n), "attention mass", p->err);
    if (rc) return rc;
    rc = kv_cuda_check(kv_cuda_mass_prompt((float *)r->mass.p, lse, q, width, k, nk, g->n, s->n_heads, s->n_kv_heads,
                                           s->head_dim, scale, r->b->stream),
                       "attention mass", p->err);
    if (rc) return rc;
    put_mass<<<dim3((g->n + 255) / 256, s->n_kv_heads), 256, 0, r->b->stream>>>(r->seqs, g->seq, r->layout, layer,
                                                                                (const float *)r->mass.p, g->n);
    return kv_cuda_check(cudaGetLastError(), "attention mass", p->err);
}

static int attend(const pass *p, int layer) {
    kv_cuda_runner *r = p->r;
    const kv_shape *s = &r->base.engine->model.info.shape;
    int rc = KV_OK;
    for (int i = p->n_past; rc == KV_OK && i < p->n_segs; i++) rc = attend_fresh(p, layer, &p->host[i]);
    if (rc || !p->n_past) return rc;
    kv_cuda_attend a = {};
    kv_cuda_set_heads(&a, r, layer);
    a.q = p->qkv;
    a.q_stride = (size_t)(s->n_heads + 2 * s->n_kv_heads) * s->head_dim;
    a.out = p->att;
    a.lse = r->columns->has_mass ? p->lse : NULL;
    a.segs = p->past;
    a.n_segs = p->n_past;
    a.n_rows = p->n_rows;
    a.most_rows = p->most_rows;
    a.most_slots = p->most_slots;
    a.scale = 1 / sqrtf((float)s->head_dim);
    a.scratch = r->prompt_scratch.p;
    a.scratch_bytes = r->prompt_scratch.bytes;
    a.counters = r->b->counters;
    rc = kv_cuda_check(p->type == KV_CUDA_BF16 ? kv_cuda_attend_slots(&a, r->b->stream)
                                               : kv_cuda_attend_f32(&a, r->b->stream),
                       "attention", p->err);
    if (rc == KV_OK && a.lse) rc = kv_cuda_check(kv_cuda_mass_rows(&a, r->b->stream), "attention mass", p->err);
    return rc;
}

static int feed_forward(const pass *p, int layer) {
    const kv_cuda_runner *r = p->r;
    const kv_model_info *in = &r->base.engine->model.info;
    const kv_cuda_layer *l = &r->b->model.layers[layer];
    size_t dim = in->shape.dim, e = kv_cuda_type_bytes(p->type);
    int rc = kv_cuda_check(kv_cuda_norm_rows(p->normed, p->type, KV_ORDER_PLAIN, p->x, l->ffn_norm,
                                             r->base.engine->model.rms_eps, p->n_rows, in->shape.dim, r->b->stream),
                           "norm", p->err);
    for (int from = 0; rc == KV_OK && from < p->n_rows; from += SLICE_ROWS) {
        int n = p->n_rows - from < SLICE_ROWS ? p->n_rows - from : SLICE_ROWS;
        rc = product(p, p->gate_up, p->type == KV_CUDA_F32, (char *)p->normed + from * dim * e, l->gate_up, n,
                     2 * in->n_ff, in->shape.dim, 0);
        if (rc == KV_OK)
            rc = kv_cuda_check(kv_cuda_swiglu_rows(p->h, p->gate_up, p->type, n, in->n_ff, r->b->stream), "SwiGLU",
                               p->err);
        if (rc == KV_OK) rc = product(p, p->x + from * dim, 1, p->h, l->down, n, in->shape.dim, in->n_ff, 1);
    }
    return rc;
}

/* Columns after the mass of rows that are in the cache already.  Launch: one thread a (row, KV head). */
static __global__ void put_stats(kv_cuda_rows rows, const kv_cuda_seq *seqs, kv_page_layout layout, int layer,
                                 int n_kv_heads, const float *stats) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, row = i / n_kv_heads, n_stats = layout.n_cols - layout.has_mass;
    if (row >= rows.n) return;
    const kv_cuda_seq &s = seqs[rows.seq[row]];
    int head = layer * n_kv_heads + i % n_kv_heads, slot = s.n_slots[head] - rows.back[row];
    float *cols = (float *)((char *)s.pages[(size_t)head * s.page_cap + slot / KV_PAGE] + layout.off_cols);
    for (int k = 0; k < n_stats; k++)
        cols[(layout.has_mass + k) * KV_PAGE + slot % KV_PAGE] = stats[(size_t)i * n_stats + k];
}

/* Columns that need K and V as they were appended, or that only the host can fill; then put into the slots. */
static int fill_late_stats(const pass *p, int layer) {
    kv_cuda_runner *r = p->r;
    const kv_shape *s = &r->base.engine->model.info.shape;
    int n = p->n_rows * s->n_kv_heads, rc = KV_OK;
    if (!gates_see_kv(r) && !r->host_sets) return KV_OK;
    if (gates_see_kv(r)) {
        rc = kv_cuda_check(
            kv_cuda_pack_kv(p->packed, p->k, p->v, p->type, p->n_rows, s->n_kv_heads, s->head_dim, r->b->stream),
            "keys and values", p->err);
        if (rc == KV_OK) rc = run_gates(p, layer, p->packed);
    }
    if (rc == KV_OK && r->host_sets)
        rc = kv_cuda_observe_on_host(r, layer, p->n_rows, p->normed, p->k, p->v, p->rows.pos, p->stats, p->err);
    if (rc) return rc;
    put_stats<<<(n + 127) / 128, 128, 0, r->b->stream>>>(p->rows, r->seqs, r->layout, layer, s->n_kv_heads, p->stats);
    return kv_cuda_check(cudaGetLastError(), "columns", p->err);
}

static int run_layer(const pass *p, int layer) {
    kv_cuda_runner *r = p->r;
    const kv_model *m = &r->base.engine->model;
    const kv_shape *s = &m->info.shape;
    const kv_cuda_layer *l = &r->b->model.layers[layer];
    int nq = s->n_heads * s->head_dim, width = nq + 2 * s->n_kv_heads * s->head_dim;
    int rc = kv_cuda_check(kv_cuda_norm_rows(p->normed, p->type, KV_ORDER_PLAIN, p->x, l->attn_norm, m->rms_eps,
                                             p->n_rows, s->dim, r->b->stream),
                           "norm", p->err);
    if (rc == KV_OK) rc = product(p, p->qkv, p->type == KV_CUDA_F32, p->normed, l->qkv, p->n_rows, width, s->dim, 0);
    if (rc == KV_OK) rc = fill_stats(p, layer);
    if (rc == KV_OK) rc = append(p, layer, r->columns->n_cols > r->columns->has_mass ? p->stats : NULL);
    if (rc == KV_OK) rc = fill_late_stats(p, layer);
    if (rc == KV_OK) rc = attend(p, layer);
    if (rc == KV_OK) rc = product(p, p->x, 1, p->att, l->out, p->n_rows, s->dim, nq, 1);
    return rc ? rc : feed_forward(p, layer);
}

/* ---- descriptors ------------------------------------------------------------------------------------------------- */

/* Tokens that the device sampled itself.  Launch: one thread a row. */
static __global__ void pick_tokens(int32_t *out, const int32_t *seq, const int32_t *token, int n, int n_vocab) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = min(max(token[seq[i]], 0), n_vocab - 1);
}

/* A prompt's first rows attend to each other without the cache. */
static int is_fresh(const pass *p, const kv_segment *g) {
    int d = p->r->base.engine->model.info.shape.head_dim;
    return p->type == KV_CUDA_BF16 && p->r->rows[g->seq->row].slots == g->n && (d == 64 || d == 96 || d == 128);
}

/* Fills the host's descriptors: rows in the order of segs, segments with those that have a past first. */
static void describe(pass *p, kv_segment *const *segs, int32_t *rows) {
    int32_t *token = rows, *pos = token + p->n_rows, *seq = pos + p->n_rows, *back = seq + p->n_rows;
    int at = 0, fresh = 0;
    for (int i = 0; i < p->n_segs; i++) fresh += is_fresh(p, segs[i]);
    p->n_past = p->n_segs - fresh;
    int next_past = 0, next_fresh = p->n_past;
    for (int i = 0; i < p->n_segs; i++) {
        const kv_segment *g = segs[i];
        int first = g->seq->n_seen, row = g->seq->row, held = p->r->rows[row].slots, is_new = is_fresh(p, g);
        p->host[is_new ? next_fresh++ : next_past++] = (kv_cuda_segment){row, at, g->n, first};
        if (!is_new && g->n > p->most_rows) p->most_rows = g->n;
        if (!is_new && held > p->most_slots) p->most_slots = held;
        for (int k = 0; k < g->n; k++, at++) {
            token[at] = g->tokens ? g->tokens[k] : 0;
            pos[at] = first + k;
            seq[at] = row;
            back[at] = g->n - k;
        }
    }
}

static int upload(pass *p, kv_segment *const *segs) {
    kv_cuda_runner *r = p->r;
    size_t n = p->n_rows, ints = 4 * n * sizeof(int32_t), bytes = kv_cuda_prompt_list_bytes(p->n_rows, p->n_segs);
    int32_t *host = (int32_t *)malloc(bytes);
    if (!host) return kv_fail(p->err, KV_ENOMEM, "out of memory for the rows of a prompt");
    p->host = (kv_cuda_segment *)((char *)host + ints);
    describe(p, segs, host);
    int rc = kv_cuda_grow(r, &r->segments, KV_USE_WORKSPACE, bytes, "the rows of a prompt", p->err);
    if (rc == KV_OK)
        rc = kv_cuda_check(cudaMemcpyAsync(r->segments.p, host, bytes, cudaMemcpyHostToDevice, r->b->stream), "rows",
                           p->err);
    int32_t *d = (int32_t *)r->segments.p;
    p->rows = (kv_cuda_rows){d, d + n, d + 2 * n, d + 3 * n, p->n_rows};
    p->past = (const kv_cuda_segment *)(d + 4 * n);
    kv_cuda_segment *kept = (kv_cuda_segment *)malloc(p->n_segs * sizeof *kept);
    if (kept) memcpy(kept, p->host, p->n_segs * sizeof *kept);
    if (!kept && rc == KV_OK) rc = kv_fail(p->err, KV_ENOMEM, "out of memory for the rows of a prompt");
    p->host = kept;
    free(host);
    if (rc || segs[0]->tokens) return rc;
    pick_tokens<<<(p->n_rows + 127) / 128, 128, 0, r->b->stream>>>(d, d + 2 * n, r->token, p->n_rows,
                                                                   r->base.engine->model.info.n_vocab);
    return kv_cuda_check(cudaGetLastError(), "tokens", p->err);
}

/* Slots for every segment; one that the pool has no room for is left out. */
static int extend(kv_cuda_runner *r, kv_segment *segs, int n, kv_segment **run, int *n_run, kv_error *err) {
    int32_t rows[KV_MAX_BATCH] = {0}, counts[KV_MAX_BATCH] = {0};
    for (int i = 0; i < n; i++) {
        rows[i] = segs[i].seq->row;
        counts[i] = segs[i].n;
        segs[i].status = KV_OK;
        run[i] = &segs[i];
    }
    *n_run = n;
    int rc = kv_cuda_extend_rows(r, rows, counts, n, err);
    if (rc != KV_ENOMEM) return rc;
    *n_run = 0;
    for (int i = 0; i < n; i++) {
        segs[i].status = kv_cuda_extend_rows(r, rows + i, counts + i, 1, segs[i].err);
        if (segs[i].status == KV_OK) run[(*n_run)++] = &segs[i];
    }
    return KV_OK;
}

/* Logits of the last row of every segment that wants a token, to the place of its sequence. */
static int head(const pass *p, kv_segment *const *segs) {
    kv_cuda_runner *r = p->r;
    const kv_model *m = &r->base.engine->model;
    int dim = m->info.shape.dim, n_vocab = m->info.n_vocab, most = 0, rc = KV_OK;
    rc = kv_cuda_grow(r, &r->last, KV_USE_WORKSPACE, kv_cuda_prompt_last_bytes(r, r->max_seqs), "last rows", p->err);
    if (rc) return rc;
    float *last = (float *)r->last.p;
    void *normed = last + (size_t)r->max_seqs * dim;
    for (int i = 0, at = 0; rc == KV_OK && i < p->n_segs; at += segs[i++]->n) {
        if (!segs[i]->wants_token) continue;
        int row = segs[i]->seq->row;
        if (row + 1 > most) most = row + 1;
        rc = kv_cuda_check(cudaMemcpyAsync(last + (size_t)row * dim, p->x + (size_t)(at + segs[i]->n - 1) * dim,
                                           dim * sizeof *last, cudaMemcpyDeviceToDevice, r->b->stream),
                           "last rows", p->err);
    }
    if (rc || !most) return rc;
    const kv_order order = p->type == KV_CUDA_F32 ? KV_ORDER_PLAIN : KV_ORDER_BANDS;
    rc = kv_cuda_check(
        kv_cuda_norm_rows(normed, p->type, order, last, r->b->model.out_norm, m->rms_eps, most, dim, r->b->stream),
        "norm", p->err);
    if (rc) return rc;
    if (p->type == KV_CUDA_F32)
        return kv_cuda_check(kv_cuda_gemm_f32(r->logits, (const float *)normed, (const float *)r->b->model.head, most,
                                              n_vocab, dim, 0, r->b->stream),
                             "logits", p->err);
    kv_cuda_skinny a = {};
    a.w = (const __nv_bfloat16 *)r->b->model.head;
    a.n_out = a.out_stride = n_vocab;
    a.n_in = dim;
    a.x = (const __nv_bfloat16 *)normed;
    a.order = order;
    a.n = most;
    a.out = r->logits;
    return kv_cuda_check(kv_cuda_skinny_rows(KV_SKINNY_PLAIN, &a, 0, r->b->stream), "logits", p->err);
}

static int run_pass(pass *p, kv_segment *const *segs) {
    kv_cuda_runner *r = p->r;
    const kv_shape *s = &r->base.engine->model.info.shape;
    int rc = kv_cuda_grow(r, &r->prompt, KV_USE_WORKSPACE, cut_buffers(p, NULL), "the rows of a prompt", p->err);
    if (rc == KV_OK) {
        cut_buffers(p, (char *)r->prompt.p);
        rc = upload(p, segs);
    }
    if (rc == KV_OK)
        rc = kv_cuda_grow(r, &r->prompt_scratch, KV_USE_WORKSPACE,
                          kv_cuda_prompt_scratch_bytes(r, p->n_past, p->most_rows, p->most_slots), "attention", p->err);
    if (rc == KV_OK)
        rc = kv_cuda_check(
            kv_cuda_embed_rows(p->x, r->b->model.embed, p->type, p->rows.token, p->n_rows, s->dim, r->b->stream),
            "embedding", p->err);
    for (int l = 0; rc == KV_OK && l < s->n_layers; l++) rc = run_layer(p, l);
    return rc ? rc : head(p, segs);
}

int kv_cuda_forward_rows(kv_cuda_runner *r, kv_segment *segs, int n, const kv_trace *trace, kv_error *err) {
    kv_segment *run[KV_MAX_BATCH];
    pass p = {};
    if (trace && trace->on_append)
        return kv_fail(err, KV_EUNSUPPORTED, "a trace of appended rows is not available on CUDA: use --backend cpu");
    int rc = extend(r, segs, n, run, &p.n_segs, err);
    if (rc || !p.n_segs) return rc;
    p.r = r;
    p.type = r->b->type;
    p.err = err;
    for (int i = 0; i < p.n_segs; i++) p.n_rows += run[i]->n;
    rc = run_pass(&p, run);
    free(p.host);
    if (rc) return rc;
    for (int i = 0; i < p.n_segs; i++) {
        kv_cuda_account_held(r, run[i]->seq);
        run[i]->seq->n_seen += run[i]->n;
    }
    r->last_rows = p.n_rows;
    return KV_OK;
}

/* The rows of the last forward are still in its buffers: x comes first. */
int kv_cuda_read_all_logits(kv_cuda_runner *r, int n, float *out, kv_error *err) {
    const kv_model *m = &r->base.engine->model;
    kv_cuda_backend *b = r->b;
    int dim = m->info.shape.dim, n_vocab = m->info.n_vocab;
    void *normed = NULL, *logits = NULL;
    size_t normed_bytes = (size_t)n * dim * kv_cuda_type_bytes(b->type),
           logits_bytes = (size_t)n * n_vocab * sizeof(float);
    if (n != r->last_rows) return kv_fail(err, KV_EARG, "logits of %d rows, the last forward had %d", n, r->last_rows);
    int rc = kv_cuda_take(b, KV_USE_WORKSPACE, normed_bytes, "last rows", &normed, err);
    if (rc == KV_OK) rc = kv_cuda_take(b, KV_USE_WORKSPACE, logits_bytes, "logits", &logits, err);
    if (rc == KV_OK)
        rc = kv_cuda_check(kv_cuda_norm_rows(normed, b->type, KV_ORDER_PLAIN, (const float *)r->prompt.p,
                                             b->model.out_norm, m->rms_eps, n, dim, b->stream),
                           "norm", err);
    if (rc == KV_OK && b->type == KV_CUDA_BF16)
        rc = kv_cuda_gemm_bf16(&b->gemm, logits, 1, normed, b->model.head, n, n_vocab, dim, 0, b->stream, err);
    else if (rc == KV_OK)
        rc = kv_cuda_check(kv_cuda_gemm_f32((float *)logits, (const float *)normed, (const float *)b->model.head, n,
                                            n_vocab, dim, 0, b->stream),
                           "logits", err);
    if (rc == KV_OK)
        rc =
            kv_cuda_check(cudaMemcpyAsync(out, logits, logits_bytes, cudaMemcpyDeviceToHost, b->stream), "logits", err);
    if (rc == KV_OK) rc = kv_cuda_check(cudaStreamSynchronize(b->stream), "logits", err);
    kv_cuda_give(b, KV_USE_WORKSPACE, normed, normed_bytes);
    kv_cuda_give(b, KV_USE_WORKSPACE, logits, logits_bytes);
    return rc;
}
