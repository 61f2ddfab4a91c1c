/* compat_units.c - the reference's unit words, and how it deletes them.
 *
 * Each entry is a regular expression there, so a point matches any character.  A word goes where a non-word character
 * or an end of the string stands on both sides; the neighbours stay, and a neighbour that one deletion used does not
 * serve the next.  First every word, then every word with an s, and all of it twice. */
#include "datasets/compat.h"

#include <string.h>

static const char *const units[] = {
    "east",
    "degree",
    "mph",
    "kmph",
    "ft",
    "m sqaure",
    " m east",
    "sq m",
    "deg",
    "mile",
    "q .",
    "monkey",
    "prime",
    "ratio",
    "profit of rs",
    "rd",
    "o",
    "gm",
    "p . m",
    "lb",
    "tile",
    "per",
    "dm",
    "lt",
    "gain",
    "ab",
    "way",
    "west",
    "a .",
    "b .",
    "c .",
    "d .",
    "e .",
    "f .",
    "g .",
    "h .",
    "t",
    "a",
    "h",
    "no change",
    "men",
    "soldier",
    "pie",
    "bc",
    "excess",
    "st",
    "inches",
    "noon",
    "percent",
    "by",
    "gal",
    "kmh",
    "c",
    "acre",
    "rise",
    "a . m",
    "th",
    "\xcf\x80 r 2",
    "sq",
    "mark",
    "l",
    "toy",
    "coin",
    "sq . m",
    "gallon",
    "\xc2\xb0 f",
    "profit",
    "minw",
    "yr",
    "women",
    "feet",
    "am",
    "pm",
    "hr",
    "cu cm",
    "square",
    "v \xc3\xa2 \xe2\x82\xac \xe2\x84\xa2",
    "are",
    "rupee",
    "rounds",
    "cubic",
    "cc",
    "mtr",
    "s",
    "ohm",
    "number",
    "kmph",
    "day",
    "hour",
    "minute",
    "min",
    "second",
    "man",
    "woman",
    "sec",
    "cube",
    "mt",
    "sq inch",
    "mp",
    "\xe2\x88\x8f cm \xc2\xb3",
    "hectare",
    "more",
    "sec",
    "unit",
    "cu . m",
    "cm 2",
    "rs .",
    "rs",
    "kg",
    "g",
    "month",
    "km",
    "m",
    "cm",
    "mm",
    "apple",
    "liter",
    "loss",
    "yard",
    "pure",
    "year",
    "increase",
    "decrease",
    "d",
    "less",
    "Surface",
    "litre",
    "pi sq m",
    "s .",
    "metre",
    "meter",
    "inch",
};

/* Length of the unit at a, 0 when it is not there.  s: with an s behind it. */
static size_t unit_at(kv_span a, const char *unit, int s) {
    size_t i = 0;
    int word;
    for (const char *u = unit; *u; u++) {
        if (i >= a.n) return 0;
        if (*u == '.')
            i += kv_str_char((kv_span){a.s + i, a.n - i}, &word);
        else if (a.s[i++] != *u)
            return 0;
    }
    if (!s) return i;
    return i < a.n && a.s[i] == 's' ? i + 1 : 0;
}

/* Length of the whole match at offset i (the character before the unit, the unit, the one behind it); *before and
 * *after get the lengths of the neighbours. */
static size_t match_at(kv_span a, size_t i, const char *unit, int s, size_t *before, size_t *after) {
    int word;
    size_t c = i < a.n ? kv_str_char((kv_span){a.s + i, a.n - i}, &word) : 0;
    for (int with = i != 0; with <= 1; with++) {
        *before = with ? c : 0;
        if (with && (!c || word)) return 0;
        size_t at = i + *before, n = unit_at((kv_span){a.s + at, a.n - at}, unit, s), end = at + n;
        if (!n) continue;
        *after = 0;
        if (end == a.n) return end - i;
        int word_behind;
        *after = kv_str_char((kv_span){a.s + end, a.n - end}, &word_behind);
        if (!word_behind) return end + *after - i;
    }
    return 0;
}

static void remove_unit(kv_text *t, const char *unit, int s) {
    kv_span a = kv_str_span(t);
    kv_text out = {0};
    size_t i = 0, before, after, n, done = 0;
    size_t fixed = strcspn(unit, ".");
    if (!memmem(a.s, a.n, unit, fixed)) return;
    while (i <= a.n) {
        int word;
        if ((n = match_at(a, i, unit, s, &before, &after))) {
            kv_text_append(&out, a.s + done, i + before - done);
            kv_text_append(&out, a.s + i + n - after, after);
            done = i += n;
        } else {
            i += i < a.n ? kv_str_char((kv_span){a.s + i, a.n - i}, &word) : 1;
        }
    }
    if (done) {
        kv_text_append(&out, a.s + done, a.n - done);
        if (out.n || out.failed) {
            kv_text_free(t);
            *t = out;
            return;
        }
    }
    kv_text_free(&out);
}

void kv_compat_remove_units(kv_text *t) {
    char there[256] = {0}; /* most units do not even begin with a character of the text */
    for (size_t i = 0; i < t->n; i++) there[(unsigned char)t->s[i]] = 1;
    for (int pass = 0; pass < 2; pass++)
        for (int s = 0; s < 2; s++)
            for (size_t k = 0; k < sizeof units / sizeof *units && t->n; k++)
                if (there[(unsigned char)*units[k]]) remove_unit(t, units[k], s);
}
