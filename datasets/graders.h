/* graders.h - scoring one output against one item.  One file per grader family (grade_<family>.c).
 *
 * A grader never fails: any bytes, of any length, get a grade.  Its version goes up whenever a change could move a
 * score. */
#ifndef KV_GRADERS_H
#define KV_GRADERS_H

#include "datasets/task.h"

typedef struct kv_grader {
    const char *name;
    int version;
    const char *data_kind;       /* what data must be (source.h), or NULL */
    int sets_compat;             /* else kv_task_grade copies score */
    int needs_words;             /* Chinese words: the data's dictionary must be there */
    int (*ready)(kv_error *err); /* NULL, or whether this machine can grade; asked when a task is opened */
    /* *g arrives zeroed.  data: kv_item.data. */
    void (*grade)(const void *data, const char *gold, const char *output, kv_grade *g);
} kv_grader;

extern const kv_grader kv_grader_countdown, kv_grader_countdown_short, kv_grader_path, kv_grader_path_short,
    kv_grader_needle, kv_grader_gsm8k_short, kv_grader_math, kv_grader_integer, kv_grader_lmeval_gsm8k,
    kv_grader_lmeval_cot, kv_grader_lmeval_llama, kv_grader_lmeval_minerva, kv_grader_lmeval_hendrycks,
    kv_grader_lmeval_aime;
extern const kv_grader kv_grader_longbench_f1, kv_grader_longbench_f1_line, kv_grader_longbench_f1_zh,
    kv_grader_longbench_f1_zh_char, kv_grader_longbench_rouge, kv_grader_longbench_rouge_line,
    kv_grader_longbench_rouge_zh, kv_grader_longbench_rouge_zh_char, kv_grader_longbench_class_line,
    kv_grader_longbench_retrieval, kv_grader_longbench_retrieval_zh, kv_grader_longbench_count,
    kv_grader_longbench_code, kv_grader_longbench_v2;
extern const kv_grader kv_grader_ruler_all, kv_grader_ruler_part, kv_grader_all_phrases;
extern const kv_grader kv_grader_tsv, kv_grader_program, kv_grader_tom, kv_grader_travel;

/* NULL when there is none of that name. */
const kv_grader *kv_grader_find(const char *name);
/* "a, b, c": all names, cut to fit. */
void kv_grader_names(char *out, size_t cap);

/* A piece of the output; not NUL-terminated. */
typedef struct kv_span {
    const char *s;
    size_t n;
} kv_span;

/* Without ASCII white space at both ends. */
kv_span kv_span_trim(kv_span a);
int kv_span_equal(kv_span a, kv_span b);
/* Cuts the part before the next newline off *rest into *line; 0 when *rest has been used up.  "a\n" is two lines, the
 * second empty, as in Python's split. Start with rest->s not NULL. */
int kv_span_line(kv_span *rest, kv_span *line);
/* The text between the first <tag> and the first </tag> of the output, trimmed.  0 when either is missing or the
 * closing one comes first. */
int kv_span_tag(const char *output, const char *tag, kv_span *out);
/* The text behind the last </think>, where a model marks the end of its thinking; else all of it. */
const char *kv_after_thinking(const char *output);
/* Stores a as the extracted answer, cut to fit at a character boundary, and sets answered. */
void kv_grade_extract(kv_grade *g, kv_span a);

#endif
