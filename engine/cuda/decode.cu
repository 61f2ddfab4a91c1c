/* decode.cu - the fused decode step: about five kernels a layer, captured once in a graph and replayed.
 *
 *   begin    pages and slots for the new token of every sequence; embedding, prepared for the first norm
 *   qkv      q, k, v and the hidden layer of the retention gate in one product
 *   attend   head norms, rotation, append, ring, attention (attend_decode.cu)
 *   out      product, residual, prepared for the next norm
 *   gate_up  product, SwiGLU
 *   down     product, residual, prepared for the next norm
 *   columns  of all layers: position, retention;  mass: attention mass
 *   head     logits;  score, select, compact: at a trigger;  sample, publish
 *
 * All buffers are there before; nothing is allocated and nothing waits for the host.  A graph serves any sequences in
 * its rows: which rows take part, their lengths and tables lie in device memory. */
#include "engine/cuda/engine.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BEGIN_THREADS = 256 };

typedef struct begin_args {
    kv_cuda_seq *seqs;
    const int32_t *active, *token;
    const __nv_bfloat16 *embed; /* (n_vocab, dim) */
    const float *norm;          /* (dim) */
    float *x, *squares;         /* (n, dim), (n, squares of dim) */
    __nv_bfloat16 *normed;      /* (n, dim) */
    int dim, n_vocab, n_heads;  /* n_heads: n_layers * n_kv_heads */
    int turned;                 /* normed in product order */
    void **stack;
    int32_t *height;
} begin_args;

/* Launch: (dim / BEGIN_THREADS + heads / BEGIN_THREADS, n) blocks of BEGIN_THREADS: the first blocks of a row embed,
 * the others take slots. */
static __global__ void begin_step(begin_args a) {
    int row = blockIdx.y;
    if (!a.active[row]) return;
    kv_cuda_seq &s = a.seqs[row];
    int i = blockIdx.x * BEGIN_THREADS + threadIdx.x, embedding = (a.dim + BEGIN_THREADS - 1) / BEGIN_THREADS;
    if (blockIdx.x >= embedding) {
        int head = i - embedding * BEGIN_THREADS;
        if (head >= a.n_heads) return;
        int held = s.n_slots[head];
        if (held % KV_PAGE == 0)
            s.pages[(size_t)head * s.page_cap + held / KV_PAGE] = a.stack[atomicSub(a.height, 1) - 1];
        s.n_slots[head] = held + 1;
        return;
    }
    if (i == 0) s.n_seen++;
    int token = min(max(a.token[row], 0), a.n_vocab - 1);
    float x = i < a.dim ? __bfloat162float(a.embed[(size_t)token * a.dim + i]) : 0, s2 = x * x;
    for (int d = 8; d; d /= 2) s2 += __shfl_xor_sync(~0u, s2, d);
    if (i >= a.dim) return;
    a.x[(size_t)row * a.dim + i] = x;
    a.normed[(size_t)row * a.dim + (a.turned ? kv_cuda_turn(i) : i)] = __float2bfloat16_rn(x * a.norm[i]);
    if (i % 16 == 0) a.squares[(size_t)row * ((a.dim + 15) / 16) + i / 16] = s2;
}

/* Keeps the stream busy so that what is enqueued behind it starts without waiting for the host.  Launch: one thread. */
static __global__ void hold_stream(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) {
    }
}

/* What a step is enqueued with. */
typedef struct pass {
    kv_cuda_runner *r;
    int n, most_slots;
    kv_profile *profile;
    cudaEvent_t from, to;
    int64_t n_launches;
    cudaError_t rc;
} pass;

static void open_mark(pass *p) {
    if (!p->profile || p->rc != cudaSuccess) return;
    hold_stream<<<1, 1, 0, p->r->b->stream>>>(60000);
    p->rc = cudaEventRecord(p->from, p->r->b->stream);
}

static void close_mark(pass *p, const char *name, double bytes, int launches, cudaError_t rc) {
    kv_profile *f = p->profile;
    float ms = 0;
    p->n_launches += launches;
    if (p->rc == cudaSuccess) p->rc = rc;
    if (!f || p->rc != cudaSuccess) return;
    p->rc = cudaEventRecord(p->to, p->r->b->stream);
    if (p->rc == cudaSuccess) p->rc = cudaEventSynchronize(p->to);
    if (p->rc == cudaSuccess) p->rc = cudaEventElapsedTime(&ms, p->from, p->to);
    int i = 0;
    while (i < f->n && strcmp(f->rows[i].name, name)) i++;
    if (i == KV_PROFILE_ROWS) return;
    if (i == f->n) snprintf(f->rows[f->n++].name, sizeof f->rows[0].name, "%s", name);
    f->rows[i].calls++;
    f->rows[i].seconds += ms / 1e3;
    f->rows[i].bytes += bytes;
}

/* turned: the first product wants the normed rows in product order. */
static void enqueue_begin(pass *p, int turned) {
    kv_cuda_runner *r = p->r;
    const kv_model_info *in = &r->base.engine->model.info;
    begin_args a = {};
    a.seqs = r->seqs;
    a.active = r->active;
    a.token = r->token;
    a.embed = (const __nv_bfloat16 *)r->b->model.embed;
    a.norm = r->b->model.layers[0].attn_norm;
    a.x = r->x;
    a.squares = r->squares;
    a.normed = r->normed;
    a.dim = in->shape.dim;
    a.n_vocab = in->n_vocab;
    a.n_heads = in->shape.n_layers * in->shape.n_kv_heads;
    a.turned = turned;
    a.stack = r->free_pages;
    a.height = r->n_free;
    open_mark(p);
    int blocks = (a.dim + BEGIN_THREADS - 1) / BEGIN_THREADS + (a.n_heads + BEGIN_THREADS - 1) / BEGIN_THREADS;
    begin_step<<<dim3(blocks, p->n), BEGIN_THREADS, 0, r->b->stream>>>(a);
    close_mark(p, "begin", 6.0 * p->n * a.dim, 1, cudaGetLastError());
}

/* A product over all rows, and what --profile calls it. */
typedef struct product {
    const char *name;
    kv_skinny_kind kind;
    kv_cuda_skinny a;
} product;

/* early: may start before the kernel in front ends. */
static void enqueue_product(pass *p, const product *m, int early) {
    const kv_cuda_skinny *a = &m->a;
    double rows = (double)(m->kind == KV_SKINNY_SWIGLU ? 2 : 1) * a->n_out + a->n_out2;
    open_mark(p);
    close_mark(p, m->name, 2 * rows * a->n_in, 1, kv_cuda_skinny_rows(m->kind, a, early, p->r->b->stream));
}

static product make_product(const pass *p, const char *name, kv_skinny_kind kind, kv_cuda_skinny a) {
    a.n = p->n;
    a.turned = kv_cuda_skinny_turns(kind, &a);
    product m = {name, kind, a};
    return m;
}

/* Arguments of a product that reads the normed rows. */
static kv_cuda_skinny from_normed(const kv_cuda_runner *r, const void *w, int n_out) {
    const kv_model *m = &r->base.engine->model;
    kv_cuda_skinny a = {};
    a.w = (const __nv_bfloat16 *)w;
    a.n_out = n_out;
    a.n_in = m->info.shape.dim;
    a.x = r->normed;
    a.squares = r->squares;
    a.n_squares = kv_cuda_skinny_squares(a.n_in);
    a.dim = m->info.shape.dim;
    a.eps = m->rms_eps;
    return a;
}

/* Of one that adds to the residual. */
static kv_cuda_skinny to_residual(const kv_cuda_runner *r, const void *w, const __nv_bfloat16 *x, int n_in,
                                  const float *next_norm) {
    kv_cuda_skinny a = {};
    a.w = (const __nv_bfloat16 *)w;
    a.n_out = r->base.engine->model.info.shape.dim;
    a.n_in = n_in;
    a.x = x;
    a.residual = r->x;
    a.normed = r->normed;
    a.norm_weight = next_norm;
    a.squares_out = r->squares;
    return a;
}

/* Floats of the gate's first product of one row. */
static int mid_floats(const kv_cuda_runner *r) {
    return r->gated ? r->b->gates.source->n_hidden * r->b->gates.n_parts : 0;
}

static product qkv_product(const pass *p, int layer) {
    const kv_cuda_runner *r = p->r;
    const kv_shape *s = &r->base.engine->model.info.shape;
    int width = (s->n_heads + 2 * s->n_kv_heads) * s->head_dim;
    kv_cuda_skinny a = from_normed(r, r->b->model.layers[layer].qkv, width);
    a.out = r->qkv;
    a.out_stride = width;
    if (r->gated) {
        a.w2 = (const __nv_bfloat16 *)r->b->gates.layers[layer].w1;
        a.n_out2 = a.out2_stride = mid_floats(r);
        a.out2 = r->mid + (size_t)layer * p->n * a.n_out2;
    }
    return make_product(p, "qkv", KV_SKINNY_PLAIN, a);
}

static product head_product(const pass *p) {
    const kv_cuda_runner *r = p->r;
    kv_cuda_skinny a = from_normed(r, r->b->model.head, r->base.engine->model.info.n_vocab);
    a.out = r->logits;
    a.out_stride = a.n_out;
    return make_product(p, "head", KV_SKINNY_PLAIN, a);
}

static void enqueue_attend(pass *p, int layer, int turned) {
    kv_cuda_runner *r = p->r;
    const kv_cuda_backend *b = r->b;
    const kv_model *m = &r->base.engine->model;
    const kv_shape *s = &m->info.shape;
    kv_cuda_decode_attend a = {};
    a.qkv = r->qkv;
    a.out = r->att;
    a.seqs = r->seqs;
    a.n_slots = r->n_slots;
    a.slots_stride = s->n_layers * s->n_kv_heads;
    a.active = r->active;
    a.layout = r->layout;
    a.n = p->n;
    a.layer = layer;
    a.n_heads = s->n_heads;
    a.n_kv_heads = s->n_kv_heads;
    a.head_dim = s->head_dim;
    a.window = r->columns->window;
    a.most_slots = p->most_slots;
    a.turned = turned;
    a.bias = b->model.layers[layer].qkv_bias;
    a.q_norm = b->model.layers[layer].q_norm;
    a.k_norm = b->model.layers[layer].k_norm;
    a.eps = m->rms_eps;
    a.scale = 1 / sqrtf((float)s->head_dim);
    a.rope_cos = b->model.rope_cos;
    a.rope_sin = b->model.rope_sin;
    if (r->columns->has_mass) {
        size_t rows = (size_t)p->n * s->n_heads;
        a.score_stride = p->most_slots;
        a.scores = (float *)r->scores.p + rows * p->most_slots * layer;
        a.lse = (float *)r->scores.p + rows * p->most_slots * s->n_layers + rows * layer;
    }
    a.scratch = r->attend_scratch.p;
    a.scratch_bytes = r->attend_scratch.bytes;
    a.counters = b->counters;
    double bytes = 0;
    for (int i = 0; p->profile && i < p->n; i++)
        if (r->rows[i].seq) bytes += (double)kv_cuda_row_held(r, i) / s->n_layers * 4 * s->head_dim;
    open_mark(p);
    close_mark(p, "attend", bytes, 1, kv_cuda_decode_attend_slots(&a, b->stream));
}

static void enqueue_columns(pass *p) {
    kv_cuda_runner *r = p->r;
    const kv_shape *s = &r->base.engine->model.info.shape;
    kv_cuda_append_columns a = {};
    a.seqs = r->seqs;
    a.active = r->active;
    a.layout = r->layout;
    a.n = p->n;
    a.n_layers = s->n_layers;
    a.n_kv_heads = s->n_kv_heads;
    if (r->gated) {
        const kv_cuda_gates *g = &r->b->gates;
        a.mid = r->mid;
        a.mid_stride = mid_floats(r);
        a.n_hidden = g->source->n_hidden;
        a.n_parts = g->n_parts;
        a.gate_col = r->sets[0].gate_col;
        a.b1 = g->layers[0].b1;
        a.w2 = g->layers[0].w2;
        a.bias = g->layers[0].bias;
        a.layer_stride = g->layer_floats;
    }
    open_mark(p);
    close_mark(p, "columns", 4.0 * p->n * s->n_layers * a.mid_stride, 1, kv_cuda_append_newest(&a, r->b->stream));
}

static void enqueue_mass(pass *p) {
    kv_cuda_runner *r = p->r;
    const kv_shape *s = &r->base.engine->model.info.shape;
    const size_t rows = (size_t)p->n * s->n_heads;
    kv_cuda_mass a = {};
    a.seqs = r->seqs;
    a.active = r->active;
    a.layout = r->layout;
    a.scores = (const float *)r->scores.p;
    a.lse = a.scores + rows * p->most_slots * s->n_layers;
    a.stride = a.most_slots = p->most_slots;
    a.n = p->n;
    a.n_layers = s->n_layers;
    a.n_heads = s->n_heads;
    a.n_kv_heads = s->n_kv_heads;
    a.append = !r->gated;
    open_mark(p);
    close_mark(p, "mass", 4.0 * rows * s->n_layers * p->most_slots, 1, kv_cuda_add_mass(&a, r->b->stream));
}

/* What a product writes for the next one lies in the order that the next one wants. */
static void enqueue_layer(pass *p, int layer) {
    kv_cuda_runner *r = p->r;
    const kv_cuda_layer *l = &r->b->model.layers[layer];
    const kv_model_info *in = &r->base.engine->model.info;
    const kv_shape *s = &in->shape;
    const int last = layer + 1 == s->n_layers;
    product qkv = qkv_product(p, layer), next = last ? head_product(p) : qkv_product(p, layer + 1);
    product out = make_product(p, "out", KV_SKINNY_RESIDUAL,
                               to_residual(r, l->out, r->att, s->n_heads * s->head_dim, l->ffn_norm));
    product gate_up = make_product(p, "gate_up", KV_SKINNY_SWIGLU, from_normed(r, l->gate_up, in->n_ff));
    product down = make_product(p, "down", KV_SKINNY_RESIDUAL,
                                to_residual(r, l->down, r->h, in->n_ff, last ? r->b->model.out_norm : l[1].attn_norm));
    gate_up.a.h = r->h;
    out.a.turn_out = gate_up.a.turned;
    gate_up.a.turn_out = down.a.turned;
    down.a.turn_out = next.a.turned;
    /* what begin writes is read by the attention of every layer before it waits; so begin must be over when the first
     * product starts, and by then it is for all kernels behind */
    enqueue_product(p, &qkv, layer > 0);
    enqueue_attend(p, layer, out.a.turned);
    enqueue_product(p, &out, 1);
    enqueue_product(p, &gate_up, 1);
    enqueue_product(p, &down, 1);
}

static void enqueue_step(pass *p, int reduces) {
    kv_cuda_runner *r = p->r;
    const kv_model_info *in = &r->base.engine->model.info;
    const kv_shape *s = &in->shape;
    product head = head_product(p);
    enqueue_begin(p, qkv_product(p, 0).a.turned);
    for (int l = 0; l < s->n_layers; l++) enqueue_layer(p, l);
    /* without a gate the mass kernel writes the newest slot's columns on its way */
    if (r->gated || !r->columns->has_mass) enqueue_columns(p);
    if (r->columns->has_mass) enqueue_mass(p);
    enqueue_product(p, &head, 1);

    if (reduces) {
        open_mark(p);
        close_mark(p, "evict", 0, 4,
                   kv_cuda_evict_enqueue(r, r->seq_of, p->n, r->setup->budget + r->setup->buffer, p->most_slots));
    }
    open_mark(p);
    close_mark(p, "sample", 4.0 * p->n * in->n_vocab, 3, kv_cuda_sample_publish(r, p->n, r->skip));
}

size_t kv_cuda_decode_bytes(const kv_cuda_runner *r, int n) {
    const kv_model_info *in = &r->base.engine->model.info;
    const kv_shape *s = &in->shape;
    size_t dim = s->dim, nq = (size_t)s->n_heads * s->head_dim, width = nq + 2 * (size_t)s->n_kv_heads * s->head_dim;
    size_t mid = (size_t)mid_floats(r) * s->n_layers;
    size_t floats = n * (dim + width + mid + kv_cuda_skinny_squares(s->dim)), halves = n * (dim + nq + in->n_ff);
    return floats * 4 + halves * 2 + 4096;
}

size_t kv_cuda_scores_bytes(const kv_cuda_runner *r, int n, int most_slots) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    return r->columns->has_mass ? (size_t)n * s->n_heads * s->n_layers * (most_slots + 1) * sizeof(float) : 0;
}

/* Cuts the decode buffers out of one allocation. */
static int cut_buffers(kv_cuda_runner *r, int n, kv_error *err) {
    const kv_model_info *in = &r->base.engine->model.info;
    const kv_shape *s = &in->shape;
    size_t dim = s->dim, nq = (size_t)s->n_heads * s->head_dim, width = nq + 2 * (size_t)s->n_kv_heads * s->head_dim;
    size_t mid = (size_t)mid_floats(r) * s->n_layers;
    if (n <= r->decode_rows) return KV_OK;
    r->decode_rows = 0;
    int rc = kv_cuda_grow(r, &r->decode, KV_USE_WORKSPACE, kv_cuda_decode_bytes(r, n), "a decode step", err);
    if (rc) return rc;
    /* bf16 rows first: they are read in pieces of 16 bytes, and all their sizes are multiples of that */
    r->normed = (__nv_bfloat16 *)r->decode.p;
    r->att = r->normed + n * dim;
    r->h = r->att + n * nq;
    r->x = (float *)(((size_t)(r->h + n * (size_t)in->n_ff) + 255) & ~(size_t)255);
    r->qkv = r->x + n * dim;
    r->mid = r->qkv + n * width;
    r->squares = r->mid + n * mid;
    r->decode_rows = n;
    /* rows without a sequence are multiplied too */
    cudaError_t c = cudaMemsetAsync(r->decode.p, 0, r->decode.bytes, r->b->stream);
    return c == cudaSuccess ? KV_OK : kv_cuda_failed(c, "decode buffers", err);
}

void kv_cuda_drop_graphs(kv_cuda_runner *r) {
    kv_books *b = &r->b->base.books;
    for (int i = 0; i < r->n_graphs; i++) {
        cudaGraphExecDestroy(r->graphs[i].exec);
        kv_books_remove(b, KV_USE_GRAPHS, r->graphs[i].bytes);
    }
    r->n_graphs = 0;
}

static int decode_prepare(kv_cuda_runner *r, int n, int most_slots, kv_error *err) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    int rc = cut_buffers(r, n, err);
    if (rc == KV_OK)
        rc = kv_cuda_grow(r, &r->attend_scratch, KV_USE_WORKSPACE,
                          kv_cuda_decode_attend_scratch_bytes(n, s->n_kv_heads, s->head_dim, most_slots), "attention",
                          err);
    if (rc == KV_OK)
        rc = kv_cuda_grow(r, &r->scores, KV_USE_WORKSPACE, kv_cuda_scores_bytes(r, n, most_slots), "attention mass",
                          err);
    if (rc == KV_OK && r->setup && !r->setup->policy->never_evicts) rc = kv_cuda_evict_prepare(r, n, most_slots, err);
    return rc ? rc : kv_cuda_sampling_prepare(r, n, err);
}

static int capture(kv_cuda_runner *r, int n, int most_slots, int reduces, kv_cuda_graph *out, kv_error *err) {
    pass p = {r, n, most_slots, NULL, NULL, NULL, 0, cudaSuccess};
    cudaGraph_t graph = NULL;
    size_t before = 0, after = 0, total;
    cudaMemGetInfo(&before, &total);
    cudaError_t c = cudaStreamBeginCapture(r->b->stream, cudaStreamCaptureModeThreadLocal);
    if (c != cudaSuccess) return kv_cuda_failed(c, "capture of the decode step", err);
    enqueue_step(&p, reduces);
    c = cudaStreamEndCapture(r->b->stream, &graph);
    if (p.rc != cudaSuccess) c = p.rc;
    *out = (kv_cuda_graph){n, most_slots, reduces, NULL, p.n_launches, 0};
    if (c == cudaSuccess) c = cudaGraphInstantiate(&out->exec, graph, 0);
    if (c == cudaSuccess) c = cudaGraphUpload(out->exec, r->b->stream);
    if (graph) cudaGraphDestroy(graph);
    if (c != cudaSuccess) {
        if (out->exec) cudaGraphExecDestroy(out->exec);
        return kv_cuda_failed(c, "capture of the decode step", err);
    }
    cudaMemGetInfo(&after, &total);
    out->bytes = before > after ? before - after : 0;
    int rc = kv_books_check(&r->b->base.books, out->bytes, "the captured decode step", err);
    if (rc)
        cudaGraphExecDestroy(out->exec);
    else
        kv_books_add(&r->b->base.books, KV_USE_GRAPHS, out->bytes);
    return rc;
}

static int find_graph(kv_cuda_runner *r, int n, int most_slots, int reduces, kv_cuda_graph **out, kv_error *err) {
    for (int i = 0; i < r->n_graphs; i++) {
        kv_cuda_graph *g = &r->graphs[i];
        if (g->n_rows != n || g->most_slots != most_slots || g->reduces != reduces) continue;
        *out = g;
        return KV_OK;
    }
    if (r->n_graphs == KV_CUDA_GRAPHS) kv_cuda_drop_graphs(r);
    int rc = capture(r, n, most_slots, reduces, &r->graphs[r->n_graphs], err);
    if (rc) return rc;
    *out = &r->graphs[r->n_graphs++];
    return KV_OK;
}

static int profiled_step(kv_cuda_runner *r, int n, int most_slots, int reduces, kv_profile *profile, kv_error *err) {
    pass p = {r, n, most_slots, profile, NULL, NULL, 0, cudaSuccess};
    p.rc = cudaEventCreate(&p.from);
    if (p.rc == cudaSuccess) p.rc = cudaEventCreate(&p.to);
    enqueue_step(&p, reduces);
    if (p.from) cudaEventDestroy(p.from);
    if (p.to) cudaEventDestroy(p.to);
    profile->n_steps++;
    r->n_launches += p.n_launches;
    return p.rc == cudaSuccess ? KV_OK : kv_cuda_failed(p.rc, "profiled decode step", err);
}

int kv_cuda_decode_ready(kv_cuda_runner *r, int n, int most_slots, int may_reduce, kv_error *err) {
    kv_cuda_graph *g = NULL;
    int rc = decode_prepare(r, n, most_slots, err);
    if (rc == KV_OK) rc = find_graph(r, n, most_slots, 0, &g, err);
    return rc == KV_OK && may_reduce ? find_graph(r, n, most_slots, 1, &g, err) : rc;
}

int kv_cuda_decode_step(kv_cuda_runner *r, int n, int most_slots, int reduces, kv_profile *profile, kv_error *err) {
    kv_cuda_graph *g = NULL;
    int rc = KV_OK;
    if (profile) return profiled_step(r, n, most_slots, reduces, profile, err);
    if ((rc = find_graph(r, n, most_slots, reduces, &g, err))) return rc;
    r->n_launches += g->n_launches;
    cudaError_t c = cudaGraphLaunch(g->exec, r->b->stream);
    return c == cudaSuccess ? KV_OK : kv_cuda_failed(c, "decode step", err);
}
