/* test_gemm.cu - products with many rows against sums in double, and that a row's bits depend neither on the number of
 * rows nor on its place among them.
 *
 * Every row is compared in bits, some rows in value. */
#include "engine/cuda/gemm.cuh"
#include "tests/cuda/check.cuh"

enum { MOST_ROWS = 5000, SPARE = 3, EVERY = 331 };

typedef enum kind { BF16_TO_BF16, BF16_TO_F32, BF16_ADDED, F32, F32_ADDED } kind;

typedef struct product {
    kind k;
    int n_out, n_in;
    size_t x_row, out_row; /* bytes */
    float *x, *w, *before; /* host; before: what is added to, (MOST_ROWS, n_out) */
    char *d_x, *d_moved, *d_w, *d_before, *d_out;
    char *all, *now; /* host: rows and spare rows of out */
    kv_cuda_gemm *g;
} product;

static void *allocate(size_t bytes) {
    void *p = malloc(bytes);
    if (!p) exit(1);
    return p;
}

static char *device(const void *from, size_t bytes) {
    void *p;
    CHECK_CUDA(cudaMalloc(&p, bytes));
    if (from) CHECK_CUDA(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice));
    return (char *)p;
}

static char *make_values(float **host, int bf16, size_t n, float size, uint64_t seed) {
    __nv_bfloat16 *h = (__nv_bfloat16 *)allocate(n * sizeof *h);
    *host = (float *)allocate(n * sizeof **host);
    for (size_t i = 0; i < n; i++) {
        (*host)[i] = size * check_random(seed, i);
        h[i] = __float2bfloat16_rn((*host)[i]);
        if (bf16) (*host)[i] = __bfloat162float(h[i]);
    }
    char *d = bf16 ? device(h, n * sizeof *h) : device(*host, n * sizeof **host);
    free(h);
    return d;
}

static product make_product(kv_cuda_gemm *g, kind k, int n_out, int n_in, uint64_t seed) {
    const int bf16 = k < F32;
    product p;
    memset(&p, 0, sizeof p);
    p.g = g, p.k = k, p.n_out = n_out, p.n_in = n_in;
    p.x_row = (size_t)n_in * (bf16 ? sizeof(__nv_bfloat16) : sizeof(float));
    p.out_row = (size_t)n_out * (k == BF16_TO_BF16 ? sizeof(__nv_bfloat16) : sizeof(float));
    p.d_x = make_values(&p.x, bf16, (size_t)MOST_ROWS * n_in, 1, seed);
    p.d_w = make_values(&p.w, bf16, (size_t)n_out * n_in, 1.7f / sqrtf((float)n_in), seed + 1);
    p.d_before = make_values(&p.before, 0, (size_t)MOST_ROWS * n_out, 2, seed + 2);
    p.d_moved = device(NULL, MOST_ROWS * p.x_row);
    p.d_out = device(NULL, (MOST_ROWS + SPARE) * p.out_row);
    p.all = (char *)allocate((MOST_ROWS + SPARE) * p.out_row);
    p.now = (char *)allocate((MOST_ROWS + SPARE) * p.out_row);
    return p;
}

static void free_product(product *p) {
    void *gpu[] = {p->d_x, p->d_moved, p->d_w, p->d_before, p->d_out},
         *host[] = {p->x, p->w, p->before, p->all, p->now};
    for (size_t i = 0; i < sizeof gpu / sizeof *gpu; i++) CHECK_CUDA(cudaFree(gpu[i]));
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) free(host[i]);
}

/* Row i of the call is row (first + i) % MOST_ROWS of the inputs.  Results in p->now, poison behind them. */
static int run_product(product *p, int first, int n) {
    const int tail = MOST_ROWS - first < n ? MOST_ROWS - first : n, added = p->k == BF16_ADDED || p->k == F32_ADDED;
    const cudaMemcpyKind inside = cudaMemcpyDeviceToDevice;
    CHECK_CUDA(cudaMemcpy(p->d_moved, p->d_x + first * p->x_row, tail * p->x_row, inside));
    CHECK_CUDA(cudaMemcpy(p->d_moved + tail * p->x_row, p->d_x, (n - tail) * p->x_row, inside));
    CHECK_CUDA(cudaMemset(p->d_out, 0xff, (MOST_ROWS + SPARE) * p->out_row));
    if (added) {
        CHECK_CUDA(cudaMemcpy(p->d_out, p->d_before + first * p->out_row, tail * p->out_row, inside));
        CHECK_CUDA(cudaMemcpy(p->d_out + tail * p->out_row, p->d_before, (n - tail) * p->out_row, inside));
    }
    if (p->k >= F32) {
        CHECK_CUDA(kv_cuda_gemm_f32((float *)p->d_out, (const float *)p->d_moved, (const float *)p->d_w, n, p->n_out,
                                    p->n_in, added, 0));
    } else {
        kv_error err;
        if (kv_cuda_gemm_bf16(p->g, p->d_out, p->k != BF16_TO_BF16, p->d_moved, p->d_w, n, p->n_out, p->n_in, added, 0,
                              &err)) {
            printf("  %s\n", err.text);
            return 1;
        }
    }
    CHECK_CUDA(cudaMemcpy(p->now, p->d_out, (MOST_ROWS + SPARE) * p->out_row, cudaMemcpyDeviceToHost));
    int behind = 0;
    for (size_t i = n * p->out_row; i < (MOST_ROWS + SPARE) * p->out_row; i++) behind += p->now[i] != (char)0xff;
    if (behind) printf("  %d bytes were written behind the %d rows\n", behind, n);
    return behind;
}

static int compare_row(const product *p, int row) {
    const int added = p->k == BF16_ADDED || p->k == F32_ADDED, rounded = p->k == BF16_TO_BF16;
    const float *x = p->x + (size_t)row * p->n_in, *out = (const float *)(p->all + row * p->out_row);
    int bad = 0;
    for (int o = 0; o < p->n_out && !bad; o++) {
        const float *w = p->w + (size_t)o * p->n_in;
        double want = added ? p->before[(size_t)row * p->n_out + o] : 0;
        for (int i = 0; i < p->n_in; i++) want += (double)x[i] * w[i];
        const float got = rounded ? __bfloat162float(((const __nv_bfloat16 *)out)[o]) : out[o];
        bad += check_close("out", &got, &want, 1, 2e-6 * sqrt((double)p->n_in), rounded ? 0x1p-8 : 1e-5);
    }
    if (bad) printf("  ... in row %d\n", row);
    return bad;
}

static int check_product(kv_cuda_gemm *g, kind k, int n_out, int n_in, uint64_t seed) {
    static const int runs[][2] = {{0, 1},    {0, 5},    {0, 37},    {0, 200},     {0, 1000},    {1234, 1},
                                  {4999, 5}, {77, 200}, {129, 999}, {4000, 1000}, {4321, 4999}, {1, 5000}};
    product p = make_product(g, k, n_out, n_in, seed);
    int bad = run_product(&p, 0, MOST_ROWS), other = 0;
    memcpy(p.all, p.now, (MOST_ROWS + SPARE) * p.out_row);
    for (int row = 0; row < MOST_ROWS && !bad; row += row < 4 ? 1 : EVERY) bad += compare_row(&p, row);
    bad += compare_row(&p, MOST_ROWS - 1);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        const int first = runs[i][0], n = runs[i][1], tail = MOST_ROWS - first < n ? MOST_ROWS - first : n;
        bad += run_product(&p, first, n);
        const int differs = memcmp(p.now, p.all + first * p.out_row, tail * p.out_row) != 0 ||
                            memcmp(p.now + tail * p.out_row, p.all, (n - tail) * p.out_row) != 0;
        if (differs) printf("  %d rows from row %d on have other bits than among all\n", n, first);
        other += differs;
    }
    if (bad + other) printf("  ... at %d x %d, kind %d\n", n_out, n_in, (int)k);
    free_product(&p);
    return bad + other;
}

static int check_bf16(kind k) {
    static const int shapes[][2] = {{960, 576}, {3072, 576}, {576, 1536}, {128, 64}, {256, 2560}, {1024, 256}};
    kv_cuda_gemm g;
    kv_error err;
    void *workspace;
    int bad = 0;
    CHECK_CUDA(cudaMalloc(&workspace, KV_GEMM_WORKSPACE));
    if (kv_cuda_gemm_create(&g, workspace, &err)) {
        printf("  %s\n", err.text);
        return 1;
    }
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        bad += check_product(&g, k, shapes[i][0], shapes[i][1], 100 * (i + 1));
    if (g.n_plans != (int)(sizeof shapes / sizeof *shapes)) printf("  %d plans\n", g.n_plans), bad++;
    kv_cuda_gemm_destroy(&g);
    CHECK_CUDA(cudaFree(workspace));
    return bad;
}

static int bf16_rows(void) {
    return check_bf16(BF16_TO_BF16);
}
static int bf16_to_f32(void) {
    return check_bf16(BF16_TO_F32);
}
static int bf16_added(void) {
    return check_bf16(BF16_ADDED);
}

static int f32_rows(void) {
    static const int shapes[][2] = {{960, 576}, {1, 1}, {33, 17}, {333, 130}, {64, 16}, {65, 1000}};
    int bad = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        bad += check_product(NULL, F32, shapes[i][0], shapes[i][1], 1000 * (i + 1));
        bad += check_product(NULL, F32_ADDED, shapes[i][0], shapes[i][1], 1000 * (i + 1) + 500);
    }
    return bad;
}

int main(int argc, char **argv) {
    static const check checks[] = {
        {"bf16 products are those of double; a row's bits do not depend on the others", bf16_rows},
        {"bf16 products with fp32 results, likewise", bf16_to_f32},
        {"bf16 products added to fp32, likewise", bf16_added},
        {"fp32 products, likewise", f32_rows},
    };
    return check_main(argc, argv, checks, sizeof checks / sizeof *checks);
}
