/* decode_step.cuh - the kernels of a decode step in order (decode_step.cu), for who captures or profiles them. */
#ifndef KV_CUDA_DECODE_STEP_H
#define KV_CUDA_DECODE_STEP_H

#include "engine/cuda/engine.cuh"

/* What a step is enqueued with, and what came of it. */
typedef struct kv_cuda_pass {
    kv_cuda_runner *r;
    int n, most_slots;
    kv_profile *profile;  /* or NULL: nothing is measured */
    cudaEvent_t from, to; /* with a profile */
    int64_t n_launches;
    cudaError_t rc; /* the first error */
} kv_cuda_pass;

/* reduces: with score, selection and compaction of the rows that reach their trigger. */
void kv_cuda_enqueue_step(kv_cuda_pass *p, int reduces);

/* Floats of the gate's first product of one row; 0 without a gate. */
int kv_cuda_mid_floats(const kv_cuda_runner *r);

#endif
