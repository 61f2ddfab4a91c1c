/* math_compare.c - equality of whole answers; see math_compare.h.
 *
 * Lists, sets and unions are compared without order, after plus-minus has been written out; tuples, intervals and
 * matrices place by place. */
#include "datasets/math_compare.h"

#include "datasets/math_eval.h"
#include "datasets/math_words.h"
#include "datasets/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { MAX_MEMBERS = 32 };

typedef struct {
    const kv_math_node *node;
    int sign;
} member;

typedef struct {
    member m[MAX_MEMBERS];
    int n, full;
} members;

static int compare(const kv_math_node *gold, int sg, const kv_math_node *answer, int sa);

/* Letters and digits without case; brackets, quotes and points around words do not count. */
static int same_text(kv_span a, kv_span b) {
    static const char skip[] = " .\"'`(),-~\t\n";
    for (;;) {
        while (a.n && strchr(skip, *a.s)) a.s++, a.n--;
        while (b.n && strchr(skip, *b.s)) b.s++, b.n--;
        if (!a.n || !b.n) return !a.n && !b.n;
        if (tolower((unsigned char)*a.s) != tolower((unsigned char)*b.s)) return 0;
        a.s++, a.n--, b.s++, b.n--;
    }
}

static void add_member(members *out, const kv_math_node *a, int sign) {
    if (out->n == MAX_MEMBERS)
        out->full = 1;
    else
        out->m[out->n++] = (member){a, sign};
}

/* A set inside a list or a set is one member of it. */
static void expand(const kv_math_node *a, int sign, int outermost, members *out) {
    if (a->kind == KV_MATH_LIST || (a->kind == KV_MATH_SET && outermost)) {
        for (const kv_math_node *c = a->child; c; c = c->next) expand(c, sign, 0, out);
    } else if (!sign && kv_math_has(a, KV_MATH_PLUSMINUS)) {
        add_member(out, a, 1);
        add_member(out, a, -1);
    } else {
        add_member(out, a, sign);
    }
}

static void flatten_union(const kv_math_node *a, members *out) {
    if (a->kind == KV_MATH_UNION || a->kind == KV_MATH_LIST)
        for (const kv_math_node *c = a->child; c; c = c->next) flatten_union(c, out);
    else
        add_member(out, a, 1);
}

/* Every member of the one has a partner of its own in the other. */
static int match(const members *gold, const members *answer) {
    char used[MAX_MEMBERS] = {0};
    int all = KV_SAME;
    if (gold->full || answer->full || gold->n != answer->n) return 0;
    for (int i = 0; i < gold->n; i++) {
        int verdict = 0;
        for (int k = 0; k < answer->n && !verdict; k++) {
            if (used[k]) continue;
            verdict = compare(gold->m[i].node, gold->m[i].sign, answer->m[k].node, answer->m[k].sign);
            used[k] = verdict != 0;
        }
        if (!verdict) return 0;
        all |= verdict;
    }
    return all;
}

static int compare_places(const kv_math_node *gold, const kv_math_node *answer) {
    int all = KV_SAME;
    const kv_math_node *a = answer->child;
    if (gold->n != answer->n) return 0;
    for (const kv_math_node *g = gold->child; g; g = g->next, a = a->next) {
        int verdict = compare(g, 1, a, 1);
        if (!verdict) return 0;
        all |= verdict;
    }
    return all;
}

static int is_range(const kv_math_node *a) {
    return a->kind == KV_MATH_TUPLE || a->kind == KV_MATH_INTERVAL;
}

static int is_vector(const kv_math_node *a) {
    return a->kind == KV_MATH_MATRIX && (a->columns == 1 || a->columns == a->n);
}

static int is_round(const kv_math_node *a) {
    return a->kind == KV_MATH_TUPLE && !a->closed_left && !a->closed_right;
}

static int compare_range(const kv_math_node *gold, const kv_math_node *answer) {
    if (gold->closed_left != answer->closed_left || gold->closed_right != answer->closed_right) return 0;
    if (gold->name.n && answer->name.n && !kv_span_equal(gold->name, answer->name)) return 0;
    return compare_places(gold, answer);
}

/* f and f^{-1} */
static int is_function_name(const kv_math_node *a) {
    return a->kind == KV_MATH_VARIABLE || (a->kind == KV_MATH_POWER && a->child->kind == KV_MATH_VARIABLE);
}

/* x, f(x), f(2), f^{-1}(x), Area, (x,y), a/b: what may stand left of an answer's equals sign without being part of the
 * answer. */
static int is_name(const kv_math_node *a) {
    if (a->kind == KV_MATH_VARIABLE) return 1;
    if (a->kind == KV_MATH_TUPLE || a->kind == KV_MATH_PRODUCT || a->kind == KV_MATH_SUM ||
        a->kind == KV_MATH_QUOTIENT) {
        const kv_math_node *c = a->child;
        int call = a->kind == KV_MATH_PRODUCT && a->n == 2 && is_function_name(c) && c->next->bracketed;
        if (call) return 1;
        while (c && is_name(c)) c = c->next;
        return !c;
    }
    return 0;
}

static int is_equation(const kv_math_node *a) {
    return a->kind == KV_MATH_RELATION && a->n == 2 && a->child->next->op == KV_OP_EQ;
}

static int same_relation(const kv_math_node *gold, const kv_math_node *answer) {
    const kv_math_node *a = answer->child;
    if (gold->n != answer->n) return 0;
    for (const kv_math_node *g = gold->child; g; g = g->next, a = a->next)
        if (g->op != a->op || !compare(g, 1, a, 1)) return 0;
    return KV_SAME;
}

static int compare_relations(const kv_math_node *gold, const kv_math_node *answer) {
    if (!is_equation(gold) || !is_equation(answer)) return same_relation(gold, answer);
    const kv_math_node *gl = gold->child, *gr = gl->next, *al = answer->child, *ar = al->next;
    int scalars = kv_math_is_scalar(gl) && kv_math_is_scalar(gr) && kv_math_is_scalar(al) && kv_math_is_scalar(ar);
    int verdict = scalars ? kv_math_compare_equation(gl, gr, al, ar) : 0;
    return verdict ? verdict : same_relation(gold, answer);
}

/* answer: left = right, gold no equation. */
static int compare_with_right(const kv_math_node *gold, int sg, const kv_math_node *answer, int sa) {
    const kv_math_node *left = answer->child, *right = left->next;
    int verdict = compare(gold, sg, right, sa);
    if (!verdict || is_name(left)) return verdict;
    if (kv_math_is_scalar(left) && kv_math_is_closed(left)) return compare(gold, sg, left, sa) ? verdict : 0;
    return 0;
}

static int compare_numerals(const kv_math_node *gold, const kv_math_node *answer) {
    kv_span g = gold->name, a = answer->name;
    while (g.n > 1 && *g.s == '0') g.s++, g.n--;
    while (a.n > 1 && *a.s == '0') a.s++, a.n--;
    return gold->base == answer->base && kv_span_equal(g, a) ? KV_SAME : 0;
}

/* The digits alone: problems with such an answer name the base. */
static int compare_digits(const kv_math_node *gold, const kv_math_node *answer) {
    mpz_t digits;
    char text[64];
    if (answer->kind != KV_MATH_NUMBER || mpz_cmp_ui(mpq_denref(answer->number), 1) || gold->name.n >= sizeof text)
        return 0;
    memcpy(text, gold->name.s, gold->name.n);
    text[gold->name.n] = 0;
    int same = !mpz_init_set_str(digits, text, 10) && !mpz_cmp(digits, mpq_numref(answer->number));
    mpz_clear(digits);
    return same ? KV_SAME | KV_SAME_BASE : 0;
}

/* (C) */
static int is_choice(const kv_math_node *a) {
    return a->kind == KV_MATH_VARIABLE && a->bracketed && a->name.n == 1 && *a->name.s >= 'A' && *a->name.s <= 'J';
}

/* Choices have no case. */
static int same_choice(const kv_math_node *gold, const kv_math_node *answer) {
    return answer->kind == KV_MATH_VARIABLE && answer->name.n == 1 && !answer->sub.n &&
           *gold->name.s == toupper((unsigned char)*answer->name.s);
}

static int is_listed(const kv_math_node *a, int sign) {
    return a->kind == KV_MATH_LIST || a->kind == KV_MATH_SET || (!sign && kv_math_has(a, KV_MATH_PLUSMINUS));
}

static int compare_lists(const kv_math_node *gold, int sg, const kv_math_node *answer, int sa) {
    members g = {0}, a = {0};
    int unions = gold->kind == KV_MATH_UNION || answer->kind == KV_MATH_UNION;
    if (unions) {
        flatten_union(gold, &g);
        flatten_union(answer, &a);
    } else {
        expand(gold, sg, 1, &g);
        expand(answer, sa, 1, &a);
        for (int i = 0; i < g.n; i++) g.m[i].sign = g.m[i].sign ? g.m[i].sign : 1;
        for (int i = 0; i < a.n; i++) a.m[i].sign = a.m[i].sign ? a.m[i].sign : 1;
    }
    return match(&g, &a);
}

static int compare_texts(const kv_math_node *gold, const kv_math_node *answer) {
    const kv_math_node *number = gold->kind == KV_MATH_NUMBER ? gold : answer, *text = number == gold ? answer : gold;
    if (number->kind != KV_MATH_NUMBER)
        return gold->kind == answer->kind && same_text(gold->name, answer->name) ? KV_SAME : 0;
    int value = kv_math_number_word(kv_span_trim(text->name));
    return value >= 0 && !mpq_cmp_ui(number->number, (unsigned long)value, 1) ? KV_SAME : 0;
}

/* The interval from minus to plus infinity, \mathbb{R} or "all real numbers". */
static int is_all_reals(const kv_math_node *a) {
    static const char *const texts[] = {"all real numbers", "all reals", "the set of all real numbers"};
    if (a->kind == KV_MATH_VARIABLE) return a->name.n == 1 && *a->name.s == 'R' && !a->sub.n;
    for (size_t k = 0; k < sizeof texts / sizeof *texts && a->kind == KV_MATH_TEXT; k++)
        if (same_text(a->name, (kv_span){texts[k], strlen(texts[k])})) return 1;
    return is_round(a) && a->n == 2 && a->child->kind == KV_MATH_NEGATION &&
           kv_math_is_constant(a->child->child, "infty") && kv_math_is_constant(a->child->next, "infty");
}

static int compare(const kv_math_node *gold, int sg, const kv_math_node *answer, int sa) {
    if (is_all_reals(gold) && is_all_reals(answer)) return KV_SAME;
    if (gold->kind == KV_MATH_TEXT || answer->kind == KV_MATH_TEXT) return compare_texts(gold, answer);
    if (gold->kind == KV_MATH_RELATION && answer->kind == KV_MATH_RELATION) return compare_relations(gold, answer);
    if (gold->kind == KV_MATH_RELATION)
        return is_equation(gold) && is_name(gold->child) ? compare(gold->child->next, sg, answer, sa) : 0;
    int listed = is_listed(gold, sg) || is_listed(answer, sa);
    if (is_equation(answer)) return compare_with_right(gold, sg, answer, sa);
    if (gold->kind == KV_MATH_UNION || answer->kind == KV_MATH_UNION || listed)
        return compare_lists(gold, sg, answer, sa);
    if (gold->kind == KV_MATH_BASED)
        return answer->kind == KV_MATH_BASED ? compare_numerals(gold, answer) : compare_digits(gold, answer);
    if (is_range(gold) && is_range(answer)) return compare_range(gold, answer);
    if ((is_vector(gold) && is_round(answer)) || (is_round(gold) && is_vector(answer)))
        return compare_places(gold, answer);
    if (gold->kind == KV_MATH_MATRIX)
        return answer->kind == KV_MATH_MATRIX && gold->columns == answer->columns ? compare_places(gold, answer) : 0;
    if (is_choice(gold)) return same_choice(gold, answer) ? KV_SAME : 0;
    if (!kv_math_is_scalar(gold) || !kv_math_is_scalar(answer)) return 0;
    return kv_math_compare_scalar(gold, sg ? sg : 1, answer, sa ? sa : 1);
}

int kv_math_compare(const kv_math_node *gold, const kv_math_node *answer) {
    return compare(gold, 0, answer, 0);
}

static const char *name_verdict(int verdict) {
    return !verdict                    ? "another value"
           : verdict & KV_SAME_ROUNDED ? "same, rounded decimal"
           : verdict & KV_SAME_BASE    ? "same digits, base not written"
                                       : "same";
}

/* The tokens in one line: where words begin and what wraps them does not count. */
static void flatten(const kv_latex *l, kv_text *out) {
    for (int i = 0; i < l->n; i++) {
        const kv_latex_token *t = &l->tokens[i];
        if (t->kind == KV_LATEX_NUMBER) kv_text_puts(out, "#");
        if (t->kind == KV_LATEX_COMMAND) kv_text_puts(out, "\\");
        for (size_t k = 0; k < t->text.n; k++)
            if (t->kind == KV_LATEX_NUMBER || !strchr(" .", t->text.s[k])) kv_text_append(out, t->text.s + k, 1);
    }
}

/* For what no comparison decides: n!, 5:6, and where `loose` a time of day: 7:30\text{ p.m.} is 7:30 p.m. */
static int same_tokens(kv_span gold, unsigned gold_flags, kv_span answer, unsigned answer_flags, int loose) {
    kv_latex g, a;
    kv_text flat[2] = {{0}};
    kv_math_tokens(gold, gold_flags, &g);
    kv_math_tokens(answer, answer_flags, &a);
    int same = kv_latex_same(&g, &a);
    if (!same && loose && !g.failed && !a.failed) {
        flatten(&g, &flat[0]);
        flatten(&a, &flat[1]);
        same = !flat[0].failed && !flat[1].failed && flat[0].n && flat[0].n == flat[1].n &&
               !memcmp(flat[0].s, flat[1].s, flat[0].n);
    }
    kv_text_free(&flat[0]);
    kv_text_free(&flat[1]);
    kv_latex_free(&g);
    kv_latex_free(&a);
    return same;
}

/* A word of up to three letters may be a product, so words that differ are read a second time. */
static int read_and_compare(kv_span gold, kv_span answer, unsigned flags, const char **reason) {
    kv_math_answer g, a;
    int verdict;
    unsigned gold_flags = flags | KV_PARSE_COMMAS;
    kv_math_parse(gold, gold_flags, &g);
    int listed = g.root && (g.root->kind == KV_MATH_LIST || g.root->kind == KV_MATH_SET);
    unsigned answer_flags = flags | (listed ? 0 : KV_PARSE_COMMAS);
    kv_math_parse(answer, answer_flags, &a);
    kv_math_shape(&g);
    kv_math_shape(&a);
    if (g.root && a.root) {
        verdict = kv_math_compare(g.root, a.root);
        if (!verdict && same_tokens(gold, gold_flags, answer, answer_flags, 0)) verdict = KV_SAME;
        *reason = name_verdict(verdict);
    } else {
        verdict = same_tokens(gold, gold_flags, answer, answer_flags, !g.root);
        *reason = verdict  ? "not understood, same text"
                  : g.root ? "answer not understood"
                           : "gold not understood, another text";
    }
    int words = g.root && a.root && (g.root->kind == KV_MATH_TEXT || a.root->kind == KV_MATH_TEXT);
    kv_math_answer_free(&g);
    kv_math_answer_free(&a);
    if (!verdict && words) { /* xyz against zyx */
        const char *unused;
        verdict = read_and_compare(gold, answer, flags | KV_PARSE_LETTERS, &unused);
        if (verdict) *reason = unused;
    }
    return verdict;
}

/* 6.72e-5 as 6.72\cdot10^{-5} in out; 0 when a is no such number.  The other reading, 6.72e less 5, comes first. */
static int spell_exponent(kv_span a, char *out, size_t size) {
    size_t n = 0, digits;
    a = kv_span_trim(a);
    while (n < a.n && strchr("+-.0123456789", a.s[n])) n++;
    if (!n || n + 1 >= a.n || (a.s[n] != 'e' && a.s[n] != 'E')) return 0;
    kv_span exponent = {a.s + n + 1, a.n - n - 1};
    if (*exponent.s == '+') exponent.s++, exponent.n--;
    digits = exponent.n && *exponent.s == '-';
    if (digits == exponent.n) return 0;
    for (size_t i = digits; i < exponent.n; i++)
        if (exponent.s[i] < '0' || exponent.s[i] > '9') return 0;
    int length = snprintf(out, size, "%.*s\\cdot10^{%.*s}", (int)n, a.s, (int)exponent.n, exponent.s);
    return length > 0 && (size_t)length < size;
}

int kv_math_strict(kv_span gold, kv_span answer, unsigned flags, const char **reason) {
    int verdict = read_and_compare(gold, answer, flags, reason);
    char spelt[2][64];
    int g = !verdict && spell_exponent(gold, spelt[0], sizeof spelt[0]);
    int a = !verdict && spell_exponent(answer, spelt[1], sizeof spelt[1]);
    if (g || a) {
        const char *unused;
        verdict = read_and_compare(g ? (kv_span){spelt[0], strlen(spelt[0])} : gold,
                                   a ? (kv_span){spelt[1], strlen(spelt[1])} : answer, flags, &unused);
        if (verdict) *reason = unused;
    }
    kv_math_eval_done();
    return verdict != 0;
}
