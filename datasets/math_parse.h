/* math_parse.h - tokens to a tree. */
#ifndef KV_MATH_PARSE_H
#define KV_MATH_PARSE_H

#include "datasets/math_value.h"

enum {
    KV_PARSE_COMMAS = 1,  /* 58,500 is one number */
    KV_PARSE_LETTERS = 8, /* xyz is a product, not a word */
    KV_PARSE_PERCENT = 4, /* a number is meant: 25\% is 25, not 0.25, and a word behind it is a unit */
    KV_PARSE_PLAIN = 2    /* as SymPy's LaTeX parser reads: 1\frac12 is a product, pi, e, i and unknown
                            commands are symbols, there are no degrees, and what follows a comma is left unread */
};

typedef struct kv_math_answer {
    kv_latex latex;
    kv_math tree;
    kv_math_node *root; /* NULL: not understood */
} kv_math_answer;

/* The tokens of a, without the point that ends a sentence; l->failed when they could not be made.  a must outlive l;
 * free with kv_latex_free in any case. */
void kv_math_tokens(kv_span a, unsigned flags, kv_latex *l);
/* Reads a, which must outlive out.  The tokens have been changed afterwards where \frac12 was taken apart.  Free with
 * kv_math_answer_free in any case. */
void kv_math_parse(kv_span a, unsigned flags, kv_math_answer *out);
void kv_math_answer_free(kv_math_answer *a);

#endif
