/* store.c - opening, migrating and closing the results file, and SQLite's errors in words.
 *
 * Durability: WAL with synchronous=NORMAL.  A committed row is in the WAL through write(2) and so outlives the death
 * of the process at any instant (kill -9, out of memory).  Against loss of power the WAL is synced at the end of each
 * run, so that at most the samples of the runs in progress are lost; the file stays consistent either way.  FULL
 * would sync for every sample, which costs more than a short sample takes to generate.
 *
 * WAL needs shared memory, so all who write a file share one kernel; that is why a pid and a boot id suffice to
 * tell whether the writer of a run is still there. */
#include "results/store_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "results/embedded.h"
#include "results/process.h"

enum { APPLICATION_ID = 0x5452494d }; /* "TRIM": other programs' databases are left alone */

/* migrations[v] turns the tables of a file of version v into those of version v + 1; the views come after the last, and
 * a change of theirs alone is an empty step. */
static const char *const migrations[KV_STORE_VERSION] = {kv_embedded_schema_sql, kv_embedded_migrate_2_sql, ""};

int kv_store_fail(kv_store *s, const char *doing, kv_error *err) {
    /* SQLite keeps no system error when a commit fails in writing the log; then errno still holds it. */
    int last = errno, sys = sqlite3_system_errno(s->db), rc = sqlite3_errcode(s->db) & 0xff;
    if (!sys && sqlite3_extended_errcode(s->db) == SQLITE_IOERR_WRITE) sys = last;
    const char *p = s->path;
    if (rc == SQLITE_FULL || (rc == SQLITE_IOERR && (sys == ENOSPC || sys == EDQUOT || sys == EFBIG)))
        return kv_fail(err, KV_EIO,
                       "%s: %s: no space left (disk, quota or file size limit); free space and run the same command "
                       "again, finished samples are kept",
                       p, doing);
    switch (rc) {
    case SQLITE_NOMEM:
        return kv_fail(err, KV_ENOMEM, "%s: %s: out of memory", p, doing);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return kv_fail(err, KV_ETIMEOUT,
                       "%s: %s: another process holds the file locked; end it or let it finish, then try again", p,
                       doing);
    case SQLITE_NOTADB:
        return kv_fail(err, KV_EFORMAT, "%s: not an SQLite database; choose another path for the results", p);
    case SQLITE_CORRUPT:
        return kv_fail(err, KV_EFORMAT,
                       "%s: %s: the database is damaged (%s); save what is left with `sqlite3 FILE .recover`", p, doing,
                       sqlite3_errmsg(s->db));
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return kv_fail(err, KV_EIO, "%s: %s: not writable (the file or its folder); change the permissions or the path",
                       p, doing);
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
        return kv_fail(err, KV_EIO, "%s: %s: %s%s%s; check the folder, its permissions and the disk", p, doing,
                       sqlite3_errmsg(s->db), sys ? ": " : "", sys ? strerror(sys) : "");
    default:
        return kv_fail(err, KV_EDB, "%s: %s: %s", p, doing, sqlite3_errmsg(s->db));
    }
}

int kv_store_exec(kv_store *s, const char *sql, const char *doing, kv_error *err) {
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? KV_OK : kv_store_fail(s, doing, err);
}

static int read_int(kv_store *s, const char *sql, int64_t *out, kv_error *err) {
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) != SQLITE_OK || sqlite3_step(st) != SQLITE_ROW) {
        int rc = kv_store_fail(s, "reading the header", err);
        sqlite3_finalize(st);
        return rc;
    }
    *out = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return KV_OK;
}

/* Where a new file is to be made. */
static int check_folder(const char *path, const char *dir, kv_error *err) {
    struct stat sb;
    if (stat(dir, &sb) != 0 || !S_ISDIR(sb.st_mode))
        return kv_fail(err, KV_EIO, "%s: the folder %s does not exist; create it first", path, dir);
    if (access(dir, W_OK) != 0)
        return kv_fail(err, KV_EIO, "%s: no file can be made in %s: %s; choose another path for the results", path, dir,
                       strerror(errno));
    return KV_OK;
}

/* Only regular files and not yet existing ones in an existing folder get as far as SQLite. */
static int check_path(const char *path, kv_error *err) {
    struct stat sb;
    if (!path || !*path || *path == ':')
        return kv_fail(err, KV_EARG, "results file '%s': not a file name; give a path such as results.sqlite",
                       path ? path : "");
    if (stat(path, &sb) == 0) {
        if (S_ISDIR(sb.st_mode))
            return kv_fail(err, KV_EIO, "%s: is a folder; give the path of a file in it, such as %s/results.sqlite",
                           path, path);
        if (!S_ISREG(sb.st_mode))
            return kv_fail(err, KV_EIO, "%s: not a regular file; choose another path for the results", path);
    } else if (errno != ENOENT) {
        return kv_fail(err, KV_EIO, "%s: %s; choose another path for the results", path, strerror(errno));
    } else {
        const char *slash = strrchr(path, '/');
        char *dir = strndup(slash ? path : ".", slash && slash > path ? (size_t)(slash - path) : 1);
        if (!dir) return kv_fail(err, KV_ENOMEM, "%s: out of memory", path);
        int rc = check_folder(path, dir, err);
        free(dir);
        return rc;
    }
    return KV_OK;
}

/* *version of the file; refuses what is newer or belongs to another program.  The three reads are one transaction,
 * or else another process could migrate the file between them. */
static int check_version(kv_store *s, int64_t *version, kv_error *err) {
    int64_t app = 0, objects = 0;
    int own = sqlite3_get_autocommit(s->db);
    int rc = own ? kv_store_exec(s, "BEGIN", "opening", err) : KV_OK;
    if (!rc) rc = read_int(s, "PRAGMA user_version", version, err);
    if (!rc) rc = read_int(s, "PRAGMA application_id", &app, err);
    if (!rc) rc = read_int(s, "SELECT count(*) FROM sqlite_schema", &objects, err);
    if (own && !sqlite3_get_autocommit(s->db)) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    if (rc) return rc;
    if (objects && app != APPLICATION_ID)
        return kv_fail(err, KV_EFORMAT,
                       "%s: an SQLite database of another program; choose another path for the results", s->path);
    if (*version > KV_STORE_VERSION || *version < 0)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "%s: results file of version %lld, this program knows up to %d; use a newer trimbench", s->path,
                       (long long)*version, KV_STORE_VERSION);
    return KV_OK;
}

/* All missing versions in one transaction; the version is read again inside it, as another process may have won. */
static int migrate(kv_store *s, kv_error *err) {
    int64_t version;
    int rc = check_version(s, &version, err);
    if (rc || version == KV_STORE_VERSION) return rc;
    rc = kv_store_exec(s, "BEGIN IMMEDIATE", "starting a migration", err);
    if (rc) return rc;
    rc = check_version(s, &version, err);
    for (; !rc && version < KV_STORE_VERSION; version++) {
        char done[96];
        rc = kv_store_exec(s, migrations[version], "migrating", err);
        snprintf(done, sizeof done, "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID,
                 (int)version + 1);
        if (!rc) rc = kv_store_exec(s, done, "migrating", err);
    }
    if (!rc) rc = kv_store_exec(s, kv_embedded_views_sql, "migrating", err);
    if (!rc) rc = kv_store_exec(s, "COMMIT", "migrating", err);
    if (rc && !sqlite3_get_autocommit(s->db)) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

/* The switch to WAL wants the file for itself and does not wait by the busy timeout, so waiting is done here. */
static int enter_wal(kv_store *s, int wait_ms, kv_error *err) {
    const struct timespec pause = {0, 5 * 1000 * 1000};
    for (int waited = 0;; waited += 5) {
        sqlite3_stmt *st = NULL;
        int rc = sqlite3_prepare_v2(s->db, "PRAGMA journal_mode = WAL", -1, &st, NULL), wal = 0;
        if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW)
            wal = strcmp((const char *)sqlite3_column_text(st, 0), "wal") == 0;
        if (rc != SQLITE_ROW && (rc != SQLITE_BUSY || waited >= wait_ms)) {
            int fail = kv_store_fail(s, "opening", err);
            sqlite3_finalize(st);
            return fail;
        }
        sqlite3_finalize(st);
        if (wal) return KV_OK;
        if (rc == SQLITE_ROW)
            return kv_fail(err, KV_EUNSUPPORTED,
                           "%s: this file system has no shared memory for a write-ahead log; use a local disk",
                           s->path);
        nanosleep(&pause, NULL);
    }
}

static int is_gone(sqlite3_stmt *run, const kv_process *me) {
    const char *host = (const char *)sqlite3_column_text(run, 1), *boot = (const char *)sqlite3_column_text(run, 2),
               *space = (const char *)sqlite3_column_text(run, 3);
    if (!host || !boot || !space || strcmp(host, me->hostname)) return 0;
    if (strcmp(boot, me->boot_id)) return 1;
    if (strcmp(space, me->pid_space)) return 0;
    return !kv_process_alive(sqlite3_column_int64(run, 4), sqlite3_column_int64(run, 5));
}

/* Runs whose process died without a word are interrupted.  A run of another machine is left alone. */
static int mark_gone(kv_store *s, kv_error *err) {
    static const char *const find = "SELECT id, hostname, boot_id, pid_space, pid, pid_start FROM run "
                                    "WHERE status = 'running'";
    static const char *const mark = "UPDATE run SET status = 'interrupted', error = 'the process ended without closing "
                                    "the run', finished = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') "
                                    "WHERE id = ? AND status = 'running'";
    kv_process me;
    sqlite3_stmt *st = NULL, *up = NULL;
    int rc = KV_OK, step = SQLITE_DONE;
    kv_process_self(&me);
    if (sqlite3_prepare_v2(s->db, find, -1, &st, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(s->db, mark, -1, &up, NULL) != SQLITE_OK)
        rc = kv_store_fail(s, "looking for interrupted runs", err);
    /* Ids first: a statement that reads must not be open when the next one wants to write. */
    int64_t *ids = NULL;
    size_t n = 0;
    while (!rc && (step = sqlite3_step(st)) == SQLITE_ROW) {
        if (!is_gone(st, &me)) continue;
        int64_t *more = realloc(ids, (n + 1) * sizeof *ids);
        if (!more) {
            rc = kv_fail(err, KV_ENOMEM, "%s: out of memory", s->path);
            break;
        }
        ids = more;
        ids[n++] = sqlite3_column_int64(st, 0);
    }
    if (!rc && step != SQLITE_DONE) rc = kv_store_fail(s, "looking for interrupted runs", err);
    sqlite3_finalize(st);
    for (size_t i = 0; !rc && i < n; i++) {
        sqlite3_bind_int64(up, 1, ids[i]);
        if (sqlite3_step(up) != SQLITE_DONE) rc = kv_store_fail(s, "marking an interrupted run", err);
        sqlite3_reset(up);
    }
    sqlite3_finalize(up);
    free(ids);
    return rc;
}

static int open_file(kv_store *s, int wait_ms, kv_error *err) {
    if (sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK)
        return s->db ? kv_store_fail(s, "opening", err) : kv_fail(err, KV_ENOMEM, "%s: out of memory", s->path);
    sqlite3_busy_timeout(s->db, wait_ms);
    if (sqlite3_db_readonly(s->db, "main") == 1)
        return kv_fail(err, KV_EIO, "%s: not writable; change its permissions or choose another path", s->path);
    int64_t version;
    int rc = check_version(s, &version, err);
    if (!rc) rc = enter_wal(s, wait_ms, err);
    if (!rc) rc = kv_store_exec(s, "PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL", "opening", err);
    if (!rc) rc = migrate(s, err);
    return rc ? rc : mark_gone(s, err);
}

int kv_store_open_wait(const char *path, int wait_ms, kv_store **out, kv_error *err) {
    *out = NULL;
    int rc = check_path(path, err);
    if (rc) return rc;
    kv_store *s = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(path))) {
        free(s);
        return kv_fail(err, KV_ENOMEM, "%s: out of memory", path);
    }
    rc = open_file(s, wait_ms, err);
    if (rc) {
        kv_store_close(s);
        return rc;
    }
    *out = s;
    return KV_OK;
}

int kv_store_open(const char *path, kv_store **out, kv_error *err) {
    return kv_store_open_wait(path, KV_STORE_WAIT_MS, out, err);
}

/* The path as an SQLite URI for a file that nobody can be writing; malloc'd, NULL without memory. */
static char *immutable_uri(const char *path) {
    static const char *const ending = "?immutable=1";
    char *uri = malloc(8 + 3 * strlen(path) + strlen(ending)), *p = uri;
    if (!uri) return NULL;
    p = stpcpy(p, "file:");
    for (; *path; path++) {
        if (*path == '%' || *path == '?' || *path == '#')
            p += sprintf(p, "%%%02x", (unsigned)*path);
        else
            *p++ = *path;
    }
    strcpy(p, ending);
    return uri;
}

/* *version: of the file, no newer than this program's. */
static int open_for_reading(kv_store *s, const char *name, int flags, int64_t *version, kv_error *err) {
    if (sqlite3_open_v2(name, &s->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | flags, NULL) != SQLITE_OK)
        return s->db ? kv_store_fail(s, "opening", err) : kv_fail(err, KV_ENOMEM, "%s: out of memory", s->path);
    sqlite3_busy_timeout(s->db, KV_STORE_WAIT_MS);
    return check_version(s, version, err);
}

/* WAL wants a file beside the database, which a read-only folder refuses; without a log none is needed. */
static int open_unchanged(const char *path, kv_store **out, int64_t *version, kv_error *err) {
    struct stat wal;
    *out = NULL;
    kv_store *s = calloc(1, sizeof *s);
    char *uri = immutable_uri(path), *log = malloc(strlen(path) + sizeof "-wal");
    if (log) stpcpy(stpcpy(log, path), "-wal");
    int rc = s && uri && log && (s->path = strdup(path)) ? KV_OK : kv_fail(err, KV_ENOMEM, "%s: out of memory", path);
    if (rc == KV_OK && (stat(log, &wal) != 0 || wal.st_size == 0))
        rc = open_for_reading(s, uri, SQLITE_OPEN_URI, version, err);
    else if (rc == KV_OK)
        rc = open_for_reading(s, path, 0, version, err);
    free(uri);
    free(log);
    if (rc)
        kv_store_close(s);
    else
        *out = s;
    return rc;
}

int kv_store_open_read(const char *path, kv_store **out, kv_error *err) {
    int64_t version;
    *out = NULL;
    int rc = check_path(path, err);
    if (rc == KV_OK) rc = open_unchanged(path, out, &version, err);
    if (rc || version == KV_STORE_VERSION) return rc;
    kv_store_close(*out);
    *out = NULL;
    return kv_fail(err, KV_EUNSUPPORTED, "%s: holds no results of this version; copy it to where it can be written",
                   path);
}

int kv_store_open_existing(const char *path, kv_store **out, kv_error *err) {
    kv_error why = {0}, unread = {0};
    *out = NULL;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return kv_fail(err, KV_ENOTFOUND, "%s does not exist: trimbench run writes it", path);
    int rc = kv_store_open(path, out, &why);
    if (rc == KV_EIO && kv_store_open_read(path, out, &unread) == KV_OK) return KV_OK;
    if (unread.code == KV_EUNSUPPORTED) why = unread, rc = unread.code; /* older: it would have to be changed */
    return rc ? kv_fail(err, rc, "%s", why.text) : KV_OK;
}

int kv_store_check(const char *path, kv_error *err) {
    int64_t version;
    kv_store *s = NULL;
    int rc = check_path(path, err);
    if (rc == KV_OK && access(path, F_OK) == 0) rc = open_unchanged(path, &s, &version, err);
    kv_store_close(s);
    return rc;
}

void kv_store_close(kv_store *s) {
    if (!s) return;
    sqlite3_finalize(s->insert_sample);
    sqlite3_finalize(s->has_sample);
    sqlite3_close(s->db);
    free(s->path);
    free(s);
}
