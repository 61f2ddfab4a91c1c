/* grade_gsm8k.c - grader gsm8k_short, for the short prompt: the number after the last "#### " (the data's own form);
 * without the mark there is no answer.  Every gold is a whole number; 18.00 equals 18. */
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

const kv_grader kv_grader_gsm8k_short = {.name = "gsm8k_short", .version = 1, .grade = grade_short};
