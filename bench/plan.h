/* plan.h - from options to cells: the cross product of models, numerics, tasks, prefill modes, policies, budgets ...
 *
 * Cells that can share a forward pass over a prompt (they differ in policy, budget and buffer only) stand side by side.
 * A policy that never evicts ignores M and B and appears once instead of once per budget. */
#ifndef KV_PLAN_H
#define KV_PLAN_H

#include <stdio.h>

#include "bench/items.h"
#include "engine/engine.h"
#include "policies/registry.h"
#include "results/table.h"

/* Everything that decides a cell's result; batch, limit, threads and commit are not in it.  Strings may be "" for
 * none. */
typedef struct kv_cell_identity {
    const char *model, *adapter, *gates, *tokenizer, *chat; /* hashes */
    const char *task, *data, *variant, *prompt, *grader;    /* prompt: hash of its templates */
    int task_version, grader_version;
    const char *policy; /* canonical */
    int budget, buffer; /* 0 when the policy never evicts */
    int chunk;          /* 0 = full prefill, else stream:chunk */
    int query_before, max_new;
    double temperature, top_p, min_p; /* with temperature 0 (greedy) the others do not count */
    int top_k;
    int64_t seed;
    const char *backend, *numerics;
} kv_cell_identity;

/* sha256 of the identity as text, one line a field. */
void kv_cell_key(const kv_cell_identity *c, char hex[65]);

typedef struct kv_axes {
    kv_policy_spec *policies;
    int *chunks; /* prefill modes: 0 = full */
    int *query_before;
    kv_numerics *numerics;
    int *budgets, *buffers, *max_new;
    size_t n_policies, n_chunks, n_queries, n_numerics, n_budgets, n_buffers, n_max_new;
} kv_axes;

/* Reads the lists of run and speed; checks policies and that every chunk fits every buffer (KV_EARG). */
int kv_axes_read(const kv_opts *o, kv_axes *a, kv_error *err);
void kv_axes_free(kv_axes *a);

/* "full" or "stream:C". */
int kv_prefill_parse(const char *text, int *chunk, kv_error *err);
void kv_prefill_text(int chunk, char out[24]);

typedef struct kv_plan_task {
    int model;        /* index into the plan's models */
    char spec[192];   /* as given */
    char variant[32]; /* asked for; "" = the task's own */
    int64_t seed;
    kv_sampling sampling; /* of its model, without seed */
    kv_items *items;      /* NULL when the task could not be opened: err says why */
    int n_items;          /* after --limit */
    kv_error err;
} kv_plan_task;

typedef struct kv_plan_cell {
    int task; /* index into the plan's tasks */
    const kv_policy_spec *policy;
    int budget, buffer; /* 0 when the policy never evicts */
    int chunk, query_before, max_new;
    kv_numerics numerics;
    kv_device_kind device;
    char key[65];
} kv_plan_cell;

typedef struct kv_plan {
    kv_axes axes;
    kv_identity *models;
    kv_plan_task *tasks; /* model by model */
    kv_plan_cell *cells;
    size_t n_models, n_tasks, n_cells;
    kv_task_options task_options; /* without variant and seed */
    int n_samples;                /* per item */
} kv_plan;

/* Every cell of the axes over n_models * tasks_per_model tasks, model first; max_new still as typed, no keys, device
 * CPU.
 * *cells is malloc'd. */
int kv_plan_cross(const kv_axes *a, size_t n_models, size_t tasks_per_model, kv_plan_cell **cells, size_t *n,
                  kv_error *err);

/* The whole plan of `run`: loads the models' identities and opens the tasks.  KV_EARG is a usage error, anything else
 * means that the sweep cannot start; a task that cannot be opened stays in the plan with its error.  The caller frees
 * with kv_plan_free, also after an error. */
int kv_plan_build(const kv_opts *o, const kv_paths *paths, kv_plan *p, kv_error *err);
void kv_plan_free(kv_plan *p);

/* 1 when the cells may share prefixes: same task, prefill, query order, numerics and max-new. */
int kv_plan_same_group(const kv_plan_cell *a, const kv_plan_cell *b);

/* plan_print.c: one line per cell with predicted KV bytes per sequence, and what with the weights would not fit into
 * free_bytes, the memory of the host or of the device that the cells run on. */
int kv_plan_print(const kv_plan *p, int batch, int64_t free_bytes, FILE *f, kv_error *err);
/* What stands in the way of a cell, each after two blanks, as the last column; frees notes. */
void kv_plan_add_notes(kv_table *t, kv_string *notes);

/* Most slots per head of one sequence, over prefill and decode. */
int kv_plan_slots(const kv_policy *p, int budget, int buffer, int chunk, int prompt, int max_new, int n_ctx);
/* Bytes of its pages with 2- or 4-byte keys and values. */
size_t kv_plan_sequence_bytes(const kv_policy *p, const kv_shape *shape, kv_numerics numerics, int slots);

#endif
