/* store_cells.c - reading the file back: the cells a table shows (queries/cells.sql), and the plain dump. */
#include "results/store_internal.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/file.h"
#include "results/embedded.h"

static void copy_text(sqlite3_stmt *st, int col, char *out, size_t size) {
    const unsigned char *t = sqlite3_column_text(st, col);
    snprintf(out, size, "%s", t ? (const char *)t : "");
}

/* Files tell models, adapters and gates apart better than the names inside them. */
static void copy_file_title(sqlite3_stmt *st, int col, char *out, size_t size) {
    const unsigned char *t = sqlite3_column_text(st, col);
    kv_file_title(t ? (const char *)t : "", out, size);
}

static double real_or_nan(sqlite3_stmt *st, int col) {
    return sqlite3_column_type(st, col) == SQLITE_NULL ? NAN : sqlite3_column_double(st, col);
}

/* Columns in the order of cells.sql; what kv_store_averages fills in stays unknown. */
static void read_cell(sqlite3_stmt *st, kv_cell *c) {
    memset(c, 0, sizeof *c);
    copy_text(st, 0, c->status, sizeof c->status);
    copy_file_title(st, 1, c->model, sizeof c->model);
    copy_text(st, 2, c->policy, sizeof c->policy);
    copy_text(st, 3, c->policy_title, sizeof c->policy_title);
    copy_text(st, 4, c->task, sizeof c->task);
    copy_text(st, 5, c->variant, sizeof c->variant);
    copy_text(st, 6, c->prefill, sizeof c->prefill);
    copy_text(st, 7, c->query, sizeof c->query);
    copy_text(st, 8, c->numerics, sizeof c->numerics);
    copy_text(st, 9, c->backend, sizeof c->backend);
    copy_text(st, 10, c->cell_key, sizeof c->cell_key);
    copy_text(st, 11, c->error, sizeof c->error);
    c->budget = sqlite3_column_int(st, 12);
    c->buffer = sqlite3_column_int(st, 13);
    c->batch = sqlite3_column_int(st, 14);
    c->max_new = sqlite3_column_int(st, 15);
    c->n = sqlite3_column_int64(st, 16);
    c->accuracy = real_or_nan(st, 17);
    c->partial = real_or_nan(st, 19);
    c->peak_slots = real_or_nan(st, 20);
    c->mean_slots = real_or_nan(st, 21);
    c->kv_bytes_peak = sqlite3_column_int64(st, 22);
    c->kv_bytes_batch_peak = sqlite3_column_int64(st, 23);
    c->prefill_tok_s = real_or_nan(st, 24);
    c->decode_tok_s = real_or_nan(st, 25);
    c->mean_tokens = real_or_nan(st, 26);
    c->n_length = sqlite3_column_int64(st, 27);
    c->n_errors = sqlite3_column_int64(st, 28);
    copy_file_title(st, 29, c->adapter, sizeof c->adapter);
    copy_file_title(st, 30, c->gates, sizeof c->gates);
    copy_text(st, 31, c->sampling, sizeof c->sampling);
    c->seed = sqlite3_column_int64(st, 32);
    c->compat = real_or_nan(st, 33);
    c->n_no_answer = sqlite3_column_int64(st, 34);
    c->stderr_ = c->stderr_fixed = c->pass_at_k = c->maj_at_k = NAN;
    c->compat_stderr = c->compat_stderr_fixed = c->compat_pass_at_k = c->compat_maj_at_k = NAN;
}

static int read_cells(kv_store *s, const char *keys_json, kv_cell **out, size_t *n, kv_error *err) {
    sqlite3_stmt *st = NULL;
    size_t cap = 0;
    int rc = KV_OK, step = SQLITE_DONE;
    if (sqlite3_prepare_v2(s->db, kv_embedded_queries_cells_sql, -1, &st, NULL) != SQLITE_OK)
        return kv_store_fail(s, "reading cells", err);
    if (sqlite3_bind_text(st, 1, keys_json, -1, SQLITE_STATIC) != SQLITE_OK)
        rc = kv_store_fail(s, "reading cells", err);
    while (!rc && (step = sqlite3_step(st)) == SQLITE_ROW) {
        if (*n == cap) {
            cap = cap ? 2 * cap : 16;
            kv_cell *more = realloc(*out, cap * sizeof **out);
            if (!more) {
                rc = kv_fail(err, KV_ENOMEM, "%s: out of memory for the cells", s->path);
                break;
            }
            *out = more;
        }
        read_cell(st, &(*out)[(*n)++]);
    }
    if (!rc && step != SQLITE_DONE) rc = kv_store_fail(s, "reading cells", err);
    sqlite3_finalize(st);
    return rc;
}

int kv_store_cells(kv_store *s, const char *const *keys, size_t n_keys, kv_cell **out, size_t *n, kv_error *err) {
    char *json = NULL;
    *out = NULL;
    *n = 0;
    if (keys) {
        cJSON *array = cJSON_CreateStringArray(keys, (int)n_keys);
        json = array ? cJSON_PrintUnformatted(array) : NULL;
        cJSON_Delete(array);
        if (!json) return kv_fail(err, KV_ENOMEM, "%s: out of memory for the cell keys", s->path);
    }
    int rc = read_cells(s, json, out, n, err);
    if (!rc) rc = kv_store_averages(s, json, *out, *n, err);
    cJSON_free(json);
    if (rc) {
        free(*out);
        *out = NULL;
        *n = 0;
    }
    return rc;
}

int kv_store_scores(kv_store *s, const char *cell_key, kv_item_score **out, size_t *n, kv_error *err) {
    sqlite3_stmt *st = NULL;
    size_t cap = 0;
    int rc = KV_OK, step = SQLITE_DONE;
    *out = NULL;
    *n = 0;
    if (sqlite3_prepare_v2(s->db, kv_embedded_queries_scores_sql, -1, &st, NULL) != SQLITE_OK)
        return kv_store_fail(s, "reading scores", err);
    if (sqlite3_bind_text(st, 1, cell_key, -1, SQLITE_STATIC) != SQLITE_OK)
        rc = kv_store_fail(s, "reading scores", err);
    while (!rc && (step = sqlite3_step(st)) == SQLITE_ROW) {
        if (*n == cap) {
            cap = cap ? 2 * cap : 64;
            kv_item_score *more = realloc(*out, cap * sizeof **out);
            if (!more) {
                rc = kv_fail(err, KV_ENOMEM, "%s: out of memory for the scores", s->path);
                break;
            }
            *out = more;
        }
        copy_text(st, 0, (*out)[*n].item, sizeof(*out)[*n].item);
        (*out)[(*n)++].score = sqlite3_column_double(st, 1);
    }
    if (!rc && step != SQLITE_DONE) rc = kv_store_fail(s, "reading scores", err);
    sqlite3_finalize(st);
    if (rc) {
        free(*out);
        *out = NULL;
        *n = 0;
    }
    return rc;
}

/* Item ids with tabs or line ends must not break the line. */
static void put_item(FILE *f, const char *item) {
    for (; *item; item++) {
        const char *escape = *item == '\t' ? "\\t" : *item == '\n' ? "\\n" : *item == '\r' ? "\\r" : NULL;
        if (escape)
            fputs(escape, f);
        else
            fputc(*item, f);
    }
}

int kv_store_dump(kv_store *s, const char *path, kv_error *err) {
    sqlite3_stmt *st = NULL;
    int step;
    if (sqlite3_prepare_v2(s->db, kv_embedded_queries_dump_sql, -1, &st, NULL) != SQLITE_OK)
        return kv_store_fail(s, "reading samples", err);
    FILE *f = fopen(path, "w");
    if (!f) {
        sqlite3_finalize(st);
        return kv_fail(err, KV_EIO, "%s: cannot be written: %s; check the folder", path, strerror(errno));
    }
    while ((step = sqlite3_step(st)) == SQLITE_ROW) {
        put_item(f, (const char *)sqlite3_column_text(st, 0));
        fprintf(f, "\t%d\t%s\t%.17g\n", sqlite3_column_int(st, 1), (const char *)sqlite3_column_text(st, 2),
                real_or_nan(st, 3));
    }
    int rc = step == SQLITE_DONE ? KV_OK : kv_store_fail(s, "reading samples", err);
    sqlite3_finalize(st);
    int bad = ferror(f);
    if (fclose(f)) bad = 1;
    if (!rc && bad) rc = kv_fail(err, KV_EIO, "%s: writing failed; is the disk full?", path);
    return rc;
}
