/* model.c - from a model's files (and a LoRA adapter) to backend matrices.
 *
 * GGUF files of the llama architecture store the rows of q and k with each rotary pair side by side; they are put
 * back into Hugging Face order (all first halves, then all second halves of a head), because adapters, gates and the
 * rotate-half kernel use that order.  Weights are dequantised to fp32, merged, and only then converted to what the
 * backend computes with.  q, k and v become one matrix, gate and up another: fewer, larger products; files of Phi-3
 * hold them so already. */
#include "engine/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/adapter.h"

typedef struct binder {
    kv_model *m;
    kv_backend *b;
    const kv_checkpoint *src;
    const kv_model_config *config;
    const kv_adapter *adapter;
    size_t next_vector; /* floats used in m->vectors */
} binder;

static const float *load_vector(binder *bd, kv_role role, int layer, int n) {
    kv_tensor t = kv_checkpoint_tensor(bd->src, role, layer);
    float *dst = bd->m->vectors + bd->next_vector;
    kv_dequantize(t.type, t.data, dst, (size_t)n);
    bd->next_vector += (size_t)n;
    return dst;
}

/* GGUF row (head, pair, half) -> Hugging Face row (head, half, pair). */
static void unpermute_rows(float *w, int n_heads, int head_dim, int n_in, float *tmp) {
    int half = head_dim / 2;
    for (int h = 0; h < n_heads; h++) {
        float *head = w + (size_t)h * head_dim * n_in;
        memcpy(tmp, head, (size_t)head_dim * n_in * sizeof *tmp);
        for (int i = 0; i < half; i++)
            for (int k = 0; k < 2; k++)
                memcpy(head + (size_t)(k * half + i) * n_in, tmp + (size_t)(2 * i + k) * n_in,
                       (size_t)n_in * sizeof *tmp);
    }
}

/* One linear map of a layer, as a slice of rows of a fused matrix. */
typedef struct part {
    kv_role role;
    int rows, cols, heads; /* heads > 0: rows hold rotary pairs per head */
    float *dst;            /* (rows, cols) */
} part;

static int load_part(const binder *bd, int layer, const part *p, kv_error *err) {
    kv_tensor t = kv_checkpoint_tensor(bd->src, p->role, layer);
    kv_dequantize(t.type, t.data, p->dst, (size_t)p->rows * p->cols);
    if (p->heads && bd->config->pair_rows) {
        int head_dim = p->rows / p->heads;
        float *tmp = malloc((size_t)head_dim * p->cols * sizeof *tmp);
        if (!tmp) return kv_fail(err, KV_ENOMEM, "out of memory loading %s", t.name);
        unpermute_rows(p->dst, p->heads, head_dim, p->cols, tmp);
        free(tmp);
    }
    if (bd->adapter)
        return kv_adapter_merge(bd->adapter, layer, kv_role_module(p->role), p->dst, p->rows, p->cols, err);
    return KV_OK;
}

enum { N_PARTS = 7 };

typedef struct part_jobs {
    const binder *bd;
    int layer;
    const part *parts;
    int rc[N_PARTS];
    kv_error err[N_PARTS];
} part_jobs;

static void load_part_job(void *ctx, int i, int thread) {
    part_jobs *j = ctx;
    (void)thread;
    j->rc[i] = load_part(j->bd, j->layer, &j->parts[i], &j->err[i]);
}

/* fp32 matrices of one layer, side by side in a buffer. */
typedef struct layer_buffer {
    float *qkv, *out, *gate_up, *down;
} layer_buffer;

static int load_parts(const binder *bd, int layer, const layer_buffer *x, kv_error *err) {
    const kv_shape *s = &bd->config->shape;
    int d = s->dim, ff = bd->config->n_ff, nq = s->n_heads * s->head_dim, nk = s->n_kv_heads * s->head_dim;
    const part separate[] = {{KV_ROLE_Q, nq, d, s->n_heads, x->qkv},
                             {KV_ROLE_K, nk, d, s->n_kv_heads, x->qkv + (size_t)nq * d},
                             {KV_ROLE_V, nk, d, 0, x->qkv + (size_t)(nq + nk) * d},
                             {KV_ROLE_OUT, d, nq, 0, x->out},
                             {KV_ROLE_GATE, ff, d, 0, x->gate_up},
                             {KV_ROLE_UP, ff, d, 0, x->gate_up + (size_t)ff * d},
                             {KV_ROLE_DOWN, d, ff, 0, x->down}};
    const part fused[] = {{KV_ROLE_QKV, nq + 2 * nk, d, 0, x->qkv},
                          {KV_ROLE_OUT, d, nq, 0, x->out},
                          {KV_ROLE_GATE_UP, 2 * ff, d, 0, x->gate_up},
                          {KV_ROLE_DOWN, d, ff, 0, x->down}};
    int n = bd->config->fused ? (int)(sizeof fused / sizeof *fused) : N_PARTS;
    part_jobs jobs = {.bd = bd, .layer = layer, .parts = bd->config->fused ? fused : separate};
    kv_threads_for(bd->b->threads, n, load_part_job, &jobs);
    for (int i = 0; i < n; i++)
        if (jobs.rc[i]) return kv_fail(err, jobs.rc[i], "%s", jobs.err[i].text);
    return KV_OK;
}

static void load_vectors(binder *bd, int layer) {
    const kv_shape *s = &bd->config->shape;
    kv_layer *ly = &bd->m->layers[layer];
    ly->attn_norm = load_vector(bd, KV_ROLE_ATTN_NORM, layer, s->dim);
    ly->ffn_norm = load_vector(bd, KV_ROLE_FFN_NORM, layer, s->dim);
    if (bd->config->qk_norm) {
        ly->q_norm = load_vector(bd, KV_ROLE_Q_NORM, layer, s->head_dim);
        ly->k_norm = load_vector(bd, KV_ROLE_K_NORM, layer, s->head_dim);
    }
    if (bd->config->qkv_bias) { /* one behind the other */
        ly->qkv_bias = load_vector(bd, KV_ROLE_Q_BIAS, layer, s->n_heads * s->head_dim);
        load_vector(bd, KV_ROLE_K_BIAS, layer, s->n_kv_heads * s->head_dim);
        load_vector(bd, KV_ROLE_V_BIAS, layer, s->n_kv_heads * s->head_dim);
    }
}

static int load_layer(binder *bd, int layer, float *buffer, kv_error *err) {
    kv_model *m = bd->m;
    const kv_shape *s = &m->info.shape;
    kv_layer *ly = &m->layers[layer];
    int d = s->dim, ff = m->info.n_ff, nq = s->n_heads * s->head_dim, nk = s->n_kv_heads * s->head_dim;
    layer_buffer x = {.qkv = buffer};
    x.out = x.qkv + (size_t)(nq + 2 * nk) * d;
    x.gate_up = x.out + (size_t)d * nq;
    x.down = x.gate_up + (size_t)2 * ff * d;
    const kv_ops *ops = bd->b->ops;
    int rc = load_parts(bd, layer, &x, err);
    if (rc || (rc = ops->matrix_create(bd->b, x.qkv, nq + 2 * nk, d, &ly->qkv, err)) ||
        (rc = ops->matrix_create(bd->b, x.out, d, nq, &ly->out, err)) ||
        (rc = ops->matrix_create(bd->b, x.gate_up, 2 * ff, d, &ly->gate_up, err)) ||
        (rc = ops->matrix_create(bd->b, x.down, d, ff, &ly->down, err)))
        return rc;
    m->info.weight_bytes += ops->matrix_bytes(ly->qkv) + ops->matrix_bytes(ly->out) + ops->matrix_bytes(ly->gate_up) +
                            ops->matrix_bytes(ly->down);
    load_vectors(bd, layer);
    return KV_OK;
}

/* Angles as transformers computes them: inverse frequencies and products rounded to fp32. */
static int make_rope(binder *bd, kv_error *err) {
    kv_model *m = bd->m;
    int half = m->info.shape.head_dim / 2, n_ctx = m->info.n_ctx;
    float *inv = m->rope_inv = malloc((size_t)half * sizeof *inv);
    if (!inv) return kv_fail(err, KV_ENOMEM, "out of memory for the rotary frequencies");
    m->rope_scale = kv_rope_frequencies(&bd->config->rope, m->info.shape.head_dim, n_ctx, inv);
    if (bd->b->gathers_embedding) return KV_OK;
    m->rope_cos = malloc((size_t)n_ctx * half * sizeof(float));
    m->rope_sin = malloc((size_t)n_ctx * half * sizeof(float));
    if (!m->rope_cos || !m->rope_sin)
        return kv_fail(err, KV_ENOMEM, "out of memory for the rotary table of %d positions", n_ctx);
    for (int p = 0; p < n_ctx; p++) {
        for (int i = 0; i < half; i++) {
            float angle = (float)p * inv[i];
            m->rope_cos[(size_t)p * half + i] = cosf(angle) * m->rope_scale;
            m->rope_sin[(size_t)p * half + i] = sinf(angle) * m->rope_scale;
        }
    }
    m->rope = (kv_rope_table){m->rope_cos, m->rope_sin, n_ctx, half};
    return KV_OK;
}

/* A matrix of (n_vocab, dim). */
static int load_vocab_matrix(binder *bd, const kv_tensor *t, kv_matrix **out, kv_error *err) {
    int n_vocab = bd->m->info.n_vocab, dim = bd->m->info.shape.dim;
    size_t n = (size_t)n_vocab * dim;
    float *w = malloc(n * sizeof *w);
    if (!w) return kv_fail(err, KV_ENOMEM, "out of memory loading %s", t->name);
    kv_dequantize(t->type, t->data, w, n);
    int rc = bd->b->ops->matrix_create(bd->b, w, n_vocab, dim, out, err);
    free(w);
    if (rc == KV_OK) bd->m->info.weight_bytes += bd->b->ops->matrix_bytes(*out);
    return rc;
}

static int load_head(binder *bd, kv_error *err) {
    kv_model *m = bd->m;
    int tied = bd->config->tied;
    m->embed = kv_checkpoint_tensor(bd->src, KV_ROLE_EMBED, 0);
    kv_tensor head = tied ? m->embed : kv_checkpoint_tensor(bd->src, KV_ROLE_HEAD, 0);
    int rc = load_vocab_matrix(bd, &head, &m->head, err);
    if (rc || !bd->b->gathers_embedding) return rc;
    m->embed_matrix = m->head;
    return tied ? KV_OK : load_vocab_matrix(bd, &m->embed, &m->embed_matrix, err);
}

void kv_model_finish(kv_model *m, const kv_backend *b) {
    int exact = b->numerics == KV_EXACT;
    m->info.bytes_per_slot = (size_t)2 * m->info.shape.head_dim * (exact ? 4 : 2);
    m->info.backend = b->ops->name;
    m->info.cache_type = exact ? "f32" : b->open_runner ? "bf16" : "f16";
}

static void fill_info(kv_model *m, const kv_model_config *c) {
    m->info.shape = c->shape;
    m->info.n_ff = c->n_ff;
    m->info.n_vocab = c->n_vocab;
    m->info.n_ctx = c->n_ctx;
    snprintf(m->info.arch, sizeof m->info.arch, "%s", c->arch);
    snprintf(m->info.name, sizeof m->info.name, "%s", c->name);
    m->rms_eps = c->rms_eps;
}

/* Modules that an adapter of this model may change. */
static int check_adapter(const binder *bd, kv_error *err) {
    const char *modules[KV_N_ROLES];
    size_t n = 0;
    for (int r = 0; r < KV_N_ROLES; r++)
        if (kv_role_module((kv_role)r) && kv_role_is_used(bd->config, (kv_role)r))
            modules[n++] = kv_role_module((kv_role)r);
    return kv_adapter_check(bd->adapter, bd->config->shape.n_layers, modules, n, err);
}

static int load_all(binder *bd, kv_error *err) {
    kv_model *m = bd->m;
    const kv_shape *s = &m->info.shape;
    int rc = KV_OK;
    fill_info(m, bd->config);
    if (bd->adapter && (rc = check_adapter(bd, err))) return rc;
    size_t nq = (size_t)s->n_heads * s->head_dim, nk = (size_t)s->n_kv_heads * s->head_dim;
    size_t per_layer = 2 * (size_t)s->dim + (bd->config->qk_norm ? 2 * (size_t)s->head_dim : 0) +
                       (bd->config->qkv_bias ? nq + 2 * nk : 0);
    m->layers = calloc((size_t)s->n_layers, sizeof *m->layers);
    m->vectors = calloc(per_layer * (size_t)s->n_layers + (size_t)s->dim, sizeof *m->vectors);
    size_t n_buffer = (2 * nq + 2 * nk + 3 * (size_t)m->info.n_ff) * s->dim;
    float *buffer = malloc(n_buffer * sizeof *buffer);
    if (!m->layers || !m->vectors || !buffer) {
        free(buffer);
        return kv_fail(err, KV_ENOMEM, "out of memory loading %s", kv_checkpoint_path(bd->src));
    }
    rc = load_head(bd, err);
    for (int l = 0; rc == KV_OK && l < s->n_layers; l++) rc = load_layer(bd, l, buffer, err);
    free(buffer);
    if (rc || (rc = make_rope(bd, err))) return rc;
    m->out_norm = load_vector(bd, KV_ROLE_OUT_NORM, 0, s->dim);
    kv_tensor t = kv_checkpoint_tensor(bd->src, bd->config->fused ? KV_ROLE_QKV : KV_ROLE_Q, 0);
    snprintf(m->info.weights, sizeof m->info.weights, "%s (from %s%s)", bd->b->ops->matrix_format(m->head),
             kv_dtype_name(t.type), bd->adapter ? " + LoRA" : "");
    kv_model_finish(m, bd->b);
    return KV_OK;
}

int kv_model_open(kv_model *m, kv_backend *b, const char *path, int max_ctx, const char *adapter_dir, kv_error *err) {
    kv_adapter *adapter = NULL;
    memset(m, 0, sizeof *m);
    int rc = kv_checkpoint_open(path, max_ctx, &m->checkpoint, err);
    if (rc == KV_OK && adapter_dir) rc = kv_adapter_open(adapter_dir, &adapter, err);
    if (rc == KV_OK) {
        binder bd = {m, b, m->checkpoint, kv_checkpoint_config(m->checkpoint), adapter, 0};
        rc = load_all(&bd, err);
    }
    kv_adapter_close(adapter);
    if (rc) kv_model_close(m, b);
    return rc;
}

void kv_model_close(kv_model *m, kv_backend *b) {
    const kv_ops *ops = b->ops;
    for (int l = 0; m->layers && l < m->info.shape.n_layers; l++) {
        ops->matrix_free(b, m->layers[l].qkv);
        ops->matrix_free(b, m->layers[l].out);
        ops->matrix_free(b, m->layers[l].gate_up);
        ops->matrix_free(b, m->layers[l].down);
    }
    if (m->embed_matrix != m->head) ops->matrix_free(b, m->embed_matrix);
    ops->matrix_free(b, m->head);
    free(m->layers);
    free(m->vectors);
    free(m->rope_inv);
    free(m->rope_cos);
    free(m->rope_sin);
    kv_checkpoint_close(m->checkpoint);
    memset(m, 0, sizeof *m);
}

void kv_model_embed(const kv_model *m, int32_t token, float *out) {
    size_t dim = (size_t)m->info.shape.dim;
    size_t row = kv_dtype_bytes(m->embed.type, dim);
    kv_dequantize(m->embed.type, (const char *)m->embed.data + row * (size_t)token, out, dim);
}
