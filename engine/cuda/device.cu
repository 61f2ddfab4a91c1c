/* device.cu - device queries and the copy bandwidth that every speed figure is measured against.
 *
 * Times come from events around the copy, so the host's clock and launch latency stay out of them. */
extern "C" {
#include "engine/cuda/device.h"
}

#include <cuda_runtime.h>
#include <stdio.h>
#include <string.h>

static int failed(cudaError_t rc, const char *what, int device, kv_error *err) {
    return kv_fail(err, rc == cudaErrorMemoryAllocation ? KV_ENOMEM : KV_EUNSUPPORTED, "CUDA device %d: %s: %s", device,
                   what, cudaGetErrorString(rc));
}

int kv_cuda_device_count(int *n, kv_error *err) {
    cudaError_t rc = cudaGetDeviceCount(n);
    if (rc == cudaSuccess && *n > 0) return KV_OK;
    return kv_fail(err, KV_ENOTFOUND, "no CUDA device: %s",
                   rc == cudaSuccess ? "the driver reports none" : cudaGetErrorString(rc));
}

static int attribute(cudaDeviceAttr what, int device) {
    int v = 0;
    return cudaDeviceGetAttribute(&v, what, device) == cudaSuccess ? v : 0;
}

int kv_cuda_device_query(int device, kv_cuda_device *out, kv_error *err) {
    cudaDeviceProp p;
    memset(out, 0, sizeof *out);
    cudaError_t rc = cudaGetDeviceProperties(&p, device);
    if (rc == cudaSuccess) rc = cudaSetDevice(device);
    if (rc == cudaSuccess) rc = cudaMemGetInfo(&out->bytes_free, &out->bytes);
    if (rc == cudaSuccess) rc = cudaDriverGetVersion(&out->driver);
    if (rc == cudaSuccess) rc = cudaRuntimeGetVersion(&out->runtime);
    if (rc != cudaSuccess) return failed(rc, "query", device, err);
    snprintf(out->name, sizeof out->name, "%s", p.name);
    out->major = p.major;
    out->minor = p.minor;
    out->n_sm = p.multiProcessorCount;
    out->ecc = p.ECCEnabled;
    out->sm_clock_mhz = attribute(cudaDevAttrClockRate, device) / 1000;
    out->mem_clock_mhz = attribute(cudaDevAttrMemoryClockRate, device) / 1000;
    return KV_OK;
}

/* One timed copy; *ms receives its duration. */
static cudaError_t time_copy(void *dst, const void *src, size_t bytes, cudaEvent_t start, cudaEvent_t stop, float *ms) {
    cudaError_t rc = cudaEventRecord(start);
    if (rc == cudaSuccess) rc = cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice);
    if (rc == cudaSuccess) rc = cudaEventRecord(stop);
    if (rc == cudaSuccess) rc = cudaEventSynchronize(stop);
    return rc == cudaSuccess ? cudaEventElapsedTime(ms, start, stop) : rc;
}

int kv_cuda_measure_copy(int device, size_t bytes, int reps, double *gb_s, kv_error *err) {
    void *src = NULL, *dst = NULL;
    cudaEvent_t start = NULL, stop = NULL;
    float ms = 0, best = 0;
    cudaError_t rc = cudaSetDevice(device);
    if (rc == cudaSuccess) rc = cudaMalloc(&src, bytes);
    if (rc == cudaSuccess) rc = cudaMalloc(&dst, bytes);
    if (rc == cudaSuccess) rc = cudaMemset(src, 0x5a, bytes);
    if (rc == cudaSuccess) rc = cudaEventCreate(&start);
    if (rc == cudaSuccess) rc = cudaEventCreate(&stop);
    for (int i = 0; rc == cudaSuccess && i <= reps; i++) { /* the first one warms up */
        rc = time_copy(dst, src, bytes, start, stop, &ms);
        if (i > 0 && (best == 0 || ms < best)) best = ms;
    }
    if (start) cudaEventDestroy(start);
    if (stop) cudaEventDestroy(stop);
    cudaFree(src);
    cudaFree(dst);
    if (rc != cudaSuccess) return failed(rc, "copy", device, err);
    *gb_s = 2.0 * (double)bytes / 1e6 / best;
    return KV_OK;
}
