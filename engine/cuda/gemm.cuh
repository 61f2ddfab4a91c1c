/* gemm.cuh - products with many rows: prompts (bf16 through cuBLASLt) and everything of the fp32 parity path (own).
 *
 * A row's result must not depend on what it is packed with.  cuBLASLt is asked once per matrix shape, for one row
 * count, with split-K excluded, and what it chose is used for every row count: one kernel, one order over K.  The fp32
 * kernel adds k = 0, 1, 2 ... for every element. */
#ifndef KV_CUDA_GEMM_H
#define KV_CUDA_GEMM_H

#include <cublasLt.h>

#include "engine/cuda/cuda.h"

/* cuBLASLt is loaded when a GPU is first used: a program that stays on the CPU neither needs it nor pays for it. */
#define KV_CUBLASLT_FUNCTIONS(f)                                                                                       \
    f(Create) f(Destroy) f(GetStatusString) f(Matmul) f(MatmulAlgoGetHeuristic) f(MatmulDescCreate)                    \
        f(MatmulDescDestroy) f(MatmulDescSetAttribute) f(MatmulPreferenceCreate) f(MatmulPreferenceDestroy)            \
            f(MatmulPreferenceSetAttribute) f(MatrixLayoutCreate) f(MatrixLayoutDestroy)

typedef struct kv_cublaslt {
    void *library;
#define KV_MEMBER(name) decltype(&cublasLt##name) name;
    KV_CUBLASLT_FUNCTIONS(KV_MEMBER)
#undef KV_MEMBER
} kv_cublaslt;

typedef struct kv_cuda_gemm_plan {
    int n_out, n_in, out_f32, accumulate;
    cublasLtMatmulDesc_t desc;
    cublasLtMatmulAlgo_t algo;
} kv_cuda_gemm_plan;

enum { KV_GEMM_PLANS = 32, KV_GEMM_WORKSPACE = 32 << 20 };

typedef struct kv_cuda_gemm {
    kv_cublaslt lt;
    cublasLtHandle_t handle;
    void *workspace; /* (KV_GEMM_WORKSPACE), the caller's */
    kv_cuda_gemm_plan plans[KV_GEMM_PLANS];
    int n_plans;
} kv_cuda_gemm;

/* out (n, n_out) = x (n, n_in) w^T (+ out); w (n_out, n_in); row strides are n_out and n_in.
 * bf16: x, w bf16, out bf16 or fp32; accumulate only with fp32.  f32: all fp32.  create: KV_ENOTFOUND without the
 * library. */
int kv_cuda_gemm_create(kv_cuda_gemm *g, void *workspace, kv_error *err);
void kv_cuda_gemm_destroy(kv_cuda_gemm *g);
int kv_cuda_gemm_bf16(kv_cuda_gemm *g, void *out, int out_f32, const void *x, const void *w, int n, int n_out, int n_in,
                      int accumulate, cudaStream_t stream, kv_error *err);
cudaError_t kv_cuda_gemm_f32(float *out, const float *x, const float *w, int n, int n_out, int n_in, int accumulate,
                             cudaStream_t stream);

#endif
