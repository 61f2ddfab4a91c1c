/* checkpoint_gguf.c - a model's sizes out of GGUF metadata (ggml docs/gguf.md), and the hash of its tokenizer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/file.h"
#include "engine/checkpoint_internal.h"

typedef struct reader {
    const kv_gguf *g;
    const char *path, *arch;
} reader;

static const char *key_of(const reader *r, const char *key, char out[96]) {
    snprintf(out, 96, "%.31s.%s", r->arch, key);
    return out;
}

static int read_count(const reader *r, const char *key, int *out, kv_error *err) {
    char full[96];
    int64_t v;
    int rc = kv_gguf_int(r->g, key_of(r, key, full), &v, err);
    if (rc == KV_ENOTFOUND) return kv_fail(err, KV_EFORMAT, "%s: metadata %s is missing", r->path, full);
    if (rc) return rc;
    if (v < 1 || v > 1 << 24)
        return kv_fail(err, KV_EFORMAT, "%s: metadata %s is %lld, which makes no sense", r->path, full, (long long)v);
    *out = (int)v;
    return KV_OK;
}

/* A metadata entry that may be absent: *out keeps its value then. */
static int read_optional(const reader *r, const char *key, double *out, kv_error *err) {
    char full[96];
    double v;
    int rc = kv_gguf_float(r->g, key_of(r, key, full), &v, NULL);
    if (rc == KV_ENOTFOUND) return KV_OK;
    if (rc) return kv_gguf_float(r->g, full, &v, err);
    *out = v;
    return KV_OK;
}

static void copy_string(const kv_gguf *g, const char *key, char *out, size_t cap) {
    const char *s;
    size_t n;
    if (kv_gguf_string(g, key, &s, &n, NULL) != KV_OK) return;
    if (n >= cap) n = cap - 1;
    memcpy(out, s, n);
    out[n] = 0;
}

static int read_sizes(const reader *r, kv_model_config *c, kv_error *err) {
    kv_shape *s = &c->shape;
    double eps = 1e-5, kv_heads = 0, head_dim = 0, rope_dim = 0;
    int rc;
    if ((rc = read_count(r, "block_count", &s->n_layers, err)) ||
        (rc = read_count(r, "embedding_length", &s->dim, err)) ||
        (rc = read_count(r, "feed_forward_length", &c->n_ff, err)) ||
        (rc = read_count(r, "attention.head_count", &s->n_heads, err)) ||
        (rc = read_count(r, "context_length", &c->n_ctx, err)))
        return rc;
    kv_heads = s->n_heads;
    head_dim = s->dim / s->n_heads;
    if ((rc = read_optional(r, "attention.head_count_kv", &kv_heads, err)) ||
        (rc = read_optional(r, "attention.key_length", &head_dim, err)) ||
        (rc = read_optional(r, "rope.dimension_count", &rope_dim, err)) ||
        (rc = read_optional(r, "attention.layer_norm_rms_epsilon", &eps, err)) ||
        (rc = read_optional(r, "rope.freq_base", &c->rope.base, err)))
        return rc;
    if (!(kv_heads >= 1 && kv_heads <= 256 && head_dim >= 1 && head_dim <= 1 << 16 && rope_dim >= 0))
        return kv_fail(err, KV_EFORMAT, "%s: %g KV heads of size %g make no sense", r->path, kv_heads, head_dim);
    s->n_kv_heads = (int)kv_heads;
    s->head_dim = (int)head_dim;
    c->rms_eps = (float)eps;
    if (rope_dim > 0 && rope_dim != head_dim)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: head size %d with %g rotary dimensions is not supported", r->path,
                       s->head_dim, rope_dim);
    return KV_OK;
}

static int read_rope(const reader *r, kv_model_config *c, kv_error *err) {
    char type[32] = "none", full[96];
    int half = c->shape.head_dim / 2;
    copy_string(r->g, key_of(r, "rope.scaling.type", full), type, sizeof type);
    if (strcmp(type, "none") != 0)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: rope scaling '%s' is not supported (only none, or rope_freqs.weight)",
                       r->path, type);
    const kv_gguf_tensor *t = kv_gguf_find(r->g, "rope_freqs.weight");
    if (!t) return KV_OK;
    if (t->n_dims != 1 || t->dims[0] != half || t->type != KV_F32)
        return kv_fail(err, KV_EFORMAT, "%s: tensor rope_freqs.weight is no fp32 vector of %d", r->path, half);
    c->rope.kind = KV_ROPE_DIVIDED;
    kv_dequantize(t->type, t->data, c->rope.short_factor, (size_t)half);
    return KV_OK;
}

int kv_gguf_config(const kv_gguf *g, const char *path, kv_model_config *c, kv_error *err) {
    const reader r = {g, path, c->arch};
    copy_string(g, "general.architecture", c->arch, sizeof c->arch);
    copy_string(g, "general.name", c->name, sizeof c->name);
    int is_llama = strcmp(c->arch, "llama") == 0;
    c->pair_rows = is_llama;
    c->qkv_bias = strcmp(c->arch, "qwen2") == 0;
    c->qk_norm = strcmp(c->arch, "qwen3") == 0;
    if (!is_llama && !c->qkv_bias && !c->qk_norm)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: architecture '%s' is not supported (supported: llama, qwen2, qwen3)",
                       path, c->arch);
    c->rope.base = 10000;
    c->tied = !kv_gguf_find(g, "output.weight");
    const kv_gguf_tensor *t = kv_gguf_find(g, "token_embd.weight");
    if (!t || t->n_dims != 2)
        return kv_fail(err, KV_EFORMAT, "%s: tensor token_embd.weight is missing or no matrix", path);
    c->n_vocab = t->dims[1] > 0 && t->dims[1] <= 1 << 24 ? (int)t->dims[1] : 0;
    int rc = read_sizes(&r, c, err);
    if (rc == KV_OK) rc = kv_model_config_check(c, path, err);
    return rc ? rc : read_rope(&r, c, err);
}

typedef struct text_buffer {
    char *data;
    size_t n, cap;
} text_buffer;

static int append(text_buffer *b, const char *s, size_t n) {
    if (b->n + n + 1 > b->cap) {
        size_t cap = (b->n + n + 1) * 2;
        char *data = realloc(b->data, cap);
        if (!data) return KV_ENOMEM;
        b->data = data;
        b->cap = cap;
    }
    memcpy(b->data + b->n, s, n);
    b->data[b->n + n] = '\n';
    b->n += n + 1;
    return KV_OK;
}

int kv_gguf_tokenizer_hash(const kv_gguf *g, char hex[65], kv_error *err) {
    static const char *const arrays[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"};
    text_buffer b = {0};
    const char *s;
    size_t len;
    int rc = KV_OK;
    if (kv_gguf_string(g, "tokenizer.ggml.pre", &s, &len, NULL) == KV_OK) rc = append(&b, s, len);
    for (int a = 0; a < 2 && rc == KV_OK; a++) {
        size_t n = 0;
        if (kv_gguf_array_len(g, arrays[a], &n, NULL)) continue;
        for (size_t i = 0; i < n && rc == KV_OK; i++) {
            rc = kv_gguf_array_string(g, arrays[a], i, &s, &len, err);
            if (rc == KV_OK) rc = append(&b, s, len);
        }
    }
    if (rc == KV_OK) kv_sha256_bytes(b.data ? b.data : "", b.n, hex);
    free(b.data);
    return rc == KV_ENOMEM ? kv_fail(err, rc, "out of memory hashing the tokenizer") : rc;
}
