/* store_internal.h - what the store's own files share: the handle, statements, and one way to name SQLite's errors. */
#ifndef KV_STORE_INTERNAL_H
#define KV_STORE_INTERNAL_H

#include <sqlite3.h>

#include "results/store.h"

enum { KV_STORE_VERSION = 3, KV_STORE_WAIT_MS = 10000 };

struct kv_store {
    sqlite3 *db;
    char *path;
    sqlite3_stmt *insert_sample, *has_sample; /* prepared on first use */
};

/* kv_store_open with another bound on the wait for other writers. */
int kv_store_open_wait(const char *path, int wait_ms, kv_store **out, kv_error *err);

/* Turns the handle's last SQLite error into a kv_error: "<path>: <doing>: <reason>; <what to do>". */
int kv_store_fail(kv_store *s, const char *doing, kv_error *err);

int kv_store_exec(kv_store *s, const char *sql, const char *doing, kv_error *err);

/* store_averages.c: the members of the cells that are made of single answers, from k on (store.h); keys_json as in
 * queries/cells.sql. */
int kv_store_averages(kv_store *s, const char *keys_json, kv_cell *cells, size_t n, kv_error *err);

/* One column and its value; a NULL text, a NAN and a zero reference become NULL. */
typedef struct kv_store_value {
    const char *column;
    enum { KV_STORE_TEXT, KV_STORE_INT, KV_STORE_REAL, KV_STORE_REF } type;
    const char *text;
    int64_t integer;
    double real;
} kv_store_value;

/* INSERT of one row; *id (when not NULL) receives its rowid. */
int kv_store_insert(kv_store *s, const char *table, const kv_store_value *v, size_t n, int64_t *id, kv_error *err);

#endif
