/* sweep.h - a plan being run: which samples are missing, the engine that is open, the state of every cell. */
#ifndef KV_SWEEP_H
#define KV_SWEEP_H

#include "bench/command.h"
#include "bench/gpuinfo.h"
#include "bench/hostinfo.h"
#include "bench/plan.h"
#include "bench/progress.h"
#include "bench/setup.h"
#include "results/store.h"

typedef struct kv_cell_run {
    const kv_plan_cell *plan;
    size_t index;        /* in the plan */
    unsigned char *todo; /* (n_items, n_samples): 1 = not in the database yet */
    size_t n_todo, n_total;
    int active; /* a run row is open */
    int64_t run_id;
    kv_setup setup;
    kv_generate_stats sum; /* over the calls of kv_generate; prefill includes shared forwards */
    int n_calls;
    double spent_s; /* inside kv_generate */
    double score_sum;
    size_t n_scored;
    char first_error[256]; /* of a sample, in this process */
} kv_cell_run;

/* Prompts of a sweep: what its samples asked for, and what a forward made for another sample gave them. */
typedef struct kv_prefill_sum {
    int64_t tokens, saved_tokens;
    double seconds, saved_s; /* of forwards: made here, and not made */
    double fork_s;           /* of copies from shared forwards */
} kv_prefill_sum;

typedef struct kv_sweep {
    const kv_opts *o;
    const kv_io *io;
    kv_plan *plan;
    kv_store *store;
    kv_cell_run *cells; /* (plan->n_cells) */
    kv_host_info host;
    int64_t host_id, build_id;
    kv_gpu gpu;         /* open once a cell ran on CUDA */
    int64_t gpu_id;     /* its row, or 0 */
    size_t free_before; /* on the GPU, before the engine was opened */
    kv_progress progress;
    kv_prefill_sum prefill;
    int batch;
    kv_engine *engine; /* for plan->models[engine_model] and engine_numerics, or NULL */
    int engine_model;
    kv_numerics engine_numerics;
    kv_gate_file *gates; /* of the open engine's model, or NULL */
    kv_error gates_err;  /* why there are none */
} kv_sweep;

/* Finds out which samples are missing.  The caller frees with kv_sweep_free, also after an error. */
int kv_sweep_init(kv_sweep *s, const kv_opts *o, kv_plan *plan, kv_store *store, const kv_io *io, kv_error *err);
void kv_sweep_free(kv_sweep *s);

/* Runs every cell that misses samples.  A cell that fails is recorded and the rest goes on; errors are those of the
 * database, and KV_ECANCEL after an interrupt (the open runs are marked). */
int kv_sweep_run(kv_sweep *s, kv_error *err);

/* cell_state.c: begin opens policy state and a run row; when that fails the cell becomes a failed row, which is no
 * error of the sweep (active stays 0).  end closes it. */
int kv_cell_begin(kv_sweep *s, kv_cell_run *c, kv_error *err);
int kv_cell_end(kv_sweep *s, kv_cell_run *c, const char *status, const char *error, kv_error *err);
int kv_cell_record(kv_sweep *s, kv_cell_run *c, const char *status, const char *error, kv_error *err);
/* A cell whose samples are all there: "done", or "error" when every sample failed. */
int kv_cell_finish(kv_sweep *s, kv_cell_run *c, kv_error *err);
/* "countdown_0.5k (short) trimkv M=256 B=32 stream:32 before" */
void kv_cell_label(const kv_sweep *s, const kv_cell_run *c, char *out, size_t size);
/* The status word for a failure of the engine: oom, timeout, interrupted, error. */
const char *kv_cell_status(int code);

/* group.c: the cells [first, last) share prompts; the engine is open. */
int kv_group_run(kv_sweep *s, size_t first, size_t last, kv_error *err);

/* Forward passes over prompts that the cells of a group share, for items [at, at + n). */
typedef struct kv_shared {
    int at, n;
    kv_prefix **prefix; /* (n), NULL where an item has none */
    double *seconds;    /* (n) */
    char *used;         /* (n) 1: a sample has it already */
} kv_shared;

/* run_cell.c: the missing samples of one cell among items [at, end), with one call of kv_generate.  Failures of the
 * cell end it with a status; errors are those of the database, and KV_ECANCEL. */
int kv_cell_run_items(kv_sweep *s, kv_cell_run *c, int at, int end, const kv_shared *shared, kv_error *err);

#endif
