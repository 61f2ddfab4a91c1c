/* compat_grade.c - the reference's path from an output to a verdict (eval_math.py): cut, extract, strip twice, filter
 * multiple choice, compare.
 *
 * The filter takes a gold that is empty, as \text{east} becomes, for a choice, and keeps of the answer nothing but
 * capital letters A to E; every answer without one is then right. */
#include "datasets/compat.h"

#include <stdlib.h>
#include <string.h>

static int is_choice_letter(char c) {
    return c >= 'A' && c <= 'E';
}

static int only_choices(kv_span a) {
    for (size_t i = 0; i < a.n; i++)
        if (!is_choice_letter(a.s[i])) return 0;
    return 1;
}

static void filter_choices(kv_span gold, kv_span output, kv_text *pred) {
    kv_span p = kv_str_span(pred);
    if (gold.n == 1 && is_choice_letter(*gold.s)) {
        if (p.n != 1 || !is_choice_letter(*p.s)) kv_str_set(pred, (kv_span){output.s, output.n > 0});
        return;
    }
    if (!only_choices(gold) || only_choices(p)) return;
    kv_text kept = {0};
    kv_text_append(&kept, "", 0);
    for (size_t i = 0; i < p.n; i++)
        if (is_choice_letter(p.s[i])) kv_text_append(&kept, p.s + i, 1);
    kv_text_free(pred);
    *pred = kept;
}

/* At the first of the reference's stop words. */
static char *cut_output(const char *output) {
    static const char *const stops[] = {"</s>", "<|im_end|>", "<|endoftext|>",
                                        "\n\xe9\xa2\x98\xe7\x9b\xae\xef\xbc\x9a"};
    char *copy = strdup(output);
    for (int k = 0; copy && k < 4; k++) {
        char *p = strstr(copy, stops[k]);
        if (p) *p = 0;
    }
    return copy;
}

int kv_compat_grade(const char *gold, const char *output) {
    kv_text once = {0}, twice = {0}, pred = {0};
    char *text = cut_output(output);
    if (!text) return 0;
    kv_str_set(&once, (kv_span){gold, strlen(gold)});
    kv_compat_strip(&once);
    kv_str_set(&twice, kv_str_span(&once));
    kv_compat_strip(&twice);
    kv_compat_extract(text, &pred);
    kv_compat_strip(&pred);
    filter_choices(kv_str_span(&twice), kv_span_trim((kv_span){text, strlen(text)}), &pred);
    int failed = once.failed || twice.failed || pred.failed;
    int same = !failed && kv_compat_equal(kv_str_span(&pred), kv_str_span(&once));
    free(text);
    kv_text_free(&once);
    kv_text_free(&twice);
    kv_text_free(&pred);
    return same;
}
