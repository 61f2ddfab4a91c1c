/* compare_gemm.c - our CPU products against oneDNN and OpenBLAS at the default model's shapes.
 *
 * Why: library products are only worth a dependency where they are faster (docs: results/cpu-matmul/README.md).
 * Every contender gets what it likes best outside the clock: weights packed once, and for oneDNN's 8-bit products
 * already quantised activations; ours quantises them inside the clock.  oneDNN 2 has no scales per group, so its
 * 8-bit products use one scale per column and one for all activations: less work, and useless for activations with
 * outliers.  "oneDNN groups" is our format done with oneDNN: one product of integers per group of 64 inputs, scaled and
 * added up in a loop of ours.
 *
 * Every result is checked against a double-precision product before anything is timed.  Contenders take turns, round
 * by round, so that a busy machine troubles all alike.  Shown are each one's best GFLOP/s, and how many times faster
 * ours is: of the best times, and as the median over rounds.  One thread is timed by its CPU time, which other
 * processes hardly change; more by the wall clock, which wants an idle machine.
 *
 * Build: cmake -DKV_COMPARE_GEMM=ON; run: compare_gemm [threads] [rounds] */
#include "engine/backend.h"

#include <cblas.h>
#include <dnnl.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_ROUNDS = 1001, MAX_ROWS = 512, GROUP = 64, MAX_GROUPS = 24 };
enum { OURS_8, DNNL_U8S8, DNNL_S8S8, DNNL_GROUPS, OURS_32, DNNL_32, BLAS_32, N_CONTENDERS };
static const char *const names[] = {"ours int8", "oneDNN u8s8", "oneDNN s8s8", "oneDNN groups",
                                    "ours f32",  "oneDNN f32",  "OpenBLAS f32"};

typedef struct shape {
    const char *name;
    int n_out, n_in;
} shape;

static const shape shapes[] = {{"qkv", 960, 576}, {"o", 576, 576}, {"gate_up", 3072, 576}, {"down", 576, 1536}};
static const int row_counts[] = {16, 128, 512};

typedef struct bench {
    const shape *s;
    int n_rows;
    const float *x, *w; /* (n_rows, n_in), (n_out, n_in) */
    float *out;         /* (n_rows, n_out) */
    kv_backend *fast, *exact;
    kv_matrix *w_fast, *w_exact;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t prim[N_CONTENDERS];
    dnnl_exec_arg_t args[N_CONTENDERS][3];
    /* oneDNN with our format: a product of K = GROUP per group, scaled and added up */
    int n_groups;
    int8_t *xq;     /* (n_rows, n_in) */
    float *x_scale; /* (n_groups, n_rows) */
    float *w_scale; /* (n_groups, n_out) */
    int32_t *sums;  /* (n_rows, n_out) */
    dnnl_memory_t group_x, group_w[MAX_GROUPS], group_out;
} bench;

static void check(int ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "compare_gemm: %s failed\n", what);
    exit(1);
}

static void *allocate(size_t n) {
    void *p = aligned_alloc(64, (n + 63) / 64 * 64);
    check(p != NULL, "memory allocation");
    return p;
}

static double now(const bench *b) {
    struct timespec t;
    clock_gettime(b->fast->n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *random_floats(size_t n, unsigned seed) {
    float *p = allocate(n * sizeof *p);
    for (size_t i = 0; i < n; i++) {
        float s = -1.5f;
        for (int k = 0; k < 3; k++) {
            seed = seed * 1664525u + 1013904223u;
            s += (float)(seed >> 8) / 16777216.0f;
        }
        p[i] = s;
    }
    return p;
}

/* Memory of a (rows, columns) matrix with the given strides, holding a copy of data when not NULL. */
static dnnl_memory_t memory(const bench *b, int rows, int cols, int row_stride, int col_stride, dnnl_data_type_t type,
                            const void *data) {
    dnnl_memory_desc_t d;
    dnnl_memory_t m;
    dnnl_dims_t dims = {rows, cols}, strides = {row_stride, col_stride};
    void *p;
    check(!dnnl_memory_desc_init_by_strides(&d, 2, dims, type, strides), "dnnl_memory_desc_init_by_strides");
    check(!dnnl_memory_create(&m, &d, b->engine, DNNL_MEMORY_ALLOCATE), "dnnl_memory_create");
    check(!dnnl_memory_get_data_handle(m, &p), "dnnl_memory_get_data_handle");
    if (data) memcpy(p, data, dnnl_memory_desc_get_size(&d));
    return m;
}

/* Copies weights (n_out, n_in) into the layout that a primitive wants. */
static dnnl_memory_t pack(const bench *b, dnnl_memory_t plain, const dnnl_memory_desc_t *want) {
    const dnnl_memory_desc_t *have;
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t reorder;
    dnnl_memory_t packed;
    check(!dnnl_memory_create(&packed, want, b->engine, DNNL_MEMORY_ALLOCATE), "packed weights");
    check(!dnnl_memory_get_memory_desc(plain, &have), "dnnl_memory_get_memory_desc");
    check(!dnnl_reorder_primitive_desc_create(&pd, have, b->engine, want, b->engine, NULL), "reorder");
    check(!dnnl_primitive_create(&reorder, pd), "reorder");
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, plain}, {DNNL_ARG_TO, packed}};
    check(!dnnl_primitive_execute(reorder, b->stream, 2, args), "reorder");
    check(!dnnl_stream_wait(b->stream), "reorder");
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(pd);
    dnnl_memory_destroy(plain);
    return packed;
}

/* Source of type st, weights s8 or f32, fp32 result times scales (n_out); zero: the source's zero point. */
static void prepare_dnnl(bench *b, int c, dnnl_data_type_t st, const void *src, const void *weights,
                         const float *scales, int32_t zero) {
    int m = b->n_rows, n = b->s->n_out, k = b->s->n_in;
    dnnl_data_type_t wt = st == dnnl_f32 ? dnnl_f32 : dnnl_s8;
    dnnl_memory_desc_t sd, wd, dd;
    dnnl_dims_t sdim = {m, k}, wdim = {k, n}, ddim = {m, n}, ss = {k, 1}, ds = {n, 1};
    dnnl_matmul_desc_t op;
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t pd;
    check(!dnnl_memory_desc_init_by_strides(&sd, 2, sdim, st, ss), "source");
    check(!dnnl_memory_desc_init_by_tag(&wd, 2, wdim, wt, dnnl_format_tag_any), "weights");
    check(!dnnl_memory_desc_init_by_strides(&dd, 2, ddim, dnnl_f32, ds), "result");
    check(!dnnl_matmul_desc_init(&op, &sd, &wd, NULL, &dd), "dnnl_matmul_desc_init");
    check(!dnnl_primitive_attr_create(&attr), "dnnl_primitive_attr_create");
    if (scales) check(!dnnl_primitive_attr_set_output_scales(attr, n, 1 << 1, scales), "scales");
    if (zero) check(!dnnl_primitive_attr_set_zero_points(attr, DNNL_ARG_SRC, 1, 0, &zero), "zero point");
    check(!dnnl_primitive_desc_create(&pd, &op, attr, b->engine, NULL), "dnnl_primitive_desc_create");
    check(!dnnl_primitive_create(&b->prim[c], pd), "dnnl_primitive_create");
    const dnnl_memory_desc_t *want = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    b->args[c][0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, memory(b, m, k, k, 1, st, src)};
    b->args[c][1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, pack(b, memory(b, k, n, 1, k, wt, weights), want)};
    b->args[c][2] = (dnnl_exec_arg_t){DNNL_ARG_DST, memory(b, m, n, n, 1, dnnl_f32, NULL)};
    check(!dnnl_memory_set_data_handle(b->args[c][2].memory, b->out), "dnnl_memory_set_data_handle");
    dnnl_primitive_attr_destroy(attr);
    dnnl_primitive_desc_destroy(pd);
}

static float top(const float *x, size_t n) {
    float m = 0;
    for (size_t i = 0; i < n; i++) m = fmaxf(m, fabsf(x[i]));
    return m;
}

/* Symmetric 8 bits; returns the scale. */
static float quantize(int8_t *q, const float *x, size_t n) {
    float t = top(x, n);
    for (size_t i = 0; i < n; i++) q[i] = (int8_t)lrintf(x[i] * (127.0f / t));
    return t / 127.0f;
}

/* oneDNN's 8-bit operands: one scale for the source, one per weight column. */
static void prepare_dnnl_int8(bench *b) {
    int n = b->s->n_out, k = b->s->n_in;
    size_t nx = (size_t)b->n_rows * k;
    int8_t *xs = allocate(nx), *ws = allocate((size_t)n * k);
    uint8_t *xu = allocate(nx);
    float *scales = allocate((size_t)n * sizeof *scales), x_scale = quantize(xs, b->x, nx);
    for (size_t i = 0; i < nx; i++) xu[i] = (uint8_t)(xs[i] + 128);
    for (int j = 0; j < n; j++) scales[j] = x_scale * quantize(ws + (size_t)j * k, b->w + (size_t)j * k, (size_t)k);
    prepare_dnnl(b, DNNL_S8S8, dnnl_s8, xs, ws, scales, 0);
    prepare_dnnl(b, DNNL_U8S8, dnnl_u8, xu, ws, scales, 128);
    free(xs);
    free(xu);
    free(ws);
    free(scales);
}

/* Integers and scales of our format, without the rotation, and the primitive for one group. */
static void prepare_groups(bench *b) {
    int m = b->n_rows, n = b->s->n_out, k = b->s->n_in;
    int8_t *wq = allocate((size_t)n * GROUP);
    dnnl_memory_desc_t sd, wd, dd;
    dnnl_dims_t sdim = {m, GROUP}, wdim = {GROUP, n}, ddim = {m, n}, ss = {k, 1}, ds = {n, 1};
    dnnl_matmul_desc_t op;
    dnnl_primitive_desc_t pd;
    check(!dnnl_memory_desc_init_by_strides(&sd, 2, sdim, dnnl_s8, ss), "source");
    check(!dnnl_memory_desc_init_by_tag(&wd, 2, wdim, dnnl_s8, dnnl_format_tag_any), "weights");
    check(!dnnl_memory_desc_init_by_strides(&dd, 2, ddim, dnnl_s32, ds), "result");
    check(!dnnl_matmul_desc_init(&op, &sd, &wd, NULL, &dd), "dnnl_matmul_desc_init");
    check(!dnnl_primitive_desc_create(&pd, &op, NULL, b->engine, NULL), "dnnl_primitive_desc_create");
    check(!dnnl_primitive_create(&b->prim[DNNL_GROUPS], pd), "dnnl_primitive_create");
    const dnnl_memory_desc_t *want = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    b->n_groups = k / GROUP;
    b->xq = allocate((size_t)m * k);
    b->x_scale = allocate((size_t)b->n_groups * m * sizeof *b->x_scale);
    b->w_scale = allocate((size_t)b->n_groups * n * sizeof *b->w_scale);
    b->sums = allocate((size_t)m * n * sizeof *b->sums);
    for (int g = 0; g < b->n_groups; g++) {
        for (int r = 0; r < m; r++)
            b->x_scale[g * m + r] =
                quantize(b->xq + (size_t)r * k + g * GROUP, b->x + (size_t)r * k + g * GROUP, GROUP);
        for (int j = 0; j < n; j++)
            b->w_scale[g * n + j] = quantize(wq + (size_t)j * GROUP, b->w + (size_t)j * k + g * GROUP, GROUP);
        b->group_w[g] = pack(b, memory(b, GROUP, n, 1, GROUP, dnnl_s8, wq), want);
    }
    check(!dnnl_memory_create(&b->group_x, &sd, b->engine, b->xq), "dnnl_memory_create");
    check(!dnnl_memory_create(&b->group_out, &dd, b->engine, b->sums), "dnnl_memory_create");
    dnnl_primitive_desc_destroy(pd);
    free(wq);
}

static void run_groups(bench *b) {
    int m = b->n_rows, n = b->s->n_out;
    for (int g = 0; g < b->n_groups; g++) {
        check(!dnnl_memory_set_data_handle(b->group_x, b->xq + g * GROUP), "dnnl_memory_set_data_handle");
        dnnl_exec_arg_t args[] = {
            {DNNL_ARG_SRC, b->group_x}, {DNNL_ARG_WEIGHTS, b->group_w[g]}, {DNNL_ARG_DST, b->group_out}};
        check(!dnnl_primitive_execute(b->prim[DNNL_GROUPS], b->stream, 3, args), names[DNNL_GROUPS]);
        check(!dnnl_stream_wait(b->stream), names[DNNL_GROUPS]);
        const float *ws = b->w_scale + (size_t)g * n;
#pragma omp parallel for schedule(static)
        for (int r = 0; r < m; r++) {
            const int32_t *sum = b->sums + (size_t)r * n;
            float *out = b->out + (size_t)r * n, xs = b->x_scale[g * m + r];
            if (g == 0) memset(out, 0, (size_t)n * sizeof *out);
            for (int j = 0; j < n; j++) out[j] += (float)sum[j] * ws[j] * xs;
        }
    }
}

static void free_groups(bench *b) {
    for (int g = 0; g < b->n_groups; g++) dnnl_memory_destroy(b->group_w[g]);
    dnnl_memory_destroy(b->group_x);
    dnnl_memory_destroy(b->group_out);
    free(b->xq);
    free(b->x_scale);
    free(b->w_scale);
    free(b->sums);
}

static void run(bench *b, int c) {
    int n = b->s->n_out, k = b->s->n_in;
    kv_matmul_args a = {.out = b->out, .x = b->x, .n_rows = b->n_rows};
    if (c == OURS_8) {
        a.w = b->w_fast;
        b->fast->ops->matmul(b->fast, &a);
    } else if (c == OURS_32) {
        a.w = b->w_exact;
        b->exact->ops->matmul(b->exact, &a);
    } else if (c == DNNL_GROUPS) {
        run_groups(b);
    } else if (c == BLAS_32) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, b->n_rows, n, k, 1, b->x, k, b->w, k, 0, b->out, n);
    } else {
        check(!dnnl_primitive_execute(b->prim[c], b->stream, 3, b->args[c]), names[c]);
        check(!dnnl_stream_wait(b->stream), names[c]);
    }
}

/* Root mean square error over that of the result itself. */
static double error_of(bench *b, int c) {
    double err = 0, all = 0;
    memset(b->out, 0xff, (size_t)b->n_rows * b->s->n_out * sizeof *b->out);
    run(b, c);
    for (int r = 0; r < b->n_rows; r++) {
        for (int j = 0; j < b->s->n_out; j++) {
            double s = 0, got = b->out[(size_t)r * b->s->n_out + j];
            for (int i = 0; i < b->s->n_in; i++)
                s += (double)b->x[(size_t)r * b->s->n_in + i] * b->w[(size_t)j * b->s->n_in + i];
            err += (got - s) * (got - s);
            all += s * s;
        }
    }
    return sqrt(err / all);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_ratio(const double *ours, const double *theirs, int n) {
    static double r[MAX_ROUNDS];
    for (int i = 0; i < n; i++) r[i] = theirs[i] / ours[i];
    qsort(r, (size_t)n, sizeof *r, by_value);
    return r[n / 2];
}

static double least(const double *t, int n) {
    double m = t[0];
    for (int i = 1; i < n; i++) m = fmin(m, t[i]);
    return m;
}

static void measure(bench *b, int rounds) {
    static double t[N_CONTENDERS][MAX_ROUNDS];
    const struct timespec rest = {0, 10 * 1000 * 1000};
    double flop = 2.0 * b->n_rows * b->s->n_out * b->s->n_in;
    for (int i = 0; i < rounds; i++) {
        for (int c = 0; c < N_CONTENDERS; c++) {
            nanosleep(&rest, NULL); /* until the threads of the contender before have stopped spinning */
            run(b, c);              /* brings the weights into the caches and the threads out of their sleep */
            double t0 = now(b);
            run(b, c);
            t[c][i] = now(b) - t0;
        }
    }
    for (int c = 0; c < N_CONTENDERS; c++) {
        const double *ours = t[c < OURS_32 ? OURS_8 : OURS_32];
        double theirs = least(t[c], rounds);
        printf("%-8s %5d  %-13s %8.1f %9.3f %9.3f\n", b->s->name, b->n_rows, names[c], 1e-9 * flop / theirs,
               theirs / least(ours, rounds), median_ratio(ours, t[c], rounds));
    }
    fflush(stdout);
}

static void compare(bench *b, int rounds, double worst[N_CONTENDERS]) {
    size_t nx = (size_t)b->n_rows * b->s->n_in, nw = (size_t)b->s->n_out * b->s->n_in;
    float *x = random_floats(nx, 1), *w = random_floats(nw, 2);
    b->x = x;
    b->w = w;
    b->out = allocate((size_t)b->n_rows * b->s->n_out * sizeof *b->out);
    kv_weights weights = kv_weights_of_floats(w, b->s->n_out, b->s->n_in);
    check(!b->fast->ops->matrix_create(b->fast, &weights, &b->w_fast, NULL), "matrix_create");
    check(!b->exact->ops->matrix_create(b->exact, &weights, &b->w_exact, NULL), "matrix_create");
    prepare_dnnl_int8(b);
    prepare_groups(b);
    prepare_dnnl(b, DNNL_32, dnnl_f32, x, w, NULL, 0);
    for (int c = 0; c < N_CONTENDERS; c++) {
        double e = error_of(b, c);
        check(e < (c < OURS_32 ? 0.03 : 1e-5), names[c]);
        worst[c] = fmax(worst[c], e);
    }
    measure(b, rounds);
    for (int c = 0; c < N_CONTENDERS; c++) {
        for (int i = 0; i < 3; i++) dnnl_memory_destroy(b->args[c][i].memory);
        dnnl_primitive_destroy(b->prim[c]);
    }
    free_groups(b);
    b->fast->ops->matrix_free(b->fast, b->w_fast);
    b->exact->ops->matrix_free(b->exact, b->w_exact);
    free(x);
    free(w);
    free(b->out);
}

static void print_machine(const bench *b, int threads, int rounds) {
    char line[256], cpu[256] = "unknown CPU";
    const dnnl_version_t *v = dnnl_version();
    time_t t = time(NULL);
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !value) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(cpu, sizeof cpu, "%s", value + 2);
        break;
    }
    if (f) fclose(f);
    strftime(line, sizeof line, "%Y-%m-%d", gmtime(&t));
    printf("%s, %s, %d threads, %d rounds\n", line, cpu, threads, rounds);
    printf("ours %s; oneDNN %d.%d.%d; %s\n", b->fast->ops->name, v->major, v->minor, v->patch, openblas_get_config());
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 2, rounds = argc > 2 ? atoi(argv[2]) : 101;
    double worst[N_CONTENDERS] = {0};
    bench b = {0};
    check(threads >= 1 && rounds >= 1 && rounds <= MAX_ROUNDS, "reading [threads] [rounds <= 1001]");
    omp_set_num_threads(threads);
    openblas_set_num_threads(threads);
    check(!kv_cpu_backend_create(KV_FAST, threads, MAX_ROWS, &b.fast, NULL), "kv_cpu_backend_create");
    check(!kv_cpu_backend_create(KV_EXACT, threads, MAX_ROWS, &b.exact, NULL), "kv_cpu_backend_create");
    check(!dnnl_engine_create(&b.engine, dnnl_cpu, 0), "dnnl_engine_create");
    check(!dnnl_stream_create(&b.stream, b.engine, dnnl_stream_default_flags), "dnnl_stream_create");
    print_machine(&b, threads, rounds);
    printf("%-8s %5s  %-13s %8s %9s %9s\n", "product", "rows", "contender", "GFLOP/s", "best", "median");
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (size_t r = 0; r < sizeof row_counts / sizeof *row_counts; r++) {
            b.s = &shapes[s];
            b.n_rows = row_counts[r];
            compare(&b, rounds, worst);
        }
    }
    printf("largest relative error (RMS):");
    for (int c = 0; c < N_CONTENDERS; c++) printf(" %s %.1e%s", names[c], worst[c], c + 1 < N_CONTENDERS ? "," : "\n");
    b.fast->ops->destroy(b.fast);
    b.exact->ops->destroy(b.exact);
    dnnl_stream_destroy(b.stream);
    dnnl_engine_destroy(b.engine);
    return 0;
}
