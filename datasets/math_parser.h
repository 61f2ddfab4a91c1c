/* math_parser.h - what the two halves of the parser share: math_parse.c (containers) calls math_term.c (scalars), which
 * calls back for brackets.  Functions return NULL and set failed when the tokens make no sense. */
#ifndef KV_MATH_PARSER_H
#define KV_MATH_PARSER_H

#include "datasets/math_parse.h"

typedef struct kv_math_parser {
    kv_latex_token *t; /* the next token */
    kv_math *m;
    unsigned flags;
    int depth, failed;
    int in_bars; /* inside |x| a bar closes */
} kv_math_parser;

static inline int kv_next_is(const kv_math_parser *p, kv_latex_kind kind, const char *text) {
    return kv_latex_is(p->t, kind, text);
}

static inline int kv_take(kv_math_parser *p, kv_latex_kind kind, const char *text) {
    if (!kv_next_is(p, kind, text)) return 0;
    p->t++;
    return 1;
}

static inline kv_math_node *kv_parse_fail(kv_math_parser *p) {
    p->failed = 1;
    return NULL;
}

/* A new node; NULL sets failed. */
kv_math_node *kv_parse_node(kv_math_parser *p, kv_math_kind kind);
/* A node of that kind over one or two children (b may be NULL); NULL when a child is NULL or no scalar. */
kv_math_node *kv_parse_over(kv_math_parser *p, kv_math_kind kind, kv_math_node *a, kv_math_node *b);

/* math_term.c */
kv_math_node *kv_parse_sum(kv_math_parser *p);
kv_math_node *kv_parse_factor(kv_math_parser *p); /* one base with its powers */
kv_math_node *kv_parse_base(kv_math_parser *p);
kv_math_node *kv_parse_number(kv_math_parser *p);
/* math_function.c: what starts with a command, or with the word that stands for it; the name has been taken. */
kv_math_node *kv_parse_function(kv_math_parser *p, kv_span name);
/* math_parse.c: the next token is (, [, {, \{, \langle or \begin. */
kv_math_node *kv_parse_bracket(kv_math_parser *p);

#endif
