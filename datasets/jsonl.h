/* jsonl.h - data files with one JSON object a line. */
#ifndef KV_JSONL_H
#define KV_JSONL_H

#include "datasets/source.h"

#include <cjson/cJSON.h>

/* Called for each line in order.  where is "file:line" for error texts. */
typedef int (*kv_jsonl_row)(void *user, int i, const cJSON *row, const char *where, kv_error *err);

/* "<root>/<data>" of a file of data. */
int kv_data_path(const kv_source_args *a, char *out, size_t cap, kv_error *err);
/* The number of lines of a->file's data, for `items = any`. */
int kv_jsonl_count(const kv_source_args *a, int *out, kv_error *err);
/* As kv_jsonl_read for text in memory, which is changed; path is for error texts, items the lines there must be. */
int kv_jsonl_parse(const kv_source_args *a, const char *path, char *text, size_t size, kv_jsonl_row row, void *user,
                   kv_error *err);
/* Reads a->file's data file: calls row for each line, checks that there are as many as `items` says, and returns the
 * file's sha256.  KV_EFORMAT for lines that are empty or no JSON object. */
int kv_jsonl_read(const kv_source_args *a, kv_jsonl_row row, void *user, char sha256[65], kv_error *err);

/* The same for any file and any number of rows: JSON objects one after the other (JSON lines), or in one array.
 * *n_rows receives their number; where is "file, object 3". */
int kv_json_objects(const char *path, kv_jsonl_row row, void *user, int *n_rows, char sha256[65], kv_error *err);

#endif
