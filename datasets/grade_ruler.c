/* grade_ruler.c - RULER's two metrics (arXiv 2404.06654; NVIDIA/RULER, scripts/eval/synthetic/constants.py), and the
 * one for needles made of phrases.
 *
 * The references are the lines of gold; each is looked for anywhere in the output, upper and lower case alike and
 * without regard to word borders ("12" is in "4123").
 *   ruler_all:    the share of references found (string_match_all)
 *   ruler_part:   1 when any is found (string_match_part)
 *   all_phrases:  1 when all are found; partial is their share
 */
#include "datasets/graders.h"
#include "datasets/unicode.h"

#include <string.h>

/* Share of the references found. */
static double match(const char *gold, const char *output, kv_grade *g) {
    kv_text low = {0}, refs = {0};
    kv_span answer = kv_span_trim((kv_span){output, strlen(output)}), ref;
    int n = 0, found = 0;
    if (answer.n) kv_grade_extract(g, answer);
    kv_unicode_lower(output, strlen(output), &low);
    kv_unicode_lower(gold, strlen(gold), &refs);
    kv_text_append(&low, "", 0);
    kv_text_append(&refs, "", 0);
    int failed = low.failed || refs.failed;
    if (failed) g->reason = "no memory to compare";
    for (kv_span rest = {failed ? NULL : refs.s, refs.n}; kv_span_line(&rest, &ref); n++)
        found += memmem(low.s, low.n, ref.s, ref.n) != NULL;
    kv_text_free(&low);
    kv_text_free(&refs);
    return n ? (double)found / n : 0;
}

static void grade_all(const void *data, const char *gold, const char *output, kv_grade *g) {
    (void)data;
    g->score = g->partial = match(gold, output, g);
}

static void grade_part(const void *data, const char *gold, const char *output, kv_grade *g) {
    (void)data;
    g->score = g->partial = match(gold, output, g) > 0;
}

static void grade_phrases(const void *data, const char *gold, const char *output, kv_grade *g) {
    (void)data;
    g->partial = match(gold, output, g);
    g->score = g->partial == 1;
}

const kv_grader kv_grader_ruler_all = {.name = "ruler_all", .version = 2, .grade = grade_all};
const kv_grader kv_grader_ruler_part = {.name = "ruler_part", .version = 2, .grade = grade_part};
const kv_grader kv_grader_all_phrases = {.name = "all_phrases", .version = 2, .grade = grade_phrases};
