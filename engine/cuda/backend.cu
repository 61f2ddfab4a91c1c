/* backend.cu - device memory with its books, weights, and the creation of the backend. */
#include "engine/cuda/bf16.h"
#include "engine/cuda/engine.cuh"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include "engine/cuda/device.h"
#include "engine/cuda/synth.h"
}

enum { READERS = 16 }; /* threads that load: each copies some GB/s out of the page cache, a bus carries 25 to 50 */

int kv_cuda_failed(cudaError_t rc, const char *what, kv_error *err) {
    cudaGetLastError(); /* reported here; the next launch must not find it again */
    return kv_fail(err, rc == cudaErrorMemoryAllocation ? KV_ENOMEM : KV_EUNSUPPORTED, "CUDA: %s: %s", what,
                   cudaGetErrorString(rc));
}

int kv_cuda_take(kv_cuda_backend *b, kv_use use, size_t bytes, const char *what, void **out, kv_error *err) {
    *out = NULL;
    int refused = kv_books_check(&b->base.books, bytes, what, err);
    if (refused) return refused;
    cudaError_t rc = cudaMalloc(out, bytes ? bytes : 1);
    if (rc != cudaSuccess) {
        size_t left = 0, all = 0;
        cudaGetLastError(); /* an allocation that failed is no lasting error */
        cudaMemGetInfo(&left, &all);
        return kv_fail(err, rc == cudaErrorMemoryAllocation ? KV_ENOMEM : KV_EUNSUPPORTED,
                       "%.1f MiB of GPU memory for %s: %s (%.1f of %.1f GiB free): use a smaller --batch, --budget, "
                       "context or model",
                       (double)bytes / 1048576.0, what, cudaGetErrorString(rc), (double)left / 1073741824.0,
                       (double)all / 1073741824.0);
    }
    kv_books_add(&b->base.books, use, bytes);
    return KV_OK;
}

void kv_cuda_give(kv_cuda_backend *b, kv_use use, void *p, size_t bytes) {
    if (!p) return;
    cudaFree(p);
    kv_books_remove(&b->base.books, use, bytes);
}

static int matrix_new(kv_cuda_backend *b, int n_out, int n_in, kv_matrix **out, kv_error *err) {
    kv_matrix *m = (kv_matrix *)calloc(1, sizeof *m);
    if (!m) return kv_fail(err, KV_ENOMEM, "out of memory for a matrix");
    *m = (kv_matrix){NULL, n_out, n_in, b->type};
    int rc =
        kv_cuda_take(b, KV_USE_WEIGHTS, (size_t)n_out * n_in * kv_cuda_type_bytes(b->type), "weights", &m->data, err);
    if (rc) {
        free(m);
        return rc;
    }
    *out = m;
    return KV_OK;
}

static void matrix_free(kv_backend *b, kv_matrix *m) {
    if (!m) return;
    kv_cuda_give((kv_cuda_backend *)b, KV_USE_WEIGHTS, m->data,
                 (size_t)m->n_out * m->n_in * kv_cuda_type_bytes(m->type));
    free(m);
}

static int matrix_create(kv_backend *base, const kv_weights *w, kv_matrix **out, kv_error *err) {
    kv_cuda_backend *b = (kv_cuda_backend *)base;
    int rc = matrix_new(b, w->n_out, w->n_in, out, err);
    if (rc) return rc;
    rc = kv_cuda_upload(b, w, (*out)->data, err);
    if (rc) {
        matrix_free(base, *out);
        *out = NULL;
    }
    return rc;
}

static int matrices_end(kv_backend *base, kv_error *err) {
    return kv_cuda_upload_end((kv_cuda_backend *)base, err);
}

static int matrix_synth(kv_backend *base, uint64_t seed, uint64_t matrix, float std, int n_out, int n_in,
                        kv_matrix **out, kv_error *err) {
    kv_cuda_backend *b = (kv_cuda_backend *)base;
    int rc = matrix_new(b, n_out, n_in, out, err);
    if (rc) return rc;
    cudaError_t c = kv_cuda_fill_synth((*out)->data, b->type, (size_t)n_out * n_in, seed, matrix, std, b->stream);
    if (c == cudaSuccess) return KV_OK;
    matrix_free(base, *out);
    *out = NULL;
    return kv_cuda_failed(c, "random weights", err);
}

static size_t matrix_bytes(const kv_matrix *m) {
    return (size_t)m->n_out * m->n_in * kv_cuda_type_bytes(m->type);
}

static const char *matrix_format(const kv_matrix *m) {
    return m->type == KV_CUDA_BF16 ? "bf16" : "f32";
}

/* Angles in fp32 as the host's table has them, cosine and sine of them rounded once, times scale.  Launch: one thread
 * an entry. */
static __global__ void make_rope(float *cos_out, float *sin_out, const float *inv, float scale, size_t n, int half) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double angle = (double)__fmul_rn((float)(i / half), inv[i % half]);
    cos_out[i] = (float)cos(angle) * scale;
    sin_out[i] = (float)sin(angle) * scale;
}

static int bind_rope(kv_cuda_backend *b, const kv_model *m, kv_error *err) {
    kv_cuda_model *d = &b->model;
    int half = m->info.shape.head_dim / 2;
    size_t n = (size_t)m->info.n_ctx * half;
    d->rope_bytes = (2 * n + half) * sizeof(float);
    int rc = kv_cuda_take(b, KV_USE_WORKSPACE, d->rope_bytes, "the rotary table", &d->rope, err);
    if (rc) return rc;
    float *c = (float *)d->rope, *s = c + n, *inv = s + n;
    cudaError_t e = cudaMemcpyAsync(inv, m->rope_inv, half * sizeof *inv, cudaMemcpyHostToDevice, b->stream);
    make_rope<<<(unsigned)((n + 255) / 256), 256, 0, b->stream>>>(c, s, inv, m->rope_scale, n, half);
    if (e == cudaSuccess) e = cudaGetLastError();
    d->rope_cos = c;
    d->rope_sin = s;
    return e == cudaSuccess ? KV_OK : kv_cuda_failed(e, "rotary table", err);
}

/* Copies a host vector to the next place of the device's. */
static const float *put_vector(kv_cuda_backend *b, float **next, const float *src, int n, cudaError_t *rc) {
    float *at = *next;
    if (!src) return NULL;
    if (*rc == cudaSuccess) *rc = cudaMemcpyAsync(at, src, (size_t)n * sizeof *at, cudaMemcpyHostToDevice, b->stream);
    *next = at + (n + 3) / 4 * 4;
    return at;
}

static void free_model(kv_cuda_backend *b) {
    kv_cuda_give(b, KV_USE_WEIGHTS, b->model.vectors, b->model.vectors_bytes);
    kv_cuda_give(b, KV_USE_WORKSPACE, b->model.rope, b->model.rope_bytes);
    free(b->model.layers);
    memset(&b->model, 0, sizeof b->model);
}

static int bind_vectors(kv_cuda_backend *b, const kv_model *m, kv_error *err) {
    kv_cuda_model *d = &b->model;
    const kv_shape *s = &m->info.shape;
    d->layers = (kv_cuda_layer *)calloc((size_t)s->n_layers, sizeof *d->layers);
    if (!d->layers) return kv_fail(err, KV_ENOMEM, "out of memory for %d layers", s->n_layers);
    int width = (s->n_heads + 2 * s->n_kv_heads) * s->head_dim;
    size_t per_layer = 2 * (size_t)(s->dim + 4) + 2 * (size_t)(s->head_dim + 4);
    if (m->layers[0].qkv_bias) per_layer += width + 4;
    d->vectors_bytes = (per_layer * s->n_layers + s->dim + 4) * sizeof(float);
    int rc = kv_cuda_take(b, KV_USE_WEIGHTS, d->vectors_bytes, "norms and biases", &d->vectors, err);
    if (rc) return rc;
    float *next = (float *)d->vectors;
    cudaError_t c = cudaSuccess;
    for (int l = 0; l < s->n_layers; l++) {
        const kv_layer *h = &m->layers[l];
        d->layers[l] = (kv_cuda_layer){h->qkv->data,
                                       h->out->data,
                                       h->gate_up->data,
                                       h->down->data,
                                       put_vector(b, &next, h->attn_norm, s->dim, &c),
                                       put_vector(b, &next, h->ffn_norm, s->dim, &c),
                                       put_vector(b, &next, h->q_norm, s->head_dim, &c),
                                       put_vector(b, &next, h->k_norm, s->head_dim, &c),
                                       put_vector(b, &next, h->qkv_bias, width, &c)};
    }
    d->out_norm = put_vector(b, &next, m->out_norm, s->dim, &c);
    d->embed = m->embed_matrix->data;
    d->head = m->head->data;
    return c == cudaSuccess ? KV_OK : kv_cuda_failed(c, "norms and biases", err);
}

int kv_cuda_bind_model(kv_engine *e, kv_error *err) {
    kv_cuda_backend *b = kv_cuda_backend_of(e);
    const kv_shape *s = &e->model.info.shape;
    if (b->model.layers) return KV_OK;
    if (s->n_heads / s->n_kv_heads > KV_CUDA_GROUP_MAX)
        return kv_fail(err, KV_EUNSUPPORTED, "%d query heads per KV head are more than the CUDA backend's %d",
                       s->n_heads / s->n_kv_heads, KV_CUDA_GROUP_MAX);
    if (b->type == KV_CUDA_BF16 && (s->head_dim % 32 || s->head_dim > 128 || s->dim % 32 || e->model.info.n_ff % 32))
        return kv_fail(err, KV_EUNSUPPORTED,
                       "head size %d, width %d, feed-forward width %d: the CUDA backend's bf16 kernels need head sizes "
                       "32, 64, 96 or 128 and widths that are multiples of 32; use --numerics exact or --backend cpu",
                       s->head_dim, s->dim, e->model.info.n_ff);
    int rc = bind_vectors(b, &e->model, err);
    if (rc == KV_OK) rc = bind_rope(b, &e->model, err);
    if (rc) free_model(b);
    return rc;
}

static void free_gates(kv_cuda_backend *b) {
    kv_cuda_give(b, KV_USE_WEIGHTS, b->gates.memory, b->gates.bytes);
    free(b->gates.layers);
    memset(&b->gates, 0, sizeof b->gates);
}

static int is_bf16(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (kv_bf16_to(kv_bf16_from(x[i])) != x[i]) return 0;
    return 1;
}

static int needs_two_parts(const kv_gates *g) {
    size_t n = (size_t)g->n_hidden * g->n_in;
    for (int l = 0; l < g->n_layers; l++)
        if (!is_bf16(g->layers[l].w1, n) || (g->layers[l].up && !is_bf16(g->layers[l].up, n))) return 1;
    return 0;
}

/* Rows of the first product of one layer as the backend holds them: fp32, or one or two bf16 parts, one below the
 * other. w (n) goes `at` elements into parts of n_all. */
static void pack_first(void *out, kv_cuda_type type, int n_parts, size_t at, size_t n_all, const float *w, size_t n) {
    if (type == KV_CUDA_F32) {
        memcpy((float *)out + at, w, n * sizeof *w);
        return;
    }
    uint16_t *hi = (uint16_t *)out + at, *lo = hi + n_all;
    for (size_t i = 0; i < n; i++) {
        hi[i] = kv_bf16_from(w[i]);
        if (n_parts == 2) lo[i] = kv_bf16_from(w[i] - kv_bf16_to(hi[i]));
    }
}

static size_t aligned(size_t n) {
    return (n + 255) & ~(size_t)255;
}

/* Copies x (n) behind what is there and returns where it will be on the device; NULL stays NULL. */
static const float *put_floats(float **host, const float **device, const float *x, size_t n) {
    const float *at = *device;
    if (!x) return NULL;
    memcpy(*host, x, n * sizeof *x);
    *host += n;
    *device += n;
    return at;
}

/* One layer into host, as it will lie at `at` on the device; the floats start first_bytes behind. */
static kv_cuda_gate_layer pack_layer(const kv_cuda_backend *b, const kv_gates *g, const kv_gate_layer *s, char *host,
                                     const char *at, size_t first_bytes) {
    const kv_cuda_gates *d = &b->gates;
    size_t n = (size_t)g->n_hidden * g->n_in, all = (size_t)d->n_first * g->n_in, hidden = g->n_hidden;
    float *f = (float *)(host + first_bytes);
    const float *df = (const float *)(at + first_bytes);
    kv_cuda_gate_layer out;
    pack_first(host, b->type, d->n_parts, 0, all, s->w1, n);
    if (s->up) pack_first(host, b->type, d->n_parts, n, all, s->up, n);
    out.w1 = at;
    out.b1 = put_floats(&f, &df, s->b1, hidden);
    out.w2 = put_floats(&f, &df, s->w2, hidden * g->n_kv_heads);
    out.bias = put_floats(&f, &df, s->bias, g->n_kv_heads);
    out.mid = put_floats(&f, &df, s->mid, hidden * hidden);
    out.mid_b = put_floats(&f, &df, s->mid_b, hidden);
    return out;
}

int kv_cuda_bind_gates(kv_engine *e, const kv_gates *g, kv_error *err) {
    kv_cuda_backend *b = kv_cuda_backend_of(e);
    kv_cuda_gates *d = &b->gates;
    if (d->source && d->id == g->id) { /* perhaps read again, elsewhere in the host's memory */
        d->source = g;
        return KV_OK;
    }
    if ((g->type == KV_GATE_RG10 ? 2 : 1) * g->n_hidden > KV_CUDA_GATE_FLOATS)
        return kv_fail(err, KV_EUNSUPPORTED, "gates of %d hidden units are wider than the CUDA backend's %d",
                       g->n_hidden, KV_CUDA_GATE_FLOATS / (g->type == KV_GATE_RG10 ? 2 : 1));
    free_gates(b);
    size_t hidden = g->n_hidden, rest = hidden * (1 + g->n_kv_heads) + g->n_kv_heads;
    if (g->type == KV_GATE_RG10) rest += hidden * (hidden + 1);
    d->n_first = g->type == KV_GATE_RG3 ? 2 * g->n_hidden : g->n_hidden;
    d->n_parts = b->type == KV_CUDA_BF16 && needs_two_parts(g) ? 2 : 1;
    size_t first = aligned((size_t)d->n_first * g->n_in * d->n_parts * kv_cuda_type_bytes(b->type));
    size_t each = first + aligned(rest * sizeof(float));
    d->bytes = each * g->n_layers;
    d->layer_floats = each / sizeof(float);
    d->layers = (kv_cuda_gate_layer *)calloc((size_t)g->n_layers, sizeof *d->layers);
    char *host = (char *)malloc(each);
    int rc = d->layers && host ? KV_OK : kv_fail(err, KV_ENOMEM, "out of memory for the retention gates");
    if (rc == KV_OK) rc = kv_cuda_take(b, KV_USE_WEIGHTS, d->bytes, "the retention gates", &d->memory, err);
    for (int l = 0; rc == KV_OK && l < g->n_layers; l++) {
        char *at = (char *)d->memory + each * l;
        d->layers[l] = pack_layer(b, g, &g->layers[l], host, at, first);
        cudaError_t c = cudaMemcpyAsync(at, host, each, cudaMemcpyHostToDevice, b->stream);
        if (c != cudaSuccess) rc = kv_cuda_failed(c, "upload of the retention gates", err);
    }
    free(host);
    if (rc)
        free_gates(b);
    else
        d->source = g, d->id = g->id;
    return rc;
}

static void destroy(kv_backend *base) {
    kv_cuda_backend *b = (kv_cuda_backend *)base;
    if (!b) return;
    kv_cuda_upload_end(b, NULL);
    free_gates(b);
    free_model(b);
    kv_cuda_gemm_destroy(&b->gemm);
    kv_cuda_give(b, KV_USE_WORKSPACE, b->gemm_workspace, KV_GEMM_WORKSPACE);
    kv_cuda_give(b, KV_USE_WORKSPACE, b->counters, KV_CUDA_COUNTERS * sizeof *b->counters);
    if (b->stream) cudaStreamDestroy(b->stream);
    kv_threads_free(base->threads);
    free(b);
}

void kv_cuda_device_memory(const kv_backend *b, size_t *device_free, size_t *device_total) {
    cudaError_t rc = cudaSetDevice(((const kv_cuda_backend *)b)->device);
    if (rc == cudaSuccess) rc = cudaMemGetInfo(device_free, device_total);
    if (rc != cudaSuccess) *device_free = *device_total = 0;
}

static int start_device(kv_cuda_backend *b, kv_error *err) {
    kv_cuda_device d;
    int n, rc = kv_cuda_device_count(&n, err);
    if (rc) return rc;
    if (b->device < 0 || b->device >= n)
        return kv_fail(err, KV_EARG, "--device %d: this machine has %d CUDA device%s, counted from 0", b->device, n,
                       n == 1 ? "" : "s");
    if ((rc = kv_cuda_device_query(b->device, &d, err))) return rc;
    if (d.major != 9)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "%s is sm_%d%d; the CUDA kernels are built for sm_90 (H100, H200): use "
                       "--backend cpu",
                       d.name, d.major, d.minor);
    snprintf(b->name, sizeof b->name, "cuda/sm_%d%d", d.major, d.minor);
    cudaError_t c = cudaSetDevice(b->device);
    if (c == cudaSuccess) c = cudaStreamCreateWithFlags(&b->stream, cudaStreamNonBlocking);
    if (c == cudaSuccess) c = kv_cuda_skinny_prepare();
    return c == cudaSuccess ? KV_OK : kv_cuda_failed(c, "start", err);
}

extern "C" int kv_cuda_runner_open(kv_engine *e, const kv_columns *c, const kv_setup *setup, int max_seqs,
                                   kv_runner **out, kv_error *err);

int kv_cuda_backend_create(kv_numerics numerics, int device, int n_threads, kv_backend **out, kv_error *err) {
    kv_cuda_backend *b = (kv_cuda_backend *)calloc(1, sizeof *b);
    int n_cores = kv_threads_cores();
    if (!b) return kv_fail(err, KV_ENOMEM, "out of memory for the CUDA backend");
    b->device = device;
    b->type = numerics == KV_EXACT ? KV_CUDA_F32 : KV_CUDA_BF16;
    b->ops.name = b->name;
    b->ops.destroy = destroy;
    b->ops.matrix_create = matrix_create;
    b->ops.matrix_synth = matrix_synth;
    b->ops.matrices_end = matrices_end;
    b->ops.matrix_free = matrix_free;
    b->ops.matrix_bytes = matrix_bytes;
    b->ops.matrix_format = matrix_format;
    b->base.ops = &b->ops;
    b->base.numerics = numerics;
    b->base.n_threads = n_threads ? n_threads : n_cores < READERS ? n_cores : READERS;
    b->base.open_runner = kv_cuda_runner_open;
    b->base.gathers_embedding = 1;
    int rc = start_device(b, err);
    if (rc == KV_OK) rc = kv_threads_create(b->base.n_threads, &b->base.threads, err);
    if (rc == KV_OK) rc = kv_cuda_take(b, KV_USE_WORKSPACE, KV_GEMM_WORKSPACE, "cuBLASLt", &b->gemm_workspace, err);
    if (rc == KV_OK)
        rc = kv_cuda_take(b, KV_USE_WORKSPACE, KV_CUDA_COUNTERS * sizeof *b->counters, "counters",
                          (void **)&b->counters, err);
    if (rc == KV_OK &&
        cudaMemsetAsync(b->counters, 0, KV_CUDA_COUNTERS * sizeof *b->counters, b->stream) != cudaSuccess)
        rc = kv_fail(err, KV_EUNSUPPORTED, "CUDA: counters could not be cleared");
    if (rc == KV_OK) rc = kv_cuda_gemm_create(&b->gemm, b->gemm_workspace, err);
    if (rc) {
        destroy(&b->base);
        return rc;
    }
    *out = &b->base;
    return KV_OK;
}
