/* jsonl.c - data files with one JSON object a line; see jsonl.h. */
#include "datasets/jsonl.h"

#include "engine/file.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_row(char *line, int i, kv_jsonl_row row, void *user, const char *where, kv_error *err) {
    const char *end = NULL;
    cJSON *j = cJSON_ParseWithOpts(line, &end, 1);
    if (!cJSON_IsObject(j)) {
        int at = end ? (int)(end - line) : 0;
        cJSON_Delete(j);
        return kv_fail(err, KV_EFORMAT, "%s: not a JSON object (near byte %d of the line)", where, at);
    }
    int rc = row(user, i, j, where, err);
    cJSON_Delete(j);
    return rc;
}

static int read_rows(const kv_source_args *a, const char *path, char *text, kv_jsonl_row row, void *user,
                     kv_error *err) {
    int n = 0, rc = KV_OK;
    for (char *line = text, *next; !rc && *line; line = next, n++) {
        char where[1100];
        next = line + strcspn(line, "\n");
        if (*next) *next++ = 0;
        snprintf(where, sizeof where, "%s:%d", path, n + 1);
        rc = n < a->file->items ? read_row(line, n, row, user, where, err) : KV_OK;
    }
    if (!rc && n != a->file->items)
        rc = kv_fail(err, KV_EFORMAT, "%s:%d: items = %d, but %s has %d lines", a->file->path, a->file->items_line,
                     a->file->items, path, n);
    return rc;
}

static const char *skip_blanks(const char *p) {
    return p + strspn(p, " \t\r\n");
}

static int read_objects(const char *path, const char *text, size_t size, kv_jsonl_row row, void *user, int *n,
                        kv_error *err) {
    char where[1100];
    const char *p = skip_blanks(text);
    int array = *p == '[', first = 1;
    if (array) p = skip_blanks(p + 1);
    for (*n = 0; *p && *p != ']'; first = 0) {
        const char *end = p;
        snprintf(where, sizeof where, "%s, object %d", path, *n + 1);
        if (array && !first && *p++ != ',') return kv_fail(err, KV_EFORMAT, "%s: no comma before it", where);
        cJSON *j = cJSON_ParseWithLengthOpts(p, size - (size_t)(p - text), &end, 0);
        int rc = cJSON_IsObject(j) ? row(user, (*n)++, j, where, err)
                                   : kv_fail(err, KV_EFORMAT, "%s: not a JSON object (near byte %zu of the file)",
                                             where, (size_t)(end - text));
        cJSON_Delete(j);
        if (rc) return rc;
        p = skip_blanks(end);
    }
    if (array && *p != ']') return kv_fail(err, KV_EFORMAT, "%s: the array does not end", path);
    if (*skip_blanks(p + array)) return kv_fail(err, KV_EFORMAT, "%s: text behind the last object", path);
    return KV_OK;
}

int kv_json_objects(const char *path, kv_jsonl_row row, void *user, int *n_rows, char sha256[65], kv_error *err) {
    char *text = NULL;
    size_t size;
    int rc = kv_read_file(path, &text, &size, err);
    if (rc) return rc;
    kv_sha256_bytes(text, size, sha256);
    rc = strlen(text) == size ? read_objects(path, text, size, row, user, n_rows, err)
                              : kv_fail(err, KV_EFORMAT, "%s: the file has a zero byte; expected JSON", path);
    free(text);
    return rc;
}

int kv_data_path(const kv_source_args *a, char *out, size_t cap, kv_error *err) {
    if (snprintf(out, cap, "%s/%s", a->root, a->file->data) < (int)cap) return KV_OK;
    return kv_fail(err, KV_EARG, "path too long: %.200s...", out);
}

/* Reads a->file's data file; path gets its name. */
static int read_data(const kv_source_args *a, char *path, size_t cap, char **text, size_t *size, kv_error *err) {
    int rc = kv_data_path(a, path, cap, err);
    return rc ? rc : kv_read_file(path, text, size, err);
}

int kv_jsonl_count(const kv_source_args *a, int *out, kv_error *err) {
    char path[1024], *text = NULL;
    size_t size;
    int rc = read_data(a, path, sizeof path, &text, &size, err);
    if (rc) return rc;
    *out = 0;
    for (const char *s = text; *s && *out < INT_MAX; ++*out) {
        s += strcspn(s, "\n");
        s += *s != 0;
    }
    free(text);
    return *out ? KV_OK : kv_fail(err, KV_EFORMAT, "%s: the file has no items", path);
}

int kv_jsonl_parse(const kv_source_args *a, const char *path, char *text, size_t size, kv_jsonl_row row, void *user,
                   kv_error *err) {
    return strlen(text) == size
               ? read_rows(a, path, text, row, user, err)
               : kv_fail(err, KV_EFORMAT, "%s: the file has a zero byte; expected lines of JSON", path);
}

int kv_jsonl_read(const kv_source_args *a, kv_jsonl_row row, void *user, char sha256[65], kv_error *err) {
    char path[1024], *text = NULL;
    size_t size;
    int rc = read_data(a, path, sizeof path, &text, &size, err);
    if (rc) return rc;
    kv_sha256_bytes(text, size, sha256);
    rc = kv_jsonl_parse(a, path, text, size, row, user, err);
    free(text);
    return rc;
}
