/* compat_symbolic.c - symbolic_equal of the reference without SymPy.
 *
 * Like SymPy's LaTeX parser, a text is read up to the first comma or closing bracket that fits nowhere; pi, e and i
 * are symbols.  Both sides equal: the same values at the fixed points.  Numbers: also within 1e-4.  Equations: the
 * same |left - right|.  What cannot be read equals only the same text. */
#include "datasets/compat.h"

#include "datasets/math_compare.h"
#include "datasets/math_eval.h"

#include <math.h>
#include <string.h>

typedef struct {
    kv_text text;
    kv_math_answer answer;
} side;

static void read_side(kv_span a, side *out) {
    memset(out, 0, sizeof *out);
    kv_str_set(&out->text, a);
    kv_str_replace(&out->text, "\\\\", "\\");
    kv_str_replace(&out->text, "**", "^");
    kv_math_parse(kv_str_span(&out->text), KV_PARSE_PLAIN, &out->answer);
}

static void free_side(side *s) {
    kv_math_answer_free(&s->answer);
    kv_text_free(&s->text);
}

static int number(const kv_math_node *a, double *out) {
    mpc_t x;
    if (!kv_math_is_closed(a)) return 0;
    mpc_init2(x, KV_MATH_BITS);
    int ok = kv_math_eval(a, (kv_math_at){0, 1}, x) && mpfr_zero_p(mpc_imagref(x));
    if (ok) *out = mpfr_get_d(mpc_realref(x), MPFR_RNDN);
    mpc_clear(x);
    return ok && isfinite(*out);
}

/* Ratio of the differences is 1 or -1 at every point. */
static int same_equation(const kv_math_node *a, const kv_math_node *b) {
    const kv_math_node *l[2] = {a->child, b->child};
    mpc_t d[2], r;
    int plus = 1, minus = 1, seen = 0;
    mpc_init2(d[0], KV_MATH_BITS);
    mpc_init2(d[1], KV_MATH_BITS);
    mpc_init2(r, KV_MATH_BITS);
    for (int k = 0; k < KV_MATH_POINTS && (plus || minus); k++) {
        int ok = 1;
        for (int s = 0; s < 2; s++) {
            kv_math_at at = {k, 1};
            ok = ok && kv_math_eval(l[s], at, d[s]) && kv_math_eval(l[s]->next, at, r);
            if (ok) mpc_sub(d[s], d[s], r, MPC_RNDNN);
        }
        if (!ok) continue;
        seen++;
        plus = plus && kv_math_close(d[0], d[1]);
        mpc_neg(d[1], d[1], MPC_RNDNN);
        minus = minus && kv_math_close(d[0], d[1]);
    }
    mpc_clear(d[0]);
    mpc_clear(d[1]);
    mpc_clear(r);
    return seen && (plus || minus);
}

static int is_equation(const kv_math_node *a) {
    return a->kind == KV_MATH_RELATION && a->n == 2 && a->child->next->op == KV_OP_EQ;
}

static int same_trees(const kv_math_node *a, const kv_math_node *b) {
    double x, y;
    if (is_equation(a) && is_equation(b)) return same_equation(a, b);
    if (!kv_math_is_scalar(a) || !kv_math_is_scalar(b)) return 0;
    if (kv_math_same_values(a, b)) return 1;
    return number(a, &x) && number(b, &y) && fabs(x - y) <= 1e-4 * fmax(fabs(x), fabs(y));
}

int kv_compat_symbolic(kv_span a, kv_span b) {
    side x, y;
    if (kv_span_equal(a, b)) return 1;
    if (a.n > KV_LATEX_MAX_BYTES || b.n > KV_LATEX_MAX_BYTES) return 0;
    read_side(a, &x);
    read_side(b, &y);
    int same = x.answer.root && y.answer.root && same_trees(x.answer.root, y.answer.root);
    free_side(&x);
    free_side(&y);
    kv_math_eval_done();
    return same;
}
