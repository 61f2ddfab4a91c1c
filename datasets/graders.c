/* graders.c - the table of graders and what they share; see graders.h. */
#include "datasets/graders.h"

#include <stdio.h>
#include <string.h>

static const kv_grader *const graders[] = {&kv_grader_countdown,
                                           &kv_grader_countdown_short,
                                           &kv_grader_path,
                                           &kv_grader_path_short,
                                           &kv_grader_needle,
                                           &kv_grader_gsm8k_short,
                                           &kv_grader_math,
                                           &kv_grader_integer,
                                           &kv_grader_lmeval_gsm8k,
                                           &kv_grader_lmeval_cot,
                                           &kv_grader_lmeval_llama,
                                           &kv_grader_lmeval_minerva,
                                           &kv_grader_lmeval_hendrycks,
                                           &kv_grader_lmeval_aime,
                                           &kv_grader_longbench_f1,
                                           &kv_grader_longbench_f1_line,
                                           &kv_grader_longbench_f1_zh,
                                           &kv_grader_longbench_f1_zh_char,
                                           &kv_grader_longbench_rouge,
                                           &kv_grader_longbench_rouge_line,
                                           &kv_grader_longbench_rouge_zh,
                                           &kv_grader_longbench_rouge_zh_char,
                                           &kv_grader_longbench_class_line,
                                           &kv_grader_longbench_retrieval,
                                           &kv_grader_longbench_retrieval_zh,
                                           &kv_grader_longbench_count,
                                           &kv_grader_longbench_code,
                                           &kv_grader_longbench_v2,
                                           &kv_grader_ruler_all,
                                           &kv_grader_ruler_part,
                                           &kv_grader_all_phrases,
                                           &kv_grader_tsv,
                                           &kv_grader_program,
                                           &kv_grader_tom,
                                           &kv_grader_travel};

const kv_grader *kv_grader_find(const char *name) {
    for (size_t i = 0; i < sizeof graders / sizeof *graders; i++)
        if (!strcmp(graders[i]->name, name)) return graders[i];
    return NULL;
}

void kv_grader_names(char *out, size_t cap) {
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < sizeof graders / sizeof *graders && n < cap; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%s", i ? ", " : "", graders[i]->name);
}

static int is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

kv_span kv_span_trim(kv_span a) {
    while (a.n && is_blank(a.s[0])) a.s++, a.n--;
    while (a.n && is_blank(a.s[a.n - 1])) a.n--;
    return a;
}

int kv_span_equal(kv_span a, kv_span b) {
    return a.n == b.n && (!a.n || !memcmp(a.s, b.s, a.n));
}

int kv_span_line(kv_span *rest, kv_span *line) {
    if (!rest->s) return 0;
    const char *nl = rest->n ? memchr(rest->s, '\n', rest->n) : NULL;
    *line = (kv_span){rest->s, nl ? (size_t)(nl - rest->s) : rest->n};
    *rest = nl ? (kv_span){nl + 1, rest->n - line->n - 1} : (kv_span){NULL, 0};
    return 1;
}

int kv_span_tag(const char *output, const char *tag, kv_span *out) {
    char open[32], close[32];
    snprintf(open, sizeof open, "<%s>", tag);
    snprintf(close, sizeof close, "</%s>", tag);
    const char *a = strstr(output, open), *b = strstr(output, close);
    if (!a || !b || b < a) return 0;
    a += strlen(open);
    *out = kv_span_trim((kv_span){a, (size_t)(b - a)});
    return 1;
}

const char *kv_after_thinking(const char *output) {
    static const char mark[] = "</think>";
    for (const char *p = output; (p = strstr(p, mark));) output = p += strlen(mark);
    return output;
}

void kv_grade_extract(kv_grade *g, kv_span a) {
    size_t n = a.n < sizeof g->extracted ? a.n : sizeof g->extracted - 1;
    if (n < a.n) /* not inside a UTF-8 character: at most three bytes back */
        for (int k = 0; k < 3 && n && ((unsigned char)a.s[n] & 0xc0) == 0x80; k++) n--;
    if (n) memcpy(g->extracted, a.s, n);
    g->extracted[n] = 0;
    g->answered = 1;
}
