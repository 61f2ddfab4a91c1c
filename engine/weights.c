/* weights.c - the rows of one weight matrix, read by many threads.
 *
 * pread into a small buffer instead of touching the mapping: from the page cache one copy by the kernel costs less than
 * a page fault per 16 pages and a copy by us as soon as several threads share the address space, and from a disk the
 * requests are large and many at once. */
#include "engine/weights.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 512 << 10 }; /* bytes that a thread takes at a time: far above the cost of a system call */

kv_weights kv_weights_of_floats(const float *w, int n_out, int n_in) {
    return (kv_weights){n_out, n_in, 1, {{.n_rows = n_out, .type = KV_F32, .data = w}}};
}

kv_dtype kv_weights_type(const kv_weights *w) {
    kv_dtype type = w->parts[0].type;
    for (int i = 0; i < w->n_parts; i++) {
        const kv_weight_part *p = &w->parts[i];
        if (p->type != type || kv_dtype_block(type) > 1 || p->pair_dim || p->lora) return KV_F32;
    }
    return type;
}

/* Where row r of a part lies: (head, half, pair) -> (head, pair, half). */
static size_t stored_row(const kv_weight_part *p, int r) {
    int half = p->pair_dim / 2, in_head = r % p->pair_dim;
    return (size_t)(r - in_head + in_head % half * 2 + in_head / half);
}

static int stored_rows(const kv_weight_part *p, size_t row_bytes, int first, int n, void *dst, kv_error *err) {
    const char *src = (const char *)p->data + row_bytes * (size_t)first;
    if (p->map) return kv_map_read(p->map, p->file, src, row_bytes * (size_t)n, dst, err);
    memcpy(dst, src, row_bytes * (size_t)n);
    return KV_OK;
}

/* scratch: for n rows as they are stored. */
static int float_rows(const kv_weight_part *p, size_t n_in, int first, int n, float *dst, void *scratch,
                      kv_error *err) {
    size_t row_bytes = kv_dtype_bytes(p->type, n_in);
    const char *src = (const char *)p->data + row_bytes * (size_t)first;
    if (p->type == KV_F32 && !p->pair_dim) {
        int rc = stored_rows(p, row_bytes, first, n, dst, err);
        if (rc) return rc;
    } else if (p->pair_dim) {
        for (int i = 0; i < n; i++)
            kv_dequantize(p->type, (const char *)p->data + row_bytes * stored_row(p, first + i), dst + (size_t)i * n_in,
                          n_in);
    } else {
        int rc = p->map ? stored_rows(p, row_bytes, first, n, scratch, err) : KV_OK;
        if (rc) return rc;
        kv_dequantize(p->type, p->map ? scratch : src, dst, (size_t)n * n_in);
    }
    if (p->lora) kv_lora_merge(p->lora, dst, first, n);
    return KV_OK;
}

typedef struct reading {
    const kv_weights *w;
    kv_dtype type; /* wanted */
    int first, n, step;
    char *dst;     /* NULL: rows go into the thread's buffer, and from there to fn */
    char *buffers; /* one per thread: rows of fn, then rows as they are stored */
    size_t rows_bytes, buffer_bytes;
    kv_weights_fn *fn;
    void *ctx;
    atomic_int failed;
    kv_error err; /* the first one */
} reading;

/* Rows [first, first + n) of the matrix, whatever parts they are in. */
static int read_span(const reading *j, int first, int n, char *dst, void *scratch, kv_error *err) {
    size_t n_in = (size_t)j->w->n_in, row_bytes = kv_dtype_bytes(j->type, n_in);
    for (const kv_weight_part *p = j->w->parts; n > 0; first -= p->n_rows, p++) {
        if (first >= p->n_rows) continue;
        int here = p->n_rows - first < n ? p->n_rows - first : n;
        int rc = j->type == KV_F32 ? float_rows(p, n_in, first, here, (float *)dst, scratch, err)
                                   : stored_rows(p, row_bytes, first, here, dst, err);
        if (rc) return rc;
        dst += row_bytes * (size_t)here;
        first += here;
        n -= here;
    }
    return KV_OK;
}

static void read_item(void *ctx, int i, int thread) {
    reading *j = ctx;
    kv_error err;
    if (atomic_load(&j->failed)) return;
    char *buffer = j->buffers + j->buffer_bytes * (size_t)thread;
    int at = i * j->step, n = j->n - at < j->step ? j->n - at : j->step;
    char *rows = j->dst ? j->dst + kv_dtype_bytes(j->type, (size_t)j->w->n_in) * (size_t)at : buffer;
    if (read_span(j, j->first + at, n, rows, buffer + j->rows_bytes, &err)) {
        if (atomic_exchange(&j->failed, 1) == 0) j->err = err;
    } else if (j->fn) {
        j->fn(j->ctx, i, (const float *)rows, n);
    }
}

static size_t aligned(size_t n) {
    return (n + 63) / 64 * 64;
}

static int run(reading *j, kv_threads *t, kv_error *err) {
    size_t n_in = (size_t)j->w->n_in, step = (size_t)j->step, stored = 0;
    for (int i = 0; i < j->w->n_parts && j->type == KV_F32; i++) {
        size_t bytes = step * kv_dtype_bytes(j->w->parts[i].type, n_in);
        if (j->w->parts[i].map && bytes > stored) stored = bytes;
    }
    j->rows_bytes = j->dst ? 0 : aligned(step * n_in * sizeof(float));
    j->buffer_bytes = j->rows_bytes + aligned(stored);
    size_t all = j->buffer_bytes * (size_t)kv_threads_n(t);
    j->buffers = aligned_alloc(64, all ? all : 64);
    if (!j->buffers) return kv_fail(err, KV_ENOMEM, "out of memory reading weights (%zu bytes)", all);
    kv_threads_for(t, (j->n + j->step - 1) / j->step, read_item, j);
    free(j->buffers);
    return atomic_load(&j->failed) ? kv_fail(err, j->err.code, "%s", j->err.text) : KV_OK;
}

int kv_weights_read(const kv_weights *w, kv_threads *t, int first, int n, void *dst, kv_error *err) {
    kv_dtype type = kv_weights_type(w);
    size_t step = PIECE / kv_dtype_bytes(type, (size_t)w->n_in);
    reading j = {.w = w, .type = type, .first = first, .n = n, .step = step ? (int)step : 1, .dst = dst};
    return run(&j, t, err);
}

int kv_weights_blocks(const kv_weights *w, kv_threads *t, int block_rows, kv_weights_fn *fn, void *ctx, kv_error *err) {
    reading j = {.w = w, .type = KV_F32, .n = w->n_out, .step = block_rows, .fn = fn, .ctx = ctx};
    return run(&j, t, err);
}
