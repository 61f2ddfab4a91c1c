/* decode_step.cu - the fused decode step: about five kernels a layer.
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
 * Nothing is allocated and nothing waits for the host.  Which rows take part, their lengths and tables lie in device
 * memory. */
#include "engine/cuda/decode_step.cuh"

#include "engine/cuda/common.cuh"

#include <stdio.h>
#include <string.h>

enum { BEGIN_THREADS = 256 };

typedef struct begin_args {
    kv_cuda_seq *seqs;
    const int32_t *active, *token;
    const __nv_bfloat16 *embed; /* (n_vocab, dim) */
    const float *norm;          /* (dim) */
    float *x, *squares;         /* (n, dim), (n, squares of dim) */
    __nv_bfloat16 *normed;      /* (n, dim) in `order` */
    int dim, n_vocab, n_heads;  /* n_heads: n_layers * n_kv_heads */
    kv_order order;             /* of normed */
    void **stack;
    int32_t *height;
} begin_args;

/* Launch: (dim / BEGIN_THREADS + heads / BEGIN_THREADS, n) blocks of BEGIN_THREADS: the first blocks of a row embed,
 * the others take slots. */
static __global__ void begin_step(begin_args a) {
    int row = blockIdx.y;
    if (!a.active[row]) return;
    kv_cuda_seq &s = a.seqs[row];
    int i = blockIdx.x * BEGIN_THREADS + threadIdx.x, embedding = kv_cuda_ceil(a.dim, BEGIN_THREADS);
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
    a.normed[kv_cuda_place(a.order, row, i, a.dim)] = __float2bfloat16_rn(x * a.norm[i]);
    if (i % 16 == 0) a.squares[(size_t)row * kv_cuda_skinny_squares(a.dim) + i / 16] = s2;
}

/* Keeps the stream busy so that what is enqueued behind it starts without waiting for the host.  Launch: one thread. */
static __global__ void hold_stream(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) {
    }
}

static void open_mark(kv_cuda_pass *p) {
    if (!p->profile || p->rc != cudaSuccess) return;
    hold_stream<<<1, 1, 0, p->r->b->stream>>>(60000);
    p->rc = cudaEventRecord(p->from, p->r->b->stream);
}

static void close_mark(kv_cuda_pass *p, const char *name, double bytes, int launches, cudaError_t rc) {
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

/* order: in which the first product wants the normed rows. */
static void enqueue_begin(kv_cuda_pass *p, kv_order order) {
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
    a.order = order;
    a.stack = r->free_pages;
    a.height = r->n_free;
    open_mark(p);
    int blocks = kv_cuda_ceil(a.dim, BEGIN_THREADS) + kv_cuda_ceil(a.n_heads, BEGIN_THREADS);
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
static void enqueue_product(kv_cuda_pass *p, const product *m, int early) {
    const kv_cuda_skinny *a = &m->a;
    double rows = (double)(m->kind == KV_SKINNY_SWIGLU ? 2 : 1) * a->n_out + a->n_out2;
    open_mark(p);
    close_mark(p, m->name, 2 * rows * a->n_in, 1, kv_cuda_skinny_rows(m->kind, a, early, p->r->b->stream));
}

static product make_product(const kv_cuda_pass *p, const char *name, kv_skinny_kind kind, kv_cuda_skinny a) {
    a.n = p->n;
    a.order = kv_cuda_skinny_order(kind, &a);
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

int kv_cuda_mid_floats(const kv_cuda_runner *r) {
    return r->gated ? r->b->gates.source->n_hidden * r->b->gates.n_parts : 0;
}

static product qkv_product(const kv_cuda_pass *p, int layer) {
    const kv_cuda_runner *r = p->r;
    const kv_shape *s = &r->base.engine->model.info.shape;
    int width = (s->n_heads + 2 * s->n_kv_heads) * s->head_dim;
    kv_cuda_skinny a = from_normed(r, r->b->model.layers[layer].qkv, width);
    a.out = r->qkv;
    a.out_stride = width;
    if (r->gated) {
        a.w2 = (const __nv_bfloat16 *)r->b->gates.layers[layer].w1;
        a.n_out2 = a.out2_stride = kv_cuda_mid_floats(r);
        a.out2 = r->mid + (size_t)layer * p->n * a.n_out2;
    }
    return make_product(p, "qkv", KV_SKINNY_PLAIN, a);
}

static product head_product(const kv_cuda_pass *p) {
    const kv_cuda_runner *r = p->r;
    kv_cuda_skinny a = from_normed(r, r->b->model.head, r->base.engine->model.info.n_vocab);
    a.out = r->logits;
    a.out_stride = a.n_out;
    return make_product(p, "head", KV_SKINNY_PLAIN, a);
}

/* With attention mass: the scores of a layer, (n, n_heads, most_slots), and behind those of all layers its lse, (n,
 * n_heads). */
static float *layer_scores(const kv_cuda_pass *p, int layer) {
    return (float *)p->r->scores.p + (size_t)layer * p->n * p->r->base.engine->model.info.shape.n_heads * p->most_slots;
}

static float *layer_lse(const kv_cuda_pass *p, int layer) {
    const kv_shape *s = &p->r->base.engine->model.info.shape;
    return layer_scores(p, s->n_layers) + (size_t)layer * p->n * s->n_heads;
}

static void enqueue_attend(kv_cuda_pass *p, int layer, kv_order out_order) {
    kv_cuda_runner *r = p->r;
    const kv_shape *s = &r->base.engine->model.info.shape;
    kv_cuda_decode_attend a = {};
    kv_cuda_set_heads(&a, r, layer);
    kv_cuda_set_rotation(&a, r, layer);
    a.qkv = r->qkv;
    a.out = r->att;
    a.n_slots = r->n_slots;
    a.slots_stride = s->n_layers * s->n_kv_heads;
    a.active = r->active;
    a.n = p->n;
    a.most_slots = p->most_slots;
    a.out_order = out_order;
    a.scale = 1 / sqrtf((float)s->head_dim);
    if (r->columns->has_mass) {
        a.score_stride = p->most_slots;
        a.scores = layer_scores(p, layer);
        a.lse = layer_lse(p, layer);
    }
    a.scratch = r->attend_scratch.p;
    a.scratch_bytes = r->attend_scratch.bytes;
    a.counters = r->b->counters;
    double bytes = 0;
    for (int i = 0; p->profile && i < p->n; i++)
        if (r->rows[i].seq) bytes += (double)kv_cuda_row_held(r, i) / s->n_layers * 4 * s->head_dim;
    open_mark(p);
    close_mark(p, "attend", bytes, 1, kv_cuda_decode_attend_slots(&a, r->b->stream));
}

/* The rows of a step and the heads of all layers. */
template <typename A> static void set_rows(A *a, const kv_cuda_pass *p) {
    const kv_shape *s = &p->r->base.engine->model.info.shape;
    a->seqs = p->r->seqs;
    a->active = p->r->active;
    a->layout = p->r->layout;
    a->n = p->n;
    a->n_layers = s->n_layers;
    a->n_kv_heads = s->n_kv_heads;
}

static void enqueue_columns(kv_cuda_pass *p) {
    kv_cuda_runner *r = p->r;
    kv_cuda_append_columns a = {};
    set_rows(&a, p);
    if (r->gated) {
        const kv_cuda_gates *g = &r->b->gates;
        a.mid = r->mid;
        a.mid_stride = kv_cuda_mid_floats(r);
        a.n_hidden = g->source->n_hidden;
        a.n_parts = g->n_parts;
        a.gate_col = r->sets[0].gate_col;
        a.b1 = g->layers[0].b1;
        a.w2 = g->layers[0].w2;
        a.bias = g->layers[0].bias;
        a.layer_stride = g->layer_floats;
    }
    open_mark(p);
    close_mark(p, "columns", 4.0 * p->n * a.n_layers * a.mid_stride, 1, kv_cuda_append_newest(&a, r->b->stream));
}

static void enqueue_mass(kv_cuda_pass *p) {
    kv_cuda_runner *r = p->r;
    kv_cuda_mass a = {};
    set_rows(&a, p);
    a.scores = layer_scores(p, 0);
    a.lse = layer_lse(p, 0);
    a.stride = a.most_slots = p->most_slots;
    a.n_heads = r->base.engine->model.info.shape.n_heads;
    a.append = !r->gated;
    open_mark(p);
    close_mark(p, "mass", 4.0 * p->n * a.n_heads * a.n_layers * p->most_slots, 1, kv_cuda_add_mass(&a, r->b->stream));
}

/* What a product writes for the next one lies in the order that the next one wants. */
static void enqueue_layer(kv_cuda_pass *p, int layer) {
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
    out.a.out_order = gate_up.a.order;
    gate_up.a.out_order = down.a.order;
    down.a.out_order = next.a.order;
    /* what begin writes is read by the attention of every layer before it waits; so begin must be over when the first
     * product starts, and by then it is for all kernels behind */
    enqueue_product(p, &qkv, layer > 0);
    enqueue_attend(p, layer, out.a.order);
    enqueue_product(p, &out, 1);
    enqueue_product(p, &gate_up, 1);
    enqueue_product(p, &down, 1);
}

void kv_cuda_enqueue_step(kv_cuda_pass *p, int reduces) {
    kv_cuda_runner *r = p->r;
    const kv_model_info *in = &r->base.engine->model.info;
    const kv_shape *s = &in->shape;
    product head = head_product(p);
    enqueue_begin(p, qkv_product(p, 0).a.order);
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
