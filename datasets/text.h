/* text.h - a growable string.
 *
 * Appends keep a failed allocation in `failed` and do nothing from then on, so that code which builds a long
 * text checks once, at the end, in kv_text_take. */
#ifndef KV_TEXT_H
#define KV_TEXT_H

#include "engine/kv.h"

typedef struct kv_text {
    char *s; /* NUL-terminated once anything was appended; owned */
    size_t n, cap;
    int failed;
} kv_text;

void kv_text_append(kv_text *t, const char *s, size_t n);
void kv_text_puts(kv_text *t, const char *s);
/* At most 511 bytes of output a call; longer strings go through kv_text_puts. */
void kv_text_printf(kv_text *t, const char *fmt, ...) KV_PRINTF(2, 3);
/* Hands the string over ("" when nothing was appended) and empties t.  what names the text in the KV_ENOMEM error. */
int kv_text_take(kv_text *t, const char *what, char **out, kv_error *err);
void kv_text_free(kv_text *t);

#endif
