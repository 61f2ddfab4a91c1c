/* unicode.h - characters as Python's str sees them, for graders whose published code is Python.
 *
 * Categories and case come from utf8proc; the rules on top are those of str.lower, str.split and the re module's \w
 * and \d.  Bytes that are no UTF-8 are U+FFFD, one for each maximal part of a character, as bytes.decode gives them
 * with errors="replace". */
#ifndef KV_UNICODE_H
#define KV_UNICODE_H

#include "datasets/text.h"

/* The character at *s < end; moves *s behind it. */
uint32_t kv_utf8_next(const char **s, const char *end);
void kv_utf8_put(kv_text *out, uint32_t c);

int kv_is_space(uint32_t c);       /* str.isspace */
int kv_is_word(uint32_t c);        /* \w */
int kv_is_digit(uint32_t c);       /* \d */
int kv_is_punctuation(uint32_t c); /* string.punctuation: ASCII's */
/* Appends the lower case of s[0, n), as str.lower: the final sigma and the dotted capital I have rules of their own. */
void kv_unicode_lower(const char *s, size_t n, kv_text *out);

/* All characters of s; malloc'd, NULL without memory or when there are none. */
uint32_t *kv_utf8_decode(const char *s, size_t n, size_t *count);

#endif
