/* grade_longbench.c - LongBench's metrics (github.com/THUDM/LongBench, LongBench/metrics.py and eval.py at 2e00731).
 *
 * The score of an output is that of the best reference answer.  Graders ending in _line look at the first line behind
 * leading newlines only, as eval.py does for trec, triviaqa, samsum and lsht.  Oddities of the published code are
 * part of the metrics: the class list loses names while it is walked, which skips the next one, and all numbers in an
 * answer count, so "Paragraph 3 of 30" is half right.  Code similarity depends on the installation there: `score` is
 * difflib's, which the packages of their requirements.txt give, `partial` that of python-Levenshtein.
 *
 * longbench_v2 (pred.py, extract_answer) looks for "The correct answer is (X)", then without parentheses, after
 * deleting every asterisk; no letter is a wrong answer.
 *
 * Bytes that are no UTF-8 count as U+FFFD, as in Python's decoding. */
#include "datasets/longbench_metric.h"

#include <stdlib.h>
#include <string.h>

#include "datasets/similar.h"
#include "datasets/unicode.h"

static kv_span span_of(const char *s) {
    return (kv_span){s, strlen(s)};
}

static const char *find(kv_span text, const char *what) {
    return memmem(text.s, text.n, what, strlen(what));
}

/* The next run of digits; 0 when there is none.  Moves *rest behind it. */
static int next_number(kv_span *rest, kv_span *number) {
    const char *p = rest->s, *end = p + rest->n, *from = NULL, *stop = p;
    while (p < end) {
        const char *here = p;
        int digit = kv_is_digit(kv_utf8_next(&p, end));
        if (digit && !from) from = here;
        if (digit) stop = p;
        if (!digit && from) break;
    }
    if (!from) return 0;
    *number = (kv_span){from, (size_t)(stop - from)};
    *rest = (kv_span){stop, (size_t)(end - stop)};
    return 1;
}

/* Share of the numbers in the text that are this one. */
static int share_of(kv_span text, kv_span number, kv_longbench_scores *s) {
    int right = 0, all = 0;
    for (kv_span x; next_number(&text, &x); all++) right += kv_span_equal(x, number);
    if (all) s->score = s->compat = s->partial = (double)right / all;
    return KV_OK;
}

static int count(const kv_longbench *d, kv_span prediction, kv_span answer, kv_longbench_scores *s) {
    (void)d;
    return share_of(prediction, answer, s);
}

/* The number right behind the first `word` that has one. */
static int paragraph(const char *word, kv_span prediction, kv_span answer, kv_longbench_scores *s) {
    for (const char *p; (p = find(answer, word));) {
        p += strlen(word);
        answer = (kv_span){p, (size_t)(answer.s + answer.n - p)};
        kv_span rest = answer, number;
        if (next_number(&rest, &number) && number.s == p) return share_of(prediction, number, s);
    }
    return KV_OK;
}

static int retrieval(const kv_longbench *d, kv_span prediction, kv_span answer, kv_longbench_scores *s) {
    (void)d;
    return paragraph("Paragraph ", prediction, answer, s);
}

static int retrieval_zh(const kv_longbench *d, kv_span prediction, kv_span answer, kv_longbench_scores *s) {
    (void)d;
    return paragraph("\xe6\xae\xb5\xe8\x90\xbd", prediction, answer, s);
}

static int classification(const kv_longbench *d, kv_span prediction, kv_span answer, kv_longbench_scores *s) {
    const char **list = malloc(((size_t)d->n_classes + 1) * sizeof *list);
    int n = 0, found = 0;
    if (!list) return KV_ENOMEM;
    for (int i = 0; i < d->n_classes; i++)
        if (find(prediction, d->classes[i])) list[n++] = d->classes[i];
    for (int i = 0; i < n; i++) { /* list.remove inside `for x in list`: takes the first equal name, skips one */
        kv_span x = span_of(list[i]);
        if (!find(answer, list[i]) || kv_span_equal(x, answer)) continue;
        int k = 0;
        while (strcmp(list[k], list[i])) k++;
        memmove(list + k, list + k + 1, (size_t)(--n - k) * sizeof *list);
    }
    for (int i = 0; i < n; i++) found |= kv_span_equal(span_of(list[i]), answer);
    if (found) s->score = s->compat = s->partial = 1.0 / n;
    free(list);
    return KV_OK;
}

static int code(const kv_longbench *d, kv_span prediction, kv_span answer, kv_longbench_scores *s) {
    kv_span line, chosen = {prediction.s, 0};
    int blocks, indel;
    (void)d;
    while (prediction.n && *prediction.s == '\n') prediction.s++, prediction.n--;
    while (kv_span_line(&prediction, &line))
        if (!find(line, "`") && !find(line, "#") && !find(line, "//")) {
            chosen = line;
            break;
        }
    int rc = kv_similar(chosen.s, chosen.n, answer.s, answer.n, &blocks, &indel);
    if (rc) return rc;
    s->score = s->compat = blocks / 100.0;
    s->partial = indel / 100.0;
    return KV_OK;
}

/* --- grading -------------------------------------------------------------------------------------------------- */

static void raise_to(double *best, double x) {
    if (x > *best) *best = x;
}

/* The output as UTF-8: itself, or a copy in *copy when some of its bytes are none. */
static kv_span valid(const char *output, kv_text *copy) {
    const char *end = output + strlen(output);
    int ok = 1;
    for (const char *p = output; ok && p < end;) {
        const char *from = p;
        ok = kv_utf8_next(&p, end) != 0xfffd || (p - from == 3 && !memcmp(from, "\xef\xbf\xbd", 3));
    }
    if (ok) return span_of(output);
    for (const char *p = output; p < end;) kv_utf8_put(copy, kv_utf8_next(&p, end));
    return (kv_span){copy->s ? copy->s : "", copy->failed ? 0 : copy->n};
}

static void grade_by(kv_longbench_metric *metric, int first_line, const void *data, const char *output, kv_grade *g) {
    const kv_longbench *d = data;
    kv_text copy = {0};
    kv_span text = valid(output, &copy);
    if (first_line) {
        kv_span rest = text;
        while (rest.n && *rest.s == '\n') rest.s++, rest.n--;
        kv_span_line(&rest, &text);
    }
    for (int i = 0; i < d->n_answers; i++) {
        kv_longbench_scores s = {0};
        int rc = metric(d, text, span_of(d->answers[i]), &s);
        if (rc) g->reason = rc == KV_ELIMIT ? "too long to be compared" : "no memory to compare";
        raise_to(&g->score, s.score);
        raise_to(&g->compat, s.compat);
        raise_to(&g->partial, s.partial);
    }
    if (copy.failed) g->reason = "no memory to compare";
    kv_span answer = kv_span_trim(text);
    if (answer.n) kv_grade_extract(g, answer);
    kv_text_free(&copy);
}

#define GRADER(symbol, title, metric, line, words)                                                                     \
    static void grade_##symbol(const void *data, const char *gold, const char *output, kv_grade *g) {                  \
        (void)gold;                                                                                                    \
        grade_by(metric, line, data, output, g);                                                                       \
    }                                                                                                                  \
    const kv_grader kv_grader_longbench_##symbol = {.name = "longbench_" title,                                        \
                                                    .version = 1,                                                      \
                                                    .data_kind = "longbench",                                          \
                                                    .sets_compat = 1,                                                  \
                                                    .needs_words = words,                                              \
                                                    .grade = grade_##symbol};

GRADER(f1, "f1", kv_longbench_f1, 0, 0)
GRADER(f1_line, "f1_line", kv_longbench_f1, 1, 0)
GRADER(f1_zh, "f1_zh", kv_longbench_f1_zh, 0, 1)
GRADER(f1_zh_char, "f1_zh_char", kv_longbench_f1_zh_char, 0, 0)
GRADER(rouge, "rouge", kv_longbench_rouge, 0, 0)
GRADER(rouge_line, "rouge_line", kv_longbench_rouge, 1, 0)
GRADER(rouge_zh, "rouge_zh", kv_longbench_rouge_zh, 0, 1)
GRADER(rouge_zh_char, "rouge_zh_char", kv_longbench_rouge_zh_char, 0, 0)
GRADER(class_line, "class_line", classification, 1, 0)
GRADER(retrieval, "retrieval", retrieval, 0, 0)
GRADER(retrieval_zh, "retrieval_zh", retrieval_zh, 0, 0)
GRADER(count, "count", count, 0, 0)
GRADER(code, "code", code, 0, 0)

/* The letter behind the first `before` in the text that one follows, and then `after`; 0 when there is none. */
static const char *letter(const char *text, const char *before, const char *after) {
    for (const char *p = text; (p = strstr(p, before)); p++) {
        const char *c = p + strlen(before);
        if (*c >= 'A' && *c <= 'D' && !strncmp(c + 1, after, strlen(after))) return c;
    }
    return NULL;
}

static void grade_v2(const void *data, const char *gold, const char *output, kv_grade *g) {
    char *plain = strdup(output), *to = plain;
    (void)data;
    if (!plain) {
        g->reason = "no memory to look for the answer";
        return;
    }
    for (const char *p = output; *p; p++)
        if (*p != '*') *to++ = *p;
    *to = 0;
    const char *c = letter(plain, "The correct answer is (", ")");
    g->rule = c ? "in parentheses" : NULL;
    if (!c && (c = letter(plain, "The correct answer is ", ""))) g->rule = "without parentheses";
    if (c) kv_grade_extract(g, (kv_span){c, 1});
    g->score = g->partial = c && gold[0] == *c && !gold[1];
    free(plain);
}

const kv_grader kv_grader_longbench_v2 = {.name = "longbench_v2", .version = 1, .grade = grade_v2};
