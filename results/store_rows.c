/* store_rows.c - the inserts: reference rows found again by content, runs, samples, measurements.
 *
 * A row is written from one list of (column, value) pairs, which serves the INSERT and the search alike.  Each call
 * is one transaction. */
#include "results/store_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "results/process.h"
#include "results/stringbuf.h"

#define TEXT(r, c)                                                                                                     \
    { #c, KV_STORE_TEXT, .text = (r)->c }
#define INT(r, c)                                                                                                      \
    { #c, KV_STORE_INT, .integer = (int64_t)(r)->c }
#define REAL(r, c)                                                                                                     \
    { #c, KV_STORE_REAL, .real = (r)->c }
#define REF(r, c)                                                                                                      \
    { #c, KV_STORE_REF, .integer = (r)->c }
#define COUNT(v) (sizeof(v) / sizeof *(v))

static int bind(sqlite3_stmt *st, int i, const kv_store_value *v) {
    switch (v->type) {
    case KV_STORE_TEXT:
        return sqlite3_bind_text(st, i, v->text, -1, SQLITE_STATIC);
    case KV_STORE_REAL:
        return isnan(v->real) ? sqlite3_bind_null(st, i) : sqlite3_bind_double(st, i, v->real);
    case KV_STORE_REF:
        if (!v->integer) return sqlite3_bind_null(st, i);
        return sqlite3_bind_int64(st, i, v->integer);
    default:
        return sqlite3_bind_int64(st, i, v->integer);
    }
}

/* Prepares "<head><column><between><column>...<tail>" and binds the values. */
static int prepare(kv_store *s, kv_string *sql, const kv_store_value *v, size_t n, sqlite3_stmt **st, kv_error *err) {
    *st = NULL;
    if (sql->failed) return kv_fail(err, KV_ENOMEM, "%s: out of memory", s->path);
    int rc = sqlite3_prepare_v2(s->db, sql->p, -1, st, NULL);
    for (size_t i = 0; rc == SQLITE_OK && i < n; i++) rc = bind(*st, (int)i + 1, &v[i]);
    return rc == SQLITE_OK ? KV_OK : kv_store_fail(s, "preparing a row", err);
}

int kv_store_insert(kv_store *s, const char *table, const kv_store_value *v, size_t n, int64_t *id, kv_error *err) {
    kv_string sql = {0};
    sqlite3_stmt *st;
    char doing[64];
    kv_string_addf(&sql, "INSERT INTO %s(", table);
    for (size_t i = 0; i < n; i++) kv_string_addf(&sql, "%s\"%s\"", i ? ", " : "", v[i].column);
    kv_string_add(&sql, ") VALUES (");
    for (size_t i = 0; i < n; i++) kv_string_add(&sql, i ? ", ?" : "?");
    kv_string_add(&sql, ")");
    int rc = prepare(s, &sql, v, n, &st, err);
    snprintf(doing, sizeof doing, "adding a %s row", table);
    if (!rc && sqlite3_step(st) != SQLITE_DONE) rc = kv_store_fail(s, doing, err);
    if (!rc && id) *id = sqlite3_last_insert_rowid(s->db);
    sqlite3_finalize(st);
    kv_string_free(&sql);
    return rc;
}

static int find(kv_store *s, const char *table, const kv_store_value *v, size_t n, int64_t *id, kv_error *err) {
    kv_string sql = {0};
    sqlite3_stmt *st;
    *id = 0;
    kv_string_addf(&sql, "SELECT id FROM %s WHERE ", table);
    for (size_t i = 0; i < n; i++) kv_string_addf(&sql, "%s\"%s\" IS ?", i ? " AND " : "", v[i].column);
    int rc = prepare(s, &sql, v, n, &st, err);
    if (!rc) {
        int step = sqlite3_step(st);
        if (step == SQLITE_ROW)
            *id = sqlite3_column_int64(st, 0);
        else if (step != SQLITE_DONE)
            rc = kv_store_fail(s, "searching", err);
    }
    sqlite3_finalize(st);
    kv_string_free(&sql);
    return rc;
}

/* The search is repeated under the write lock, so that two processes cannot both insert. */
static int find_or_insert(kv_store *s, const char *table, const kv_store_value *v, size_t n, int64_t *id,
                          kv_error *err) {
    int rc = find(s, table, v, n, id, err);
    if (rc || *id) return rc;
    rc = kv_store_exec(s, "BEGIN IMMEDIATE", "waiting to write", err);
    if (rc) return rc;
    rc = find(s, table, v, n, id, err);
    if (!rc && !*id) rc = kv_store_insert(s, table, v, n, id, err);
    if (!rc) rc = kv_store_exec(s, "COMMIT", "committing", err);
    if (rc && !sqlite3_get_autocommit(s->db)) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

int kv_store_host(kv_store *s, const kv_host_row *r, int64_t *id, kv_error *err) {
    const kv_store_value v[] = {TEXT(r, hostname), TEXT(r, os), TEXT(r, cpu), INT(r, n_cores), INT(r, ram_bytes)};
    return find_or_insert(s, "host", v, COUNT(v), id, err);
}

int kv_store_gpu(kv_store *s, const kv_gpu_row *r, int64_t *id, kv_error *err) {
    const kv_store_value v[] = {TEXT(r, name),        TEXT(r, uuid_hash),   TEXT(r, driver),
                                INT(r, memory_bytes), INT(r, sm_clock_mhz), INT(r, mem_clock_mhz),
                                INT(r, ecc),          REAL(r, power_cap_w), REAL(r, copy_gb_s)};
    return find_or_insert(s, "gpu", v, COUNT(v), id, err);
}

int kv_store_build(kv_store *s, const kv_build_row *r, int64_t *id, kv_error *err) {
    const kv_store_value v[] = {TEXT(r, commit), INT(r, dirty), TEXT(r, flags), TEXT(r, compiler), TEXT(r, cuda)};
    return find_or_insert(s, "build", v, COUNT(v), id, err);
}

int kv_store_model(kv_store *s, const kv_model_row *r, int64_t *id, kv_error *err) {
    const kv_store_value v[] = {TEXT(r, path),           TEXT(r, sha256),
                                TEXT(r, arch),           TEXT(r, name),
                                TEXT(r, weights),        TEXT(r, adapter),
                                TEXT(r, adapter_sha256), TEXT(r, gates),
                                TEXT(r, gates_sha256),   TEXT(r, tokenizer_sha256),
                                TEXT(r, chat_template),  TEXT(r, chat_hash),
                                INT(r, n_layers),        INT(r, dim),
                                INT(r, n_heads),         INT(r, n_kv_heads),
                                INT(r, head_dim),        INT(r, n_ctx)};
    return find_or_insert(s, "model", v, COUNT(v), id, err);
}

int kv_store_policy(kv_store *s, const kv_policy_row *r, int64_t *id, kv_error *err) {
    const kv_store_value v[] = {TEXT(r, name), TEXT(r, params), TEXT(r, sha256), TEXT(r, title)};
    return find_or_insert(s, "policy", v, COUNT(v), id, err);
}

int kv_store_task(kv_store *s, const kv_task_row *r, int64_t *id, kv_error *err) {
    const kv_store_value v[] = {TEXT(r, name),        TEXT(r, variant), TEXT(r, grader),
                                TEXT(r, data_sha256), INT(r, version),  INT(r, grader_version)};
    return find_or_insert(s, "task", v, COUNT(v), id, err);
}

int kv_store_begin_run(kv_store *s, const kv_run_row *r, int64_t *run_id, kv_error *err) {
    kv_process me;
    kv_process_self(&me);
    const kv_store_value v[] = {TEXT(r, cell_key),
                                REF(r, host_id),
                                REF(r, gpu_id),
                                REF(r, build_id),
                                REF(r, model_id),
                                REF(r, policy_id),
                                REF(r, task_id),
                                INT(r, budget),
                                INT(r, buffer),
                                TEXT(r, prefill),
                                TEXT(r, query),
                                INT(r, max_new),
                                REAL(r, temperature),
                                REAL(r, top_p),
                                REAL(r, min_p),
                                INT(r, top_k),
                                INT(r, seed),
                                TEXT(r, backend),
                                TEXT(r, numerics),
                                INT(r, batch),
                                INT(r, n_threads),
                                {"item_limit", KV_STORE_INT, .integer = r->limit},
                                TEXT(r, cache_type),
                                TEXT(r, score_path),
                                TEXT(r, argv),
                                INT(r, any_build),
                                TEXT(&me, hostname),
                                TEXT(&me, boot_id),
                                TEXT(&me, pid_space),
                                INT(&me, pid),
                                {"pid_start", KV_STORE_INT, .integer = me.start},
                                {"status", KV_STORE_TEXT, .text = "running"}};
    return kv_store_insert(s, "run", v, COUNT(v), run_id, err);
}

/* SQLite would go on writing to a file that nobody can open any more. */
static int check_place(kv_store *s, kv_error *err) {
    int moved = 0;
    if (sqlite3_file_control(s->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) != SQLITE_OK || !moved) return KV_OK;
    return kv_fail(err, KV_EIO,
                   "%s: moved or deleted while it was being written; put it back, or run the same command again for a "
                   "new one",
                   s->path);
}

int kv_store_end_run(kv_store *s, int64_t run_id, const char *status, const char *error, kv_error *err) {
    static const char *const known[] = {"done", "oom", "timeout", "error", "interrupted"};
    size_t i = 0;
    while (i < COUNT(known) && strcmp(known[i], status)) i++;
    if (i == COUNT(known))
        return kv_fail(err, KV_EARG, "a run cannot end as '%s'; use done, oom, timeout, error or interrupted", status);
    sqlite3_stmt *st = NULL;
    int rc = check_place(s, err);
    if (rc) return rc;
    rc = sqlite3_prepare_v2(s->db,
                            "UPDATE run SET status = ?1, error = ?2, finished = strftime('%Y-%m-%dT%H:%M:%fZ', "
                            "'now') WHERE id = ?3",
                            -1, &st, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_text(st, 1, status, -1, SQLITE_STATIC);
        sqlite3_bind_text(st, 2, error, -1, SQLITE_STATIC);
        sqlite3_bind_int64(st, 3, run_id);
        rc = sqlite3_step(st);
    }
    rc = rc == SQLITE_DONE ? KV_OK : kv_store_fail(s, "ending a run", err);
    sqlite3_finalize(st);
    if (!rc && !sqlite3_changes(s->db))
        return kv_fail(err, KV_ENOTFOUND, "%s: there is no run %lld to end", s->path, (long long)run_id);
    /* Syncs the log to disk.  That it cannot now, because someone reads, costs nothing but a later checkpoint. */
    if (!rc) sqlite3_wal_checkpoint_v2(s->db, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    return rc;
}

static int prepare_sample(kv_store *s, const kv_store_value *v, size_t n, kv_error *err) {
    kv_string sql = {0};
    kv_string_add(&sql, "INSERT INTO sample(run_id, cell_key, build_id");
    for (size_t i = 1; i < n; i++) kv_string_addf(&sql, ", \"%s\"", v[i].column);
    kv_string_add(&sql,
                  ") VALUES (?1, (SELECT cell_key FROM run WHERE id = ?1), (SELECT build_id FROM run WHERE id = ?1)");
    for (size_t i = 1; i < n; i++) kv_string_addf(&sql, ", ?%zu", i + 1);
    kv_string_add(&sql, ") ON CONFLICT(cell_key, item, k, ifnull(build_id, 0)) DO NOTHING");
    int rc = sql.failed ? kv_fail(err, KV_ENOMEM, "%s: out of memory", s->path) : KV_OK;
    if (!rc && sqlite3_prepare_v3(s->db, sql.p, -1, SQLITE_PREPARE_PERSISTENT, &s->insert_sample, NULL) != SQLITE_OK)
        rc = kv_store_fail(s, "preparing a sample", err);
    kv_string_free(&sql);
    return rc;
}

int kv_store_sample(kv_store *s, int64_t run_id, const kv_sample_row *r, kv_error *err) {
    kv_string tokens = {0}, output = {0}, extracted = {0};
    /* an answer may end within a character; readers of the file take texts for UTF-8 */
    if (r->output) kv_string_add_valid(&output, r->output);
    if (r->extracted) kv_string_add_valid(&extracted, r->extracted);
    kv_string_add(&tokens, "[");
    for (int i = 0; i < r->n_tokens; i++) kv_string_addf(&tokens, i ? ",%d" : "%d", (int)r->tokens[i]);
    kv_string_add(&tokens, "]");
    if (tokens.failed || output.failed || extracted.failed) {
        kv_string_free(&tokens);
        kv_string_free(&output);
        kv_string_free(&extracted);
        return kv_fail(err, KV_ENOMEM, "%s: out of memory", s->path);
    }
    const kv_store_value v[] = {{"run_id", KV_STORE_INT, .integer = run_id},
                                TEXT(r, item),
                                INT(r, k),
                                TEXT(r, prompt_sha256),
                                INT(r, prompt_tokens),
                                TEXT(r, first_ids),
                                {"tokens", KV_STORE_TEXT, .text = tokens.p},
                                INT(r, n_tokens),
                                TEXT(r, stop),
                                {"output", KV_STORE_TEXT, .text = output.p},
                                {"extracted", KV_STORE_TEXT, .text = extracted.p},
                                TEXT(r, gold),
                                REAL(r, score),
                                REAL(r, partial),
                                INT(r, answered),
                                REAL(r, strict),
                                REAL(r, compat),
                                TEXT(r, rule),
                                TEXT(r, reason),
                                REAL(r, prefill_s),
                                REAL(r, decode_s),
                                REAL(r, peak_slots),
                                REAL(r, mean_slots),
                                INT(r, kv_bytes_peak),
                                INT(r, n_evictions),
                                INT(r, n_moved),
                                INT(r, prefill_shared),
                                TEXT(r, logits_hash),
                                TEXT(r, status),
                                TEXT(r, error)};
    int rc = check_place(s, err);
    if (!rc && !s->insert_sample) rc = prepare_sample(s, v, COUNT(v), err);
    if (!rc) {
        int db = SQLITE_OK;
        for (size_t i = 0; db == SQLITE_OK && i < COUNT(v); i++) db = bind(s->insert_sample, (int)i + 1, &v[i]);
        if (db == SQLITE_OK) db = sqlite3_step(s->insert_sample);
        if (db != SQLITE_DONE) rc = kv_store_fail(s, "adding a sample", err);
        sqlite3_reset(s->insert_sample);
        sqlite3_clear_bindings(s->insert_sample);
    }
    kv_string_free(&tokens);
    kv_string_free(&output);
    kv_string_free(&extracted);
    return rc;
}

int kv_store_has_sample(kv_store *s, const char *cell_key, int64_t build_id, const char *item, int k, int *found,
                        kv_error *err) {
    static const char *const sql = "SELECT 1 FROM sample WHERE cell_key = ?1 AND item = ?2 AND k = ?3 "
                                   "AND (?4 = 0 OR ifnull(build_id, 0) = ?4) LIMIT 1";
    *found = 0;
    if (!s->has_sample &&
        sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s->has_sample, NULL) != SQLITE_OK)
        return kv_store_fail(s, "preparing a search", err);
    sqlite3_stmt *st = s->has_sample;
    sqlite3_bind_text(st, 1, cell_key, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 2, item, -1, SQLITE_STATIC);
    sqlite3_bind_int(st, 3, k);
    sqlite3_bind_int64(st, 4, build_id);
    int step = sqlite3_step(st), rc = KV_OK;
    *found = step == SQLITE_ROW;
    if (step != SQLITE_ROW && step != SQLITE_DONE) rc = kv_store_fail(s, "searching a sample", err);
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    return rc;
}

/* A device without telemetry, or a CPU, has no clocks; then no throttle bits are known either. */
int kv_store_timing(kv_store *s, int64_t run_id, const kv_timing_row *r, kv_error *err) {
    const kv_store_value v[] = {{"run_id", KV_STORE_INT, .integer = run_id},
                                TEXT(r, phase),
                                INT(r, rep),
                                INT(r, batch),
                                INT(r, ctx),
                                INT(r, n_tokens),
                                REAL(r, seconds),
                                REF(r, sm_clock_mhz),
                                REF(r, mem_clock_mhz),
                                REF(r, temp_c),
                                {"throttle", r->sm_clock_mhz ? KV_STORE_INT : KV_STORE_REF, .integer = r->throttle},
                                REF(r, live_first),
                                REF(r, live_last)};
    return kv_store_insert(s, "timing", v, COUNT(v), NULL, err);
}

int kv_store_memory(kv_store *s, int64_t run_id, const kv_memory_row *r, kv_error *err) {
    const kv_store_value v[] = {{"run_id", KV_STORE_INT, .integer = run_id},
                                INT(r, weights),
                                INT(r, kv),
                                INT(r, workspace),
                                INT(r, graphs),
                                REF(r, device_free_before),
                                REF(r, device_free_after),
                                INT(r, host_peak_rss)};
    return kv_store_insert(s, "memory", v, COUNT(v), NULL, err);
}

int kv_store_counter(kv_store *s, int64_t run_id, const char *name, int64_t value, kv_error *err) {
    const kv_store_value v[] = {{"run_id", KV_STORE_INT, .integer = run_id},
                                {"name", KV_STORE_TEXT, .text = name},
                                {"value", KV_STORE_INT, .integer = value}};
    return kv_store_insert(s, "counter", v, COUNT(v), NULL, err);
}
