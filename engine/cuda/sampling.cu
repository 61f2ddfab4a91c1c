/* sampling.cu - next tokens on the device, and their way to the host. */
#include "engine/cuda/engine.cuh"
#include "engine/cuda/pdl.cuh"

/* Launch: one block.  Rows that skip leaves in write what the host wants to know to slot n_published % flights. */
static __global__ void publish_tokens(kv_cuda_token *out, int max_seqs, int32_t *n_published, const int32_t *skip,
                                      int n, const int32_t *token, const int32_t *bad, const unsigned long long *hash,
                                      const unsigned long long *n_moved) {
    pdl_wait();
    kv_cuda_token *slot = out + (size_t)(*n_published % KV_CUDA_FLIGHTS) * max_seqs;
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        if (!skip[i]) slot[i] = (kv_cuda_token){token[i], bad[i], hash[i], n_moved[i]};
    __threadfence_system();
    __syncthreads();
    if (threadIdx.x == 0) *n_published += 1;
}

int kv_cuda_sampling_prepare(kv_cuda_runner *r, int n_rows, kv_error *err) {
    int n_vocab = r->base.engine->model.info.n_vocab;
    return kv_cuda_grow(r, &r->sample_scratch, KV_USE_WORKSPACE, kv_cuda_sample_scratch_bytes(n_rows, n_vocab),
                        "sampling", err);
}

cudaError_t kv_cuda_sample_publish(kv_cuda_runner *r, int n_rows, const int32_t *skip) {
    kv_cuda_sample s = {};
    s.logits = r->logits;
    s.n = n_rows;
    s.n_vocab = r->base.engine->model.info.n_vocab;
    s.sampling = r->sampling;
    s.skip = skip;
    s.token = r->token;
    s.step = r->step;
    s.hash = r->hash;
    s.scratch = r->sample_scratch.p;
    s.scratch_bytes = r->sample_scratch.bytes;
    cudaError_t rc = kv_cuda_sample_rows(&s, r->b->stream);
    if (rc != cudaSuccess) return rc;
    return pdl_launch(publish_tokens, dim3(1), dim3(256), 0, 1, r->b->stream, r->published, r->max_seqs, r->n_published,
                      skip, n_rows, r->token, r->bad, r->hash, r->n_moved);
}
