/* compat_strip.c - strip_string of the reference, step by step and in its order. */
#include "datasets/compat.h"

#include <ctype.h>
#include <string.h>

static void replace_all(kv_text *t, const char *const (*pairs)[2], size_t n) {
    for (size_t k = 0; k < n; k++) kv_str_replace(t, pairs[k][0], pairs[k][1]);
}

static void cut(kv_text *t, size_t from, size_t to, const char *with) {
    kv_text out = {0};
    kv_text_append(&out, t->s, from);
    kv_text_puts(&out, with);
    kv_text_append(&out, t->s + to, t->n - to);
    kv_text_free(t);
    *t = out;
}

/* Every open...} becomes `with`, or its inside when with is NULL; the first brace closes. */
static void replace_groups(kv_text *t, const char *open, const char *with) {
    size_t at = 0;
    long from;
    while ((from = kv_str_find(kv_str_span(t), open, at)) >= 0 && !t->failed) {
        size_t inside = (size_t)from + strlen(open);
        long end = kv_str_find(kv_str_span(t), "}", inside);
        if (end < 0) return;
        char kept[2 * KV_COMPAT_MAX];
        size_t n = with ? 0 : (size_t)end - inside;
        if (n > sizeof kept - 1) return;
        memcpy(kept, t->s + inside, n);
        kept[n] = 0;
        cut(t, (size_t)from, (size_t)end + 1, with ? with : kept);
        at = (size_t)from + (with ? strlen(with) : n);
    }
}

/* From the first \text{ to the end, when a brace ends the string and something is left. */
static void drop_last_text(kv_text *t) {
    kv_span a = kv_str_span(t);
    long from = kv_str_find(a, "\\text{", 0);
    if (from < 0 || a.s[a.n - 1] != '}') return;
    kv_span left = kv_span_trim((kv_span){a.s, (size_t)from});
    if (left.n) kv_str_set(t, left);
}

/* 12.000 -> 12: a point and zeros, when no digit follows. */
static void drop_zero_fractions(kv_text *t) {
    kv_span a = kv_str_span(t);
    kv_text out = {0};
    for (size_t i = 0; i < a.n;) {
        size_t digits = i, zeros;
        while (digits < a.n && isdigit((unsigned char)a.s[digits])) digits++;
        if (digits == i || digits == a.n || a.s[digits] != '.') {
            size_t n = digits > i ? digits - i : 1;
            kv_text_append(&out, a.s + i, n);
            i += n;
            continue;
        }
        for (zeros = digits + 1; zeros < a.n && a.s[zeros] == '0';) zeros++;
        kv_text_append(&out, a.s + i, digits - i);
        if (zeros < a.n && isdigit((unsigned char)a.s[zeros])) {
            kv_text_append(&out, ".", 1);
            i = digits + 1;
        } else { /* the character behind is used up */
            kv_text_append(&out, a.s + zeros, zeros < a.n);
            i = zeros + 1;
        }
    }
    kv_text_append(&out, "", 0);
    kv_text_free(t);
    *t = out;
}

static size_t n_characters(kv_span a) {
    size_t n = 0;
    for (size_t i = 0; i < a.n; i++) n += ((unsigned char)a.s[i] & 0xc0) != 0x80;
    return n;
}

/* x=5 -> 5 */
static void drop_short_left_side(kv_text *t) {
    kv_span a = kv_str_span(t);
    if (kv_str_count(a, '=') != 1) return;
    size_t left = (size_t)((const char *)memchr(a.s, '=', a.n) - a.s);
    if (n_characters((kv_span){a.s, left}) <= 2) kv_str_set(t, (kv_span){a.s + left + 1, a.n - left - 1});
}

/* \sqrt12 -> \sqrt{12} */
static void brace_roots(kv_text *t) {
    size_t at = 0;
    long from;
    while ((from = kv_str_find(kv_str_span(t), "\\sqrt", at)) >= 0) {
        kv_span a = kv_str_span(t);
        size_t i = (size_t)from + 5, end = i;
        int word = 1;
        while (end < a.n) {
            size_t n = kv_str_char((kv_span){a.s + end, a.n - end}, &word);
            if (!word) break;
            end += n;
        }
        at = end;
        if (end == i) continue;
        kv_text out = {0};
        kv_text_append(&out, a.s, i);
        kv_text_append(&out, "{", 1);
        kv_text_append(&out, a.s + i, end - i);
        kv_text_append(&out, "}", 1);
        kv_text_append(&out, a.s + end, a.n - end);
        kv_text_free(t);
        *t = out;
        if (t->failed) return;
        at += 2;
    }
}

/* \frac12 -> \frac{1}{2}, \frac1{72} -> \frac{1}{72}.  Fewer than two characters behind a \frac: all stays. */
static void brace_fractions(kv_text *t) {
    kv_span a = kv_str_span(t);
    kv_text out = {0};
    size_t i = 0;
    long from;
    while ((from = kv_str_find(a, "\\frac", i)) >= 0) {
        size_t p = (size_t)from + 5;
        long next = kv_str_find(a, "\\frac", p);
        size_t end = next < 0 ? a.n : (size_t)next;
        int word;
        kv_text_append(&out, a.s + i, p - i);
        i = p;
        if (p < end && a.s[p] == '{') continue;
        size_t first = p < end ? kv_str_char((kv_span){a.s + p, end - p}, &word) : 0;
        size_t second = p + first < end ? kv_str_char((kv_span){a.s + p + first, end - p - first}, &word) : 0;
        if (!second) {
            kv_text_free(&out);
            return;
        }
        kv_text_append(&out, "{", 1);
        kv_text_append(&out, a.s + p, first);
        kv_text_append(&out, "}", 1);
        i = p + first;
        if (a.s[i] == '{') continue;
        kv_text_append(&out, "{", 1);
        kv_text_append(&out, a.s + i, second);
        kv_text_append(&out, "}", 1);
        i += second;
    }
    kv_text_append(&out, a.s + i, a.n - i);
    kv_text_free(t);
    *t = out;
}

/* As Python prints an int: no sign but -, no leading zeros.  Texts with sqrt pass too. */
static int plain_integer(kv_span a) {
    if (kv_str_has(a, "sqrt")) return 1;
    if (a.n > 1 && *a.s == '-') {
        a.s++, a.n--;
        if (*a.s == '0') return 0;
    }
    if (!a.n || (a.n > 1 && *a.s == '0')) return 0;
    for (size_t i = 0; i < a.n; i++)
        if (!isdigit((unsigned char)a.s[i])) return 0;
    return 1;
}

/* 1/2 -> \frac{1}{2} */
static void make_fraction(kv_text *t) {
    kv_span a = kv_str_span(t);
    if (kv_str_count(a, '/') != 1) return;
    size_t slash = (size_t)((const char *)memchr(a.s, '/', a.n) - a.s);
    kv_span top = {a.s, slash}, bottom = {a.s + slash + 1, a.n - slash - 1};
    if (!plain_integer(top) || !plain_integer(bottom)) return;
    kv_text out = {0};
    kv_text_puts(&out, "\\frac{");
    kv_text_append(&out, top.s, top.n);
    kv_text_puts(&out, "}{");
    kv_text_append(&out, bottom.s, bottom.n);
    kv_text_puts(&out, "}");
    kv_text_free(t);
    *t = out;
}

static void replace_arrays(kv_text *t) {
    size_t at = 0;
    long from;
    while ((from = kv_str_find(kv_str_span(t), "\\begin{array}{", at)) >= 0) {
        long end = kv_str_find(kv_str_span(t), "}", (size_t)from + strlen("\\begin{array}{"));
        if (end < 0) break;
        cut(t, (size_t)from, (size_t)end + 1, "\\begin{pmatrix}");
        at = (size_t)from + 1;
    }
    kv_str_replace(t, "\\end{array}", "\\end{pmatrix}");
}

static void before_units(kv_text *t) {
    static const char *const pairs[][2] = {
        {"bmatrix", "pmatrix"}, {"tfrac", "frac"}, {"dfrac", "frac"}, {"\\neq", "\\ne"}, {"\\leq", "\\le"},
        {"\\geq", "\\ge"},      {"\\left", ""},    {"\\right", ""},   {"\\{", "{"},      {"\\}", "}"}};
    kv_str_trim(t);
    kv_str_replace(t, "\n", "");
    kv_span a = kv_str_span(t);
    while (a.n && a.s[a.n - 1] == '.') a.n--;
    kv_str_set(t, a);
    kv_str_replace(t, "\\!", "");
    replace_arrays(t);
    replace_all(t, pairs, sizeof pairs / sizeof *pairs);
    drop_last_text(t);
}

static void between_units_and_numbers(kv_text *t) {
    static const char *const dress[][2] = {{"^{\\circ}", ""}, {"^\\circ", ""}, {"\\$", ""},
                                           {"$", ""},         {"\\(", ""},     {"\\)", ""}};
    static const char *const words[][2] = {{"x=", ""},
                                           {"y=", ""},
                                           {"z=", ""},
                                           {"x\\in", ""},
                                           {"y\\in", ""},
                                           {"z\\in", ""},
                                           {"x\\to", ""},
                                           {"y\\to", ""},
                                           {"z\\to", ""},
                                           {"\\emptyset", "{}"},
                                           {"(-\\infty,\\infty)", "\\mathbb{R}"},
                                           {"\\%", ""},
                                           {"%", ""},
                                           {" .", " 0."},
                                           {"{.", "{0."},
                                           {"infinity", "\\infty"}};
    replace_all(t, dress, sizeof dress / sizeof *dress);
    kv_compat_words_to_digits(t);
    replace_groups(t, "\\text{", NULL);
    replace_all(t, words, sizeof words / sizeof *words);
    if (!kv_str_has(kv_str_span(t), "\\infty")) kv_str_replace(t, "inf", "\\infty");
    kv_str_replace(t, "and", "");
    kv_str_replace(t, "\\mathbf", "");
    replace_groups(t, "\\mbox{", "");
    if (!kv_str_has(kv_str_span(t), "i")) kv_str_replace(t, "j", "i");
    drop_zero_fractions(t);
}

void kv_compat_strip(kv_text *t) {
    if (t->n > KV_COMPAT_MAX) return;
    before_units(t);
    kv_compat_remove_units(t);
    between_units_and_numbers(t);
    if (t->failed || !t->n) return;
    if (*t->s == '.') cut(t, 0, 0, "0");
    drop_short_left_side(t);
    brace_roots(t);
    kv_str_replace(t, " ", "");
    brace_fractions(t);
    make_fraction(t);
}
