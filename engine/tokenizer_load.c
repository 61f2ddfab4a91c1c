/* tokenizer_load.c - vocabularies out of GGUF metadata and Hugging Face tokenizer.json files.
 *
 * Both carry the same three things: tokens by id, merges by rank, and which tokens are special.  Beyond that a
 * tokenizer.json describes a whole pipeline of normalizers and splitters; here it is only recognised, and one that
 * is not byte-level BPE with a known split pattern is refused, because it would give other ids than its authors'.
 *
 * Sources: ggml docs/gguf.md (tokenizer.ggml.*; token types 1 normal, 2 unknown, 3 control, 4 user-defined,
 * 5 unused, 6 byte) and the serialisation of the Rust crate `tokenizers`. */
#include "engine/tokenizer.h"
#include "engine/gguf.h"
#include "engine/json.h"
#include "engine/pretokenize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* GGUF ------------------------------------------------------------------------------------------------------- */

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
    kv_vocab v = {.token = gguf_token, .is_special = gguf_kind, .merge = gguf_merge, .ctx = &gv};
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
    rc = kv_gguf_bool(g, "tokenizer.ggml.add_bos_token", &v.add_bos, err);
    if (rc && rc != KV_ENOTFOUND) return rc;
    if ((rc = gguf_id(g, "tokenizer.ggml.bos_token_id", &v.bos, err))) return rc;
    if ((rc = gguf_id(g, "tokenizer.ggml.eos_token_id", &v.eos, err))) return rc;
    return kv_tokenizer_open(&v, out, err);
}

/* tokenizer.json --------------------------------------------------------------------------------------------- */

enum { MAX_HOLES = 65536 }; /* ids without a token; a padded vocabulary has a few hundred */

typedef struct json_vocab {
    const char *name; /* of the file */
    const char **token;
    uint8_t *kind;
    const cJSON **merge;
    char *pair; /* room for the longest merge given as two strings */
    size_t n, n_merges;
    const char *pre;
    int64_t bos;
} json_vocab;

static const char *json_token(void *ctx, size_t id, size_t *len) {
    const char *s = ((json_vocab *)ctx)->token[id];
    *len = s ? strlen(s) : 0;
    return s;
}

static int json_kind(void *ctx, size_t id) {
    return ((json_vocab *)ctx)->kind[id];
}

static const char *json_merge(void *ctx, size_t i, size_t *len) {
    json_vocab *v = ctx;
    const cJSON *m = v->merge[i];
    if (cJSON_IsString(m)) {
        *len = strlen(m->valuestring);
        return m->valuestring;
    }
    *len = (size_t)sprintf(v->pair, "%s %s", m->child->valuestring, m->child->next->valuestring);
    return v->pair;
}

static const cJSON *get(const cJSON *o, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

static const char *text_of(const cJSON *o, const char *key) {
    const char *s = cJSON_GetStringValue(get(o, key));
    return s ? s : "";
}

static int id_of(const cJSON *number, size_t limit, size_t *id) {
    if (!cJSON_IsNumber(number)) return 0;
    double d = number->valuedouble;
    if (!(d >= 0 && d < (double)limit) || d != (double)(size_t)d) return 0;
    *id = (size_t)d;
    return 1;
}

static int read_added(json_vocab *v, const cJSON *added, size_t limit, kv_error *err) {
    const cJSON *a;
    cJSON_ArrayForEach(a, added) {
        size_t id;
        const char *text = text_of(a, "content");
        if (!id_of(get(a, "id"), limit, &id) || !*text || (v->token[id] && strcmp(v->token[id], text) != 0))
            return kv_fail(err, KV_EFORMAT, "%s: added token \"%.80s\" has no text, or no free id below %zu", v->name,
                           text, limit);
        if (cJSON_IsTrue(get(a, "lstrip")) || cJSON_IsTrue(get(a, "rstrip")) || cJSON_IsTrue(get(a, "single_word")))
            return kv_fail(err, KV_EUNSUPPORTED,
                           "%s: added token \"%.80s\" uses lstrip, rstrip or single_word, which are not handled",
                           v->name, text);
        v->token[id] = text;
        v->kind[id] = cJSON_IsTrue(get(a, "special")) ? KV_TOKEN_CONTROL : KV_TOKEN_USER;
        if (id >= v->n) v->n = id + 1;
    }
    return KV_OK;
}

static int read_tokens(json_vocab *v, const cJSON *root, kv_error *err) {
    const cJSON *vocab = get(get(root, "model"), "vocab"), *added = get(root, "added_tokens"), *t;
    size_t limit = (size_t)cJSON_GetArraySize(vocab) + (size_t)cJSON_GetArraySize(added) + MAX_HOLES;
    if (!cJSON_IsObject(vocab) || !vocab->child)
        return kv_fail(err, KV_EFORMAT, "%s: model.vocab is missing or not an object", v->name);
    v->token = calloc(limit, sizeof *v->token);
    v->kind = calloc(limit, 1);
    if (!v->token || !v->kind) return kv_fail(err, KV_ENOMEM, "out of memory reading %s", v->name);
    cJSON_ArrayForEach(t, vocab) {
        size_t id;
        if (!id_of(t, limit, &id) || v->token[id])
            return kv_fail(err, KV_EFORMAT, "%s: token \"%.80s\" has no id of its own below %zu", v->name, t->string,
                           limit);
        v->token[id] = t->string;
        if (id >= v->n) v->n = id + 1;
    }
    return read_added(v, added, limit, err);
}

static int read_merges(json_vocab *v, const cJSON *root, kv_error *err) {
    const cJSON *merges = get(get(root, "model"), "merges"), *m;
    if (!cJSON_IsArray(merges)) return kv_fail(err, KV_EFORMAT, "%s: model.merges is missing", v->name);
    v->merge = malloc(((size_t)cJSON_GetArraySize(merges) + 1) * sizeof *v->merge);
    if (!v->merge) return kv_fail(err, KV_ENOMEM, "out of memory reading %s", v->name);
    size_t longest = 0;
    cJSON_ArrayForEach(m, merges) {
        if (!cJSON_IsString(m)) {
            const cJSON *a = m->child, *b = a ? a->next : NULL;
            if (!cJSON_IsArray(m) || !cJSON_IsString(a) || !cJSON_IsString(b) || b->next)
                return kv_fail(err, KV_EFORMAT, "%s: merge %zu is neither \"a b\" nor [\"a\", \"b\"]", v->name,
                               v->n_merges);
            size_t len = strlen(a->valuestring) + strlen(b->valuestring);
            if (len > longest) longest = len;
        }
        v->merge[v->n_merges++] = m;
    }
    v->pair = malloc(longest + 2);
    return v->pair ? KV_OK : kv_fail(err, KV_ENOMEM, "out of memory reading %s", v->name);
}

/* The text of a JSON value in an error: its type where it has one. */
static int refuse(const json_vocab *v, const char *what, const cJSON *value, kv_error *err) {
    const char *type = text_of(value, "type");
    return kv_fail(err, KV_EUNSUPPORTED,
                   "%s: %s%s%s%s is not handled; only byte-level BPE with the splits of smollm, gpt-2, llama-bpe and "
                   "qwen2 is",
                   v->name, what, *type ? " of type \"" : "", type, *type ? "\"" : "");
}

static int is_byte_level(const cJSON *p, int use_regex) {
    int has_regex = !cJSON_IsFalse(get(p, "use_regex")); /* older files have no such key and split */
    return strcmp(text_of(p, "type"), "ByteLevel") == 0 && cJSON_IsFalse(get(p, "add_prefix_space")) &&
           has_regex == use_regex;
}

static int read_pre(json_vocab *v, const cJSON *root, kv_error *err) {
    const cJSON *p = get(root, "pre_tokenizer"), *list = get(p, "pretokenizers");
    if (is_byte_level(p, 1)) {
        v->pre = "gpt-2";
    } else if (strcmp(text_of(p, "type"), "Sequence") == 0 && cJSON_GetArraySize(list) == 2) {
        const cJSON *first = list->child, *second = first->next;
        const char *type = text_of(first, "type");
        if (strcmp(type, "Digits") == 0 && cJSON_IsTrue(get(first, "individual_digits")) && is_byte_level(second, 1))
            v->pre = "smollm";
        if (strcmp(type, "Split") == 0 && strcmp(text_of(first, "behavior"), "Isolated") == 0 &&
            !cJSON_IsTrue(get(first, "invert")) && is_byte_level(second, 0))
            v->pre = kv_pretok_for_regex(text_of(get(first, "pattern"), "Regex"));
    }
    return v->pre ? KV_OK : refuse(v, "this pre_tokenizer", p, err);
}

static int is_set(const cJSON *item) {
    return item && !cJSON_IsNull(item) && !cJSON_IsFalse(item) &&
           !(cJSON_IsString(item) && item->valuestring[0] == '\0') && !(cJSON_IsNumber(item) && item->valuedouble == 0);
}

static int check_pipeline(const json_vocab *v, const cJSON *root, kv_error *err) {
    static const char *const options[] = {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                                          "byte_fallback"};
    const cJSON *model = get(root, "model"), *normalizer = get(root, "normalizer");
    const char *type = text_of(model, "type");
    if (*type && strcmp(type, "BPE") != 0) return refuse(v, "a model", model, err);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (is_set(get(model, options[i]))) return refuse(v, options[i], NULL, err);
    if (is_set(normalizer) && strcmp(text_of(normalizer, "type"), "NFC") != 0)
        return refuse(v, "a normalizer", normalizer, err);
    return KV_OK;
}

/* A TemplateProcessing step whose single sequence starts with a special token adds that one as BOS. */
static void read_bos(json_vocab *v, const cJSON *post) {
    const cJSON *step;
    cJSON_ArrayForEach(step, get(post, "processors")) read_bos(v, step);
    const cJSON *single = get(post, "single");
    const char *text = text_of(get(single ? single->child : NULL, "SpecialToken"), "id");
    for (size_t id = 0; *text && id < v->n; id++)
        if (v->kind[id] != KV_TOKEN_NORMAL && strcmp(v->token[id], text) == 0) v->bos = (int64_t)id;
}

static int open_parsed(json_vocab *v, const cJSON *root, kv_tokenizer **out, kv_error *err) {
    int rc = check_pipeline(v, root, err);
    if (rc == KV_OK) rc = read_pre(v, root, err);
    if (rc == KV_OK) rc = read_tokens(v, root, err);
    if (rc == KV_OK) rc = read_merges(v, root, err);
    if (rc) return rc;
    read_bos(v, get(root, "post_processor"));
    kv_vocab k = {.n_tokens = v->n,
                  .token = json_token,
                  .is_special = json_kind,
                  .n_merges = v->n_merges,
                  .merge = json_merge,
                  .ctx = v,
                  .pre = v->pre,
                  .ignore_merges = cJSON_IsTrue(get(get(root, "model"), "ignore_merges")),
                  .bos = v->bos,
                  .eos = -1,
                  .add_bos = v->bos >= 0};
    return kv_tokenizer_open(&k, out, err);
}

static int open_root(cJSON *root, const char *name, kv_tokenizer **out, kv_error *err) {
    json_vocab v = {.name = name, .bos = -1};
    int rc = open_parsed(&v, root, out, err);
    free(v.token);
    free(v.kind);
    free(v.merge);
    free(v.pair);
    cJSON_Delete(root);
    return rc;
}

int kv_tokenizer_from_json_memory(const char *json, size_t len, const char *name, kv_tokenizer **out, kv_error *err) {
    cJSON *root;
    *out = NULL;
    int rc = kv_json_parse(json, len, name, &root, err);
    return rc ? rc : open_root(root, name, out, err);
}

int kv_tokenizer_from_json(const char *path, kv_tokenizer **out, kv_error *err) {
    cJSON *root;
    *out = NULL;
    int rc = kv_json_load(path, &root, err);
    return rc ? rc : open_root(root, path, out, err);
}
