/* stringbuf.h - a string that grows; one check at the end covers every append. */
#ifndef KV_STRINGBUF_H
#define KV_STRINGBUF_H

#include "engine/kv.h"

/* Starts as {0}.  failed: an append ran out of memory, the contents are not to be used. */
typedef struct kv_string {
    char *p; /* NUL-terminated after the first append; kv_string_free */
    size_t n, cap;
    int failed;
} kv_string;

void kv_string_add(kv_string *t, const char *s);
void kv_string_add_bytes(kv_string *t, const char *s, size_t n);
void kv_string_addf(kv_string *t, const char *fmt, ...) KV_PRINTF(2, 3);
/* The shortest decimal that reads back as the same double. */
void kv_string_add_number(kv_string *t, double v);
/* On one line and in UTF-8: control characters become blanks, other bytes that are no UTF-8 become '?'. */
void kv_string_add_clean(kv_string *t, const char *s);
/* The same text with U+FFFD for every byte that is no UTF-8. */
void kv_string_add_valid(kv_string *t, const char *s);
/* As text or attribute value of HTML and SVG, cleaned as above. */
void kv_string_add_html(kv_string *t, const char *s);
void kv_string_free(kv_string *t);

/* Writes the whole text to path; errors name the path. */
int kv_string_write(const kv_string *t, const char *path, kv_error *err);

/* Length of the well-formed UTF-8 character at s, 0 when there is none (s is NUL-terminated). */
size_t kv_string_utf8(const char *s);

#endif
