/* test_math_forms.c - the strict grader against generated restatements: every gold of MATH-500, GSM8K and AIME in
 * twenty or more correct forms and in several wrong ones.  The forms follow from the gold's text and kind. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datasets/math_compare.h"
#include "datasets/task.h"

enum { MAX_FORMS = 80, FORM = 700 };

typedef struct {
    char text[MAX_FORMS][FORM];
    int n;
} forms;

static void add(forms *f, const char *format, ...) {
    va_list ap;
    assert_true(f->n < MAX_FORMS);
    va_start(ap, format);
    assert_true(vsnprintf(f->text[f->n], FORM, format, ap) < FORM);
    va_end(ap);
    for (int i = 0; i < f->n; i++)
        if (!strcmp(f->text[i], f->text[f->n])) return;
    f->n++;
}

/* text with every `from` replaced. */
static void replaced(const char *text, const char *from, const char *to, char out[FORM]) {
    size_t n = 0;
    while (*text) {
        size_t k = !strncmp(text, from, strlen(from)) ? strlen(from) : 0;
        n += (size_t)snprintf(out + n, FORM - n, "%.*s", k ? (int)strlen(to) : 1, k ? to : text);
        assert_true(n < FORM - 1);
        text += k ? k : 1;
    }
    out[n] = 0;
}

static void add_replaced(forms *f, const char *gold, const char *from, const char *to) {
    char out[FORM];
    if (!strstr(gold, from)) return;
    replaced(gold, from, to, out);
    add(f, "%s", out);
}

/* Dressing that fits any answer. */
static void add_dressed(forms *f, const char *g) {
    add(f, "  %s ", g);
    add(f, "$%s$", g);
    add(f, "\\(%s\\)", g);
    add(f, "\\displaystyle %s", g);
    add(f, "%s.", g);
    add(f, "%s\\;", g);
    add(f, "\\,%s\\,", g);
    add(f, "~%s", g);
    add(f, "\\quad %s", g);
    add(f, "\\textstyle %s", g);
    add(f, "$ %s .$", g);
    add(f, "\\boxed{%s}", g);
    add(f, "$$%s$$", g);
    add(f, "\\[%s\\]", g);
    add(f, "\n\t%s\n", g);
    add(f, "%s \\!", g);
    add(f, "\\ %s\\ ", g);
    add(f, "%s\\qquad.", g);
    add(f, "\\!%s", g);
    add(f, "\\:%s\\:", g);
    add(f, "\\( %s. \\)", g);
    add_replaced(f, g, "\\frac", "\\dfrac");
    add_replaced(f, g, "\\frac", "\\tfrac");
    add_replaced(f, g, "\\frac", "\\cfrac");
    add_replaced(f, g, "pmatrix", "bmatrix");
    add_replaced(f, g, ",", " , ");
    add_replaced(f, g, "\\\\", "\\\\[2pt]");
    add_replaced(f, g, "(", "\\left(");
    add_replaced(f, g, ")", " \\bigr)");
    add_replaced(f, g, "\\cup", "\\, \\cup \\;");
    add_replaced(f, g, "\\text{", "\\textbf{");
    add_replaced(f, g, "\\text{", "\\mathrm{");
    add_replaced(f, g, "^\\circ", "^{\\circ}");
    add_replaced(f, g, "^\\circ", "\\degree");
    add_replaced(f, g, "^\\circ", "\\text{ degrees}");
    add_replaced(f, g, "+", " + ");
    add_replaced(f, g, "-", "\xe2\x88\x92");
}

/* Arithmetic that changes nothing. */
static void add_scalar(forms *f, const char *g, int closed) {
    add(f, "(%s)", g);
    add(f, "\\left(%s\\right)", g);
    add(f, "{%s}", g);
    add(f, "-(-(%s))", g);
    add(f, "(%s)+0", g);
    add(f, "0+(%s)", g);
    add(f, "1\\cdot(%s)", g);
    add(f, "\\frac{2(%s)}{2}", g);
    add(f, "(%s)\\times 1", g);
    add(f, "\\frac{(%s)\\cdot 6}{6}", g);
    if (!closed) add(f, "h(x) = %s", g);
    if (closed) {
        add(f, "x = %s", g);
        add(f, "f(3) = %s", g);
        add(f, "\\text{Area} = %s", g);
        add(f, "%s\\text{ cm}", g);
        add(f, "%s\\text{ square inches}", g);
        add(f, "%s\\mbox{ units}^2", g);
    }
}

static void add_integer(forms *f, const char *g) {
    long v = strtol(g, NULL, 10);
    char digits[32], grouped[48] = "";
    snprintf(digits, sizeof digits, "%ld", labs(v));
    add(f, "%ld.0", v);
    add(f, "%ld.00", v);
    add(f, "\\frac{%ld}{1}", v);
    add(f, "\\frac{%ld}{3}", 3 * v);
    add(f, "%ld/2", 2 * v);
    add(f, "\\$%ld", v);
    add(f, "%ld \\text{ dollars}", v);
    add(f, "%ld dollars", v);
    if (v >= 0) add(f, "+%ld", v);
    if (v >= 0) add(f, "0%ld", v);
    if (labs(v) < 1000) return;
    for (size_t i = 0; digits[i]; i++) {
        char next[3] = {',', digits[i], 0};
        strcat(grouped, next + !(i && (strlen(digits) - i) % 3 == 0));
    }
    add(f, "%s%s", v < 0 ? "-" : "", grouped);
    for (int k = 0; k < 3; k++) add_replaced(f, grouped, ",", k == 0 ? "{,}" : k == 1 ? "\\," : ",\\!");
}

static void add_fraction(forms *f, const kv_math_node *root) {
    int minus = root->kind == KV_MATH_NEGATION;
    const kv_math_node *q = minus ? root->child : root;
    if (q->kind != KV_MATH_QUOTIENT || q->child->kind != KV_MATH_NUMBER || q->child->next->kind != KV_MATH_NUMBER)
        return;
    long a = mpz_get_si(mpq_numref(q->child->number)), b = mpz_get_si(mpq_numref(q->child->next->number)), twos = b;
    const char *sign = minus ? "-" : "";
    add(f, "%s%ld/%ld", sign, a, b);
    add(f, "%s\\frac{%ld}{%ld}", sign, 2 * a, 2 * b);
    add(f, "%s\\dfrac{%ld}{%ld}", sign, 7 * a, 7 * b);
    add(f, "\\frac{%s%ld}{%ld}", sign, a, b);
    add(f, "%s(%ld/%ld)", sign, a, b);
    add(f, "%s%ld\\div %ld", sign, a, b);
    if (a > b && b > 1) add(f, "%s%ld\\frac{%ld}{%ld}", sign, a / b, a % b, b);
    if (a > b && b > 1) add(f, "%s%ld %ld/%ld", sign, a / b, a % b, b);
    while (twos % 2 == 0) twos /= 2;
    while (twos % 5 == 0) twos /= 5;
    if (twos == 1) add(f, "%s%.12g", sign, (double)a / (double)b);
}

/* {a, b} and its members in reverse; the gold is a list or a set of up to nine. */
static void add_list(forms *f, const char *g) {
    char bare[FORM], reversed[FORM] = "", *items[9];
    int n = 0;
    replaced(g, "\\{", "", bare);
    replaced(bare, "\\}", "", reversed);
    strcpy(bare, reversed);
    for (char *p = strtok(bare, ","); p && n < 9; p = strtok(NULL, ",")) items[n++] = p;
    add(f, "\\{%s\\}", reversed);
    add(f, "\\left\\{%s\\right\\}", reversed);
    add(f, "%s", reversed);
    reversed[0] = 0;
    for (int i = n; i-- > 0;) {
        strcat(reversed, items[i]);
        strcat(reversed, i ? ", " : "");
    }
    add(f, "%s", reversed);
    add(f, "\\{ %s \\}", reversed);
    add(f, "x = %s", reversed);
    add_replaced(f, reversed, ",", " \\text{ and } ");
    add_replaced(f, reversed, ",", " \\text{ or } ");
    add_replaced(f, reversed, ",", ", x =");
    add_replaced(f, reversed, ",", ";");
    add_replaced(f, reversed, ",", ",\\quad ");
}

static void add_range(forms *f, const char *g, const kv_math_node *root) {
    static const char *const names[] = {"x", "t"};
    char a[FORM], b[FORM];
    replaced(g, " ", "", a);
    add(f, "%s", a);
    replaced(a, "\\left", "", b);
    replaced(b, "\\right", "", a);
    add(f, "%s", a);
    replaced(a, ",", ",\\ ", b);
    add(f, "%s", b);
    replaced(a, ",", ",~", b);
    add(f, "\\left%s", b);
    if (root->kind == KV_MATH_TUPLE) {
        add(f, "(x,y) = %s", g);
        add(f, "P = %s", g);
        return;
    }
    for (int k = 0; k < 2; k++) add(f, "%s \\in %s", names[k], g);
}

static void correct_forms(const char *gold, forms *f) {
    kv_math_answer a;
    f->n = 0;
    kv_math_parse((kv_span){gold, strlen(gold)}, KV_PARSE_COMMAS, &a);
    assert_non_null(a.root);
    const kv_math_node *r = a.root;
    int integer = strspn(gold + (*gold == '-'), "0123456789") == strlen(gold) - (*gold == '-');
    int plain = kv_math_is_scalar(r) && !strstr(gold, "\\text") && !strstr(gold, "\\mbox") && !strchr(gold, '$');
    add_dressed(f, gold);
    if (plain && !kv_math_has(r, KV_MATH_PLUSMINUS)) add_scalar(f, gold, kv_math_is_closed(r));
    if (integer) add_integer(f, gold);
    if (kv_math_is_scalar(r)) add_fraction(f, r);
    if (r->kind == KV_MATH_LIST || r->kind == KV_MATH_SET) add_list(f, gold);
    if (r->kind == KV_MATH_TUPLE || r->kind == KV_MATH_INTERVAL || r->kind == KV_MATH_UNION) add_range(f, gold, r);
    kv_math_answer_free(&a);
}

/* The gold with its k-th run of digits raised by one. */
static int digit_changed(const char *gold, int k, char out[FORM]) {
    strcpy(out, gold);
    for (char *p = out; *p; p++) {
        if (!isdigit((unsigned char)*p) || (p > out && isdigit((unsigned char)p[-1]))) continue;
        if (p > out + 1 && p[-1] == '^' && p[-2] == '}') continue; /* of a unit, which does not count */
        if (k--) continue;
        *p = *p == '9' ? '8' : (char)(*p + 1);
        return 1;
    }
    return 0;
}

static void bracket_changed(const char *gold, const char *from, char to, forms *f) {
    char out[FORM];
    strcpy(out, gold);
    char *p = strpbrk(out, from);
    if (!p) return;
    *p = to;
    add(f, "%s", out);
}

static void wrong_forms(const char *gold, forms *f) {
    kv_math_answer a;
    char out[FORM];
    f->n = 0;
    kv_math_parse((kv_span){gold, strlen(gold)}, KV_PARSE_COMMAS, &a);
    const kv_math_node *r = a.root;
    int scalar = kv_math_is_scalar(r) && !kv_math_has(r, KV_MATH_PLUSMINUS) && !strstr(gold, "\\text") &&
                 !strstr(gold, "\\mbox") && !strchr(gold, '$') && !strstr(gold, "circ");
    for (int k = 0; k < 6 && digit_changed(gold, k, out); k++) add(f, "%s", out);
    if (scalar && strcmp(gold, "0")) {
        add(f, "-(%s)", gold);
        add(f, "100(%s)", gold);
        add(f, "\\frac{%s}{100}", gold);
        add(f, "2(%s)", gold);
    }
    if (scalar) {
        add(f, "(%s)+1", gold);
        add(f, "(%s)-1", gold);
        add(f, "(%s)+x_9", gold);
        add(f, "%s, 77", gold);
        add(f, "(%s, 77)", gold);
        add(f, "1.001(%s)+0.0007", gold);
    }
    if (r->kind == KV_MATH_TUPLE || r->kind == KV_MATH_INTERVAL || r->kind == KV_MATH_UNION) {
        bracket_changed(gold, "(", '[', f);
        bracket_changed(gold, ")", ']', f);
        if (r->kind == KV_MATH_INTERVAL) bracket_changed(gold, "[", '(', f);
        if (r->kind == KV_MATH_INTERVAL) bracket_changed(gold, "]", ')', f);
        add(f, "%s \\cup (900,901)", gold);
    }
    if (r->kind == KV_MATH_LIST || r->kind == KV_MATH_SET) {
        add(f, "%s, 77", gold);
        add(f, "77, %s", gold);
        add(f, "%.*s", (int)strcspn(gold, ","), gold);
    }
    if (r->kind == KV_MATH_TEXT) {
        add(f, "\\text{not %s}", r->name.s[0] == 'E' ? "she" : "it");
        add(f, "\\text{none}");
        add(f, "7");
    }
    if (strchr(gold, 'i') && !strchr(gold, '\\')) add_replaced(f, gold, "i", "(-i)");
    if (strchr(gold, 'i') && !strchr(gold, '\\')) add_replaced(f, gold, "i", "j");
    add(f, "");
    add(f, "\\text{unknown}");
    kv_math_answer_free(&a);
}

typedef struct {
    long forms, accepted, wrong, refused;
    int golds, poor;
} tally;

static int verdict(const char *gold, const char *answer) {
    const char *reason;
    return kv_math_strict((kv_span){gold, strlen(gold)}, (kv_span){answer, strlen(answer)}, 0, &reason);
}

static void try_gold(const char *gold, tally *t) {
    forms *f = malloc(sizeof *f);
    assert_non_null(f);
    correct_forms(gold, f);
    t->golds++;
    t->poor += f->n < 20;
    for (int i = 0; i < f->n; i++) {
        int ok = verdict(gold, f->text[i]);
        t->forms++;
        t->accepted += ok;
        if (!ok) print_message("refused: gold %s answer %s\n", gold, f->text[i]);
    }
    wrong_forms(gold, f);
    for (int i = 0; i < f->n; i++) {
        int ok = verdict(gold, f->text[i]);
        t->wrong++;
        t->refused += !ok;
        if (ok) print_message("ACCEPTED: gold %s answer %s\n", gold, f->text[i]);
    }
    free(f);
}

static void try_task(const char *name, int n, tally *t) {
    kv_task_options o = {.root = KV_SOURCE_DIR "/datasets"};
    kv_task *task;
    kv_error err;
    if (kv_task_open(name, &o, &task, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < n; i++) {
        kv_item it;
        assert_int_equal(kv_task_item(task, i, &it, &err), KV_OK);
        try_gold(it.gold, t);
        kv_item_free(&it);
    }
    kv_task_close(task);
}

static void restatements_stay_correct_and_other_values_are_refused(void **state) {
    tally t = {0};
    char gold[16];
    (void)state;
    FILE *f = fopen("golden/aime24_golds.txt", "r");
    assert_non_null(f);
    while (fscanf(f, "%15s", gold) == 1) try_gold(gold, &t);
    fclose(f);
    assert_int_equal(t.golds, 30);
    try_task("math500", 500, &t);
    try_task("gsm8k", 1319, &t);
    print_message(
        "%d golds: %ld of %ld restatements accepted (%.2f%%), %ld of %ld wrong answers refused; %d golds with "
        "fewer than 20 restatements\n",
        t.golds, t.accepted, t.forms, 100.0 * (double)t.accepted / (double)t.forms, t.refused, t.wrong, t.poor);
    assert_true(t.accepted >= 0.95 * (double)t.forms);
    assert_true(t.refused == t.wrong);
    assert_int_equal(t.poor, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restatements_stay_correct_and_other_values_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
