/* ops.h - helpers of the op tests: backends of every instruction set, seeded data, paged caches. */
#ifndef KV_TEST_OPS_H
#define KV_TEST_OPS_H

#include "engine/cpu/cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* NULL when the machine lacks the instruction set; anything else fails the test. */
kv_backend *kv_test_backend(int isa, int numerics, int n_threads, int max_rows);

/* Runs the block with b = a backend of each instruction set that the machine has. */
#define FOR_EACH_BACKEND(b, numerics, n_threads, max_rows)                                                             \
    for (int isa_ = 0; isa_ < KV_N_ISA; isa_++)                                                                        \
        for (kv_backend *b = kv_test_backend(isa_, numerics, n_threads, max_rows); b; b->ops->destroy(b), b = NULL)

kv_matrix *kv_test_matrix(kv_backend *b, const float *w, int n_out, int n_in);

/* malloc'd; floats are seeded, roughly normal, with a few large ones. */
float *kv_test_floats(size_t n, uint64_t seed);
double *kv_test_doubles(size_t n);
double *kv_test_widen(const float *x, size_t n);
/* Frees `count` pointers. */
void kv_test_free(int count, ...);

/* Pages for n_heads heads of up to max_slots slots; heads[h].n_slots starts 0. */
typedef struct kv_test_cache {
    kv_page_layout layout;
    kv_head_slots *heads;
    int n_heads, max_slots;
} kv_test_cache;

kv_test_cache kv_test_cache_create(kv_cache_type type, int head_dim, int n_cols, int has_mass, int n_heads,
                                   int max_slots);
void kv_test_cache_free(kv_test_cache *c);

/* Appends rows [first, first + n) of k, v (rows, n_heads, head_dim) and stats (rows, n_heads, n_cols - has_mass) to
 * every head, position = row. */
void kv_test_append(kv_backend *b, kv_test_cache *c, const float *k, const float *v, const float *stats, int first,
                    int n);

#endif
