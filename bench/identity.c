/* identity.c - resolves the model's files and hashes them. */
#include "bench/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/file.h"
#include "engine/gguf.h"

static const char synth_prefix[] = "synth:";

/* "none" = no file; a given path, else the default one when the default model is used. */
static int pick(const char *what, const char *given, const char *fallback, char *out, kv_error *err) {
    const char *from = given ? given : fallback;
    out[0] = 0;
    if (!from || strcmp(from, "none") == 0) return KV_OK;
    if (strlen(from) >= KV_PATH_MAX) return kv_fail(err, KV_ELIMIT, "--%s: the path is too long", what);
    strcpy(out, from);
    if (!kv_path_exists(out))
        return kv_fail(err, KV_ENOTFOUND, "--%s: %.400s does not exist%s", what, out,
                       given ? "" : " (part of the project's tree: check it out again, or give none)");
    return KV_OK;
}

int kv_identity_resolve_model(const kv_opts *o, size_t i, const kv_paths *p, kv_identity *id, kv_error *err) {
    const char *model = i < kv_opts_n(o, KV_OPT_MODEL) ? o->v[KV_OPT_MODEL].texts[i] : NULL;
    memset(id, 0, sizeof *id);
    id->is_default = model == NULL;
    id->seed = (uint64_t)kv_opts_int(o, KV_OPT_SEED);
    if (snprintf(id->model_path, KV_PATH_MAX, "%s", model ? model : p->model) >= KV_PATH_MAX)
        return kv_fail(err, KV_ELIMIT, "--model: the path is too long");
    if (strncmp(id->model_path, synth_prefix, strlen(synth_prefix)) == 0)
        return kv_synth_get(id->model_path + strlen(synth_prefix), &id->synth, err);
    if (kv_path_exists(id->model_path)) return KV_OK;
    if (model) return kv_fail(err, KV_ENOTFOUND, "--model: %.400s does not exist", model);
    return kv_fail(err, KV_ENOTFOUND,
                   "the default model %.300s is not there: run scripts/get_model.sh, or give --model FILE.gguf",
                   p->model);
}

int kv_identity_resolve(const kv_opts *o, size_t i, const kv_paths *p, kv_identity *id, kv_error *err) {
    int rc = kv_identity_resolve_model(o, i, p, id, err);
    if (rc) return rc;
    const char *adapter = id->is_default ? p->adapter : NULL, *gates = id->is_default ? p->gates : NULL;
    if ((rc = pick("adapter", kv_opts_text(o, KV_OPT_ADAPTER), adapter, id->adapter_dir, err))) return rc;
    if (id->synth && id->adapter_dir[0])
        return kv_fail(err, KV_EARG, "--adapter does not go with --model %.80s: random weights have no adapter",
                       id->model_path);
    id->synth_gates = id->synth && !kv_opts_given(o, KV_OPT_GATES);
    return pick("gates", kv_opts_text(o, KV_OPT_GATES), gates, id->gates_path, err);
}

/* Hash of a folder's settings (which may be absent) and weights, or of one file. */
static int hash_pair(const char *path, const char *settings, const char *weights, char hex[65], kv_error *err) {
    char name[KV_PATH_MAX + 64], text[2 * 65] = {0};
    const char *const files[] = {settings, weights};
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) return kv_sha256_file(path, hex, err);
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s/%s", path, files[i]);
        if (i == 0 && !kv_path_exists(name)) continue;
        int rc = kv_sha256_file(name, text + (size_t)i * 65, err);
        if (rc) return rc;
    }
    text[64] = '\n';
    kv_sha256_bytes(text, sizeof text - 1, hex);
    return KV_OK;
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

/* sha256 over the lines: pre-tokenizer, every token, every merge. */
static int hash_tokenizer(const kv_gguf *g, char hex[65], kv_error *err) {
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

static void copy_string(const kv_gguf *g, const char *key, char *out, size_t size) {
    const char *s;
    size_t len;
    if (kv_gguf_string(g, key, &s, &len, NULL) != KV_OK) len = 0;
    if (len >= size) len = size - 1;
    memcpy(out, len ? s : "", len);
    out[len] = 0;
}

static int count(const kv_gguf *g, const kv_identity *id, const char *key, int fallback, int *out, kv_error *err) {
    char full[96];
    int64_t x = fallback;
    snprintf(full, sizeof full, "%s.%s", id->arch, key);
    int rc = kv_gguf_int(g, full, &x, NULL);
    if (rc == KV_ENOTFOUND && fallback)
        x = fallback;
    else if (rc)
        return kv_fail(err, KV_EFORMAT, "%.300s: metadata %s is missing or no number: no language model?",
                       id->model_path, full);
    if (x < 1 || x > 1 << 24)
        return kv_fail(err, KV_EFORMAT, "%.300s: metadata %s = %lld makes no sense", id->model_path, full,
                       (long long)x);
    *out = (int)x;
    return KV_OK;
}

static int read_shape(const kv_gguf *g, kv_identity *id, kv_error *err) {
    kv_shape *s = &id->shape;
    int rc;
    copy_string(g, "general.architecture", id->arch, sizeof id->arch);
    copy_string(g, "general.name", id->name, sizeof id->name);
    if (!id->arch[0])
        return kv_fail(err, KV_EFORMAT, "%.300s: metadata general.architecture is missing: no language model?",
                       id->model_path);
    if ((rc = count(g, id, "block_count", 0, &s->n_layers, err)) ||
        (rc = count(g, id, "embedding_length", 0, &s->dim, err)) ||
        (rc = count(g, id, "attention.head_count", 0, &s->n_heads, err)) ||
        (rc = count(g, id, "attention.head_count_kv", s->n_heads, &s->n_kv_heads, err)) ||
        (rc = count(g, id, "context_length", 0, &id->n_ctx, err)))
        return rc;
    if (s->n_heads > s->dim)
        return kv_fail(err, KV_EFORMAT, "%.300s: %d heads for a width of %d", id->model_path, s->n_heads, s->dim);
    return count(g, id, "attention.key_length", s->dim / s->n_heads, &s->head_dim, err);
}

static int read_tokenizer(const kv_gguf *g, kv_identity *id, kv_error *err) {
    const char *jinja;
    size_t len;
    int rc = kv_tokenizer_from_gguf(g, &id->tokenizer, err);
    if (rc) return rc;
    if (kv_gguf_string(g, "tokenizer.chat_template", &jinja, &len, NULL) == KV_OK)
        id->chat = kv_chat_detect(jinja, len, id->tokenizer);
    if (!id->chat) id->chat = kv_chat_find("none");
    kv_chat_hash(id->chat, id->chat_hash);
    return KV_OK;
}

static int hash_gates(kv_identity *id, kv_error *err) {
    char weights[KV_GATES_PATH], config[KV_GATES_PATH];
    if (!id->gates_path[0]) return KV_OK;
    int rc = kv_gates_find(id->gates_path, weights, config, err);
    const char *slash = rc ? NULL : strrchr(weights, '/');
    return rc ? rc : hash_pair(id->gates_path, "config.json", slash ? slash + 1 : weights, id->gates_sha256, err);
}

static int load_synth(kv_identity *id, kv_error *err) {
    const kv_synth_shape *s = id->synth;
    snprintf(id->model_sha256, sizeof id->model_sha256, "synth:%.24s:%llu", s->name, (unsigned long long)id->seed);
    if (id->synth_gates) snprintf(id->gates_sha256, sizeof id->gates_sha256, "%.58s:gates", id->model_sha256);
    snprintf(id->arch, sizeof id->arch, "%s", s->arch);
    snprintf(id->name, sizeof id->name, "%.95s", id->model_path);
    id->shape = s->shape;
    id->n_ctx = s->n_ctx;
    id->chat = kv_chat_find("none");
    return hash_gates(id, err);
}

int kv_identity_load(kv_identity *id, kv_error *err) {
    kv_gguf *g = NULL;
    if (id->synth) return load_synth(id, err);
    int rc = kv_gguf_open(id->model_path, &g, err);
    if (rc) return rc;
    if ((rc = read_shape(g, id, err)) || (rc = read_tokenizer(g, id, err)) ||
        (rc = hash_tokenizer(g, id->tokenizer_sha256, err)) ||
        (rc = kv_sha256_file(id->model_path, id->model_sha256, err)))
        goto done;
    if (id->adapter_dir[0])
        rc = hash_pair(id->adapter_dir, "adapter_config.json", "adapter_model.safetensors", id->adapter_sha256, err);
    if (rc == KV_OK) rc = hash_gates(id, err);
done:
    kv_gguf_close(g);
    return rc;
}

int kv_identity_load_tokenizer(kv_identity *id, kv_error *err) {
    kv_gguf *g = NULL;
    int rc = kv_gguf_open(id->model_path, &g, err);
    if (rc == KV_OK) rc = read_tokenizer(g, id, err);
    kv_gguf_close(g);
    return rc;
}

int kv_identity_needs_text(const kv_identity *id, const char *command, kv_error *err) {
    if (!id->synth) return KV_OK;
    return kv_fail(err, KV_EARG,
                   "--model %.80s: random weights have no tokenizer, so `%s` has nothing to read or write; "
                   "trimbench speed measures them",
                   id->model_path, command);
}

void kv_identity_open_gates(const kv_identity *id, const kv_shape *shape, kv_gate_file **out, kv_error *why) {
    int rc = KV_OK;
    *out = NULL;
    if (id->gates_path[0])
        rc = kv_gates_open(id->gates_path, shape, out, why);
    else if (id->synth_gates)
        rc = kv_gates_synth(shape, id->synth->n_gate_hidden, id->seed, out, why);
    if (rc) *out = NULL;
}

void kv_identity_free(kv_identity *id) {
    kv_tokenizer_close(id->tokenizer);
    id->tokenizer = NULL;
}

const char *kv_identity_adapter(const kv_identity *id) {
    return id->adapter_dir[0] ? id->adapter_dir : NULL;
}
