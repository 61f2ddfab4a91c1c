/* normalize.h - what a tokenizer does to plain text before it is split. */
#ifndef KV_NORMALIZE_H
#define KV_NORMALIZE_H

#include "engine/tokenizer.h"

/* Growing bytes; start from zeros, free(s) at the end. */
typedef struct kv_bytes {
    char *s;
    size_t n, cap;
} kv_bytes;

/* Whether text[0..n) comes out as it goes in.  first: the text is the beginning of everything. */
int kv_normal_already(const kv_normal *how, const char *text, size_t n, int first);

/* Replaces the content of out.  Bytes that are not UTF-8 pass unchanged.  KV_ENOMEM is the only failure.
 * Linear time, but quadratic in the length of a run of combining marks, which utf8proc sorts by insertion: 2^16 of them
 * take seconds. */
int kv_normalize(const kv_normal *how, const char *text, size_t n, int first, kv_bytes *out, kv_error *err);

#endif
