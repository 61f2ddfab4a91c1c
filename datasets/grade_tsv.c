/* grade_tsv.c - tables extracted from web pages: LongProc's evaluator of html_to_tsv (html_to_tsv_evaluator.py).
 *
 * The text from the first ```tsv to the last ``` (else all behind ```tsv, else the whole output) is read as
 * tab-separated lines with the quoting of Python's csv module.  The first line only says how many columns there are.  A
 * last line of another width is dropped, any other such line counts as a row of N/A.  Cells are compared lower case
 * without ASCII punctuation, articles and blanks.  F1 joins the share of predicted rows that the reference has and the
 * share of reference rows that were predicted, in any order, each row counted as often as it occurs.  A header with
 * another number of columns or with a name twice (which the reference's data frame cannot take), and a table without a
 * row, score 0.
 *
 * score differs from compat in two points: after a </think> only what follows is read, and rows pair off one to one,
 * so that a right row written twice counts once.  partial is the recall of score. */
#include "datasets/csv.h"
#include "datasets/fold.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    double f1, recall;
} shares;

static kv_span find_table(const char *output) {
    const char *open = strstr(output, "```tsv"), *close = NULL;
    if (!open) return kv_unicode_trim((kv_span){output, strlen(output)});
    open += strlen("```tsv");
    for (const char *p = open; (p = strstr(p, "```")); p++) close = p;
    if (close) return kv_unicode_trim((kv_span){open, (size_t)(close - open)});
    return kv_unicode_trim((kv_span){open, strlen(open)});
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* How many rows of a occur in b; both sorted. */
static size_t count_in(const kv_csv *a, const kv_csv *b) {
    size_t n = 0;
    for (size_t i = 0, k = 0; i < a->n_rows; i++) {
        while (k < b->n_rows && strcmp(b->rows[k], a->rows[i]) < 0) k++;
        n += k < b->n_rows && !strcmp(b->rows[k], a->rows[i]);
    }
    return n;
}

/* How many rows pair off one to one; both sorted. */
static size_t count_pairs(const kv_csv *a, const kv_csv *b) {
    size_t n = 0;
    for (size_t i = 0, k = 0; i < a->n_rows && k < b->n_rows;) {
        int c = strcmp(a->rows[i], b->rows[k]);
        n += c == 0;
        i += c <= 0;
        k += c >= 0;
    }
    return n;
}

static shares share(size_t right, size_t found, const kv_csv *prediction, const kv_csv *gold) {
    double p = (double)right / (double)prediction->n_rows, r = (double)found / (double)gold->n_rows;
    return (shares){p + r > 0 ? 2 * r * p / (r + p) : 0, r};
}

/* NULL, or why the table cannot be compared. */
static const char *compare(kv_span answer, const char *gold_text, int one_to_one, shares *out) {
    kv_csv gold, prediction;
    *out = (shares){0, 0};
    int ok = kv_csv_read(kv_unicode_trim((kv_span){gold_text, strlen(gold_text)}), &gold);
    const char *why = kv_csv_read(answer, &prediction) ? NULL : prediction.error;
    if (!ok) why = gold.error;
    if (!why && (!prediction.n_rows || !gold.n_rows)) why = "the table has no row";
    if (!why && prediction.n_columns != gold.n_columns) why = "the table has another number of columns";
    if (!why) {
        qsort(gold.rows, gold.n_rows, sizeof *gold.rows, by_text);
        qsort(prediction.rows, prediction.n_rows, sizeof *prediction.rows, by_text);
        size_t pairs = count_pairs(&prediction, &gold);
        *out = share(one_to_one ? pairs : count_in(&prediction, &gold),
                     one_to_one ? pairs : count_in(&gold, &prediction), &prediction, &gold);
    }
    kv_csv_free(&gold);
    kv_csv_free(&prediction);
    return why;
}

static void grade(const void *data, const char *gold, const char *output, kv_grade *g) {
    const char *final = kv_after_thinking(output);
    kv_span answer = find_table(final);
    shares strict, compat;
    (void)data;
    compare(find_table(output), gold, 0, &compat);
    g->compat = compat.f1;
    g->rule = strstr(final, "```tsv") ? "tsv block" : "whole output";
    g->reason = compare(answer, gold, 1, &strict);
    if (g->reason) return;
    kv_grade_extract(g, answer);
    g->score = strict.f1;
    g->partial = strict.recall;
}

const kv_grader kv_grader_tsv = {.name = "html_to_tsv", .version = 1, .sets_compat = 1, .grade = grade};
