/* gate.cuh - the pieces of the retention gates that kernels share, fp32. */
#ifndef KV_CUDA_GATE_CUH
#define KV_CUDA_GATE_CUH

#include "engine/cuda/common.cuh"

KV_DEVICE float logsigmoid(float z) {
    return z >= 0 ? -log1pf(expf(-z)) : z - log1pf(expf(z));
}

/* w x by the lanes of a warp, in every lane. */
KV_DEVICE float warp_dot(const float *__restrict__ w, const float *x, int n) {
    float z = 0;
    for (int i = threadIdx.x % 32; i < n; i += 32) z += x[i] * w[i];
    return warp_sum(z, 32);
}

#endif
