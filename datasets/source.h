/* source.h - where a task's items come from: a file of rows, or a seeded generator.
 *
 * A source fills named slots; the .task file's templates turn slots into prompt and gold.  One file per source
 * (rows.c, shots.c, countdown_items.c, path_items.c, needle.c, niah.c ...), listed in source.c. */
#ifndef KV_SOURCE_H
#define KV_SOURCE_H

#include "datasets/task_file.h"
#include "datasets/template.h"

/* The length of an item with these slot values (parallel to the source's slots) under the model that will be asked:
 * tokens of the prompt in its chat template, of the answer's given start, and the limit on new tokens.  Not before
 * prepare (the templates are not checked yet).  KV_EARG when the task was opened without a token counter. */
typedef int kv_measure_fn(const void *task, const kv_text *values, int64_t *tokens, kv_error *err);

typedef struct kv_source_args {
    const kv_task_file *file;
    const char *root;      /* the datasets folder */
    const char *haystack;  /* folder of .txt files, or NULL */
    const int64_t *params; /* parallel to file->params: defaults overlaid with what was asked for */
    uint64_t seed;
    const char *data_dir;           /* --data: folder of the user's own data files, or NULL */
    const kv_task_variant *variant; /* the one that was chosen */
    int no_items;                   /* outputs bring their own answers: a source with `own` opens without its data */
    const char *qa_data;            /* folder of SQuAD and HotpotQA, or NULL */
    int64_t max_new;                /* the variant's limit on new tokens */
    kv_measure_fn *measure;
    const void *task; /* for measure */
} kv_source_args;

struct cJSON;

typedef struct kv_source_state {
    int n_items;
    char sha256[65];          /* of the data, or of text, parameters and seed */
    const char *const *slots; /* NULL-terminated, at most KV_SLOTS */
    void *impl;
} kv_source_state;

typedef struct kv_source {
    const char *name;
    const char *const *params; /* NULL-terminated: exactly these param.* must be in the .task file */
    int seeded;                /* takes seed=; n is then a parameter */
    int reads_data;            /* takes data and items */
    int reads_shots;           /* takes shots, shot and shot_items */
    const char *data_kind;     /* what kv_item.data points to: "countdown", "programs", "travel" (kv_...) or NULL */
    int (*open)(const kv_source_args *a, kv_source_state *out, kv_error *err);
    /* Appends item i's values (parallel to slots) and sets *data (owned by the source).  Want of memory shows in a
     * value's `failed`.  Only reads impl, so several threads may call it. */
    void (*item)(const kv_source_state *s, int i, kv_text *values, void **data);
    void (*close)(kv_source_state *s);
    /* The rest is for sources that need it, else NULL. */
    const char *forms;                                 /* what the file's `form` may say, for error texts */
    int (*prepare)(kv_source_state *s, kv_error *err); /* once, after open: may measure */
    /* In place of item where making one can fail. */
    int (*make)(const kv_source_state *s, int i, kv_text *values, kv_error *err);
    void (*id)(const kv_source_state *s, int i, char *out, size_t cap); /* in place of the number i */
    const char *(*name_of)(const kv_source_state *s, int i);            /* what the published data calls an item */
    /* Gold and data for the grader from a row that brings its own answer; `where` is its "file:line". */
    int (*own)(const kv_source_state *s, const struct cJSON *row, const char *where, char **gold, void **data,
               kv_error *err);
    void (*own_free)(void *data);
} kv_source;

extern const kv_source kv_source_rows, kv_source_countdown, kv_source_countdown_gen, kv_source_path, kv_source_needle,
    kv_source_rows_5shot;
extern const kv_source kv_source_longbench, kv_source_longbench_v2;
extern const kv_source kv_source_niah, kv_source_vt, kv_source_cwe, kv_source_fwe, kv_source_qa, kv_source_needle_grid;
extern const kv_source kv_source_path_gen, kv_source_tom, kv_source_tom_gen, kv_source_programs, kv_source_pages,
    kv_source_travel;

/* The source that the file names; KV_EFORMAT when there is none, or the file does not declare exactly what it needs. */
int kv_source_bind(const kv_task_file *f, const kv_source **out, kv_error *err);
/* The value of a parameter that the source's params lists. */
int64_t kv_source_param(const kv_source_args *a, const char *name);
/* A generator's identity: sha256 over `what` (its name and version), the sha256 of its texts (or ""), form, parameters,
 * limit on new tokens and seed. */
int kv_source_identity(const kv_source_args *a, const char *what, const char *texts, char sha256[65], kv_error *err);

#endif
