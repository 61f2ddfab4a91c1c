/* pretokenize.c - split patterns of byte-level BPE tokenizers, run by PCRE2.
 *
 * Each family publishes a regular expression whose matches are the pieces.  They are kept here as data, rewritten in
 * two ways so that PCRE2 finds exactly what Hugging Face tokenizers find:
 *  - \s becomes an explicit class: PCRE2's own also takes U+180E, which left White_Space in Unicode 6.3;
 *  - smollm is two passes upstream (every \p{N} alone, then the GPT-2 expression on what lies between).  One pass
 *    does the same when a digit counts as the end of a run of blanks.
 * A character counts as what the Unicode version of the linked PCRE2 says (14 for PCRE2 10.42); one assigned later is
 * taken for a symbol until the library is renewed.  Invalid UTF-8 never reaches PCRE2: the text is cut into its
 * well-formed stretches first.
 *
 * Sources: openai/gpt-2 encoder.py; the tokenizer.json of SmolLM2, Llama 3 and Qwen2; llama.cpp for the GGUF names. */
#include "engine/pretokenize.h"
#include "engine/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#define S "\\p{Z}\\t-\\r\\x{85}" /* White_Space, for use inside a class */

typedef struct split_pattern {
    const char *names[4]; /* the main one first */
    const char *regex;    /* ours */
    const char *published;
} split_pattern;

static const split_pattern patterns[] = {
    {{"smollm"},
     "'(?:[stmd]|re|ve|ll)|\\p{N}| ?\\p{L}+| ?[^" S "\\p{L}\\p{N}]+|[" S "]+(?![^" S "\\p{N}])|[" S "]+",
     NULL},
    {{"gpt-2", "gpt2"},
     "'(?:[stmd]|re|ve|ll)| ?\\p{L}+| ?\\p{N}+| ?[^" S "\\p{L}\\p{N}]+|[" S "]+(?![^" S "])|[" S "]+",
     "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
    {{"llama-bpe", "llama3", "llama-v3"},
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^" S "\\p{L}\\p{N}]+[\\r\\n]*"
     "|[" S "]*[\\r\\n]+|[" S "]+(?![^" S "])|[" S "]+",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
     "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {{"qwen2", "deepseek-r1-qwen"},
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" S "\\p{L}\\p{N}]+[\\r\\n]*"
     "|[" S "]*[\\r\\n]+|[" S "]+(?![^" S "])|[" S "]+",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
     "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {{"metaspace"}, " ?[^ ]*", NULL}, /* text has blanks for U+2581; each starts a piece */
    {{"none"}, "(?s).+", NULL},
};
enum { N_PATTERNS = sizeof patterns / sizeof *patterns };

struct kv_pretok {
    pcre2_code *code;
    pcre2_match_context *limits;
};

static const split_pattern *find_pattern(const char *name) {
    for (size_t i = 0; i < N_PATTERNS; i++)
        for (size_t k = 0; k < 4 && patterns[i].names[k]; k++)
            if (strcmp(patterns[i].names[k], name) == 0) return &patterns[i];
    return NULL;
}

const char *kv_pretok_name(const char *name) {
    const split_pattern *p = find_pattern(name);
    return p ? p->names[0] : NULL;
}

const char *kv_pretok_for_regex(const char *regex) {
    for (size_t i = 0; i < N_PATTERNS; i++)
        if (patterns[i].published && strcmp(patterns[i].published, regex) == 0) return patterns[i].names[0];
    return NULL;
}

int kv_pretok_open(const char *name, kv_pretok **out, kv_error *err) {
    *out = NULL;
    const split_pattern *pat = find_pattern(name);
    if (!pat)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "pre-tokenizer \"%s\" is not known; known are smollm, gpt-2, llama-bpe (llama3, llama-v3), "
                       "qwen2 (deepseek-r1-qwen)",
                       name);
    kv_pretok *p = calloc(1, sizeof *p);
    if (!p) return kv_fail(err, KV_ENOMEM, "out of memory opening pre-tokenizer %s", name);
    int code;
    PCRE2_SIZE at;
    p->code = pcre2_compile((PCRE2_SPTR)pat->regex, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED,
                            &code, &at, NULL);
    p->limits = pcre2_match_context_create(NULL);
    if (!p->code || !p->limits) {
        PCRE2_UCHAR why[128] = "out of memory";
        if (!p->code) pcre2_get_error_message(code, why, sizeof why);
        kv_pretok_close(p);
        return kv_fail(err, KV_EUNSUPPORTED,
                       "the split pattern of %s does not compile: %s; is PCRE2 built with Unicode?", name,
                       (const char *)why);
    }
    /* Backtracking here is linear in the length of one run of blanks, so the default limit would only reject long
     * runs.  Where there is no JIT the interpreter serves. */
    pcre2_set_match_limit(p->limits, UINT32_MAX);
    pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
    *out = p;
    return KV_OK;
}

void kv_pretok_close(kv_pretok *p) {
    if (!p) return;
    pcre2_code_free(p->code);
    pcre2_match_context_free(p->limits);
    free(p);
}

static int split_valid(const kv_pretok *p, pcre2_match_data *md, const char *text, size_t n, kv_piece_fn fn, void *ctx,
                       kv_error *err) {
    for (size_t i = 0; i < n;) {
        int rc = pcre2_match(p->code, (PCRE2_SPTR)text, n, i, PCRE2_NO_UTF_CHECK, md, p->limits);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
            rc = pcre2_match(p->code, (PCRE2_SPTR)text, n, i, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, md, p->limits);
        if (rc < 0)
            return kv_fail(err, KV_ENOMEM, "PCRE2 error %d while splitting text at byte %zu: not enough memory?", rc,
                           i);
        size_t end = pcre2_get_ovector_pointer(md)[1];
        rc = fn(ctx, text + i, end - i, err);
        if (rc) return rc;
        i = end;
    }
    return KV_OK;
}

int kv_pretok_split(const kv_pretok *p, const char *text, size_t n, kv_piece_fn fn, void *ctx, kv_error *err) {
    pcre2_match_data *md = pcre2_match_data_create(1, NULL);
    if (!md) return kv_fail(err, KV_ENOMEM, "out of memory splitting %zu bytes of text", n);
    int rc = KV_OK;
    for (size_t i = 0; rc == KV_OK && i < n;) {
        size_t len = kv_utf8_valid(text + i, n - i);
        if (len)
            rc = split_valid(p, md, text + i, len, fn, ctx, err);
        else
            rc = fn(ctx, text + i, len = 1, err);
        i += len;
    }
    pcre2_match_data_free(md);
    return rc;
}
