/* grade_math.c - maths answers: a strict verdict (math_compare.h) and that of the grader of R-KV and TRIM-KV
 * (compat.h), on every output.
 *
 * math is for golds in LaTeX (MATH-500).  integer is for whole golds (GSM8K, AIME): 25\% and 025 are 25. */
#include "datasets/compat.h"
#include "datasets/math_compare.h"
#include "datasets/math_extract.h"

#include <string.h>

void kv_grade_strict(const char *gold, const char *output, unsigned flags, kv_grade *g) {
    kv_span answer;
    g->rule = kv_math_extract(output, &answer);
    if (!g->rule) {
        g->rule = "none";
        g->reason = "no answer";
        return;
    }
    kv_grade_extract(g, answer);
    g->score = g->partial = kv_math_strict((kv_span){gold, strlen(gold)}, answer, flags, &g->reason);
}

static void grade_math(const void *data, const char *gold, const char *output, kv_grade *g) {
    (void)data;
    kv_grade_strict(gold, output, 0, g);
    g->compat = kv_compat_grade(gold, output);
}

static void grade_integer(const void *data, const char *gold, const char *output, kv_grade *g) {
    (void)data;
    kv_grade_strict(gold, output, KV_PARSE_PERCENT, g);
    g->compat = kv_compat_grade(gold, output);
}

const kv_grader kv_grader_math = {.name = "math", .version = 3, .sets_compat = 1, .grade = grade_math};
const kv_grader kv_grader_integer = {.name = "integer", .version = 3, .sets_compat = 1, .grade = grade_integer};
