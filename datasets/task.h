/* task.h - tasks: a declarative .task file plus data (or a seeded generator) gives items; a grader by name scores.
 *
 * Written as `name` or `name:key=value:key=value` (generator parameters: needle:words=900:needles=4:n=50). */
#ifndef KV_TASK_H
#define KV_TASK_H

#include "engine/kv.h"

typedef struct kv_task kv_task;

/* Tokens that one user turn and the given start of the answer take in a model's chat template, or with no_chat
 * without one.  Called by several threads. */
typedef int kv_count_fn(void *user, const char *prompt, const char *answer, int no_chat, size_t *n, kv_error *err);

typedef struct kv_task_options {
    const char *root;     /* the project's datasets folder (holds tasks/ and data/) */
    const char *haystack; /* folder of .txt essays for needle; NULL = the public-domain text of the repository */
    const char *variant;  /* prompt variant; NULL = the task's default */
    uint64_t seed;        /* of generators */
    const char *data_dir; /* folder of the user's own data files; NULL = where the project's scripts put them */
    const struct kv_text_tools *tools; /* text_tools.h; NULL: prompts are never shortened */
    int no_items;                      /* for kv_task_own_item alone: n_items is 0, the data need not be there */
    const char *qa_data;               /* folder of the SQuAD and HotpotQA files for qa_1 and qa_2, or NULL */
    kv_count_fn *count_tokens;         /* for tasks whose length is asked for in tokens; NULL: they do not open */
    void *count_user;
} kv_task_options;

typedef struct kv_item {
    char id[64];        /* its number, with :group where the task has groups */
    char *prompt;       /* the user turn; owned by the item */
    size_t question_at; /* byte offset where the question starts; strlen(prompt) when the task has no split */
    char *answer;       /* start of the assistant's turn, which the model continues; often ""; owned */
    char *gold;         /* what the grader compares with, as text; owned */
    void *data;         /* grader's private data, owned by the task */
    void *own;          /* data of kv_task_own_item, owned by the item ... */
    void (*own_free)(void *own);
} kv_item;

typedef struct kv_task_info {
    char name[96]; /* canonical, with non-default parameters: the identity */
    char variant[32];
    char grader[32];
    int version, grader_version;
    int n_items;
    int max_new;
    char data_sha256[65];   /* of the data files or of the generator's parameters and seed */
    char prompt_sha256[65]; /* of the variant's templates: an edited prompt is another cell */
    int no_chat;            /* the prompt is not wrapped in the model's chat template */
    int cuts;               /* prompts depend on the model: long ones lose their middle */
    const char *stop[8];    /* stop strings, NULL-terminated */
    const char *title;
} kv_task_info;

typedef struct kv_grade {
    double
        score; /* accuracy, 0 or 1 (0..1 where a benchmark scores by share); the strict verdict where there are two */
    double compat;  /* by the published rules; the same as score where a task has one grader */
    double partial; /* 0..1 */
    int answered;   /* an answer could be extracted */
    char extracted[512];
    const char *rule, *reason; /* how the answer was found, why it got its score: static texts, or NULL */
} kv_grade;

int kv_task_open(const char *spec, const kv_task_options *o, kv_task **out, kv_error *err);
void kv_task_close(kv_task *t);
const kv_task_info *kv_task_get_info(const kv_task *t);
/* Item i of n_items; free with kv_item_free. */
int kv_task_item(kv_task *t, int i, kv_item *out, kv_error *err);
/* Its id alone, at once; i must be one of 0..n_items-1. */
void kv_task_item_id(const kv_task *t, int i, char out[64]);
void kv_item_free(kv_item *it);
/* What an item is called in the published data; NULL when the data has no such names. */
const char *kv_task_item_name(const kv_task *t, int i);
/* An item to grade against, without a prompt, from a JSON object with a field `answer` (or what else the task's source
 * takes).  where: "file:line" for errors.  KV_EFORMAT: no answer, or the task's items cannot be made from one. */
struct cJSON;
int kv_task_own_item(const kv_task *t, const struct cJSON *row, const char *where, kv_item *out, kv_error *err);
/* Grades one output; never fails on any bytes. */
void kv_task_grade(const kv_task *t, const kv_item *it, const char *output, kv_grade *g);

/* Every .task file under root: callback(user, name, title, variants, n_items or -1, max_new). */
int kv_task_list(const char *root,
                 void (*each)(void *user, const char *name, const char *title, const char *variants, int n_items,
                              int max_new),
                 void *user, kv_error *err);

#endif
