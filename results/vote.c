/* vote.c - the spelling of answers taken away, so that a majority is one of answers and not of spellings; see vote.h.
 *
 * By text alone: the results know no grader. */
#include "results/vote.h"

#include <ctype.h>
#include <string.h>

static size_t starts(const char *p, const char *with) {
    size_t n = strlen(with);
    return strncmp(p, with, n) ? 0 : n;
}

/* Length of a command at p that means nothing for the value. */
static size_t dressing(const char *p) {
    static const char *const marks[] = {"^{\\circ}", "^\\circ", "\\degree", "\\left", "\\right", "\\displaystyle",
                                        "\\quad",    "\\qquad", "\\!",      "\\,",    "\\;",     "\\:",
                                        "\\ ",       "\\(",     "\\)",      "\\[",    "\\]",     "\\$",
                                        "{,}",       "$",       "~",        " ",      "\t",      "\n"};
    for (size_t k = 0; k < sizeof marks / sizeof *marks; k++) {
        size_t n = starts(p, marks[k]);
        int letters = n > 2 && isalpha((unsigned char)marks[k][n - 1]);
        if (n && !(letters && isalpha((unsigned char)p[n]))) return n;
    }
    return 0;
}

/* Length of \text{ at p. */
static size_t wrapper(const char *p) {
    static const char *const marks[] = {"\\text{", "\\mbox{", "\\mathrm{", "\\textbf{", "\\mathbf{"};
    for (size_t k = 0; k < sizeof marks / sizeof *marks; k++) {
        size_t n = starts(p, marks[k]);
        if (n) return n;
    }
    return 0;
}

/* \frac12 and \frac{1}{2} as 1/2; returns what was read, 0 when it is no fraction of whole numbers. */
static size_t fraction(const char *p, char *out, size_t size, size_t *n) {
    static const char *const marks[] = {"\\frac", "\\dfrac", "\\tfrac", "\\cfrac"};
    size_t at = 0, used = 0;
    for (size_t k = 0; k < 4 && !at; k++) at = starts(p, marks[k]);
    if (!at) return 0;
    for (int half = 0; half < 2; half++) {
        while (p[at] == ' ') at++;
        size_t group = p[at] == '{', digits = strspn(p + at + group, "0123456789");
        if (!group && digits > 1) digits = 1;
        if (!digits || (group && p[at + 1 + digits] != '}') || used + digits + 1 >= size) return 0;
        memcpy(out + used, p + at + group, digits);
        used += digits;
        if (!half) out[used++] = '/';
        at += digits + 2 * group;
    }
    *n = used;
    return at;
}

/* The number that s begins with, if any: its digits without commas and needless zeros. */
static void number(char *s, size_t size) {
    size_t at = s[0] == '-' || s[0] == '+', whole = strspn(s + at, "0123456789"), n = 0, rest = at + whole;
    char out[512];
    while (whole && s[rest] == ',' && strspn(s + rest + 1, "0123456789") == 3) rest += 4;
    size_t decimals = s[rest] == '.' ? strspn(s + rest + 1, "0123456789") : 0;
    if ((!whole && !decimals) || rest + decimals + 2 >= sizeof out) return;
    if (whole > 3 && rest > at + whole) return; /* 1234,567 is a list */
    if (s[0] == '-') out[n++] = '-';
    size_t first = n;
    for (size_t i = at; i < rest; i++)
        if (s[i] != ',' && (s[i] != '0' || n > first)) out[n++] = s[i];
    if (n == first) out[n++] = '0';
    size_t end = rest + (decimals ? decimals + 1 : 0);
    size_t last = end;
    while (decimals && s[last - 1] == '0') last--;
    if (decimals && s[last - 1] != '.') {
        memcpy(out + n, s + rest, last - rest);
        n += last - rest;
    }
    if (n + strlen(s + end) >= size) return;
    memmove(s + n, s + end, strlen(s + end) + 1); /* first: .5 grows to 0.5 */
    memcpy(s, out, n);
}

/* Words behind a number are its unit. */
static int is_unit(const char *p) {
    size_t blanks = strspn(p, " "), letters = 0;
    if (!blanks || !isalpha((unsigned char)p[blanks]) || !isalpha((unsigned char)p[blanks + 1])) return 0;
    for (; *p; p++) letters += !isalpha((unsigned char)*p) && !strchr(" .", *p);
    return !letters;
}

/* Between these characters a/b would mean another value than the fraction. */
static int is_bound(char before, char behind) {
    return (before && strchr("^_/", before)) || (behind && strchr("^!0123456789", behind));
}

static size_t strip(const char *p, char *out, size_t size) {
    size_t n = 0, read, written;
    int open = 0; /* wrappers whose brace is still to come; formulas have none inside them */
    while (*p && n + 1 < size) {
        int behind_digit = n && isdigit((unsigned char)out[n - 1]);
        if (behind_digit && is_unit(p)) break;
        if ((read = wrapper(p))) {
            size_t inside = strcspn(p + read, "{}");
            if (behind_digit && p[read + inside] == '}' && !p[read + inside + 1]) break;
            open++;
        } else if (open && *p == '}') {
            open--;
            read = 1;
        } else if ((read = fraction(p, out + n + behind_digit, size - n - (size_t)behind_digit, &written)) &&
                   !is_bound(n ? out[n - 1] : 0, p[read])) {
            if (behind_digit) out[n++] = ' '; /* 2\frac12 is not 21/2 */
            n += written;
        } else if (starts(p, "\\dfrac") || starts(p, "\\tfrac") || starts(p, "\\cfrac")) {
            out[n++] = '\\';
            read = 2;
        } else if (starts(p, "\\\\") && n + 2 < size) { /* a row ends; its blank is none of \\ */
            out[n++] = '\\';
            out[n++] = '\\';
            read = 2;
        } else if (behind_digit && (read = strspn(p, " \t\n~")) && isdigit((unsigned char)p[read])) {
            out[n++] = ' '; /* nor is 2 1/2 */
        } else if (!(read = dressing(p))) {
            out[n++] = *p;
            read = 1;
        }
        p += read;
    }
    while (n && out[n - 1] == '.') n--;
    out[n] = 0;
    return n;
}

size_t kv_vote_text(const char *answer, char *out, size_t size) {
    size_t n = strip(answer, out, size);
    if (n > 2 && isalpha((unsigned char)out[0]) && out[1] == '=') memmove(out, out + 2, (n -= 2) + 1);
    if (n == 3 && out[0] == '(' && isalpha((unsigned char)out[1]) && out[2] == ')')
        memcpy(out, out + 1, 1), out[n = 1] = 0;
    if (strspn(out, "+-.,0123456789") == n) number(out, size);
    n = strlen(out);
    size_t letters = 0;
    while (letters < n && isalpha((unsigned char)out[letters])) letters++;
    for (size_t i = 0; letters == n && i < n; i++) out[i] = (char)tolower((unsigned char)out[i]);
    return n;
}
