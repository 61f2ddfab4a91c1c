/* speed.h - what the files of the `speed` command share; `paper` measures its cells with them too.
 *
 * speed.c makes cells from options, speed_run.c opens engines, speed_context.c walks over contexts and rounds,
 * speed_cell.c takes one cell's repetitions, speed_fit.c finds the largest batch, speed_record.c writes them down,
 * speed_table.c sums up and prints, speed_plan.c predicts. */
#ifndef KV_SPEED_H
#define KV_SPEED_H

#include "bench/command.h"
#include "bench/gpuinfo.h"
#include "bench/hostinfo.h"
#include "bench/plan.h"
#include "bench/progress.h"
#include "bench/setup.h"
#include "results/report.h"

/* What to measure. */
typedef struct kv_speed_spec {
    int model; /* index into --model */
    kv_numerics numerics;
    int threads; /* 0 = all cores */
    const kv_policy_spec *policy;
    int budget, buffer; /* 0 when the policy never evicts */
    int chunk;          /* of stream:C, 0 = full prefill */
    int ctx, max_new;
    int batch; /* 0 = the largest that fits */
} kv_speed_spec;

/* What came out; NAN, and whole numbers below 0, = not measured. */
typedef struct kv_speed_row {
    char status[16]; /* "" while the cell goes on */
    char model[96], weights[64], backend[32], cache_type[8], gpu[256], policy[192], prefill[24], numerics[16],
        score_path[16], throttle[128], logits_hash[24], commit[48], cpu[128], driver[80], error[256];
    int64_t budget, buffer, batch, batch_max, ctx, max_new, threads, reps, warmups, steps, kv_bytes_peak, kv_live_peak,
        weight_bytes, evictions, moved, triggers, page_allocs, decode_allocs;
    double prefill_tok_s, prefill_min, prefill_max, decode_tok_s, decode_min, decode_max, ms_per_step, ms_min, ms_max,
        bytes_per_step, gb_s, copy_gb_s, copy_share, datasheet_gb_s, datasheet_share, launches_per_step, slots_first,
        slots_last, peak_slots, mean_slots, sm_clock_mhz, mem_clock_mhz, temp_c;
    double mem_kv, mem_workspace, mem_graphs, mem_sum, device_free_before, device_free_after, device_used,
        mem_unaccounted; /* bytes; the last five and their check on a GPU only */
} kv_speed_row;

/* One line of --profile. */
typedef struct kv_speed_op {
    char policy[192], op[40];
    int64_t budget, buffer, ctx, batch;
    double calls_per_step, us_per_step, gb_s, copy_share;
} kv_speed_op;

typedef struct kv_speed_result {
    kv_speed_row *rows; /* one per cell, in their order */
    size_t n_rows;
    kv_speed_op *ops;
    size_t n_ops;
    int failed; /* a cell is not done */
} kv_speed_result;

/* Measures the cells and records them in db.  o holds the options of `speed`; cells of one model, numerics, threads and
 * context stand together.  A cell that fails becomes a row and the others go on; errors are those that stop everything:
 * a model that cannot be opened, the database.  After an interrupt what was measured is there.  The caller frees. */
int kv_speed_run(const kv_opts *o, const kv_paths *p, const kv_speed_spec *cells, size_t n, const char *db,
                 const kv_io *io, kv_speed_result *out, kv_error *err);
void kv_speed_free(kv_speed_result *r);

/* The rows, then those of --profile. */
int kv_speed_print(FILE *f, kv_format format, const kv_speed_result *r, kv_error *err);
/* Only those of --profile. */
int kv_speed_print_ops(FILE *f, kv_format format, const kv_speed_result *r, kv_error *err);

/* What the cells will hold, against free memory of the device that they would run on; runs nothing.  on_gpu: as on a
 * GPU, also when there is none. */
int kv_speed_predict(const kv_opts *o, const kv_paths *p, const kv_speed_spec *cells, size_t n, int on_gpu, FILE *f,
                     kv_error *err);

/* ---- inside the command ----------------------------------------------------------------------------------------- */

typedef struct kv_speed_cell {
    const kv_speed_spec *spec;
    kv_speed_row *row;
    kv_setup setup;
    double *prefill_s, *step_s; /* (most repetitions) */
    int n_prefill, n_reps;
    const kv_timing_row *prefill; /* (n_timed) of the prompt under this policy; NULL when the prompt is streamed */
    int n_timed;
    int hashed;
    uint64_t hash;  /* of the logits of all sequences: the same in every repetition */
    int64_t run_id; /* 0 = no row yet */
} kv_speed_cell;

typedef struct kv_speed {
    const kv_opts *o;
    const kv_io *io;
    kv_identity *models;
    kv_store *store;
    kv_speed_result *result;
    kv_host_info host;
    kv_gpu gpu;
    size_t free_before; /* on the GPU, before the engine was opened */
    int64_t host_id, build_id, gpu_id;
    kv_session session; /* the open engine; its id is unused */
    int model;          /* of it */
    int32_t *tokens;    /* the prompt of every sequence */
    kv_prefix *prefix;  /* forward pass over it, or NULL */
    int no_profile;     /* said once that there is none */
    kv_progress progress;
} kv_speed;

/* speed_cell.c.  The three below mark the row when the cell fails; they return only errors of the database. */
int kv_speed_warm_up(kv_speed *x, kv_speed_cell *c, kv_error *err);
int kv_speed_repeat(kv_speed *x, kv_speed_cell *c, kv_error *err);
int kv_speed_profile(kv_speed *x, kv_speed_cell *c, kv_error *err);
/* What every sequence of a cell asks for. */
kv_request kv_speed_request(const kv_speed *x, const kv_speed_spec *spec);
/* A run of so many tokens, with memory taken as for all of them, of which only the outcome counts. */
int kv_speed_try(kv_speed *x, const kv_speed_cell *c, int batch, int max_new, kv_error *err);

/* speed_fit.c: settles row->batch of a cell that wants the largest one; marks the row when there is none. */
int kv_speed_find_batch(kv_speed *x, kv_speed_cell *c, kv_error *err);

/* speed_record.c: a run row; a timing row; the end, with what was held and counted in the last repetition. */
int kv_speed_begin(kv_speed *x, kv_speed_cell *c, kv_error *err);
int kv_speed_time(kv_speed *x, kv_speed_cell *c, kv_timing_row *t, kv_error *err);
int kv_speed_end(kv_speed *x, kv_speed_cell *c, const char *status, const char *error, kv_error *err);
/* The same for every cell that has no status yet; code: the KV_E* behind it. */
int kv_speed_end_all(kv_speed *x, kv_speed_cell *cells, size_t n, int code, const char *text, kv_error *err);

/* speed_context.c: measures the cells of the open engine; those of one context stand together. */
int kv_speed_contexts(kv_speed *x, kv_speed_cell *cells, size_t n, kv_error *err);

/* speed_table.c: medians and ranges of what was collected. */
void kv_speed_sum_up(kv_speed_cell *c);

#endif
