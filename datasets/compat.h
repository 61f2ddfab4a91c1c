/* compat.h - the grader of R-KV and TRIM-KV (Zefan-Cai/R-KV, evaluation/{parser,grader,eval_math}.py), its faults
 * included, so that scores can be put beside published ones.  It descends from the graders of ToRA and Qwen2.5-Math.
 *
 * Its one part that is not reproduced is SymPy: two sides count as symbolically equal when they have the same values
 * at fixed points (math_eval.h).  Texts over KV_COMPAT_MAX bytes are wrong answers; the reference gives up on them
 * after three seconds. */
#ifndef KV_COMPAT_H
#define KV_COMPAT_H

#include "datasets/graders.h"
#include "datasets/text.h"

enum { KV_COMPAT_MAX = 4096 };

/* The whole path from output to verdict, 0 or 1. */
int kv_compat_grade(const char *gold, const char *output);

/* compat_extract.c: the answer in an output, stripped once; to an empty *out. */
void kv_compat_extract(const char *output, kv_text *out);
/* compat_strip.c: strip_string, in place. */
void kv_compat_strip(kv_text *t);
/* compat_units.c: deletes the words of the unit list, twice over. */
void kv_compat_remove_units(kv_text *t);
/* compat_number.c: a text of English number words becomes digits. */
void kv_compat_words_to_digits(kv_text *t);
/* compat_equal.c: math_equal; both stripped. */
int kv_compat_equal(kv_span prediction, kv_span reference);
/* compat_symbolic.c: symbolic_equal. */
int kv_compat_symbolic(kv_span a, kv_span b);

/* compat_text.c: what Python's str methods do, on bytes. */
void kv_str_set(kv_text *t, kv_span a);
void kv_str_replace(kv_text *t, const char *from, const char *to);
void kv_str_trim(kv_text *t);
kv_span kv_str_span(const kv_text *t);
int kv_str_has(kv_span a, const char *piece);
/* Offset of the first piece at or after from, or -1. */
long kv_str_find(kv_span a, const char *piece, size_t from);
int kv_str_count(kv_span a, char c);
/* Bytes of the character at a (1 to 4), and whether \w matches it. */
size_t kv_str_char(kv_span a, int *is_word);
int kv_str_same_case_blind(kv_span a, kv_span b);

#endif
