/* cpu.h - the CPU backend's own structures, and creation with a chosen instruction set for tests. */
#ifndef KV_CPU_H
#define KV_CPU_H

#include "engine/cpu/kernels.h"
#include "engine/cpu/slab.h"

typedef enum kv_cpu_isa { KV_ISA_PLAIN, KV_ISA_AVX2, KV_ISA_AVX512, KV_N_ISA } kv_cpu_isa;

/* NULL when this machine or build does not have it. */
const kv_cpu_kernels *kv_cpu_kernels_for(kv_cpu_isa isa);

/* As kv_cpu_backend_create, with the instruction set given: KV_EUNSUPPORTED when the machine lacks it. */
int kv_cpu_backend_create_isa(kv_cpu_isa isa, kv_numerics numerics, int n_threads, int max_rows, kv_backend **out,
                              kv_error *err);

typedef struct kv_cpu_backend {
    kv_backend base;
    kv_ops ops; /* its own copy: the name says the instruction set */
    const kv_cpu_kernels *k;
    int max_rows;
    /* Inputs of a product after its prologue, for max_rows rows of the widest matrix. */
    int row_cap;
    float *rows;   /* (max_rows, row_cap) */
    kv_q8_rows q8; /* fast only */
    /* Attention: per thread (q_scaled, prob), and partial masses. */
    float *attend;
    size_t attend_cap; /* floats per thread */
    float *mass;
    size_t mass_cap; /* floats */
    kv_slab *slab;   /* being filled with matrices */
} kv_cpu_backend;

struct kv_matrix {
    int n_out, n_in, n_blocks, n_groups; /* n_groups 0: fp32 */
    size_t block_bytes, bytes;
    uint8_t *data;
    kv_slab *slab;
};

/* 64-byte aligned; NULL when out of memory or n == 0.  Freed with free(). */
void *kv_cpu_alloc(size_t n);

int kv_cpu_matrix_create(kv_backend *b, const kv_weights *w, kv_matrix **out, kv_error *err);
void kv_cpu_matrix_free(kv_backend *b, kv_matrix *m);
size_t kv_cpu_matrix_bytes(const kv_matrix *m);
const char *kv_cpu_matrix_format(const kv_matrix *m);
void kv_cpu_matmul(kv_backend *b, const kv_matmul_args *a);
void kv_cpu_rmsnorm(kv_backend *b, float *out, const float *x, const float *w, float eps, int n_rows, int dim);
void kv_cpu_linear_f32(kv_backend *b, float *out, const float *x, const float *w, const float *bias, int n_rows,
                       int n_in, int n_out);
void kv_cpu_rope(kv_backend *b, const kv_rope_args *a);
void kv_cpu_append(kv_backend *b, const kv_append_task *tasks, int n_tasks, int n_kv_heads);
int kv_cpu_attend(kv_backend *b, const kv_attend_task *tasks, int n_tasks, int n_heads, int n_kv_heads, float scale);
void kv_cpu_compact(kv_backend *b, const kv_page_layout *l, const kv_head_slots *h, const int32_t *kept, int n_kept);
void kv_cpu_copy_slots(kv_backend *b, const kv_page_layout *dl, const kv_head_slots *dst, const kv_page_layout *sl,
                       const kv_head_slots *src, const int *cols, int n);
void kv_cpu_gather(kv_backend *b, const kv_page_layout *l, const kv_head_slots *h, float *keys, int32_t *pos,
                   float *cols);

#endif
