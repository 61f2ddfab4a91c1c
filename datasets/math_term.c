/* math_term.c - sums, products, powers and numbers of an answer.
 *
 * A whole number directly before a proper fraction is a mixed number: 1\frac45 is 1.8.  Otherwise what stands side by
 * side is multiplied, and division goes from left to right. */
#include "datasets/math_parser.h"

#include "datasets/math_words.h"

#include <ctype.h>
#include <string.h>

enum { MAX_DEPTH = 40, MAX_DIGITS = 400, MAX_WORD = 5, MAX_LETTERS = 3 };

kv_math_node *kv_parse_node(kv_math_parser *p, kv_math_kind kind) {
    kv_math_node *a = kv_math_new(p->m, kind);
    return a ? a : kv_parse_fail(p);
}

kv_math_node *kv_parse_over(kv_math_parser *p, kv_math_kind kind, kv_math_node *a, kv_math_node *b) {
    if (!a || !kv_math_is_scalar(a) || (b && !kv_math_is_scalar(b))) return kv_parse_fail(p);
    kv_math_node *node = kv_parse_node(p, kind);
    if (!node) return NULL;
    kv_math_add(node, a);
    if (b) kv_math_add(node, b);
    return node;
}

/* out = digits / 10^decimals; text has digits and at most one point. */
static void set_decimal(kv_math_node *a, kv_span text) {
    char digits[MAX_DIGITS + 2];
    size_t n = 0;
    int decimals = -1, leading = 1;
    for (size_t i = 0; i < text.n; i++) {
        if (text.s[i] == '.') {
            decimals = 0;
            continue;
        }
        digits[n++] = text.s[i];
        decimals += decimals >= 0;
        leading &= text.s[i] == '0';
        a->significant += !leading;
    }
    digits[n] = 0;
    mpz_set_str(mpq_numref(a->number), n ? digits : "0", 10);
    mpz_ui_pow_ui(mpq_denref(a->number), 10, decimals > 0 ? (unsigned long)decimals : 0);
    mpq_canonicalize(a->number);
    a->decimals = decimals;
}

/* 4.\overline{6}: the repeated digits add r / (10^decimals (10^n - 1)). */
static int add_repetition(kv_math_node *a, kv_span digits) {
    char text[32];
    mpq_t r;
    mpz_t nines;
    if (digits.n < 1 || digits.n > 30 || a->decimals < 0) return 0;
    memcpy(text, digits.s, digits.n);
    text[digits.n] = 0;
    mpq_init(r);
    mpz_init(nines);
    mpz_set_str(mpq_numref(r), text, 10);
    mpz_ui_pow_ui(nines, 10, digits.n);
    mpz_sub_ui(nines, nines, 1);
    mpz_ui_pow_ui(mpq_denref(r), 10, (unsigned long)a->decimals);
    mpz_mul(mpq_denref(r), mpq_denref(r), nines);
    mpq_canonicalize(r);
    mpq_add(a->number, a->number, r);
    mpz_clear(nines);
    mpq_clear(r);
    a->decimals = -1; /* exact: not a rounded decimal */
    return 1;
}

static kv_math_node *based(kv_math_parser *p, kv_span digits) {
    kv_math_node *a = kv_parse_node(p, KV_MATH_BASED);
    int group = kv_take(p, KV_LATEX_SYMBOL, "{");
    if (!a) return NULL;
    a->name = digits;
    a->base = p->t->kind == KV_LATEX_NUMBER || p->t->kind == KV_LATEX_TEXT || p->t->kind == KV_LATEX_WORD
                  ? kv_math_base(p->t->text)
                  : 0;
    p->t += a->base != 0;
    if (group && !kv_take(p, KV_LATEX_SYMBOL, "}")) a->base = 0;
    return a->base ? a : kv_parse_fail(p);
}

kv_math_node *kv_parse_number(kv_math_parser *p) {
    kv_span text = p->t->text;
    if (p->t->kind != KV_LATEX_NUMBER || text.n > MAX_DIGITS) return kv_parse_fail(p);
    p->t++;
    if (!(p->flags & KV_PARSE_PLAIN) && kv_take(p, KV_LATEX_SYMBOL, "_")) return based(p, text);
    kv_math_node *a = kv_parse_node(p, KV_MATH_NUMBER);
    if (!a) return NULL;
    set_decimal(a, text);
    if (memchr(text.s, '.', text.n) && kv_take(p, KV_LATEX_COMMAND, "overline")) {
        int ok = kv_take(p, KV_LATEX_SYMBOL, "{") && p->t->kind == KV_LATEX_NUMBER && add_repetition(a, p->t->text);
        p->t += ok;
        if (!ok || !kv_take(p, KV_LATEX_SYMBOL, "}")) return kv_parse_fail(p);
    }
    return a;
}

/* A variable; e and i are constants. */
static kv_math_node *letter(kv_math_parser *p, kv_span name) {
    int constant = name.n == 1 && (*name.s == 'e' || *name.s == 'i') && !(p->flags & KV_PARSE_PLAIN);
    kv_math_node *a = kv_parse_node(p, constant ? KV_MATH_CONSTANT : KV_MATH_VARIABLE);
    if (a) a->name = name;
    return a;
}

static kv_math_node *variable(kv_math_parser *p) {
    kv_math_node *a = letter(p, p->t->text);
    p->t++;
    if (!a || !kv_take(p, KV_LATEX_SYMBOL, "_")) return a;
    int group = kv_take(p, KV_LATEX_SYMBOL, "{");
    if (p->t->kind == KV_LATEX_END) return kv_parse_fail(p);
    a->kind = KV_MATH_VARIABLE;
    a->sub = p->t->text;
    p->t++;
    if (group && !kv_take(p, KV_LATEX_SYMBOL, "}")) return kv_parse_fail(p);
    return a;
}

/* A word is a function, or its letters multiplied; what stands behind it belongs to the last one: ab^2 is a b^2. */
static kv_math_node *word(kv_math_parser *p) {
    kv_latex_token *token = p->t++;
    kv_span w = token->text;
    if (kv_math_function(w)) return kv_parse_function(p, w);
    if ((w.n == 3 && !memcmp(w.s, "inf", 3)) || (w.n == 8 && !memcmp(w.s, "infinity", 8))) {
        kv_math_node *a = kv_parse_node(p, KV_MATH_CONSTANT);
        if (a) a->name = (kv_span){"infty", 5};
        return a;
    }
    size_t longest = p->flags & KV_PARSE_PLAIN ? w.n : p->flags & KV_PARSE_LETTERS ? MAX_LETTERS : MAX_WORD;
    kv_math_node *product = w.n <= longest ? kv_parse_node(p, KV_MATH_PRODUCT) : NULL;
    if (!product) return kv_parse_fail(p);
    for (size_t i = 0; i + 1 < w.n; i++) {
        kv_math_node *a = letter(p, (kv_span){w.s + i, 1});
        if (!a) return NULL;
        kv_math_add(product, a);
    }
    token->kind = KV_LATEX_LETTER;
    token->text = (kv_span){w.s + w.n - 1, 1};
    p->t = token;
    kv_math_node *last = kv_parse_factor(p);
    if (!last) return NULL;
    kv_math_add(product, last);
    return product;
}

static kv_math_node *bars(kv_math_parser *p) {
    int outer = p->in_bars;
    p->in_bars = 1;
    kv_math_node *a = kv_parse_over(p, KV_MATH_FUNCTION, kv_parse_sum(p), NULL);
    p->in_bars = outer;
    if (!a || !(kv_take(p, KV_LATEX_SYMBOL, "|") || kv_take(p, KV_LATEX_COMMAND, "|"))) return kv_parse_fail(p);
    a->name = (kv_span){"abs", 3};
    return a;
}

/* SymPy takes commands that it does not know for symbols. */
static int is_symbol(const kv_math_parser *p) {
    if (!(p->flags & KV_PARSE_PLAIN)) return 0;
    return (p->t->kind == KV_LATEX_OTHER && *p->t->text.s == '\\') || kv_next_is(p, KV_LATEX_COMMAND, "pm") ||
           kv_next_is(p, KV_LATEX_COMMAND, "mp") || kv_next_is(p, KV_LATEX_COMMAND, "cup");
}

/* (52)_8 */
static int is_bracketed_numeral(const kv_math_parser *p) {
    const kv_latex_token *t = p->t;
    return !(p->flags & KV_PARSE_PLAIN) && kv_latex_is(t, KV_LATEX_SYMBOL, "(") && t[1].kind == KV_LATEX_NUMBER &&
           kv_latex_is(t + 2, KV_LATEX_SYMBOL, ")") && kv_latex_is(t + 3, KV_LATEX_SYMBOL, "_");
}

static kv_math_node *base(kv_math_parser *p) {
    if (is_symbol(p)) return variable(p);
    switch (p->t->kind) {
    case KV_LATEX_NUMBER:
        return kv_parse_number(p);
    case KV_LATEX_LETTER:
        return variable(p);
    case KV_LATEX_WORD:
        return word(p);
    case KV_LATEX_BEGIN:
        return kv_parse_bracket(p);
    case KV_LATEX_SYMBOL:
        if (is_bracketed_numeral(p)) {
            p->t += 4;
            return based(p, p->t[-3].text);
        }
        if (p->t->text.n == 1 && strchr("([{", *p->t->text.s)) return kv_parse_bracket(p);
        if (kv_take(p, KV_LATEX_SYMBOL, "|")) return bars(p);
        return kv_parse_fail(p);
    case KV_LATEX_COMMAND:
        if (kv_next_is(p, KV_LATEX_COMMAND, "{") || kv_next_is(p, KV_LATEX_COMMAND, "langle"))
            return kv_parse_bracket(p);
        if (kv_take(p, KV_LATEX_COMMAND, "|")) return bars(p);
        return kv_parse_function(p, p->t++->text);
    default:
        return kv_parse_fail(p);
    }
}

kv_math_node *kv_parse_base(kv_math_parser *p) {
    if (++p->depth > MAX_DEPTH) return kv_parse_fail(p);
    kv_math_node *a = base(p);
    p->depth--;
    return p->failed ? NULL : a;
}

/* x**2 */
static int take_stars(kv_math_parser *p) {
    int stars = !(p->flags & KV_PARSE_PLAIN) && kv_next_is(p, KV_LATEX_SYMBOL, "*") &&
                kv_latex_is(p->t + 1, KV_LATEX_SYMBOL, "*");
    if (stars) p->t += 2;
    return stars;
}

static kv_math_node *exponent(kv_math_parser *p) {
    if (kv_take(p, KV_LATEX_SYMBOL, "-")) return kv_parse_over(p, KV_MATH_NEGATION, kv_parse_base(p), NULL);
    return kv_parse_base(p);
}

static kv_math_node *percent(kv_math_parser *p, kv_math_node *a) {
    if (p->flags & KV_PARSE_PERCENT) return a;
    kv_math_node *hundred = kv_parse_node(p, KV_MATH_NUMBER);
    if (!hundred) return NULL;
    mpq_set_ui(hundred->number, 100, 1);
    kv_math_node *q = kv_parse_over(p, KV_MATH_QUOTIENT, a, hundred);
    if (q) q->percent = 1;
    return q;
}

/* A percent or degree sign behind *a; 0 when there is none. */
static int take_mark(kv_math_parser *p, kv_math_node **a) {
    if (p->flags & KV_PARSE_PLAIN) return 0;
    if (kv_take(p, KV_LATEX_COMMAND, "percent")) {
        *a = percent(p, *a);
        return 1;
    }
    if (!kv_take(p, KV_LATEX_COMMAND, "degree")) return 0;
    (*a)->degrees = 1;
    return 1;
}

kv_math_node *kv_parse_factor(kv_math_parser *p) {
    kv_math_node *a = kv_parse_base(p);
    while (a && !p->failed) {
        if (kv_take(p, KV_LATEX_SYMBOL, "^") || take_stars(p)) {
            kv_math_node *e = exponent(p);
            a = e ? kv_parse_over(p, KV_MATH_POWER, a, e) : NULL;
        } else if (kv_take(p, KV_LATEX_SYMBOL, "!")) {
            a = kv_parse_over(p, KV_MATH_FUNCTION, a, NULL);
            if (a) a->name = (kv_span){"factorial", 9};
        } else if (!take_mark(p, &a)) {
            return a;
        }
    }
    return kv_parse_fail(p);
}

static int is_whole(const kv_math_node *a) {
    return a->kind == KV_MATH_NUMBER && a->decimals < 0 && !a->bracketed && !mpz_cmp_ui(mpq_denref(a->number), 1);
}

static int is_numeric(const kv_math_node *part) {
    return part->kind == KV_MATH_QUOTIENT && !part->percent && part->child->kind == KV_MATH_NUMBER &&
           part->child->next->kind == KV_MATH_NUMBER;
}

/* whole and the fraction behind it; NULL for 1\frac{11}{2}, which is neither a mixed number nor clearly a product. */
static kv_math_node *join(kv_math_parser *p, kv_math_node *whole, kv_math_node *part) {
    if (!part) return kv_parse_fail(p);
    if (!is_numeric(part)) return kv_parse_over(p, KV_MATH_PRODUCT, whole, part);
    int proper = mpq_cmp(part->child->number, part->child->next->number) < 0;
    return proper ? kv_parse_over(p, KV_MATH_SUM, whole, part) : kv_parse_fail(p);
}

/* a, or a with the fraction behind it: \frac{1}{2}, or 1/2 after a blank. */
static kv_math_node *mixed(kv_math_parser *p, kv_math_node *a) {
    const kv_latex_token *t = p->t;
    kv_math_node *part = NULL;
    if (!is_whole(a) || (p->flags & KV_PARSE_PLAIN)) return a;
    if (kv_take(p, KV_LATEX_COMMAND, "frac")) {
        part = kv_parse_function(p, (kv_span){"frac", 4});
        return join(p, a, part);
    }
    if (t->kind != KV_LATEX_NUMBER || !t->spaced || !kv_latex_is(t + 1, KV_LATEX_SYMBOL, "/") ||
        t[2].kind != KV_LATEX_NUMBER)
        return a;
    kv_math_node *top = kv_parse_number(p);
    p->t += top != NULL;
    kv_math_node *bottom = top ? kv_parse_number(p) : NULL;
    part = bottom ? kv_parse_over(p, KV_MATH_QUOTIENT, top, bottom) : NULL;
    return join(p, a, part);
}

/* May the next token start a factor that is multiplied without a sign? */
static int starts_factor(const kv_math_parser *p) {
    static const char *const no[] = {"pm",     "mp", "cdot",   "div",    "percent", "cup",  "cap",    "setminus",
                                     "in",     "le", "ge",     "ne",     "<",       ">",    "approx", "to",
                                     "degree", "}",  "rangle", "rfloor", "{",       "rceil"};
    if (is_symbol(p)) return 1;
    switch (p->t->kind) {
    case KV_LATEX_NUMBER:
        return p->t[-1].kind != KV_LATEX_NUMBER;
    case KV_LATEX_LETTER:
        return 1;
    case KV_LATEX_WORD:
        if (p->flags & KV_PARSE_PLAIN) return 1;
        if (kv_math_function(p->t->text)) return 1;
        if (p->flags & KV_PARSE_PERCENT || p->t->text.n > MAX_WORD) return 0;
        return !kv_math_unit(p->t->text) && !kv_math_scale(p->t->text) && !kv_math_conjunction(p->t->text, NULL);
    case KV_LATEX_SYMBOL:
        return strchr("({", *p->t->text.s) != NULL;
    case KV_LATEX_BEGIN:
        return !(p->flags & KV_PARSE_PLAIN);
    case KV_LATEX_COMMAND:
        if (kv_next_is(p, KV_LATEX_COMMAND, "|")) return !p->in_bars;
        for (size_t k = 0; k < sizeof no / sizeof *no; k++)
            if (kv_next_is(p, KV_LATEX_COMMAND, no[k])) return 0;
        return 1;
    default:
        return 0;
    }
}

/* Every cell multiplied by a number, or with by = NULL negated.  A node has one next sibling, so the number stands in a
 * sum of its own in each cell. */
static kv_math_node *scale_cells(kv_math_parser *p, const kv_math_node *matrix, kv_math_node *by) {
    kv_math_node *out = kv_parse_node(p, KV_MATH_MATRIX);
    if (!out) return NULL;
    out->columns = matrix->columns;
    for (kv_math_node *c = matrix->child, *next; c; c = next) {
        next = c->next;
        kv_math_node *factor = by ? kv_parse_over(p, KV_MATH_SUM, by, NULL) : NULL;
        if (by && !factor) return NULL;
        kv_math_node *cell =
            by ? kv_parse_over(p, KV_MATH_PRODUCT, factor, c) : kv_parse_over(p, KV_MATH_NEGATION, c, NULL);
        if (!cell) return NULL;
        kv_math_add(out, cell);
    }
    return out;
}

static kv_math_node *product(kv_math_parser *p, kv_math_node *a, kv_math_node *b) {
    if (!b) return kv_parse_fail(p);
    int plain = p->flags & KV_PARSE_PLAIN;
    if (!plain && b->kind == KV_MATH_MATRIX && kv_math_is_scalar(a)) return scale_cells(p, b, a);
    if (!plain && a->kind == KV_MATH_MATRIX && kv_math_is_scalar(b)) return scale_cells(p, a, b);
    return kv_parse_over(p, KV_MATH_PRODUCT, a, b);
}

/* "(0,2) U (5,9)" */
static int is_union_letter(const kv_math_parser *p, const kv_math_node *a) {
    return !kv_math_is_scalar(a) && kv_next_is(p, KV_LATEX_LETTER, "U");
}

static kv_math_node *term(kv_math_parser *p) {
    kv_math_node *a = kv_parse_factor(p), *b;
    if (a) a = mixed(p, a);
    while (a && take_mark(p, &a)) continue;
    while (a && !p->failed) {
        if (kv_take(p, KV_LATEX_SYMBOL, "*") || kv_take(p, KV_LATEX_COMMAND, "cdot")) {
            a = product(p, a, kv_parse_factor(p));
        } else if (kv_next_is(p, KV_LATEX_COMMAND, "div") ||
                   (kv_next_is(p, KV_LATEX_SYMBOL, "/") && p->t[1].kind != KV_LATEX_TEXT)) {
            p->t++;
            b = kv_parse_factor(p);
            a = b ? kv_parse_over(p, KV_MATH_QUOTIENT, a, b) : NULL;
        } else if (!is_union_letter(p, a) && starts_factor(p)) {
            a = product(p, a, kv_parse_factor(p));
        } else {
            return a;
        }
    }
    return kv_parse_fail(p);
}

typedef enum { NO_SIGN, PLUS, MINUS, PLUS_MINUS, MINUS_PLUS } sign;

static sign take_sign(kv_math_parser *p) {
    if (kv_take(p, KV_LATEX_SYMBOL, "+")) return PLUS;
    if (kv_take(p, KV_LATEX_SYMBOL, "-")) return MINUS;
    if (p->flags & KV_PARSE_PLAIN) return NO_SIGN;
    if (kv_take(p, KV_LATEX_COMMAND, "pm")) return PLUS_MINUS;
    if (kv_take(p, KV_LATEX_COMMAND, "mp")) return MINUS_PLUS;
    return NO_SIGN;
}

static kv_math_node *signed_term(kv_math_parser *p, sign s) {
    kv_math_node *a = term(p);
    if (!a || s <= PLUS) return a;
    if (a->kind == KV_MATH_MATRIX && s == MINUS) return scale_cells(p, a, NULL);
    a = kv_parse_over(p, s == MINUS ? KV_MATH_NEGATION : KV_MATH_PLUSMINUS, a, NULL);
    if (a) a->opposite = s == MINUS_PLUS;
    return a;
}

kv_math_node *kv_parse_sum(kv_math_parser *p) {
    if (++p->depth > MAX_DEPTH) return kv_parse_fail(p);
    kv_math_node *a = signed_term(p, take_sign(p)), *sum = NULL, *b;
    for (sign s; a && !p->failed && (s = take_sign(p)) != NO_SIGN;) {
        if (!sum) sum = a = kv_parse_over(p, KV_MATH_SUM, a, NULL);
        if (!sum || !(b = signed_term(p, s)) || !kv_math_is_scalar(b)) return kv_parse_fail(p);
        kv_math_add(sum, b);
    }
    p->depth--;
    return p->failed ? NULL : a;
}
