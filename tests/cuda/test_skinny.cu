/* test_skinny.cu - products with a few rows against sums in double, and what bits must not depend on.
 *
 * A shape is run once with all rows and compared with double; every other number of rows, in bands and turned, must
 * then repeat these bits. Outputs start as NaN, so that a missing and a surplus write show. */
#include "engine/cuda/skinny.cuh"
#include "tests/cuda/check.cuh"
#include "tests/cuda/order.cuh"

enum { ROWS = 2 * KV_SKINNY_ROWS + 6, SPARE = 2, GAP = 3 }; /* three slices, the last one short */
static_assert((ROWS + SPARE) % KV_BAND == 0, "buffers are whole bands");
enum { OUT, OUT2, HIDDEN, RESIDUAL, NORMED, SQUARES, N_BUFFERS };

static const float EPS = 0.1f; /* large enough to be seen */

typedef struct shape {
    int n_out, n_out2, n_in;
} shape;

/* Something a product writes: ROWS + SPARE rows on the device, what they start as, what they became. */
typedef struct buffer {
    size_t row; /* bytes; 0: not written by this kind */
    char *first, *now, *device;
} buffer;

typedef struct product {
    kv_skinny_kind kind;
    shape s;
    int n_squares;
    kv_order order, out_order;
    float *w, *w2, *x, *squares, *residual, *norm_weight; /* host, as the device has them */
    __nv_bfloat16 *d_w, *d_w2, *d_x;                      /* x: (ROWS + SPARE, n_in) in `order`, see send_x */
    float *d_squares, *d_norm_weight;
    buffer b[N_BUFFERS];
} product;

static void *allocate(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p) exit(1);
    return p;
}

static void *upload(const void *from, size_t bytes) {
    void *p;
    CHECK_CUDA(cudaMalloc(&p, bytes ? bytes : 1));
    CHECK_CUDA(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice));
    return p;
}

static __nv_bfloat16 *make_bf16(float **host, size_t n, float size, uint64_t seed) {
    __nv_bfloat16 *h = (__nv_bfloat16 *)allocate(n * sizeof *h);
    *host = (float *)allocate(n * sizeof **host);
    for (size_t i = 0; i < n; i++) {
        h[i] = __float2bfloat16_rn(size * check_random(seed, i));
        (*host)[i] = __bfloat162float(h[i]);
    }
    __nv_bfloat16 *d = (__nv_bfloat16 *)upload(h, n * sizeof *h);
    free(h);
    return d;
}

/* Values in [low, low + 2 size). */
static float *make_f32(float **host, size_t n, float low, float size, uint64_t seed) {
    *host = (float *)allocate(n * sizeof **host);
    for (size_t i = 0; i < n; i++) (*host)[i] = low + size * (1 + check_random(seed, i));
    return (float *)upload(*host, n * sizeof **host);
}

static product make_product(kv_skinny_kind kind, shape s, uint64_t seed) {
    product p;
    memset(&p, 0, sizeof p);
    p.kind = kind, p.s = s, p.n_squares = s.n_in / 16, p.order = KV_ORDER_BANDS;

    const size_t k = (size_t)s.n_in, n = (size_t)s.n_out;
    const float size = 1.7f / sqrtf((float)s.n_in);
    p.d_w = make_bf16(&p.w, (kind == KV_SKINNY_SWIGLU ? 2 : 1) * n * k, size, seed);
    p.d_w2 = make_bf16(&p.w2, (size_t)s.n_out2 * k, size, seed + 1);
    p.d_x = make_bf16(&p.x, (ROWS + SPARE) * k, 1, seed + 2);
    p.d_squares = make_f32(&p.squares, (size_t)ROWS * p.n_squares, 0.5f, 8, seed + 3);
    p.d_norm_weight = make_f32(&p.norm_weight, n, -1, 1, seed + 4);
    CHECK_CUDA(cudaFree(make_f32(&p.residual, ROWS * n, -2, 2, seed + 5)));
    const size_t plain = kind == KV_SKINNY_PLAIN, swiglu = kind == KV_SKINNY_SWIGLU, res = kind == KV_SKINNY_RESIDUAL;
    p.b[OUT].row = plain * (n + GAP) * sizeof(float);
    p.b[OUT2].row = plain * (s.n_out2 ? s.n_out2 + 2 * GAP : 0) * sizeof(float);
    p.b[HIDDEN].row = swiglu * n * sizeof(__nv_bfloat16);
    p.b[RESIDUAL].row = res * n * sizeof(float);
    p.b[NORMED].row = res * n * sizeof(__nv_bfloat16);
    p.b[SQUARES].row = res * (size_t)kv_cuda_skinny_squares(s.n_out) * sizeof(float);
    for (int i = 0; i < N_BUFFERS; i++) {
        const size_t bytes = (ROWS + SPARE) * p.b[i].row;
        p.b[i].first = (char *)allocate(bytes);
        p.b[i].now = (char *)allocate(bytes);
        memset(p.b[i].first, 0xff, bytes);
        if (i == RESIDUAL && res) memcpy(p.b[i].first, p.residual, ROWS * p.b[i].row);
        p.b[i].device = (char *)upload(p.b[i].first, bytes);
    }
    return p;
}

static void free_product(product *p) {
    void *device[] = {p->d_w, p->d_w2, p->d_x, p->d_squares, p->d_norm_weight};
    void *host[] = {p->w, p->w2, p->x, p->squares, p->residual, p->norm_weight};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++) CHECK_CUDA(cudaFree(device[i]));
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) free(host[i]);
    for (int i = 0; i < N_BUFFERS; i++) {
        CHECK_CUDA(cudaFree(p->b[i].device));
        free(p->b[i].first);
        free(p->b[i].now);
    }
}

/* Rows [first, first + n) of x to d_x, NaN behind them. */
static void send_x(const product *p, int first, int n) {
    const size_t k = (size_t)p->s.n_in, whole = kv_cuda_whole_bands(n), bytes = whole * k * sizeof(__nv_bfloat16);
    __nv_bfloat16 *rows = (__nv_bfloat16 *)allocate(bytes);
    memset(rows, 0xff, bytes);
    for (size_t i = 0; i < n * k; i++) rows[i] = __float2bfloat16_rn(p->x[first * k + i]);
    reorder(rows, KV_ORDER_PLAIN, p->order, whole, p->s.n_in);
    CHECK_CUDA(cudaMemcpy(p->d_x, rows, bytes, cudaMemcpyHostToDevice));
    free(rows);
}

/* The first n rows from row `first` of the inputs on; x is what d_x holds. */
static kv_cuda_skinny arguments(const product *p, int first, int n, int normed) {
    kv_cuda_skinny a;
    memset(&a, 0, sizeof a);
    a.w = p->d_w, a.w2 = p->kind == KV_SKINNY_PLAIN && p->s.n_out2 ? p->d_w2 : NULL;
    a.n_out = p->s.n_out, a.n_out2 = a.w2 ? p->s.n_out2 : 0, a.n_in = p->s.n_in;
    a.x = p->d_x, a.order = p->order, a.out_order = p->out_order, a.n = n;
    if (normed && p->kind != KV_SKINNY_RESIDUAL) a.squares = p->d_squares + (size_t)first * p->n_squares;
    a.n_squares = p->n_squares, a.dim = p->s.n_in, a.eps = EPS;
    a.out = (float *)p->b[OUT].device, a.out2 = (float *)p->b[OUT2].device;
    a.out_stride = (int)(p->b[OUT].row / sizeof(float)), a.out2_stride = (int)(p->b[OUT2].row / sizeof(float));
    a.h = (__nv_bfloat16 *)p->b[HIDDEN].device;
    a.residual = (float *)p->b[RESIDUAL].device, a.normed = (__nv_bfloat16 *)p->b[NORMED].device;
    a.norm_weight = p->d_norm_weight, a.squares_out = (float *)p->b[SQUARES].device;
    return a;
}

static void run_product(product *p, int first, int n, int normed, int pdl) {
    for (int i = 0; i < N_BUFFERS; i++) {
        const size_t all = (ROWS + SPARE) * p->b[i].row, skip = i == RESIDUAL ? first * p->b[i].row : 0;
        CHECK_CUDA(cudaMemcpy(p->b[i].device, p->b[i].first + skip, all - skip, cudaMemcpyHostToDevice));
    }
    const kv_cuda_skinny a = arguments(p, first, n, normed);
    send_x(p, first, n);
    CHECK_CUDA(kv_cuda_skinny_rows(p->kind, &a, pdl, 0));
    for (int i = 0; i < N_BUFFERS; i++) {
        CHECK_CUDA(cudaMemcpy(p->b[i].now, p->b[i].device, (ROWS + SPARE) * p->b[i].row, cudaMemcpyDeviceToHost));
        if (p->b[i].row && (i == HIDDEN || i == NORMED))
            reorder((__nv_bfloat16 *)p->b[i].now, p->out_order, KV_ORDER_PLAIN, ROWS + SPARE, p->s.n_out);
    }
}

/* Row r of x times row o of w, in four sums. */
static double dot(const float *x, const float *w, int n) {
    double s[4] = {0, 0, 0, 0};
    for (int i = 0; i < n; i += 4)
        for (int j = 0; j < 4; j++) s[j] += (double)x[i + j] * w[i + j];
    return s[0] + s[1] + s[2] + s[3];
}

static double row_scale(const product *p, int row, int normed) {
    double s = 0;
    if (!normed || p->kind == KV_SKINNY_RESIDUAL) return 1;
    for (int i = 0; i < p->n_squares; i++) s += p->squares[(size_t)row * p->n_squares + i];
    return 1 / sqrt(s / p->s.n_in + EPS);
}

static int compare_plain(const product *p, int row, double scale, double tol) {
    const float *x = p->x + (size_t)row * p->s.n_in;
    const float *out = (const float *)(p->b[OUT].now + row * p->b[OUT].row);
    const float *out2 = (const float *)(p->b[OUT2].now + row * p->b[OUT2].row);
    const size_t most = (size_t)(p->s.n_out > p->s.n_out2 ? p->s.n_out : p->s.n_out2);
    double *want = (double *)allocate(most * sizeof *want);
    for (int o = 0; o < p->s.n_out; o++) want[o] = scale * dot(x, p->w + (size_t)o * p->s.n_in, p->s.n_in);
    int bad = check_close("out", out, want, (size_t)p->s.n_out, tol, 1e-5);
    for (int o = 0; o < p->s.n_out2; o++) want[o] = scale * dot(x, p->w2 + (size_t)o * p->s.n_in, p->s.n_in);
    bad += check_close("out2", out2, want, (size_t)p->s.n_out2, tol, 1e-5);
    free(want);
    return bad;
}

static int compare_swiglu(const product *p, int row, double scale, double tol) {
    const float *x = p->x + (size_t)row * p->s.n_in;
    const __nv_bfloat16 *h = (const __nv_bfloat16 *)(p->b[HIDDEN].now + row * p->b[HIDDEN].row);
    int bad = 0;
    for (int o = 0; o < p->s.n_out && !bad; o++) {
        const double gate = scale * dot(x, p->w + (size_t)o * p->s.n_in, p->s.n_in);
        const double up = scale * dot(x, p->w + (size_t)(p->s.n_out + o) * p->s.n_in, p->s.n_in);
        const double want = gate / (1 + exp(-gate)) * up;
        const float got = __bfloat162float(h[o]);
        bad += check_close("h", &got, &want, 1, 3 * tol, 0x1.1p-8);
    }
    return bad;
}

/* The residual against double; what follows from it, exactly. */
static int compare_residual(const product *p, int row, double tol) {
    const int n = p->s.n_out;
    const float *got = (const float *)(p->b[RESIDUAL].now + row * p->b[RESIDUAL].row);
    const float *squares = (const float *)(p->b[SQUARES].now + row * p->b[SQUARES].row);
    const __nv_bfloat16 *normed = (const __nv_bfloat16 *)(p->b[NORMED].now + row * p->b[NORMED].row);
    const int n_squares = kv_cuda_skinny_squares(n);
    int bad = n_squares < n / 16;
    double want_sum = 0;
    float sum = 0;
    for (int o = 0; o < n; o++) {
        const double product = dot(p->x + (size_t)row * p->s.n_in, p->w + (size_t)o * p->s.n_in, p->s.n_in);
        const double want = p->residual[(size_t)row * n + o] + product;
        const __nv_bfloat16 ready = __float2bfloat16_rn(got[o] * p->norm_weight[o]);
        bad += check_close("residual", got + o, &want, 1, tol, 1e-5);
        bad += memcmp(&ready, normed + o, sizeof ready) != 0;
        want_sum += (double)got[o] * got[o];
    }
    /* how the rows are cut into parts is the device's business; none may be missing or counted twice */
    for (int i = 0; i < n_squares; i++) sum += squares[i];
    return bad + check_close("squares", &sum, &want_sum, 1, 0, 1e-5);
}

static int compare_product(const product *p, int normed) {
    int bad = 0;
    for (int row = 0; row < ROWS && !bad; row++) {
        const double scale = row_scale(p, row, normed), tol = 2e-6 * sqrt((double)p->s.n_in) * (scale > 1 ? scale : 1);
        if (p->kind == KV_SKINNY_PLAIN) bad += compare_plain(p, row, scale, tol);
        if (p->kind == KV_SKINNY_SWIGLU) bad += compare_swiglu(p, row, scale, tol);
        if (p->kind == KV_SKINNY_RESIDUAL) bad += compare_residual(p, row, tol);
    }
    return bad;
}

/* What the last run wrote; the caller frees each. */
static void keep_buffers(const product *p, char **all) {
    for (int i = 0; i < N_BUFFERS; i++) {
        all[i] = (char *)allocate((ROWS + SPARE) * p->b[i].row);
        memcpy(all[i], p->b[i].now, (ROWS + SPARE) * p->b[i].row);
    }
}

/* Rows [0, n) of the last run must be rows [first, first + n) of `all`; everything else as it was. */
static int compare_bits(const product *p, char *const *all, int first, int n) {
    int bad = 0;
    for (int i = 0; i < N_BUFFERS; i++) {
        const buffer *b = &p->b[i];
        const int moved = i == RESIDUAL ? first : 0, rows = ROWS + SPARE - moved;
        bad += memcmp(b->now, all[i] + first * b->row, n * b->row) != 0;
        bad += memcmp(b->now + n * b->row, b->first + (n + moved) * b->row, (rows - n) * b->row) != 0;
    }
    if (bad) printf("  rows [%d, %d): other bits, or a write where none belongs\n", first, first + n);
    return bad;
}

/* Between the rows' ends and their strides nothing is written. */
static int compare_gaps(const product *p) {
    int bad = 0;
    for (int row = 0; row < ROWS; row++)
        for (int i = OUT; i <= OUT2; i++) {
            const size_t used = (size_t)(i == OUT ? p->s.n_out : p->s.n_out2) * sizeof(float), row_bytes = p->b[i].row;
            if (row_bytes == 0) continue;
            bad += memcmp(p->b[i].now + row * row_bytes + used, p->b[i].first + row * row_bytes + used,
                          row_bytes - used) != 0;
        }
    if (bad) printf("  %d gaps between rows were written\n", bad);
    return bad;
}

static int check_shape(kv_skinny_kind kind, shape s, uint64_t seed, int normed) {
    static const int counts[] = {1, 2, 3, 7, 8, 9, 16, 17, 31, 32, 33, 49, 64, 65, 128, ROWS};
    static const int places[][2] = {{17, 1}, {63, 1}, {5, 10}, {30, 34}, {40, 24}};
    product p = make_product(kind, s, seed);
    char *all[N_BUFFERS];
    run_product(&p, 0, ROWS, normed, 0);
    int bad = compare_product(&p, normed) + compare_gaps(&p);
    keep_buffers(&p, all);
    for (size_t i = 0; i < 2 * (sizeof counts / sizeof *counts + sizeof places / sizeof *places); i++) {
        const size_t k = i / 2, place = k - sizeof counts / sizeof *counts;
        const int is_count = k < sizeof counts / sizeof *counts;
        const int first = is_count ? 0 : places[place][0], n = is_count ? counts[k] : places[place][1];
        p.order = i % 2 ? KV_ORDER_TURNED : KV_ORDER_BANDS;
        p.out_order = s.n_out % 32 ? KV_ORDER_PLAIN : (kv_order)(i % 3);
        run_product(&p, first, n, normed, (int)k % 2);
        bad += compare_bits(&p, all, first, n);
    }
    if (bad) printf("  ... at %d (+ %d) x %d, squares %d\n", s.n_out, s.n_out2, s.n_in, normed);
    for (int i = 0; i < N_BUFFERS; i++) free(all[i]);
    free_product(&p);
    return bad;
}

static const shape SHAPES[] = {{16, 0, 32},       {48, 24, 64},    {100, 40, 256},   {960, 128, 576},
                               {576, 0, 1536},    {1536, 0, 576},  {333, 333, 96},   {7, 1, 288},
                               {1000, 333, 2080}, {992, 0, 2080},  {1504, 0, 1632},  {8200, 0, 64},
                               {16400, 0, 96},    {2560, 0, 4096}, {6144, 40, 2400}, {9000, 8000, 64}};

static int check_kind(kv_skinny_kind kind, size_t n_shapes) {
    int bad = 0;
    for (size_t i = 0; i < n_shapes; i++) {
        bad += check_shape(kind, SHAPES[i], 100 * (i + 1), 1);
        if (i == 2 || i == 3) bad += check_shape(kind, SHAPES[i], 100 * (i + 1) + 50, 0);
    }
    return bad;
}

static int plain_rows(void) {
    return check_kind(KV_SKINNY_PLAIN, 16);
}
static int residual_rows(void) {
    return check_kind(KV_SKINNY_RESIDUAL, 15);
}
static int swiglu_rows(void) {
    const shape units = {12700, 0, 544}; /* more than one for a block at every number of rows */
    return check_kind(KV_SKINNY_SWIGLU, 12) + check_shape(KV_SKINNY_SWIGLU, units, 5000, 1);
}

/* A few launches only, for tools that make each of them slow: whole rows, clusters of two and of eight, both matrices.
 */
static int every_kernel(void) {
    static const struct {
        kv_skinny_kind kind;
        shape s;
        int n;
    } runs[] = {{KV_SKINNY_PLAIN, {48, 24, 96}, 5},      {KV_SKINNY_PLAIN, {48, 24, 96}, 40},
                {KV_SKINNY_RESIDUAL, {100, 0, 64}, 12},  {KV_SKINNY_RESIDUAL, {64, 0, 1024}, 20},
                {KV_SKINNY_RESIDUAL, {64, 0, 1024}, 33}, {KV_SKINNY_SWIGLU, {64, 0, 256}, 65},
                {KV_SKINNY_SWIGLU, {64, 0, 1056}, 64},   {KV_SKINNY_PLAIN, {2896, 0, 1056}, 33}};
    int bad = 0;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        product p = make_product(runs[i].kind, runs[i].s, 7000 + i);
        char *plain[N_BUFFERS];
        if (runs[i].s.n_out % 32 == 0) p.out_order = KV_ORDER_BANDS;
        run_product(&p, 0, runs[i].n, 1, 0);
        keep_buffers(&p, plain);
        p.order = KV_ORDER_TURNED;
        if (p.out_order != KV_ORDER_PLAIN) p.out_order = KV_ORDER_TURNED;
        run_product(&p, 0, runs[i].n, 1, 0);
        bad += compare_bits(&p, plain, 0, runs[i].n);
        for (int k = 0; k < N_BUFFERS; k++) free(plain[k]);
        free_product(&p);
    }
    return bad;
}

/* silu of a gate that is alone in its row, by both kernels. */
static int extreme_gates(void) {
    enum { GATES = 10, WIDTH = 32, MOST = 33 };
    static const float gates[GATES] = {INFINITY, -INFINITY, NAN, -87.5f, -100, -1e30f, -1e38f, 0, -20, 20};
    __nv_bfloat16 w[2 * GATES][WIDTH], x[MOST][WIDTH], h[MOST][GATES];
    int bad = 0;
    memset(w, 0, sizeof w);
    memset(x, 0, sizeof x);
    for (int o = 0; o < GATES; o++) {
        w[o][0] = __float2bfloat16_rn(gates[o]);
        w[GATES + o][0] = __float2bfloat16_rn(1);
    }
    for (int row = 0; row < MOST; row++) x[row][0] = __float2bfloat16_rn(1); /* it is there in any order */
    kv_cuda_skinny a;
    memset(&a, 0, sizeof a);
    a.w = (const __nv_bfloat16 *)upload(w, sizeof w);
    a.x = (const __nv_bfloat16 *)upload(x, sizeof x);
    a.h = (__nv_bfloat16 *)upload(h, sizeof h);
    a.n_out = GATES;
    a.n_in = WIDTH;
    static const kv_order orders[] = {KV_ORDER_BANDS, KV_ORDER_TURNED};
    for (kv_order order : orders) {
        a.order = order;
        a.n = order == KV_ORDER_TURNED ? MOST : 8;
        CHECK_CUDA(kv_cuda_skinny_rows(KV_SKINNY_SWIGLU, &a, 0, 0));
        CHECK_CUDA(cudaMemcpy(h, a.h, sizeof h, cudaMemcpyDeviceToHost));
        for (int row = 0; row < a.n; row++)
            for (int o = 0; o < GATES; o++) {
                const double gate = __bfloat162float(w[o][0]), want = gate / (1 + exp(-gate));
                const float got = __bfloat162float(h[row][o]);
                if (isnan(want) || isinf(want))
                    bad += isnan(want) ? !isnan(got) : got != want;
                else
                    bad += check_close("h", &got, &want, 1, 1e-36, 0x1.1p-8);
            }
    }
    CHECK_CUDA(cudaFree((void *)a.w));
    CHECK_CUDA(cudaFree((void *)a.x));
    CHECK_CUDA(cudaFree(a.h));
    return bad;
}

/* ---- chains of launches ---------------------------------------------------------------------------------------------
 */

enum { LAYERS = 6, LINKS = 4 };

typedef struct widths {
    int dim, n_ff, n_qkv, n_mid;
} widths;

/* Of a small model, and one whose matrices clusters share. */
static const widths SMALL = {576, 1536, 960, 128}, LARGE = {1024, 4096, 1536, 1024};

/* Layers of four products, each fed by the one before: into the residual, up, down, and out of it in two parts. */
typedef struct chain {
    product link[LINKS];
    kv_cuda_skinny a[LINKS];
} chain;

static chain make_chain(const widths *w, int n, kv_order order) {
    static const kv_skinny_kind kinds[LINKS] = {KV_SKINNY_RESIDUAL, KV_SKINNY_SWIGLU, KV_SKINNY_RESIDUAL,
                                                KV_SKINNY_PLAIN};
    const shape shapes[LINKS] = {
        {w->dim, 0, w->n_ff}, {w->n_ff, 0, w->dim}, {w->dim, 0, w->n_ff}, {w->n_qkv, w->n_mid, w->dim}};
    chain c;
    for (int i = 0; i < LINKS; i++) {
        c.link[i] = make_product(kinds[i], shapes[i], 5000 + 100 * (uint64_t)i);
        c.link[i].order = c.link[i].out_order = order;
        send_x(&c.link[i], 0, n);
        c.a[i] = arguments(&c.link[i], 0, n, 0);
    }
    const kv_cuda_skinny *first = &c.a[0];
    for (int i = 1; i < LINKS; i += 2) {
        c.a[i].x = first->normed, c.a[i].squares = first->squares_out;
        c.a[i].n_squares = kv_cuda_skinny_squares(w->dim), c.a[i].dim = w->dim;
    }
    c.a[2].x = c.a[1].h;
    c.a[2].residual = first->residual, c.a[2].normed = first->normed, c.a[2].squares_out = first->squares_out;
    return c;
}

/* together: everything in one go, dependent launches; else one by one, with a wait after each. */
static void launch_chain(const chain *c, int together, cudaStream_t stream) {
    for (int i = 0; i < LAYERS * LINKS; i++) {
        const int k = i % LINKS;
        kv_cuda_skinny a = c->a[k];
        if (k == 0 && i > 0) a.x = c->a[1].h; /* of the layer before */
        CHECK_CUDA(kv_cuda_skinny_rows(c->link[k].kind, &a, together && i > 0, stream));
        if (!together) CHECK_CUDA(cudaStreamSynchronize(stream));
    }
}

static void reset_chain(const chain *c) {
    for (int k = 0; k < LINKS; k++)
        for (int i = 0; i < N_BUFFERS; i++) {
            const buffer *b = &c->link[k].b[i];
            CHECK_CUDA(cudaMemcpy(b->device, b->first, (ROWS + SPARE) * b->row, cudaMemcpyHostToDevice));
        }
    CHECK_CUDA(cudaDeviceSynchronize());
}

/* Number of buffers whose bits are not those in `now`; keep: they become those. */
static int fetch_chain(chain *c, cudaStream_t stream, int keep) {
    int bad = 0;
    CHECK_CUDA(cudaStreamSynchronize(stream));
    for (int k = 0; k < LINKS; k++)
        for (int i = 0; i < N_BUFFERS; i++) {
            const buffer *b = &c->link[k].b[i];
            const size_t bytes = (ROWS + SPARE) * b->row;
            char *got = (char *)allocate(bytes);
            CHECK_CUDA(cudaMemcpy(got, b->device, bytes, cudaMemcpyDeviceToHost));
            bad += !keep && memcmp(got, b->now, bytes) != 0;
            if (keep) memcpy(b->now, got, bytes);
            free(got);
        }
    return bad;
}

/* repeats: of the launches in one go, and of a graph of them. */
static int check_chain(const widths *w, int n, kv_order order, int repeats) {
    chain c = make_chain(w, n, order);
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    int bad = 0;
    CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    reset_chain(&c);
    launch_chain(&c, 0, stream);
    fetch_chain(&c, stream, 1);
    const float *out = (const float *)c.link[3].b[OUT].now;
    for (int i = 0; i < n * (w->n_qkv + GAP); i++) bad += i % (w->n_qkv + GAP) < w->n_qkv && !isfinite(out[i]);
    for (int i = 0; i < repeats; i++) {
        reset_chain(&c);
        launch_chain(&c, 1, stream);
        bad += fetch_chain(&c, stream, 0);
    }
    CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    launch_chain(&c, 1, stream);
    CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
    CHECK_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = 0; i < repeats; i++) {
        reset_chain(&c);
        CHECK_CUDA(cudaGraphLaunch(exec, stream));
        bad += fetch_chain(&c, stream, 0);
    }
    if (bad) printf("  ... with %d rows of %d, %s\n", n, w->dim, order == KV_ORDER_TURNED ? "turned" : "in bands");
    CHECK_CUDA(cudaGraphExecDestroy(exec));
    CHECK_CUDA(cudaGraphDestroy(graph));
    CHECK_CUDA(cudaStreamDestroy(stream));
    for (int k = 0; k < LINKS; k++) free_product(&c.link[k]);
    return bad;
}

static int chains(void) {
    static const int counts[] = {1, 8, 16, 17, 33, 64, 131};
    int bad = 0;
    for (size_t i = 0; i < 2 * sizeof counts / sizeof *counts; i++)
        bad += check_chain(&SMALL, counts[i / 2], i % 2 ? KV_ORDER_TURNED : KV_ORDER_BANDS, 3);
    return bad;
}

static int cluster_chains(void) {
    static const int counts[] = {17, 48, 131};
    int bad = 0;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        bad += check_chain(&LARGE, counts[i], KV_ORDER_TURNED, 3);
    return bad;
}

/* For tools that make each launch slow. */
static int every_chain_once(void) {
    static const widths tiny = {64, 256, 96, 32};
    return check_chain(&tiny, 9, KV_ORDER_BANDS, 1) + check_chain(&tiny, 17, KV_ORDER_TURNED, 1) +
           check_chain(&LARGE, 33, KV_ORDER_TURNED, 1);
}

static int refused(void) {
    const shape s = {48, 0, 64};
    product p = make_product(KV_SKINNY_PLAIN, s, 9000);
    kv_cuda_skinny none = arguments(&p, 0, 0, 0), odd = arguments(&p, 0, 1, 0), wide = arguments(&p, 0, 17, 0);
    kv_cuda_skinny banded = wide, plain = wide, two = odd;
    wide.out_order = KV_ORDER_TURNED;
    banded.out_order = KV_ORDER_BANDS;
    plain.order = KV_ORDER_PLAIN;
    two.w2 = two.w;
    odd.n_in = 48;
    const int bad = (kv_cuda_skinny_rows(KV_SKINNY_PLAIN, &none, 0, 0) != cudaErrorInvalidValue) +
                    (kv_cuda_skinny_rows(KV_SKINNY_PLAIN, &odd, 0, 0) != cudaErrorInvalidValue) +
                    (kv_cuda_skinny_rows(KV_SKINNY_SWIGLU, &wide, 0, 0) != cudaErrorInvalidValue) +
                    (kv_cuda_skinny_rows(KV_SKINNY_RESIDUAL, &banded, 0, 0) != cudaErrorInvalidValue) +
                    (kv_cuda_skinny_rows(KV_SKINNY_PLAIN, &plain, 0, 0) != cudaErrorInvalidValue) +
                    (kv_cuda_skinny_rows(KV_SKINNY_RESIDUAL, &two, 0, 0) != cudaErrorInvalidValue);
    free_product(&p);
    return bad;
}

static int prepared(void) {
    return kv_cuda_skinny_prepare() != cudaSuccess;
}

int main(int argc, char **argv) {
    static const check checks[] = {
        {"plain products are those of double, with the same bits at every number of rows", plain_rows},
        {"additions to the residual, likewise", residual_rows},
        {"gated products, likewise", swiglu_rows},
        {"gates beyond all measure give what the formula gives", extreme_gates},
        {"every kernel once: the order of x changes no bit", every_kernel},
        {"dependent launches and graphs repeat the bits of launches one by one", chains},
        {"so do those of matrices that clusters share", cluster_chains},
        {"every chain once", every_chain_once},
        {"no rows, widths and orders without a kernel, and second matrices where none belong are refused", refused},
    };
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess && devices && prepared()) return 1;
    return check_main(argc, argv, checks, sizeof checks / sizeof *checks);
}
