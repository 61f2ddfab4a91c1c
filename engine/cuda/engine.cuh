/* engine.cuh - the objects of the CUDA backend: device memory with its books, weights, and the runner. */
#ifndef KV_CUDA_ENGINE_H
#define KV_CUDA_ENGINE_H

#include "engine/cuda/attend_decode.cuh"
#include "engine/cuda/gemm.cuh"
#include "engine/cuda/skinny.cuh"

extern "C" {
#include "engine/cuda/backend.h"
#include "engine/pooled.h"
#include "engine/runner.h"
}

/* ---- backend.cu: memory and weights ----------------------------------------------------------------------------- */

struct kv_matrix {
    void *data; /* (n_out, n_in) row-major of the backend's type */
    int n_out, n_in;
    kv_cuda_type type;
};

typedef struct kv_cuda_layer {
    const void *qkv, *out, *gate_up, *down;
    const float *attn_norm, *ffn_norm, *q_norm, *k_norm, *qkv_bias; /* q_norm, k_norm, qkv_bias: NULL without */
} kv_cuda_layer;

/* Device copies of what kv_model keeps on the host. */
typedef struct kv_cuda_model {
    kv_cuda_layer *layers; /* host array (n_layers) */
    const void *embed, *head;
    const float *out_norm, *rope_cos, *rope_sin;
    void *vectors, *rope; /* the allocations behind them */
    size_t vectors_bytes, rope_bytes;
} kv_cuda_model;

typedef struct kv_cuda_gate_layer {
    const void *w1; /* (n_parts * n_first, n_in) of the backend's type; rg3: w1 and, below it, up */
    const float *b1, *w2, *bias, *mid, *mid_b; /* as in kv_gate_layer */
} kv_cuda_gate_layer;

/* Retention gates on the device.  Numbers that bf16 cannot hold are split in two bf16 parts whose sum is within 2^-17;
 * fp16 files (11 bits) come through exactly. */
typedef struct kv_cuda_gates {
    const kv_gates *source;
    uint64_t id;                /* of the values here: a pointer may come back with other gates behind it */
    int n_parts, n_first;       /* n_first: n_hidden, or twice that (rg3) */
    kv_cuda_gate_layer *layers; /* host array */
    size_t layer_floats;        /* from a vector of one layer to that of the next */
    void *memory;
    size_t bytes;
} kv_cuda_gates;

typedef struct kv_cuda_backend {
    kv_backend base;
    kv_ops ops;
    int device;
    char name[32];
    kv_cuda_type type;
    cudaStream_t stream;
    kv_cuda_gemm gemm;
    void *gemm_workspace;
    int *counters; /* (KV_CUDA_COUNTERS) */
    kv_cuda_model model;
    kv_cuda_gates gates;
    struct kv_cuda_uploader *uploader; /* while matrices are made */
} kv_cuda_backend;

static inline kv_cuda_backend *kv_cuda_backend_of(kv_engine *e) {
    return (kv_cuda_backend *)e->backend;
}
static inline size_t kv_cuda_type_bytes(kv_cuda_type t) {
    return t == KV_CUDA_BF16 ? 2 : 4;
}

/* Every byte of device memory comes from here; `what` names it in the error. */
int kv_cuda_take(kv_cuda_backend *b, kv_use use, size_t bytes, const char *what, void **out, kv_error *err);
void kv_cuda_give(kv_cuda_backend *b, kv_use use, void *p, size_t bytes);
int kv_cuda_failed(cudaError_t rc, const char *what, kv_error *err);
static inline int kv_cuda_check(cudaError_t rc, const char *what, kv_error *err) {
    return rc == cudaSuccess ? KV_OK : kv_cuda_failed(rc, what, err);
}

/* Builds backend->model once; gates on the device, once per kv_gates. */
int kv_cuda_bind_model(kv_engine *e, kv_error *err);
int kv_cuda_bind_gates(kv_engine *e, const kv_gates *g, kv_error *err);

/* upload.cu: the rows of w (n_out, n_in) to out in device memory, in the backend's type.  The last copies may be on
 * their way still when it returns: they are ordered before what comes later on the stream.  End waits for them, says
 * what went wrong with them, and gives back what uploading took. */
int kv_cuda_upload(kv_cuda_backend *b, const kv_weights *w, void *out, kv_error *err);
int kv_cuda_upload_end(kv_cuda_backend *b, kv_error *err);

/* ---- runner.cu and its parts ------------------------------------------------------------------------------------- */

/* A buffer that grows and never shrinks while the runner lives. */
typedef struct kv_cuda_buffer {
    void *p;
    size_t bytes;
} kv_cuda_buffer;

/* Host's knowledge of one row's sequence.  Every head of it holds the same number of slots, unless heads share a
 * budget: then the host selects what they keep, and so knows their counts, too.  Nothing is read back. */
typedef struct kv_cuda_row {
    kv_seq *seq;                        /* NULL: free */
    int slots, max_slots, decode_slots; /* of the fullest head now; of any ever; on average while decoding */
    int32_t *heads;                     /* (n_layers, n_kv_heads) slots of each; NULL: `slots` */
    int64_t n_held, n_pages;            /* with heads: slots and pages of all */
    int page_cap;
    void *pages; /* device (n_layers, n_kv_heads, page_cap) */
} kv_cuda_row;

enum { KV_CUDA_FLIGHTS = 4 };

typedef struct kv_cuda_token { /* what a step tells the host about one row */
    int32_t token, bad;
    unsigned long long hash, n_moved;
} kv_cuda_token;

typedef struct kv_cuda_flight {
    int n;
    int32_t rows[KV_MAX_BATCH];
    cudaEvent_t done;
} kv_cuda_flight;

typedef struct kv_cuda_graph {
    int n_rows, most_slots, reduces;
    cudaGraphExec_t exec;
    int64_t n_launches;
    size_t bytes; /* that it took from the device */
} kv_cuda_graph;

enum { KV_CUDA_GRAPHS = 48 };

/* A set of columns and how it is filled: by the gate (gate_col >= 0), or on the host. */
typedef struct kv_cuda_set {
    int first, gate_col;
} kv_cuda_set;

typedef struct kv_cuda_runner {
    kv_runner base;
    kv_cuda_backend *b;
    const kv_columns *columns;
    const kv_setup *setup;
    kv_pooling pooling;
    kv_page_layout layout;
    int max_seqs;
    kv_cuda_set sets[KV_MAX_COLUMN_SETS];
    int gated, host_sets; /* any set computed by the gate; sets filled on the host */
    int fused;            /* decode steps run as captured graphs */
    int host_score;

    /* page pool */
    void **slabs;
    size_t *slab_bytes;
    int n_slabs, cap_slabs;
    void **free_pages; /* device stack */
    size_t cap_free;
    int32_t *n_free; /* device */
    int64_t n_pages, n_live, live_peak, n_page_allocs;

    kv_cuda_row *rows;   /* (max_seqs) */
    int32_t *head_slots; /* (max_seqs, n_layers, n_kv_heads) behind rows[].heads, or NULL */
    int membership;      /* rows came or went since the last step */
    int n_members;       /* of the last step */
    int64_t n_steps;

    /* device, (max_seqs) each */
    kv_cuda_seq *seqs;
    int32_t *n_slots; /* (max_seqs, n_layers, n_kv_heads) */
    float *rings;
    int32_t *active; /* 1: has a sequence that takes part in the step */
    int32_t *skip;   /* its opposite */
    int32_t *seq_of; /* the row itself where active, else -1 */
    int32_t *once;   /* skip list of a sample after a prompt */
    int32_t *token, *step, *bad, *n_published;
    kv_cuda_seq *pair; /* (2) of a fork: this runner's sequence and the other's */
    int32_t *list;     /* (8 max_seqs) short-lived lists */
    unsigned long long *hash, *n_moved;
    kv_cuda_sampling *sampling;
    float *logits; /* (max_seqs, n_vocab) */
    void *state;   /* the allocation behind the above but logits */
    size_t state_bytes;
    kv_cuda_buffer ring_memory, logits_memory;

    /* decode */
    float *x, *qkv, *mid, *squares;
    __nv_bfloat16 *normed, *att, *h;
    kv_cuda_buffer decode, attend_scratch, sample_scratch, scores, kept, score, score_scratch;
    int decode_rows; /* rows the decode buffers have room for */
    kv_cuda_graph graphs[KV_CUDA_GRAPHS];
    int n_graphs;

    /* prompts */
    kv_cuda_buffer prompt, segments, mass, prompt_scratch, last;
    kv_cuda_buffer gathered; /* a head on its way to a score on the host */
    int last_rows;           /* rows of the last forward, whose x is still there */

    /* results */
    kv_cuda_token *published; /* pinned host (KV_CUDA_FLIGHTS, max_seqs) */
    kv_cuda_flight flights[KV_CUDA_FLIGHTS];
    int first_flight, n_flights;

    cudaEvent_t burst_start, burst_end; /* decode steps in a row */
    int in_burst;
    double decode_s;
    int64_t n_launches, n_decode_allocs, bytes_read;
} kv_cuda_runner;

static inline kv_cuda_runner *kv_cuda_runner_of(kv_runner *r) {
    return (kv_cuda_runner *)r;
}
static inline int kv_cuda_pages_of(int slots) {
    return (slots + KV_PAGE - 1) / KV_PAGE;
}

/* runner.cu: bytes of what a runner for n sequences takes when it is opened; bound of the slots of decode steps that
 * hold at most so many. */
size_t kv_cuda_state_bytes(const kv_cuda_runner *r, int n);
size_t kv_cuda_logits_bytes(const kv_cuda_runner *r, int n);
size_t kv_cuda_rings_bytes(const kv_cuda_runner *r, int n);
int kv_cuda_bound_slots(const kv_cuda_runner *r, int most);
int kv_cuda_evicts(const kv_cuda_runner *r);

/* need.cu: see runner.h */
void kv_cuda_need(kv_runner *r, const kv_load *load, kv_memory *out);
int kv_cuda_reserve(kv_runner *r, const kv_load *load, kv_error *err);

int kv_cuda_grow(kv_cuda_runner *r, kv_cuda_buffer *b, kv_use use, size_t bytes, const char *what, kv_error *err);

/* pool.cu: pages and sequences' tables */
int kv_cuda_pool_ensure(kv_cuda_runner *r, int64_t n_free, kv_error *err); /* at least that many pages are free */
/* Bytes of the pool that ensure makes for so many pages when there is none yet, and of its list. */
size_t kv_cuda_pool_bytes(const kv_cuda_runner *r, int64_t n_pages);
size_t kv_cuda_pool_list_bytes(const kv_cuda_runner *r, int64_t n_pages);
void kv_cuda_pool_free(kv_cuda_runner *r);
int kv_cuda_row_open(kv_cuda_runner *r, int row, int max_slots, kv_error *err);
/* A page table for so many slots; row_open sees to it too. */
int kv_cuda_row_table(kv_cuda_runner *r, int row, int max_slots, kv_error *err);
size_t kv_cuda_table_bytes(const kv_cuda_runner *r, int max_slots);
int kv_cuda_row_close(kv_cuda_runner *r, int row, kv_error *err);
/* n more slots for each listed row (host lists, n rows); the host's counts change too. */
int kv_cuda_extend_rows(kv_cuda_runner *r, const int32_t *rows, const int32_t *counts, int n, kv_error *err);
/* Slots of all heads of a row together; what its trigger looks at (kv_pooled_slots of the fullest pool); page bytes;
 * and pages that its decode steps may still take. */
int64_t kv_cuda_row_held(const kv_cuda_runner *r, int row);
int kv_cuda_row_trigger_slots(const kv_cuda_runner *r, int row);
size_t kv_cuda_row_bytes(const kv_cuda_runner *r, int row);
int64_t kv_cuda_row_decode_pages(const kv_cuda_runner *r, int row);
/* Its sequence's record of what it holds now, most so far included. */
void kv_cuda_account_held(kv_cuda_runner *r, kv_seq *q);
/* The host's counts of a row whose heads each get n more slots, with the pages that these take. */
void kv_cuda_row_grow(kv_cuda_runner *r, int row, int n);
/* The same for rows that were just reduced: every head to `slots`, or head i to n_kept[i] (negative: as before). */
void kv_cuda_row_reduced(kv_cuda_runner *r, int row, int slots);
void kv_cuda_row_reduced_heads(kv_cuda_runner *r, int row, const int32_t *n_kept);

/* forward.cu: rows of prompts, and every step of the fp32 path */
int kv_cuda_forward_rows(kv_cuda_runner *r, kv_segment *segs, int n, const kv_trace *trace, kv_error *err);
/* Bytes of the buffers of a forward over so many rows. */
size_t kv_cuda_prompt_bytes(kv_cuda_runner *r, int n_rows);
size_t kv_cuda_prompt_list_bytes(int n_rows, int n_segs);
size_t kv_cuda_prompt_scratch_bytes(const kv_cuda_runner *r, int n_segs, int most_rows, int most_slots);
size_t kv_cuda_prompt_mass_bytes(const kv_cuda_runner *r, int n_rows);
size_t kv_cuda_prompt_last_bytes(const kv_cuda_runner *r, int n_seqs);
/* Logits of the sequences' last rows into logits[row]. */
int kv_cuda_read_all_logits(kv_cuda_runner *r, int n, float *out, kv_error *err);

/* decode.cu: the fused step over rows [0, n_rows), those that are active; reduces: with the reduction at M+B. */
int kv_cuda_decode_step(kv_cuda_runner *r, int n_rows, int most_slots, int reduces, kv_profile *profile, kv_error *err);
/* Buffers and graphs for such steps, so that the steps themselves neither allocate nor capture. */
int kv_cuda_decode_ready(kv_cuda_runner *r, int n_rows, int most_slots, int may_reduce, kv_error *err);
size_t kv_cuda_decode_bytes(const kv_cuda_runner *r, int n_rows);
size_t kv_cuda_scores_bytes(const kv_cuda_runner *r, int n_rows, int most_slots);
/* Before any buffer that they know moves. */
void kv_cuda_drop_graphs(kv_cuda_runner *r);

/* sampling.cu: next tokens of the rows that skip leaves in, from logits[row]; the results are published to pinned
 * memory, round robin. */
int kv_cuda_sampling_prepare(kv_cuda_runner *r, int n_rows, kv_error *err);
cudaError_t kv_cuda_sample_publish(kv_cuda_runner *r, int n_rows, const int32_t *skip);

/* evict.cu */
/* Room for n rows at once; heads that share a budget go row by row. */
typedef struct kv_cuda_evict_sizes {
    size_t score, kept, scratch;
} kv_cuda_evict_sizes;
kv_cuda_evict_sizes kv_cuda_evict_bytes(const kv_cuda_runner *r, int n, int most_slots);
int kv_cuda_evict_prepare(kv_cuda_runner *r, int n, int most_slots, kv_error *err);
/* Score, select, compact for those of seq_of (device, n) that hold at least `at` slots. */
cudaError_t kv_cuda_evict_enqueue(kv_cuda_runner *r, const int32_t *seq_of, int n, int at, int most_slots);
/* Rows (host list) that hold at least at[i] slots go to the budget; waits when scores or the trace need the host. */
int kv_cuda_evict_rows(kv_cuda_runner *r, const int32_t *rows, const int *at, int n, const kv_trace *trace,
                       kv_error *err);

/* The heads of rows seq_of (device, n) that hold at least `at` slots and more than the budget. */
kv_cuda_heads kv_cuda_evict_heads(const kv_cuda_runner *r, const int32_t *seq_of, int n, int at, int most_slots);
/* How they are reduced; kept and n_kept lie behind each other in runner.kept. */
kv_cuda_reduce kv_cuda_evict_reduce(const kv_cuda_runner *r, const kv_cuda_heads *h);

/* evict_pooled.cu: one row whose heads share budgets; every pool that holds `at` slots per head goes to the budget. */
int kv_cuda_evict_pooled(kv_cuda_runner *r, int32_t row, int at, const kv_trace *trace, kv_error *err);

/* host_policy.cu: definitions run on the host */
int kv_cuda_observe_on_host(kv_cuda_runner *r, int layer, int n, const void *hidden, const void *k, const void *v,
                            const int32_t *pos, float *stats, kv_error *err);
/* Bytes of device memory for a head of so many slots; 0 when scores are computed there. */
size_t kv_cuda_gathered_bytes(const kv_cuda_runner *r, int most_slots);
int kv_cuda_score_on_host(kv_cuda_runner *r, const kv_cuda_heads *h, const int32_t *rows, int n, kv_error *err);

/* ---- arguments that kernels share ----------------------------------------------------------------------------------
 */

/* Where the heads of a layer are. */
template <typename A> static inline void kv_cuda_set_heads(A *a, const kv_cuda_runner *r, int layer) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    a->seqs = r->seqs;
    a->layout = r->layout;
    a->layer = layer;
    a->n_heads = s->n_heads;
    a->n_kv_heads = s->n_kv_heads;
    a->head_dim = s->head_dim;
}

/* How q, k and v of a layer become those of the cache: bias, head norms, rotation; the query ring. */
template <typename A> static inline void kv_cuda_set_rotation(A *a, const kv_cuda_runner *r, int layer) {
    const kv_cuda_layer *l = &r->b->model.layers[layer];
    a->window = r->columns->window;
    a->bias = l->qkv_bias;
    a->q_norm = l->q_norm;
    a->k_norm = l->k_norm;
    a->eps = r->base.engine->model.rms_eps;
    a->rope_cos = r->b->model.rope_cos;
    a->rope_sin = r->b->model.rope_sin;
}

#endif
