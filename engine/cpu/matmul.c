/* matmul.c - weight matrices, products with their fused prologues, RMSNorm and the gates' product: the work split.
 *
 * A matrix is packed in blocks of KV_BLOCK output columns, one contiguous stream each, so that decoding reads memory
 * in order.  exact: fp32.  fast: symmetric 8-bit weights and activations with one fp32 scale per KV_GROUP inputs of a
 * column or row after rotating the group (kern_math.h); Q8_0 of ggml has groups of 32, no rotation, fp16 scales.
 * Threads take units of (some blocks, some rows): no sum crosses a unit. */
#include "engine/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

enum {
    ROW_CHUNK = 96,             /* rows of a unit: a multiple of every tile height */
    FEW_ROWS = 48,              /* up to which a chunk of blocks stays in the cache while rows pass over it */
    CHUNK_BYTES = 200 * 1024,   /* weights of a unit: a fifth of a usual level-2 cache */
    SERIAL_WORK = 48 * 1024,    /* multiply-adds below which a parallel region costs more than it saves */
    SERIAL_PROLOGUE = 4 * 1024, /* elements of a prologue, likewise */
    PROLOGUE_ROWS = 4           /* rows of a unit of prologue work */
};

void *kv_cpu_alloc(size_t n) {
    return n && n <= SIZE_MAX - 63 ? aligned_alloc(64, (n + 63) / 64 * 64) : NULL;
}

static int grow_rows(kv_cpu_backend *c, int n_in, kv_error *err) {
    int cap = (n_in + KV_GROUP - 1) / KV_GROUP * KV_GROUP;
    if (cap <= c->row_cap) return KV_OK;
    size_t n = (size_t)c->max_rows * cap, g = n / KV_GROUP;
    kv_q8_rows q = {NULL, NULL, NULL, 0};
    float *rows = kv_cpu_alloc(n * sizeof *rows);
    int ok = rows != NULL;
    if (c->base.numerics == KV_FAST) {
        q.q = kv_cpu_alloc(n);
        q.scale = kv_cpu_alloc(g * sizeof *q.scale);
        q.comp = kv_cpu_alloc(g * sizeof *q.comp);
        ok = ok && q.q && q.scale && q.comp;
    }
    if (!ok) {
        free(rows);
        free(q.q);
        free(q.scale);
        free(q.comp);
        return kv_fail(err, KV_ENOMEM, "no memory for %d rows of %d activations: use a smaller batch or chunk",
                       c->max_rows, cap);
    }
    free(c->rows);
    free(c->q8.q);
    free(c->q8.scale);
    free(c->q8.comp);
    c->rows = rows;
    c->q8 = q;
    c->row_cap = cap;
    return KV_OK;
}

typedef struct pack_call {
    const kv_cpu_kernels *k;
    const kv_matrix *m;
} pack_call;

static void pack_block(void *ctx, int i, const float *rows, int n) {
    const pack_call *p = ctx;
    uint8_t *dst = p->m->data + i * p->m->block_bytes;
    if (p->m->n_groups) {
        p->k->pack_q8(dst, rows, n, p->m->n_in);
    } else {
        p->k->pack_f32((float *)dst, rows, n, p->m->n_in);
    }
}

int kv_cpu_matrix_create(kv_backend *b, const kv_weights *w, kv_matrix **out, kv_error *err) {
    kv_cpu_backend *c = (kv_cpu_backend *)b;
    int fast = b->numerics == KV_FAST, n_out = w->n_out, n_in = w->n_in;
    *out = NULL;
    if (n_out < 1 || n_in < 1) return kv_fail(err, KV_EARG, "a matrix of %d x %d has no elements", n_out, n_in);
    int rc = grow_rows(c, n_in, err);
    if (rc) return rc;
    kv_matrix *m = calloc(1, sizeof *m);
    if (!m) return kv_fail(err, KV_ENOMEM, "no memory for a matrix");
    m->n_out = n_out;
    m->n_in = n_in;
    m->n_blocks = (n_out + KV_BLOCK - 1) / KV_BLOCK;
    m->n_groups = fast ? (n_in + KV_GROUP - 1) / KV_GROUP : 0;
    m->block_bytes = fast ? m->n_groups * KV_Q8_GROUP_BYTES : (size_t)n_in * KV_BLOCK * sizeof(float);
    m->bytes = m->n_blocks * m->block_bytes;
    rc = kv_books_check(&b->books, m->bytes, "weights", err);
    if (rc == KV_OK && !(m->data = kv_slab_alloc(&c->slab, m->bytes, &m->slab)))
        rc = kv_fail(err, KV_ENOMEM, "no memory for a %d x %d weight matrix (%zu bytes)", n_out, n_in, m->bytes);
    if (rc) {
        free(m);
        return rc;
    }
    kv_books_add(&b->books, KV_USE_WEIGHTS, m->bytes);
    pack_call p = {c->k, m};
    rc = kv_weights_blocks(w, b->threads, KV_BLOCK, pack_block, &p, err);
    if (rc) {
        kv_cpu_matrix_free(b, m);
        return rc;
    }
    *out = m;
    return KV_OK;
}

void kv_cpu_matrix_free(kv_backend *b, kv_matrix *m) {
    if (!m) return;
    kv_books_remove(&b->books, KV_USE_WEIGHTS, m->bytes);
    kv_slab_release(m->slab);
    free(m);
}

size_t kv_cpu_matrix_bytes(const kv_matrix *m) {
    return m->bytes;
}

const char *kv_cpu_matrix_format(const kv_matrix *m) {
    return m->n_groups ? "int8 g64 rotated" : "f32";
}

/* Where the product reads its fp32 rows after the prologue. */
static const float *prologue_rows(const kv_cpu_backend *c, const kv_matmul_args *a) {
    if (a->norm_weight) return a->norm_out ? a->norm_out : c->rows;
    return a->swiglu ? c->rows : a->x;
}

static void prologue(kv_cpu_backend *c, const kv_matmul_args *a, int r0, int r1) {
    size_t n = (size_t)a->w->n_in;
    const float *rows = prologue_rows(c, a);
    kv_q8_rows q = c->q8;
    q.n_groups = a->w->n_groups;
    for (int r = r0; r < r1; r++) {
        float *dst = (float *)rows + r * n;
        if (a->norm_weight) c->k->norm_row(dst, a->x + r * n, a->norm_weight, a->norm_eps, (int)n);
        if (a->swiglu) c->k->swiglu_row(dst, a->x + r * 2 * n, a->x + r * 2 * n + n, (int)n);
        if (q.n_groups) c->k->quantize_row(&q, r, dst, (int)n);
    }
}

/* A product cut into units of (some blocks, some rows). */
typedef struct units {
    int n_block_chunks, n_row_chunks;
} units;

static units cut(const kv_cpu_backend *c, const kv_matmul_args *a) {
    size_t fit = CHUNK_BYTES / a->w->block_bytes, n = (size_t)a->w->n_blocks, t = (size_t)c->base.n_threads;
    size_t chunks = fit > 1 ? (n + fit - 1) / fit : n;
    chunks = (chunks + t - 1) / t * t;
    return (units){(int)(chunks < n ? chunks : n), (a->n_rows + ROW_CHUNK - 1) / ROW_CHUNK};
}

/* Unit u; row chunks vary fastest.  With few rows the tiles go over all blocks of the chunk before the next rows do:
 * a block is read from memory in one long stream, and then from the level-2 cache.  Reading a block several times in
 * a row would stop the hardware prefetcher at every block. */
static void multiply(kv_cpu_backend *c, const kv_matmul_args *a, units n, int u) {
    const kv_matrix *m = a->w;
    kv_q8_rows q = c->q8;
    q.n_groups = m->n_groups;
    const float *rows = prologue_rows(c, a);
    int chunk = u / n.n_row_chunks, r0 = u % n.n_row_chunks * ROW_CHUNK;
    int r1 = a->n_rows - r0 < ROW_CHUNK ? a->n_rows : r0 + ROW_CHUNK;
    int b0 = (int)((int64_t)m->n_blocks * chunk / n.n_block_chunks);
    int b1 = (int)((int64_t)m->n_blocks * (chunk + 1) / n.n_block_chunks);
    int step = a->n_rows > FEW_ROWS ? ROW_CHUNK : m->n_groups ? c->k->q8_rows : c->k->f32_rows;
    kv_tile_args t = {.x_stride = (size_t)m->n_in,
                      .q = &q,
                      .n_in = m->n_in,
                      .out_stride = (size_t)m->n_out,
                      .accumulate = a->accumulate};
    for (t.row = r0; t.row < r1; t.row += step) {
        t.n_rows = r1 - t.row < step ? r1 - t.row : step;
        t.x = rows + (size_t)t.row * m->n_in;
        for (int b = b0; b < b1; b++) {
            int left = m->n_out - b * KV_BLOCK;
            t.block = m->data + b * m->block_bytes;
            t.out = a->out + (size_t)t.row * m->n_out + (size_t)b * KV_BLOCK;
            t.n_cols = left < KV_BLOCK ? left : KV_BLOCK;
            if (m->n_groups) {
                c->k->tile_q8(&t);
            } else {
                c->k->tile_f32(&t);
            }
        }
    }
}

typedef struct matmul_call {
    kv_cpu_backend *c;
    const kv_matmul_args *a;
    units n;
} matmul_call;

static void prologue_unit(void *ctx, int u, int thread) {
    const matmul_call *m = ctx;
    (void)thread;
    int end = (u + 1) * PROLOGUE_ROWS;
    prologue(m->c, m->a, u * PROLOGUE_ROWS, end < m->a->n_rows ? end : m->a->n_rows);
}

static void multiply_unit(void *ctx, int u, int thread) {
    const matmul_call *m = ctx;
    (void)thread;
    multiply(m->c, m->a, m->n, u);
}

void kv_cpu_matmul(kv_backend *b, const kv_matmul_args *a) {
    kv_cpu_backend *c = (kv_cpu_backend *)b;
    const kv_matrix *m = a->w;
    matmul_call call = {c, a, cut(c, a)};
    int n_units = call.n.n_block_chunks * call.n.n_row_chunks;
    size_t rows = (size_t)a->n_rows;
    int serial = b->n_threads == 1 || rows * m->n_out * m->n_in < SERIAL_WORK;
    if (a->norm_weight || a->swiglu || m->n_groups) {
        if (serial || rows * m->n_in < SERIAL_PROLOGUE) {
            prologue(c, a, 0, a->n_rows);
        } else {
            kv_threads_for(b->threads, (a->n_rows + PROLOGUE_ROWS - 1) / PROLOGUE_ROWS, prologue_unit, &call);
        }
    }
    if (serial) {
        for (int u = 0; u < n_units; u++) multiply(c, a, call.n, u);
    } else {
        kv_threads_for(b->threads, n_units, multiply_unit, &call);
    }
}

typedef struct norm_call {
    const kv_cpu_kernels *k;
    float *out;
    const float *x, *w;
    float eps;
    int n_rows, dim;
} norm_call;

static void norm_rows(void *ctx, int u, int thread) {
    const norm_call *c = ctx;
    (void)thread;
    for (int r = u * PROLOGUE_ROWS; r < c->n_rows && r < (u + 1) * PROLOGUE_ROWS; r++)
        c->k->norm_row(c->out + (size_t)r * c->dim, c->x + (size_t)r * c->dim, c->w, c->eps, c->dim);
}

void kv_cpu_rmsnorm(kv_backend *b, float *out, const float *x, const float *w, float eps, int n_rows, int dim) {
    norm_call c = {((kv_cpu_backend *)b)->k, out, x, w, eps, n_rows, dim};
    kv_threads_for(b->threads, (n_rows + PROLOGUE_ROWS - 1) / PROLOGUE_ROWS, norm_rows, &c);
}

enum { LINEAR_COLUMNS = 16, LINEAR_BLOCK_ROWS = 32 };

typedef struct linear_call {
    const kv_cpu_kernels *k;
    float *out;
    const float *x, *w, *bias;
    int n_rows, n_in, n_out;
} linear_call;

static void linear_unit(void *ctx, int u, int thread) {
    const linear_call *c = ctx;
    (void)thread;
    int nr = (c->n_rows + LINEAR_BLOCK_ROWS - 1) / LINEAR_BLOCK_ROWS;
    int r = u % nr * LINEAR_BLOCK_ROWS, j = u / nr * LINEAR_COLUMNS;
    int n = c->n_rows - r < LINEAR_BLOCK_ROWS ? c->n_rows - r : LINEAR_BLOCK_ROWS;
    int end = j + LINEAR_COLUMNS < c->n_out ? j + LINEAR_COLUMNS : c->n_out;
    c->k->linear(c->out + (size_t)r * c->n_out, c->x + (size_t)r * c->n_in, c->w, c->bias, n, c->n_in, c->n_out, j,
                 end);
}

void kv_cpu_linear_f32(kv_backend *b, float *out, const float *x, const float *w, const float *bias, int n_rows,
                       int n_in, int n_out) {
    linear_call c = {((kv_cpu_backend *)b)->k, out, x, w, bias, n_rows, n_in, n_out};
    int n_units =
        (n_out + LINEAR_COLUMNS - 1) / LINEAR_COLUMNS * ((n_rows + LINEAR_BLOCK_ROWS - 1) / LINEAR_BLOCK_ROWS);
    if ((size_t)n_rows * n_in * n_out < SERIAL_WORK) {
        for (int u = 0; u < n_units; u++) linear_unit(&c, u, 0);
    } else {
        kv_threads_for(b->threads, n_units, linear_unit, &c);
    }
}
