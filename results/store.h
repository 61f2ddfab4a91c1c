/* store.h - the SQLite record of what ran (schema.sql); the only code that includes sqlite3.h.
 *
 * One file, WAL, foreign keys, append-only.  Every sample is committed as it finishes, so a crash at any instant
 * loses at most the samples in flight.  A cell is identified by its key (results/README.md); its
 * samples may come from several runs. */
#ifndef KV_STORE_H
#define KV_STORE_H

#include "engine/kv.h"

typedef struct kv_store kv_store;

/* Creates or migrates (PRAGMA user_version).  A file of a newer version, a file that is no database, an unwritable
 * path or a full disk is an error that says so.  Waits for another writer for a bounded time. */
int kv_store_open(const char *path, kv_store **out, kv_error *err);
/* For a file that may not be written, such as a published one: never changes it.  Runs whose process died still say
 * "running". */
int kv_store_open_read(const char *path, kv_store **out, kv_error *err);
/* To show what is in it: kv_store_open where the file can be written, else kv_store_open_read; KV_ENOTFOUND when it is
 * not there. */
int kv_store_open_existing(const char *path, kv_store **out, kv_error *err);
/* The error that kv_store_open would give for a path or a file that is no results file of ours; changes nothing. */
int kv_store_check(const char *path, kv_error *err);
void kv_store_close(kv_store *s);

/* Rows of what a run refers to; each is inserted once and found again by content.  NULL strings become NULL. */
typedef struct kv_host_row {
    const char *hostname, *os, *cpu;
    int n_cores;
    int64_t ram_bytes;
} kv_host_row;
typedef struct kv_gpu_row {
    const char *name, *uuid_hash, *driver;
    int64_t memory_bytes;
    int sm_clock_mhz, mem_clock_mhz, ecc;
    double power_cap_w;
    double copy_gb_s;
} kv_gpu_row;
typedef struct kv_build_row {
    const char *commit;
    int dirty;
    const char *flags, *compiler, *cuda;
} kv_build_row;
typedef struct kv_model_row {
    const char *path, *sha256, *arch, *name, *weights, *adapter, *adapter_sha256, *gates, *gates_sha256,
        *tokenizer_sha256, *chat_template, *chat_hash;
    int n_layers, dim, n_heads, n_kv_heads, head_dim, n_ctx;
} kv_model_row;
/* params: the non-default parameters "key=value:key=value" (NULL or "" for none; the whole canonical notation is taken
 * too); title: for plots and tables, NULL = name. */
typedef struct kv_policy_row {
    const char *name, *params, *sha256, *title;
} kv_policy_row;
typedef struct kv_task_row {
    const char *name, *variant, *grader, *data_sha256;
    int version, grader_version;
} kv_task_row;

typedef struct kv_run_row {
    const char *cell_key;                                            /* sha256 hex */
    int64_t host_id, gpu_id, build_id, model_id, policy_id, task_id; /* 0 = none */
    int budget, buffer, batch, n_threads, max_new, limit;
    const char *prefill; /* "full" or "stream:32" */
    const char *query;   /* "after" or "before" */
    const char *numerics, *backend, *cache_type, *score_path;
    double temperature, top_p, min_p;
    int top_k;
    int64_t seed;
    const char *argv;
    int any_build; /* 1: --resume-any, samples of earlier builds count as this cell's too */
} kv_run_row;

/* status: "queued", "running", "done", "oom", "timeout", "error", "interrupted". */
int kv_store_host(kv_store *s, const kv_host_row *r, int64_t *id, kv_error *err);
int kv_store_gpu(kv_store *s, const kv_gpu_row *r, int64_t *id, kv_error *err);
int kv_store_build(kv_store *s, const kv_build_row *r, int64_t *id, kv_error *err);
int kv_store_model(kv_store *s, const kv_model_row *r, int64_t *id, kv_error *err);
int kv_store_policy(kv_store *s, const kv_policy_row *r, int64_t *id, kv_error *err);
int kv_store_task(kv_store *s, const kv_task_row *r, int64_t *id, kv_error *err);
int kv_store_begin_run(kv_store *s, const kv_run_row *r, int64_t *run_id, kv_error *err); /* status "running" */
int kv_store_end_run(kv_store *s, int64_t run_id, const char *status, const char *error, kv_error *err);

typedef struct kv_sample_row {
    const char *item;
    int k; /* item id, sample index */
    const char *prompt_sha256;
    int prompt_tokens;
    const char *first_ids; /* JSON array of the first 16 prompt ids */
    const int32_t *tokens;
    int n_tokens; /* generated */
    const char *stop, *output, *extracted, *gold;
    double score, partial;
    int answered;
    double strict, compat;     /* the strict and the published verdict; NAN = not graded that way */
    const char *rule, *reason; /* which rule found the answer; why the score is what it is */
    double prefill_s, decode_s, peak_slots, mean_slots;
    int64_t kv_bytes_peak, n_evictions, n_moved;
    int prefill_shared;         /* the forward over the prompt was shared with other cells */
    const char *logits_hash;    /* hex */
    const char *status, *error; /* "ok" or "error" with text */
} kv_sample_row;
/* One transaction.  A second row for the same (cell key, build, item, k) is ignored. */
int kv_store_sample(kv_store *s, int64_t run_id, const kv_sample_row *r, kv_error *err);

/* 1 when (cell key, item, k) is already there; build_id 0 accepts samples of any build (--resume-any). */
int kv_store_has_sample(kv_store *s, const char *cell_key, int64_t build_id, const char *item, int k, int *found,
                        kv_error *err);

/* Clocks, temperature and live slots: 0 = not measured. */
typedef struct kv_timing_row {
    const char *phase;
    int rep, batch, ctx;
    int64_t n_tokens;
    double seconds;
    int sm_clock_mhz, mem_clock_mhz, temp_c;
    int64_t throttle;
    int live_first, live_last;
} kv_timing_row;
int kv_store_timing(kv_store *s, int64_t run_id, const kv_timing_row *r, kv_error *err);
typedef struct kv_memory_row {
    int64_t weights, kv, workspace, graphs, device_free_before, device_free_after, host_peak_rss;
} kv_memory_row;
int kv_store_memory(kv_store *s, int64_t run_id, const kv_memory_row *r, kv_error *err);
int kv_store_counter(kv_store *s, int64_t run_id, const char *name, int64_t value, kv_error *err);

/* What a table, plot or JSON line shows of one cell, aggregated over its samples (one build, or all). */
typedef struct kv_cell {
    char status[16], model[96], adapter[64], gates[64], policy[192], policy_title[64], task[96], variant[32],
        prefill[24], query[16], numerics[16], backend[32], sampling[64], cell_key[65], error[256];
    int budget, buffer, batch, max_new;
    int64_t seed, n;
    double accuracy, partial;
    double compat;                      /* mean verdict of the published rule; NAN when not graded that way */
    double peak_slots, mean_slots;      /* max over samples; mean over samples */
    int64_t kv_bytes_peak;              /* max over samples of one sequence's peak */
    int64_t kv_bytes_batch_peak;        /* memory.kv: the whole batch */
    double prefill_tok_s, decode_tok_s; /* NAN when not measured */
    double mean_tokens;                 /* generated per sample */
    int64_t n_length;                   /* stopped at the length limit */
    int64_t n_no_answer;                /* ended before it, and held no answer */
    int64_t n_errors;
    /* averages.h: with k samples per item, accuracy is avg@k */
    int k; /* 0 without samples */
    int64_t n_items;
    double stderr_, stderr_fixed, pass_at_k, maj_at_k; /* stderr: items as a random draw */
    double compat_stderr, compat_stderr_fixed, compat_pass_at_k, compat_maj_at_k;
} kv_cell;
/* Latest state of the cells in keys, in their order (NULL = every cell of the file, in order of first appearance);
 * keys that have no run are left out.  Counted are the samples of the latest run's build, or, when that run was begun
 * with any_build, the newest of every (item, k).  *out is malloc'd (NULL when *n is 0); the caller frees. */
int kv_store_cells(kv_store *s, const char *const *keys, size_t n_keys, kv_cell **out, size_t *n, kv_error *err);

typedef struct kv_item_score {
    char item[64];
    double score;
} kv_item_score;
/* The samples without error that count for a cell, by item and k.  *out is malloc'd (NULL when *n is 0); the caller
 * frees. */
int kv_store_scores(kv_store *s, const char *cell_key, kv_item_score **out, size_t *n, kv_error *err);

/* Writes "item<TAB>k<TAB>tokens<TAB>score" lines of all samples, ordered by cell key, item, k (tests, diffs). */
int kv_store_dump(kv_store *s, const char *path, kv_error *err);

#endif
