/* gguf_writer.c - see gguf_writer.h.  Layout: ggml's docs/gguf.md - magic, version, tensor count, metadata count,
 * metadata, tensor directory, padding, tensor data. */
#include "tests/support/gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bytes {
    unsigned char *p;
    size_t n, cap;
} bytes;

struct gw_writer {
    uint32_t version, alignment;
    uint64_t n_meta, n_tensors;
    bytes meta, dir, data;
    int failed;
};

static void put(gw_writer *w, bytes *b, const void *p, size_t n) {
    if (w->failed || n == 0) return;
    if (b->n + n > b->cap) {
        size_t cap = b->cap ? b->cap : 256;
        while (cap < b->n + n) cap *= 2;
        unsigned char *q = realloc(b->p, cap);
        if (!q) {
            w->failed = 1;
            return;
        }
        b->p = q;
        b->cap = cap;
    }
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void put_u32(gw_writer *w, bytes *b, uint32_t v) {
    put(w, b, &v, sizeof v);
}

static void put_u64(gw_writer *w, bytes *b, uint64_t v) {
    put(w, b, &v, sizeof v);
}

static void put_string(gw_writer *w, bytes *b, const char *s) {
    put_u64(w, b, strlen(s));
    put(w, b, s, strlen(s));
}

static void pad(gw_writer *w, bytes *b) {
    static const unsigned char zero[1];
    while (!w->failed && b->n % w->alignment != 0) put(w, b, zero, 1);
}

gw_writer *gw_new(void) {
    gw_writer *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    w->version = 3;
    w->alignment = 32;
    return w;
}

void gw_free(gw_writer *w) {
    if (!w) return;
    free(w->meta.p);
    free(w->dir.p);
    free(w->data.p);
    free(w);
}

void gw_version(gw_writer *w, uint32_t version) {
    w->version = version;
}

void gw_alignment(gw_writer *w, uint32_t alignment) {
    w->alignment = alignment;
    gw_u32(w, "general.alignment", alignment);
}

void gw_raw(gw_writer *w, const char *key, uint32_t type, const void *p, size_t n) {
    put_string(w, &w->meta, key);
    put_u32(w, &w->meta, type);
    put(w, &w->meta, p, n);
    w->n_meta++;
}

void gw_u8(gw_writer *w, const char *key, uint8_t v) {
    gw_raw(w, key, GW_U8, &v, sizeof v);
}

void gw_i8(gw_writer *w, const char *key, int8_t v) {
    gw_raw(w, key, GW_I8, &v, sizeof v);
}

void gw_u16(gw_writer *w, const char *key, uint16_t v) {
    gw_raw(w, key, GW_U16, &v, sizeof v);
}

void gw_i16(gw_writer *w, const char *key, int16_t v) {
    gw_raw(w, key, GW_I16, &v, sizeof v);
}

void gw_u32(gw_writer *w, const char *key, uint32_t v) {
    gw_raw(w, key, GW_U32, &v, sizeof v);
}

void gw_i32(gw_writer *w, const char *key, int32_t v) {
    gw_raw(w, key, GW_I32, &v, sizeof v);
}

void gw_u64(gw_writer *w, const char *key, uint64_t v) {
    gw_raw(w, key, GW_U64, &v, sizeof v);
}

void gw_i64(gw_writer *w, const char *key, int64_t v) {
    gw_raw(w, key, GW_I64, &v, sizeof v);
}

void gw_f32(gw_writer *w, const char *key, float v) {
    gw_raw(w, key, GW_F32, &v, sizeof v);
}

void gw_f64(gw_writer *w, const char *key, double v) {
    gw_raw(w, key, GW_F64, &v, sizeof v);
}

void gw_bool(gw_writer *w, const char *key, int v) {
    uint8_t b = v != 0;
    gw_raw(w, key, GW_BOOL, &b, sizeof b);
}

void gw_string(gw_writer *w, const char *key, const char *v) {
    gw_raw(w, key, GW_STRING, NULL, 0);
    put_string(w, &w->meta, v);
}

static void array_head(gw_writer *w, const char *key, uint32_t type, size_t n) {
    gw_raw(w, key, GW_ARRAY, NULL, 0);
    put_u32(w, &w->meta, type);
    put_u64(w, &w->meta, n);
}

void gw_string_array(gw_writer *w, const char *key, const char *const *v, size_t n) {
    array_head(w, key, GW_STRING, n);
    for (size_t i = 0; i < n; i++) put_string(w, &w->meta, v[i]);
}

void gw_u32_array(gw_writer *w, const char *key, const uint32_t *v, size_t n) {
    array_head(w, key, GW_U32, n);
    put(w, &w->meta, v, n * sizeof *v);
}

void gw_i32_array(gw_writer *w, const char *key, const int32_t *v, size_t n) {
    array_head(w, key, GW_I32, n);
    put(w, &w->meta, v, n * sizeof *v);
}

void gw_f32_array(gw_writer *w, const char *key, const float *v, size_t n) {
    array_head(w, key, GW_F32, n);
    put(w, &w->meta, v, n * sizeof *v);
}

void gw_tensor_raw(gw_writer *w, const char *name, uint32_t ggml_type, int n_dims, const int64_t *dims,
                   uint64_t offset) {
    put_string(w, &w->dir, name);
    put_u32(w, &w->dir, (uint32_t)n_dims);
    put(w, &w->dir, dims, (size_t)n_dims * sizeof *dims);
    put_u32(w, &w->dir, ggml_type);
    put_u64(w, &w->dir, offset);
    w->n_tensors++;
}

void gw_tensor(gw_writer *w, const char *name, kv_dtype type, int n_dims, const int64_t *dims, const void *data,
               size_t n) {
    static const uint32_t ggml_type[KV_N_DTYPES] = {[KV_F32] = 0,  [KV_F16] = 1,  [KV_BF16] = 30, [KV_Q8_0] = 8,
                                                    [KV_Q4_0] = 2, [KV_Q4_1] = 3, [KV_Q4_K] = 12, [KV_Q6_K] = 14};
    pad(w, &w->data);
    gw_tensor_raw(w, name, ggml_type[type], n_dims, dims, w->data.n);
    put(w, &w->data, data, n);
}

int gw_finish(const gw_writer *w, void **buf, size_t *size) {
    gw_writer t = {.alignment = w->alignment, .failed = w->failed};
    bytes b = {0};
    put(&t, &b, "GGUF", 4);
    put_u32(&t, &b, w->version);
    put_u64(&t, &b, w->n_tensors);
    put_u64(&t, &b, w->n_meta);
    put(&t, &b, w->meta.p, w->meta.n);
    put(&t, &b, w->dir.p, w->dir.n);
    pad(&t, &b);
    put(&t, &b, w->data.p, w->data.n);
    pad(&t, &b);
    if (t.failed) {
        free(b.p);
        return -1;
    }
    *buf = b.p;
    *size = b.n;
    return 0;
}

int gw_write(const gw_writer *w, const char *path) {
    void *buf;
    size_t size;
    if (gw_finish(w, &buf, &size) != 0) return -1;
    FILE *f = fopen(path, "wb");
    int ok = f && fwrite(buf, 1, size, f) == size;
    if (f && fclose(f) != 0) ok = 0;
    free(buf);
    return ok ? 0 : -1;
}
