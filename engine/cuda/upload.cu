/* upload.cu - weights from their files to the device.
 *
 * Threads read the rows of one chunk into pinned memory while earlier chunks are on their way, so that loading takes as
 * long as the slower of reading and transfer.  Rows travel in the type of the file and are converted on the device:
 * that costs a pass over device memory, where converting on the host would cost a pass over the host's, and twice or
 * half the bytes on the bus. */
#include "engine/cuda/bf16.h"
#include "engine/cuda/engine.cuh"

#include <stdlib.h>

enum {
    CHUNKS = 3,       /* one being filled, two on their way */
    CHUNK = 16 << 20, /* bytes; a row has at most 1 MiB (kv_model_config_check) */
    THREADS = 256
};

typedef struct kv_cuda_uploader {
    char *host; /* CHUNKS of them */
    int pinned;
    void *device;             /* one chunk before its conversion; NULL until one needs it */
    cudaEvent_t sent[CHUNKS]; /* the copy out of a chunk is done */
    int next;
} kv_cuda_uploader;

static __device__ __forceinline__ float widen(float x) {
    return x;
}
static __device__ __forceinline__ float widen(__half x) {
    return __half2float(x);
}
static __device__ __forceinline__ float widen(__nv_bfloat16 x) {
    return __bfloat162float(x);
}
static __device__ __forceinline__ void put(float *out, float x) {
    *out = x;
}
static __device__ __forceinline__ void put(uint16_t *out, float x) {
    *out = kv_bf16_from(x);
}

/* Launch: one thread an element. */
template <typename From, typename To>
static __global__ void convert(const From *__restrict__ in, To *__restrict__ out, size_t n) {
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) put(&out[i], widen(in[i]));
}

template <typename To> static cudaError_t launch(kv_dtype from, const void *in, To *out, size_t n, cudaStream_t s) {
    unsigned blocks = (unsigned)((n + THREADS - 1) / THREADS);
    if (from == KV_F32)
        convert<<<blocks, THREADS, 0, s>>>((const float *)in, out, n);
    else if (from == KV_F16)
        convert<<<blocks, THREADS, 0, s>>>((const __half *)in, out, n);
    else
        convert<<<blocks, THREADS, 0, s>>>((const __nv_bfloat16 *)in, out, n);
    return cudaGetLastError();
}

/* Copies may still read the uploader's memory: nothing of it goes before they are done, whatever became of them. */
int kv_cuda_upload_end(kv_cuda_backend *b, kv_error *err) {
    kv_cuda_uploader *u = b->uploader;
    if (!u) return KV_OK;
    cudaError_t c = cudaStreamSynchronize(b->stream);
    for (int i = 0; i < CHUNKS; i++)
        if (u->sent[i]) cudaEventDestroy(u->sent[i]);
    kv_cuda_give(b, KV_USE_WORKSPACE, u->device, CHUNK);
    if (u->pinned)
        cudaFreeHost(u->host);
    else
        free(u->host);
    free(u);
    b->uploader = NULL;
    return kv_cuda_check(c, "upload of weights", err);
}

static int begin(kv_cuda_backend *b, kv_error *err) {
    kv_cuda_uploader *u = b->uploader = (kv_cuda_uploader *)calloc(1, sizeof *u);
    if (!u) return kv_fail(err, KV_ENOMEM, "out of memory uploading weights");
    u->pinned = cudaHostAlloc((void **)&u->host, (size_t)CHUNKS * CHUNK, cudaHostAllocDefault) == cudaSuccess;
    if (!u->pinned) { /* a limit on locked memory: slower, nothing else */
        cudaGetLastError();
        u->host = (char *)malloc((size_t)CHUNKS * CHUNK);
    }
    int rc = u->host ? KV_OK : kv_fail(err, KV_ENOMEM, "out of memory uploading weights");
    for (int i = 0; rc == KV_OK && i < CHUNKS; i++)
        rc = kv_cuda_check(cudaEventCreateWithFlags(&u->sent[i], cudaEventDisableTiming), "upload of weights", err);
    if (rc) kv_cuda_upload_end(b, NULL);
    return rc;
}

/* Rows of one chunk, to out. */
static int send(kv_cuda_backend *b, const kv_weights *w, int first, int n, char *out, kv_error *err) {
    kv_cuda_uploader *u = b->uploader;
    kv_dtype type = kv_weights_type(w);
    int same = type == (b->type == KV_CUDA_BF16 ? KV_BF16 : KV_F32), slot = u->next;
    size_t elements = (size_t)n * w->n_in, bytes = kv_dtype_bytes(type, elements);
    char *host = u->host + (size_t)slot * CHUNK;
    u->next = (slot + 1) % CHUNKS;
    int rc = kv_cuda_check(cudaEventSynchronize(u->sent[slot]), "upload of weights", err);
    if (rc == KV_OK) rc = kv_weights_read(w, b->base.threads, first, n, host, err);
    if (rc == KV_OK && !same && !u->device)
        rc = kv_cuda_take(b, KV_USE_WORKSPACE, CHUNK, "the conversion of weights", &u->device, err);
    if (rc) return rc;
    cudaError_t c = cudaMemcpyAsync(same ? out : u->device, host, bytes, cudaMemcpyHostToDevice, b->stream);
    if (c == cudaSuccess) c = cudaEventRecord(u->sent[slot], b->stream);
    if (c == cudaSuccess && !same)
        c = b->type == KV_CUDA_BF16 ? launch(type, u->device, (uint16_t *)out, elements, b->stream)
                                    : launch(type, u->device, (float *)out, elements, b->stream);
    return kv_cuda_check(c, "upload of weights", err);
}

int kv_cuda_upload(kv_cuda_backend *b, const kv_weights *w, void *out, kv_error *err) {
    int rc = b->uploader ? KV_OK : begin(b, err);
    size_t row = kv_cuda_type_bytes(b->type) * w->n_in;
    int most = (int)(CHUNK / kv_dtype_bytes(kv_weights_type(w), (size_t)w->n_in));
    for (int first = 0; rc == KV_OK && first < w->n_out; first += most) {
        int n = w->n_out - first < most ? w->n_out - first : most;
        rc = send(b, w, first, n, (char *)out + row * first, err);
    }
    return rc;
}
