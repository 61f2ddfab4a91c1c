/* grade_tom.c - belief traces: LongProc's evaluator of tom_tracking (longproc_data.py eval_tom_tracking,
 * tom_tracking_evaluator.py).
 *
 * compat: the output's lines whose first visible character is `-`; of those the ones with the `-` in column 0 (the
 * first line counts as if it had), without it, lower case, without ASCII punctuation, the right single quote and the
 * words below; empty ones vanish.  1 when the list equals the reference's.  Partial: the index of the first difference
 * / lines, or the shorter length / lines where one list begins the other.  The last line, "Final Answer:", is not
 * looked at, and bullets of a preamble spoil the alignment.
 *
 * score also wants the final answer, and of an output with a </think> reads only what follows. */
#include "datasets/fold.h"
#include "datasets/unicode.h"

#include <string.h>

static const char *const filler[] = {"a",        "an",    "the",      "on",      "in", "at",  "step",
                                     "thinks",   "think", "believes", "believe", "is", "are", "of",
                                     "location", "know",  "knows",    "belief",  NULL};
static const kv_fold how = {.words = filler, .drop_quote = 1, .keep_blanks = 1};

/* As str.splitlines: cuts the part before the next line end off *rest into *line; 0 at the end. */
static int take_line(kv_span *rest, kv_span *line) {
    const char *s = rest->s, *end = rest->s + rest->n;
    if (!rest->n) return 0;
    while (s < end) {
        const char *at = s;
        uint32_t c = kv_utf8_next(&s, end);
        if ((c < 0x0a || c > 0x0d) && (c < 0x1c || c > 0x1e) && c != 0x85 && c != 0x2028 && c != 0x2029) continue;
        if (c == '\r' && s < end && *s == '\n') s++;
        *line = (kv_span){rest->s, (size_t)(at - rest->s)};
        *rest = (kv_span){s, (size_t)(end - s)};
        return 1;
    }
    *line = *rest;
    *rest = (kv_span){end, 0};
    return 1;
}

/* Appends the beliefs of a text, each with a newline; returns how many. */
static size_t list_beliefs(const char *text, kv_text *out) {
    kv_span rest = {text, strlen(text)}, line;
    size_t n = 0;
    for (int first = 1; take_line(&rest, &line);) {
        kv_span inner = kv_unicode_trim(line);
        if (!inner.n || inner.s[0] != '-') continue;
        if (first) line = inner;
        first = 0;
        if (line.s[0] != '-') continue;
        size_t at = out->n;
        kv_fold_text((kv_span){line.s + 1, line.n - 1}, &how, out);
        if (out->n == at) continue;
        kv_text_puts(out, "\n");
        n++;
    }
    return n;
}

/* How many leading lines two lists share. */
static size_t count_equal(const char *a, const char *b) {
    size_t n = 0;
    for (;;) {
        size_t k = strcspn(a, "\n");
        if (!a[k] || strncmp(a, b, k + 1)) return n;
        a += k + 1;
        b += k + 1;
        n++;
    }
}

/* 1 when the beliefs are the reference's; *partial as described above. */
static int compare_beliefs(const char *text, const char *gold, double *partial) {
    kv_text a = {0}, b = {0};
    size_t n_a = list_beliefs(text, &a), n_b = list_beliefs(gold, &b);
    size_t equal = n_a && n_b && !a.failed && !b.failed ? count_equal(a.s, b.s) : 0;
    *partial = n_b ? (double)equal / (double)n_b : 0;
    kv_text_free(&a);
    kv_text_free(&b);
    return n_a == n_b && equal == n_b;
}

/* The text behind the last "Final Answer:" up to the end of its line; NULL s when there is none. */
static kv_span final_answer(const char *text) {
    static const char mark[] = "Final Answer:";
    kv_span rest = {NULL, 0}, line = {NULL, 0};
    for (const char *p = text; (p = strstr(p, mark));) {
        p += strlen(mark);
        rest = (kv_span){p, strlen(p)};
    }
    return rest.s && kv_span_line(&rest, &line) ? kv_unicode_trim(line) : (kv_span){NULL, 0};
}

static int same_answer(kv_span a, kv_span b) {
    kv_text x = {0}, y = {0};
    kv_fold_text(a, &how, &x);
    kv_fold_text(b, &how, &y);
    int same = x.n == y.n && x.n && !memcmp(x.s, y.s, x.n);
    kv_text_free(&x);
    kv_text_free(&y);
    return same;
}

static void grade(const void *data, const char *gold, const char *output, kv_grade *g) {
    const char *final = kv_after_thinking(output);
    kv_span answer = final_answer(final), want = final_answer(gold);
    double ignored;
    (void)data;
    g->compat = compare_beliefs(output, gold, &ignored);
    int right = compare_beliefs(final, gold, &g->partial);
    if (answer.s) kv_grade_extract(g, answer);
    int answered = answer.s && want.s && same_answer(answer, want);
    g->score = right && answered;
    g->rule = "lines that start with -";
    g->reason = !right ? "the trace differs" : !answered ? "the trace is right, its final answer is not" : NULL;
}

const kv_grader kv_grader_tom = {.name = "tom_tracking", .version = 1, .sets_compat = 1, .grade = grade};
