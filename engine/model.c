/* model.c - from a GGUF file (and a LoRA adapter) to backend matrices.
 *
 * GGUF files of the llama architecture store the rows of q and k with each rotary pair side by side; they are put
 * back into Hugging Face order (all first halves, then all second halves of a head), because adapters, gates and the
 * rotate-half kernel use that order.  Weights are dequantised to fp32, merged, and only then converted to what the
 * backend computes with.  q, k and v become one matrix, gate and up another: fewer, larger products. */
#include "engine/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/adapter.h"

typedef struct binder {
    kv_model *m;
    kv_backend *b;
    const char *path;
    const kv_adapter *adapter;
    size_t next_norm; /* floats used in m->norms */
} binder;

static int read_count(const binder *bd, const char *key, int *out, kv_error *err) {
    int64_t v;
    int rc = kv_gguf_int(bd->m->file, key, &v, err);
    if (rc == KV_ENOTFOUND) return kv_fail(err, KV_EFORMAT, "%s: metadata %s is missing", bd->path, key);
    if (rc) return rc;
    if (v < 1 || v > 1 << 24)
        return kv_fail(err, KV_EFORMAT, "%s: metadata %s is %lld, which makes no sense", bd->path, key, (long long)v);
    *out = (int)v;
    return KV_OK;
}

/* A metadata entry that may be absent: *out keeps its value then. */
static int read_optional(const binder *bd, const char *key, double *out, kv_error *err) {
    double v;
    int rc = kv_gguf_float(bd->m->file, key, &v, err);
    if (rc == KV_ENOTFOUND) return KV_OK;
    if (rc == KV_OK) *out = v;
    return rc;
}

static void copy_string(const kv_gguf *g, const char *key, char *out, size_t cap) {
    const char *s;
    size_t n;
    if (kv_gguf_string(g, key, &s, &n, NULL) != KV_OK) return;
    if (n >= cap) n = cap - 1;
    memcpy(out, s, n);
    out[n] = 0;
}

static int check_rope_scaling(const binder *bd, kv_error *err) {
    char type[32] = "none";
    copy_string(bd->m->file, "llama.rope.scaling.type", type, sizeof type);
    if (strcmp(type, "none") == 0) return KV_OK;
    return kv_fail(err, KV_EUNSUPPORTED, "%s: rope scaling '%s' is not supported (only none, or rope_freqs.weight)",
                   bd->path, type);
}

static int read_shape(binder *bd, double *rope_base, kv_error *err) {
    kv_model_info *in = &bd->m->info;
    kv_shape *s = &in->shape;
    double eps = 1e-5, kv_heads = 0, head_dim = 0, rope_dim = 0;
    int rc;
    copy_string(bd->m->file, "general.architecture", in->arch, sizeof in->arch);
    copy_string(bd->m->file, "general.name", in->name, sizeof in->name);
    if (strcmp(in->arch, "llama") != 0)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: architecture '%s' is not supported (supported: llama)", bd->path,
                       in->arch);
    if ((rc = read_count(bd, "llama.block_count", &s->n_layers, err)) ||
        (rc = read_count(bd, "llama.embedding_length", &s->dim, err)) ||
        (rc = read_count(bd, "llama.feed_forward_length", &in->n_ff, err)) ||
        (rc = read_count(bd, "llama.attention.head_count", &s->n_heads, err)) ||
        (rc = read_count(bd, "llama.context_length", &in->n_ctx, err)))
        return rc;
    kv_heads = s->n_heads;
    if ((rc = read_optional(bd, "llama.attention.head_count_kv", &kv_heads, err)) ||
        (rc = read_optional(bd, "llama.attention.key_length", &head_dim, err)) ||
        (rc = read_optional(bd, "llama.rope.dimension_count", &rope_dim, err)) ||
        (rc = read_optional(bd, "llama.attention.layer_norm_rms_epsilon", &eps, err)) ||
        (rc = read_optional(bd, "llama.rope.freq_base", rope_base, err)) || (rc = check_rope_scaling(bd, err)))
        return rc;
    s->n_kv_heads = (int)kv_heads;
    s->head_dim = head_dim > 0 ? (int)head_dim : s->dim / s->n_heads;
    bd->m->rms_eps = (float)eps;
    if (s->n_kv_heads < 1 || s->n_heads % s->n_kv_heads)
        return kv_fail(err, KV_EFORMAT, "%s: %d query heads cannot share %d KV heads", bd->path, s->n_heads,
                       s->n_kv_heads);
    if (s->head_dim < 2 || s->head_dim % 2 || s->head_dim > 256 || (rope_dim > 0 && (int)rope_dim != s->head_dim))
        return kv_fail(err, KV_EUNSUPPORTED, "%s: head size %d with %d rotary dimensions is not supported", bd->path,
                       s->head_dim, (int)rope_dim);
    if (s->n_heads > 256 || s->n_layers > 512 || s->dim > 1 << 16 || in->n_ff > 1 << 18 || in->n_ctx > 1 << 21 ||
        !(eps >= 0 && eps < 1) || !(*rope_base > 1 && *rope_base < 1e12))
        return kv_fail(err, KV_EFORMAT, "%s: a size in the metadata is far outside of what models have", bd->path);
    return KV_OK;
}

/* Finds a tensor and checks its shape; rows = 0 means a vector of n_in. */
static int find_tensor(const binder *bd, const char *name, int rows, int cols, const kv_gguf_tensor **out,
                       kv_error *err) {
    const kv_gguf_tensor *t = kv_gguf_find(bd->m->file, name);
    if (!t) return kv_fail(err, KV_EFORMAT, "%s: tensor %s is missing", bd->path, name);
    int64_t r = t->n_dims > 1 ? t->dims[1] : 0;
    if (t->n_dims > 2 || t->dims[0] != cols || r != rows)
        return kv_fail(err, KV_EFORMAT, "%s: tensor %s has shape [%lld, %lld], expected [%d, %d]", bd->path, name,
                       (long long)r, (long long)t->dims[0], rows, cols);
    *out = t;
    return KV_OK;
}

static int load_norm(binder *bd, const char *name, const float **out, kv_error *err) {
    int dim = bd->m->info.shape.dim;
    const kv_gguf_tensor *t = NULL;
    int rc = find_tensor(bd, name, 0, dim, &t, err);
    if (rc) return rc;
    float *dst = bd->m->norms + bd->next_norm;
    kv_dequantize(t->type, t->data, dst, (size_t)dim);
    bd->next_norm += (size_t)dim;
    *out = dst;
    return KV_OK;
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
    const char *tensor, *module; /* "attn_q", "self_attn.q_proj" */
    int rows, cols, heads;       /* heads > 0: rows are permuted per head */
    float *dst;                  /* (rows, cols) */
} part;

static int load_part(const binder *bd, int layer, const part *p, kv_error *err) {
    char name[64];
    const kv_gguf_tensor *t = NULL;
    snprintf(name, sizeof name, "blk.%d.%s.weight", layer, p->tensor);
    int rc = find_tensor(bd, name, p->rows, p->cols, &t, err);
    if (rc) return rc;
    kv_dequantize(t->type, t->data, p->dst, (size_t)p->rows * p->cols);
    if (p->heads) {
        int head_dim = p->rows / p->heads;
        float *tmp = malloc((size_t)head_dim * p->cols * sizeof *tmp);
        if (!tmp) return kv_fail(err, KV_ENOMEM, "out of memory loading %s", name);
        unpermute_rows(p->dst, p->heads, head_dim, p->cols, tmp);
        free(tmp);
    }
    if (bd->adapter) return kv_adapter_merge(bd->adapter, layer, p->module, p->dst, p->rows, p->cols, err);
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

static int load_layer(binder *bd, int layer, float *buffer, kv_error *err) {
    kv_model *m = bd->m;
    const kv_shape *s = &m->info.shape;
    kv_layer *ly = &m->layers[layer];
    int d = s->dim, ff = m->info.n_ff, nq = s->n_heads * s->head_dim, nk = s->n_kv_heads * s->head_dim;
    float *qkv = buffer, *out = qkv + (size_t)(nq + 2 * nk) * d, *gu = out + (size_t)d * nq,
          *down = gu + (size_t)2 * ff * d;
    const part parts[N_PARTS] = {
        {"attn_q", "self_attn.q_proj", nq, d, s->n_heads, qkv},
        {"attn_k", "self_attn.k_proj", nk, d, s->n_kv_heads, qkv + (size_t)nq * d},
        {"attn_v", "self_attn.v_proj", nk, d, 0, qkv + (size_t)(nq + nk) * d},
        {"attn_output", "self_attn.o_proj", d, nq, 0, out},
        {"ffn_gate", "mlp.gate_proj", ff, d, 0, gu},
        {"ffn_up", "mlp.up_proj", ff, d, 0, gu + (size_t)ff * d},
        {"ffn_down", "mlp.down_proj", d, ff, 0, down},
    };
    part_jobs jobs = {.bd = bd, .layer = layer, .parts = parts};
    kv_threads_for(bd->b->threads, N_PARTS, load_part_job, &jobs);
    for (int i = 0; i < N_PARTS; i++)
        if (jobs.rc[i]) return kv_fail(err, jobs.rc[i], "%s", jobs.err[i].text);

    const kv_ops *ops = bd->b->ops;
    char name[64];
    int rc;
    if ((rc = ops->matrix_create(bd->b, qkv, nq + 2 * nk, d, &ly->qkv, err)) ||
        (rc = ops->matrix_create(bd->b, out, d, nq, &ly->out, err)) ||
        (rc = ops->matrix_create(bd->b, gu, 2 * ff, d, &ly->gate_up, err)) ||
        (rc = ops->matrix_create(bd->b, down, d, ff, &ly->down, err)))
        return rc;
    m->info.weight_bytes += ops->matrix_bytes(ly->qkv) + ops->matrix_bytes(ly->out) + ops->matrix_bytes(ly->gate_up) +
                            ops->matrix_bytes(ly->down);
    snprintf(name, sizeof name, "blk.%d.attn_norm.weight", layer);
    if ((rc = load_norm(bd, name, &ly->attn_norm, err))) return rc;
    snprintf(name, sizeof name, "blk.%d.ffn_norm.weight", layer);
    return load_norm(bd, name, &ly->ffn_norm, err);
}

/* Tensors that the llama forward pass does not know (biases, experts, ...) would be ignored silently otherwise. */
static int refuse_unknown_tensors(const binder *bd, kv_error *err) {
    static const char *const known[] = {"attn_norm", "attn_q",   "attn_k", "attn_v",  "attn_output",
                                        "ffn_norm",  "ffn_gate", "ffn_up", "ffn_down"};
    for (size_t i = 0; i < kv_gguf_n_tensors(bd->m->file); i++) {
        const char *name = kv_gguf_tensor_at(bd->m->file, i)->name;
        int layer, at = 0, ok = 0;
        if (sscanf(name, "blk.%d.%n", &layer, &at) == 1 && at > 0) {
            if (layer >= bd->m->info.shape.n_layers) at = 0;
            for (size_t k = 0; at && k < sizeof known / sizeof *known; k++) {
                size_t n = strlen(known[k]);
                ok |= strncmp(name + at, known[k], n) == 0 && strcmp(name + at + n, ".weight") == 0;
            }
        } else {
            ok = !strcmp(name, "token_embd.weight") || !strcmp(name, "output_norm.weight") ||
                 !strcmp(name, "output.weight") || !strcmp(name, "rope_freqs.weight");
        }
        if (!ok)
            return kv_fail(err, KV_EUNSUPPORTED, "%s: tensor %s is not part of a plain llama model", bd->path, name);
    }
    return KV_OK;
}

/* Angles as transformers computes them: inverse frequencies and products rounded to fp32. */
static int make_rope(binder *bd, double base, kv_error *err) {
    kv_model *m = bd->m;
    int half = m->info.shape.head_dim / 2, n_ctx = m->info.n_ctx, rc;
    float *inv = m->rope_inv = malloc((size_t)half * 2 * sizeof *inv), *factor = inv ? inv + half : NULL;
    if (!inv) return kv_fail(err, KV_ENOMEM, "out of memory for the rotary frequencies");
    for (int i = 0; i < half; i++) factor[i] = 1;
    if (kv_gguf_find(m->file, "rope_freqs.weight")) {
        const kv_gguf_tensor *t = NULL;
        if ((rc = find_tensor(bd, "rope_freqs.weight", 0, half, &t, err))) return rc;
        kv_dequantize(t->type, t->data, factor, (size_t)half);
    }
    for (int i = 0; i < half; i++) inv[i] = 1.0f / powf((float)base, (float)(2 * i) / (float)(2 * half)) / factor[i];
    if (bd->b->gathers_embedding) return KV_OK;
    m->rope_cos = malloc((size_t)n_ctx * half * sizeof(float));
    m->rope_sin = malloc((size_t)n_ctx * half * sizeof(float));
    if (!m->rope_cos || !m->rope_sin)
        return kv_fail(err, KV_ENOMEM, "out of memory for the rotary table of %d positions", n_ctx);
    for (int p = 0; p < n_ctx; p++) {
        for (int i = 0; i < half; i++) {
            float angle = (float)p * inv[i];
            m->rope_cos[(size_t)p * half + i] = cosf(angle);
            m->rope_sin[(size_t)p * half + i] = sinf(angle);
        }
    }
    m->rope = (kv_rope_table){m->rope_cos, m->rope_sin, n_ctx, half};
    return KV_OK;
}

/* A matrix of (n_vocab, dim). */
static int load_vocab_matrix(binder *bd, const kv_gguf_tensor *t, kv_matrix **out, kv_error *err) {
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
    int dim = m->info.shape.dim, rc;
    const kv_gguf_tensor *t = kv_gguf_find(m->file, "token_embd.weight");
    if (!t || t->n_dims != 2 || t->dims[1] < 1 || t->dims[1] > 1 << 24)
        return kv_fail(err, KV_EFORMAT, "%s: tensor token_embd.weight is missing or no matrix", bd->path);
    m->info.n_vocab = (int)t->dims[1];
    if ((rc = find_tensor(bd, "token_embd.weight", m->info.n_vocab, dim, &m->embed, err))) return rc;
    t = m->embed;
    if (kv_gguf_find(m->file, "output.weight") &&
        (rc = find_tensor(bd, "output.weight", m->info.n_vocab, dim, &t, err)))
        return rc;
    if ((rc = load_vocab_matrix(bd, t, &m->head, err))) return rc;
    if (!bd->b->gathers_embedding) return KV_OK;
    m->embed_matrix = m->head;
    return t == m->embed ? KV_OK : load_vocab_matrix(bd, m->embed, &m->embed_matrix, err);
}

void kv_model_finish(kv_model *m, const kv_backend *b) {
    int exact = b->numerics == KV_EXACT;
    m->info.bytes_per_slot = (size_t)2 * m->info.shape.head_dim * (exact ? 4 : 2);
    m->info.backend = b->ops->name;
    m->info.cache_type = exact ? "f32" : b->open_runner ? "bf16" : "f16";
}

static int load_all(binder *bd, kv_error *err) {
    kv_model *m = bd->m;
    const kv_shape *s = &m->info.shape;
    double rope_base = 10000;
    int rc;
    if ((rc = read_shape(bd, &rope_base, err)) || (rc = refuse_unknown_tensors(bd, err))) return rc;
    if (bd->adapter && (rc = kv_adapter_check(bd->adapter, s->n_layers, err))) return rc;
    m->layers = calloc((size_t)s->n_layers, sizeof *m->layers);
    m->norms = calloc((size_t)(2 * s->n_layers + 1) * s->dim, sizeof *m->norms);
    size_t nq = (size_t)s->n_heads * s->head_dim, nk = (size_t)s->n_kv_heads * s->head_dim;
    size_t n_buffer = (2 * nq + 2 * nk + 3 * (size_t)m->info.n_ff) * s->dim;
    float *buffer = malloc(n_buffer * sizeof *buffer);
    if (!m->layers || !m->norms || !buffer) {
        free(buffer);
        return kv_fail(err, KV_ENOMEM, "out of memory loading %s", bd->path);
    }
    rc = load_head(bd, err);
    for (int l = 0; rc == KV_OK && l < s->n_layers; l++) rc = load_layer(bd, l, buffer, err);
    free(buffer);
    if (rc || (rc = load_norm(bd, "output_norm.weight", &m->out_norm, err)) || (rc = make_rope(bd, rope_base, err)))
        return rc;
    const kv_gguf_tensor *t = kv_gguf_find(m->file, "blk.0.attn_q.weight");
    snprintf(m->info.weights, sizeof m->info.weights, "%s (from %s%s)", bd->b->ops->matrix_format(m->head),
             kv_dtype_name(t->type), bd->adapter ? " + LoRA" : "");
    kv_model_finish(m, bd->b);
    return KV_OK;
}

int kv_model_open(kv_model *m, kv_backend *b, const char *path, const char *adapter_dir, kv_error *err) {
    kv_adapter *adapter = NULL;
    memset(m, 0, sizeof *m);
    int rc = kv_gguf_open(path, &m->file, err);
    if (rc == KV_OK && adapter_dir) rc = kv_adapter_open(adapter_dir, &adapter, err);
    if (rc == KV_OK) {
        binder bd = {m, b, path, adapter, 0};
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
    free(m->norms);
    free(m->rope_inv);
    free(m->rope_cos);
    free(m->rope_sin);
    kv_gguf_close(m->file);
    memset(m, 0, sizeof *m);
}

void kv_model_embed(const kv_model *m, int32_t token, float *out) {
    size_t dim = (size_t)m->info.shape.dim;
    size_t row = kv_dtype_bytes(m->embed->type, dim);
    kv_dequantize(m->embed->type, (const char *)m->embed->data + row * (size_t)token, out, dim);
}
