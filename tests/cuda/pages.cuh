/* pages.cuh - a paged bf16 cache whose keys and values a test also has as plain arrays, and attention over them in
 * double.
 *
 * Slots that are not used, in a page that is, hold NaN, as a page does whose last owner ended in one; pages not in use,
 * positions and columns are NaN bytes (paged.cuh). */
#ifndef KV_TESTS_CUDA_PAGES_H
#define KV_TESTS_CUDA_PAGES_H

#include "tests/cuda/paged.cuh"

enum { PAGES_HEAD_MOST = 128 };

typedef struct pages {
    paged c;
    int n_slots;                             /* room of a head */
    float *kv[2];                            /* K and V (heads, n_slots, head_dim), as rounded to bf16 */
    size_t at[2][KV_PAGE * PAGES_HEAD_MOST]; /* where (slot, dim) of K or V lies in a page, elements */
} pages;

static inline void *pages_allocate(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p) exit(1);
    return p;
}

static inline float pages_round(float x) {
    return __bfloat162float(__float2bfloat16_rn(x));
}

/* Rooms for most_slots in every head, and one page more; all empty.  ring: as paged_make. */
static inline void pages_make(pages *p, int head_dim, int n_cols, int has_mass, int n_seqs, int n_layers,
                              int n_kv_heads, int most_slots, float *ring, size_t ring_floats) {
    const int cap = most_slots / KV_PAGE + 2;
    paged_make(&p->c, KV_CACHE_BF16, head_dim, n_cols, has_mass, n_seqs, n_layers, n_kv_heads, cap, ring, ring_floats);
    p->n_slots = cap * KV_PAGE;
    for (int v = 0; v < 2; v++) {
        p->kv[v] = (float *)pages_allocate(paged_heads(&p->c) * p->n_slots * head_dim * sizeof(float));
        for (int i = 0; i < KV_PAGE * head_dim; i++) p->at[v][i] = paged_index(&p->c, v, i / head_dim, i % head_dim);
    }
}

static inline void pages_free(pages *p) {
    paged_free(&p->c);
    free(p->kv[0]);
    free(p->kv[1]);
}

static inline float *pages_slot(const pages *p, int v, size_t head, int slot) {
    return p->kv[v] + (head * p->n_slots + slot) * p->c.layout.head_dim;
}

/* Element of K or V of a slot in an image of the pages. */
static inline __nv_bfloat16 *pages_element(const pages *p, char *image, int v, size_t head, int slot, int dim) {
    const int d = p->c.layout.head_dim;
    char *page = image + paged_offset(&p->c, head, slot) + (v ? p->c.layout.off_v : 0);
    return (__nv_bfloat16 *)page + p->at[v][slot % KV_PAGE * d + dim];
}

/* Gives a head n slots, the first `held` of them with content; the seed makes the content.  Not uploaded yet. */
static inline void pages_fill(pages *p, size_t head, int n, int held, uint64_t seed) {
    const int d = p->c.layout.head_dim, end = (n + KV_PAGE - 1) / KV_PAGE * KV_PAGE;
    p->c.n_slots[head] = n;
    for (int s = 0; s < end; s++) {
        for (int v = 0; v < 2; v++)
            for (int i = 0; i < d; i++) {
                const float x = s < held ? check_random(seed + v, (uint64_t)s * d + i) : NAN;
                pages_slot(p, v, head, s)[i] = pages_round(x);
                *pages_element(p, p->c.image, v, head, s, i) = __float2bfloat16_rn(x);
            }
        if (s >= held) continue;
        *paged_pos(&p->c, head, s) = s;
        for (int k = 0; k < p->c.layout.n_cols; k++)
            *paged_col(&p->c, head, s, k) = fabsf(check_random(seed + 2, (uint64_t)k * n + s));
    }
}

/* Attention of q (head_dim) over the first n slots: out (head_dim); logits (n): scaled.  Returns ln of the sum of exp.
 */
static inline double pages_attend(const pages *p, size_t head, const float *q, int n, double scale, double *out,
                                  double *logits) {
    const int d = p->c.layout.head_dim;
    double top = -INFINITY, sum = 0;
    for (int s = 0; s < n; s++) {
        const float *k = pages_slot(p, 0, head, s);
        double dot = 0;
        for (int i = 0; i < d; i++) dot += (double)q[i] * k[i];
        logits[s] = scale * dot;
        if (logits[s] > top) top = logits[s];
    }
    for (int i = 0; i < d; i++) out[i] = 0;
    for (int s = 0; s < n; s++) {
        const float *v = pages_slot(p, 1, head, s);
        const double weight = exp(logits[s] - top);
        sum += weight;
        for (int i = 0; i < d; i++) out[i] += weight * v[i];
    }
    for (int i = 0; i < d; i++) out[i] /= sum;
    return top + log(sum);
}

/* Number of counters that are not 0. */
static inline int pages_check_counters(const int *device) {
    int *h = (int *)check_host(device, KV_CUDA_COUNTERS * sizeof(int)), bad = 0;
    for (int i = 0; i < KV_CUDA_COUNTERS; i++) bad += h[i] != 0;
    if (bad) printf("  %d counters are not 0 afterwards\n", bad);
    free(h);
    return bad;
}

static inline int *pages_make_counters(void) {
    int *p = (int *)check_device(NULL, KV_CUDA_COUNTERS * sizeof(int));
    CHECK_CUDA(cudaMemset(p, 0, KV_CUDA_COUNTERS * sizeof(int)));
    return p;
}

#endif
