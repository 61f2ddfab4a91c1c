/* grade_rows.h - outputs made elsewhere, a JSON object a line, each joined with the item it answers.
 *
 * A line has `output`, and either `id` (an item's number, its id here, or its id in the published data) or its own
 * `answer`; with both, the answer counts and the id is only a name. */
#ifndef KV_GRADE_ROWS_H
#define KV_GRADE_ROWS_H

#include <cjson/cJSON.h>
#include <stdio.h>

#include "datasets/task.h"

typedef struct kv_grade_row {
    int64_t line;
    cJSON *json;         /* owned; holds output and id */
    const char *output;  /* in json; NULL: the line is of no use, and problem says why */
    char id[96];         /* as given; "" when there was none */
    const kv_item *item; /* what to grade against: own, or one of the task's */
    kv_item own;
    kv_error problem;
    kv_grade grade;
} kv_grade_row;

typedef struct kv_grade_rows kv_grade_rows;

/* Opens the outputs ("-" = standard input) and the task.  The task's data is only opened at the first line with an id,
 * so that outputs with their own answers need none. */
int kv_grade_rows_open(const char *path, const char *task, const kv_task_options *o, kv_grade_rows **out,
                       kv_error *err);
void kv_grade_rows_close(kv_grade_rows *g);

const kv_task *kv_grade_rows_task(const kv_grade_rows *g);

/* Reads up to `max` lines; empty ones are passed over.  *n = 0 at the end of the file.  Errors are those of reading and
 * of the task's data; what is wrong with a single line is in its row.  Free each row with kv_grade_row_free. */
int kv_grade_rows_read(kv_grade_rows *g, kv_grade_row *rows, size_t max, size_t *n, kv_error *err);
void kv_grade_row_free(kv_grade_row *r);

#endif
