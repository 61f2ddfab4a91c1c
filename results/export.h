/* export.h - the results file as the files of lm-evaluation-harness, for the programs that read those.
 *
 * Layout of lm_eval 0.4.13 (lm_eval/result_schema.py, loggers/evaluation_tracker.py): a folder per setting (model,
 * policy, M, B ...) with results_TIME.json, and samples_TASK_TIME.jsonl for each task.  Departures:
 * - The metrics are score (strict), compat (the published rules) and partial, under the filter "none".
 * - A line holds all samples of an item; its metrics are their means, and standard errors go by items.
 * - doc is what is known of the item: its id and the gold answer.
 * - The prompt of a line is only there when prompt() knows it; else prompt_hash is that of the token ids. */
#ifndef KV_EXPORT_H
#define KV_EXPORT_H

#include "results/store.h"

typedef struct kv_export_source {
    void *user;
    /* The items of the lines to come.  Returns how many the task has, 0 = not known. */
    int (*task)(void *user, const char *name, const char *variant, int version, const char *data_sha256, int64_t seed);
    /* Text of the prompt, valid until the next call, or NULL. */
    const char *(*prompt)(void *user, const char *item);
    /* A file that was written. */
    void (*wrote)(void *user, const char *path);
    const char *version; /* of this program */
} kv_export_source;

/* Writes into dir, which must exist.  KV_ENOTFOUND when no cell has samples; KV_EIO names the file. */
int kv_export_lm_eval(kv_store *s, const char *dir, const kv_export_source *src, kv_error *err);

#endif
