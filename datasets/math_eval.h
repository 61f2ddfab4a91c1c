/* math_eval.h - values of scalar trees: exact rationals where possible, else complex numbers of 192 bits (GNU MPC).
 *
 * Equality of two values means agreement to 2^-96 of their size: far below what a different closed form leaves by
 * chance, far above the rounding of a few hundred operations. */
#ifndef KV_MATH_EVAL_H
#define KV_MATH_EVAL_H

#include <mpc.h>

#include "datasets/math_value.h"

enum { KV_MATH_BITS = 192, KV_MATH_POINTS = 8 };

/* How a tree is evaluated: at which of the fixed points its variables stand, and what plus-minus means. */
typedef struct kv_math_at {
    int point; /* 0..KV_MATH_POINTS-1 */
    int sign;  /* +1 or -1 */
} kv_math_at;

/* 1 when a is rational and of moderate size; then *out is its value. */
int kv_math_exact(const kv_math_node *a, int sign, mpq_t out);
/* 1 when the value is finite; out has KV_MATH_BITS. */
int kv_math_eval(const kv_math_node *a, kv_math_at at, mpc_t out);
int kv_math_close(const mpc_t a, const mpc_t b);
/* Frees what MPFR keeps per thread. */
void kv_math_eval_done(void);

#endif
