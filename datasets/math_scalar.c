/* math_scalar.c - equality of numbers, expressions and equations.
 *
 * Two expressions are the same when they have the same variables and the same value at all fixed points at which both
 * have one (half of the eight at least).  A decimal stands for another closed form when it is that number rounded or
 * cut to the digits given, has three significant digits or more and is within 1e-4 of it; whole and decimal golds want
 * their exact value. */
#include "datasets/math_compare.h"
#include "datasets/math_eval.h"

#include <string.h>

enum { MAX_VARIABLES = 24 };

typedef struct {
    const kv_math_node *v[MAX_VARIABLES];
    int n, full;
} variables;

static int same_variable(const kv_math_node *a, const kv_math_node *b) {
    return kv_span_equal(a->name, b->name) && kv_span_equal(a->sub, b->sub);
}

static int holds(const variables *set, const kv_math_node *a) {
    for (int i = 0; i < set->n; i++)
        if (same_variable(set->v[i], a)) return 1;
    return 0;
}

static void collect(const kv_math_node *a, variables *out) {
    if (a->kind == KV_MATH_VARIABLE && !holds(out, a)) {
        if (out->n < MAX_VARIABLES)
            out->v[out->n++] = a;
        else
            out->full = 1;
    }
    for (const kv_math_node *c = a->child; c; c = c->next) collect(c, out);
}

static int same_variables(const variables *a, const variables *b) {
    if (a->full || b->full || a->n != b->n) return 0;
    for (int i = 0; i < a->n; i++)
        if (!holds(b, a->v[i])) return 0;
    return 1;
}

int kv_math_is_closed(const kv_math_node *a) {
    return !kv_math_has(a, KV_MATH_VARIABLE);
}

static int infinity_sign(const kv_math_node *a) {
    if (kv_math_is_constant(a, "infty")) return 1;
    return a->kind == KV_MATH_NEGATION ? -infinity_sign(a->child) : 0;
}

static int same_values(const kv_math_node *a, int sa, const kv_math_node *b, int sb, int n_points, int at_least) {
    mpc_t x, y;
    int same = 1, seen = 0;
    mpc_init2(x, KV_MATH_BITS);
    mpc_init2(y, KV_MATH_BITS);
    for (int k = 0; k < n_points && same; k++) {
        if (!kv_math_eval(a, (kv_math_at){k, sa}, x) || !kv_math_eval(b, (kv_math_at){k, sb}, y)) continue;
        seen++;
        same = kv_math_close(x, y);
    }
    mpc_clear(x);
    mpc_clear(y);
    return same && seen >= at_least;
}

int kv_math_same_values(const kv_math_node *a, const kv_math_node *b) {
    return same_values(a, 1, b, 1, KV_MATH_POINTS, 1);
}

static int has_decimals(const kv_math_node *a) {
    if (a->kind == KV_MATH_NUMBER && a->decimals >= 0) return 1;
    for (const kv_math_node *c = a->child; c; c = c->next)
        if (has_decimals(c)) return 1;
    return 0;
}

/* 1 when the literal is x rounded or cut to its digits, and within 1e-4 of x. */
static int rounds_to(const kv_math_node *literal, const mpfr_t x, int minus) {
    mpfr_t difference, bound, other;
    mpfr_inits2(KV_MATH_BITS, difference, bound, other, (mpfr_ptr)0);
    mpfr_set_q(difference, literal->number, MPFR_RNDN);
    if (minus) mpfr_neg(difference, difference, MPFR_RNDN);
    int cut = mpfr_cmpabs(difference, x) < 0;
    mpfr_sub(difference, difference, x, MPFR_RNDN);
    mpfr_abs(difference, difference, MPFR_RNDN);
    mpfr_ui_pow_ui(bound, 10, (unsigned long)literal->decimals, MPFR_RNDN);
    mpfr_ui_div(bound, 1, bound, MPFR_RNDN);
    if (!cut) mpfr_div_ui(bound, bound, 2, MPFR_RNDN);
    mpfr_abs(other, x, MPFR_RNDN);
    mpfr_div_ui(other, other, 9999, MPFR_RNDN); /* 0.3333 is exactly 1e-4 off: no question of rounding here */
    int ok = mpfr_cmp(difference, bound) <= 0 && mpfr_cmp(difference, other) <= 0;
    mpfr_clears(difference, bound, other, (mpfr_ptr)0);
    return ok;
}

/* gold_exact: the gold's rational value, or NULL. */
static int is_rounded(const kv_math_node *gold, int sg, const mpq_t *gold_exact, const kv_math_node *answer) {
    int minus = answer->kind == KV_MATH_NEGATION, ok;
    const kv_math_node *literal = minus ? answer->child : answer;
    if (literal->kind != KV_MATH_NUMBER || literal->decimals < 1 || literal->significant < 3) return 0;
    if (has_decimals(gold) || (gold_exact && !mpz_cmp_ui(mpq_denref(*gold_exact), 1))) return 0;
    mpc_t x;
    mpc_init2(x, KV_MATH_BITS);
    ok = kv_math_is_closed(gold) && kv_math_eval(gold, (kv_math_at){0, sg}, x) && mpfr_zero_p(mpc_imagref(x)) &&
         rounds_to(literal, mpc_realref(x), minus);
    mpc_clear(x);
    return ok;
}

static int compare_closed(const kv_math_node *gold, int sg, const kv_math_node *answer, int sa) {
    mpq_t x, y;
    mpq_inits(x, y, (mpq_ptr)0);
    int ex = kv_math_exact(gold, sg, x), ey = kv_math_exact(answer, sa, y), verdict;
    if (ex && ey)
        verdict = mpq_equal(x, y) ? KV_SAME : 0;
    else
        verdict = same_values(gold, sg, answer, sa, 1, 1) ? KV_SAME : 0;
    if (!verdict && is_rounded(gold, sg, ex ? (const mpq_t *)&x : NULL, answer)) verdict = KV_SAME | KV_SAME_ROUNDED;
    mpq_clears(x, y, (mpq_ptr)0);
    return verdict;
}

int kv_math_compare_scalar(const kv_math_node *gold, int sg, const kv_math_node *answer, int sa) {
    int g = infinity_sign(gold), a = infinity_sign(answer);
    if (g || a) return g == a ? KV_SAME : 0;
    variables in_gold = {0}, in_answer = {0};
    collect(gold, &in_gold);
    collect(answer, &in_answer);
    if (!same_variables(&in_gold, &in_answer)) return 0;
    if (!in_gold.n) return compare_closed(gold, sg, answer, sa);
    return same_values(gold, sg, answer, sa, KV_MATH_POINTS, KV_MATH_POINTS / 2) ? KV_SAME : 0;
}

/* left - right at one point; 0 when it has no value. */
static int excess(const kv_math_node *left, const kv_math_node *right, int point, mpc_t out) {
    mpc_t r;
    mpc_init2(r, KV_MATH_BITS);
    int ok = kv_math_eval(left, (kv_math_at){point, 1}, out) && kv_math_eval(right, (kv_math_at){point, 1}, r);
    if (ok) mpc_sub(out, out, r, MPC_RNDNN);
    mpc_clear(r);
    return ok;
}

static int is_zero(const mpc_t x) {
    return mpfr_zero_p(mpc_realref(x)) && mpfr_zero_p(mpc_imagref(x));
}

int kv_math_compare_equation(const kv_math_node *gold_left, const kv_math_node *gold_right,
                             const kv_math_node *answer_left, const kv_math_node *answer_right) {
    variables in_gold = {0}, in_answer = {0};
    collect(gold_left, &in_gold);
    collect(gold_right, &in_gold);
    collect(answer_left, &in_answer);
    collect(answer_right, &in_answer);
    if (!same_variables(&in_gold, &in_answer)) return 0;
    mpc_t f, g, ratio, first;
    int same = 1, seen = 0;
    mpc_init2(f, KV_MATH_BITS);
    mpc_init2(g, KV_MATH_BITS);
    mpc_init2(ratio, KV_MATH_BITS);
    mpc_init2(first, KV_MATH_BITS);
    for (int k = 0; k < KV_MATH_POINTS && same; k++) {
        if (!excess(gold_left, gold_right, k, f) || !excess(answer_left, answer_right, k, g)) continue;
        same = !is_zero(f) && !is_zero(g);
        if (!same) break;
        mpc_div(ratio, f, g, MPC_RNDNN);
        if (!seen++)
            mpc_set(first, ratio, MPC_RNDNN);
        else
            same = kv_math_close(first, ratio);
    }
    mpc_clear(f);
    mpc_clear(g);
    mpc_clear(ratio);
    mpc_clear(first);
    return same && 2 * seen >= KV_MATH_POINTS ? KV_SAME : 0;
}
