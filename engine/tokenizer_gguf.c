/* tokenizer_gguf.c - vocabularies out of GGUF metadata.
 *
 * Source: ggml docs/gguf.md (tokenizer.ggml.*; token types 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused,
 * 6 byte). */
#include "engine/gguf.h"
#include "engine/pretokenize.h"
#include "engine/tokenizer.h"

#include <stdio.h>
#include <string.h>

typedef struct gguf_vocab {
    const kv_gguf *g;
    int has_types;
} gguf_vocab;

static const char *gguf_string(const kv_gguf *g, const char *key, size_t i, size_t *len) {
    const char *s;
    return kv_gguf_array_string(g, key, i, &s, len, NULL) == KV_OK ? s : NULL;
}

static const char *gguf_token(void *ctx, size_t id, size_t *len) {
    return gguf_string(((gguf_vocab *)ctx)->g, "tokenizer.ggml.tokens", id, len);
}

static const char *gguf_merge(void *ctx, size_t i, size_t *len) {
    return gguf_string(((gguf_vocab *)ctx)->g, "tokenizer.ggml.merges", i, len);
}

static int gguf_kind(void *ctx, size_t id) {
    const gguf_vocab *v = ctx;
    int64_t type;
    if (!v->has_types || kv_gguf_array_int(v->g, "tokenizer.ggml.token_type", id, &type, NULL)) return KV_TOKEN_NORMAL;
    return type == 2 || type == 3 ? KV_TOKEN_CONTROL : type == 4 ? KV_TOKEN_USER : KV_TOKEN_NORMAL;
}

/* Copies a metadata string, cut to the buffer; absent: "". */
static int gguf_text(const kv_gguf *g, const char *key, char *buf, size_t size, kv_error *err) {
    const char *s = "";
    size_t len = 0;
    int rc = kv_gguf_string(g, key, &s, &len, err);
    if (rc && rc != KV_ENOTFOUND) return rc;
    snprintf(buf, size, "%.*s", len < size ? (int)len : (int)size, rc ? "" : s);
    return KV_OK;
}

static int gguf_id(const kv_gguf *g, const char *key, int64_t *id, kv_error *err) {
    *id = -1;
    int rc = kv_gguf_int(g, key, id, err);
    return rc == KV_ENOTFOUND ? KV_OK : rc;
}

int kv_tokenizer_from_gguf(const kv_gguf *g, kv_tokenizer **out, kv_error *err) {
    *out = NULL;
    gguf_vocab gv = {.g = g};
    kv_vocab v = {.token = gguf_token, .is_special = gguf_kind, .merge = gguf_merge, .ctx = &gv, .unk = -1};
    char model[32], pre[64];
    int rc = gguf_text(g, "tokenizer.ggml.model", model, sizeof model, err);
    if (rc == KV_OK) rc = gguf_text(g, "tokenizer.ggml.pre", pre, sizeof pre, err);
    if (rc) return rc;
    if (strcmp(model, "gpt2") != 0)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "tokenizer.ggml.model is \"%s\"; only byte-level BPE (\"gpt2\") is handled", model);
    size_t n_types = 0;
    if ((rc = kv_gguf_array_len(g, "tokenizer.ggml.tokens", &v.n_tokens, err))) return rc;
    if ((rc = kv_gguf_array_len(g, "tokenizer.ggml.merges", &v.n_merges, err))) return rc;
    rc = kv_gguf_array_len(g, "tokenizer.ggml.token_type", &n_types, err);
    if (rc && rc != KV_ENOTFOUND) return rc;
    gv.has_types = rc == KV_OK;
    if (gv.has_types && n_types != v.n_tokens)
        return kv_fail(err, KV_EFORMAT, "tokenizer.ggml.token_type has %zu entries for %zu tokens; the file is damaged",
                       n_types, v.n_tokens);
    v.pre = pre;
    const char *name = kv_pretok_name(pre);
    v.ignore_merges = v.add_bos = name && strcmp(name, "llama-bpe") == 0;
    v.normal.nfc = name && strcmp(name, "qwen2") == 0; /* GGUF does not say; the authors' files do */
    rc = kv_gguf_bool(g, "tokenizer.ggml.add_bos_token", &v.add_bos, err);
    if (rc && rc != KV_ENOTFOUND) return rc;
    if ((rc = gguf_id(g, "tokenizer.ggml.bos_token_id", &v.bos, err))) return rc;
    if ((rc = gguf_id(g, "tokenizer.ggml.eos_token_id", &v.eos, err))) return rc;
    return kv_tokenizer_open(&v, out, err);
}
