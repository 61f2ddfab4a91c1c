/* tokenizer_json.c - vocabularies out of Hugging Face tokenizer.json files.
 *
 * Such a file describes a whole pipeline: normalizer, pre_tokenizer, model, post_processor, decoder.  Here it is only
 * recognised, in the two forms that the models in reach have, and one with anything else in it is refused, because it
 * would give other ids than its authors': byte-level BPE with a known split pattern, and SentencePiece's BPE over
 * characters with U+2581 for blanks.
 *
 * Source: the serialisation of the crate `tokenizers`. */
#include "engine/json.h"
#include "engine/pretokenize.h"
#include "engine/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HOLES = 65536 }; /* ids without a token; a padded vocabulary has a few hundred */

typedef struct json_vocab {
    const char *name; /* of the file */
    const char **token;
    uint8_t *kind;
    const cJSON **merge;
    char *pair; /* room for the longest merge given as two strings */
    size_t n, n_merges;
    kv_vocab v;
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

/* Text of an added token is matched before normalisation; where it should be matched behind, that must not matter. */
static int read_flags(const json_vocab *v, const cJSON *a, uint8_t *kind, kv_error *err) {
    const char *text = text_of(a, "content");
    *kind = cJSON_IsTrue(get(a, "special")) ? KV_TOKEN_CONTROL : KV_TOKEN_USER;
    if (cJSON_IsTrue(get(a, "lstrip"))) *kind |= KV_TOKEN_LSTRIP;
    if (cJSON_IsTrue(get(a, "rstrip"))) *kind |= KV_TOKEN_RSTRIP;
    if (cJSON_IsTrue(get(a, "single_word")))
        return kv_fail(err, KV_EUNSUPPORTED, "%s: added token \"%.80s\" uses single_word, which is not handled",
                       v->name, text);
    if (cJSON_IsTrue(get(a, "normalized")) && v->v.normal.lead == KV_LEAD_RUN)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "%s: added token \"%.80s\" is normalized, which is not handled beside the normalizer Prepend",
                       v->name, text);
    return KV_OK;
}

static int read_added(json_vocab *v, const cJSON *added, size_t limit, kv_error *err) {
    const cJSON *a;
    cJSON_ArrayForEach(a, added) {
        size_t id;
        const char *text = text_of(a, "content");
        if (!id_of(get(a, "id"), limit, &id) || !*text || (v->token[id] && strcmp(v->token[id], text) != 0))
            return kv_fail(err, KV_EFORMAT, "%s: added token \"%.80s\" has no text, or no free id below %zu", v->name,
                           text, limit);
        int rc = read_flags(v, a, &v->kind[id], err);
        if (rc) return rc;
        v->token[id] = text;
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

/* Names a part of the file that is not handled: by its type where it has one. */
static int refuse(const json_vocab *v, const char *what, const cJSON *value, kv_error *err) {
    const char *type = text_of(value, "type");
    return kv_fail(err, KV_EUNSUPPORTED,
                   "%s: %s%s%s%s is not handled; byte-level BPE with the splits of smollm, gpt-2, llama-bpe and qwen2 "
                   "is, and the BPE of Llama 2 and Phi-3",
                   v->name, what, *type ? " of type \"" : "", type, *type ? "\"" : "");
}

static int is_type(const cJSON *o, const char *type) {
    return strcmp(text_of(o, "type"), type) == 0;
}

static int is_set(const cJSON *item) {
    return item && !cJSON_IsNull(item) && !cJSON_IsFalse(item) &&
           !(cJSON_IsString(item) && item->valuestring[0] == '\0') && !(cJSON_IsNumber(item) && item->valuedouble == 0);
}

/* The steps of a Sequence, or the one step itself: at(0), at(1) ...; NULL behind the last. */
static const cJSON *step_at(const cJSON *o, const char *list, int i) {
    if (is_type(o, "Sequence")) return cJSON_GetArrayItem(get(o, list), i);
    return is_set(o) && i == 0 ? o : NULL;
}

static int is_replace(const cJSON *step, const char *from, const char *to) {
    return is_type(step, "Replace") && strcmp(text_of(get(step, "pattern"), "String"), from) == 0 &&
           strcmp(text_of(step, "content"), to) == 0;
}

static int is_byte_level(const cJSON *p, int use_regex) {
    int has_regex = !cJSON_IsFalse(get(p, "use_regex")); /* older files have no such key and split */
    return is_type(p, "ByteLevel") && cJSON_IsFalse(get(p, "add_prefix_space")) && has_regex == use_regex;
}

#define META "\xE2\x96\x81" /* U+2581 */

static int read_normalizer(json_vocab *v, const cJSON *root, kv_error *err) {
    const cJSON *normalizer = get(root, "normalizer"), *step;
    kv_normal *how = &v->v.normal;
    for (int i = 0; (step = step_at(normalizer, "normalizers", i)); i++) {
        if (is_type(step, "NFC"))
            how->nfc = 1;
        else if (is_type(step, "Prepend") && strcmp(text_of(step, "prepend"), META) == 0)
            how->lead = KV_LEAD_RUN;
        else if (is_replace(step, " ", META))
            how->metaspace = 1;
        else
            return refuse(v, "a normalizer", step, err);
    }
    if (how->lead && !how->metaspace) return refuse(v, "a normalizer without Replace", normalizer->child, err);
    if (how->nfc && how->metaspace) return refuse(v, "a normalizer with NFC and Replace", normalizer->child, err);
    return KV_OK;
}

/* Older files have add_prefix_space in place of prepend_scheme. */
static int read_metaspace(json_vocab *v, const cJSON *p) {
    const char *scheme = text_of(p, "prepend_scheme");
    if (v->v.normal.metaspace || strcmp(text_of(p, "replacement"), META) != 0) return 0;
    if (!*scheme) scheme = cJSON_IsFalse(get(p, "add_prefix_space")) ? "never" : "always";
    v->v.normal.metaspace = 1;
    v->v.normal.lead = strcmp(scheme, "always") == 0  ? KV_LEAD_BLANKLESS_RUN
                       : strcmp(scheme, "first") == 0 ? KV_LEAD_TEXT
                                                      : KV_LEAD_NONE;
    v->v.pre = cJSON_IsFalse(get(p, "split")) ? "none" : "metaspace";
    return strcmp(scheme, "always") == 0 || strcmp(scheme, "first") == 0 || strcmp(scheme, "never") == 0;
}

static int read_pre(json_vocab *v, const cJSON *root, kv_error *err) {
    const cJSON *p = get(root, "pre_tokenizer"), *first = step_at(p, "pretokenizers", 0),
                *second = step_at(p, "pretokenizers", 1);
    const char *pre = NULL;
    if (!first && v->v.normal.metaspace) {
        pre = "none";
    } else if (is_type(first, "Metaspace") && !second && !v->v.normal.nfc && read_metaspace(v, first)) {
        pre = v->v.pre;
    } else if (v->v.normal.metaspace) {
        return refuse(v, "this pre_tokenizer", p, err);
    } else if (is_byte_level(first, 1) && !second) {
        pre = "gpt-2";
    } else if (is_type(first, "Digits") && cJSON_IsTrue(get(first, "individual_digits")) && is_byte_level(second, 1)) {
        pre = "smollm";
    } else if (is_type(first, "Split") && strcmp(text_of(first, "behavior"), "Isolated") == 0 &&
               !cJSON_IsTrue(get(first, "invert")) && is_byte_level(second, 0)) {
        pre = kv_pretok_for_regex(text_of(get(first, "pattern"), "Regex"));
    }
    if (!pre || step_at(p, "pretokenizers", 2)) return refuse(v, "this pre_tokenizer", p, err);
    v->v.pre = pre;
    v->v.spelling = v->v.normal.metaspace ? KV_SPELL_CHARS : KV_SPELL_BYTES;
    return KV_OK;
}

static int read_decoder(json_vocab *v, const cJSON *root, kv_error *err) {
    const cJSON *decoder = get(root, "decoder"), *step;
    if (v->v.spelling == KV_SPELL_BYTES)
        return !is_set(decoder) || is_type(decoder, "ByteLevel") ? KV_OK : refuse(v, "a decoder", decoder, err);
    static const char *const steps[] = {"Replace", "ByteFallback", "Fuse", "Strip"};
    int i = 0, n = cJSON_GetArraySize(get(decoder, "decoders"));
    for (; i < 4 && (step = step_at(decoder, "decoders", i)); i++) {
        size_t start = 0, stop = 0;
        if (!is_type(step, steps[i]) || (i == 0 && !is_replace(step, META, " "))) break;
        if (i < 3) continue;
        if (strcmp(text_of(step, "content"), " ") != 0 || !id_of(get(step, "start"), 2, &start) ||
            !id_of(get(step, "stop"), 1, &stop))
            break;
        v->v.strip_first = (int)start;
    }
    return i == n && n >= 3 ? KV_OK : refuse(v, "this decoder", decoder, err);
}

static int read_model(json_vocab *v, const cJSON *root, kv_error *err) {
    static const char *const options[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix"},
                             *const of_characters[] = {"unk_token", "byte_fallback"};
    const cJSON *model = get(root, "model");
    if (*text_of(model, "type") && !is_type(model, "BPE")) return refuse(v, "a model", model, err);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (is_set(get(model, options[i]))) return refuse(v, options[i], NULL, err);
    for (size_t i = 0; v->v.spelling == KV_SPELL_BYTES && i < sizeof of_characters / sizeof *of_characters; i++)
        if (is_set(get(model, of_characters[i]))) return refuse(v, of_characters[i], NULL, err);
    v->v.byte_fallback = cJSON_IsTrue(get(model, "byte_fallback"));
    v->v.fuse_unk = cJSON_IsTrue(get(model, "fuse_unk"));
    v->v.ignore_merges = cJSON_IsTrue(get(model, "ignore_merges"));
    return KV_OK;
}

static int read_unk(json_vocab *v, const cJSON *root, kv_error *err) {
    const cJSON *model = get(root, "model");
    const char *unk = text_of(model, "unk_token");
    size_t id;
    if (!*unk) return KV_OK;
    if (!id_of(get(get(model, "vocab"), unk), v->n, &id))
        return kv_fail(err, KV_EFORMAT, "%s: unk_token \"%.80s\" is not in the vocabulary", v->name, unk);
    v->v.unk = (int64_t)id;
    return KV_OK;
}

/* What is added around a text: nothing, or one special token in front, which is then BOS. */
static int read_post(json_vocab *v, const cJSON *post, kv_error *err) {
    const cJSON *step;
    if (is_type(post, "Sequence")) {
        cJSON_ArrayForEach(step, get(post, "processors")) {
            int rc = read_post(v, step, err);
            if (rc) return rc;
        }
        return KV_OK;
    }
    if (!is_set(post) || is_type(post, "ByteLevel")) return KV_OK;
    step = get(post, "single");
    step = is_type(post, "TemplateProcessing") && step ? step->child : NULL;
    const char *text = text_of(get(step, "SpecialToken"), "id");
    if (*text) step = step->next;
    if (!get(step, "Sequence") || step->next) return refuse(v, "this post_processor", post, err);
    for (size_t id = 0; *text && id < v->n; id++)
        if (v->kind[id] != KV_TOKEN_NORMAL && strcmp(v->token[id], text) == 0) v->v.bos = (int64_t)id;
    return KV_OK;
}

static int read_parsed(json_vocab *v, const cJSON *root, kv_error *err) {
    int rc = read_normalizer(v, root, err);
    if (rc == KV_OK) rc = read_pre(v, root, err);
    if (rc == KV_OK) rc = read_model(v, root, err);
    if (rc == KV_OK) rc = read_tokens(v, root, err);
    if (rc == KV_OK) rc = read_merges(v, root, err);
    if (rc == KV_OK) rc = read_unk(v, root, err);
    if (rc == KV_OK) rc = read_decoder(v, root, err);
    if (rc == KV_OK) rc = read_post(v, get(root, "post_processor"), err);
    return rc;
}

static int open_root(cJSON *root, const char *name, kv_tokenizer **out, kv_error *err) {
    json_vocab v = {
        .name = name,
        .v = {.token = json_token, .is_special = json_kind, .merge = json_merge, .unk = -1, .bos = -1, .eos = -1}};
    int rc = read_parsed(&v, root, err);
    v.v.ctx = &v;
    v.v.n_tokens = v.n;
    v.v.n_merges = v.n_merges;
    v.v.add_bos = v.v.bos >= 0;
    if (rc == KV_OK) rc = kv_tokenizer_open(&v.v, out, err);
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
