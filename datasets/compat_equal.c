/* compat_equal.c - math_equal of the reference: numbers within 1e-4, also a hundredfold or a hundredth; brackets that
 * do not count; then symbols. */
#include "datasets/compat.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 16, MAX_PARTS = 256 };

static int equal(kv_span prediction, kv_span reference, int depth);

/* What Python's float() reads: blanks around, single underscores between digits, inf and nan, no hexadecimals. */
static int python_float(kv_span a, double *out) {
    char text[128], *end;
    size_t n = 0;
    a = kv_span_trim(a);
    if (!a.n || a.n >= sizeof text) return 0;
    for (size_t i = 0; i < a.n; i++) {
        if (a.s[i] == '_') {
            if (!i || i + 1 == a.n || !isdigit((unsigned char)a.s[i - 1]) || !isdigit((unsigned char)a.s[i + 1]))
                return 0;
            continue;
        }
        if (a.s[i] == 'x' || a.s[i] == 'X' || a.s[i] == '(' || isspace((unsigned char)a.s[i])) return 0;
        text[n++] = a.s[i];
    }
    text[n] = 0;
    *out = strtod(text, &end);
    return !*end;
}

static int parse_digits(kv_span a, double *out) {
    kv_text t = {0};
    kv_str_set(&t, a);
    kv_str_replace(&t, ",", "");
    kv_span b = kv_str_span(&t);
    int ok = python_float(b, out);
    if (!ok && b.n && b.s[b.n - 1] == '%') {
        b.n--;
        if (b.n && b.s[b.n - 1] == '\\') b.n--;
        ok = python_float(b, out);
        *out /= 100;
    }
    kv_text_free(&t);
    return ok;
}

/* math.isclose(reference, prediction, rel_tol=1e-4) */
static int is_close(double a, double b) {
    if (a == b) return 1;
    if (!isfinite(a) || !isfinite(b)) return 0;
    return fabs(a - b) <= 1e-4 * fmax(fabs(a), fabs(b));
}

/* The last stand-alone A-E of the upper-cased text, or 0. */
static char choice(kv_span a) {
    char last = 0;
    int before = 0, word;
    for (size_t i = 0, n; i < a.n; i += n, before = word) {
        int behind = 0;
        n = kv_str_char((kv_span){a.s + i, a.n - i}, &word);
        if (i + n < a.n) kv_str_char((kv_span){a.s + i + n, a.n - i - n}, &behind);
        char c = (char)toupper((unsigned char)a.s[i]);
        if (n == 1 && c >= 'A' && c <= 'E' && !before && !behind) last = c;
    }
    return last;
}

static kv_span strip_chars(kv_span a, const char *set) {
    while (a.n && strchr(set, *a.s)) a.s++, a.n--;
    while (a.n && strchr(set, a.s[a.n - 1])) a.n--;
    return a;
}

static int begins(kv_span a, const char *with) {
    return a.n >= strlen(with) && !memcmp(a.s, with, strlen(with));
}

static int ends(kv_span a, const char *with) {
    size_t n = strlen(with);
    return a.n >= n && !memcmp(a.s + a.n - n, with, n);
}

static int same_without_brackets(kv_span prediction, kv_span reference) {
    static const char *const brackets[] = {"{", "}", "(", ")"};
    kv_span p = prediction, r = reference;
    kv_text a = {0}, b = {0};
    if ((begins(p, "[") && ends(p, "]") && !begins(r, "(")) || (begins(p, "(") && ends(p, ")") && !begins(r, "["))) {
        p = strip_chars(p, "[]()");
        r = strip_chars(r, "[]()");
    }
    kv_str_set(&a, p);
    kv_str_set(&b, r);
    for (int k = 0; k < 4; k++) {
        kv_str_replace(&a, brackets[k], "");
        kv_str_replace(&b, brackets[k], "");
    }
    int same = kv_str_same_case_blind(kv_str_span(&a), kv_str_span(&b));
    kv_text_free(&a);
    kv_text_free(&b);
    return same;
}

/* Cuts a at every `at`; with skip_blank, parts of blanks only are left out and the others trimmed.  -1: too many. */
static int split(kv_span a, const char *at, int skip_blank, kv_span *parts) {
    int n = 0;
    for (;;) {
        long end = kv_str_find(a, at, 0);
        kv_span part = {a.s, end < 0 ? a.n : (size_t)end};
        if (skip_blank) part = kv_span_trim(part);
        if (!skip_blank || part.n) {
            if (n == MAX_PARTS) return -1;
            parts[n++] = part;
        }
        if (end < 0) return n;
        a.s += (size_t)end + strlen(at);
        a.n -= (size_t)end + strlen(at);
    }
}

static int all_equal(const kv_span *p, int n, const kv_span *r, int m, int depth) {
    if (n != m || n < 0) return 0;
    for (int i = 0; i < n; i++)
        if (!equal(p[i], r[i], depth + 1)) return 0;
    return 1;
}

/* An opening bracket at the start, something, and a closing one anywhere behind. */
static int is_bracketed(kv_span a) {
    if (a.n < 3 || !strchr("([", *a.s)) return 0;
    for (size_t i = 2; i < a.n; i++)
        if (strchr(")]", a.s[i])) return 1;
    return 0;
}

static int same_parts(kv_span p, kv_span r, int depth) {
    kv_span a[MAX_PARTS], b[MAX_PARTS];
    if (!is_bracketed(p) || !is_bracketed(r)) return 0;
    int n = split((kv_span){p.s + 1, p.n - 2}, ",", 0, a), m = split((kv_span){r.s + 1, r.n - 2}, ",", 0, b);
    return all_equal(a, n, b, m, depth);
}

static const char begin_matrix[] = "\\begin{pmatrix}", end_matrix[] = "\\end{pmatrix}";

static int is_matrix(kv_span a) {
    return begins(a, begin_matrix) && ends(a, end_matrix);
}

static int same_matrix(kv_span p, kv_span r, int depth) {
    kv_span rows_p[MAX_PARTS], rows_r[MAX_PARTS], a[MAX_PARTS], b[MAX_PARTS];
    size_t head = strlen(begin_matrix), tail = strlen(end_matrix);
    if (!is_matrix(p) || !is_matrix(r) || p.n < head + tail || r.n < head + tail) return 0;
    int n = split((kv_span){p.s + head, p.n - head - tail}, "\\\\", 1, rows_p);
    int m = split((kv_span){r.s + head, r.n - head - tail}, "\\\\", 1, rows_r);
    if (n != m || n < 0) return 0;
    for (int i = 0; i < n; i++) {
        int cp = split(rows_p[i], "&", 0, a), cr = split(rows_r[i], "&", 0, b);
        if (!all_equal(a, cp, b, cr, depth)) return 0;
    }
    return 1;
}

/* "l = r" -> "l - (r)", with a minus before all of it on demand. */
static void difference(kv_span a, int minus, kv_text *out) {
    size_t at = (size_t)((const char *)memchr(a.s, '=', a.n) - a.s);
    kv_span left = kv_span_trim((kv_span){a.s, at}), right = kv_span_trim((kv_span){a.s + at + 1, a.n - at - 1});
    kv_text_puts(out, minus ? "-(" : "");
    kv_text_append(out, left.s, left.n);
    kv_text_puts(out, " - (");
    kv_text_append(out, right.s, right.n);
    kv_text_puts(out, minus ? "))" : ")");
}

static int same_equation(kv_span p, kv_span r) {
    kv_text ref = {0};
    int same = 0;
    difference(r, 0, &ref);
    for (int minus = 0; minus < 2 && !same; minus++) {
        kv_text pred = {0};
        difference(p, minus, &pred);
        same = kv_compat_symbolic(kv_str_span(&pred), kv_str_span(&ref));
        kv_text_free(&pred);
    }
    kv_text_free(&ref);
    return same;
}

/* The right side of "x = 5" when the left has at most two characters. */
static int short_equation(kv_span a, kv_span *right) {
    if (kv_str_count(a, '=') != 1) return 0;
    size_t at = (size_t)((const char *)memchr(a.s, '=', a.n) - a.s);
    *right = (kv_span){a.s + at + 1, a.n - at - 1};
    return kv_span_trim((kv_span){a.s, at}).n <= 2;
}

/* {a,b} in a gold without a matrix becomes one, when the prediction is one; the row mark is a single backslash. */
static void to_matrix(kv_span r, kv_text *out) {
    const char *open = memchr(r.s, '{', r.n), *close = memrchr(r.s, '}', r.n);
    if (!open || !close || close < open || !memchr(open, ',', (size_t)(close - open))) return;
    kv_span inside = strip_chars((kv_span){open, (size_t)(close + 1 - open)}, "{}");
    kv_str_set(out, inside);
    kv_str_replace(out, ",", "\\");
    kv_text whole = {0};
    kv_text_puts(&whole, begin_matrix);
    kv_text_append(&whole, kv_str_span(out).s, out->n);
    kv_text_puts(&whole, end_matrix);
    kv_text_free(out);
    *out = whole;
}

static int structures(kv_span p, kv_span r, int depth) {
    kv_span right;
    if (same_without_brackets(p, r) || same_parts(p, r, depth) || same_matrix(p, r, depth)) return 1;
    int in_p = kv_str_count(p, '='), in_r = kv_str_count(r, '=');
    if (in_p == 1 && in_r == 1) {
        if (same_equation(p, r)) return 1;
    } else if (!in_r && short_equation(p, &right)) {
        if (equal(right, r, depth + 1)) return 1;
    } else if (!in_p && short_equation(r, &right)) {
        if (equal(p, right, depth + 1)) return 1;
    }
    return kv_compat_symbolic(p, r);
}

static int equal(kv_span p, kv_span r, int depth) {
    double x, y;
    if (depth > MAX_DEPTH) return 0;
    if (kv_str_same_case_blind(kv_span_trim(p), kv_span_trim(r))) return 1;
    if (r.n == 1 && *r.s >= 'A' && *r.s <= 'E' && choice(p) == *r.s) return 1;
    if (parse_digits(p, &x) && parse_digits(r, &y))
        return is_close(y / 100, x) || is_close(y, x) || is_close(y * 100, x);
    if (!p.n) return 0;
    p = kv_span_trim(p);
    r = kv_span_trim(r);
    kv_text matrix = {0};
    int rewritten = kv_str_has(p, "pmatrix") && !kv_str_has(r, "pmatrix");
    if (rewritten) {
        to_matrix(r, &matrix);
        r = kv_str_span(&matrix);
    }
    int same = structures(p, r, depth);
    kv_text_free(&matrix);
    return same;
}

int kv_compat_equal(kv_span prediction, kv_span reference) {
    return equal(prediction, reference, 0);
}
