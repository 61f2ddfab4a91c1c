/* vocab.c - the token table: spellings decoded once, at open; only bytes are kept.
 *
 * Byte-level vocabularies write each byte as a printable character (GPT-2's alphabet: the printable Latin-1 bytes
 * stand for themselves, the other 68 are U+0100, U+0101, ...).  SentencePiece ones write characters, U+2581 for a
 * blank, and "<0x0A>" for a byte that stands in where a character has no token.
 *
 * Sources: openai/gpt-2 encoder.py; google/sentencepiece doc/special_symbols.md. */
#include "engine/vocab.h"

#include <stdlib.h>
#include <string.h>

/* Byte that a code point of the alphabet stands for, -1 for other code points. */
static int alphabet_byte(uint32_t cp) {
    if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xAC) || (cp >= 0xAE && cp <= 0xFF)) return (int)cp;
    if (cp < 0x100 || cp > 0x143) return -1;
    uint32_t k = cp - 0x100;
    if (k <= 0x20) return (int)k;
    if (k <= 0x20 + 0x22) return (int)(k - 0x21 + 0x7F);
    return 0xAD;
}

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

/* A plain blank cannot occur: text has none once U+2581 stands for it. */
static long decode_characters(const char *s, size_t len, char *dst) {
    long n = 0;
    for (size_t i = 0; i < len;) {
        if (s[i] == ' ') return -1;
        if (len - i >= 3 && memcmp(s + i, "\xE2\x96\x81", 3) == 0) {
            dst[n++] = ' ';
            i += 3;
        } else {
            dst[n++] = s[i++];
        }
    }
    return n;
}

long kv_token_decode(kv_spelling spelling, const char *s, size_t len, char *dst) {
    return spelling == KV_SPELL_BYTES ? decode_alphabet(s, len, dst) : decode_characters(s, len, dst);
}

/* The byte that "<0x0A>" names, -1 for other texts. */
static int named_byte(const char *s, size_t len) {
    static const char digits[] = "0123456789ABCDEF";
    if (len != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>' || !s[3] || !s[4]) return -1;
    const char *hi = strchr(digits, s[3]), *lo = strchr(digits, s[4]);
    return hi && lo ? (int)((hi - digits) * 16 + (lo - digits)) : -1;
}

const char *kv_token_at(const kv_token_table *t, size_t id, size_t *len) {
    *len = t->offset[id + 1] - t->offset[id];
    return t->bytes + t->offset[id];
}

static int32_t *find_slot(const kv_token_table *t, const char *s, size_t len) {
    uint64_t h = UINT64_C(0xCBF29CE484222325); /* FNV-1a */
    for (size_t i = 0; i < len; i++) h = (h ^ (unsigned char)s[i]) * UINT64_C(0x100000001B3);
    size_t mask = ((size_t)1 << t->bits) - 1;
    for (size_t i = (size_t)(h ^ h >> 32) & mask;; i = (i + 1) & mask) {
        size_t have;
        if (t->slots[i] < 0) return &t->slots[i];
        const char *b = kv_token_at(t, (size_t)t->slots[i], &have);
        if (have == len && memcmp(b, s, len) == 0) return &t->slots[i];
    }
}

int32_t kv_token_find(const kv_token_table *t, const char *s, size_t len) {
    return *find_slot(t, s, len);
}

int32_t kv_token_find_plain(const kv_token_table *t, const char *s, size_t len) {
    int32_t id = *find_slot(t, s, len);
    return id >= 0 && t->kind[id] == KV_TOKEN_NORMAL ? id : -1;
}

static int reserve(kv_token_table *t, const kv_vocab *v, kv_error *err) {
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
    memset(t->byte_id, 0xFF, sizeof t->byte_id);
    return KV_OK;
}

/* Writes token i behind the others; returns its length. */
static size_t copy_token(kv_token_table *t, const kv_vocab *v, size_t i) {
    size_t len;
    const char *s = v->token(v->ctx, i, &len);
    char *dst = t->bytes + t->offset[i];
    int kind = v->is_special(v->ctx, i);
    t->kind[i] = (uint8_t)kind;
    if (!s || len == 0) return 0;
    if ((kind & TOKEN_KIND) != KV_TOKEN_NORMAL) {
        memcpy(dst, s, len);
        t->special[t->n_special++] = (int32_t)i;
        t->special_first[(unsigned char)dst[0]] = 1;
        return len;
    }
    int byte = v->byte_fallback ? named_byte(s, len) : -1;
    if (byte >= 0) {
        t->kind[i] = TOKEN_BYTE;
        t->byte_id[byte] = (int32_t)i;
        dst[0] = (char)byte;
        return 1;
    }
    long n = kv_token_decode(v->spelling, s, len, dst);
    if (n >= 0) return (size_t)n;
    t->kind[i] = TOKEN_RAW;
    memcpy(dst, s, len);
    return len;
}

/* Ordinary tokens come first: a special one is found by its bytes only when nothing else has them. */
static void index_tokens(kv_token_table *t, kv_spelling spelling) {
    for (int special = 0; special <= 1; special++)
        for (size_t i = 0; i < t->n; i++) {
            size_t len;
            const char *s = kv_token_at(t, i, &len);
            if (len == 0 || t->kind[i] == TOKEN_BYTE || (t->kind[i] != KV_TOKEN_NORMAL) != special) continue;
            int32_t *slot = find_slot(t, s, len);
            if (*slot < 0) *slot = (int32_t)i;
            if (spelling == KV_SPELL_BYTES && len == 1 && !special && t->byte_id[(unsigned char)*s] < 0)
                t->byte_id[(unsigned char)*s] = (int32_t)i;
        }
}

static int longer_first(const void *a, const void *b, void *ctx) {
    int32_t i = *(const int32_t *)a, k = *(const int32_t *)b;
    size_t len_i, len_k;
    kv_token_at(ctx, (size_t)i, &len_i);
    kv_token_at(ctx, (size_t)k, &len_k);
    return len_i != len_k ? (len_i < len_k) - (len_i > len_k) : (i > k) - (i < k);
}

int kv_token_table_open(kv_token_table *t, const kv_vocab *v, kv_error *err) {
    memset(t, 0, sizeof *t);
    int rc = reserve(t, v, err);
    if (rc) return rc;
    for (size_t i = 0; i < t->n; i++) t->offset[i + 1] = t->offset[i] + copy_token(t, v, i);
    index_tokens(t, v->spelling);
    qsort_r(t->special, t->n_special, sizeof *t->special, longer_first, t);
    for (int b = 0; v->byte_fallback && b < 256; b++)
        if (t->byte_id[b] < 0)
            return kv_fail(err, KV_EUNSUPPORTED,
                           "the tokenizer has byte_fallback but no token <0x%02X>: only all 256 or none are handled",
                           b);
    return KV_OK;
}

void kv_token_table_close(kv_token_table *t) {
    free(t->bytes);
    free(t->offset);
    free(t->kind);
    free(t->slots);
    free(t->special);
    memset(t, 0, sizeof *t);
}

int32_t kv_token_match_special(const kv_token_table *t, const char *s, size_t n) {
    if (!t->special_first[(unsigned char)s[0]]) return -1;
    for (size_t i = 0; i < t->n_special; i++) {
        size_t len;
        const char *b = kv_token_at(t, (size_t)t->special[i], &len);
        if (len <= n && memcmp(b, s, len) == 0) return t->special[i];
    }
    return -1;
}
