/* math_compare.h - is an answer the same as the gold?  By kind: rationals exactly, other constants and expressions by
 * their values, containers by their members. */
#ifndef KV_MATH_COMPARE_H
#define KV_MATH_COMPARE_H

#include "datasets/math_parse.h"

/* 0 = different; else KV_SAME and what had to be overlooked for it. */
enum {
    KV_SAME = 1,
    KV_SAME_ROUNDED = 2, /* a decimal that agrees to the digits given */
    KV_SAME_BASE = 4     /* the digits of a numeral without its base */
};

/* Rewrites inequalities as intervals, sets less points as unions, x in S as S. */
void kv_math_shape(kv_math_answer *a);
/* Both shaped. */
int kv_math_compare(const kv_math_node *gold, const kv_math_node *answer);

/* math_scalar.c.  Scalars; sg and sa: what plus-minus means on either side. */
int kv_math_compare_scalar(const kv_math_node *gold, int sg, const kv_math_node *answer, int sa);
/* Left less right of the one is a constant multiple of that of the other.  Four scalars. */
int kv_math_compare_equation(const kv_math_node *gold_left, const kv_math_node *gold_right,
                             const kv_math_node *answer_left, const kv_math_node *answer_right);
/* 1 when two scalars have the same value wherever both have one, whatever their variables. */
int kv_math_same_values(const kv_math_node *a, const kv_math_node *b);
/* 1 when no variable occurs in a. */
int kv_math_is_closed(const kv_math_node *a);

/* The strict verdict on one answer: 0 or 1; *reason gets a static text.  flags: KV_PARSE_PERCENT or 0. */
int kv_math_strict(kv_span gold, kv_span answer, unsigned flags, const char **reason);
/* grade_math.c: extraction and strict verdict of a whole output, which every maths grader shares: all of *g but compat.
 */
void kv_grade_strict(const char *gold, const char *output, unsigned flags, kv_grade *g);

#endif
