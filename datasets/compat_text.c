/* compat_text.c - string steps of the compatible grader; see compat.h. */
#include "datasets/compat.h"

#include "datasets/unicode.h"

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

size_t kv_str_char(kv_span a, int *is_word) {
    const char *p = a.s;
    *is_word = kv_is_word(kv_utf8_next(&p, a.s + a.n));
    return (size_t)(p - a.s);
}

int kv_str_same_case_blind(kv_span a, kv_span b) {
    if (a.n != b.n) return 0;
    for (size_t i = 0; i < a.n; i++)
        if (tolower((unsigned char)a.s[i]) != tolower((unsigned char)b.s[i])) return 0;
    return 1;
}
