/* test_synth.cu - weights made on the device are those of the host, bit for bit. */
#include "tests/cuda/check.cuh"

#include "engine/cuda/cuda.h"
#include "engine/cuda/synth.h"
extern "C" {
#include "engine/synth.h"
}
#include "engine/synth_value.h"

enum { MARGIN = 16 };

/* To the nearest bf16, ties to even. */
static uint16_t bf16_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Fills n values and compares all of them, and the bytes behind them, which must stay 0xff. */
static int compare(kv_cuda_type type, size_t n, uint64_t seed, uint64_t matrix, float std) {
    size_t size = type == KV_CUDA_F32 ? 4 : 2, bytes = (n + MARGIN) * size, bad = 0;
    float *want = (float *)malloc((n + 1) * sizeof *want);
    char *got = (char *)malloc(bytes);
    void *out;
    CHECK_CUDA(cudaMalloc(&out, bytes));
    CHECK_CUDA(cudaMemset(out, 0xff, bytes));
    CHECK_CUDA(kv_cuda_fill_synth(out, type, n, seed, matrix, std, 0));
    CHECK_CUDA(cudaMemcpy(got, out, bytes, cudaMemcpyDeviceToHost));
    CHECK_CUDA(cudaFree(out));
    kv_synth_fill(want, n, seed, matrix, std);
    for (size_t i = 0; i < n; i++) {
        uint16_t half = bf16_of(want[i]);
        bad += memcmp(got + i * size, size == 4 ? (void *)&want[i] : (void *)&half, size) != 0;
    }
    for (size_t i = n * size; i < bytes; i++) bad += (unsigned char)got[i] != 0xff;
    if (bad)
        printf("  %s, n %zu, seed %llu, matrix %llu: %zu differ\n", size == 4 ? "fp32" : "bf16", n,
               (unsigned long long)seed, (unsigned long long)matrix, bad);
    free(want);
    free(got);
    return bad != 0;
}

static int equals_the_host(void) {
    static const size_t sizes[] = {0, 1, 3, 4, 5, 7, 8, 9, 31, 33, 2047, 2048, 2049, 1000003};
    static const float stds[] = {1.0f, 0.02f, 0.0198f};
    int bad = 0;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (int k = 0; k < 3; k++) {
            bad += compare(KV_CUDA_BF16, sizes[s], 11 + k, s, stds[k]);
            bad += compare(KV_CUDA_F32, sizes[s], 11 + k, s, stds[k]);
        }
    }
    return bad;
}

static int equals_the_host_for_every_matrix_of_a_model(void) {
    const kv_synth_shape *s = kv_synth_find("tiny");
    int bad = 0;
    for (int p = KV_SYNTH_EMBED; p <= KV_SYNTH_DOWN; p++) {
        int n_out, n_in;
        kv_synth_part part = (kv_synth_part)p;
        kv_synth_dims(s, part, &n_out, &n_in);
        for (int l = 0; l < s->shape.n_layers; l++)
            bad += compare(KV_CUDA_BF16, (size_t)n_out * n_in, ~0ull, kv_synth_matrix(part, l), kv_synth_std(s, part));
    }
    return bad;
}

/* More elements than 32 bits count; only places that a wrapped index would get wrong are read back. */
static int counts_past_32_bits(void) {
    const size_t n = ((size_t)1 << 32) + 1000;
    const size_t places[] = {0, ((size_t)1 << 31) - 8, (size_t)1 << 31, ((size_t)1 << 32) - 8, (size_t)1 << 32, n - 8};
    size_t free_bytes, total;
    int bad = 0;
    void *out;
    CHECK_CUDA(cudaMemGetInfo(&free_bytes, &total));
    if (free_bytes < n * 2 + ((size_t)1 << 30)) {
        printf("  not checked: needs %.1f GiB\n", (double)n * 2 / (1 << 30) + 1);
        return 0;
    }
    CHECK_CUDA(cudaMalloc(&out, n * 2));
    CHECK_CUDA(kv_cuda_fill_synth(out, KV_CUDA_BF16, n, 1, 2, 1.0f, 0));
    for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
        uint16_t got[8];
        CHECK_CUDA(cudaMemcpy(got, (uint16_t *)out + places[p], sizeof got, cudaMemcpyDeviceToHost));
        for (int i = 0; i < 8; i++) bad += got[i] != bf16_of(kv_synth_value(1, 2, places[p] + i));
    }
    CHECK_CUDA(cudaFree(out));
    return bad;
}

static int refuses_misaligned_memory_and_unknown_types(void) {
    char *out;
    int bad = 0;
    CHECK_CUDA(cudaMalloc(&out, 64));
    bad += kv_cuda_fill_synth(out + 2, KV_CUDA_BF16, 8, 1, 0, 1.0f, 0) != cudaErrorMisalignedAddress;
    bad += kv_cuda_fill_synth(out, 2, 8, 1, 0, 1.0f, 0) != cudaErrorInvalidValue;
    CHECK_CUDA(cudaFree(out));
    return bad;
}

/* A third of what the slowest memory in use with such models takes (300 GB/s). */
static int fills_at_memory_speed(void) {
    const size_t n = (size_t)1 << 28;
    cudaEvent_t start, stop;
    float ms = 0, best = 1e9f;
    void *out;
    CHECK_CUDA(cudaMalloc(&out, n * 2));
    CHECK_CUDA(cudaEventCreate(&start));
    CHECK_CUDA(cudaEventCreate(&stop));
    for (int i = 0; i < 5; i++) {
        CHECK_CUDA(cudaEventRecord(start));
        CHECK_CUDA(kv_cuda_fill_synth(out, KV_CUDA_BF16, n, 1, (uint64_t)i, 0.02f, 0));
        CHECK_CUDA(cudaEventRecord(stop));
        CHECK_CUDA(cudaEventSynchronize(stop));
        CHECK_CUDA(cudaEventElapsedTime(&ms, start, stop));
        if (ms < best) best = ms;
    }
    printf("  %.0f GB/s\n", (double)n * 2 / 1e6 / best);
    CHECK_CUDA(cudaEventDestroy(start));
    CHECK_CUDA(cudaEventDestroy(stop));
    CHECK_CUDA(cudaFree(out));
    return (double)n * 2 / 1e6 / best < 100;
}

int main(int argc, char **argv) {
    static const check checks[] = {
        {"equals_the_host", equals_the_host},
        {"equals_the_host_for_every_matrix_of_a_model", equals_the_host_for_every_matrix_of_a_model},
        {"counts_past_32_bits", counts_past_32_bits},
        {"refuses_misaligned_memory_and_unknown_types", refuses_misaligned_memory_and_unknown_types},
        {"fills_at_memory_speed", fills_at_memory_speed},
    };
    return check_main(argc, argv, checks, sizeof checks / sizeof *checks);
}
