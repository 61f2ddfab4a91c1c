/* utf8.h - what the tokenizer and the chat templates need to know about UTF-8 text. */
#ifndef KV_UTF8_H
#define KV_UTF8_H

#include <stddef.h>

/* Length of the well-formed character at s (Unicode table 3-7), 0 when there is none. */
size_t kv_utf8_char(const char *s, size_t n);

/* How many of the n bytes are well-formed characters, up to the first byte that is not part of one. */
size_t kv_utf8_valid(const char *s, size_t n);

/* Length of the White_Space character that s starts with, 0 when there is none. */
size_t kv_utf8_blank(const char *s, size_t n);

/* Length of the White_Space character that s ends with, 0 when there is none. */
size_t kv_utf8_blank_before(const char *s, size_t n);

#endif
