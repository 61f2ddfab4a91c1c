/* random.cu - the score of random.c (a hash of seed, layer, KV head and position) on a device, bit for bit. */
#include "policies/heads.cuh"

static __device__ __forceinline__ uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* h.score in [0, 1).  Launch: kv_cuda_score_grid, KV_CUDA_SCORE_THREADS. */
static __global__ void score_hash(const __grid_constant__ kv_cuda_heads h, uint64_t seed) {
    const uint64_t golden = 0x9e3779b97f4a7c15u;
    kv_cuda_head v;
    if (!kv_cuda_head_find(h, (int)blockIdx.x, &v)) return;
    uint64_t z = mix(seed + golden);
    z = mix(z + golden * (uint64_t)(v.layer + 1));
    z = mix(z + golden * (uint64_t)(v.kv_head + 1));
    for (int i = (int)(blockIdx.y * blockDim.x + threadIdx.x); i < v.n_slots; i += (int)(gridDim.y * blockDim.x))
        h.score[v.row + i] = (float)(mix(z + golden * ((uint64_t)kv_cuda_pos(h, v, i) + 1)) >> 40) * 0x1p-24f;
}

extern "C" int kv_cuda_score_hash(const kv_cuda_heads *h, uint64_t seed) {
    if (kv_cuda_heads_count(h) == 0) return cudaSuccess;
    score_hash<<<kv_cuda_score_grid(h), KV_CUDA_SCORE_THREADS, 0, (cudaStream_t)h->stream>>>(*h, seed);
    return cudaGetLastError();
}
