/* lmeval_hendrycks.c - hendrycks_math and aime as lm-evaluation-harness scores them (lm_eval/tasks/hendrycks_math and
 * aime, utils.py), beside the strict verdict: equality of strings after the spelling rules of the MATH release.
 *
 * Where a rule of the reference raises an exception, the unchanged texts are compared. */
#include "datasets/compat.h"
#include "datasets/math_compare.h"

#include <ctype.h>
#include <string.h>

enum { MAX_TEXT = 1 << 20 };

/* \sqrt3 -> \sqrt{3}; 0 when nothing follows a \sqrt. */
static int brace_roots(kv_text *t) {
    kv_span a = kv_str_span(t);
    kv_text out = {0};
    size_t i = 0;
    long from;
    int ok = 1, word;
    while ((from = kv_str_find(a, "\\sqrt", i)) >= 0) {
        size_t p = (size_t)from + 5;
        kv_text_append(&out, a.s + i, p - i);
        i = p;
        if (p == a.n || kv_str_find((kv_span){a.s + p, a.n - p}, "\\sqrt", 0) == 0) ok = 0;
        if (!ok) break;
        if (a.s[p] == '{') continue;
        size_t n = kv_str_char((kv_span){a.s + p, a.n - p}, &word);
        kv_text_append(&out, "{", 1);
        kv_text_append(&out, a.s + p, n);
        kv_text_append(&out, "}", 1);
        i += n;
    }
    kv_text_append(&out, a.s + i, a.n - i);
    kv_text_free(t);
    *t = out;
    return ok;
}

/* \frac12 -> \frac{1}{2}; 0 when nothing follows a \frac, and no change at all when one character does. */
static int brace_fractions(kv_text *t) {
    kv_span a = kv_str_span(t);
    kv_text out = {0};
    size_t i = 0;
    long from;
    int word, ok = 1, whole = 1;
    while (ok && whole && (from = kv_str_find(a, "\\frac", i)) >= 0) {
        size_t p = (size_t)from + 5;
        long next = kv_str_find(a, "\\frac", p);
        size_t end = next < 0 ? a.n : (size_t)next;
        kv_text_append(&out, a.s + i, p - i);
        i = p;
        ok = p < end;
        if (!ok || a.s[p] == '{') continue;
        size_t first = kv_str_char((kv_span){a.s + p, end - p}, &word);
        whole = p + first < end;
        if (!whole) break;
        size_t second = kv_str_char((kv_span){a.s + p + first, end - p - first}, &word);
        int braced = a.s[p + first] == '{';
        kv_text_append(&out, "{", 1);
        kv_text_append(&out, a.s + p, first);
        kv_text_puts(&out, braced ? "}" : "}{");
        kv_text_append(&out, a.s + p + first, second);
        kv_text_puts(&out, braced ? "" : "}");
        i = p + first + second;
    }
    if (!ok || !whole) {
        kv_text_free(&out);
        return ok;
    }
    kv_text_append(&out, a.s + i, a.n - i);
    kv_text_free(t);
    *t = out;
    return 1;
}

typedef enum { NO_INTEGER, ODD_INTEGER, PLAIN_INTEGER } integer;

/* What Python's int() reads; odd: not as Python would print it. */
static integer read_integer(kv_span a) {
    integer kind = PLAIN_INTEGER;
    int minus = a.n && *a.s == '-';
    if (a.n && (*a.s == '+' || *a.s == '-')) {
        if (*a.s == '+') kind = ODD_INTEGER;
        a.s++, a.n--;
    }
    if (!a.n) return NO_INTEGER;
    for (size_t i = 0; i < a.n; i++) {
        int between = i && i + 1 < a.n && isdigit((unsigned char)a.s[i - 1]) && isdigit((unsigned char)a.s[i + 1]);
        if (a.s[i] == '_' && between)
            kind = ODD_INTEGER;
        else if (!isdigit((unsigned char)a.s[i]))
            return NO_INTEGER;
    }
    return *a.s == '0' && (a.n > 1 || minus) ? ODD_INTEGER : kind;
}

static int make_fraction(kv_text *t) {
    kv_span a = kv_str_span(t);
    if (kv_str_count(a, '/') != 1) return 1;
    size_t slash = (size_t)((const char *)memchr(a.s, '/', a.n) - a.s);
    kv_span top = {a.s, slash}, bottom = {a.s + slash + 1, a.n - slash - 1};
    integer n = read_integer(top), d = read_integer(bottom);
    if (n == NO_INTEGER || d == NO_INTEGER) return 0;
    if (n == ODD_INTEGER || d == ODD_INTEGER) return 1;
    kv_text out = {0};
    kv_text_puts(&out, "\\frac{");
    kv_text_append(&out, top.s, top.n);
    kv_text_puts(&out, "}{");
    kv_text_append(&out, bottom.s, bottom.n);
    kv_text_puts(&out, "}");
    kv_text_free(t);
    *t = out;
    return 1;
}

/* "\text{ " starts a unit; two of them are an exception. */
static int drop_unit(kv_text *t) {
    kv_span a = kv_str_span(t);
    long from = kv_str_find(a, "\\text{ ", 0);
    if (from < 0) return 1;
    if (kv_str_find(a, "\\text{ ", (size_t)from + 7) >= 0) return 0;
    kv_str_set(t, (kv_span){a.s, (size_t)from});
    return 1;
}

/* 0 on an exception. */
static int strip(kv_text *t) {
    static const char *const first[][2] = {{"\n", ""},        {"\\!", ""},    {"\\\\", "\\"},  {"tfrac", "frac"},
                                           {"dfrac", "frac"}, {"\\left", ""}, {"\\right", ""}, {"^{\\circ}", ""},
                                           {"^\\circ", ""},   {"\\$", ""}};
    static const char *const second[][2] = {{"\\%", ""}, {" .", " 0."}, {"{.", "{0."}};
    for (size_t k = 0; k < sizeof first / sizeof *first; k++) kv_str_replace(t, first[k][0], first[k][1]);
    if (!drop_unit(t)) return 0;
    for (size_t k = 0; k < sizeof second / sizeof *second; k++) kv_str_replace(t, second[k][0], second[k][1]);
    if (t->failed || !t->n) return !t->failed;
    if (*t->s == '.') {
        kv_text with = {0};
        kv_text_puts(&with, "0");
        kv_text_append(&with, t->s, t->n);
        kv_text_free(t);
        *t = with;
    }
    kv_span a = kv_str_span(t);
    const char *eq = memchr(a.s, '=', a.n);
    if (eq && kv_str_count(a, '=') == 1 && eq - a.s <= 2)
        kv_str_set(t, (kv_span){eq + 1, a.n - (size_t)(eq + 1 - a.s)});
    if (!brace_roots(t)) return 0;
    kv_str_replace(t, " ", "");
    if (!brace_fractions(t)) return 0;
    if (t->n == 3 && !memcmp(t->s, "0.5", 3)) kv_str_set(t, (kv_span){"\\frac{1}{2}", 11});
    return make_fraction(t) && !t->failed;
}

static int is_equivalent(kv_span a, kv_span b) {
    kv_text x = {0}, y = {0};
    if (a.n > MAX_TEXT) return 0;
    kv_str_set(&x, a);
    kv_str_set(&y, b);
    int ok = strip(&x) && strip(&y);
    int same = ok ? kv_span_equal(kv_str_span(&x), kv_str_span(&y)) : kv_span_equal(a, b);
    kv_text_free(&x);
    kv_text_free(&y);
    return same;
}

/* Between the first and the last dollar sign; all of it with fewer than two. */
static kv_span between_dollars(const char *output) {
    const char *open = strchr(output, '$'), *close = strrchr(output, '$');
    if (!open || open == close) return (kv_span){output, strlen(output)};
    return (kv_span){open + 1, (size_t)(close - open - 1)};
}

static void grade_hendrycks(const void *data, const char *gold, const char *output, kv_grade *g) {
    (void)data;
    kv_grade_strict(gold, output, 0, g);
    g->compat = is_equivalent(between_dollars(output), (kv_span){gold, strlen(gold)});
}

static const char *last(const char *text, const char *mark) {
    const char *found = NULL;
    for (const char *p = text; (p = strstr(p, mark)); p++) found = p;
    return found;
}

/* The last \boxed{}, for which "\boxed " with a blank takes precedence; \fbox is found and then not understood. */
static int boxed(const char *output, kv_span *out) {
    const char *p = last(output, "\\boxed ");
    if (p) {
        p += strlen("\\boxed ");
        *out = (kv_span){p, strcspn(p, "$")};
        return 1;
    }
    p = last(output, "\\boxed");
    if (!p || p[6] != '{') return 0;
    size_t depth = 0;
    for (size_t n = 6; p[n]; n++) {
        depth += p[n] == '{';
        if (p[n] != '}' || --depth) continue;
        *out = (kv_span){p + 7, n - 7};
        return 1;
    }
    return 0;
}

static void grade_aime(const void *data, const char *gold, const char *output, kv_grade *g) {
    kv_span answer;
    (void)data;
    kv_grade_strict(gold, output, KV_PARSE_PERCENT, g);
    if (strspn(gold, "0123456789") == strlen(gold)) /* the harness's data has no leading zeros */
        while (gold[0] == '0' && gold[1]) gold++;
    if (!boxed(output, &answer)) answer = between_dollars(output);
    g->compat = is_equivalent(answer, (kv_span){gold, strlen(gold)});
}

const kv_grader kv_grader_lmeval_hendrycks = {
    .name = "lmeval_hendrycks", .version = 3, .sets_compat = 1, .grade = grade_hendrycks};
const kv_grader kv_grader_lmeval_aime = {.name = "lmeval_aime", .version = 3, .sets_compat = 1, .grade = grade_aime};
