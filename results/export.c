/* export.c - walks the cells of the results file and writes what lm-evaluation-harness would; see export.h.  A line of
 * samples is export_line.c's. */
#include "results/export.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/file.h"
#include "results/embedded.h"
#include "results/export_line.h"
#include "results/store_internal.h"
#include "results/stringbuf.h"

/* Columns of export_cells.sql. */
enum { SETTING, CELL_KEY, TASK, VARIANT, VERSION, DATA_SHA256, SEED, MODEL, ADAPTER, NAME, STARTED, FILE_JSON, CONFIG };

typedef struct {
    kv_store *s;
    const char *dir;
    const kv_export_source *src;
    char *setting; /* of the open results file; NULL: none is open */
    cJSON *root;
    char folder[1024], time[40]; /* of the open file */
    kv_error *err;
} exporter;

static const char *text(sqlite3_stmt *st, int column) {
    const unsigned char *t = sqlite3_column_text(st, column);
    return t ? (const char *)t : "";
}

static int no_memory(const exporter *x) {
    return kv_fail(x->err, KV_ENOMEM, "%s: out of memory for the export", x->s->path);
}

/* 2026-11-22T17:33:21.123Z as 2026-11-22T17-33-21.123000: what datetime.isoformat() makes of it, without colons. */
static void file_time(const char *started, char out[40]) {
    snprintf(out, 30, "%.*s", (int)strcspn(started, "Z"), started);
    for (char *p = out; *p; p++)
        if (*p == ':') *p = '-';
    if (strchr(out, '.')) strcat(out, "000");
}

static int write_results(exporter *x) {
    char path[1200];
    kv_string t = {0};
    if (!x->setting) return KV_OK;
    snprintf(path, sizeof path, "%s/results_%s.json", x->folder, x->time);
    char *json = cJSON_Print(x->root);
    if (json) kv_string_add(&t, json);
    int rc = json && !t.failed ? kv_string_write(&t, path, x->err) : no_memory(x);
    cJSON_free(json);
    kv_string_free(&t);
    if (!rc) x->src->wrote(x->src->user, path);
    cJSON_Delete(x->root);
    free(x->setting);
    x->root = NULL;
    x->setting = NULL;
    return rc;
}

/* "MODEL+ADAPTER/POLICY/M256-B32/full-after-fast-cpu:avx2-1a2b3c4d": the end tells settings apart that the rest does
 * not. */
static void name_setting(sqlite3_stmt *st, char *out, size_t cap) {
    char model[128], adapter[128], hash[65];
    kv_file_title(text(st, MODEL), model, sizeof model);
    kv_file_title(text(st, ADAPTER), adapter, sizeof adapter);
    kv_sha256_bytes(text(st, SETTING), strlen(text(st, SETTING)), hash);
    snprintf(out, cap, "%s%s%s/%s-%.8s", model, adapter[0] ? "+" : "", adapter, text(st, NAME), hash);
}

static int begin_results(exporter *x, sqlite3_stmt *st) {
    static const char *const parts[] = {"results", "group_subtasks",   "configs",   "versions",
                                        "n-shot",  "higher_is_better", "n-samples", "task_hashes"};
    char name[512], folder[512], version[128];
    name_setting(st, name, sizeof name);
    kv_export_sanitize(name, folder, sizeof folder);
    file_time(text(st, STARTED), x->time);
    if (snprintf(x->folder, sizeof x->folder, "%s/%s", x->dir, folder) >= (int)sizeof x->folder)
        return kv_fail(x->err, KV_ELIMIT, "%.400s: the path is too long", x->dir);
    if (mkdir(x->folder, 0777) != 0 && errno != EEXIST)
        return kv_fail(x->err, KV_EIO, "%.450s: %s", x->folder, strerror(errno));
    x->root = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) cJSON_AddObjectToObject(x->root, parts[i]);
    cJSON *rest = cJSON_Parse(text(st, FILE_JSON));
    for (cJSON *c; rest && (c = rest->child);) {
        cJSON_DetachItemViaPointer(rest, c);
        cJSON_AddItemToObject(x->root, c->string, c);
    }
    cJSON_Delete(rest);
    cJSON_AddStringToObject(x->root, "model_name", name);
    cJSON_AddStringToObject(x->root, "model_name_sanitized", folder);
    snprintf(version, sizeof version, "written by trimbench %s in the layout of 0.4.13", x->src->version);
    cJSON_AddStringToObject(x->root, "lm_eval_version", version);
    x->setting = strdup(text(st, SETTING));
    return x->setting && x->root ? KV_OK : no_memory(x);
}

/* Name of the task in the files: with its variant, letters that a file name can hold, and a number when it is taken. */
static void name_task(const exporter *x, sqlite3_stmt *st, char *out, size_t cap) {
    char whole[256];
    int n = snprintf(whole, sizeof whole, "%s_%s", text(st, TASK), text(st, VARIANT));
    if (!text(st, VARIANT)[0]) whole[n - 1] = 0;
    for (char *p = whole; *p; p++)
        if (strchr(":=/", *p)) *p = '-';
    snprintf(out, cap, "%s", whole);
    for (int k = 2; cJSON_HasObjectItem(cJSON_GetObjectItem(x->root, "results"), out); k++)
        snprintf(out, cap, "%s_%d", whole, k);
}

static int add_lines(exporter *x, sqlite3_stmt *cell, FILE *f, kv_export_sums *sums) {
    sqlite3_stmt *st = NULL;
    kv_export_line line = {0};
    int rc = KV_OK, step = SQLITE_DONE;
    if (sqlite3_prepare_v2(x->s->db, kv_embedded_queries_export_samples_sql, -1, &st, NULL) != SQLITE_OK ||
        sqlite3_bind_text(st, 1, text(cell, CELL_KEY), -1, SQLITE_STATIC) != SQLITE_OK)
        rc = kv_store_fail(x->s, "reading samples", x->err);
    while (!rc && (step = sqlite3_step(st)) == SQLITE_ROW) {
        if (line.n && strcmp(line.item, text(st, 0))) rc = kv_export_line_write(&line, f, sums, x->err);
        if (!rc && !line.n)
            rc = kv_export_line_begin(&line, text(st, 0), text(st, 1), text(st, 4),
                                      x->src->prompt(x->src->user, text(st, 0)), text(cell, CONFIG), x->err);
        if (!rc)
            rc = kv_export_line_add(&line, text(st, 2), text(st, 3), sqlite3_column_double(st, 5),
                                    sqlite3_column_double(st, 6), sqlite3_column_double(st, 7), x->err);
    }
    if (!rc && step != SQLITE_DONE) rc = kv_store_fail(x->s, "reading samples", x->err);
    if (!rc && line.n) rc = kv_export_line_write(&line, f, sums, x->err);
    kv_export_line_free(&line);
    sqlite3_finalize(st);
    return rc;
}

static int write_samples(exporter *x, sqlite3_stmt *cell, const char *task, kv_export_sums *sums) {
    char path[1600];
    snprintf(path, sizeof path, "%s/samples_%s_%s.jsonl", x->folder, task, x->time);
    FILE *f = fopen(path, "w");
    if (!f) return kv_fail(x->err, KV_EIO, "%.450s: %s", path, strerror(errno));
    int rc = add_lines(x, cell, f, sums), bad = ferror(f);
    if (fclose(f)) bad = 1;
    if (!rc && bad) rc = kv_fail(x->err, KV_EIO, "%.400s: writing failed; is the disk full?", path);
    if (rc)
        unlink(path);
    else
        x->src->wrote(x->src->user, path);
    return rc;
}

static cJSON *part(const exporter *x, const char *name) {
    return cJSON_GetObjectItem(x->root, name);
}

static void add_results(const exporter *x, sqlite3_stmt *cell, const char *task, int n_items, kv_export_sums *sums) {
    static const char *const names[KV_EXPORT_METRICS] = {"score", "compat", "partial"};
    cJSON *r = cJSON_AddObjectToObject(part(x, "results"), task);
    cJSON *better = cJSON_AddObjectToObject(part(x, "higher_is_better"), task);
    double n = (double)sums->n;
    cJSON_AddStringToObject(r, "name", task);
    cJSON_AddStringToObject(r, "alias", task);
    cJSON_AddNumberToObject(r, "sample_len", n);
    for (int i = 0; i < KV_EXPORT_METRICS; i++) {
        char key[40];
        double mean = sums->sum[i] / n, spread = (sums->squares[i] - n * mean * mean) / (n - 1);
        snprintf(key, sizeof key, "%s,none", names[i]);
        kv_export_add_real(r, key, mean);
        snprintf(key, sizeof key, "%s_stderr,none", names[i]);
        if (n > 1)
            kv_export_add_real(r, key, sqrt(spread > 0 ? spread / n : 0));
        else
            cJSON_AddStringToObject(r, key, "N/A");
        cJSON_AddTrueToObject(better, names[i]);
    }
    cJSON_AddArrayToObject(part(x, "group_subtasks"), task);
    cJSON *config = cJSON_Parse(text(cell, CONFIG));
    cJSON_ReplaceItemInObject(config, "task", cJSON_CreateString(task));
    cJSON_AddItemToObject(part(x, "configs"), task, config);
    cJSON_AddNumberToObject(part(x, "versions"), task, sqlite3_column_int(cell, VERSION));
    cJSON_AddNumberToObject(part(x, "n-shot"), task, 0);
    cJSON *count = cJSON_AddObjectToObject(part(x, "n-samples"), task);
    cJSON_AddNumberToObject(count, "original", n_items > sums->n ? n_items : n);
    cJSON_AddNumberToObject(count, "effective", n);
    char hash[65];
    kv_sha256_bytes(sums->hashes.p, sums->hashes.n, hash);
    cJSON_AddStringToObject(part(x, "task_hashes"), task, hash);
}

static int export_cell(exporter *x, sqlite3_stmt *st) {
    char task[280];
    kv_export_sums sums = {0};
    int rc = KV_OK;
    if (x->setting && strcmp(x->setting, text(st, SETTING))) rc = write_results(x);
    if (!rc && !x->setting) rc = begin_results(x, st);
    if (rc) return rc;
    name_task(x, st, task, sizeof task);
    int n_items = x->src->task(x->src->user, text(st, TASK), text(st, VARIANT), sqlite3_column_int(st, VERSION),
                               text(st, DATA_SHA256), sqlite3_column_int64(st, SEED));
    rc = write_samples(x, st, task, &sums);
    if (!rc && sums.hashes.failed) rc = no_memory(x);
    if (!rc) add_results(x, st, task, n_items, &sums);
    kv_string_free(&sums.hashes);
    return rc;
}

int kv_export_lm_eval(kv_store *s, const char *dir, const kv_export_source *src, kv_error *err) {
    exporter x = {.s = s, .dir = dir, .src = src, .err = err};
    sqlite3_stmt *st = NULL;
    int rc = KV_OK, step, n = 0;
    if (sqlite3_prepare_v2(s->db, kv_embedded_queries_export_cells_sql, -1, &st, NULL) != SQLITE_OK)
        return kv_store_fail(s, "reading cells", err);
    while (!rc && (step = sqlite3_step(st)) == SQLITE_ROW) {
        rc = export_cell(&x, st);
        n++;
    }
    if (!rc && step != SQLITE_DONE) rc = kv_store_fail(s, "reading cells", err);
    if (!rc) rc = write_results(&x);
    sqlite3_finalize(st);
    cJSON_Delete(x.root);
    free(x.setting);
    if (!rc && !n) rc = kv_fail(err, KV_ENOTFOUND, "%.300s: there is no cell with samples in it", s->path);
    return rc;
}
