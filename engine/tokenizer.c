/* tokenizer.c - byte-level BPE: vocabulary, special tokens, text to ids and back.
 *
 * Text passes three stages.  Special tokens are cut out first, in trusted parts only, so that an essay containing
 * "<|im_end|>" stays an essay.  What lies between two of them, across part borders, is joined and split by the
 * family's pattern (pretokenize.c), and every piece is merged (bpe.c).
 *
 * Vocabulary files write each byte as a printable character (GPT-2's alphabet: the printable Latin-1 bytes stand for
 * themselves, the other 68 are U+0100, U+0101, ...).  Tokens are decoded once, at open, and only bytes are kept. */
#include "engine/tokenizer.h"
#include "engine/bpe.h"
#include "engine/pretokenize.h"

#include <stdlib.h>
#include <string.h>

enum { TOKEN_RAW = 3 }; /* an ordinary token that is not written in the alphabet: has text, is never produced */

struct kv_tokenizer {
    size_t n;
    char *bytes;    /* all tokens, one after another */
    size_t *offset; /* n + 1 */
    uint8_t *kind;  /* n, KV_TOKEN_* or TOKEN_RAW */
    int32_t *slots; /* open addressing from bytes to id, -1 empty; 1 << bits entries */
    int bits;
    int32_t *special; /* ids of special tokens, longest first */
    size_t n_special;
    uint8_t special_first[256]; /* whether a special token starts with this byte */
    kv_bpe bpe;
    kv_pretok *pre;
    int ignore_merges, add_bos;
    int64_t bos, eos;
};

/* Byte that a code point of the alphabet stands for, -1 for other code points. */
static int alphabet_byte(uint32_t cp) {
    if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xAC) || (cp >= 0xAE && cp <= 0xFF)) return (int)cp;
    if (cp < 0x100 || cp > 0x143) return -1;
    uint32_t k = cp - 0x100;
    if (k <= 0x20) return (int)k;
    if (k <= 0x20 + 0x22) return (int)(k - 0x21 + 0x7F);
    return 0xAD;
}

/* Decodes a token into dst (room for len bytes); returns the length, or -1 when it is not written in the alphabet. */
static long decode_alphabet(const char *s, size_t len, char *dst) {
    long n = 0;
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)s[i++];
        uint32_t cp = c;
        if (c >= 0x80) {
            if (c < 0xC2 || c > 0xC5 || i == len) return -1; /* the alphabet ends at U+0143 = C5 83 */
            cp = (uint32_t)(c & 0x1F) << 6 | ((unsigned char)s[i++] & 0x3F);
        }
        int b = alphabet_byte(cp);
        if (b < 0) return -1;
        dst[n++] = (char)b;
    }
    return n;
}

static const char *token_at(const kv_tokenizer *t, size_t id, size_t *len) {
    *len = t->offset[id + 1] - t->offset[id];
    return t->bytes + t->offset[id];
}

static int32_t *find_slot(const kv_tokenizer *t, const char *s, size_t len) {
    uint64_t h = UINT64_C(0xCBF29CE484222325); /* FNV-1a */
    for (size_t i = 0; i < len; i++) h = (h ^ (unsigned char)s[i]) * UINT64_C(0x100000001B3);
    size_t mask = ((size_t)1 << t->bits) - 1;
    for (size_t i = (size_t)(h ^ h >> 32) & mask;; i = (i + 1) & mask) {
        size_t have;
        if (t->slots[i] < 0) return &t->slots[i];
        const char *b = token_at(t, (size_t)t->slots[i], &have);
        if (have == len && memcmp(b, s, len) == 0) return &t->slots[i];
    }
}

static int copy_tokens(kv_tokenizer *t, const kv_vocab *v, kv_error *err) {
    size_t total = 0, len;
    for (size_t i = 0; i < v->n_tokens; i++)
        if (v->token(v->ctx, i, &len)) total += len;
    t->n = v->n_tokens;
    t->bytes = malloc(total + 1);
    t->offset = calloc(t->n + 1, sizeof *t->offset);
    t->kind = calloc(t->n + 1, 1);
    t->special = malloc((t->n + 1) * sizeof *t->special);
    for (t->bits = 4; ((size_t)1 << t->bits) < 2 * t->n;) t->bits++;
    t->slots = malloc(sizeof *t->slots << t->bits);
    if (!t->bytes || !t->offset || !t->kind || !t->special || !t->slots)
        return kv_fail(err, KV_ENOMEM, "out of memory for a vocabulary of %zu tokens", t->n);
    memset(t->slots, 0xFF, sizeof *t->slots << t->bits);
    for (size_t i = 0; i < t->n; i++) {
        const char *s = v->token(v->ctx, i, &len);
        char *dst = t->bytes + t->offset[i];
        int kind = v->is_special(v->ctx, i);
        long n = 0;
        if (s && kind == KV_TOKEN_NORMAL && (n = decode_alphabet(s, len, dst)) < 0) kind = TOKEN_RAW;
        if (s && kind != KV_TOKEN_NORMAL) {
            memcpy(dst, s, len);
            n = (long)len;
        }
        if (kind != KV_TOKEN_NORMAL && kind != TOKEN_RAW && n > 0) {
            t->special[t->n_special++] = (int32_t)i;
            t->special_first[(unsigned char)dst[0]] = 1;
        }
        t->kind[i] = (uint8_t)kind;
        t->offset[i + 1] = t->offset[i] + (size_t)n;
    }
    return KV_OK;
}

/* Ordinary tokens come first: a special one is found by its bytes only when nothing else has them. */
static void index_tokens(kv_tokenizer *t) {
    for (int special = 0; special <= 1; special++)
        for (size_t i = 0; i < t->n; i++) {
            size_t len;
            const char *s = token_at(t, i, &len);
            if (len == 0 || (t->kind[i] != KV_TOKEN_NORMAL) != special) continue;
            int32_t *slot = find_slot(t, s, len);
            if (*slot < 0) *slot = (int32_t)i;
            if (len == 1 && !special && t->bpe.byte_id[(unsigned char)*s] < 0)
                t->bpe.byte_id[(unsigned char)*s] = (int32_t)i;
        }
}

static int longer_first(const void *a, const void *b, void *ctx) {
    int32_t i = *(const int32_t *)a, k = *(const int32_t *)b;
    size_t len_i, len_k;
    token_at(ctx, (size_t)i, &len_i);
    token_at(ctx, (size_t)k, &len_k);
    return len_i != len_k ? (len_i < len_k) - (len_i > len_k) : (i > k) - (i < k);
}

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
        long a = decode_alphabet(s, left_len, buf);
        long b = a < 0 ? -1 : decode_alphabet(blank + 1, len - left_len - 1, buf + a);
        int32_t left = a <= 0 || b <= 0 ? -1 : *find_slot(t, buf, (size_t)a);
        int32_t right = left < 0 ? -1 : *find_slot(t, buf + a, (size_t)b);
        int32_t both = right < 0 ? -1 : *find_slot(t, buf, (size_t)(a + b));
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

int kv_tokenizer_open(const kv_vocab *v, kv_tokenizer **out, kv_error *err) {
    *out = NULL;
    if (v->n_tokens == 0 || v->n_tokens > (1u << 28) || v->n_merges > (1u << 28))
        return kv_fail(err, KV_EFORMAT, "a tokenizer with %zu tokens and %zu merges is not plausible", v->n_tokens,
                       v->n_merges);
    kv_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return kv_fail(err, KV_ENOMEM, "out of memory opening a tokenizer");
    t->ignore_merges = v->ignore_merges;
    t->add_bos = v->add_bos;
    t->bos = v->bos;
    t->eos = v->eos;
    int rc = kv_pretok_open(v->pre, &t->pre, err);
    if (rc == KV_OK) rc = kv_bpe_open(&t->bpe, v->n_merges, err);
    if (rc == KV_OK) rc = copy_tokens(t, v, err);
    if (rc == KV_OK) {
        index_tokens(t);
        qsort_r(t->special, t->n_special, sizeof *t->special, longer_first, t);
        rc = copy_merges(t, v, err);
    }
    if (rc == KV_OK && (t->bos < -1 || t->bos >= (int64_t)t->n || t->eos < -1 || t->eos >= (int64_t)t->n))
        rc = kv_fail(err, KV_EFORMAT, "bos id %lld or eos id %lld is outside the vocabulary of %zu tokens",
                     (long long)t->bos, (long long)t->eos, t->n);
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
    free(t->bytes);
    free(t->offset);
    free(t->kind);
    free(t->slots);
    free(t->special);
    free(t);
}

size_t kv_tokenizer_n_tokens(const kv_tokenizer *t) {
    return t->n;
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

/* The longest special token that s[0..n) starts with, -1 when there is none. */
static int32_t match_special(const kv_tokenizer *t, const char *s, size_t n) {
    if (!t->special_first[(unsigned char)s[0]]) return -1;
    for (size_t i = 0; i < t->n_special; i++) {
        size_t len;
        const char *b = token_at(t, (size_t)t->special[i], &len);
        if (len <= n && memcmp(b, s, len) == 0) return t->special[i];
    }
    return -1;
}

int64_t kv_tokenizer_special(const kv_tokenizer *t, const char *text) {
    size_t len, n = strlen(text);
    int32_t id = n ? match_special(t, text, n) : -1;
    if (id < 0) return -1;
    token_at(t, (size_t)id, &len);
    return len == n ? id : -1;
}

void kv_ids_free(kv_ids *v) {
    free(v->ids);
    *v = (kv_ids){0};
}

/* One call's state: the plain text collected since the last special token, and where ids go. */
typedef struct encoder {
    const kv_tokenizer *t;
    kv_ids *out;
    char *plain;
    size_t n_plain;
    size_t run_at; /* offset of plain[0] in the concatenated parts */
    size_t at, n_before;
    kv_bpe_work work;
} encoder;

static int append(encoder *e, const int32_t *ids, size_t n, kv_error *err) {
    kv_ids *v = e->out;
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

static int encode_piece(void *ctx, const char *piece, size_t len, kv_error *err) {
    encoder *e = ctx;
    size_t start = e->run_at + (size_t)(piece - e->plain);
    if (e->t->ignore_merges) {
        int32_t id = *find_slot(e->t, piece, len);
        if (id >= 0 && e->t->kind[id] == KV_TOKEN_NORMAL) {
            e->n_before += start < e->at;
            return append(e, &id, 1, err);
        }
    }
    int rc = kv_bpe_encode(&e->t->bpe, &e->work, piece, len, err);
    if (rc) return rc;
    for (size_t i = 0; i < e->work.n && start + e->work.starts[i] < e->at; i++) e->n_before++;
    return append(e, e->work.ids, e->work.n, err);
}

static int flush(encoder *e, kv_error *err) {
    int rc = kv_pretok_split(e->t->pre, e->plain, e->n_plain, encode_piece, e, err);
    e->run_at += e->n_plain;
    e->n_plain = 0;
    return rc;
}

static int encode_part(encoder *e, const kv_text_part *part, kv_error *err) {
    if (!part->trusted && part->len) {
        memcpy(e->plain + e->n_plain, part->text, part->len);
        e->n_plain += part->len;
        return KV_OK;
    }
    for (size_t i = 0, len; i < part->len; i += len) {
        int32_t id = match_special(e->t, part->text + i, part->len - i);
        if (id < 0) {
            e->plain[e->n_plain++] = part->text[i];
            len = 1;
            continue;
        }
        int rc = flush(e, err);
        if (rc == KV_OK) rc = append(e, &id, 1, err);
        if (rc) return rc;
        token_at(e->t, (size_t)id, &len);
        e->n_before += e->run_at < e->at;
        e->run_at += len;
    }
    return KV_OK;
}

int kv_tokenize_at(const kv_tokenizer *t, const kv_text_part *parts, size_t n_parts, size_t at, size_t *n_before,
                   kv_ids *out, kv_error *err) {
    size_t total = 0, n_was = out->n;
    *n_before = 0;
    for (size_t i = 0; i < n_parts; i++) {
        if (parts[i].len > INT32_MAX - total)
            return kv_fail(err, KV_ELIMIT, "text of more than 2 GiB cannot be tokenized at once");
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
    free(e.plain);
    return rc;
}

int kv_tokenize(const kv_tokenizer *t, const kv_text_part *parts, size_t n_parts, kv_ids *out, kv_error *err) {
    size_t n_before;
    return kv_tokenize_at(t, parts, n_parts, 0, &n_before, out, err);
}

const char *kv_token_bytes(const kv_tokenizer *t, int32_t id, size_t *len) {
    if (id < 0 || (size_t)id >= t->n) {
        *len = 0;
        return "";
    }
    return token_at(t, (size_t)id, len);
}

/* Bytes of one id as kv_detokenize shows it. */
static const char *shown_bytes(const kv_tokenizer *t, int32_t id, int skip_special, size_t *len) {
    const char *b = kv_token_bytes(t, id, len);
    if (*len && skip_special && t->kind[id] == KV_TOKEN_CONTROL) *len = 0;
    return b;
}

char *kv_detokenize(const kv_tokenizer *t, const int32_t *ids, size_t n, int skip_special) {
    size_t total = 0, len;
    for (size_t i = 0; i < n; i++) {
        shown_bytes(t, ids[i], skip_special, &len);
        total += len;
    }
    char *out = malloc(total + 1), *p = out;
    if (!out) return NULL;
    for (size_t i = 0; i < n; i++) {
        const char *b = shown_bytes(t, ids[i], skip_special, &len);
        memcpy(p, b, len);
        p += len;
    }
    *p = '\0';
    return out;
}
