/* math_eval.c - complex values of trees (GNU MPC); see math_eval.h.
 *
 * Sizes are bounded before anything that could take long: the argument of an exponential or a sine, an exponent. */
#include "datasets/math_eval.h"

#include <string.h>

#define ROUND MPC_RNDNN

enum { MAX_EXP_BITS = 12, MAX_SIZE_BITS = 8192 };

static int finite_and_moderate(const mpc_t x) {
    mpfr_srcptr parts[] = {mpc_realref(x), mpc_imagref(x)};
    for (int i = 0; i < 2; i++) {
        if (!mpfr_number_p(parts[i])) return 0;
        if (mpfr_regular_p(parts[i]) && mpfr_get_exp(parts[i]) > MAX_SIZE_BITS) return 0;
    }
    return 1;
}

/* |parts of x| < 2^bits */
static int below(const mpc_t x, long bits) {
    mpfr_srcptr parts[] = {mpc_realref(x), mpc_imagref(x)};
    for (int i = 0; i < 2; i++)
        if (mpfr_regular_p(parts[i]) && mpfr_get_exp(parts[i]) > bits) return 0;
    return 1;
}

static int is_zero(const mpc_t x) {
    return mpfr_zero_p(mpc_realref(x)) && mpfr_zero_p(mpc_imagref(x));
}

/* A fixed number for every name: half of the points have positive real parts, half lie anywhere. */
static void variable(const kv_math_node *a, int point, mpc_t out) {
    uint64_t h = 14695981039346656037u + (uint64_t)point;
    kv_span parts[] = {a->name, {"_", 1}, a->sub};
    for (int k = 0; k < 3; k++)
        for (size_t i = 0; i < parts[k].n; i++) h = (h ^ (unsigned char)parts[k].s[i]) * 1099511628211u;
    h ^= h >> 29;
    h *= 0xbf58476d1ce4e5b9u;
    h ^= h >> 32;
    double u = (double)(h >> 40) / 16777216.0, v = (double)(h >> 8 & 0xffffff) / 16777216.0;
    double re = 0.4 + 1.6 * u, im = 0.1 + 0.8 * v;
    if (point >= KV_MATH_POINTS / 2) {
        if (h & 1) re = -re;
        if (h & 2) im = -im;
    }
    mpc_set_d_d(out, re, im, ROUND);
}

static int constant(const kv_math_node *a, mpc_t out) {
    if (kv_math_is_constant(a, "i")) {
        mpc_set_ui_ui(out, 0, 1, ROUND);
        return 1;
    }
    mpc_set_ui(out, 1, ROUND);
    if (kv_math_is_constant(a, "pi"))
        mpfr_const_pi(mpc_realref(out), MPFR_RNDN);
    else if (kv_math_is_constant(a, "e"))
        mpfr_exp(mpc_realref(out), mpc_realref(out), MPFR_RNDN);
    else
        return 0;
    return 1;
}

/* x^y; y whole and small by multiplication, else through the logarithm. */
static int power(const mpc_t x, const mpc_t y, mpc_t out) {
    mpc_t log;
    int whole = mpfr_zero_p(mpc_imagref(y)) && mpfr_integer_p(mpc_realref(y)) && below(y, MAX_EXP_BITS);
    if (is_zero(x)) {
        mpc_set_ui(out, 0, ROUND);
        return mpfr_zero_p(mpc_imagref(y)) && mpfr_sgn(mpc_realref(y)) > 0;
    }
    if (whole) {
        mpc_pow_si(out, x, mpfr_get_si(mpc_realref(y), MPFR_RNDN), ROUND);
        return 1;
    }
    mpc_init2(log, KV_MATH_BITS);
    mpc_log(log, x, ROUND);
    mpc_mul(log, log, y, ROUND);
    int ok = below(log, MAX_EXP_BITS);
    if (ok) mpc_exp(out, log, ROUND);
    mpc_clear(log);
    return ok;
}

/* Roots of negative numbers are real where they can be: the cube root of -8 is -2. */
static int root(mpc_t x, const mpc_t index, mpc_t out) {
    mpc_t one_over;
    int negative = mpfr_zero_p(mpc_imagref(x)) && mpfr_sgn(mpc_realref(x)) < 0;
    int odd = mpfr_zero_p(mpc_imagref(index)) && mpfr_integer_p(mpc_realref(index)) && below(index, 30) &&
              (mpfr_get_si(mpc_realref(index), MPFR_RNDN) & 1);
    if (is_zero(index)) return 0;
    mpc_init2(one_over, KV_MATH_BITS);
    mpc_ui_div(one_over, 1, index, ROUND);
    if (negative && odd) mpc_neg(x, x, ROUND);
    int ok = power(x, one_over, out);
    if (negative && odd) mpc_neg(out, out, ROUND);
    mpc_clear(one_over);
    return ok;
}

static int reciprocal(mpc_t out) {
    if (is_zero(out)) return 0;
    mpc_ui_div(out, 1, out, ROUND);
    return 1;
}

static int logarithm(const mpc_t x, const mpc_t *base, int decimal, mpc_t out) {
    mpc_t b;
    if (is_zero(x)) return 0;
    mpc_log(out, x, ROUND);
    if (!base && !decimal) return 1;
    mpc_init2(b, KV_MATH_BITS);
    if (base)
        mpc_set(b, *base, ROUND);
    else
        mpc_set_ui(b, 10, ROUND);
    int ok = !is_zero(b);
    if (ok) mpc_log(b, b, ROUND);
    ok = ok && !is_zero(b);
    if (ok) mpc_div(out, out, b, ROUND);
    mpc_clear(b);
    return ok;
}

/* The functions of one argument that MPC has, and their reciprocals. */
static int elementary(const kv_math_node *a, const mpc_t x, mpc_t out) {
    static const struct {
        const char *name;
        int (*of)(mpc_ptr, mpc_srcptr, mpc_rnd_t);
        int inverted;
    } table[] = {{"sin", mpc_sin, 0},     {"cos", mpc_cos, 0},   {"tan", mpc_tan, 0},     {"cot", mpc_tan, 1},
                 {"sec", mpc_cos, 1},     {"csc", mpc_sin, 1},   {"arcsin", mpc_asin, 0}, {"arccos", mpc_acos, 0},
                 {"arctan", mpc_atan, 0}, {"sinh", mpc_sinh, 0}, {"cosh", mpc_cosh, 0},   {"tanh", mpc_tanh, 0},
                 {"exp", mpc_exp, 0}};
    if (!below(x, MAX_EXP_BITS)) return 0;
    for (size_t k = 0; k < sizeof table / sizeof *table; k++)
        if (strlen(table[k].name) == a->name.n && !memcmp(table[k].name, a->name.s, a->name.n)) {
            table[k].of(out, x, ROUND);
            return !table[k].inverted || reciprocal(out);
        }
    return 0;
}

static int is_named(const kv_math_node *a, const char *name) {
    return a->name.n == strlen(name) && !memcmp(a->name.s, name, a->name.n);
}

static int function(const kv_math_node *a, kv_math_at at, mpc_t x, mpc_t out) {
    mpc_t second;
    int two = a->n == 2, ok;
    if (is_named(a, "abs")) {
        mpc_abs(mpc_realref(out), x, MPFR_RNDN);
        mpfr_set_zero(mpc_imagref(out), 1);
        return 1;
    }
    if (is_named(a, "sqrt") && !two) return mpc_sqrt(out, x, ROUND), 1;
    int is_log = is_named(a, "log") || is_named(a, "lg") || is_named(a, "ln");
    if (!two) return is_log ? logarithm(x, NULL, !is_named(a, "ln"), out) : elementary(a, x, out);
    mpc_init2(second, KV_MATH_BITS);
    ok = kv_math_eval(a->child->next, at, second);
    if (ok) ok = is_log ? logarithm(x, &second, 0, out) : is_named(a, "sqrt") && root(x, second, out);
    mpc_clear(second);
    return ok;
}

static int combine(const kv_math_node *a, mpc_t x, mpc_t out) {
    mpc_t left;
    int ok;
    switch (a->kind) {
    case KV_MATH_SUM:
        return mpc_add(out, out, x, ROUND), 1;
    case KV_MATH_PRODUCT:
        return mpc_mul(out, out, x, ROUND), 1;
    case KV_MATH_QUOTIENT:
        return !is_zero(x) && (mpc_div(out, out, x, ROUND), 1);
    default:
        mpc_init2(left, KV_MATH_BITS);
        mpc_set(left, out, ROUND);
        ok = power(left, x, out);
        mpc_clear(left);
        return ok;
    }
}

static int eval_exact(const kv_math_node *a, int sign, mpc_t out) {
    mpq_t q;
    mpq_init(q);
    int ok = kv_math_exact(a, sign, q);
    if (ok) mpc_set_q(out, q, ROUND);
    mpq_clear(q);
    return ok;
}

int kv_math_eval(const kv_math_node *a, kv_math_at at, mpc_t out) {
    if (!kv_math_is_scalar(a)) return 0;
    if (a->kind == KV_MATH_NUMBER) return mpc_set_q(out, a->number, ROUND), finite_and_moderate(out);
    if (a->kind == KV_MATH_VARIABLE) return variable(a, at.point, out), 1;
    if (a->kind == KV_MATH_CONSTANT) return constant(a, out);
    if (a->kind == KV_MATH_FUNCTION &&
        (is_named(a, "factorial") || is_named(a, "binom") || is_named(a, "floor") || is_named(a, "ceil")))
        return eval_exact(a, at.sign, out);
    mpc_t x;
    mpc_init2(x, KV_MATH_BITS);
    int ok = 1, first = 1;
    if (a->kind == KV_MATH_FUNCTION) {
        ok = kv_math_eval(a->child, at, x) && function(a, at, x, out);
    } else {
        for (const kv_math_node *c = a->child; c && ok; c = c->next, first = 0) {
            ok = kv_math_eval(c, at, first ? out : x);
            if (ok && !first) ok = combine(a, x, out) && finite_and_moderate(out);
        }
        if (ok && (a->kind == KV_MATH_NEGATION || (a->kind == KV_MATH_PLUSMINUS && (at.sign < 0) != a->opposite)))
            mpc_neg(out, out, ROUND);
    }
    mpc_clear(x);
    return ok && finite_and_moderate(out);
}

/* |a - b| <= 2^-96 max(|a|, |b|), or both below 2^-120. */
int kv_math_close(const mpc_t a, const mpc_t b) {
    mpc_t difference;
    mpfr_t size, other;
    mpc_init2(difference, KV_MATH_BITS);
    mpfr_inits2(64, size, other, (mpfr_ptr)0);
    mpc_abs(size, a, MPFR_RNDN);
    mpc_abs(other, b, MPFR_RNDN);
    mpfr_max(size, size, other, MPFR_RNDN);
    mpfr_mul_2si(size, size, -96, MPFR_RNDN);
    mpfr_set_ui_2exp(other, 1, -120, MPFR_RNDN);
    mpfr_max(size, size, other, MPFR_RNDN);
    mpc_sub(difference, a, b, ROUND);
    mpc_abs(other, difference, MPFR_RNDN);
    int close = mpfr_cmp(other, size) <= 0;
    mpfr_clears(size, other, (mpfr_ptr)0);
    mpc_clear(difference);
    return close;
}

void kv_math_eval_done(void) {
    mpfr_free_cache2(MPFR_FREE_LOCAL_CACHE);
}
