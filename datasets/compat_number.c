/* compat_number.c - English number words as the word2number package reads them: words that are no number words are
 * skipped, so whole phrases become a number. */
#include "datasets/compat.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WORDS = 64, HUNDRED = 100, THOUSAND = 1000, MILLION = 1000000, BILLION = 1000000000, POINT = -1 };

static int is_name(kv_span w, const char *name) {
    return w.n == strlen(name) && !strncasecmp(w.s, name, w.n);
}

static int number_word(kv_span w, int64_t *value) {
    static const char *const small[] = {
        "zero", "one",    "two",    "three",    "four",     "five",    "six",     "seven",     "eight",    "nine",
        "ten",  "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
    static const char *const tens[] = {"twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"};
    static const struct {
        const char *name;
        int64_t value;
    } large[] = {
        {"hundred", HUNDRED}, {"thousand", THOUSAND}, {"million", MILLION}, {"billion", BILLION}, {"point", POINT}};
    for (int k = 0; k < 20; k++)
        if (is_name(w, small[k])) return *value = k, 1;
    for (int k = 0; k < 8; k++)
        if (is_name(w, tens[k])) return *value = 20 + 10 * k, 1;
    for (int k = 0; k < 5; k++)
        if (is_name(w, large[k].name)) return *value = large[k].value, 1;
    return 0;
}

typedef struct {
    int64_t v[MAX_WORDS];
    int n;
} words;

static int index_of(const words *w, int64_t value) {
    for (int i = 0; i < w->n; i++)
        if (w->v[i] == value) return i;
    return -1;
}

/* The value of words from..to-1; *ok becomes 0 when there are none. */
static int64_t form(const words *w, int from, int to, int *ok) {
    const int64_t *v = w->v + from;
    int n = to - from;
    if (n <= 0) {
        *ok = 0;
        return 0;
    }
    if (n == 4) return v[0] * v[1] + v[2] + v[3];
    if (n == 3) return v[0] * v[1] + v[2];
    if (n == 2) return v[0] == HUNDRED || v[1] == HUNDRED ? v[0] * v[1] : v[0] + v[1];
    return v[0];
}

static int64_t total(const words *w, int *ok) {
    static const int64_t scales[] = {BILLION, MILLION, THOUSAND};
    int at[3], last = -1;
    int64_t sum = 0;
    for (int k = 0; k < 3; k++) {
        at[k] = index_of(w, scales[k]);
        if (at[k] >= 0 && at[k] < last) *ok = 0; /* a smaller scale first */
        if (at[k] > last) last = at[k];
    }
    if (w->n == 1) return w->v[0];
    for (int k = 0, from = 0; k < 3 && *ok; k++) {
        if (at[k] < 0) continue;
        sum += form(w, from, at[k], ok) * scales[k];
        from = at[k] + 1;
    }
    if (last < 0) return form(w, 0, w->n, ok);
    /* what follows the smallest scale that is not the last word: "two million five thousand" counts its five twice */
    for (int k = 2; k >= 0; k--)
        if (at[k] >= 0 && at[k] != w->n - 1) return sum + form(w, at[k] + 1, w->n, ok);
    return sum;
}

/* Digits behind "point": single ones only, else nothing. */
static double decimals(const words *w, int from) {
    char text[MAX_WORDS + 3] = "0.";
    for (int i = from; i < w->n; i++) {
        if (w->v[i] < 0 || w->v[i] > 9) return 0;
        text[2 + i - from] = (char)('0' + w->v[i]);
        text[3 + i - from] = 0;
    }
    return strtod(text, NULL);
}

/* As Python prints a float. */
static void put_real(double x, char *out, size_t cap) {
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, cap, "%.*g", digits, x);
        if (strtod(out, NULL) == x) break;
    }
    if (!strpbrk(out, ".e")) strcat(out, ".0");
}

static int collect(kv_span a, words *out) {
    size_t i = 0;
    while (i < a.n) {
        while (i < a.n && (isspace((unsigned char)a.s[i]) || a.s[i] == '-')) i++;
        size_t from = i;
        while (i < a.n && !isspace((unsigned char)a.s[i]) && a.s[i] != '-') i++;
        int64_t value;
        if (!number_word((kv_span){a.s + from, i - from}, &value)) continue;
        int once = value == POINT || value >= THOUSAND;
        if (out->n == MAX_WORDS || (once && index_of(out, value) >= 0)) return 0;
        out->v[out->n++] = value;
    }
    return out->n > 0;
}

void kv_compat_words_to_digits(kv_text *t) {
    kv_span a = kv_str_span(t);
    words w = {0};
    int ok = 1, digits = a.n > 0;
    char text[64];
    for (size_t i = 0; i < a.n; i++) digits = digits && isdigit((unsigned char)a.s[i]);
    if (digits) { /* only leading zeros go */
        while (a.n > 1 && *a.s == '0') a.s++, a.n--;
        kv_str_set(t, a);
        return;
    }
    if (!collect(a, &w)) return;
    int point = index_of(&w, POINT), n = w.n;
    if (point >= 0) w.n = point;
    int64_t sum = w.n ? total(&w, &ok) : 0;
    w.n = n;
    if (!ok) return;
    if (point >= 0 && point + 1 < n)
        put_real((double)sum + decimals(&w, point + 1), text, sizeof text);
    else
        snprintf(text, sizeof text, "%lld", (long long)sum);
    kv_str_set(t, (kv_span){text, strlen(text)});
}
