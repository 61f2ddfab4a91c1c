/* test_attend_prompt.cu - prompt attention and its mass against sums in double, and what bits must not depend on.
 *
 * Rows past the prompt and the gaps between rows hold NaN, so that a read of them shows; outputs start as NaN and have
 * room behind them, so that a missing and a surplus write show.
 *
 * Tolerances: a weight is rounded to bf16 (2^-9 of it), so a sum of weights times |v| < 1 is off by at most 2^-9, its
 * own rounding to bf16 adds 2^-9 of the value; twice that is allowed.  Roundings are independent, so the relative error
 * of a whole output in the 2-norm is smaller than that of its worst element by far: 5e-3. */
#include "engine/cuda/cuda.h"
#include "tests/cuda/check.cuh"

enum { SPARE_ROWS = 5, KV_GAP = 16 };

typedef struct shape {
    int n_heads, n_kv_heads, head_dim;
} shape;

static const shape SHAPES[] = {{4, 1, 128}, {6, 2, 64}, {3, 3, 96}, {8, 2, 128}};

/* A prompt and its outputs, on the host as fp32 and on the device; a row's values do not depend on n. */
typedef struct prompt {
    shape s;
    int n;
    float scale;
    size_t q_stride, kv_stride; /* elements */
    float *q, *k, *v;           /* host (n, heads, head_dim), as rounded to bf16 */
    __nv_bfloat16 *d_q, *d_k, *d_v, *d_out;
    float *d_lse, *d_mass;
    float *out, *lse, *mass; /* host: (n, n_heads * head_dim), (n, n_heads), (n_kv_heads, n) */
    __nv_bfloat16 *raw;      /* host: out as it came, with its spare rows */
} prompt;

static void *allocate(size_t bytes) {
    void *p = malloc(bytes);
    if (!p) exit(1);
    return p;
}

/* Host values in *x, and the same on the device at `stride`, surrounded by NaN. */
static __nv_bfloat16 *upload(float **x, uint64_t seed, float size, int n, int row, size_t stride) {
    const size_t bytes = (size_t)(n + SPARE_ROWS) * stride * sizeof(__nv_bfloat16);
    __nv_bfloat16 *h = (__nv_bfloat16 *)allocate(bytes), *d = NULL;
    memset((void *)h, 0xff, bytes);
    *x = (float *)allocate((size_t)n * (size_t)row * sizeof(float));
    for (int i = 0; i < n; i++)
        for (int j = 0; j < row; j++) {
            const size_t at = (size_t)i * (size_t)row + (size_t)j;
            const __nv_bfloat16 b = __float2bfloat16(size * check_random(seed, at));
            h[(size_t)i * stride + (size_t)j] = b;
            (*x)[at] = __bfloat162float(b);
        }
    CHECK_CUDA(cudaMalloc(&d, bytes));
    CHECK_CUDA(cudaMemcpy(d, h, bytes, cudaMemcpyHostToDevice));
    free(h);
    return d;
}

/* size: of the queries, hence how peaked the attention is. */
static prompt build_prompt(shape s, int n, float size, uint64_t seed) {
    prompt p;
    memset(&p, 0, sizeof p);
    p.s = s;
    p.n = n;
    p.scale = 1.0f / sqrtf((float)s.head_dim);
    const int q_row = s.n_heads * s.head_dim, kv_row = s.n_kv_heads * s.head_dim;
    p.q_stride = (size_t)(q_row + 2 * kv_row);
    p.kv_stride = (size_t)(kv_row + KV_GAP);
    p.d_q = upload(&p.q, seed, size, n, q_row, p.q_stride);
    p.d_k = upload(&p.k, seed + 1, 1, n, kv_row, p.kv_stride);
    p.d_v = upload(&p.v, seed + 2, 1, n, kv_row, p.kv_stride);
    const size_t rows = (size_t)(n + SPARE_ROWS), heads = (size_t)s.n_heads, kv_heads = (size_t)s.n_kv_heads;
    CHECK_CUDA(cudaMalloc(&p.d_out, rows * (size_t)q_row * sizeof *p.d_out));
    CHECK_CUDA(cudaMalloc(&p.d_lse, rows * heads * sizeof(float)));
    CHECK_CUDA(cudaMalloc(&p.d_mass, rows * kv_heads * sizeof(float)));
    p.raw = (__nv_bfloat16 *)allocate(rows * (size_t)q_row * sizeof *p.raw);
    p.out = (float *)allocate(rows * (size_t)q_row * sizeof(float));
    p.lse = (float *)allocate(rows * heads * sizeof(float));
    p.mass = (float *)allocate(rows * kv_heads * sizeof(float));
    return p;
}

static void free_prompt(prompt *p) {
    void *device[] = {p->d_q, p->d_k, p->d_v, p->d_out, p->d_lse, p->d_mass};
    void *host[] = {p->q, p->k, p->v, p->raw, p->out, p->lse, p->mass};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++) CHECK_CUDA(cudaFree(device[i]));
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) free(host[i]);
}

static int all_poison(const char *what, const void *x, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (((const uint8_t *)x)[i] != 0xff) {
            printf("  %s: written past its end, at byte %zu\n", what, i);
            return 1;
        }
    return 0;
}

/* Runs both kernels on poisoned outputs and fetches these; number of violations behind their ends. */
static int run_prompt(prompt *p) {
    const size_t rows = (size_t)(p->n + SPARE_ROWS), n = (size_t)p->n, heads = (size_t)p->s.n_heads;
    const size_t kv_heads = (size_t)p->s.n_kv_heads, row = heads * (size_t)p->s.head_dim;
    CHECK_CUDA(cudaMemset(p->d_out, 0xff, rows * row * sizeof *p->d_out));
    CHECK_CUDA(cudaMemset(p->d_lse, 0xff, rows * heads * sizeof(float)));
    CHECK_CUDA(cudaMemset(p->d_mass, 0xff, rows * kv_heads * sizeof(float)));
    CHECK_CUDA(kv_cuda_attend_prompt(p->d_out, p->d_lse, p->d_q, p->q_stride, p->d_k, p->d_v, p->kv_stride, p->n,
                                     p->s.n_heads, p->s.n_kv_heads, p->s.head_dim, p->scale, 0));
    CHECK_CUDA(kv_cuda_mass_prompt(p->d_mass, p->d_lse, p->d_q, p->q_stride, p->d_k, p->kv_stride, p->n, p->s.n_heads,
                                   p->s.n_kv_heads, p->s.head_dim, p->scale, 0));
    CHECK_CUDA(cudaMemcpy(p->raw, p->d_out, rows * row * sizeof *p->raw, cudaMemcpyDeviceToHost));
    CHECK_CUDA(cudaMemcpy(p->lse, p->d_lse, rows * heads * sizeof(float), cudaMemcpyDeviceToHost));
    CHECK_CUDA(cudaMemcpy(p->mass, p->d_mass, rows * kv_heads * sizeof(float), cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < n * row; i++) p->out[i] = __bfloat162float(p->raw[i]);
    return all_poison("out", p->raw + n * row, SPARE_ROWS * row * sizeof *p->raw) +
           all_poison("lse", p->lse + n * heads, SPARE_ROWS * heads * sizeof(float)) +
           all_poison("mass", p->mass + n * kv_heads, SPARE_ROWS * kv_heads * sizeof(float));
}

/* Row i of a head in double: out (head_dim), the log-sum returned; weight (i + 1) receives the probabilities. */
static double attend_row(const prompt *p, int i, int head, double *out, double *weight) {
    const int d = p->s.head_dim, kv_head = head / (p->s.n_heads / p->s.n_kv_heads);
    const float *q = p->q + ((size_t)i * (size_t)p->s.n_heads + (size_t)head) * (size_t)d;
    double top = -INFINITY, sum = 0;
    for (int j = 0; j <= i; j++) {
        const float *k = p->k + ((size_t)j * (size_t)p->s.n_kv_heads + (size_t)kv_head) * (size_t)d;
        double dot = 0;
        for (int c = 0; c < d; c++) dot += (double)q[c] * k[c];
        weight[j] = dot * p->scale;
        if (weight[j] > top) top = weight[j];
    }
    for (int j = 0; j <= i; j++) sum += weight[j] = exp(weight[j] - top);
    for (int c = 0; c < d; c++) out[c] = 0;
    for (int j = 0; j <= i; j++) {
        const float *v = p->v + ((size_t)j * (size_t)p->s.n_kv_heads + (size_t)kv_head) * (size_t)d;
        weight[j] /= sum;
        for (int c = 0; c < d; c++) out[c] += weight[j] * v[c];
    }
    return top + log(sum);
}

static int check_norm(const float *got, const double *want, size_t n) {
    double off = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        off += (got[i] - want[i]) * (got[i] - want[i]);
        all += want[i] * want[i];
    }
    if (sqrt(off) <= 5e-3 * sqrt(all)) return 0;
    printf("  out: relative error %.3g in the 2-norm\n", sqrt(off / all));
    return 1;
}

/* Everything of a prompt against double. */
static int compare_prompt(prompt *p) {
    const size_t n = (size_t)p->n, heads = (size_t)p->s.n_heads, kv_heads = (size_t)p->s.n_kv_heads;
    const size_t d = (size_t)p->s.head_dim;
    double *out = (double *)allocate(n * heads * d * sizeof(double)), *weight = (double *)allocate(n * sizeof(double));
    double *lse = (double *)allocate(n * heads * sizeof(double)),
           *mass = (double *)calloc(n * kv_heads, sizeof(double));
    if (!mass) exit(1);
    for (size_t h = 0; h < heads; h++)
        for (size_t i = 0; i < n; i++) {
            lse[i * heads + h] = attend_row(p, (int)i, (int)h, out + (i * heads + h) * d, weight);
            for (size_t j = 0; j <= i; j++) mass[h / (heads / kv_heads) * n + j] += weight[j];
        }
    int bad = run_prompt(p);
    bad += check_close("out", p->out, out, n * heads * d, 0x1p-8, 0x1p-8);
    bad += check_norm(p->out, out, n * heads * d);
    bad += check_close("lse", p->lse, lse, n * heads, 1e-3, 0);
    bad += check_close("mass", p->mass, mass, n * kv_heads, 1e-5, 1e-3);
    if (bad)
        printf("  ... at n %d, %d heads, %d KV heads, head size %d\n", p->n, p->s.n_heads, p->s.n_kv_heads,
               p->s.head_dim);
    free(out);
    free(weight);
    free(lse);
    free(mass);
    return bad;
}

static int every_shape(void) {
    static const int lengths[] = {1, 31, 64, 127, 129, 257, 1000};
    int bad = 0;
    for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++)
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
            prompt p = build_prompt(SHAPES[s], lengths[l], 3, 100 * s + 10 * l);
            bad += compare_prompt(&p);
            free_prompt(&p);
        }
    return bad;
}

static int peaked_attention(void) {
    int bad = 0;
    for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++) {
        prompt p = build_prompt(SHAPES[s], 300, 40, 1000 + 10 * s);
        bad += compare_prompt(&p);
        free_prompt(&p);
    }
    return bad;
}

/* Long enough that heads run in sections, the last of which is smaller. */
static int long_prompt(void) {
    static const int rows[] = {0, 1, 63, 64, 127, 128, 12345, 24959, 24960, 24999};
    const shape s = {6, 3, 96};
    prompt p = build_prompt(s, 25000, 3, 2000);
    double out[96], *weight = (double *)allocate((size_t)p.n * sizeof(double));
    int bad = run_prompt(&p);
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (int h = 0; h < s.n_heads; h++) {
            const size_t at = (size_t)rows[r] * (size_t)s.n_heads + (size_t)h;
            const double lse = attend_row(&p, rows[r], h, out, weight);
            bad += check_close("out", p.out + at * 96, out, 96, 0x1p-8, 0x1p-8);
            bad += check_close("lse", p.lse + at, &lse, 1, 1e-3, 0);
        }
    for (size_t i = 0; i < (size_t)(p.n * s.n_heads) * 96; i++) bad += !isfinite(p.out[i]);
    /* Every query gives away 1 per head. */
    for (int h = 0; h < s.n_kv_heads; h++) {
        double sum = 0;
        for (int j = 0; j < p.n; j++) sum += p.mass[h * p.n + j];
        if (fabs(sum / (2.0 * p.n) - 1) <= 1e-4) continue;
        printf("  mass of head %d sums to %.9g, expected %d\n", h, sum, 2 * p.n);
        bad++;
    }
    free(weight);
    free_prompt(&p);
    return bad;
}

static int prefix_bits(void) {
    int bad = 0;
    for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++) {
        prompt a = build_prompt(SHAPES[s], 200, 3, 3000), b = build_prompt(SHAPES[s], 777, 3, 3000);
        const size_t rows = 200 * (size_t)a.s.n_heads;
        bad += run_prompt(&a) + run_prompt(&b);
        bad += memcmp(a.raw, b.raw, rows * (size_t)a.s.head_dim * sizeof *a.raw) != 0;
        bad += memcmp(a.lse, b.lse, rows * sizeof(float)) != 0;
        free_prompt(&a);
        free_prompt(&b);
    }
    return bad;
}

static int repeated_bits(void) {
    int bad = 0;
    for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++) {
        prompt a = build_prompt(SHAPES[s], 1531, 3, 4000), b = build_prompt(SHAPES[s], 1531, 3, 4000);
        const size_t rows = 1531 * (size_t)a.s.n_heads;
        bad += run_prompt(&a);
        for (int i = 0; i < 5; i++) {
            bad += run_prompt(&b);
            bad += memcmp(a.raw, b.raw, rows * (size_t)a.s.head_dim * sizeof *a.raw) != 0;
            bad += memcmp(a.lse, b.lse, rows * sizeof(float)) != 0;
            bad += memcmp(a.mass, b.mass, 1531 * (size_t)a.s.n_kv_heads * sizeof(float)) != 0;
        }
        free_prompt(&a);
        free_prompt(&b);
    }
    return bad;
}

/* Without lse the output is the same, and head sizes that have no kernel are refused. */
static int optional_lse(void) {
    prompt p = build_prompt(SHAPES[0], 300, 3, 5000);
    const size_t bytes = (size_t)p.n * 4 * 128 * sizeof *p.raw;
    __nv_bfloat16 *again = (__nv_bfloat16 *)allocate(bytes);
    int bad = run_prompt(&p);
    CHECK_CUDA(cudaMemset(p.d_out, 0xff, bytes));
    CHECK_CUDA(
        kv_cuda_attend_prompt(p.d_out, NULL, p.d_q, p.q_stride, p.d_k, p.d_v, p.kv_stride, p.n, 4, 1, 128, p.scale, 0));
    CHECK_CUDA(cudaMemcpy(again, p.d_out, bytes, cudaMemcpyDeviceToHost));
    bad += memcmp(again, p.raw, bytes) != 0;
    bad += kv_cuda_attend_prompt(p.d_out, NULL, p.d_q, p.q_stride, p.d_k, p.d_v, p.kv_stride, p.n, 4, 1, 80, p.scale,
                                 0) != cudaErrorInvalidValue;
    bad += kv_cuda_mass_prompt(p.d_mass, p.d_lse, p.d_q, p.q_stride, p.d_k, p.kv_stride, p.n, 4, 1, 80, p.scale, 0) !=
           cudaErrorInvalidValue;
    free(again);
    free_prompt(&p);
    return bad;
}

int main(int argc, char **argv) {
    static const check checks[] = {
        {"outputs, log-sums and masses are those of double precision", every_shape},
        {"peaked attention is right, too", peaked_attention},
        {"a long prompt, with heads in sections", long_prompt},
        {"a row's bits do not depend on the rows after it", prefix_bits},
        {"runs repeat bit for bit", repeated_bits},
        {"lse is optional; other head sizes are refused", optional_lse},
    };
    return check_main(argc, argv, checks, sizeof checks / sizeof *checks);
}
