/* test_attend_slots.cu - attention of a few rows per sequence over paged bf16 caches against sums in double.
 *
 * Tolerances: a weight is rounded to bf16 (2^-9 of it), so a sum of weights times |v| < 1 is off by at most 2^-9, its
 * own rounding adds 2^-9 of the value; twice that is allowed. */
#include "tests/cuda/pages.cuh"

enum { LAYERS = 2, LAYER = 1, MOST_SEGS = 6, GAP = 16, SPARE = 3, GUARD = 256 };

typedef struct shape {
    int group, n_kv_heads, head_dim;
} shape;

/* slots: of the KV heads in turn, the segment's rows included. */
typedef struct segment {
    int rows, slots[3];
} segment;

typedef struct batch {
    shape s;
    int n_segs, n_rows, most_rows, most_slots, n_heads;
    float scale;
    size_t q_stride, out_bytes, lse_bytes;
    kv_cuda_segment segs[MOST_SEGS], *d_segs;
    pages p;
    float *q; /* host (n_rows, n_heads, head_dim), as rounded to bf16 */
    __nv_bfloat16 *d_q;
    char *d_out, *d_lse, *out, *lse; /* (n_rows + SPARE) rows; on the host as they came from the last run */
    int *counters;
} batch;

static void make_queries(batch *b, float size, uint64_t seed) {
    const size_t row = (size_t)b->n_heads * b->s.head_dim;
    __nv_bfloat16 *h = (__nv_bfloat16 *)pages_allocate(b->n_rows * b->q_stride * sizeof *h);
    memset((void *)h, 0xff, b->n_rows * b->q_stride * sizeof *h);
    b->q = (float *)pages_allocate(b->n_rows * row * sizeof(float));
    for (size_t i = 0; i < b->n_rows * row; i++) {
        b->q[i] = pages_round(size * check_random(seed, i));
        h[i / row * b->q_stride + i % row] = __float2bfloat16_rn(b->q[i]);
    }
    b->d_q = (__nv_bfloat16 *)check_device(h, b->n_rows * b->q_stride * sizeof *h);
    free(h);
}

/* Sequences in the reverse order of the segments, rows packed. */
static batch *make_batch(shape s, const segment *segs, int n_segs, float size, uint64_t seed) {
    batch *b = (batch *)calloc(1, sizeof *b);
    if (!b) exit(1);
    b->s = s, b->n_segs = n_segs, b->n_heads = s.group * s.n_kv_heads;
    b->scale = 1 / sqrtf((float)s.head_dim);
    b->q_stride = (size_t)(b->n_heads + 2 * s.n_kv_heads) * s.head_dim + GAP;
    for (int i = 0; i < n_segs; i++) {
        b->segs[i] = {n_segs - 1 - i, b->n_rows, segs[i].rows, segs[i].slots[0] - segs[i].rows};
        b->n_rows += segs[i].rows;
        if (segs[i].rows > b->most_rows) b->most_rows = segs[i].rows;
        for (int h = 0; h < s.n_kv_heads; h++)
            if (segs[i].slots[h % 3] > b->most_slots) b->most_slots = segs[i].slots[h % 3];
    }
    pages_make(&b->p, s.head_dim, 1, 0, n_segs, LAYERS, s.n_kv_heads, b->most_slots, NULL, 0);
    for (int i = 0; i < n_segs; i++)
        for (int h = 0; h < s.n_kv_heads; h++) {
            const int n = segs[i].slots[h % 3];
            pages_fill(&b->p, paged_head(&b->p.c, n_segs - 1 - i, LAYER, h), n, n, seed + 100 * i + 10 * h + 10);
        }
    paged_upload(&b->p.c);
    make_queries(b, size, seed);
    b->d_segs = (kv_cuda_segment *)check_device(b->segs, n_segs * sizeof *b->segs);
    b->out_bytes = (size_t)(b->n_rows + SPARE) * b->n_heads * s.head_dim * sizeof(__nv_bfloat16);
    b->lse_bytes = (size_t)(b->n_rows + SPARE) * b->n_heads * sizeof(float);
    b->d_out = (char *)check_device(NULL, b->out_bytes);
    b->d_lse = (char *)check_device(NULL, b->lse_bytes);
    b->out = (char *)pages_allocate(b->out_bytes);
    b->lse = (char *)pages_allocate(b->lse_bytes);
    b->counters = pages_make_counters();
    return b;
}

static void free_batch(batch *b) {
    void *device[] = {b->d_segs, b->d_q, b->d_out, b->d_lse, b->counters};
    void *host[] = {b->q, b->out, b->lse};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++) CHECK_CUDA(cudaFree(device[i]));
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) free(host[i]);
    pages_free(&b->p);
    free(b);
}

/* n of the segments from `first` on; most_slots may be more than they have. */
static kv_cuda_attend arguments(const batch *b, int first, int n, int most_slots) {
    kv_cuda_attend a;
    memset(&a, 0, sizeof a);
    a.q = b->d_q, a.q_stride = b->q_stride;
    a.out = b->d_out, a.lse = (float *)b->d_lse;
    a.segs = b->d_segs + first, a.n_segs = n;
    for (int i = first; i < first + n; i++) {
        a.n_rows += b->segs[i].n;
        if (b->segs[i].n > a.most_rows) a.most_rows = b->segs[i].n;
    }
    a.seqs = b->p.c.seqs, a.layout = b->p.c.layout;
    a.layer = LAYER, a.n_heads = b->n_heads, a.n_kv_heads = b->s.n_kv_heads, a.head_dim = b->s.head_dim;
    a.most_slots = most_slots, a.scale = b->scale;
    a.scratch_bytes = kv_cuda_attend_scratch_bytes(n, a.most_rows, a.n_heads, a.n_kv_heads, a.head_dim, most_slots);
    a.counters = b->counters;
    return a;
}

/* Scratch of one column group. */
static size_t unit_bytes(const batch *b, int most_slots) {
    return kv_cuda_attend_scratch_bytes(1, 1, b->n_heads, b->s.n_kv_heads, b->s.head_dim, most_slots);
}

/* Into poisoned outputs; the scratch has room for `units` column groups, or for all (0), with a guard behind it. */
static int run_batch(batch *b, int first, int n, int most_slots, int units) {
    kv_cuda_attend a = arguments(b, first, n, most_slots);
    if (units) a.scratch_bytes = units * unit_bytes(b, most_slots) + 4;
    a.scratch = check_device(NULL, a.scratch_bytes + GUARD);
    CHECK_CUDA(cudaMemset(b->d_out, 0xff, b->out_bytes));
    CHECK_CUDA(cudaMemset(b->d_lse, 0xff, b->lse_bytes));
    CHECK_CUDA(kv_cuda_attend_slots(&a, 0));
    CHECK_CUDA(cudaMemcpy(b->out, b->d_out, b->out_bytes, cudaMemcpyDeviceToHost));
    CHECK_CUDA(cudaMemcpy(b->lse, b->d_lse, b->lse_bytes, cudaMemcpyDeviceToHost));
    unsigned char *guard = (unsigned char *)check_host((char *)a.scratch + a.scratch_bytes, GUARD);
    int bad = pages_check_counters(b->counters), behind = 0;
    for (int i = 0; i < GUARD; i++) behind += guard[i] != 0xff;
    if (behind) printf("  scratch: written past its end\n");
    free(guard);
    CHECK_CUDA(cudaFree(a.scratch));
    return bad + behind;
}

static int check_row(const batch *b, const kv_cuda_segment *g, int row, int head, double *logits) {
    const int d = b->s.head_dim;
    const size_t at = (size_t)(g->row + row) * b->n_heads + head,
                 where = paged_head(&b->p.c, g->seq, LAYER, head / b->s.group);
    const __nv_bfloat16 *raw = (const __nv_bfloat16 *)b->out + at * d;
    double want[PAGES_HEAD_MOST];
    float got[PAGES_HEAD_MOST];
    const int n = b->p.c.n_slots[where] - g->n + row + 1;
    const double lse = pages_attend(&b->p, where, b->q + at * d, n, b->scale, want, logits);
    for (int i = 0; i < d; i++) got[i] = __bfloat162float(raw[i]);
    int bad = check_close("out", got, want, (size_t)d, 0x1p-8, 0x1p-8);
    bad += check_close("lse", (const float *)b->lse + at, &lse, 1, 1e-4, 1e-6);
    if (bad) printf("  ... row %d of %d, head %d, %d slots seen\n", row, g->n, head, n);
    return bad;
}

/* Every row of the last run of all segments, and nothing behind them. */
static int compare_batch(const batch *b) {
    double *logits = (double *)pages_allocate(b->most_slots * sizeof(double));
    int bad = 0, behind = 0;
    for (int i = 0; i < b->n_segs; i++)
        for (int row = 0; row < b->segs[i].n && !bad; row++)
            for (int h = 0; h < b->n_heads && !bad; h++) bad += check_row(b, &b->segs[i], row, h, logits);
    const size_t end = (size_t)b->n_rows * b->n_heads * b->s.head_dim * sizeof(__nv_bfloat16);
    for (size_t i = end; i < b->out_bytes; i++) behind += (unsigned char)b->out[i] != 0xff;
    if (behind) printf("  out: written past its end\n");
    free(logits);
    return bad + behind;
}

/* Segments alone, some with little scratch, must repeat the bits of the run of all, and leave other rows alone. */
static int compare_alone(batch *b) {
    char *out = (char *)pages_allocate(b->out_bytes), *lse = (char *)pages_allocate(b->lse_bytes);
    memcpy(out, b->out, b->out_bytes);
    memcpy(lse, b->lse, b->lse_bytes);
    int bad = 0;
    for (int units = 1; units <= 3 && !bad; units += 2) {
        bad += run_batch(b, 0, b->n_segs, b->most_slots, units);
        bad += memcmp(out, b->out, b->out_bytes) != 0 || memcmp(lse, b->lse, b->lse_bytes) != 0;
        if (bad) printf("  ... with scratch for %d groups of columns\n", units);
    }
    for (int i = 0; i < b->n_segs; i++) {
        const int n = i % 3 == 2 ? 2 : 1, rows_of = b->n_segs - i < n ? b->n_segs - i : n;
        bad += run_batch(b, i, rows_of, b->most_slots + 1700 * (i % 2), i % 3);
        const int from = b->segs[i].row, to = b->segs[i + rows_of - 1].row + b->segs[i + rows_of - 1].n;
        for (int row = 0; row < b->n_rows + SPARE; row++) {
            const size_t o = b->out_bytes / (b->n_rows + SPARE), l = b->lse_bytes / (b->n_rows + SPARE);
            const int inside = row >= from && row < to;
            for (size_t k = 0; k < o; k++) bad += b->out[row * o + k] != (inside ? out[row * o + k] : (char)0xff);
            for (size_t k = 0; k < l; k++) bad += b->lse[row * l + k] != (inside ? lse[row * l + k] : (char)0xff);
        }
        if (bad) printf("  ... segments [%d, %d) alone\n", i, i + rows_of);
    }
    free(out);
    free(lse);
    return bad;
}

static int check_batch(shape s, const segment *segs, int n_segs, float size, uint64_t seed) {
    batch *b = make_batch(s, segs, n_segs, size, seed);
    int bad = run_batch(b, 0, n_segs, b->most_slots, 0);
    bad += compare_batch(b);
    if (!bad) bad += compare_alone(b);
    if (bad) printf("  ... at group %d, %d KV heads, head size %d\n", s.group, s.n_kv_heads, s.head_dim);
    free_batch(b);
    return bad;
}

static const int GROUPS[] = {1, 2, 3, 4, 5, 8}, SIZES[] = {32, 64, 96, 128};

static int short_chunks(void) {
    static const segment segs[] = {{1, {1, 1, 2}},       {3, {64, 17, 3}},     {17, {130, 17, 40}},
                                   {8, {513, 512, 511}}, {1, {127, 128, 129}}, {31, {65, 80, 600}}};
    int bad = 0;
    for (int d = 0; d < 4; d++)
        for (int g = 0; g < 6; g++) {
            const shape s = {GROUPS[g], 1 + (d + g) % 3, SIZES[d]};
            bad += check_batch(s, segs, 6, 3, 10000 * (d + 1) + 1000 * (g + 1));
        }
    return bad;
}

static int long_chunks(void) {
    static const segment segs[] = {
        {5, {4096, 4097, 5}}, {1, {5000, 1025, 1}}, {2, {640, 4351, 2}}, {12, {2048, 769, 33}}};
    static const int groups[] = {5, 3, 8, 4};
    int bad = 0;
    for (int d = 0; d < 4; d++) {
        const shape s = {groups[d], 2, SIZES[d]};
        bad += check_batch(s, segs, 4, 3, 100000 * (d + 1));
    }
    static const segment longer[] = {{3, {16386, 20000, 3}}, {1, {16384, 16897, 1}}};
    const shape s = {3, 2, 64};
    return bad + check_batch(s, longer, 2, 3, 900000);
}

/* One slot takes nearly everything, in whichever split it lies. */
static int peaked_chunks(void) {
    static const segment segs[] = {{4, {1500, 200, 4}}, {9, {300, 1031, 9}}};
    int bad = 0;
    for (int d = 0; d < 4; d++) {
        const shape s = {4, 2, SIZES[d]};
        bad += check_batch(s, segs, 2, 40, 1000000 * (d + 1));
    }
    return bad;
}

/* Without lse the output is the same; what does not fit at all or has no kernel is refused, and nothing is written
 * then. */
static int limits(void) {
    static const segment segs[] = {{3, {700, 90, 3}}};
    const shape s = {3, 2, 64};
    batch *b = make_batch(s, segs, 1, 3, 77);
    int bad = run_batch(b, 0, 1, b->most_slots, 0);
    kv_cuda_attend a = arguments(b, 0, 1, b->most_slots), wrong;
    a.scratch = check_device(NULL, a.scratch_bytes);
    CHECK_CUDA(cudaMemset(b->d_out, 0xff, b->out_bytes));
    wrong = a, wrong.scratch_bytes = unit_bytes(b, b->most_slots) - 1;
    bad += kv_cuda_attend_slots(&wrong, 0) != cudaErrorInvalidValue;
    wrong = a, wrong.head_dim = 80;
    bad += kv_cuda_attend_slots(&wrong, 0) != cudaErrorInvalidValue;
    wrong = a, wrong.n_heads = 9, wrong.n_kv_heads = 1;
    bad += kv_cuda_attend_slots(&wrong, 0) != cudaErrorInvalidValue;
    char *got = (char *)check_host(b->d_out, b->out_bytes);
    for (size_t i = 0; i < b->out_bytes; i++) bad += got[i] != (char)0xff;
    free(got);
    a.lse = NULL;
    CHECK_CUDA(kv_cuda_attend_slots(&a, 0));
    got = (char *)check_host(b->d_out, b->out_bytes);
    bad += memcmp(got, b->out, b->out_bytes) != 0;
    free(got);
    CHECK_CUDA(cudaFree(a.scratch));
    free_batch(b);
    return bad;
}

int main(int argc, char **argv) {
    static const check checks[] = {
        {"chunks over short caches are those of double, and the same bits alone", short_chunks},
        {"chunks over long caches, likewise", long_chunks},
        {"peaked attention, likewise", peaked_chunks},
        {"lse is optional; too little scratch, other head sizes and larger groups are refused", limits},
    };
    return check_main(argc, argv, checks, sizeof checks / sizeof *checks);
}
