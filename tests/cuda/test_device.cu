/* test_device.cu - bandwidth and telemetry of the device that is there. */
#include "tests/cuda/check.cuh"

extern "C" {
#include "engine/cuda/device.h"
#include "engine/cuda/telemetry.h"
}

static int measures_a_bandwidth_below_the_datasheet(void) {
    kv_cuda_bandwidth b;
    kv_cuda_device v;
    kv_error err;
    if (kv_cuda_device_query(0, &v, &err) || kv_cuda_measure_bandwidth(0, (size_t)1 << 30, 5, &b, &err)) {
        printf("  %s\n", err.text);
        return 1;
    }
    double promised = kv_cuda_datasheet_gb_s(v.name);
    printf("  %s: copy %.0f, read %.0f, datasheet %.0f GB/s\n", v.name, b.copy_gb_s, b.read_gb_s, promised);
    int bad = b.copy_gb_s < 50 || b.read_gb_s < 50 || b.best_gb_s != fmax(b.copy_gb_s, b.read_gb_s);
    return bad || (promised > 0 && (b.best_gb_s > promised || b.best_gb_s < 0.6 * promised));
}

static int refuses_less_than_a_gibibyte(void) {
    kv_cuda_bandwidth b;
    kv_error err;
    return kv_cuda_measure_bandwidth(0, ((size_t)1 << 30) - 1, 1, &b, &err) != KV_EARG;
}

static int knows_only_whole_names(void) {
    return kv_cuda_datasheet_gb_s("NVIDIA H100 80GB HBM3") != 3352 || kv_cuda_datasheet_gb_s("NVIDIA L40S") != 0 ||
           kv_cuda_datasheet_gb_s("") != 0;
}

/* Without NVML (some containers) the answer must be KV_ENOTFOUND with a text. */
static int telemetry_answers_or_says_that_it_is_not_there(void) {
    kv_telemetry *t;
    kv_telemetry_reading r;
    kv_error err = {};
    int rc = kv_telemetry_open(0, &t, &err);
    if (rc) {
        printf("  %s\n", err.text);
        return rc != KV_ENOTFOUND || t || !err.text[0];
    }
    const kv_telemetry_info *info = kv_telemetry_info_of(t);
    kv_telemetry_read(t, &r);
    printf("  driver %s, ECC %d, SM %d MHz, memory %d MHz, %d C, %.1f of %.1f W, throttle %lld\n", info->driver,
           info->ecc, r.sm_mhz, r.mem_mhz, r.temperature_c, r.power_w, r.power_limit_w, (long long)r.throttle);
    int bad = strlen(info->uuid_hash) != 16 && strlen(info->uuid_hash) != 0;
    bad += r.sm_mhz != -1 && (r.sm_mhz < 100 || r.sm_mhz > 5000);
    bad += r.mem_mhz != -1 && (r.mem_mhz < 100 || r.mem_mhz > 20000);
    bad += r.temperature_c != -1 && (r.temperature_c < 5 || r.temperature_c > 120);
    bad += r.power_w != -1 && (r.power_w < 1 || r.power_w > 3000);
    bad += r.power_limit_w != -1 && r.power_limit_w < 10;
    kv_telemetry_close(t);
    return bad;
}

static int telemetry_of_a_device_that_is_not_there_fails(void) {
    kv_telemetry *t;
    kv_error err;
    int bad = kv_telemetry_open(4096, &t, &err) != KV_ENOTFOUND || t != NULL;
    cudaGetLastError();
    return bad;
}

static int names_the_reasons_of_throttling(void) {
    static const struct {
        int64_t bits;
        const char *text;
    } cases[] = {{0, "none"},
                 {-1, "unknown"},
                 {1, "idle"},
                 {4 | 64, "power cap, hw thermal"},
                 {8 | (1 << 20), "hw slowdown, other"},
                 {1 << 30, "other"}};
    int bad = 0;
    char text[128], small[8];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_telemetry_throttle_text(cases[i].bits, text, sizeof text);
        if (strcmp(text, cases[i].text) != 0) printf("  '%s', expected '%s'\n", text, cases[i].text), bad++;
    }
    kv_telemetry_throttle_text(4 | 64, small, sizeof small);
    return bad || strcmp(small, "power c") != 0;
}

int main(int argc, char **argv) {
    static const check checks[] = {
        {"measures_a_bandwidth_below_the_datasheet", measures_a_bandwidth_below_the_datasheet},
        {"refuses_less_than_a_gibibyte", refuses_less_than_a_gibibyte},
        {"knows_only_whole_names", knows_only_whole_names},
        {"telemetry_answers_or_says_that_it_is_not_there", telemetry_answers_or_says_that_it_is_not_there},
        {"telemetry_of_a_device_that_is_not_there_fails", telemetry_of_a_device_that_is_not_there_fails},
        {"names_the_reasons_of_throttling", names_the_reasons_of_throttling},
    };
    return check_main(argc, argv, checks, sizeof checks / sizeof *checks);
}
