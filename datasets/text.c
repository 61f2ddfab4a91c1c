/* text.c - a growable string; see text.h. */
#include "datasets/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void kv_text_append(kv_text *t, const char *s, size_t n) {
    if (t->failed) return;
    if (n >= t->cap - t->n) {
        size_t cap = t->cap ? t->cap : 128;
        while (cap - t->n <= n && cap <= SIZE_MAX / 2) cap *= 2;
        char *p = cap - t->n > n ? realloc(t->s, cap) : NULL;
        if (!p) {
            t->failed = 1;
            return;
        }
        t->s = p;
        t->cap = cap;
    }
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
}

void kv_text_puts(kv_text *t, const char *s) {
    kv_text_append(t, s, strlen(s));
}

void kv_text_printf(kv_text *t, const char *fmt, ...) {
    char buf[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    if (n < 0 || n >= (int)sizeof buf)
        t->failed = 1;
    else
        kv_text_append(t, buf, (size_t)n);
}

int kv_text_take(kv_text *t, const char *what, char **out, kv_error *err) {
    kv_text_append(t, "", 0);
    if (t->failed) {
        kv_text_free(t);
        return kv_fail(err, KV_ENOMEM, "no memory for %s", what);
    }
    *out = t->s;
    *t = (kv_text){0};
    return KV_OK;
}

void kv_text_free(kv_text *t) {
    free(t->s);
    *t = (kv_text){0};
}
