/* window.cu - the score of window.c (position) on a device. */
#include "policies/heads.cuh"

/* h.score = position.  Launch: kv_cuda_score_grid, KV_CUDA_SCORE_THREADS. */
static __global__ void score_position(const __grid_constant__ kv_cuda_heads h) {
    kv_cuda_head v;
    if (!kv_cuda_head_find(h, (int)blockIdx.x, &v)) return;
    for (int i = (int)(blockIdx.y * blockDim.x + threadIdx.x); i < v.n_slots; i += (int)(gridDim.y * blockDim.x))
        h.score[v.row + i] = (float)kv_cuda_pos(h, v, i);
}

extern "C" int kv_cuda_score_position(const kv_cuda_heads *h) {
    if (kv_cuda_heads_count(h) == 0) return cudaSuccess;
    score_position<<<kv_cuda_score_grid(h), KV_CUDA_SCORE_THREADS, 0, (cudaStream_t)h->stream>>>(*h);
    return cudaGetLastError();
}
