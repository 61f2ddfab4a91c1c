/* export_line.h - one line of a samples file of lm-evaluation-harness: an item with all its samples. */
#ifndef KV_EXPORT_LINE_H
#define KV_EXPORT_LINE_H

#include <cjson/cJSON.h>
#include <stdio.h>

#include "results/stringbuf.h"

enum { KV_EXPORT_METRICS = 3 }; /* score, compat, partial */

/* Over the lines of a task. */
typedef struct kv_export_sums {
    int64_t n;
    double sum[KV_EXPORT_METRICS], squares[KV_EXPORT_METRICS];
    kv_string hashes; /* doc_hash + prompt_hash + target_hash of every line; the task's hash is over these */
} kv_export_sums;

typedef struct kv_export_line {
    char item[64];
    int n; /* samples so far; 0 = not begun */
    cJSON *json, *resps, *extracted;
    double sum[KV_EXPORT_METRICS];
} kv_export_line;

/* prompt: NULL when the text is not known.  config: the task's config, whose generation_kwargs are the second argument
 * of the request. */
int kv_export_line_begin(kv_export_line *l, const char *item, const char *prompt_sha256, const char *gold,
                         const char *prompt, const char *config, kv_error *err);
int kv_export_line_add(kv_export_line *l, const char *output, const char *extracted, double score, double compat,
                       double partial, kv_error *err);
/* Writes the line, adds it to the sums and empties it. */
int kv_export_line_write(kv_export_line *l, FILE *f, kv_export_sums *sums, kv_error *err);
void kv_export_line_free(kv_export_line *l);

/* Characters that lm_eval keeps out of file names become "__", a run of them together; cut to fit. */
void kv_export_sanitize(const char *name, char *out, size_t cap);

/* A number that readers take for a real one, also when it is whole: 1.0. */
void kv_export_add_real(cJSON *object, const char *key, double x);

#endif
