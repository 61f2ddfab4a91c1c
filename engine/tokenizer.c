/* tokenizer.c - BPE tokenizers: text to ids and back.
 *
 * Text passes four stages.  Special tokens are cut out first, in trusted parts only, so that an essay containing
 * "<|im_end|>" stays an essay.  What lies between two of them, across part borders, is joined, normalised
 * (normalize.c) and split by the family's pattern (pretokenize.c), and every piece is merged (bpe.c).
 *
 * Source: the crate `tokenizers`, whose ids these are; added_vocabulary.rs for what special tokens swallow. */
#include "engine/tokenizer.h"
#include "engine/bpe.h"
#include "engine/normalize.h"
#include "engine/pretokenize.h"
#include "engine/utf8.h"
#include "engine/vocab.h"

#include <stdlib.h>
#include <string.h>

struct kv_tokenizer {
    kv_token_table tokens;
    kv_bpe bpe;
    kv_pretok *pre;
    kv_normal normal;
    kv_spelling spelling;
    int ignore_merges, byte_fallback, fuse_unk, strip_first, add_bos;
    int64_t unk, bos, eos;
};

static int copy_merges(kv_tokenizer *t, const kv_vocab *v, kv_error *err) {
    char *buf = NULL;
    size_t cap = 0;
    for (size_t i = 0; i < v->n_merges; i++) {
        size_t len;
        const char *s = v->merge(v->ctx, i, &len), *blank = s ? memchr(s, ' ', len) : NULL;
        if (!blank) {
            free(buf);
            return kv_fail(err, KV_EFORMAT, "merge %zu of the tokenizer is not of the form \"left right\"", i);
        }
        if (len > cap) {
            free(buf);
            buf = malloc(cap = 2 * len);
            if (!buf) return kv_fail(err, KV_ENOMEM, "out of memory for BPE merges");
        }
        size_t left_len = (size_t)(blank - s);
        long a = kv_token_decode(v->spelling, s, left_len, buf);
        long b = a < 0 ? -1 : kv_token_decode(v->spelling, blank + 1, len - left_len - 1, buf + a);
        int32_t left = a <= 0 || b <= 0 ? -1 : kv_token_find(&t->tokens, buf, (size_t)a);
        int32_t right = left < 0 ? -1 : kv_token_find(&t->tokens, buf + a, (size_t)b);
        int32_t both = right < 0 ? -1 : kv_token_find(&t->tokens, buf, (size_t)(a + b));
        if (both < 0) {
            free(buf);
            return kv_fail(err, KV_EFORMAT,
                           "merge %zu of the tokenizer, \"%.*s\": a part or the result is not in the vocabulary; the "
                           "file is damaged",
                           i, len < 80 ? (int)len : 80, s);
        }
        kv_bpe_add(&t->bpe, left, right, (uint32_t)i, both);
    }
    free(buf);
    return KV_OK;
}

static int check_id(const char *what, int64_t id, size_t n, kv_error *err) {
    if (id >= -1 && id < (int64_t)n) return KV_OK;
    return kv_fail(err, KV_EFORMAT, "%s id %lld is outside the vocabulary of %zu tokens", what, (long long)id, n);
}

int kv_tokenizer_open(const kv_vocab *v, kv_tokenizer **out, kv_error *err) {
    *out = NULL;
    if (v->n_tokens == 0 || v->n_tokens > (1u << 28) || v->n_merges > (1u << 28))
        return kv_fail(err, KV_EFORMAT, "a tokenizer with %zu tokens and %zu merges is not plausible", v->n_tokens,
                       v->n_merges);
    kv_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return kv_fail(err, KV_ENOMEM, "out of memory opening a tokenizer");
    t->normal = v->normal;
    t->spelling = v->spelling;
    t->ignore_merges = v->ignore_merges;
    t->byte_fallback = v->byte_fallback;
    t->unk = v->unk;
    t->fuse_unk = v->fuse_unk;
    t->strip_first = v->strip_first;
    t->add_bos = v->add_bos;
    t->bos = v->bos;
    t->eos = v->eos;
    int rc = kv_pretok_open(v->pre, &t->pre, err);
    if (rc == KV_OK) rc = kv_bpe_open(&t->bpe, v->n_merges, err);
    if (rc == KV_OK) rc = kv_token_table_open(&t->tokens, v, err);
    if (rc == KV_OK) rc = copy_merges(t, v, err);
    if (rc == KV_OK) rc = check_id("bos", t->bos, t->tokens.n, err);
    if (rc == KV_OK) rc = check_id("eos", t->eos, t->tokens.n, err);
    if (rc == KV_OK) rc = check_id("unk", t->unk, t->tokens.n, err);
    if (rc) {
        kv_tokenizer_close(t);
        return rc;
    }
    *out = t;
    return KV_OK;
}

void kv_tokenizer_close(kv_tokenizer *t) {
    if (!t) return;
    kv_pretok_close(t->pre);
    kv_bpe_close(&t->bpe);
    kv_token_table_close(&t->tokens);
    free(t);
}

size_t kv_tokenizer_n_tokens(const kv_tokenizer *t) {
    return t->tokens.n;
}

int64_t kv_tokenizer_bos(const kv_tokenizer *t) {
    return t->bos;
}

int64_t kv_tokenizer_eos(const kv_tokenizer *t) {
    return t->eos;
}

int kv_tokenizer_add_bos(const kv_tokenizer *t) {
    return t->add_bos;
}

void kv_tokenizer_set_ends(kv_tokenizer *t, int64_t bos, int64_t eos, int add_bos) {
    t->bos = bos;
    t->eos = eos;
    t->add_bos = add_bos;
}

int64_t kv_tokenizer_special(const kv_tokenizer *t, const char *text) {
    size_t len, n = strlen(text);
    int32_t id = n ? kv_token_match_special(&t->tokens, text, n) : -1;
    if (id < 0) return -1;
    kv_token_at(&t->tokens, (size_t)id, &len);
    return len == n ? id : -1;
}

void kv_ids_free(kv_ids *v) {
    free(v->ids);
    *v = (kv_ids){0};
}

static int append_ids(kv_ids *v, const int32_t *ids, size_t n, kv_error *err) {
    if (!n) return KV_OK; /* v->ids may still be NULL */
    if (n > v->cap - v->n) {
        size_t cap = v->cap ? v->cap : 64;
        while (cap - v->n < n) cap *= 2;
        int32_t *p = realloc(v->ids, cap * sizeof *p);
        if (!p) return kv_fail(err, KV_ENOMEM, "out of memory for %zu token ids", cap);
        v->ids = p;
        v->cap = cap;
    }
    memcpy(v->ids + v->n, ids, n * sizeof *ids);
    v->n += n;
    return KV_OK;
}

int kv_tokenizer_push_bos(const kv_tokenizer *t, kv_ids *out, kv_error *err) {
    const int32_t bos = (int32_t)t->bos;
    if (!t->add_bos) return KV_OK;
    if (bos < 0) return kv_fail(err, KV_EFORMAT, "the tokenizer asks for a BOS token but names none");
    return append_ids(out, &bos, 1, err);
}

/* One call's state: the plain text collected since the last special token, and where ids go. */
typedef struct encoder {
    const kv_tokenizer *t;
    kv_ids *out;
    char *plain;
    size_t n_plain;
    size_t pos;    /* in the concatenated parts: behind what was read */
    size_t run_at; /* of plain[0] */
    int swallow;   /* the last special token takes the blanks that follow */
    size_t at, n_before;
    const char *run; /* what is split: plain, or normal.s */
    size_t cut;      /* ids that start before this byte of run start before `at` */
    kv_bytes normal;
    kv_bpe_work work;
} encoder;

/* Fills e->work with the characters of a piece; those without a token become bytes, unk or nothing. */
static void push_characters(encoder *e, const char *piece, size_t len) {
    const kv_tokenizer *t = e->t;
    size_t unk_end = len + 1;
    for (size_t i = 0, n; i < len; i += n) {
        n = kv_utf8_char(piece + i, len - i);
        int32_t id = n ? kv_token_find_plain(&t->tokens, piece + i, n) : -1;
        if (n == 0) n = 1;
        if (id >= 0) {
            kv_bpe_push(&e->work, id, i);
        } else if (t->byte_fallback) {
            for (size_t k = 0; k < n; k++) kv_bpe_push(&e->work, t->tokens.byte_id[(unsigned char)piece[i + k]], i + k);
        } else if (t->unk >= 0) {
            if (!t->fuse_unk || unk_end != i) kv_bpe_push(&e->work, (int32_t)t->unk, i);
            unk_end = i + n;
        }
    }
}

static int encode_piece(void *ctx, const char *piece, size_t len, kv_error *err) {
    encoder *e = ctx;
    const kv_tokenizer *t = e->t;
    size_t start = (size_t)(piece - e->run);
    if (t->ignore_merges) {
        int32_t id = kv_token_find_plain(&t->tokens, piece, len);
        if (id >= 0) {
            e->n_before += start < e->cut;
            return append_ids(e->out, &id, 1, err);
        }
    }
    int rc = kv_bpe_begin(&e->work, len, err);
    if (rc) return rc;
    if (t->spelling == KV_SPELL_CHARS) {
        push_characters(e, piece, len);
    } else {
        for (size_t i = 0; i < len; i++) {
            int32_t id = t->tokens.byte_id[(unsigned char)piece[i]];
            if (id >= 0) kv_bpe_push(&e->work, id, i);
        }
    }
    kv_bpe_merge(&t->bpe, &e->work);
    for (size_t i = 0; i < e->work.n && start + e->work.starts[i] < e->cut; i++) e->n_before++;
    return append_ids(e->out, e->work.ids, e->work.n, err);
}

static int flush(encoder *e, kv_error *err) {
    const kv_normal *how = &e->t->normal;
    size_t n = e->n_plain;
    int first = e->run_at == 0, rc = KV_OK;
    e->n_plain = 0;
    e->run = e->plain;
    e->cut = e->at > e->run_at ? e->at - e->run_at : 0;
    if (!kv_normal_already(how, e->plain, n, first)) {
        if (e->cut >= n)
            e->cut = SIZE_MAX;
        else if (e->cut) {
            rc = kv_normalize(how, e->plain, e->cut, first, &e->normal, err);
            e->cut = e->normal.n;
        }
        if (rc == KV_OK) rc = kv_normalize(how, e->plain, n, first, &e->normal, err);
        e->run = e->normal.s;
        n = e->normal.n;
    }
    return rc ? rc : kv_pretok_split(e->t->pre, e->run, n, encode_piece, e, err);
}

static void add_plain(encoder *e, const char *s, size_t n) {
    if (e->n_plain == 0) e->run_at = e->pos;
    if (n) memcpy(e->plain + e->n_plain, s, n);
    e->n_plain += n;
    e->pos += n;
}

static int add_special(encoder *e, int32_t id, kv_error *err) {
    int kind = e->t->tokens.kind[id];
    size_t len, k;
    kv_token_at(&e->t->tokens, (size_t)id, &len);
    if (kind & KV_TOKEN_LSTRIP)
        while ((k = kv_utf8_blank_before(e->plain, e->n_plain))) e->n_plain -= k;
    int rc = flush(e, err);
    if (rc == KV_OK) rc = append_ids(e->out, &id, 1, err);
    e->n_before += e->pos < e->at;
    e->pos += len;
    e->swallow = (kind & KV_TOKEN_RSTRIP) != 0;
    return rc;
}

static int encode_part(encoder *e, const kv_text_part *part, kv_error *err) {
    size_t i = 0, len;
    while (i < part->len) {
        int32_t id = part->trusted ? kv_token_match_special(&e->t->tokens, part->text + i, part->len - i) : -1;
        if (id >= 0) {
            int rc = add_special(e, id, err);
            if (rc) return rc;
            kv_token_at(&e->t->tokens, (size_t)id, &len);
            i += len;
        } else if (e->swallow && (len = kv_utf8_blank(part->text + i, part->len - i))) {
            e->pos += len;
            i += len;
        } else {
            e->swallow = 0;
            len = part->trusted ? 1 : part->len - i;
            add_plain(e, part->text + i, len);
            i += len;
        }
    }
    return KV_OK;
}

int kv_tokenize_at(const kv_tokenizer *t, const kv_text_part *parts, size_t n_parts, size_t at, size_t *n_before,
                   kv_ids *out, kv_error *err) {
    size_t total = 0, n_was = out->n;
    *n_before = 0;
    for (size_t i = 0; i < n_parts; i++) {
        if (parts[i].len > INT32_MAX / 4 - total)
            return kv_fail(err, KV_ELIMIT, "text of more than 512 MiB cannot be tokenized at once");
        total += parts[i].len;
    }
    encoder e = {.t = t, .out = out, .at = at, .plain = malloc(total + 1)};
    int rc = e.plain ? KV_OK : kv_fail(err, KV_ENOMEM, "out of memory tokenizing %zu bytes", total);
    for (size_t i = 0; rc == KV_OK && i < n_parts; i++) rc = encode_part(&e, &parts[i], err);
    if (rc == KV_OK) rc = flush(&e, err);
    if (rc == KV_OK)
        *n_before = e.n_before;
    else
        out->n = n_was;
    kv_bpe_work_free(&e.work);
    free(e.normal.s);
    free(e.plain);
    return rc;
}

int kv_tokenize(const kv_tokenizer *t, const kv_text_part *parts, size_t n_parts, kv_ids *out, kv_error *err) {
    size_t n_before;
    return kv_tokenize_at(t, parts, n_parts, 0, &n_before, out, err);
}

const char *kv_token_bytes(const kv_tokenizer *t, int32_t id, size_t *len) {
    if (id < 0 || (size_t)id >= t->tokens.n) {
        *len = 0;
        return "";
    }
    return kv_token_at(&t->tokens, (size_t)id, len);
}

const char *kv_token_shown(const kv_tokenizer *t, int32_t id, int skip_special, int *first, size_t *len) {
    const char *b = kv_token_bytes(t, id, len);
    if (*len && skip_special && (t->tokens.kind[id] & TOKEN_KIND) == KV_TOKEN_CONTROL) *len = 0;
    if (!*len) return b;
    int strip = *first && t->strip_first && *b == ' ';
    *first = 0;
    *len -= (size_t)strip;
    return b + strip;
}

char *kv_detokenize(const kv_tokenizer *t, const int32_t *ids, size_t n, int skip_special) {
    size_t total = 0, len;
    int first = 1;
    for (size_t i = 0; i < n; i++) {
        kv_token_bytes(t, ids[i], &len);
        total += len;
    }
    char *out = malloc(total + 1), *p = out;
    if (!out) return NULL;
    for (size_t i = 0; i < n; i++) {
        const char *b = kv_token_shown(t, ids[i], skip_special, &first, &len);
        memcpy(p, b, len);
        p += len;
    }
    *p = '\0';
    return out;
}
