/* math_function.c - fractions, roots, named functions and constants of an answer. */
#include "datasets/math_parser.h"

#include "datasets/math_words.h"

#include <string.h>

static int named(kv_span name, const char *is) {
    return name.n == strlen(is) && !memcmp(name.s, is, name.n);
}

/* An argument of \frac: a group, or one digit or letter, as in \frac12 and \frac ab. */
static kv_math_node *argument(kv_math_parser *p) {
    kv_latex_token *t = p->t;
    int letters = t->kind == KV_LATEX_WORD && !kv_math_function(t->text);
    if ((t->kind != KV_LATEX_NUMBER && !letters) || t->text.n == 1) return kv_parse_base(p);
    kv_span rest = {t->text.s + 1, t->text.n - 1};
    t->text.n = 1;
    if (letters) t->kind = KV_LATEX_LETTER;
    kv_latex_token after = t[1];
    t[1].kind = KV_LATEX_END; /* 2_5 is no digit of \frac25_5 */
    kv_math_node *a = kv_parse_base(p);
    t[1] = after;
    t->text = rest;
    if (letters && rest.n > 1) t->kind = KV_LATEX_WORD;
    p->t = t;
    return a;
}

static kv_math_node *fraction(kv_math_parser *p, kv_span name) {
    kv_math_node *top = argument(p), *bottom = top ? argument(p) : NULL;
    if (!bottom) return kv_parse_fail(p);
    if (named(name, "frac")) return kv_parse_over(p, KV_MATH_QUOTIENT, top, bottom);
    kv_math_node *a = kv_parse_over(p, KV_MATH_FUNCTION, top, bottom);
    if (a) a->name = name;
    return a;
}

static kv_math_node *root(kv_math_parser *p, kv_span name) {
    kv_math_node *index = NULL;
    if (kv_take(p, KV_LATEX_SYMBOL, "[")) {
        index = kv_parse_sum(p);
        if (!index || !kv_take(p, KV_LATEX_SYMBOL, "]")) return kv_parse_fail(p);
    }
    kv_math_node *inside = kv_parse_base(p), *a = inside ? kv_parse_over(p, KV_MATH_FUNCTION, inside, index) : NULL;
    if (!a) return kv_parse_fail(p);
    a->name = name;
    return a;
}

static int simple_factor(const kv_math_parser *p) {
    return p->t->kind == KV_LATEX_LETTER || (p->t->kind == KV_LATEX_NUMBER && p->t[-1].kind != KV_LATEX_NUMBER) ||
           kv_next_is(p, KV_LATEX_COMMAND, "pi") || kv_next_is(p, KV_LATEX_COMMAND, "frac") ||
           kv_next_is(p, KV_LATEX_COMMAND, "sqrt") || kv_next_is(p, KV_LATEX_SYMBOL, "{");
}

/* sin 2x takes 2x; sin(x) y takes x. */
static kv_math_node *applied_to(kv_math_parser *p) {
    if (kv_next_is(p, KV_LATEX_SYMBOL, "(")) return kv_parse_base(p);
    kv_math_node *a = kv_parse_factor(p), *b;
    while (a && simple_factor(p)) {
        b = kv_parse_factor(p);
        a = b ? kv_parse_over(p, KV_MATH_PRODUCT, a, b) : NULL;
    }
    return a;
}

static int is_minus_one(const kv_math_node *a) {
    return a->kind == KV_MATH_NEGATION && a->child->kind == KV_MATH_NUMBER && !mpq_cmp_ui(a->child->number, 1, 1);
}

/* 30^\circ, or a sum of such */
static int in_degrees(const kv_math_node *a) {
    if (a->degrees) return 1;
    if (a->kind != KV_MATH_SUM && a->kind != KV_MATH_NEGATION) return 0;
    for (const kv_math_node *c = a->child; c; c = c->next)
        if (in_degrees(c)) return 1;
    return 0;
}

/* The argument of a trigonometric function in radians. */
static kv_math_node *radians(kv_math_parser *p, kv_span name, kv_math_node *x) {
    static const char *const of_angles[] = {"sin", "cos", "tan", "cot", "sec", "csc"};
    int angle = 0;
    for (size_t k = 0; k < sizeof of_angles / sizeof *of_angles; k++) angle |= named(name, of_angles[k]);
    if (!x || !angle || !in_degrees(x)) return x;
    kv_math_node *pi = kv_parse_node(p, KV_MATH_CONSTANT), *half_turn = kv_parse_node(p, KV_MATH_NUMBER);
    if (!pi || !half_turn) return NULL;
    pi->name = (kv_span){"pi", 2};
    mpq_set_ui(half_turn->number, 180, 1);
    return kv_parse_over(p, KV_MATH_PRODUCT, x, kv_parse_over(p, KV_MATH_QUOTIENT, pi, half_turn));
}

/* sin x, sin^2 x, sin^{-1} x, log_2 x */
static kv_math_node *apply(kv_math_parser *p, kv_span name) {
    static const char *const inverses[][2] = {{"sin", "arcsin"}, {"cos", "arccos"}, {"tan", "arctan"}};
    kv_math_node *base = NULL, *power = NULL;
    if (named(name, "log") && kv_take(p, KV_LATEX_SYMBOL, "_") && !(base = kv_parse_base(p))) return NULL;
    if (kv_take(p, KV_LATEX_SYMBOL, "^") && !(power = kv_parse_base(p))) return NULL;
    kv_math_node *x = radians(p, name, applied_to(p)), *a = x ? kv_parse_over(p, KV_MATH_FUNCTION, x, base) : NULL;
    if (!a) return kv_parse_fail(p);
    a->name = name;
    if (!power) return a;
    for (int k = 0; k < 3 && is_minus_one(power); k++)
        if (named(name, inverses[k][0])) {
            a->name = (kv_span){inverses[k][1], strlen(inverses[k][1])};
            return a;
        }
    return kv_parse_over(p, KV_MATH_POWER, a, power);
}

static kv_math_node *rounded(kv_math_parser *p, const char *name, const char *closing) {
    kv_math_node *a = kv_parse_over(p, KV_MATH_FUNCTION, kv_parse_sum(p), NULL);
    if (!a || !kv_take(p, KV_LATEX_COMMAND, closing)) return kv_parse_fail(p);
    a->name = (kv_span){name, strlen(name)};
    return a;
}

kv_math_node *kv_parse_function(kv_math_parser *p, kv_span name) {
    static const char *const functions[] = {"sin",    "cos",  "tan",  "cot",  "sec", "csc", "arcsin", "arccos",
                                            "arctan", "sinh", "cosh", "tanh", "ln",  "log", "lg",     "exp"};
    if (named(name, "frac") || named(name, "binom")) return fraction(p, name);
    if (named(name, "sqrt")) return root(p, name);
    if (named(name, "lfloor")) return rounded(p, "floor", "rfloor");
    if (named(name, "lceil")) return rounded(p, "ceil", "rceil");
    if (named(name, "overline") && !(p->flags & KV_PARSE_PLAIN)) return kv_parse_base(p);
    if (named(name, "emptyset")) return kv_parse_node(p, KV_MATH_SET);
    if (named(name, "pi") || named(name, "infty")) {
        int symbol = (p->flags & KV_PARSE_PLAIN) && named(name, "pi");
        kv_math_node *a = kv_parse_node(p, symbol ? KV_MATH_VARIABLE : KV_MATH_CONSTANT);
        if (a) a->name = name;
        return a;
    }
    for (size_t k = 0; k < sizeof functions / sizeof *functions; k++)
        if (named(name, functions[k])) return apply(p, name);
    return kv_parse_fail(p);
}
