/* math_parse.c - lists, brackets, matrices, unions and relations of an answer; scalars are read by math_term.c. */
#include "datasets/math_parser.h"

#include "datasets/math_words.h"

#include <string.h>

enum { MAX_COLUMNS = 32 };

static kv_math_node *parse_list(kv_math_parser *p);

static int take_separator(kv_math_parser *p) {
    int comma = kv_take(p, KV_LATEX_SYMBOL, ",") || kv_take(p, KV_LATEX_SYMBOL, ";");
    int words = p->t->kind == KV_LATEX_TEXT || p->t->kind == KV_LATEX_WORD, alone;
    if (!words || !kv_math_conjunction(p->t->text, &alone) || !alone) return comma;
    p->t++;
    return 1;
}

/* A long word after a blank is a unit too: "5 apples"; any word is where only numbers can be meant: "18 eggs". */
static int is_unit(const kv_math_parser *p, const kv_latex_token *t) {
    if (t->kind != KV_LATEX_TEXT && t->kind != KV_LATEX_WORD) return 0;
    if (kv_math_conjunction(t->text, NULL) || kv_math_scale(t->text)) return 0;
    if (t->kind == KV_LATEX_TEXT || kv_math_unit(t->text)) return 1;
    return t->spaced && (t->text.n >= 5 || p->flags & KV_PARSE_PERCENT);
}

/* Units behind a value: \text{ cm}^2, inches, /\text{s}. */
static void skip_units(kv_math_parser *p) {
    while (!(p->flags & KV_PARSE_PLAIN)) {
        if (kv_next_is(p, KV_LATEX_SYMBOL, "/") && is_unit(p, p->t + 1)) p->t++;
        if (!is_unit(p, p->t)) return;
        p->t++;
        if (kv_take(p, KV_LATEX_SYMBOL, "^")) {
            int group = kv_take(p, KV_LATEX_SYMBOL, "{");
            if (p->t->kind == KV_LATEX_NUMBER) p->t++;
            if (group && !kv_take(p, KV_LATEX_SYMBOL, "}")) p->failed = 1;
        }
    }
}

static kv_math_node *nest(kv_math_parser *p, kv_math_kind kind, kv_math_node *a, kv_math_node *b) {
    kv_math_node *node = kv_parse_node(p, kind);
    if (!a || !b || !node) return kv_parse_fail(p);
    kv_math_add(node, a);
    kv_math_add(node, b);
    return node;
}

/* 5 million, 5\text{ million dollars} */
static kv_math_node *scaled(kv_math_parser *p, kv_math_node *a) {
    unsigned long by = 0;
    if (!(p->flags & KV_PARSE_PLAIN) && (p->t->kind == KV_LATEX_TEXT || p->t->kind == KV_LATEX_WORD))
        by = kv_math_scale(p->t->text);
    if (!by) return a;
    kv_math_node *factor = kv_parse_node(p, KV_MATH_NUMBER);
    p->t++;
    if (!factor) return NULL;
    mpq_set_ui(factor->number, by, 1);
    return kv_parse_over(p, KV_MATH_PRODUCT, a, factor);
}

static kv_math_node *parse_set_expression(kv_math_parser *p) {
    kv_math_node *a = kv_parse_sum(p);
    while (a && !p->failed) {
        if (kv_take(p, KV_LATEX_COMMAND, "cup") || (!kv_math_is_scalar(a) && kv_take(p, KV_LATEX_LETTER, "U"))) {
            a = nest(p, KV_MATH_UNION, a, kv_parse_sum(p));
        } else if (kv_take(p, KV_LATEX_COMMAND, "setminus")) {
            a = nest(p, KV_MATH_DIFFERENCE, a, kv_parse_sum(p));
        } else {
            a = scaled(p, a);
            skip_units(p);
            return a;
        }
    }
    return kv_parse_fail(p);
}

static kv_math_op take_relation(kv_math_parser *p) {
    static const struct {
        kv_latex_kind kind;
        const char *text;
        kv_math_op op;
    } ops[] = {{KV_LATEX_SYMBOL, "=", KV_OP_EQ},          {KV_LATEX_COMMAND, "ne", KV_OP_NE},
               {KV_LATEX_SYMBOL, "<", KV_OP_LT},          {KV_LATEX_COMMAND, "<", KV_OP_LT},
               {KV_LATEX_COMMAND, "le", KV_OP_LE},        {KV_LATEX_SYMBOL, ">", KV_OP_GT},
               {KV_LATEX_COMMAND, ">", KV_OP_GT},         {KV_LATEX_COMMAND, "ge", KV_OP_GE},
               {KV_LATEX_COMMAND, "in", KV_OP_IN},        {KV_LATEX_COMMAND, "to", KV_OP_TO},
               {KV_LATEX_COMMAND, "approx", KV_OP_APPROX}};
    for (size_t k = 0; k < sizeof ops / sizeof *ops; k++)
        if (kv_take(p, ops[k].kind, ops[k].text)) {
            int strict = ops[k].op == KV_OP_LT || ops[k].op == KV_OP_GT;
            if (strict && kv_take(p, KV_LATEX_SYMBOL, "=")) return ops[k].op == KV_OP_LT ? KV_OP_LE : KV_OP_GE;
            return ops[k].op;
        }
    return KV_OP_NONE;
}

/* "Area = 5": the left side is only a name. */
static kv_math_node *parse_named_side(kv_math_parser *p) {
    if (p->t->kind != KV_LATEX_TEXT || !kv_latex_is(p->t + 1, KV_LATEX_SYMBOL, "=")) return parse_set_expression(p);
    kv_math_node *a = kv_parse_node(p, KV_MATH_VARIABLE);
    if (a) a->name = p->t->text;
    p->t++;
    return a;
}

static kv_math_node *parse_item(kv_math_parser *p) {
    kv_math_node *a = parse_named_side(p), *relation = NULL;
    for (kv_math_op op; a && !p->failed && (op = take_relation(p)) != KV_OP_NONE;) {
        if (!relation) {
            relation = kv_parse_node(p, KV_MATH_RELATION);
            if (!relation) return NULL;
            kv_math_add(relation, a);
        }
        a = parse_set_expression(p);
        if (!a) return NULL;
        a->op = op;
        kv_math_add(relation, a);
    }
    return p->failed ? NULL : relation ? relation : a;
}

/* One item, or a LIST of several. */
static kv_math_node *parse_list(kv_math_parser *p) {
    kv_math_node *a = parse_item(p), *list = NULL;
    while (a && !p->failed && take_separator(p)) {
        if (!list) {
            list = kv_parse_node(p, KV_MATH_LIST);
            if (!list) return NULL;
            kv_math_add(list, a);
        }
        a = parse_item(p);
        if (a) kv_math_add(list, a);
    }
    return p->failed || !a ? kv_parse_fail(p) : list ? list : a;
}

static kv_math_node *close_round_or_square(kv_math_parser *p, kv_math_node *a, int left_square) {
    int round = kv_take(p, KV_LATEX_SYMBOL, ")");
    if (!a || (!round && !kv_take(p, KV_LATEX_SYMBOL, "]"))) return kv_parse_fail(p);
    int mixed = left_square == round;
    if (a->kind != KV_MATH_LIST || a->bracketed) {
        a->bracketed = 1;
        return mixed ? kv_parse_fail(p) : a;
    }
    a->kind = a->n == 2 && (left_square || !round) ? KV_MATH_INTERVAL : KV_MATH_TUPLE;
    if (mixed && a->n != 2) return kv_parse_fail(p);
    a->closed_left = (unsigned char)left_square;
    a->closed_right = !round;
    return a;
}

static kv_math_node *close_set(kv_math_parser *p, kv_math_node *a) {
    if (a && a->kind == KV_MATH_LIST && !a->bracketed) {
        a->kind = KV_MATH_SET;
        return a;
    }
    kv_math_node *set = a ? kv_parse_node(p, KV_MATH_SET) : NULL;
    if (!set) return kv_parse_fail(p);
    kv_math_add(set, a);
    return set;
}

static int is_matrix(kv_span name) {
    static const char *const names[] = {"pmatrix", "bmatrix", "matrix", "array", "smallmatrix", "Bmatrix"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        if (strlen(names[k]) == name.n && !memcmp(names[k], name.s, name.n)) return 1;
    return 0;
}

static kv_math_node *parse_matrix(kv_math_parser *p) {
    kv_span name = p->t->text;
    kv_math_node *a = is_matrix(name) ? kv_parse_node(p, KV_MATH_MATRIX) : NULL;
    int in_row = 0;
    p->t++;
    if (!a) return kv_parse_fail(p);
    for (;;) {
        kv_math_node *cell = parse_item(p);
        if (!cell) return NULL;
        kv_math_add(a, cell);
        in_row++;
        if (kv_take(p, KV_LATEX_SYMBOL, "&")) continue;
        if (!a->columns) a->columns = in_row;
        if (in_row != a->columns || in_row > MAX_COLUMNS) return kv_parse_fail(p);
        in_row = 0;
        int row = p->t->kind == KV_LATEX_ROW;
        p->t += row;
        if (p->t->kind == KV_LATEX_FINISH) break;
        if (!row) return kv_parse_fail(p);
    }
    if (!kv_span_equal(p->t->text, name)) return kv_parse_fail(p);
    p->t++;
    return a;
}

/* The head of \{x : x > 2\}, also with "\in \mathbb{R}"; 0 when the set lists its members. */
static int take_condition(kv_math_parser *p) {
    kv_latex_token *t = p->t;
    if ((p->flags & KV_PARSE_PLAIN) || t->kind != KV_LATEX_LETTER) return 0;
    t++;
    if (kv_latex_is(t, KV_LATEX_COMMAND, "in")) {
        int group = kv_latex_is(t + 1, KV_LATEX_SYMBOL, "{");
        t += 1 + group;
        if (!kv_latex_is(t, KV_LATEX_LETTER, "R")) return 0;
        t++;
        if (group && !kv_latex_is(t++, KV_LATEX_SYMBOL, "}")) return 0;
    }
    if (!kv_latex_is(t, KV_LATEX_SYMBOL, ":") && !kv_latex_is(t, KV_LATEX_SYMBOL, "|") &&
        !kv_latex_is(t, KV_LATEX_COMMAND, "|"))
        return 0;
    p->t = t + 1;
    return 1;
}

static kv_math_node *parse_set(kv_math_parser *p) {
    if (kv_next_is(p, KV_LATEX_COMMAND, "}")) return kv_parse_node(p, KV_MATH_SET);
    if (!take_condition(p)) return close_set(p, parse_list(p));
    kv_math_node *a = parse_list(p);
    return a && (a->kind == KV_MATH_RELATION || a->kind == KV_MATH_LIST) ? a : kv_parse_fail(p);
}

kv_math_node *kv_parse_bracket(kv_math_parser *p) {
    int bars = p->in_bars;
    kv_math_node *a;
    p->in_bars = 0;
    if (p->t->kind == KV_LATEX_BEGIN) {
        a = parse_matrix(p);
    } else if (kv_take(p, KV_LATEX_COMMAND, "{")) {
        a = parse_set(p);
        if (!kv_take(p, KV_LATEX_COMMAND, "}")) a = kv_parse_fail(p);
    } else if (kv_take(p, KV_LATEX_COMMAND, "langle")) {
        a = parse_list(p);
        if (!a || a->kind != KV_MATH_LIST || !kv_take(p, KV_LATEX_COMMAND, "rangle")) a = kv_parse_fail(p);
        if (a) a->kind = KV_MATH_TUPLE;
    } else if (kv_take(p, KV_LATEX_SYMBOL, "{")) {
        a = parse_list(p);
        if (!kv_take(p, KV_LATEX_SYMBOL, "}")) a = kv_parse_fail(p);
        if (a && a->kind == KV_MATH_LIST) a->kind = KV_MATH_SET;
        if (a) a->bracketed = 1;
    } else {
        int square = kv_take(p, KV_LATEX_SYMBOL, "[");
        p->t += !square;
        a = close_round_or_square(p, parse_list(p), square);
    }
    p->in_bars = bars;
    return a;
}

/* Only words: a name, "even", "not possible".  Two letters are a product. */
static int is_text(const kv_latex *l) {
    int words = 0;
    for (int i = 0; i < l->n; i++) {
        const kv_latex_token *t = &l->tokens[i];
        if (kv_latex_is(t, KV_LATEX_SYMBOL, "{") || kv_latex_is(t, KV_LATEX_SYMBOL, "}")) continue;
        if (t->kind != KV_LATEX_TEXT && t->kind != KV_LATEX_WORD && t->kind != KV_LATEX_LETTER) return 0;
        words += t->kind == KV_LATEX_TEXT ||
                 (t->kind == KV_LATEX_WORD && (t->text.n > 2 || l->n > 1) && !kv_math_function(t->text));
    }
    return words > 0;
}

static int only_text(kv_math_answer *out) {
    kv_latex *l = &out->latex;
    if (!is_text(l)) return 0;
    kv_math_node *a = kv_math_new(&out->tree, KV_MATH_TEXT);
    if (!a) return 1;
    const kv_latex_token *first = l->tokens, *last = &l->tokens[l->n - 1];
    while (first->kind == KV_LATEX_SYMBOL) first++;
    while (last->kind == KV_LATEX_SYMBOL) last--;
    a->name.s = first->text.s;
    a->name.n = (size_t)(last->text.s + last->text.n - a->name.s);
    out->root = a;
    return 1;
}

static void drop_last_point(kv_latex *l) {
    while (l->n && (kv_latex_is(&l->tokens[l->n - 1], KV_LATEX_SYMBOL, ".") ||
                    kv_latex_is(&l->tokens[l->n - 1], KV_LATEX_SYMBOL, ",")))
        l->tokens[--l->n].kind = KV_LATEX_END;
}

void kv_math_tokens(kv_span a, unsigned flags, kv_latex *l) {
    kv_latex_split(a, flags & KV_PARSE_PLAIN ? KV_LATEX_PLAIN : flags & KV_PARSE_COMMAS ? KV_LATEX_COMMAS : 0, l);
    if (!l->failed) drop_last_point(l);
}

void kv_math_parse(kv_span a, unsigned flags, kv_math_answer *out) {
    memset(out, 0, sizeof *out);
    int plain = flags & KV_PARSE_PLAIN;
    kv_math_tokens(a, flags, &out->latex);
    if (out->latex.failed) return;
    if (!out->latex.n || (!(flags & (KV_PARSE_PLAIN | KV_PARSE_LETTERS)) && only_text(out))) return;
    kv_math_parser p = {.t = out->latex.tokens, .m = &out->tree, .flags = flags};
    kv_math_node *root = plain ? parse_item(&p) : parse_list(&p);
    int rest = p.t->kind != KV_LATEX_END && !(plain && p.t->kind == KV_LATEX_SYMBOL && strchr(",)]_", *p.t->text.s));
    if (root && !p.failed && !rest) out->root = root;
}

void kv_math_answer_free(kv_math_answer *a) {
    kv_math_free(&a->tree);
    kv_latex_free(&a->latex);
    a->root = NULL;
}
