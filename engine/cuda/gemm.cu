/* gemm.cu - the products of gemm.cuh. */
#include "engine/cuda/gemm.cuh"

#include <dlfcn.h>
#include <string.h>

enum { REFERENCE_ROWS = 4096 };

static int failed(const kv_cublaslt *lt, cublasStatus_t rc, const char *what, int n_out, int n_in, kv_error *err) {
    return kv_fail(err, rc == CUBLAS_STATUS_ALLOC_FAILED ? KV_ENOMEM : KV_EUNSUPPORTED,
                   "cuBLASLt: %s for a matrix of %d x %d: %s", what, n_out, n_in, lt->GetStatusString(rc));
}

/* Where the loader looks, then where the toolkit of the build keeps it. */
static int load_library(kv_cublaslt *lt, kv_error *err) {
    static const char *const names[] = {KV_CUBLASLT_NAME, KV_CUBLASLT_DIR "/" KV_CUBLASLT_NAME};
    for (int i = 0; i < 2 && !lt->library; i++) lt->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!lt->library)
        return kv_fail(err, KV_ENOTFOUND, "%s: install cuBLAS of the CUDA Toolkit, or use --backend cpu", dlerror());
#define KV_LOAD(name)                                                                                                  \
    lt->name = (decltype(lt->name))dlsym(lt->library, "cublasLt" #name);                                               \
    if (!lt->name) return kv_fail(err, KV_EUNSUPPORTED, KV_CUBLASLT_NAME " has no cublasLt" #name);
    KV_CUBLASLT_FUNCTIONS(KV_LOAD)
#undef KV_LOAD
    return KV_OK;
}

int kv_cuda_gemm_create(kv_cuda_gemm *g, void *workspace, kv_error *err) {
    memset(g, 0, sizeof *g);
    g->workspace = workspace;
    int loaded = load_library(&g->lt, err);
    if (loaded) return loaded;
    cublasStatus_t rc = g->lt.Create(&g->handle);
    return rc == CUBLAS_STATUS_SUCCESS ? KV_OK : failed(&g->lt, rc, "start", 0, 0, err);
}

void kv_cuda_gemm_destroy(kv_cuda_gemm *g) {
    for (int i = 0; i < g->n_plans; i++) g->lt.MatmulDescDestroy(g->plans[i].desc);
    if (g->handle) g->lt.Destroy(g->handle);
    if (g->lt.library) dlclose(g->lt.library);
    memset(g, 0, sizeof *g);
}

/* In cuBLAS's column-major terms: out^T (n_out, n) = w^T transposed (n_out, n_in) times x^T (n_in, n). */
static cublasStatus_t make_layouts(const kv_cublaslt *lt, const kv_cuda_gemm_plan *p, int n,
                                   cublasLtMatrixLayout_t l[3]) {
    cublasStatus_t rc = lt->MatrixLayoutCreate(&l[0], CUDA_R_16BF, p->n_in, p->n_out, p->n_in);
    if (rc == CUBLAS_STATUS_SUCCESS) rc = lt->MatrixLayoutCreate(&l[1], CUDA_R_16BF, p->n_in, n, p->n_in);
    if (rc == CUBLAS_STATUS_SUCCESS)
        rc = lt->MatrixLayoutCreate(&l[2], p->out_f32 ? CUDA_R_32F : CUDA_R_16BF, p->n_out, n, p->n_out);
    return rc;
}

static void free_layouts(const kv_cublaslt *lt, cublasLtMatrixLayout_t l[3]) {
    for (int i = 0; i < 3; i++)
        if (l[i]) lt->MatrixLayoutDestroy(l[i]);
}

static cublasStatus_t choose(kv_cuda_gemm *g, kv_cuda_gemm_plan *p) {
    const kv_cublaslt *lt = &g->lt;
    cublasLtMatrixLayout_t l[3] = {};
    cublasLtMatmulPreference_t pref = NULL;
    cublasLtMatmulHeuristicResult_t found;
    cublasOperation_t yes = CUBLAS_OP_T;
    uint32_t no_reduction = CUBLASLT_REDUCTION_SCHEME_NONE, alignment = 16;
    size_t bytes = KV_GEMM_WORKSPACE;
    int n_found = 0;
    cublasStatus_t rc = lt->MatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (rc == CUBLAS_STATUS_SUCCESS)
        rc = lt->MatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &yes, sizeof yes);
    if (rc == CUBLAS_STATUS_SUCCESS) rc = make_layouts(lt, p, REFERENCE_ROWS, l);
    if (rc == CUBLAS_STATUS_SUCCESS) rc = lt->MatmulPreferenceCreate(&pref);
    if (rc == CUBLAS_STATUS_SUCCESS)
        rc = lt->MatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
    if (rc == CUBLAS_STATUS_SUCCESS)
        rc = lt->MatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &no_reduction,
                                              sizeof no_reduction);
    const cublasLtMatmulPreferenceAttributes_t aligned[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    for (int i = 0; rc == CUBLAS_STATUS_SUCCESS && i < 4; i++) /* pointers may be those of any row */
        rc = lt->MatmulPreferenceSetAttribute(pref, aligned[i], &alignment, sizeof alignment);
    if (rc == CUBLAS_STATUS_SUCCESS)
        rc = lt->MatmulAlgoGetHeuristic(g->handle, p->desc, l[0], l[1], l[2], l[2], pref, 1, &found, &n_found);
    if (rc == CUBLAS_STATUS_SUCCESS && n_found == 0) rc = CUBLAS_STATUS_NOT_SUPPORTED;
    if (rc == CUBLAS_STATUS_SUCCESS) p->algo = found.algo;
    if (pref) lt->MatmulPreferenceDestroy(pref);
    free_layouts(lt, l);
    return rc;
}

static int find_plan(kv_cuda_gemm *g, int n_out, int n_in, int out_f32, int accumulate, kv_cuda_gemm_plan **out,
                     kv_error *err) {
    for (int i = 0; i < g->n_plans; i++) {
        kv_cuda_gemm_plan *p = &g->plans[i];
        if (p->n_out != n_out || p->n_in != n_in || p->out_f32 != out_f32 || p->accumulate != accumulate) continue;
        *out = p;
        return KV_OK;
    }
    if (g->n_plans == KV_GEMM_PLANS)
        return kv_fail(err, KV_ELIMIT, "more than %d matrix shapes in one model", KV_GEMM_PLANS);
    kv_cuda_gemm_plan *p = &g->plans[g->n_plans];
    *p = (kv_cuda_gemm_plan){n_out, n_in, out_f32, accumulate, NULL, {}};
    cublasStatus_t rc = choose(g, p);
    if (rc != CUBLAS_STATUS_SUCCESS) {
        if (p->desc) g->lt.MatmulDescDestroy(p->desc);
        return failed(&g->lt, rc, "no algorithm", n_out, n_in, err);
    }
    g->n_plans++;
    *out = p;
    return KV_OK;
}

int kv_cuda_gemm_bf16(kv_cuda_gemm *g, void *out, int out_f32, const void *x, const void *w, int n, int n_out, int n_in,
                      int accumulate, cudaStream_t stream, kv_error *err) {
    kv_cuda_gemm_plan *p = NULL;
    cublasLtMatrixLayout_t l[3] = {};
    float one = 1, beta = accumulate ? 1.0f : 0.0f;
    int rc = find_plan(g, n_out, n_in, out_f32, accumulate, &p, err);
    if (rc) return rc;
    cublasStatus_t s = make_layouts(&g->lt, p, n, l);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = g->lt.Matmul(g->handle, p->desc, &one, w, l[0], x, l[1], &beta, out, l[2], out, l[2], &p->algo,
                         g->workspace, KV_GEMM_WORKSPACE, stream);
    free_layouts(&g->lt, l);
    return s == CUBLAS_STATUS_SUCCESS ? KV_OK : failed(&g->lt, s, "product", n_out, n_in, err);
}

enum { TILE = 64, STEP = 16, SIDE = 16 };

/* Launch: (n_out / TILE, n / TILE) blocks of (SIDE, SIDE): a thread has 4 x 4 elements, SIDE apart. */
static __global__ void multiply_f32(float *out, const float *x, const float *w, int n, int n_out, int n_in,
                                    int accumulate) {
    __shared__ float xs[STEP][TILE + 1], ws[STEP][TILE + 1];
    int row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE, tid = threadIdx.y * SIDE + threadIdx.x;
    float acc[4][4] = {};
    for (int k0 = 0; k0 < n_in; k0 += STEP) {
        for (int i = tid; i < TILE * STEP; i += SIDE * SIDE) {
            int r = i / STEP, k = i % STEP;
            xs[k][r] = row0 + r < n && k0 + k < n_in ? x[(size_t)(row0 + r) * n_in + k0 + k] : 0;
            ws[k][r] = col0 + r < n_out && k0 + k < n_in ? w[(size_t)(col0 + r) * n_in + k0 + k] : 0;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < STEP; k++)
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    acc[i][j] = fmaf(xs[k][threadIdx.y + SIDE * i], ws[k][threadIdx.x + SIDE * j], acc[i][j]);
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int r = row0 + threadIdx.y + SIDE * i, c = col0 + threadIdx.x + SIDE * j;
            if (r >= n || c >= n_out) continue;
            float *p = out + (size_t)r * n_out + c;
            *p = accumulate ? *p + acc[i][j] : acc[i][j];
        }
}

cudaError_t kv_cuda_gemm_f32(float *out, const float *x, const float *w, int n, int n_out, int n_in, int accumulate,
                             cudaStream_t stream) {
    dim3 grid((n_out + TILE - 1) / TILE, (n + TILE - 1) / TILE);
    multiply_f32<<<grid, dim3(SIDE, SIDE), 0, stream>>>(out, x, w, n, n_out, n_in, accumulate);
    return cudaGetLastError();
}
