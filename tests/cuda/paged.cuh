/* paged.cuh - a paged cache for tests of kernels: ragged heads, pages in no order, a host image of every page.
 *
 * Everything that is not a held slot is NaN bytes, so a kernel that reads or moves too much is seen. */
#ifndef KV_TESTS_CUDA_PAGED_H
#define KV_TESTS_CUDA_PAGED_H

#include "engine/cuda/common.cuh"
#include "tests/cuda/check.cuh"

typedef struct paged {
    kv_page_layout layout;
    int n_seqs, n_layers, n_kv_heads, page_cap;
    int32_t *n_slots; /* host (n_seqs, n_layers, n_kv_heads) */
    char *image;      /* host copy of all pages, physical order */
    char *pages;      /* device */
    void **table;     /* device (n_seqs, n_layers, n_kv_heads, page_cap) */
    int32_t *d_slots; /* device, as n_slots */
    kv_cuda_seq *host_seqs, *seqs;
} paged;

static void *check_device(const void *from, size_t bytes) {
    void *p;
    CHECK_CUDA(cudaMalloc(&p, bytes ? bytes : 1));
    CHECK_CUDA(from ? cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice) : cudaMemset(p, 0xff, bytes));
    return p;
}

static void *check_host(const void *from, size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p) exit(1);
    CHECK_CUDA(cudaMemcpy(p, from, bytes, cudaMemcpyDeviceToHost));
    return p;
}

static inline size_t paged_heads(const paged *c) {
    return (size_t)c->n_seqs * c->n_layers * c->n_kv_heads;
}

static inline size_t paged_head(const paged *c, int seq, int layer, int kv_head) {
    return ((size_t)seq * c->n_layers + layer) * c->n_kv_heads + kv_head;
}

/* Offset of a slot's page in image and pages. */
static inline size_t paged_offset(const paged *c, size_t head, int slot) {
    size_t n = paged_heads(c) * c->page_cap;
    return (n - 1 - (head * c->page_cap + slot / KV_PAGE)) * c->layout.bytes;
}

static inline void paged_upload(paged *c) {
    CHECK_CUDA(cudaMemcpy(c->pages, c->image, paged_heads(c) * c->page_cap * c->layout.bytes, cudaMemcpyHostToDevice));
    CHECK_CUDA(cudaMemcpy(c->d_slots, c->n_slots, paged_heads(c) * sizeof(int32_t), cudaMemcpyHostToDevice));
}

static inline void paged_download(paged *c) {
    CHECK_CUDA(cudaMemcpy(c->image, c->pages, paged_heads(c) * c->page_cap * c->layout.bytes, cudaMemcpyDeviceToHost));
}

/* n_slots start 0.  ring: device (n_layers, window, n_heads, head_dim) of every sequence, one after the other, or NULL.
 */
static inline void paged_make(paged *c, kv_cache_type type, int head_dim, int n_cols, int has_mass, int n_seqs,
                              int n_layers, int n_kv_heads, int page_cap, float *ring, size_t ring_floats) {
    c->n_seqs = n_seqs, c->n_layers = n_layers, c->n_kv_heads = n_kv_heads, c->page_cap = page_cap;
    kv_page_layout_init(&c->layout, type, head_dim, n_cols, has_mass);
    size_t heads = paged_heads(c), n = heads * page_cap, per_seq = heads / n_seqs;
    c->n_slots = (int32_t *)calloc(heads, sizeof(int32_t));
    c->image = (char *)malloc(n * c->layout.bytes);
    void **table = (void **)malloc(n * sizeof *table);
    c->host_seqs = (kv_cuda_seq *)malloc(n_seqs * sizeof *c->host_seqs);
    if (!c->n_slots || !c->image || !table || !c->host_seqs) exit(1);
    memset(c->image, 0xff, n * c->layout.bytes);
    c->pages = (char *)check_device(c->image, n * c->layout.bytes);
    for (size_t i = 0; i < n; i++) table[i] = c->pages + paged_offset(c, i / page_cap, (int)(i % page_cap) * KV_PAGE);
    c->table = (void **)check_device(table, n * sizeof *table);
    c->d_slots = (int32_t *)check_device(c->n_slots, heads * sizeof(int32_t));
    for (int s = 0; s < n_seqs; s++) {
        kv_cuda_seq q = {c->table + s * per_seq * page_cap, c->d_slots + s * per_seq,
                         ring ? ring + s * ring_floats : NULL, page_cap, 0};
        c->host_seqs[s] = q;
    }
    c->seqs = (kv_cuda_seq *)check_device(c->host_seqs, n_seqs * sizeof *c->host_seqs);
    free(table);
}

static inline void paged_free(paged *c) {
    cudaFree(c->pages), cudaFree(c->table), cudaFree(c->d_slots), cudaFree(c->seqs);
    free(c->n_slots), free(c->image), free(c->host_seqs);
}

static inline float check_element(const void *p, kv_cache_type type, size_t i) {
    return type == KV_CACHE_BF16 ? __bfloat162float(((const __nv_bfloat16 *)p)[i]) : ((const float *)p)[i];
}

static inline void check_set_element(void *p, kv_cache_type type, size_t i, float x) {
    if (type == KV_CACHE_BF16) {
        ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(x);
    } else {
        ((float *)p)[i] = x;
    }
}

/* Where dim of a slot's key or value lies in its page, written out from policy_cuda.h. */
static inline size_t paged_index(const paged *c, int is_v, int slot, int dim) {
    int s = slot % KV_PAGE, d = c->layout.head_dim;
    if (!is_v || c->layout.type == KV_CACHE_F32) return (size_t)s * d + dim;
    for (int m = 0; m < d / 16; m++)
        for (int i = 0; i < 256; i++) {
            int e = i % 2, hi = i / 2 % 2, sh = i / 4 % 2, q = i / 8 % 4, r = i / 32;
            if (16 * m + 8 * hi + r == dim && 8 * sh + 2 * q + e == s)
                return (size_t)((m * 32 + r * 4 + q) * 8 + 4 * sh + 2 * hi + e);
        }
    return SIZE_MAX;
}

static inline float paged_get(const paged *c, size_t head, int is_v, int slot, int dim) {
    const char *page = c->image + paged_offset(c, head, slot);
    return check_element(page + (is_v ? c->layout.off_v : 0), c->layout.type, paged_index(c, is_v, slot, dim));
}

static inline void paged_set(paged *c, size_t head, int is_v, int slot, int dim, float x) {
    char *page = c->image + paged_offset(c, head, slot);
    check_set_element(page + (is_v ? c->layout.off_v : 0), c->layout.type, paged_index(c, is_v, slot, dim), x);
}

static inline int32_t *paged_pos(paged *c, size_t head, int slot) {
    return (int32_t *)(c->image + paged_offset(c, head, slot) + c->layout.off_pos) + slot % KV_PAGE;
}

static inline float *paged_col(paged *c, size_t head, int slot, int col) {
    return (float *)(c->image + paged_offset(c, head, slot) + c->layout.off_cols) + col * KV_PAGE + slot % KV_PAGE;
}

/* Gives a head n slots: keys and values from the seed, positions 0.., columns in [0, 1). */
static inline void paged_fill(paged *c, size_t head, int n, uint64_t seed) {
    int d = c->layout.head_dim;
    c->n_slots[head] = n;
    for (int s = 0; s < n; s++) {
        for (int i = 0; i < d; i++) {
            paged_set(c, head, 0, s, i, check_random(seed, ((uint64_t)s * 2 + 0) * d + i));
            paged_set(c, head, 1, s, i, check_random(seed, ((uint64_t)s * 2 + 1) * d + i));
        }
        *paged_pos(c, head, s) = s;
        for (int k = 0; k < c->layout.n_cols; k++)
            *paged_col(c, head, s, k) = fabsf(check_random(seed + 1, (uint64_t)k * n + s));
    }
}

#endif
