/* task_file.h - the .task format: `key = value` lines, one [section] per prompt variant.
 *
 *   # comment
 *   title = one line for people               origin = where the items come from
 *   version = 1                               licence = of the data
 *   source = rows | countdown | needle | ...  how items are made (source.h)
 *   form = essay words numbers                which kind of items, for sources that make several
 *   data = data/file.jsonl                    items = 200     only for sources that read a file; items is checked
 *   fetch = command                           for data that is not part of the project: what brings it.  Where its
 *                                             length is not known, items = any
 *   param.words = 900 in 1..1000000           a source's parameter: default and range
 *   gold = {slot}                             what the grader compares with (template.h)
 *   default = official                        the variant used when none is asked for
 *   [official]
 *   prompt = text with {slots}                `prompt += text` adds a newline and text
 *   answer = text with {slots}                start of the assistant's turn, which the model continues; optional
 *   max_new = 300 + 40*max_lines              tokens to generate; the parameter's term is optional
 *   grader = name                             (graders.h)
 *   stop = text                               a stop string; may be repeated
 *   chat = none                               the prompt goes to the model without its chat template
 *   cut = max_prompt                          a prompt of more tokens than this parameter says loses its middle; 0 =
 *                                             than the model takes with the answer
 *
 * Few-shot examples (source rows_5shot): shots = data/file.jsonl, shot_items = 7473, shot = template of one example.
 *
 * One blank after the equals sign belongs to the syntax, the rest of the line is the value.  Unknown, repeated and
 * missing keys are errors. */
#ifndef KV_TASK_FILE_H
#define KV_TASK_FILE_H

#include "engine/kv.h"

#define KV_TASK_VARIANTS 8
#define KV_TASK_PARAMS 8
#define KV_TASK_STOPS 7
#define KV_TASK_ANY_ITEMS (-1)

typedef struct kv_task_param {
    char name[24];
    int64_t value, min, max; /* value: the default */
} kv_task_param;

typedef struct kv_task_variant {
    char name[32], grader[32];
    char *prompt; /* template; owned */
    char *answer; /* template of the answer's start, or NULL; owned */
    int max_new, max_new_factor;
    char max_new_param[24]; /* "" = max_new is the whole of it */
    char cut_param[24];     /* "" = never cut */
    int cut_line;
    char *stop[KV_TASK_STOPS + 1];
    int n_stop;
    int no_chat;
    int line, prompt_line, answer_line, grader_line, max_new_line;
} kv_task_variant;

typedef struct kv_task_file {
    char *path;
    char *title, *licence, *origin, *data, *gold; /* data is NULL for generators */
    char *fetch;                                  /* command that brings the data, NULL for data of the project */
    char *shots, *shot;                           /* data and template of examples, or NULL */
    int shot_items;
    char *form; /* or NULL */
    char source[32], default_variant[32];
    int version, items; /* items: KV_TASK_ANY_ITEMS until the source is opened */
    kv_task_param params[KV_TASK_PARAMS];
    int n_params;
    kv_task_variant variants[KV_TASK_VARIANTS];
    int n_variants;
    int source_line, shot_line, gold_line, data_line, default_line, items_line;
} kv_task_file;

/* Reads and checks one .task file.  KV_EFORMAT texts start with "path:line:".  Free with kv_task_file_close, which
 * is also safe after a failure. */
int kv_task_file_open(const char *path, kv_task_file *out, kv_error *err);
void kv_task_file_close(kv_task_file *f);
/* The variant of that name (NULL = the default); NULL when there is none. */
const kv_task_variant *kv_task_file_variant(const kv_task_file *f, const char *name);
/* Index of the parameter of that name, or -1. */
int kv_task_file_param(const kv_task_file *f, const char *name);

#endif
