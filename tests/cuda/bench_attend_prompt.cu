/* bench_attend_prompt.cu - how fast prompt attention and its mass are: one row per prompt length.
 *
 * Median of runs after a warm-up, by events; causal work counted as half of all pairs.  32 query heads, 8 KV heads,
 * head size 128.  Values are random, as power and with it the clock depend on them. */
#include "engine/cuda/cuda.h"
#include "tests/cuda/bench.cuh"
#include "tests/cuda/check.cuh"

enum { N_HEADS = 32, N_KV_HEADS = 8, HEAD_DIM = 128, N_RUNS = 15 };

typedef struct prompt {
    __nv_bfloat16 *q, *k, *v, *out;
    float *lse, *mass;
    int n;
} prompt;

static void attend(const prompt *p) {
    CHECK_CUDA(kv_cuda_attend_prompt(p->out, p->lse, p->q, N_HEADS * HEAD_DIM, p->k, p->v, N_KV_HEADS * HEAD_DIM, p->n,
                                     N_HEADS, N_KV_HEADS, HEAD_DIM, 0.08838834765f, 0));
}

static void sum_mass(const prompt *p) {
    CHECK_CUDA(kv_cuda_mass_prompt(p->mass, p->lse, p->q, N_HEADS * HEAD_DIM, p->k, N_KV_HEADS * HEAD_DIM, p->n,
                                   N_HEADS, N_KV_HEADS, HEAD_DIM, 0.08838834765f, 0));
}

static int compare_times(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double time_runs(const prompt *p, void (*run)(const prompt *)) {
    float ms[N_RUNS];
    cudaEvent_t start, stop;
    CHECK_CUDA(cudaEventCreate(&start));
    CHECK_CUDA(cudaEventCreate(&stop));
    for (int i = 0; i < 3; i++) run(p);
    for (int i = 0; i < N_RUNS; i++) {
        CHECK_CUDA(cudaEventRecord(start));
        run(p);
        CHECK_CUDA(cudaEventRecord(stop));
        CHECK_CUDA(cudaEventSynchronize(stop));
        CHECK_CUDA(cudaEventElapsedTime(&ms[i], start, stop));
    }
    CHECK_CUDA(cudaEventDestroy(start));
    CHECK_CUDA(cudaEventDestroy(stop));
    qsort(ms, N_RUNS, sizeof *ms, compare_times);
    return ms[N_RUNS / 2];
}

int main(void) {
    static const int lengths[] = {4096, 32768};
    printf("%8s %12s %10s %12s %10s\n", "tokens", "attend ms", "TFLOP/s", "mass ms", "TFLOP/s");
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        prompt p;
        p.n = lengths[l];
        const size_t rows = (size_t)p.n, q_size = rows * N_HEADS * HEAD_DIM, kv_size = rows * N_KV_HEADS * HEAD_DIM;
        CHECK_CUDA(cudaMalloc(&p.q, q_size * sizeof *p.q));
        CHECK_CUDA(cudaMalloc(&p.out, q_size * sizeof *p.out));
        CHECK_CUDA(cudaMalloc(&p.k, kv_size * sizeof *p.k));
        CHECK_CUDA(cudaMalloc(&p.v, kv_size * sizeof *p.v));
        CHECK_CUDA(cudaMalloc(&p.lse, rows * N_HEADS * sizeof(float)));
        CHECK_CUDA(cudaMalloc(&p.mass, rows * N_KV_HEADS * sizeof(float)));
        fill_random<<<1024, 256>>>(p.q, q_size, 1, 2);
        fill_random<<<1024, 256>>>(p.k, kv_size, 1ull << 40, 2);
        fill_random<<<1024, 256>>>(p.v, kv_size, 1ull << 41, 2);
        CHECK_CUDA(cudaDeviceSynchronize());
        const double flop = 2.0 * p.n * p.n * HEAD_DIM * N_HEADS; /* q k^T and weights v: 4 n^2 d, half of it */
        const double ms = time_runs(&p, attend), mass_ms = time_runs(&p, sum_mass);
        printf("%8d %12.3f %10.1f %12.3f %10.1f\n", p.n, ms, flop / ms / 1e9, mass_ms, flop / 2 / mass_ms / 1e9);
        void *all[] = {p.q, p.k, p.v, p.out, p.lse, p.mass};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) CHECK_CUDA(cudaFree(all[i]));
    }
    return 0;
}
