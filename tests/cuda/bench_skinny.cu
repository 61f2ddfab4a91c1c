/* bench_skinny.cu - how fast the products of a decode step are: microseconds of each product of one layer of the
 * Qwen3-4B shape, and of the four after one another, by number of rows.
 *
 *     cuda_bench_skinny [ROWS...]
 *
 * Weights are random and of many layers, more than the L2 cache holds; launches are captured in a graph,
 * dependent ones as in a step, though each product reads the same x; the best of several replays.  One line per number
 * of rows and product: rows, product, microseconds, GB/s of weights. */
#include "engine/cuda/skinny.cuh"
#include "tests/cuda/bench.cuh"
#include "tests/cuda/check.cuh"

enum { DIM = 2560, N_HEADS = 4096, N_QKV = 6144, N_FF = 9728, LAYERS = 12, PRODUCTS = 4, REPLAYS = 5, MOST_ROWS = 128 };

typedef struct kind_of {
    const char *name;
    kv_skinny_kind kind;
    int n_out, n_in;
} kind_of;

static const kind_of KINDS[PRODUCTS] = {{"qkv", KV_SKINNY_PLAIN, N_QKV, DIM},
                                        {"out", KV_SKINNY_RESIDUAL, DIM, N_HEADS},
                                        {"gate_up", KV_SKINNY_SWIGLU, N_FF, DIM},
                                        {"down", KV_SKINNY_RESIDUAL, DIM, N_FF}};

static size_t weights_of(const kind_of *k) {
    return (size_t)(k->kind == KV_SKINNY_SWIGLU ? 2 : 1) * k->n_out * k->n_in;
}

/* Everything that the products read and write. */
typedef struct memory {
    __nv_bfloat16 *weights[PRODUCTS]; /* (LAYERS, weights_of) */
    __nv_bfloat16 *x, *h, *normed;    /* (MOST_ROWS, N_FF); x: random */
    float *residual, *out, *squares, *norm_weight;
} memory;

static void *allocate(size_t bytes) {
    void *p;
    CHECK_CUDA(cudaMalloc(&p, bytes));
    CHECK_CUDA(cudaMemset(p, 0, bytes));
    return p;
}

static memory make_memory(void) {
    const size_t rows = (size_t)MOST_ROWS * N_FF;
    memory m;
    for (int k = 0; k < PRODUCTS; k++) {
        const size_t n = LAYERS * weights_of(&KINDS[k]);
        m.weights[k] = (__nv_bfloat16 *)allocate(n * sizeof(__nv_bfloat16));
        fill_random<<<1024, 256>>>(m.weights[k], n, 1, 0.03f);
    }
    m.x = (__nv_bfloat16 *)allocate(rows * sizeof *m.x);
    m.h = (__nv_bfloat16 *)allocate(rows * sizeof *m.h);
    m.normed = (__nv_bfloat16 *)allocate(rows * sizeof *m.normed);
    m.residual = (float *)allocate(rows * sizeof(float));
    m.out = (float *)allocate(rows * sizeof(float));
    m.squares = (float *)allocate(rows * sizeof(float));
    m.norm_weight = (float *)allocate(rows * sizeof(float));
    fill_random<<<1024, 256>>>(m.x, rows, 1, 1);
    CHECK_CUDA(cudaDeviceSynchronize());
    return m;
}

static void launch(const memory *m, int k, int layer, int n, int early, cudaStream_t stream) {
    const kind_of *kind = &KINDS[k];
    kv_cuda_skinny a;
    memset(&a, 0, sizeof a);
    a.w = m->weights[k] + layer * weights_of(kind);
    a.n_out = a.out_stride = kind->n_out, a.n_in = kind->n_in, a.n = n;
    a.x = m->x;
    if (kind->kind != KV_SKINNY_RESIDUAL) a.squares = m->squares;
    a.n_squares = kv_cuda_skinny_squares(DIM), a.dim = DIM, a.eps = 1e-6f;
    a.out = m->out, a.h = m->h, a.residual = m->residual, a.normed = m->normed, a.norm_weight = m->norm_weight;
    a.squares_out = m->squares;
    a.order = a.out_order = kv_cuda_skinny_order(kind->kind, &a);
    CHECK_CUDA(kv_cuda_skinny_rows(kind->kind, &a, early, stream));
}

/* Microseconds a layer of product `only`, or of all when it is PRODUCTS. */
static double time_layers(const memory *m, int only, int n, cudaStream_t stream) {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t start, stop;
    float ms, best = 1e9f;
    CHECK_CUDA(cudaEventCreate(&start));
    CHECK_CUDA(cudaEventCreate(&stop));
    CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < LAYERS * PRODUCTS; i++)
        if (only == PRODUCTS || i % PRODUCTS == only) launch(m, i % PRODUCTS, i / PRODUCTS, n, i >= PRODUCTS, stream);
    CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
    CHECK_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = 0; i <= REPLAYS; i++) {
        CHECK_CUDA(cudaEventRecord(start, stream));
        CHECK_CUDA(cudaGraphLaunch(exec, stream));
        CHECK_CUDA(cudaEventRecord(stop, stream));
        CHECK_CUDA(cudaEventSynchronize(stop));
        CHECK_CUDA(cudaEventElapsedTime(&ms, start, stop));
        if (i > 0 && ms < best) best = ms;
    }
    CHECK_CUDA(cudaGraphExecDestroy(exec));
    CHECK_CUDA(cudaGraphDestroy(graph));
    CHECK_CUDA(cudaEventDestroy(start));
    CHECK_CUDA(cudaEventDestroy(stop));
    return best * 1e3 / LAYERS;
}

int main(int argc, char **argv) {
    enum { MOST_COUNTS = 32 };
    int rows[MOST_COUNTS] = {1, 4, 8, 16, 24, 32, 48, 64, MOST_ROWS}, n_rows = argc > 1 ? argc - 1 : 9, devices = 0;
    for (int i = 1; i < argc; i++) {
        char *end;
        const long n = strtol(argv[i], &end, 10);
        if (i > MOST_COUNTS || *end || n < 1 || n > MOST_ROWS) {
            fprintf(stderr, "cuda_bench_skinny: %s: up to %d numbers of rows from 1 to %d\n", argv[i], MOST_COUNTS,
                    MOST_ROWS);
            return 2;
        }
        rows[i - 1] = (int)n;
    }
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        fprintf(stderr, "cuda_bench_skinny: no CUDA device\n");
        return 77;
    }
    CHECK_CUDA(kv_cuda_skinny_prepare());
    const memory m = make_memory();
    cudaStream_t stream;
    CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (int i = 0; i < n_rows; i++) {
        size_t all = 0;
        for (int k = 0; k <= PRODUCTS; k++) {
            const size_t bytes = k < PRODUCTS ? weights_of(&KINDS[k]) * sizeof(__nv_bfloat16) : all;
            const double us = time_layers(&m, k, rows[i], stream);
            all += bytes;
            printf("%d %s %.2f %.0f\n", rows[i], k < PRODUCTS ? KINDS[k].name : "layer", us, bytes / us / 1e3);
        }
        fflush(stdout);
    }
    return 0; /* the process takes the memory with it */
}
