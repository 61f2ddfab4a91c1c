/* math_exact.c - exact rational arithmetic on trees (GMP); see math_eval.h. */
#include "datasets/math_eval.h"

#include <string.h>

enum { MAX_BITS = 4096, MAX_EXPONENT = 2048, MAX_FACTORIAL = 200, MAX_BINOMIAL = 2000 };

static int moderate(const mpq_t q) {
    return mpz_sizeinbase(mpq_numref(q), 2) < MAX_BITS && mpz_sizeinbase(mpq_denref(q), 2) < MAX_BITS;
}

static int whole(const mpq_t q, long limit, long *out) {
    if (mpz_cmp_ui(mpq_denref(q), 1) || !mpz_fits_slong_p(mpq_numref(q))) return 0;
    *out = mpz_get_si(mpq_numref(q));
    return *out >= -limit && *out <= limit;
}

static int power(mpq_t base, const mpq_t exponent, mpq_t out) {
    long e;
    if (!whole(exponent, MAX_EXPONENT, &e)) return 0;
    unsigned long n = (unsigned long)(e < 0 ? -e : e);
    if (e < 0) {
        if (!mpq_sgn(base)) return 0;
        mpq_inv(base, base);
    }
    if (!e && !mpq_sgn(base)) return 0;
    if (n * mpz_sizeinbase(mpq_numref(base), 2) > MAX_BITS || n * mpz_sizeinbase(mpq_denref(base), 2) > MAX_BITS)
        return 0;
    mpz_pow_ui(mpq_numref(out), mpq_numref(base), n);
    mpz_pow_ui(mpq_denref(out), mpq_denref(base), n);
    return 1;
}

static int is_named(const kv_math_node *a, const char *name) {
    return a->name.n == strlen(name) && !memcmp(a->name.s, name, a->name.n);
}

static int function(const kv_math_node *a, const mpq_t x, int sign, mpq_t out) {
    long n, k;
    if (is_named(a, "abs")) {
        mpq_abs(out, x);
        return 1;
    }
    if (is_named(a, "floor") || is_named(a, "ceil")) {
        (is_named(a, "floor") ? mpz_fdiv_q : mpz_cdiv_q)(mpq_numref(out), mpq_numref(x), mpq_denref(x));
        mpz_set_ui(mpq_denref(out), 1);
        return 1;
    }
    mpz_set_ui(mpq_denref(out), 1);
    if (is_named(a, "factorial")) {
        if (!whole(x, MAX_FACTORIAL, &n) || n < 0) return 0;
        mpz_fac_ui(mpq_numref(out), (unsigned long)n);
        return 1;
    }
    if (!is_named(a, "binom") || !whole(x, MAX_BINOMIAL, &n) || n < 0) return 0;
    mpq_t lower;
    mpq_init(lower);
    int ok = kv_math_exact(a->child->next, sign, lower) && whole(lower, n, &k) && k >= 0;
    if (ok) mpz_bin_uiui(mpq_numref(out), (unsigned long)n, (unsigned long)k);
    mpq_clear(lower);
    return ok;
}

/* Takes the next child's value x into out. */
static int combine(const kv_math_node *a, int first, mpq_t x, mpq_t out) {
    if (first) {
        mpq_set(out, x);
        return 1;
    }
    mpq_t left;
    int ok = 1;
    switch (a->kind) {
    case KV_MATH_SUM:
        mpq_add(out, out, x);
        return 1;
    case KV_MATH_PRODUCT:
        mpq_mul(out, out, x);
        return 1;
    case KV_MATH_QUOTIENT:
        if (!mpq_sgn(x)) return 0;
        mpq_div(out, out, x);
        return 1;
    default:
        mpq_init(left);
        mpq_set(left, out);
        ok = power(left, x, out);
        mpq_clear(left);
        return ok;
    }
}

int kv_math_exact(const kv_math_node *a, int sign, mpq_t out) {
    if (a->kind == KV_MATH_NUMBER) {
        mpq_set(out, a->number);
        return moderate(out);
    }
    if (a->kind < KV_MATH_SUM || a->kind > KV_MATH_FUNCTION) return 0;
    mpq_t x;
    mpq_init(x);
    int ok = 1, first = 1;
    if (a->kind == KV_MATH_FUNCTION) {
        ok = kv_math_exact(a->child, sign, x) && function(a, x, sign, out);
    } else {
        for (const kv_math_node *c = a->child; c && ok; c = c->next, first = 0)
            ok = kv_math_exact(c, sign, x) && combine(a, first, x, out) && moderate(out);
        int minus = a->kind == KV_MATH_NEGATION || (a->kind == KV_MATH_PLUSMINUS && (sign < 0) != a->opposite);
        if (ok && minus) mpq_neg(out, out);
    }
    mpq_clear(x);
    return ok && moderate(out);
}
