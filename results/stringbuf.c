/* stringbuf.c - the growing string that statements, scripts and pages are put together in. */
#include "results/stringbuf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for n more bytes and the NUL. */
static int reserve(kv_string *t, size_t n) {
    if (t->failed) return 0;
    if (t->p && n < t->cap - t->n) return 1;
    size_t cap = t->cap ? t->cap : 256;
    while (cap - t->n <= n) cap *= 2;
    char *p = realloc(t->p, cap);
    if (!p) {
        t->failed = 1;
        return 0;
    }
    t->p = p;
    t->cap = cap;
    return 1;
}

void kv_string_add_bytes(kv_string *t, const char *s, size_t n) {
    if (!reserve(t, n)) return;
    memcpy(t->p + t->n, s, n);
    t->n += n;
    t->p[t->n] = 0;
}

void kv_string_add(kv_string *t, const char *s) {
    kv_string_add_bytes(t, s, strlen(s));
}

void kv_string_addf(kv_string *t, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !reserve(t, (size_t)n)) {
        t->failed = 1;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(t->p + t->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    t->n += (size_t)n;
}

void kv_string_add_number(kv_string *t, double v) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    kv_string_add(t, text);
}

size_t kv_string_utf8(const char *s) {
    const unsigned char *u = (const unsigned char *)s;
    if (!*u) return 0;
    if (*u < 0x80) return 1;
    size_t n = *u >= 0xc2 && *u < 0xe0 ? 2 : *u >= 0xe0 && *u < 0xf0 ? 3 : *u >= 0xf0 && *u < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if ((u[i] & 0xc0) != 0x80) return 0;
    /* overlong forms, surrogates, beyond U+10FFFF */
    if ((*u == 0xe0 && u[1] < 0xa0) || (*u == 0xed && u[1] > 0x9f) || (*u == 0xf0 && u[1] < 0x90) ||
        (*u == 0xf4 && u[1] > 0x8f))
        return 0;
    return n;
}

/* One cleaned character of s; returns how many bytes it took. */
static size_t add_clean_char(kv_string *t, const char *s) {
    size_t n = kv_string_utf8(s);
    if (!n)
        kv_string_add(t, "?");
    else if (n == 1 && ((unsigned char)*s < ' ' || *s == 127))
        kv_string_add(t, " ");
    else
        kv_string_add_bytes(t, s, n);
    return n ? n : 1;
}

void kv_string_add_clean(kv_string *t, const char *s) {
    kv_string_add_bytes(t, s, 0);
    while (*s) s += add_clean_char(t, s);
}

void kv_string_add_valid(kv_string *t, const char *s) {
    kv_string_add_bytes(t, s, 0);
    for (size_t n; *s; s += n ? n : 1) {
        n = kv_string_utf8(s);
        kv_string_add_bytes(t, n ? s : "\xEF\xBF\xBD", n ? n : 3);
    }
}

void kv_string_add_html(kv_string *t, const char *s) {
    static const struct {
        char c;
        const char *entity;
    } special[] = {{'<', "&lt;"}, {'>', "&gt;"}, {'&', "&amp;"}, {'"', "&quot;"}, {'\'', "&#39;"}};
    kv_string_add_bytes(t, s, 0);
    while (*s) {
        size_t i = 0;
        while (i < sizeof special / sizeof *special && special[i].c != *s) i++;
        if (i < sizeof special / sizeof *special) {
            kv_string_add(t, special[i].entity);
            s++;
        } else {
            s += add_clean_char(t, s);
        }
    }
}

void kv_string_free(kv_string *t) {
    free(t->p);
    *t = (kv_string){0};
}

int kv_string_write(const kv_string *t, const char *path, kv_error *err) {
    if (t->failed) return kv_fail(err, KV_ENOMEM, "%s: out of memory", path);
    FILE *f = fopen(path, "w");
    if (!f) return kv_fail(err, KV_EIO, "%s: cannot be written: %s; check the folder", path, strerror(errno));
    int bad = t->n && fwrite(t->p, 1, t->n, f) != t->n;
    int reason = errno;
    if (fclose(f) && !bad) {
        bad = 1;
        reason = errno;
    }
    return bad ? kv_fail(err, KV_EIO, "%s: cannot be written: %s", path, strerror(reason)) : KV_OK;
}
