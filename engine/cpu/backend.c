/* backend.c - the CPU backend: choice of the instruction set, creation, and the table of ops.
 */
#include "engine/cpu/cpu.h"

#include <stdlib.h>

const kv_cpu_kernels *kv_cpu_kernels_for(kv_cpu_isa isa) {
#if defined(__x86_64__)
    if (isa == KV_ISA_AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &kv_cpu_kernels_avx2;
    if (isa == KV_ISA_AVX512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni"))
        return &kv_cpu_kernels_avx512;
#endif
    return isa == KV_ISA_PLAIN ? &kv_cpu_kernels_plain : NULL;
}

static void destroy(kv_backend *b) {
    kv_cpu_backend *c = (kv_cpu_backend *)b;
    if (!c) return;
    free(c->rows);
    free(c->q8.q);
    free(c->q8.scale);
    free(c->q8.comp);
    free(c->attend);
    free(c->mass);
    kv_slab_release(c->slab);
    kv_threads_free(b->threads);
    free(c);
}

int kv_cpu_backend_create_isa(kv_cpu_isa isa, kv_numerics numerics, int n_threads, int max_rows, kv_backend **out,
                              kv_error *err) {
    *out = NULL;
    if (n_threads < 0 || max_rows < 1)
        return kv_fail(err, KV_EARG, "a CPU backend of %d threads and %d rows: give threads >= 0 and rows >= 1",
                       n_threads, max_rows);
    const kv_cpu_kernels *k = kv_cpu_kernels_for(isa);
    if (!k) return kv_fail(err, KV_EUNSUPPORTED, "this CPU does not have instruction set %d", (int)isa);
    kv_cpu_backend *c = calloc(1, sizeof *c);
    if (!c) return kv_fail(err, KV_ENOMEM, "no memory for the CPU backend");
    c->k = k;
    c->max_rows = max_rows;
    c->ops = (kv_ops){.name = k->name,
                      .destroy = destroy,
                      .matrix_create = kv_cpu_matrix_create,
                      .matrix_free = kv_cpu_matrix_free,
                      .matrix_bytes = kv_cpu_matrix_bytes,
                      .matrix_format = kv_cpu_matrix_format,
                      .matmul = kv_cpu_matmul,
                      .rmsnorm = kv_cpu_rmsnorm,
                      .rope = kv_cpu_rope,
                      .append = kv_cpu_append,
                      .attend = kv_cpu_attend,
                      .compact = kv_cpu_compact,
                      .copy_slots = kv_cpu_copy_slots,
                      .gather = kv_cpu_gather,
                      .linear_f32 = kv_cpu_linear_f32};
    c->base.ops = &c->ops;
    c->base.numerics = numerics;
    c->base.n_threads = n_threads ? n_threads : kv_threads_cores();
    int rc = kv_threads_create(c->base.n_threads, &c->base.threads, err);
    if (rc) {
        free(c);
        return rc;
    }
    *out = &c->base;
    return KV_OK;
}

int kv_cpu_backend_create(kv_numerics numerics, int n_threads, int max_rows, kv_backend **out, kv_error *err) {
    int isa = KV_N_ISA - 1;
    while (isa > KV_ISA_PLAIN && !kv_cpu_kernels_for((kv_cpu_isa)isa)) isa--;
    return kv_cpu_backend_create_isa((kv_cpu_isa)isa, numerics, n_threads, max_rows, out, err);
}
