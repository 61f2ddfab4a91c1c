/* test_attend_decode.cu - the fused decode step of one layer (norm, rotation, append, gate, ring, attention) and the
 * mass that follows it, against double.
 *
 * The reference of attention starts from what the kernel put in the page and in the ring, each compared with double by
 * itself before; so the tolerance of the outputs is that of test_attend_slots.cu. */
#include "engine/cuda/attend_decode.cuh"
#include "tests/cuda/order.cuh"
#include "tests/cuda/pages.cuh"

enum { LAYERS = 2, COLS = 3, GATE_COL = 2, MID_GAP = 5, SPARE = 64, GUARD = 256 };
enum { OUT, SCORES, LSE, RING, N_BUFFERS };

static const float EPS = 0.1f; /* large enough to be seen */

typedef struct shape {
    int n, group, n_kv_heads, head_dim;
    int norm, parts, window, scored; /* parts: of the gate, 0 = none; window: 0 = no ring */
    const int *slots;                /* taken in turn by the heads */
    int n_lengths;
} shape;

typedef struct buffer {
    size_t bytes; /* poison behind them included */
    char *device, *now;
} buffer;

typedef struct decode {
    shape s;
    int n_heads, n_hidden, mid_stride, most_slots, stride, n_positions;
    kv_order order; /* that outputs are asked for in */
    size_t width;
    float scale;
    pages p;
    char *image; /* of the pages after the last run */
    int32_t *active, *d_active;
    float *qkv, *mid, *q_norm, *k_norm, *cos, *sin, *b1, *w2, *bias; /* host; qkv, mid (LAYERS, n, .) */
    float *d_qkv, *d_mid, *d_q_norm, *d_k_norm, *d_cos, *d_sin, *d_b1, *d_w2, *d_bias;
    buffer b[N_BUFFERS]; /* (LAYERS, n, .), the ring (n, LAYERS, .) */
    int *counters;
} decode;

static float *make_floats(float **host, size_t n, float size, uint64_t seed) {
    *host = (float *)pages_allocate(n * sizeof(float));
    for (size_t i = 0; i < n; i++) (*host)[i] = size * check_random(seed, i);
    return (float *)check_device(*host, n * sizeof(float));
}

static size_t ring_floats(const decode *d) {
    return (size_t)LAYERS * d->s.window * d->n_heads * d->s.head_dim;
}

static void make_cache(decode *d, uint64_t seed) {
    const shape *s = &d->s;
    for (int i = 0; i < s->n_lengths; i++)
        if (s->slots[i] > d->most_slots) d->most_slots = s->slots[i];
    d->b[RING].bytes = (s->n * ring_floats(d) + SPARE) * sizeof(float);
    d->b[RING].device = (char *)check_device(NULL, d->b[RING].bytes);
    pages_make(&d->p, s->head_dim, COLS, 1, s->n, LAYERS, s->n_kv_heads, d->most_slots,
               s->window ? (float *)d->b[RING].device : NULL, ring_floats(d));
    for (int i = 0; i < s->n; i++) {
        for (int k = 0; k < LAYERS * s->n_kv_heads; k++) {
            const int n = s->slots[(i + 5 * k) % s->n_lengths];
            pages_fill(&d->p, (size_t)i * LAYERS * s->n_kv_heads + k, n, n - 1, seed + 100 * i + 10 * k);
        }
        d->p.c.host_seqs[i].n_seen = d->most_slots + 13 * i;
    }
    d->n_positions = d->most_slots + 13 * s->n;
    CHECK_CUDA(cudaMemcpy(d->p.c.seqs, d->p.c.host_seqs, s->n * sizeof *d->p.c.host_seqs, cudaMemcpyHostToDevice));
    d->image = (char *)pages_allocate(paged_heads(&d->p.c) * d->p.c.page_cap * d->p.c.layout.bytes);
}

static void make_angles(decode *d) {
    const int half = d->s.head_dim / 2;
    const size_t n = (size_t)d->n_positions * half;
    d->cos = (float *)pages_allocate(n * sizeof(float));
    d->sin = (float *)pages_allocate(n * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        const double angle = (double)(i / half) * pow(10000, -(double)(i % half) / half);
        d->cos[i] = (float)cos(angle), d->sin[i] = (float)sin(angle);
    }
    d->d_cos = (float *)check_device(d->cos, n * sizeof(float));
    d->d_sin = (float *)check_device(d->sin, n * sizeof(float));
}

static decode *make_decode(shape s, uint64_t seed) {
    decode *d = (decode *)calloc(1, sizeof *d);
    if (!d) exit(1);
    d->s = s, d->n_heads = s.group * s.n_kv_heads, d->scale = 1 / sqrtf((float)s.head_dim);
    d->width = (size_t)(d->n_heads + 2 * s.n_kv_heads) * s.head_dim;
    d->n_hidden = s.parts == 1 ? 48 : 128, d->mid_stride = s.parts * d->n_hidden + MID_GAP;
    make_cache(d, seed);
    make_angles(d);
    d->stride = d->most_slots + 7;
    d->d_qkv = make_floats(&d->qkv, LAYERS * s.n * d->width, 3, seed + 1);
    d->d_mid = make_floats(&d->mid, (size_t)LAYERS * s.n * d->mid_stride, 4, seed + 2);
    d->d_q_norm = make_floats(&d->q_norm, s.head_dim, 2, seed + 3);
    d->d_k_norm = make_floats(&d->k_norm, s.head_dim, 2, seed + 4);
    d->d_b1 = make_floats(&d->b1, d->n_hidden, 1, seed + 5);
    d->d_w2 = make_floats(&d->w2, (size_t)s.n_kv_heads * d->n_hidden, 0.3f, seed + 6);
    d->d_bias = make_floats(&d->bias, s.n_kv_heads, 6, seed + 7);
    d->active = (int32_t *)pages_allocate(s.n * sizeof(int32_t));
    for (int i = 0; i < s.n; i++) d->active[i] = s.n < 3 || i % 4 != 2;
    d->d_active = (int32_t *)check_device(d->active, s.n * sizeof(int32_t));
    const size_t rows = (size_t)LAYERS * s.n * d->n_heads;
    d->b[OUT].bytes = (rows * s.head_dim + SPARE) * sizeof(__nv_bfloat16);
    d->b[SCORES].bytes = (rows * d->stride + SPARE) * sizeof(float);
    d->b[LSE].bytes = (rows + SPARE) * sizeof(float);
    for (int i = 0; i < N_BUFFERS; i++) {
        if (i != RING) d->b[i].device = (char *)check_device(NULL, d->b[i].bytes);
        d->b[i].now = (char *)pages_allocate(d->b[i].bytes);
    }
    d->counters = pages_make_counters();
    return d;
}

static void free_decode(decode *d) {
    void *device[] = {d->d_active, d->d_qkv, d->d_mid, d->d_q_norm, d->d_k_norm, d->d_cos,
                      d->d_sin,    d->d_b1,  d->d_w2,  d->d_bias,   d->counters};
    void *host[] = {d->active, d->qkv, d->mid, d->q_norm, d->k_norm, d->cos, d->sin, d->b1, d->w2, d->bias, d->image};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++) CHECK_CUDA(cudaFree(device[i]));
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) free(host[i]);
    for (int i = 0; i < N_BUFFERS; i++) {
        CHECK_CUDA(cudaFree(d->b[i].device));
        free(d->b[i].now);
    }
    pages_free(&d->p);
    free(d);
}

static void reset_decode(decode *d) {
    paged_upload(&d->p.c);
    for (int i = 0; i < N_BUFFERS; i++) CHECK_CUDA(cudaMemset(d->b[i].device, 0xff, d->b[i].bytes));
}

static void fetch_decode(decode *d) {
    const size_t bytes = paged_heads(&d->p.c) * d->p.c.page_cap * d->p.c.layout.bytes;
    CHECK_CUDA(cudaDeviceSynchronize());
    CHECK_CUDA(cudaMemcpy(d->image, d->p.c.pages, bytes, cudaMemcpyDeviceToHost));
    for (int i = 0; i < N_BUFFERS; i++)
        CHECK_CUDA(cudaMemcpy(d->b[i].now, d->b[i].device, d->b[i].bytes, cudaMemcpyDeviceToHost));
}

/* Rows [first, first + n) of a layer. */
static kv_cuda_decode_attend arguments(const decode *d, int layer, int first, int n, int most_slots, int splits) {
    const size_t row = (size_t)layer * d->s.n + first, heads = row * d->n_heads;
    kv_cuda_decode_attend a;
    memset(&a, 0, sizeof a);
    a.qkv = d->d_qkv + row * d->width;
    a.out = (__nv_bfloat16 *)d->b[OUT].device + heads * d->s.head_dim;
    a.seqs = d->p.c.seqs + first, a.active = d->d_active + first, a.layout = d->p.c.layout;
    a.slots_stride = LAYERS * d->s.n_kv_heads, a.n_slots = d->p.c.d_slots + first * a.slots_stride;
    a.splits = splits, a.out_order = d->order, a.n = n, a.layer = layer, a.n_heads = d->n_heads,
    a.n_kv_heads = d->s.n_kv_heads, a.head_dim = d->s.head_dim;
    a.window = d->s.window, a.most_slots = most_slots, a.eps = EPS, a.scale = d->scale;
    if (d->s.norm) a.q_norm = d->d_q_norm, a.k_norm = d->d_k_norm;
    a.rope_cos = d->d_cos, a.rope_sin = d->d_sin;
    if (d->s.scored) {
        a.scores = (float *)d->b[SCORES].device + heads * d->stride, a.score_stride = d->stride;
        a.lse = (float *)d->b[LSE].device + heads;
    }
    a.scratch_bytes = kv_cuda_decode_attend_scratch_bytes(n, a.n_kv_heads, a.head_dim, most_slots);
    a.counters = d->counters;
    return a;
}

/* Rows that were written to `from` in d->order, to where they belong in plain order; those behind them and a guard are
 * untouched. */
static int put_in_place(const decode *d, __nv_bfloat16 *to, __nv_bfloat16 *from, int n) {
    const int width = d->n_heads * d->s.head_dim;
    const size_t whole = kv_cuda_whole_bands(n), bytes = width * sizeof *from;
    __nv_bfloat16 *rows = (__nv_bfloat16 *)check_host(from, whole * bytes + GUARD);
    int bad = 0;
    reorder(rows, d->order, KV_ORDER_PLAIN, whole, width);
    for (size_t i = n * bytes; i < whole * bytes + GUARD; i++) bad += ((unsigned char *)rows)[i] != 0xff;
    if (bad) printf("  output: rows of others written\n");
    CHECK_CUDA(cudaMemcpy(to, rows, n * bytes, cudaMemcpyHostToDevice));
    free(rows);
    return bad;
}

static int run_rows(const decode *d, int first, int n, int most_slots, int splits) {
    const size_t out_bytes = kv_cuda_whole_bands(n) * d->n_heads * d->s.head_dim * sizeof(__nv_bfloat16);
    int bad = 0;
    for (int layer = 0; layer < LAYERS; layer++) {
        kv_cuda_decode_attend a = arguments(d, layer, first, n, most_slots, splits);
        __nv_bfloat16 *in_place = a.out;
        a.scratch = check_device(NULL, a.scratch_bytes + GUARD);
        if (d->order != KV_ORDER_PLAIN) a.out = (__nv_bfloat16 *)check_device(NULL, out_bytes + GUARD);
        CHECK_CUDA(kv_cuda_decode_attend_slots(&a, 0));
        if (d->order != KV_ORDER_PLAIN) {
            bad += put_in_place(d, in_place, a.out, n);
            CHECK_CUDA(cudaFree(a.out));
        }
        unsigned char *guard = (unsigned char *)check_host((char *)a.scratch + a.scratch_bytes, GUARD);
        for (int i = 0; i < GUARD; i++) bad += guard[i] != 0xff;
        free(guard);
        CHECK_CUDA(cudaFree(a.scratch));
    }
    if (bad) printf("  scratch: written past its end\n");
    return bad;
}

static void run_columns(const decode *d) {
    kv_cuda_append_columns a;
    memset(&a, 0, sizeof a);
    a.seqs = d->p.c.seqs, a.active = d->d_active, a.layout = d->p.c.layout;
    a.n = d->s.n, a.n_layers = LAYERS, a.n_kv_heads = d->s.n_kv_heads;
    if (d->s.parts) a.mid = d->d_mid;
    a.b1 = d->d_b1, a.w2 = d->d_w2, a.bias = d->d_bias; /* both layers have the same */
    a.mid_stride = d->mid_stride, a.n_hidden = d->n_hidden, a.n_parts = d->s.parts, a.gate_col = GATE_COL;
    CHECK_CUDA(kv_cuda_append_newest(&a, 0));
}

/* ---- the step in double ---------------------------------------------------------------------------------------------
 */

/* Normed and rotated head. */
static void rotate_head(const decode *d, const float *x, const float *norm, int pos, double *out) {
    const int n = d->s.head_dim, half = n / 2;
    double sum = 0, u[PAGES_HEAD_MOST];
    for (int i = 0; i < n; i++) sum += (double)x[i] * x[i];
    for (int i = 0; i < n; i++) u[i] = d->s.norm ? x[i] / sqrt(sum / n + EPS) * norm[i] : x[i];
    for (int i = 0; i < half; i++) {
        const double c = d->cos[(size_t)pos * half + i], s = d->sin[(size_t)pos * half + i];
        out[i] = u[i] * c - u[i + half] * s;
        out[i + half] = u[i + half] * c + u[i] * s;
    }
}

static double open_gate(const decode *d, size_t row, int kv_head) {
    double z = d->bias[kv_head];
    for (int i = 0; i < d->n_hidden; i++) {
        double x = d->b1[i];
        for (int k = 0; k < d->s.parts; k++) x += d->mid[row * d->mid_stride + k * d->n_hidden + i];
        z += x / (1 + exp(-x)) * d->w2[kv_head * d->n_hidden + i];
    }
    return z >= 0 ? -log1p(exp(-z)) : z - log1p(exp(z));
}

/* The appended slot in the new image; it is then copied to the expected one and to the plain arrays. */
static int check_slot(decode *d, char *expected, int layer, int seq, int kv_head) {
    const int n = d->s.head_dim, pos = d->p.c.host_seqs[seq].n_seen - 1;
    const size_t row = (size_t)layer * d->s.n + seq, head = paged_head(&d->p.c, seq, layer, kv_head);
    const int slot = d->p.c.n_slots[head] - 1;
    const float *k = d->qkv + row * d->width + (size_t)(d->n_heads + kv_head) * n, *v = k + d->s.n_kv_heads * n;
    double want[PAGES_HEAD_MOST], cols[COLS] = {0, 0, 0};
    float got[PAGES_HEAD_MOST];
    int bad = 0;
    rotate_head(d, k, d->k_norm, pos, want);
    for (int i = 0; i < n; i++) {
        const __nv_bfloat16 raw = __float2bfloat16_rn(v[i]);
        for (int is_v = 0; is_v < 2; is_v++) {
            const __nv_bfloat16 x = *pages_element(&d->p, d->image, is_v, head, slot, i);
            *pages_element(&d->p, expected, is_v, head, slot, i) = x;
            pages_slot(&d->p, is_v, head, slot)[i] = __bfloat162float(x);
            if (is_v) bad += memcmp(&x, &raw, sizeof x) != 0;
        }
        got[i] = pages_slot(&d->p, 0, head, slot)[i];
    }
    if (bad) printf("  %d of %d appended values are not the rounded ones\n", bad, n);
    bad += check_close("appended key", got, want, (size_t)n, 1e-5, 0x1p-8);
    paged now = d->p.c, then = d->p.c;
    now.image = d->image, then.image = expected;
    if (d->s.parts) cols[GATE_COL] = open_gate(d, row, kv_head);
    for (int c = 0; c < COLS; c++) {
        const float x = *paged_col(&now, head, slot, c);
        bad += check_close("column", &x, &cols[c], 1, c == GATE_COL && d->s.parts ? 1e-6 : 0, 1e-5);
        *paged_col(&then, head, slot, c) = x;
    }
    bad += *paged_pos(&now, head, slot) != pos;
    *paged_pos(&then, head, slot) = pos;
    return bad;
}

/* Query, output, scores and lse of a head; scores past the last slot stay poison. */
static int check_head(const decode *d, int layer, int seq, int h, double *logits) {
    const int n = d->s.head_dim, pos = d->p.c.host_seqs[seq].n_seen - 1;
    const size_t row = (size_t)layer * d->s.n + seq, at = row * d->n_heads + h;
    const size_t head = paged_head(&d->p.c, seq, layer, h / d->s.group);
    const int n_slots = d->p.c.n_slots[head];
    const __nv_bfloat16 *raw = (const __nv_bfloat16 *)d->b[OUT].now + at * n;
    const float *scores = (const float *)d->b[SCORES].now + at * d->stride;
    double want[PAGES_HEAD_MOST];
    float q[PAGES_HEAD_MOST], got[PAGES_HEAD_MOST];
    int bad = 0;
    rotate_head(d, d->qkv + row * d->width + (size_t)h * n, d->q_norm, pos, want);
    for (int i = 0; i < n; i++) q[i] = pages_round((float)want[i]);
    if (d->s.window) {
        const float *ring = (const float *)d->b[RING].now + seq * ring_floats(d) +
                            (((size_t)layer * d->s.window + pos % d->s.window) * d->n_heads + h) * n;
        bad += check_close("ring", ring, want, (size_t)n, 1e-5, 0x1p-8);
        for (int i = 0; i < n; i++) q[i] = pages_round(ring[i]);
    }
    /* Without a ring the query's own rounding may differ here and there by one place. */
    const double loose = d->s.window ? 0 : 2e-3;
    const double lse = pages_attend(&d->p, head, q, n_slots, d->scale, want, logits);
    for (int i = 0; i < n; i++) got[i] = __bfloat162float(raw[i]);
    bad += check_close("out", got, want, (size_t)n, 0x1p-8 + loose, 0x1p-7);
    if (d->s.scored) {
        bad += check_close("scores", scores, logits, (size_t)n_slots, 1e-4 + 4 * loose, 1e-5);
        bad += check_close("lse", (const float *)d->b[LSE].now + at, &lse, 1, 1e-4 + 4 * loose, 1e-5);
        for (int i = n_slots; i < d->stride; i++) bad += ((const uint32_t *)scores)[i] != 0xffffffffu;
    }
    if (bad) printf("  ... layer %d, sequence %d, head %d, %d slots\n", layer, seq, h, n_slots);
    return bad;
}

static int count_poison(const char *p, size_t bytes) {
    int n = 0;
    for (size_t i = 0; i < bytes; i++) n += p[i] != (char)0xff;
    return n;
}

/* What belongs to rows that are not active, to other places of the ring, and behind the ends. */
static int check_untouched(const decode *d) {
    int bad = 0;
    for (size_t row = 0; row < (size_t)LAYERS * d->s.n; row++) {
        const size_t heads = row * d->n_heads, n = d->n_heads, out = d->s.head_dim * sizeof(__nv_bfloat16);
        const int active = d->active[row % d->s.n], scored = active && d->s.scored;
        if (!active) bad += count_poison(d->b[OUT].now + heads * out, n * out);
        if (!scored) bad += count_poison(d->b[SCORES].now + heads * d->stride * 4, n * d->stride * sizeof(float));
        if (!scored) bad += count_poison(d->b[LSE].now + heads * 4, n * sizeof(float));
        for (int w = 0; w < d->s.window; w++) {
            const size_t seq = row % d->s.n, layer = row / d->s.n, each = n * d->s.head_dim;
            if (active && (d->p.c.host_seqs[seq].n_seen - 1) % d->s.window == w) continue;
            const size_t at = seq * ring_floats(d) + (layer * d->s.window + w) * each;
            bad += count_poison(d->b[RING].now + at * sizeof(float), each * sizeof(float));
        }
    }
    for (int i = 0; i < N_BUFFERS; i++) {
        const size_t spare = SPARE * (i == OUT ? sizeof(__nv_bfloat16) : sizeof(float));
        bad += count_poison(d->b[i].now + d->b[i].bytes - spare, spare);
    }
    if (bad) printf("  %d bytes were written that do not belong to the step\n", bad);
    return bad;
}

/* The whole step: slots, then attention over them, and not a byte more. */
static int compare_step(decode *d) {
    const size_t bytes = paged_heads(&d->p.c) * d->p.c.page_cap * d->p.c.layout.bytes;
    char *expected = (char *)pages_allocate(bytes);
    double *logits = (double *)pages_allocate(d->most_slots * sizeof(double));
    int bad = 0;
    memcpy(expected, d->p.c.image, bytes);
    for (int layer = 0; layer < LAYERS; layer++)
        for (int seq = 0; seq < d->s.n && !bad; seq++) {
            if (!d->active[seq]) continue;
            for (int k = 0; k < d->s.n_kv_heads; k++) bad += check_slot(d, expected, layer, seq, k);
            for (int h = 0; h < d->n_heads && !bad; h++) bad += check_head(d, layer, seq, h, logits);
        }
    if (!bad && memcmp(expected, d->image, bytes) != 0) {
        printf("  pages: something but the appended slots has changed\n");
        bad++;
    }
    free(expected);
    free(logits);
    return bad + check_untouched(d);
}

static void run_mass(const decode *d, int append, char *image, size_t bytes) {
    kv_cuda_mass a;
    memset(&a, 0, sizeof a);
    a.seqs = d->p.c.seqs, a.active = d->d_active, a.layout = d->p.c.layout;
    a.scores = (const float *)d->b[SCORES].device, a.lse = (const float *)d->b[LSE].device, a.stride = d->stride;
    a.n = d->s.n, a.n_layers = LAYERS, a.n_heads = d->n_heads, a.n_kv_heads = d->s.n_kv_heads;
    a.most_slots = d->most_slots, a.append = append;
    CHECK_CUDA(kv_cuda_add_mass(&a, 0));
    CHECK_CUDA(cudaMemcpy(image, d->p.c.pages, bytes, cudaMemcpyDeviceToHost));
}

/* The newest slots' position and columns, lost before, are written along with the mass: the pages are `want` again. */
static int compare_append(decode *d, const char *want, size_t bytes) {
    char *image = (char *)pages_allocate(bytes);
    memcpy(image, d->image, bytes);
    paged lost = d->p.c;
    lost.image = image;
    for (size_t i = 0; i < (size_t)LAYERS * d->s.n * d->s.n_kv_heads; i++) {
        const size_t row = i / d->s.n_kv_heads, seq = row % d->s.n;
        const size_t head = paged_head(&d->p.c, (int)seq, (int)(row / d->s.n), (int)(i % d->s.n_kv_heads));
        const int newest = d->p.c.n_slots[head] - 1;
        if (!d->active[seq]) continue;
        *paged_pos(&lost, head, newest) = -1;
        for (int c = 0; c < COLS; c++) *paged_col(&lost, head, newest, c) = NAN;
    }
    CHECK_CUDA(cudaMemcpy(d->p.c.pages, image, bytes, cudaMemcpyHostToDevice));
    run_mass(d, 1, image, bytes);
    const int bad = memcmp(image, want, bytes) != 0;
    if (bad) printf("  mass that also appends leaves other pages than one after the other\n");
    free(image);
    return bad;
}

/* kv_cuda_add_mass after the last run: probabilities, and not a byte more. */
static int compare_mass(decode *d) {
    const size_t bytes = paged_heads(&d->p.c) * d->p.c.page_cap * d->p.c.layout.bytes;
    char *image = (char *)pages_allocate(bytes);
    run_mass(d, 0, image, bytes);
    paged now = d->p.c, then = d->p.c;
    now.image = image, then.image = d->image;
    int bad = d->s.parts ? 0 : compare_append(d, image, bytes);
    for (size_t i = 0; i < (size_t)LAYERS * d->s.n * d->s.n_kv_heads; i++) {
        const size_t row = i / d->s.n_kv_heads, kv_head = i % d->s.n_kv_heads, seq = row % d->s.n;
        const size_t head = paged_head(&d->p.c, (int)seq, (int)(row / d->s.n), (int)kv_head);
        for (int s = 0; d->active[seq] && s < d->p.c.n_slots[head]; s++) {
            double want = *paged_col(&then, head, s, 0);
            for (int g = 0; g < d->s.group; g++) {
                const size_t at = row * d->n_heads + kv_head * d->s.group + g;
                const float *score = (const float *)d->b[SCORES].now + at * d->stride;
                want += exp((double)score[s] - ((const float *)d->b[LSE].now)[at]);
            }
            bad += check_close("mass", paged_col(&now, head, s, 0), &want, 1, 1e-6, 1e-5);
            *paged_col(&then, head, s, 0) = *paged_col(&now, head, s, 0);
        }
    }
    bad += memcmp(image, d->image, bytes) != 0;
    free(image);
    return bad;
}

/* The rows in batches of `most`, outputs in another order, must repeat the bits of the run of all. */
static int compare_batches(decode *d, int most, kv_order order) {
    const size_t bytes = paged_heads(&d->p.c) * d->p.c.page_cap * d->p.c.layout.bytes;
    char *now[N_BUFFERS], *image = (char *)pages_allocate(bytes);
    memcpy(image, d->image, bytes);
    for (int i = 0; i < N_BUFFERS; i++) {
        now[i] = (char *)pages_allocate(d->b[i].bytes);
        memcpy(now[i], d->b[i].now, d->b[i].bytes);
    }
    reset_decode(d);
    d->order = order;
    int bad = 0, other = 0;
    for (int i = d->s.n - 1; i >= 0; i -= most) {
        const int first = i - most + 1 > 0 ? i - most + 1 : 0;
        bad += run_rows(d, first, i - first + 1, d->most_slots + 1700 * (i % 2), 1 + (i + most) % 8);
    }
    run_columns(d);
    fetch_decode(d);
    for (int i = 0; i < N_BUFFERS; i++) other += memcmp(now[i], d->b[i].now, d->b[i].bytes) != 0;
    other += memcmp(image, d->image, bytes) != 0;
    if (other) printf("  %d of 5 results have other bits in batches of %d\n", other, most);
    for (int i = 0; i < N_BUFFERS; i++) free(now[i]);
    free(image);
    return bad + other;
}

static int check_step(shape s, uint64_t seed) {
    decode *d = make_decode(s, seed);
    reset_decode(d);
    int bad = run_rows(d, 0, s.n, d->most_slots, 0);
    run_columns(d);
    fetch_decode(d);
    bad += compare_step(d);
    if (!bad && s.n > 1) bad += compare_batches(d, 1, KV_ORDER_BANDS) + compare_batches(d, 1, KV_ORDER_TURNED);
    if (!bad && s.n > 2) bad += compare_batches(d, 3, KV_ORDER_BANDS) + compare_batches(d, 3, KV_ORDER_TURNED);
    if (!bad && s.n > 8) bad += compare_batches(d, 11, KV_ORDER_BANDS);
    if (!bad && s.scored) bad += compare_mass(d);
    bad += pages_check_counters(d->counters);
    if (bad)
        printf("  ... at %d sequences, group %d, %d KV heads, head size %d, norm %d, gate %d, window %d, scores %d\n",
               s.n, s.group, s.n_kv_heads, s.head_dim, s.norm, s.parts, s.window, s.scored);
    free_decode(d);
    return bad;
}

/* ---- checks ---------------------------------------------------------------------------------------------------------
 */

static const int SHORT[] = {1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 500, 511, 512, 513, 31, 600};
static const int LONG[] = {5000, 1, 4096, 4097, 1025, 64, 2048, 769, 4352};
static const int LONGER[] = {16385, 16384, 3, 20000, 17409};
enum {
    N_SHORT = sizeof SHORT / sizeof *SHORT,
    N_LONG = sizeof LONG / sizeof *LONG,
    N_LONGER = sizeof LONGER / sizeof *LONGER
};

static int sixteen_rows(void) {
    static const int groups[] = {1, 2, 3, 4, 5, 8}, sizes[] = {32, 64, 96, 128};
    int bad = 0;
    for (int d = 0; d < 4; d++)
        for (int g = 0; g < 6; g++) {
            const int i = 6 * d + g;
            const shape s = {i % 2 ? 16 : 3,        groups[g],        1 + i % 3, sizes[d], (i + d) % 2, g % 3,
                             g % 2 ? 0 : 1 + 4 * d, (i + d) % 3 != 0, SHORT,     N_SHORT};
            bad += check_step(s, 10000 * (i + 1));
        }
    return bad;
}

static int long_caches(void) {
    static const shape shapes[] = {{3, 3, 2, 64, 0, 1, 8, 1, LONG, N_LONG},
                                   {1, 4, 3, 128, 1, 2, 32, 0, LONG, N_LONG},
                                   {4, 8, 1, 96, 1, 0, 1, 1, LONG, N_LONG},
                                   {2, 5, 2, 32, 0, 2, 0, 0, LONG, N_LONG},
                                   {2, 2, 2, 64, 1, 1, 4, 1, LONGER, N_LONGER}};
    int bad = 0;
    for (int i = 0; i < 5; i++) bad += check_step(shapes[i], 1000000 * (i + 1));
    return bad;
}

static int limits(void) {
    const shape s = {2, 3, 2, 64, 1, 1, 8, 1, SHORT, N_SHORT};
    decode *d = make_decode(s, 77);
    kv_cuda_decode_attend a = arguments(d, 0, 0, 2, d->most_slots, 0), wrong;
    a.scratch = check_device(NULL, a.scratch_bytes);
    reset_decode(d);
    int bad = 0;
    wrong = a, wrong.scratch_bytes--;
    bad += kv_cuda_decode_attend_slots(&wrong, 0) != cudaErrorInvalidValue;
    wrong = a, wrong.splits = 9;
    bad += kv_cuda_decode_attend_slots(&wrong, 0) != cudaErrorInvalidValue;
    wrong = a, wrong.head_dim = 48;
    bad += kv_cuda_decode_attend_slots(&wrong, 0) != cudaErrorInvalidValue;
    wrong = a, wrong.n_heads = 9, wrong.n_kv_heads = 1;
    bad += kv_cuda_decode_attend_slots(&wrong, 0) != cudaErrorInvalidValue;
    fetch_decode(d);
    for (int i = 0; i < N_BUFFERS; i++) bad += count_poison(d->b[i].now, d->b[i].bytes);
    bad += memcmp(d->image, d->p.c.image, paged_heads(&d->p.c) * d->p.c.page_cap * d->p.c.layout.bytes) != 0;
    CHECK_CUDA(cudaFree(a.scratch));
    free_decode(d);
    return bad;
}

int main(int argc, char **argv) {
    static const check checks[] = {
        {"steps of up to 16 sequences are those of double, and the same bits in other batches", sixteen_rows},
        {"steps over long caches, likewise", long_caches},
        {"too little scratch, other numbers of splits, other head sizes and larger groups are refused", limits},
    };
    return check_main(argc, argv, checks, sizeof checks / sizeof *checks);
}
