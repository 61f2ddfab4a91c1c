/* lmeval_minerva.c - minerva_math as lm-evaluation-harness scores it (lm_eval/tasks/minerva_math/utils.py, after
 * appendix D of arXiv 2206.14858), beside the strict verdict.
 *
 * Its metric exact_match is meant: the answer stands in a fixed sentence, both sides are normalised, and SymPy finds
 * their difference zero; here their values at fixed points agree.  What its parser does not read is wrong even when
 * both sides are the same text.  Its second metric, the math-verify package on whole texts, is not reproduced. */
#include "datasets/compat.h"
#include "datasets/math_compare.h"
#include "datasets/math_eval.h"

#include <ctype.h>
#include <string.h>

static const char *const substitutions[][2] = {
    {"an ", ""}, {"a ", ""},       {".$", "$"},           {"\\$", ""},          {"\\ ", ""},
    {" ", ""},   {"mbox", "text"}, {",\\text{and}", ","}, {"\\text{and}", ","}, {"\\text{m}", "\\text{}"}};
static const char *const removed[] = {"square",       "ways",
                                      "integers",     "dollars",
                                      "mph",          "inches",
                                      "ft",           "hours",
                                      "km",           "units",
                                      "\\ldots",      "sue",
                                      "points",       "feet",
                                      "minutes",      "digits",
                                      "cents",        "degrees",
                                      "cm",           "gm",
                                      "pounds",       "meters",
                                      "meals",        "edges",
                                      "students",     "childrentickets",
                                      "multiples",    "\\text{s}",
                                      "\\text{.}",    "\\text{\ns}",
                                      "\\text{}^2",   "\\text{}^3",
                                      "\\text{\n}",   "\\text{}",
                                      "\\mathrm{th}", "^\\circ",
                                      "^{\\circ}",    "\\;",
                                      ",\\!",         "{,}",
                                      "\"",           "\\dots"};

/* The words between "The final answer is" and ". I hope it is correct.", whose points match any character; a line end
 * ends the search.  The reference adds "I hope it is correct." to the output first. */
static int find_sentence(const char *output, kv_text *out) {
    static const char open[] = "Final Answer: The final answer is", close[] = "I hope it is correct";
    kv_text all = {0};
    int found = 0;
    kv_text_puts(&all, output);
    kv_text_puts(&all, "I hope it is correct.");
    kv_span a = kv_str_span(&all);
    for (long at = 0; !found && (at = kv_str_find(a, open, (size_t)at)) >= 0;) {
        at += (long)strlen(open);
        const char *end = memchr(a.s + at, '\n', a.n - (size_t)at);
        kv_span line = {a.s, end ? (size_t)(end - a.s) : a.n};
        long stop = at + 1;
        /* any character, a blank, the words, any character */
        while ((stop = kv_str_find(line, close, (size_t)stop + 1)) >= 0) {
            if ((size_t)stop + strlen(close) == line.n) break;
            if (a.s[stop - 1] != ' ') continue;
            kv_span answer = kv_span_trim((kv_span){a.s + at, (size_t)(stop - 2 - at)});
            kv_text_append(out, answer.s, answer.n);
            found = 1;
            break;
        }
        at = (long)line.n; /* nor does a later sentence of this line end */
    }
    out->failed |= all.failed;
    kv_text_free(&all);
    return found;
}

/* The inside of the first $...$, dollars kept: the reference puts it in place of the whole line. */
static void keep_formula(kv_text *t) {
    kv_span a = kv_str_span(t);
    const char *open = memchr(a.s, '$', a.n),
               *close = open ? memchr(open + 1, '$', a.n - (size_t)(open + 1 - a.s)) : NULL;
    if (close) kv_str_set(t, (kv_span){open, (size_t)(close + 1 - open)});
}

/* open...} -> ...; the first brace closes, or the last with greedy. */
static void unwrap(kv_text *t, const char *open, int greedy) {
    size_t at = 0;
    long from;
    while ((from = kv_str_find(kv_str_span(t), open, at)) >= 0) {
        kv_span a = kv_str_span(t);
        size_t inside = (size_t)from + strlen(open);
        const char *end = (greedy ? memrchr : memchr)(a.s + inside, '}', a.n - inside);
        if (!end) return;
        kv_text out = {0};
        kv_text_append(&out, a.s, (size_t)from);
        kv_text_append(&out, a.s + inside, (size_t)(end - a.s) - inside);
        at = out.n;
        kv_text_append(&out, end + 1, a.n - (size_t)(end + 1 - a.s));
        kv_text_free(t);
        *t = out;
        if (t->failed) return;
    }
}

/* frac12 -> frac{1}{2} (two = 1), sqrt3 -> sqrt{3}: when no brace follows. */
static void brace(kv_text *t, const char *name, int two) {
    size_t at = 0;
    long from;
    int word;
    while ((from = kv_str_find(kv_str_span(t), name, at)) >= 0) {
        kv_span a = kv_str_span(t);
        size_t p = (size_t)from + strlen(name), n[2] = {0, 0};
        at = p;
        if (p == a.n || a.s[p] == '{') continue;
        n[0] = kv_str_char((kv_span){a.s + p, a.n - p}, &word);
        if (two && p + n[0] == a.n) continue;
        if (two) n[1] = kv_str_char((kv_span){a.s + p + n[0], a.n - p - n[0]}, &word);
        kv_text out = {0};
        kv_text_append(&out, a.s, p);
        for (int k = 0; k <= two; k++) {
            kv_text_append(&out, "{", 1);
            kv_text_append(&out, a.s + p + (k ? n[0] : 0), n[k]);
            kv_text_append(&out, "}", 1);
        }
        at = out.n;
        kv_text_append(&out, a.s + p + n[0] + n[1], a.n - p - n[0] - n[1]);
        kv_text_free(t);
        *t = out;
        if (t->failed) return;
    }
}

static void normalise(kv_text *t) {
    kv_span a = kv_str_span(t);
    const char *eq = memrchr(a.s, '=', a.n);
    if (eq) kv_str_set(t, (kv_span){eq + 1, a.n - (size_t)(eq + 1 - a.s)});
    for (size_t k = 0; k < sizeof substitutions / sizeof *substitutions; k++)
        kv_str_replace(t, substitutions[k][0], substitutions[k][1]);
    for (size_t k = 0; k < sizeof removed / sizeof *removed; k++) kv_str_replace(t, removed[k], "");
    keep_formula(t);
    unwrap(t, "\\text{", 0);
    unwrap(t, "\\textbf{", 0);
    unwrap(t, "\\overline{", 0);
    unwrap(t, "\\boxed{", 1);
    brace(t, "frac", 1);
    brace(t, "sqrt", 0);
    kv_str_replace(t, "$", "");
    int digits = 0;
    a = kv_str_span(t);
    for (size_t i = 0; i < a.n; i++) {
        if (a.s[i] != ',' && !isdigit((unsigned char)a.s[i])) return;
        digits += a.s[i] != ',';
    }
    if (digits) kv_str_replace(t, ",", "");
}

/* SymPy's parser wants a digit before the point. */
static int starts_with_point(kv_span a) {
    return a.n && *a.s == '.';
}

static int is_equivalent(kv_span a, kv_span b) {
    kv_math_answer x, y;
    if (a.n > KV_LATEX_MAX_BYTES || b.n > KV_LATEX_MAX_BYTES || starts_with_point(a) || starts_with_point(b)) return 0;
    kv_math_parse(a, KV_PARSE_PLAIN, &x);
    kv_math_parse(b, KV_PARSE_PLAIN, &y);
    int same = x.root && y.root && kv_math_is_scalar(x.root) && kv_math_is_scalar(y.root) &&
               kv_math_same_values(x.root, y.root);
    kv_math_answer_free(&x);
    kv_math_answer_free(&y);
    kv_math_eval_done();
    return same;
}

static void grade(const void *data, const char *gold, const char *output, kv_grade *g) {
    kv_text answer = {0}, want = {0};
    (void)data;
    kv_grade_strict(gold, output, 0, g);
    if (find_sentence(output, &answer) && answer.n <= KV_COMPAT_MAX) {
        kv_str_set(&want, (kv_span){gold, strlen(gold)});
        normalise(&answer);
        normalise(&want);
        g->compat = !answer.failed && !want.failed && is_equivalent(kv_str_span(&answer), kv_str_span(&want));
    }
    kv_text_free(&answer);
    kv_text_free(&want);
}

const kv_grader kv_grader_lmeval_minerva = {.name = "lmeval_minerva", .version = 3, .sets_compat = 1, .grade = grade};
