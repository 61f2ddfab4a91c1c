/* grade_gsm8k.c - grade school maths: every gold is a whole number, so numbers are compared as numbers.
 *
 * gsm8k_short reads the number after the last "#### " (the data's own form); without the mark there is no answer.
 * gsm8k reads the last \boxed{}, else the last number of the text; after a </think> only the text behind it counts.
 * A box must hold one number, apart from $ % commas, LaTeX spacing, \text{} and a leading `x =`: \boxed{\frac{1}{2}}
 * is an answer, and a wrong one.  18.00 equals 18. */
#include "datasets/graders.h"

#include <string.h>

typedef struct {
    char s[64]; /* canonical: -?digits without leading zeros, fraction without trailing ones */
} number;

static int is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* "-0012.50" -> "-12.5".  a: optional sign, digits, optional fraction; longer than fits = 0. */
static int canonical(kv_span a, number *out) {
    int minus = a.n && a.s[0] == '-';
    if (a.n && (a.s[0] == '-' || a.s[0] == '+')) a.s++, a.n--;
    size_t whole = 0, frac = 0;
    while (whole < a.n && is_digit(a.s[whole])) whole++;
    if (whole < a.n && a.s[whole] == '.')
        while (whole + 1 + frac < a.n && is_digit(a.s[whole + 1 + frac])) frac++;
    if (!whole || whole + (frac ? frac + 1 : 0) != a.n || a.n > sizeof out->s - 3) return 0;
    const char *f = frac ? a.s + whole + 1 : a.s;
    while (frac && f[frac - 1] == '0') frac--;
    while (whole > 1 && a.s[0] == '0') a.s++, whole--;
    char *p = out->s;
    if (minus && (frac || whole > 1 || a.s[0] != '0')) *p++ = '-';
    memcpy(p, a.s, whole);
    p += whole;
    if (frac) *p++ = '.';
    memcpy(p, f, frac);
    p[frac] = 0;
    return 1;
}

/* The number that starts at s: [$][-][$]digits with commas[.digits].  Its length, 0 when there is none. */
static size_t number_at(const char *s, number *out) {
    char digits[64];
    size_t n = 0, i = 0;
    i += s[i] == '$';
    if (s[i] == '-' || s[i] == '+') digits[n++] = s[i++];
    i += s[i] == '$';
    while (is_digit(s[i]) || (s[i] == ',' && n && is_digit(s[i + 1]) && is_digit(digits[n - 1]))) {
        if (s[i] != ',') {
            if (n == sizeof digits) return 0;
            digits[n++] = s[i];
        }
        i++;
    }
    if (n && is_digit(digits[n - 1]) && s[i] == '.' && is_digit(s[i + 1])) do {
            if (n == sizeof digits) return 0;
            digits[n++] = s[i++];
        } while (is_digit(s[i]));
    return canonical((kv_span){digits, n}, out) ? i : 0;
}

static void decide(const number *answer, const char *gold, kv_grade *g) {
    number want;
    g->score = g->partial = number_at(gold, &want) && !strcmp(want.s, answer->s);
}

static void grade_short(const void *data, const char *gold, const char *output, kv_grade *g) {
    const char *mark = NULL;
    number answer;
    (void)data;
    for (const char *p = output; (p = strstr(p, "#### ")); p++) mark = p;
    if (!mark) return;
    mark += strlen("#### ");
    mark += strspn(mark, " ");
    if (!number_at(mark, &answer)) return;
    kv_grade_extract(g, (kv_span){answer.s, strlen(answer.s)});
    decide(&answer, gold, g);
}

/* The content of the last \boxed{} that closes within 1,000 bytes (the bound keeps a long output of open braces from
 * taking quadratic time). */
static int last_box(const char *text, kv_span *out) {
    int found = 0;
    for (const char *p = text; (p = strstr(p, "\\boxed{"));) {
        p += strlen("\\boxed{");
        size_t depth = 1, n = 0;
        for (; n < 1000 && p[n] && depth; n++) depth += (size_t)(p[n] == '{') - (size_t)(p[n] == '}');
        if (depth) continue;
        *out = kv_span_trim((kv_span){p, n - 1});
        found = 1;
    }
    return found;
}

/* Length of a piece of LaTeX at a that says nothing about the value; 0 when there is none. */
static size_t dressing(kv_span a) {
    static const char *const marks[] = {"\\$", "\\%", "\\,", "\\!", "\\;", "\\ ", "{,}", "$", "%", ",", " "};
    static const char *const groups[] = {"\\text{", "\\mathrm{", "\\mbox{"};
    for (size_t k = 0; k < sizeof groups / sizeof *groups; k++) {
        size_t n = strlen(groups[k]);
        if (a.n < n || memcmp(a.s, groups[k], n)) continue;
        const char *end = memchr(a.s + n, '}', a.n - n);
        if (end) return (size_t)(end + 1 - a.s);
    }
    for (size_t k = 0; k < sizeof marks / sizeof *marks; k++) {
        size_t n = strlen(marks[k]);
        if (a.n >= n && !memcmp(a.s, marks[k], n)) return n;
    }
    return 0;
}

static int box_number(kv_span a, number *out) {
    char bare[64];
    size_t n = 0;
    const char *eq = a.n ? memchr(a.s, '=', a.n) : NULL;
    if (eq) a = (kv_span){eq + 1, a.n - (size_t)(eq + 1 - a.s)};
    while (a.n) {
        size_t skip = dressing(a);
        if (!skip) {
            if (n == sizeof bare) return 0;
            bare[n++] = a.s[0];
            skip = 1;
        }
        a.s += skip;
        a.n -= skip;
    }
    if (n && bare[n - 1] == '.') n--;
    return canonical((kv_span){bare, n}, out);
}

static int last_number(const char *text, number *out) {
    int found = 0;
    for (const char *p = text; *p;) {
        /* in 16-3 the sign is an operator; in "is -3" it belongs to the number */
        size_t n = 0;
        number v;
        int starts = is_digit(*p) || (*p == '-' && is_digit(p[1]) && (p == text || !is_digit(p[-1])));
        if (starts && (n = number_at(p, &v))) {
            *out = v;
            found = 1;
        }
        if (starts && !n)
            for (n = 1; is_digit(p[n]);) n++;
        p += n ? n : 1;
    }
    return found;
}

static void grade_official(const void *data, const char *gold, const char *output, kv_grade *g) {
    kv_span box;
    number answer;
    (void)data;
    for (const char *p = output; (p = strstr(p, "</think>"));) output = p += strlen("</think>");
    if (last_box(output, &box)) {
        kv_grade_extract(g, box);
        if (box_number(box, &answer)) decide(&answer, gold, g);
    } else if (last_number(output, &answer)) {
        kv_grade_extract(g, (kv_span){answer.s, strlen(answer.s)});
        decide(&answer, gold, g);
    }
}

const kv_grader kv_grader_gsm8k = {.name = "gsm8k", .version = 1, .grade = grade_official};
const kv_grader kv_grader_gsm8k_short = {.name = "gsm8k_short", .version = 1, .grade = grade_short};
