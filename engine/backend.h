/* backend.h - the table of ops that a device offers to the engine.
 *
 * Rules every backend keeps: each output row depends on its own input rows only, and every sum has one order
 * that does not depend on how many rows share the call or how many threads or blocks run it; so a
 * sequence's bits never depend on its neighbours.  No op allocates after create, except
 * as noted.  Ops other than *_create cannot fail.
 *
 * Cache pages are those of page.h, K transposed (head_dim, KV_PAGE), V (KV_PAGE, head_dim). */
#ifndef KV_BACKEND_H
#define KV_BACKEND_H

#include "engine/books.h"
#include "engine/page.h"
#include "engine/weights.h"

typedef enum kv_numerics { KV_EXACT, KV_FAST, KV_N_NUMERICS } kv_numerics;
/* The slots of one (sequence, layer, KV head). */
typedef struct kv_head_slots {
    void **pages; /* at least ceil(n_slots / KV_PAGE) */
    int n_slots;
} kv_head_slots;

typedef struct kv_backend kv_backend;
typedef struct kv_matrix kv_matrix; /* a weight matrix in the backend's own format */

/* Product with optional fused prologue and epilogue:
 *   in(x)  = x                                        plain
 *          = rmsnorm(x, norm_weight, norm_eps)        when norm_weight
 *          = silu(x[:, :n_in]) * x[:, n_in:]          when swiglu (x is (n_rows, 2 n_in))
 *   out    = in(x) w^T (+ out when accumulate)
 * norm_out, when not NULL, receives the normalised rows (n_rows, n_in) in fp32. */
typedef struct kv_matmul_args {
    float *out;         /* (n_rows, n_out) */
    const float *x;     /* (n_rows, n_in) or (n_rows, 2 n_in) */
    const kv_matrix *w; /* (n_out, n_in) */
    int n_rows;
    const float *norm_weight; /* (n_in) or NULL */
    float norm_eps;
    float *norm_out;
    int swiglu;
    int accumulate;
} kv_matmul_args;

/* The queries of one sequence in one layer; the keys and values of its n_q newest tokens are already appended.
 * Query i sees slots [0, n_slots - n_q + i]. */
typedef struct kv_attend_task {
    const kv_page_layout *layout;
    const kv_head_slots *heads; /* (n_kv_heads), all with at least n_q slots; lengths may differ between heads */
    const float *q;             /* n_q rows of (n_heads, head_dim), rotated; row stride q_stride floats */
    size_t q_stride;
    float *out; /* n_q rows of (n_heads, head_dim); row stride out_stride floats */
    size_t out_stride;
    int n_q;
    int add_mass; /* 1: column 0 of every visible slot += its probabilities, summed over the group and the n_q queries
                   */
} kv_attend_task;

typedef struct kv_append_task {
    const kv_page_layout *layout;
    const kv_head_slots *heads; /* (n_kv_heads), n_slots already includes the n rows: row i goes to n_slots - n + i */
    const float *k, *v;         /* n rows of (n_kv_heads, head_dim); row stride kv_stride floats */
    size_t kv_stride;
    const int32_t *pos; /* (n) */
    const float *stats; /* n rows of (n_kv_heads, n_cols - has_mass), or NULL when there are none; mass starts 0 */
    int n;
} kv_append_task;

/* Rotary table: (n_positions, head_dim / 2) cosines and sines. */
typedef struct kv_rope_table {
    const float *cos, *sin;
    int n_positions, half;
} kv_rope_table;

/* What happens to rows of (q heads, k heads, v heads) between their product and attention, in place: the bias is added,
 * every q and k head goes through its rmsnorm, and is rotated in rotate-half (Hugging Face) order. */
typedef struct kv_rope_args {
    float *x; /* n_rows rows of (n_heads + 2 n_kv_heads, head_dim); row stride floats */
    size_t stride;
    int n_rows, n_heads, n_kv_heads, head_dim;
    const float *bias;            /* ((n_heads + 2 n_kv_heads) * head_dim), or NULL */
    const float *q_norm, *k_norm; /* (head_dim) both, or NULL */
    float norm_eps;
    const int32_t *pos; /* (n_rows) */
    const kv_rope_table *table;
} kv_rope_args;

typedef struct kv_ops {
    const char *name; /* "cpu", with the instruction set: "cpu/avx512vnni" */
    void (*destroy)(kv_backend *b);

    /* w is read during the call only.  May allocate. */
    int (*matrix_create)(kv_backend *b, const kv_weights *w, kv_matrix **out, kv_error *err);
    /* The same with weights kv_synth_value(seed, matrix, index) * std, made in place; NULL: not here. */
    int (*matrix_synth)(kv_backend *b, uint64_t seed, uint64_t matrix, float std, int n_out, int n_in, kv_matrix **out,
                        kv_error *err);
    /* After the last matrix of a model: waits for what is still on its way to the device and gives back what the way
     * took.  Later matrices are allowed.  NULL: nothing to do. */
    int (*matrices_end)(kv_backend *b, kv_error *err);
    void (*matrix_free)(kv_backend *b, kv_matrix *m); /* NULL is allowed */
    size_t (*matrix_bytes)(const kv_matrix *m);       /* as allocated = read once per product */
    const char *(*matrix_format)(const kv_matrix *m); /* "f32", "int8 g64" */

    void (*matmul)(kv_backend *b, const kv_matmul_args *a);
    void (*rmsnorm)(kv_backend *b, float *out, const float *x, const float *w, float eps, int n_rows, int dim);
    void (*rope)(kv_backend *b, const kv_rope_args *a);
    void (*append)(kv_backend *b, const kv_append_task *tasks, int n_tasks, int n_kv_heads);
    /* May grow internal scratch when a sequence is longer than any before. Returns KV_ENOMEM then, else KV_OK. */
    int (*attend)(kv_backend *b, const kv_attend_task *tasks, int n_tasks, int n_heads, int n_kv_heads, float scale);
    /* Moves slot kept[i] to slot i for i < n_kept (kept ascending); K, V, position and columns. */
    void (*compact)(kv_backend *b, const kv_page_layout *l, const kv_head_slots *h, const int32_t *kept, int n_kept);
    /* Copies page contents of `n` slots from one layout to another of the same type and head_dim; column c of dst is
     * column cols[c] of src, or 0 when cols[c] < 0. */
    void (*copy_slots)(kv_backend *b, const kv_page_layout *dl, const kv_head_slots *dst, const kv_page_layout *sl,
                       const kv_head_slots *src, const int *cols, int n);
    /* Reads back to the host, any pointer may be NULL: keys (n_slots, head_dim) fp32, pos (n_slots),
     * cols (n_cols, n_slots). */
    void (*gather)(kv_backend *b, const kv_page_layout *l, const kv_head_slots *h, float *keys, int32_t *pos,
                   float *cols);
    /* out (n_rows, n_out) = x w^T + bias, fp32 with plain fp32 weights w (n_out, n_in): gates. */
    void (*linear_f32)(kv_backend *b, float *out, const float *x, const float *w, const float *bias, int n_rows,
                       int n_in, int n_out);
} kv_ops;

struct kv_engine;
struct kv_columns;
struct kv_setup;
struct kv_runner;

struct kv_backend {
    const kv_ops *ops; /* a device with a runner of its own has only the ones for matrices */
    /* kv_runner_open_fn of runner.h; NULL: the CPU's, which is made of ops */
    int (*open_runner)(struct kv_engine *e, const struct kv_columns *c, const struct kv_setup *setup, int max_seqs,
                       struct kv_runner **out, kv_error *err);
    int gathers_embedding; /* 1: the embedding is wanted as a matrix of the backend */
    kv_numerics numerics;
    int n_threads;
    kv_threads *threads; /* (n_threads); the engine uses them too, between ops */
    kv_books books;      /* of what the engine on this device holds */
};

/* max_rows: the most rows any matmul will get.  n_threads 0 = all cores. */
int kv_cpu_backend_create(kv_numerics numerics, int n_threads, int max_rows, kv_backend **out, kv_error *err);

#endif
