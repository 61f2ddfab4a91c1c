/* ops.c - helpers of the op tests.  See ops.h. */
#include "tests/support/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

kv_backend *kv_test_backend(int isa, int numerics, int n_threads, int max_rows) {
    kv_backend *b = NULL;
    kv_error err;
    int rc = kv_cpu_backend_create_isa((kv_cpu_isa)isa, (kv_numerics)numerics, n_threads, max_rows, &b, &err);
    if (rc != KV_OK && rc != KV_EUNSUPPORTED) fail_msg("%s", err.text);
    return b;
}

kv_matrix *kv_test_matrix(kv_backend *b, const float *w, int n_out, int n_in) {
    kv_matrix *m = NULL;
    kv_weights weights = kv_weights_of_floats(w, n_out, n_in);
    assert_int_equal(b->ops->matrix_create(b, &weights, &m, NULL), KV_OK);
    return m;
}

static uint64_t next(uint64_t *s) {
    uint64_t z = *s += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

float *kv_test_floats(size_t n, uint64_t seed) {
    float *p = malloc((n ? n : 1) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) {
        double s = 0;
        for (int k = 0; k < 4; k++) s += (double)(next(&seed) >> 11) / 9007199254740992.0 - 0.5;
        p[i] = (float)(next(&seed) % 97 == 0 ? 3 * s : s);
    }
    return p;
}

double *kv_test_doubles(size_t n) {
    double *p = calloc(n ? n : 1, sizeof *p);
    assert_non_null(p);
    return p;
}

double *kv_test_widen(const float *x, size_t n) {
    double *p = kv_test_doubles(n);
    for (size_t i = 0; i < n; i++) p[i] = x[i];
    return p;
}

void kv_test_free(int count, ...) {
    va_list ap;
    va_start(ap, count);
    for (int i = 0; i < count; i++) free(va_arg(ap, void *));
    va_end(ap);
}

kv_test_cache kv_test_cache_create(kv_cache_type type, int head_dim, int n_cols, int has_mass, int n_heads,
                                   int max_slots) {
    kv_test_cache c = {.n_heads = n_heads, .max_slots = max_slots};
    int n_pages = (max_slots + KV_PAGE - 1) / KV_PAGE;
    kv_page_layout_init(&c.layout, type, head_dim, n_cols, has_mass);
    c.heads = calloc((size_t)n_heads, sizeof *c.heads);
    assert_non_null(c.heads);
    for (int h = 0; h < n_heads; h++) {
        c.heads[h].pages = calloc((size_t)n_pages, sizeof(void *));
        assert_non_null(c.heads[h].pages);
        for (int p = 0; p < n_pages; p++) {
            char *page = c.heads[h].pages[p] = aligned_alloc(64, c.layout.bytes);
            assert_non_null(page);
            /* What a reused page may hold: anything, NaN included. */
            memset(page, 0xff, c.layout.bytes);
        }
    }
    return c;
}

void kv_test_cache_free(kv_test_cache *c) {
    int n_pages = (c->max_slots + KV_PAGE - 1) / KV_PAGE;
    for (int h = 0; h < c->n_heads; h++) {
        for (int p = 0; p < n_pages; p++) free(c->heads[h].pages[p]);
        free(c->heads[h].pages);
    }
    free(c->heads);
}

void kv_test_append(kv_backend *b, kv_test_cache *c, const float *k, const float *v, const float *stats, int first,
                    int n) {
    size_t row = (size_t)c->n_heads * c->layout.head_dim;
    size_t stat_row = (size_t)c->n_heads * (c->layout.n_cols - c->layout.has_mass);
    int32_t *pos = malloc((size_t)n * sizeof *pos);
    assert_non_null(pos);
    for (int i = 0; i < n; i++) pos[i] = first + i;
    for (int h = 0; h < c->n_heads; h++) c->heads[h].n_slots += n;
    kv_append_task t = {.layout = &c->layout,
                        .heads = c->heads,
                        .k = k + first * row,
                        .v = v + first * row,
                        .kv_stride = row,
                        .pos = pos,
                        .stats = stat_row ? stats + first * stat_row : NULL,
                        .n = n};
    b->ops->append(b, &t, 1, c->n_heads);
    free(pos);
}
