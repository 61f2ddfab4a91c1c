/* lmeval_gsm8k.c - GSM8K as lm-evaluation-harness scores it (the YAML files of lm_eval/tasks/gsm8k, versions 3.0
 * and 4.0), beside the strict verdict.
 *
 * Two filters read each output: strict-match, a sentence of the prompt's examples, is the compat verdict;
 * flexible-extract, the last number, is told in the reason.  Both are exact string matches. */
#include "datasets/compat.h"
#include "datasets/math_compare.h"

#include <string.h>

static size_t run(const char *p, const char *set) {
    return strspn(p, set);
}

/* First "#### -?[0-9.,]+" */
static kv_span match_hash(const char *output) {
    for (const char *p = output; (p = strstr(p, "#### "));) {
        p += strlen("#### ");
        size_t minus = *p == '-', n = run(p + minus, "0123456789.,");
        if (n) return (kv_span){p, minus + n};
    }
    return (kv_span){NULL, 0};
}

/* First "The answer is (-?[0-9.,]+)." whose last point is any character but a line end: when none is left, the group
 * gives one of its own back ("The answer is 18" is 1). */
static kv_span match_answer(const char *output) {
    for (const char *p = output; (p = strstr(p, "The answer is "));) {
        p += strlen("The answer is ");
        size_t minus = *p == '-', n = run(p + minus, "0123456789.,");
        int more = p[minus + n] && p[minus + n] != '\n';
        if (n >= (more ? 1 : 2)) return (kv_span){p, minus + n - !more};
    }
    return (kv_span){NULL, 0};
}

/* A match of (-?[$0-9.,]{2,})|(-?[0-9]+) that starts at p; its length or 0. */
static size_t flexible_at(const char *p) {
    size_t minus = *p == '-', n = run(p + minus, "$0123456789.,"), digits = run(p + minus, "0123456789");
    if (n >= 2) return minus + n;
    return digits ? minus + digits : 0;
}

static kv_span match_last_number(const char *output) {
    kv_span last = {NULL, 0};
    for (const char *p = output; *p;) {
        size_t n = flexible_at(p);
        if (n) last = (kv_span){p, n};
        p += n ? n : 1;
    }
    return last;
}

static kv_span match_final(const char *output) {
    kv_span last = {NULL, 0};
    for (const char *p = output; (p = strstr(p, "The final answer is "));) {
        p += strlen("The final answer is ");
        size_t n = flexible_at(p);
        if (n) last = (kv_span){p, n};
    }
    return last;
}

/* Without commas, dollar signs and one last point. */
static void clean(kv_span a, kv_text *out) {
    kv_text_append(out, "", 0);
    for (size_t i = 0; i < a.n; i++)
        if (a.s[i] != ',' && a.s[i] != '$') kv_text_append(out, a.s + i, 1);
    if (out->n && out->s[out->n - 1] == '.') out->s[--out->n] = 0;
}

static int exact_match(kv_span found, const char *gold) {
    kv_text a = {0}, b = {0};
    if (!found.s) return 0;
    clean(kv_span_trim(found), &a);
    clean((kv_span){gold, strlen(gold)}, &b);
    int same = !a.failed && !b.failed && kv_str_same_case_blind(kv_str_span(&a), kv_str_span(&b));
    kv_text_free(&a);
    kv_text_free(&b);
    return same;
}

static void grade(const char *gold, const char *output, kv_span strict_match, kv_grade *g) {
    static const char *const reasons[2][2] = {
        {"flexible-extract wrong", "flexible-extract right"},
        {"flexible-extract wrong, strict-match right", "flexible-extract right, strict-match right"}};
    kv_grade_strict(gold, output, KV_PARSE_PERCENT, g);
    int sm = exact_match(strict_match, gold), flexible = exact_match(match_last_number(output), gold);
    g->compat = sm;
    g->reason = reasons[sm][flexible];
}

static void grade_hash(const void *data, const char *gold, const char *output, kv_grade *g) {
    (void)data;
    grade(gold, output, match_hash(output), g);
}

static void grade_cot(const void *data, const char *gold, const char *output, kv_grade *g) {
    (void)data;
    grade(gold, output, match_answer(output), g);
}

static void grade_llama(const void *data, const char *gold, const char *output, kv_grade *g) {
    (void)data;
    grade(gold, output, match_final(output), g);
}

const kv_grader kv_grader_lmeval_gsm8k = {.name = "lmeval_gsm8k", .version = 3, .sets_compat = 1, .grade = grade_hash};
const kv_grader kv_grader_lmeval_cot = {.name = "lmeval_gsm8k_cot", .version = 3, .sets_compat = 1, .grade = grade_cot};
const kv_grader kv_grader_lmeval_llama = {
    .name = "lmeval_gsm8k_llama", .version = 3, .sets_compat = 1, .grade = grade_llama};
