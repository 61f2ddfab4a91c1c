/* gpuinfo.c - the one file of the program that asks CUDA and NVML about the machine (doctor apart). */
#include "bench/gpuinfo.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#ifdef KV_HAVE_CUDA

#include "engine/cuda/device.h"
#include "engine/cuda/telemetry.h"

int kv_gpu_open(kv_gpu *g, int device, kv_error *err) {
    kv_cuda_device d;
    kv_telemetry *t = NULL;
    memset(g, 0, sizeof *g);
    int rc = kv_cuda_device_query(device, &d, err);
    if (rc) return rc;
    g->open = 1;
    g->device = device;
    memcpy(g->name, d.name, sizeof g->name);
    g->memory_bytes = (int64_t)d.bytes;
    g->sm_clock_mhz = d.sm_clock_mhz;
    g->mem_clock_mhz = d.mem_clock_mhz;
    g->ecc = d.ecc;
    g->power_cap_w = g->copy_gb_s = g->datasheet_gb_s = NAN;
    if (kv_cuda_datasheet_gb_s(d.name) > 0) g->datasheet_gb_s = kv_cuda_datasheet_gb_s(d.name);
    snprintf(g->driver, sizeof g->driver, "CUDA %d.%d", d.driver / 1000, d.driver % 1000 / 10);
    if (kv_telemetry_open(device, &t, NULL)) return KV_OK;
    const kv_telemetry_info *info = kv_telemetry_info_of(t);
    kv_telemetry_reading now;
    kv_telemetry_read(t, &now);
    g->telemetry = t;
    if (info->driver[0]) snprintf(g->driver, sizeof g->driver, "%s", info->driver);
    memcpy(g->uuid_hash, info->uuid_hash, sizeof g->uuid_hash);
    if (info->ecc >= 0) g->ecc = info->ecc;
    if (now.power_limit_w > 0) g->power_cap_w = now.power_limit_w;
    return KV_OK;
}

void kv_gpu_close(kv_gpu *g) {
    if (g->open) kv_telemetry_close(g->telemetry);
    memset(g, 0, sizeof *g);
}

int kv_gpu_measure(kv_gpu *g, kv_error *err) {
    kv_cuda_bandwidth b;
    int rc = kv_cuda_measure_bandwidth(g->device, KV_CUDA_MEASURED_BYTES, KV_CUDA_MEASURED_REPS, &b, err);
    if (rc == KV_OK) g->copy_gb_s = b.best_gb_s;
    return rc;
}

int kv_gpu_free_bytes(const kv_gpu *g, size_t *bytes, kv_error *err) {
    kv_cuda_device d;
    int rc = kv_cuda_device_query(g->device, &d, err);
    *bytes = rc ? 0 : d.bytes_free;
    return rc;
}

void kv_gpu_sample(const kv_gpu *g, kv_timing_row *r) {
    kv_telemetry_reading now;
    if (!g->open || !g->telemetry) return;
    kv_telemetry_read(g->telemetry, &now);
    if (now.sm_mhz >= 0) r->sm_clock_mhz = now.sm_mhz;
    if (now.mem_mhz >= 0) r->mem_clock_mhz = now.mem_mhz;
    if (now.temperature_c >= 0) r->temp_c = now.temperature_c;
    if (now.throttle >= 0) r->throttle = now.throttle;
}

void kv_gpu_throttle_text(int64_t bits, char *out, size_t size) {
    kv_telemetry_throttle_text(bits, out, size);
}

#else

int kv_gpu_open(kv_gpu *g, int device, kv_error *err) {
    memset(g, 0, sizeof *g);
    return kv_fail(err, KV_EUNSUPPORTED, "device %d: this build has no CUDA backend", device);
}

void kv_gpu_close(kv_gpu *g) {
    memset(g, 0, sizeof *g);
}

int kv_gpu_measure(kv_gpu *g, kv_error *err) {
    return kv_fail(err, KV_EUNSUPPORTED, "device %d: this build has no CUDA backend", g->device);
}

int kv_gpu_free_bytes(const kv_gpu *g, size_t *bytes, kv_error *err) {
    *bytes = 0;
    return kv_fail(err, KV_EUNSUPPORTED, "device %d: this build has no CUDA backend", g->device);
}

void kv_gpu_sample(const kv_gpu *g, kv_timing_row *r) {
    (void)g, (void)r;
}

void kv_gpu_throttle_text(int64_t bits, char *out, size_t size) {
    (void)bits;
    snprintf(out, size, "none");
}

#endif

int kv_gpu_store(const kv_gpu *g, kv_store *s, int64_t *id, kv_error *err) {
    *id = 0;
    if (!g->open) return KV_OK;
    const kv_gpu_row r = {.name = g->name,
                          .uuid_hash = g->uuid_hash[0] ? g->uuid_hash : NULL,
                          .driver = g->driver,
                          .memory_bytes = g->memory_bytes,
                          .sm_clock_mhz = g->sm_clock_mhz,
                          .mem_clock_mhz = g->mem_clock_mhz,
                          .ecc = g->ecc,
                          .power_cap_w = g->power_cap_w,
                          .copy_gb_s = g->copy_gb_s};
    return kv_store_gpu(s, &r, id, err);
}
