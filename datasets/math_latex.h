/* math_latex.h - answers as tokens: LaTeX, or the plain text that people write instead, without its dressing.
 *
 * Dropped here: spacing, \left and \right, dollar signs, style commands.  Unified here: \dfrac and \frac, the several
 * degree and minus signs, thousands separators (10,\!080 is one number), \text groups that hold mathematics. */
#ifndef KV_MATH_LATEX_H
#define KV_MATH_LATEX_H

#include "datasets/graders.h"

enum { KV_LATEX_MAX_BYTES = 2048 }; /* longer answers are compared as text */

typedef enum kv_latex_kind {
    KV_LATEX_END,
    KV_LATEX_NUMBER,  /* digits, at most one point; separators are gone */
    KV_LATEX_LETTER,  /* one letter, or a Greek one: a variable */
    KV_LATEX_WORD,    /* two or more letters outside \text */
    KV_LATEX_TEXT,    /* \text{...} and its relatives */
    KV_LATEX_COMMAND, /* the name without the backslash, one spelling for each */
    KV_LATEX_SYMBOL,  /* one ASCII character */
    KV_LATEX_BEGIN,   /* \begin{name} */
    KV_LATEX_FINISH,  /* \end{name} */
    KV_LATEX_ROW,     /* \\ */
    KV_LATEX_OTHER    /* bytes that mean nothing here */
} kv_latex_kind;

typedef struct kv_latex_token {
    kv_latex_kind kind;
    kv_span text;
    int spaced; /* white space or a thin space before it */
} kv_latex_token;

typedef struct kv_latex {
    kv_latex_token *tokens; /* (n + 1): the last one is KV_LATEX_END */
    int n, cap;
    char *digits; /* where numbers lie that had separators */
    size_t n_digits;
    int failed; /* out of memory, too long, or an open group */
} kv_latex;

enum {
    KV_LATEX_COMMAS = 1, /* 58,500 outside brackets is one number */
    KV_LATEX_PLAIN = 2   /* no separators in numbers, \text is unknown */
};

/* Splits a (which must outlive out) into tokens.  Free with kv_latex_free in any case. */
void kv_latex_split(kv_span a, unsigned flags, kv_latex *out);
void kv_latex_free(kv_latex *l);
/* 1 when both have the same tokens: the comparison of last resort. */
int kv_latex_same(const kv_latex *a, const kv_latex *b);
int kv_latex_is(const kv_latex_token *t, kv_latex_kind kind, const char *text);

#endif
