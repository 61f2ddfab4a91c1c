/* telemetry.c - NVML, found at run time.
 *
 * The library belongs to the driver, not to the CUDA Toolkit, and is missing in some containers, so it is opened with
 * dlopen and every function may be absent.  Types, constants and prototypes below follow the NVML API reference
 * (docs.nvidia.com/deploy/nvml-api, R580): nvmlReturn_t and the enumerations are ints, handles are pointers, power is
 * in milliwatts, clocks in MHz. */
#include "engine/cuda/telemetry.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/file.h"

enum { NVML_OK = 0, NVML_CLOCK_SM = 1, NVML_CLOCK_MEM = 2, NVML_TEMPERATURE_GPU = 0 };

typedef struct nvml_device *nvml_handle;

typedef struct nvml {
    int (*init)(void);
    int (*shutdown)(void);
    int (*handle)(const char *pci_bus_id, nvml_handle *device);
    int (*driver_version)(char *version, unsigned length);
    int (*uuid)(nvml_handle device, char *uuid, unsigned length);
    int (*ecc)(nvml_handle device, int *current, int *pending);
    int (*clock)(nvml_handle device, int type, unsigned *mhz);
    int (*temperature)(nvml_handle device, int sensor, unsigned *celsius);
    int (*power)(nvml_handle device, unsigned *milliwatts);
    int (*power_limit)(nvml_handle device, unsigned *milliwatts);
    int (*throttle)(nvml_handle device, unsigned long long *reasons);
} nvml;

struct kv_telemetry {
    void *library;
    nvml api;
    nvml_handle device;
    int started;
    kv_telemetry_info info;
};

static const struct {
    const char *name, *older; /* older: the same function in drivers before R535, or NULL */
    size_t at;
} functions[] = {
    {"nvmlInit_v2", NULL, offsetof(nvml, init)},
    {"nvmlShutdown", NULL, offsetof(nvml, shutdown)},
    {"nvmlDeviceGetHandleByPciBusId_v2", NULL, offsetof(nvml, handle)},
    {"nvmlSystemGetDriverVersion", NULL, offsetof(nvml, driver_version)},
    {"nvmlDeviceGetUUID", NULL, offsetof(nvml, uuid)},
    {"nvmlDeviceGetEccMode", NULL, offsetof(nvml, ecc)},
    {"nvmlDeviceGetClockInfo", NULL, offsetof(nvml, clock)},
    {"nvmlDeviceGetTemperature", NULL, offsetof(nvml, temperature)},
    {"nvmlDeviceGetPowerUsage", NULL, offsetof(nvml, power)},
    {"nvmlDeviceGetEnforcedPowerLimit", NULL, offsetof(nvml, power_limit)},
    {"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons", offsetof(nvml, throttle)},
};

static void bind_functions(kv_telemetry *t) {
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *f = dlsym(t->library, functions[i].name);
        if (!f && functions[i].older) f = dlsym(t->library, functions[i].older);
        memcpy((char *)&t->api + functions[i].at, &f, sizeof f);
    }
}

static void read_info(kv_telemetry *t) {
    const nvml *a = &t->api;
    char uuid[96] = "", hex[65];
    int current = 0, pending = 0;
    t->info.ecc = a->ecc && a->ecc(t->device, &current, &pending) == NVML_OK ? current != 0 : -1;
    if (!a->driver_version || a->driver_version(t->info.driver, sizeof t->info.driver) != NVML_OK)
        t->info.driver[0] = 0;
    if (!a->uuid || a->uuid(t->device, uuid, sizeof uuid) != NVML_OK) return;
    kv_sha256_bytes(uuid, strlen(uuid), hex);
    snprintf(t->info.uuid_hash, sizeof t->info.uuid_hash, "%.16s", hex);
}

static int start(kv_telemetry *t, int device, kv_error *err) {
    char bus[32];
    cudaError_t rc = cudaDeviceGetPCIBusId(bus, sizeof bus, device);
    if (rc != cudaSuccess)
        return kv_fail(err, KV_ENOTFOUND, "telemetry: CUDA device %d: %s", device, cudaGetErrorString(rc));
    t->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!t->library) return kv_fail(err, KV_ENOTFOUND, "telemetry: %s", dlerror());
    bind_functions(t);
    if (!t->api.init || !t->api.shutdown || !t->api.handle)
        return kv_fail(err, KV_ENOTFOUND, "telemetry: libnvidia-ml.so.1 lacks nvmlInit_v2: the driver is too old");
    int code = t->api.init();
    t->started = code == NVML_OK;
    if (t->started) code = t->api.handle(bus, &t->device);
    if (code != NVML_OK)
        return kv_fail(err, KV_ENOTFOUND, "telemetry: NVML does not open device %s (code %d)", bus, code);
    read_info(t);
    return KV_OK;
}

int kv_telemetry_open(int device, kv_telemetry **out, kv_error *err) {
    *out = NULL;
    kv_telemetry *t = calloc(1, sizeof *t);
    if (!t) return kv_fail(err, KV_ENOMEM, "telemetry: no memory");
    int rc = start(t, device, err);
    if (rc != KV_OK) {
        kv_telemetry_close(t);
        return rc;
    }
    *out = t;
    return KV_OK;
}

void kv_telemetry_close(kv_telemetry *t) {
    if (!t) return;
    if (t->started) t->api.shutdown();
    if (t->library) dlclose(t->library);
    free(t);
}

const kv_telemetry_info *kv_telemetry_info_of(const kv_telemetry *t) {
    return &t->info;
}

static int read_clock(const kv_telemetry *t, int type) {
    unsigned mhz = 0;
    return t->api.clock && t->api.clock(t->device, type, &mhz) == NVML_OK ? (int)mhz : -1;
}

static double read_power(const kv_telemetry *t, int (*read)(nvml_handle device, unsigned *milliwatts)) {
    unsigned mw = 0;
    return read && read(t->device, &mw) == NVML_OK ? mw / 1e3 : -1;
}

void kv_telemetry_read(kv_telemetry *t, kv_telemetry_reading *out) {
    const nvml *a = &t->api;
    unsigned celsius = 0;
    unsigned long long reasons = 0;
    out->sm_mhz = read_clock(t, NVML_CLOCK_SM);
    out->mem_mhz = read_clock(t, NVML_CLOCK_MEM);
    out->power_w = read_power(t, a->power);
    out->power_limit_w = read_power(t, a->power_limit);
    out->temperature_c =
        a->temperature && a->temperature(t->device, NVML_TEMPERATURE_GPU, &celsius) == NVML_OK ? (int)celsius : -1;
    out->throttle = a->throttle && a->throttle(t->device, &reasons) == NVML_OK ? (int64_t)reasons : -1;
}

void kv_telemetry_throttle_text(int64_t throttle, char *out, size_t size) {
    static const char *const names[] = {"idle",       "application clocks", "power cap",  "hw slowdown",
                                        "sync boost", "sw thermal",         "hw thermal", "power brake",
                                        "display",    "board limit",        "reliability"};
    enum { N_NAMES = sizeof names / sizeof *names };
    size_t used = 0;
    snprintf(out, size, "%s", throttle < 0 ? "unknown" : throttle == 0 ? "none" : "");
    for (int i = 0; throttle > 0 && i < N_NAMES && used < size; i++)
        if (throttle >> i & 1) used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", names[i]);
    if (throttle >> N_NAMES > 0 && used < size) snprintf(out + used, size - used, "%sother", used ? ", " : "");
}
