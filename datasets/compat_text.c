/* compat_text.c - string steps of the compatible grader; see compat.h. */
#include "datasets/compat.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

void kv_str_set(kv_text *t, kv_span a) {
    char *copy = malloc(a.n + 1); /* a may lie in t */
    if (!copy) {
        t->failed = 1;
        return;
    }
    if (a.n) memcpy(copy, a.s, a.n);
    t->n = 0;
    kv_text_append(t, copy, a.n);
    free(copy);
}

kv_span kv_str_span(const kv_text *t) {
    return (kv_span){t->s ? t->s : "", t->n};
}

long kv_str_find(kv_span a, const char *piece, size_t from) {
    if (from > a.n) return -1;
    const char *p = memmem(a.s + from, a.n - from, piece, strlen(piece));
    return p ? (long)(p - a.s) : -1;
}

int kv_str_has(kv_span a, const char *piece) {
    return kv_str_find(a, piece, 0) >= 0;
}

int kv_str_count(kv_span a, char c) {
    int n = 0;
    for (size_t i = 0; i < a.n; i++) n += a.s[i] == c;
    return n;
}

void kv_str_replace(kv_text *t, const char *from, const char *to) {
    kv_span a = kv_str_span(t);
    kv_text out = {0};
    size_t at = 0;
    long next;
    if (!kv_str_has(a, from)) return;
    while ((next = kv_str_find(a, from, at)) >= 0) {
        kv_text_append(&out, a.s + at, (size_t)next - at);
        kv_text_puts(&out, to);
        at = (size_t)next + strlen(from);
    }
    kv_text_append(&out, a.s + at, a.n - at);
    kv_text_free(t);
    *t = out;
}

void kv_str_trim(kv_text *t) {
    kv_str_set(t, kv_span_trim(kv_str_span(t)));
}

/* Ranges of characters beyond ASCII that are no letters or digits: Latin-1 signs, punctuation, currency, arrows,
 * operators, box drawing, dingbats, CJK punctuation, full-width punctuation. */
static int is_sign(unsigned c) {
    static const unsigned ranges[][2] = {
        {0x80, 0xa9},     {0xab, 0xb1},     {0xb4, 0xb4},     {0xb6, 0xb8},     {0xbb, 0xbb},     {0xbf, 0xbf},
        {0xd7, 0xd7},     {0xf7, 0xf7},     {0x2000, 0x206f}, {0x20a0, 0x20cf}, {0x2190, 0x23ff}, {0x2500, 0x27bf},
        {0x27c0, 0x2bff}, {0x3000, 0x3004}, {0x3008, 0x3020}, {0xff01, 0xff0f}, {0xff1a, 0xff20}};
    for (size_t k = 0; k < sizeof ranges / sizeof *ranges; k++)
        if (c >= ranges[k][0] && c <= ranges[k][1]) return 1;
    return 0;
}

size_t kv_str_char(kv_span a, int *is_word) {
    unsigned char c = (unsigned char)*a.s;
    if (c < 0x80) {
        *is_word = isalnum(c) || c == '_';
        return 1;
    }
    size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
    unsigned code = n == 4 ? c & 7u : n == 3 ? c & 15u : c & 31u;
    if (n > a.n) n = a.n;
    for (size_t i = 1; i < n; i++) {
        if (((unsigned char)a.s[i] & 0xc0) != 0x80) {
            n = i;
            break;
        }
        code = code << 6 | ((unsigned char)a.s[i] & 0x3f);
    }
    *is_word = n > 1 && !is_sign(code);
    return n;
}

int kv_str_same_case_blind(kv_span a, kv_span b) {
    if (a.n != b.n) return 0;
    for (size_t i = 0; i < a.n; i++)
        if (tolower((unsigned char)a.s[i]) != tolower((unsigned char)b.s[i])) return 0;
    return 1;
}
