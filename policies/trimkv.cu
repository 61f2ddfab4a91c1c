/* trimkv.cu - the scores of trimkv.c and dbtrimkv.c (retention decayed to the present) on a device.
 *
 * With lookahead 1 the same bits as the definition; longer ones differ by what two libraries' exp and log do. */
#include "policies/heads.cuh"

/* ln(1 - e^x) for x < 0. */
static __device__ double log1mexp(double x) {
    return x < -0.6931471805599453 ? log1p(-exp(x)) : log(-expm1(x));
}

/* h.score from columns first_stat (lb) and, with knorm, first_stat + 1 (ln |k|).  Launch: kv_cuda_score_grid,
 * KV_CUDA_SCORE_THREADS. */
static __global__ void score_retention(const __grid_constant__ kv_cuda_heads h, int lookahead, int knorm) {
    kv_cuda_head v;
    if (!kv_cuda_head_find(h, (int)blockIdx.x, &v)) return;
    for (int i = (int)(blockIdx.y * blockDim.x + threadIdx.x); i < v.n_slots; i += (int)(gridDim.y * blockDim.x)) {
        int32_t pos = kv_cuda_pos(h, v, i);
        float lb = kv_cuda_col(h, v, i, h.first_stat), score;
        if (lookahead == 1) {
            score = __fmul_rn((float)(v.n_seen + 1 - pos), lb);
        } else {
            double x = lb;
            double gain = x > -1e-7 ? log((double)lookahead) : log1mexp(lookahead * x) - log1mexp(x);
            score = (float)__dadd_rn(__dmul_rn((double)(v.n_seen + 2 - pos), x), gain);
        }
        /* apart from the product, as the definition rounds it */
        if (knorm) score = __fadd_rn(score, kv_cuda_col(h, v, i, h.first_stat + 1));
        h.score[v.row + i] = score;
    }
}

extern "C" int kv_cuda_score_retention(const kv_cuda_heads *h, int lookahead, int knorm) {
    if (h->layout.n_cols < h->first_stat + 1 + (knorm != 0)) return cudaErrorInvalidValue;
    if (kv_cuda_heads_count(h) == 0) return cudaSuccess;
    score_retention<<<kv_cuda_score_grid(h), KV_CUDA_SCORE_THREADS, 0, (cudaStream_t)h->stream>>>(*h, lookahead, knorm);
    return cudaGetLastError();
}
