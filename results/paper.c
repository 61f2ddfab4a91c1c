/* paper.c - importing and looking up published numbers.
 *
 * The file is a plain table: one header line, tab-separated columns, empty = not stated by the source.  Importing is
 * idempotent, so every command that shows published values may do it first. */
#include "results/paper.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/file.h"
#include "results/embedded.h"
#include "results/store_internal.h"

enum { N_COLUMNS = 18, VALUE = 13 };

static const char *const columns[N_COLUMNS] = {
    "paper",   "version", "table_or_figure", "model",    "task",  "metric", "policy",    "budget_M", "buffer",
    "context", "batch",   "gen_len",         "hardware", "value", "unit",   "read_from", "source",   "note"};

static const char insert[] =
    "INSERT INTO paper_number(paper, version, table_or_figure, model, task, metric, policy, budget, buffer, context, "
    "batch, gen_len, hardware, value, unit, read_from, source, note) "
    "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18 "
    "WHERE NOT EXISTS (SELECT 1 FROM paper_number WHERE paper = ?1 AND version IS ?2 AND table_or_figure IS ?3 AND "
    "model IS ?4 AND task IS ?5 AND metric IS ?6 AND policy IS ?7 AND budget IS ?8 AND buffer IS ?9 AND context IS ?10 "
    "AND batch IS ?11 AND gen_len IS ?12 AND hardware IS ?13 AND value IS ?14 AND unit IS ?15 AND read_from IS ?16 AND "
    "source IS ?17 AND note IS ?18)";

/* Cuts a line at its tabs; returns how many columns there are. */
static int split(char *line, char *out[N_COLUMNS]) {
    int n = 0;
    for (char *p = line; p; n++) {
        char *tab = strchr(p, '\t');
        if (tab) *tab++ = 0;
        if (n < N_COLUMNS) out[n] = p;
        p = tab;
    }
    return n;
}

static int check_header(char *line, const char *path, kv_error *err) {
    char *names[N_COLUMNS];
    int n = split(line, names);
    for (int i = 0; i < N_COLUMNS; i++)
        if (i >= n || strcmp(names[i], columns[i]) != 0)
            return kv_fail(err, KV_EFORMAT, "%s: column %d is '%.40s', expected '%s'", path, i + 1,
                           i < n ? names[i] : "", columns[i]);
    return n == N_COLUMNS ? KV_OK : kv_fail(err, KV_EFORMAT, "%s: %d columns, expected %d", path, n, (int)N_COLUMNS);
}

static int add_row(kv_store *s, sqlite3_stmt *st, char *line, const char *path, int number, int64_t *n_new,
                   kv_error *err) {
    char *v[N_COLUMNS], *end;
    int n = split(line, v);
    if (n != N_COLUMNS)
        return kv_fail(err, KV_EFORMAT, "%s: line %d has %d columns, expected %d", path, number, n, (int)N_COLUMNS);
    double value = strtod(v[VALUE], &end);
    if (!v[VALUE][0] || *end || !isfinite(value))
        return kv_fail(err, KV_EFORMAT, "%s: line %d: the value '%.40s' is no number", path, number, v[VALUE]);
    if (!v[0][0]) return kv_fail(err, KV_EFORMAT, "%s: line %d names no paper", path, number);
    int rc = SQLITE_OK;
    for (int i = 0; i < N_COLUMNS && rc == SQLITE_OK; i++)
        rc = i == VALUE ? sqlite3_bind_double(st, i + 1, value)
             : v[i][0]  ? sqlite3_bind_text(st, i + 1, v[i], -1, SQLITE_STATIC)
                        : sqlite3_bind_null(st, i + 1);
    if (rc == SQLITE_OK) rc = sqlite3_step(st);
    if (rc != SQLITE_DONE) return kv_store_fail(s, "adding a published number", err);
    if (n_new) *n_new += sqlite3_changes(s->db);
    sqlite3_reset(st);
    return KV_OK;
}

/* text is cut up. */
static int add_rows(kv_store *s, char *text, const char *path, int64_t *n_new, kv_error *err) {
    sqlite3_stmt *st = NULL;
    int rc = KV_OK, number = 0;
    if (sqlite3_prepare_v2(s->db, insert, -1, &st, NULL) != SQLITE_OK)
        return kv_store_fail(s, "preparing published numbers", err);
    for (char *line = text; line && *line && rc == KV_OK; number++) {
        char *next = strchr(line, '\n');
        if (next) *next++ = 0;
        size_t len = strlen(line);
        if (len && line[len - 1] == '\r') line[len - 1] = 0;
        rc = number == 0 ? check_header(line, path, err) : add_row(s, st, line, path, number + 1, n_new, err);
        line = next;
    }
    if (rc == KV_OK && number == 0) rc = kv_fail(err, KV_EFORMAT, "%s: empty", path);
    sqlite3_finalize(st);
    return rc;
}

int kv_paper_import(kv_store *s, const char *path, int64_t *n_new, kv_error *err) {
    char *text = NULL;
    size_t size;
    if (n_new) *n_new = 0;
    int rc = kv_read_file(path, &text, &size, err);
    if (rc) return rc;
    rc = kv_store_exec(s, "BEGIN IMMEDIATE", "waiting to write", err);
    if (rc == KV_OK) rc = add_rows(s, text, path, n_new, err);
    if (rc == KV_OK) rc = kv_store_exec(s, "COMMIT", "committing", err);
    if (rc && !sqlite3_get_autocommit(s->db)) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    free(text);
    return rc;
}

static void copy(sqlite3_stmt *st, int col, char *out, size_t size) {
    const unsigned char *t = sqlite3_column_text(st, col);
    snprintf(out, size, "%s", t ? (const char *)t : "");
}

static void read_row(sqlite3_stmt *st, kv_paper_number *r) {
    const struct {
        char *out;
        size_t size;
    } texts[N_COLUMNS] = {
        {r->paper, sizeof r->paper},       {r->version, sizeof r->version},
        {r->table, sizeof r->table},       {r->model, sizeof r->model},
        {r->task, sizeof r->task},         {r->metric, sizeof r->metric},
        {r->policy, sizeof r->policy},     {r->budget, sizeof r->budget},
        {r->buffer, sizeof r->buffer},     {r->context, sizeof r->context},
        {r->batch, sizeof r->batch},       {r->gen_len, sizeof r->gen_len},
        {r->hardware, sizeof r->hardware}, {NULL, 0},
        {r->unit, sizeof r->unit},         {r->read_from, sizeof r->read_from},
        {r->source, sizeof r->source},     {r->note, sizeof r->note},
    };
    for (int i = 0; i < N_COLUMNS; i++)
        if (texts[i].out) copy(st, i, texts[i].out, texts[i].size);
    r->value = sqlite3_column_double(st, VALUE);
}

int kv_paper_find(kv_store *s, const char *paper, const char *table, const char *metric, kv_paper_number **out,
                  size_t *n, kv_error *err) {
    sqlite3_stmt *st = NULL;
    size_t cap = 0;
    int step = SQLITE_DONE, rc = KV_OK;
    *out = NULL;
    *n = 0;
    if (sqlite3_prepare_v2(s->db, kv_embedded_queries_paper_sql, -1, &st, NULL) != SQLITE_OK)
        return kv_store_fail(s, "reading published numbers", err);
    const char *const keys[] = {paper, table, metric};
    for (int i = 0; i < 3; i++) sqlite3_bind_text(st, i + 1, keys[i], -1, SQLITE_STATIC);
    while (rc == KV_OK && (step = sqlite3_step(st)) == SQLITE_ROW) {
        if (*n == cap) {
            cap = cap ? 2 * cap : 16;
            kv_paper_number *more = realloc(*out, cap * sizeof **out);
            if (!more) {
                rc = kv_fail(err, KV_ENOMEM, "%s: out of memory for published numbers", s->path);
                break;
            }
            *out = more;
        }
        read_row(st, &(*out)[(*n)++]);
    }
    if (rc == KV_OK && step != SQLITE_DONE) rc = kv_store_fail(s, "reading published numbers", err);
    sqlite3_finalize(st);
    if (rc) {
        free(*out);
        *out = NULL;
        *n = 0;
    }
    return rc;
}
