/* columns.cu - what a decode step adds to the cache beside K and V, for all layers at once: position, retention,
 * attention mass.  No attention waits for them, so they come at the end of the step, in front of the last product,
 * whose weights travel meanwhile. */
#include "engine/cuda/attend_decode.cuh"
#include "engine/cuda/gate.cuh"
#include "engine/cuda/pdl.cuh"

enum { THREADS = 256 };

/* Launch: (n_layers, n) blocks of THREADS; shared memory: n_hidden floats with a gate. */
static __global__ void __launch_bounds__(THREADS) append_newest(const __grid_constant__ kv_cuda_append_columns a) {
    extern __shared__ float act[];
    const int layer = blockIdx.x, row = blockIdx.y, lane = threadIdx.x % 32;
    pdl_trigger();
    pdl_wait();
    if (!a.active[row]) return;
    if (a.mid) {
        const float *mid = a.mid + ((size_t)layer * a.n + row) * a.mid_stride, *b1 = a.b1 + layer * a.layer_stride;
        for (int i = threadIdx.x; i < a.n_hidden; i += THREADS)
            act[i] = silu<float>((a.n_parts == 2 ? mid[i] + mid[a.n_hidden + i] : mid[i]) + b1[i]);
        __syncthreads();
    }
    const kv_cuda_seq s = a.seqs[row];
    for (int h = threadIdx.x / 32; h < a.n_kv_heads; h += THREADS / 32) {
        const int head = layer * a.n_kv_heads + h, slot = s.n_slots[head] - 1;
        char *page = (char *)s.pages[(size_t)head * s.page_cap + slot / KV_PAGE];
        float log_beta = 0, *cols = (float *)(page + a.layout.off_cols) + slot % KV_PAGE;
        if (a.mid) {
            const float *w2 = a.w2 + layer * a.layer_stride + (size_t)h * a.n_hidden;
            log_beta = logsigmoid(warp_dot(w2, act, a.n_hidden) + (a.bias + layer * a.layer_stride)[h]);
        }
        for (int c = lane; c < a.layout.n_cols; c += 32) cols[c * KV_PAGE] = a.mid && c == a.gate_col ? log_beta : 0;
        if (lane == 0) ((int32_t *)(page + a.layout.off_pos))[slot % KV_PAGE] = s.n_seen - 1;
    }
}

cudaError_t kv_cuda_append_newest(const kv_cuda_append_columns *a, cudaStream_t stream) {
    if (a->mid && a->n_hidden > KV_CUDA_GATE_FLOATS) return cudaErrorInvalidValue;
    return pdl_launch(append_newest, dim3(a->n_layers, a->n), dim3(THREADS), a->mid ? a->n_hidden * sizeof(float) : 0,
                      1, stream, *a);
}

/* Launch: (n_layers * n, n_kv_heads, slots / THREADS) blocks of THREADS: a thread has one slot. */
static __global__ void __launch_bounds__(THREADS) add_mass(const __grid_constant__ kv_cuda_mass a) {
    const int kv_head = blockIdx.y, layer = blockIdx.x / a.n, row = blockIdx.x % a.n, group = a.n_heads / a.n_kv_heads;
    pdl_trigger();
    pdl_wait();
    if (!a.active[row]) return;
    const kv_cuda_seq &s = a.seqs[row];
    const int head = layer * a.n_kv_heads + kv_head, slot = blockIdx.z * THREADS + threadIdx.x;
    const int n_slots = s.n_slots[head], newest = a.append && slot == n_slots - 1;
    if (slot >= n_slots) return;
    const size_t first = ((size_t)layer * a.n + row) * a.n_heads + (size_t)kv_head * group;
    float sum = 0;
    for (int g = 0; g < group; g++) sum += expf(load_kept(a.scores + (first + g) * a.stride + slot) - a.lse[first + g]);
    char *page = (char *)s.pages[(size_t)head * s.page_cap + slot / KV_PAGE];
    float *cols = (float *)(page + a.layout.off_cols) + slot % KV_PAGE;
    cols[0] = newest ? sum : cols[0] + sum;
    if (!newest) return;
    for (int c = 1; c < a.layout.n_cols; c++) cols[c * KV_PAGE] = 0;
    ((int32_t *)(page + a.layout.off_pos))[slot % KV_PAGE] = s.n_seen - 1;
}

cudaError_t kv_cuda_add_mass(const kv_cuda_mass *a, cudaStream_t stream) {
    dim3 grid(a->n_layers * a->n, a->n_kv_heads, kv_cuda_ceil(a->most_slots, THREADS));
    return pdl_launch(add_mass, grid, dim3(THREADS), 0, 1, stream, *a);
}
