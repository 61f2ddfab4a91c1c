/* telemetry.h - what a GPU does while it is timed: clocks, temperature, throttling, power. */
#ifndef KV_CUDA_TELEMETRY_H
#define KV_CUDA_TELEMETRY_H

#include "engine/kv.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kv_telemetry kv_telemetry;

/* What stays the same. */
typedef struct kv_telemetry_info {
    char driver[80];    /* "580.95.05", empty when unknown */
    char uuid_hash[17]; /* first 16 hex digits of the UUID's sha256, empty when unknown: tells devices apart without
                           naming them */
    int ecc;            /* 1 on, 0 off, -1 unknown */
} kv_telemetry_info;

/* At this moment; -1 = the device does not say. */
typedef struct kv_telemetry_reading {
    int sm_mhz, mem_mhz;
    int temperature_c;
    double power_w, power_limit_w; /* the limit in force */
    int64_t throttle;              /* bits of NVML's clocks event reasons */
} kv_telemetry_reading;

/* Reasons that hold clocks below what was asked for: everything but idle (1) and settings of the user (2, 256). */
#define KV_TELEMETRY_SLOWED (~(int64_t)(1 | 2 | 256))

/* Opens NVML for a CUDA device index.  KV_ENOTFOUND when the library, or the device in it, is not there: telemetry is
 * then unknown, and nothing else is lost.  The caller closes; closing NULL is allowed. */
int kv_telemetry_open(int device, kv_telemetry **out, kv_error *err);
void kv_telemetry_close(kv_telemetry *t);
const kv_telemetry_info *kv_telemetry_info_of(const kv_telemetry *t);
/* Takes some tens of microseconds: not inside a timed region. */
void kv_telemetry_read(kv_telemetry *t, kv_telemetry_reading *out);

/* "power cap, hw slowdown" for the bits of a reading, "none" for 0, "unknown" for -1; cut to size. */
void kv_telemetry_throttle_text(int64_t throttle, char *out, size_t size);

#ifdef __cplusplus
}
#endif

#endif
