/* h2o.cu - the score of h2o.c (attention mass, column 0) on a device. */
#include "policies/heads.cuh"

/* h.score = mass.  Launch: kv_cuda_score_grid, KV_CUDA_SCORE_THREADS. */
static __global__ void score_mass(const __grid_constant__ kv_cuda_heads h) {
    kv_cuda_head v;
    if (!kv_cuda_head_find(h, (int)blockIdx.x, &v)) return;
    for (int i = (int)(blockIdx.y * blockDim.x + threadIdx.x); i < v.n_slots; i += (int)(gridDim.y * blockDim.x))
        h.score[v.row + i] = kv_cuda_col(h, v, i, 0);
}

extern "C" int kv_cuda_score_mass(const kv_cuda_heads *h) {
    if (!h->layout.has_mass) return cudaErrorInvalidValue;
    if (kv_cuda_heads_count(h) == 0) return cudaSuccess;
    score_mass<<<kv_cuda_score_grid(h), KV_CUDA_SCORE_THREADS, 0, (cudaStream_t)h->stream>>>(*h);
    return cudaGetLastError();
}
