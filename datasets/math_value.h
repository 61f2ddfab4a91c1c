/* math_value.h - an answer as a tree: numbers, expressions, and the containers that answers come in.
 *
 * Nodes live in the tree's arena and are freed together. */
#ifndef KV_MATH_VALUE_H
#define KV_MATH_VALUE_H

#include <gmp.h>

#include "datasets/math_latex.h"

typedef enum kv_math_kind {
    /* scalars */
    KV_MATH_NUMBER,    /* exact; decimals says how it was written */
    KV_MATH_CONSTANT,  /* name: pi, e, i, infty */
    KV_MATH_VARIABLE,  /* name */
    KV_MATH_SUM,       /* terms */
    KV_MATH_PRODUCT,   /* factors */
    KV_MATH_QUOTIENT,  /* 2 */
    KV_MATH_POWER,     /* 2 */
    KV_MATH_NEGATION,  /* 1 */
    KV_MATH_PLUSMINUS, /* 1: plus or minus its child; opposite = \mp */
    KV_MATH_FUNCTION,  /* name; 1, or 2 for a root (radicand, index), log (argument, base) and binom */
    /* others */
    KV_MATH_TUPLE,    /* (a, b, ...), [a, b, c] or <a, b>; an open interval looks the same */
    KV_MATH_INTERVAL, /* 2 ends, at least one closed */
    KV_MATH_UNION,
    KV_MATH_DIFFERENCE, /* 2 sets */
    KV_MATH_LIST,       /* a, b, c */
    KV_MATH_SET,        /* {a, b, c}; no child: the empty set */
    KV_MATH_MATRIX,     /* cells, row by row; columns */
    KV_MATH_RELATION,   /* sides; the relation before a side is its op */
    KV_MATH_BASED,      /* 204_5: name = digits, base */
    KV_MATH_TEXT        /* name */
} kv_math_kind;

typedef enum kv_math_op {
    KV_OP_NONE,
    KV_OP_EQ,
    KV_OP_NE,
    KV_OP_LT,
    KV_OP_LE,
    KV_OP_GT,
    KV_OP_GE,
    KV_OP_IN,
    KV_OP_TO,
    KV_OP_APPROX
} kv_math_op;

typedef struct kv_math_node {
    kv_math_kind kind;
    struct kv_math_node *child, *next; /* first child; next sibling */
    int n;                             /* children */
    mpq_t number;                      /* of KV_MATH_NUMBER only */
    int decimals;                      /* digits behind the point as written, -1 = no point */
    int significant;                   /* digits as written, without leading zeros */
    kv_span name, sub;                 /* sub: of x_1 */
    kv_math_op op;                     /* as a side of a relation */
    unsigned char closed_left;         /* of intervals and tuples: written with [ */
    unsigned char closed_right;        /* ] */
    unsigned char opposite;            /* of KV_MATH_PLUSMINUS */
    unsigned char bracketed;           /* stood in ( ) */
    unsigned char percent;             /* of a KV_MATH_QUOTIENT: written with a % */
    unsigned char degrees;             /* written with a degree sign */
    int columns, base;
} kv_math_node;

typedef struct kv_math {
    struct kv_math_block *blocks;
    int n_nodes, failed; /* failed: out of memory or too many nodes */
} kv_math;

/* NULL when memory or KV_MATH_MAX_NODES is used up. */
kv_math_node *kv_math_new(kv_math *m, kv_math_kind kind);
void kv_math_add(kv_math_node *parent, kv_math_node *child);
void kv_math_free(kv_math *m);

int kv_math_is_scalar(const kv_math_node *a);
/* 1 when a or anything below is of that kind. */
int kv_math_has(const kv_math_node *a, kv_math_kind kind);
int kv_math_is_constant(const kv_math_node *a, const char *name);

enum { KV_MATH_MAX_NODES = 1024 };

#endif
