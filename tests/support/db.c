/* db.c - see db.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/file.h"
#include "results/store.h"
#include "tests/support/db.h"

static sqlite3 *open_db(const char *path) {
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    return db;
}

int64_t db_int(const char *path, const char *sql) {
    sqlite3 *db = open_db(path);
    sqlite3_stmt *st;
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL)) fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    int64_t v = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return v;
}

void db_exec(const char *path, const char *sql) {
    sqlite3 *db = open_db(path);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL)) fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    sqlite3_close(db);
}

char *db_dump(const char *path) {
    kv_store *s = NULL;
    kv_error err = {0};
    char *text = NULL, to[512];
    size_t n;
    snprintf(to, sizeof to, "%s.txt", path);
    if (kv_store_open(path, &s, &err) || kv_store_dump(s, to, &err) || kv_read_file(to, &text, &n, &err))
        fail_msg("%s", err.text);
    kv_store_close(s);
    unlink(to);
    return text;
}
