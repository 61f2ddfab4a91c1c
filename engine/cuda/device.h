/* device.h - which CUDA devices there are, and what their memory reaches. */
#ifndef KV_CUDA_DEVICE_H
#define KV_CUDA_DEVICE_H

#include "engine/kv.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kv_cuda_device {
    char name[256];
    int major, minor, n_sm;          /* compute capability, multiprocessors */
    size_t bytes, bytes_free;        /* device memory */
    int sm_clock_mhz, mem_clock_mhz; /* highest */
    int ecc;
    int driver, runtime; /* CUDA versions, 13000 = 13.0 */
} kv_cuda_device;

/* KV_ENOTFOUND when there is no device or no driver. */
int kv_cuda_device_count(int *n, kv_error *err);
int kv_cuda_device_query(int device, kv_cuda_device *out, kv_error *err);

/* Memory bandwidth in GB/s (1e9), bytes read and written counted: the ceiling that speed figures are measured against.
 * Each is the best run over `bytes` (at least 1 GiB, so that no cache holds it; KV_EARG otherwise), once `reps` on end
 * have not been a thousandth faster. */
typedef struct kv_cuda_bandwidth {
    double copy_gb_s; /* device-to-device copy */
    double read_gb_s; /* our own kernel that only reads */
    double best_gb_s; /* the larger of the two */
} kv_cuda_bandwidth;
enum { KV_CUDA_MEASURED_BYTES = 1 << 30, KV_CUDA_MEASURED_REPS = 20 }; /* for figures that are shown */
int kv_cuda_measure_bandwidth(int device, size_t bytes, int reps, kv_cuda_bandwidth *out, kv_error *err);

/* What the maker's datasheet promises for a device of this name, in GB/s; 0 when it is not in the table. */
double kv_cuda_datasheet_gb_s(const char *name);

#ifdef __cplusplus
}
#endif

#endif
