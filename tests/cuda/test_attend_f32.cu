/* test_attend_f32.cu - fp32 attention over the paged cache and the attention mass of both types, against plain
 * double-precision twins, and the promise that a row's bits depend on its own slots only. */
#include "tests/cuda/paged.cuh"

enum { N_LAYERS = 2, LAYER = 1, MOST_SEGS = 6, COLS = 3 };

typedef struct attend_case {
    kv_cache_type type;
    int head_dim, group, n_kv_heads, n_segs;
    int n[MOST_SEGS], slots[MOST_SEGS]; /* rows of a segment; slots of KV head 0, its rows included */
    int ragged;                         /* more slots in each further KV head */
} attend_case;

typedef struct attend_run {
    const attend_case *c;
    int n_heads, n_rows, most_slots;
    size_t q_stride;
    kv_cuda_segment segs[MOST_SEGS];
    float *q; /* host (n_rows, q_stride), values as the type holds them */
    void *d_q, *d_segs;
    float *out, *lse; /* device */
    paged cache;
    kv_cuda_attend a;
} attend_run;

static int slots_of(const attend_case *c, int seg, int kv_head) {
    return c->slots[seg] + c->ragged * kv_head;
}

static void *upload_queries(const attend_run *r) {
    size_t n = r->n_rows * r->q_stride, size = r->c->type == KV_CACHE_BF16 ? 2 : 4;
    char *raw = (char *)malloc(n * size);
    if (!raw) exit(1);
    for (size_t i = 0; i < n; i++) check_set_element(raw, r->c->type, i, r->q[i]);
    void *p = check_device(raw, n * size);
    free(raw);
    return p;
}

/* The segments of c, of sequences in reverse order, rows packed.  Content of a sequence depends on `seed` + its
 * segment. */
static void make_run(attend_run *r, const attend_case *c, uint64_t seed) {
    memset(r, 0, sizeof *r);
    r->c = c;
    r->n_heads = c->group * c->n_kv_heads;
    r->q_stride = (size_t)(r->n_heads + 2 * c->n_kv_heads) * c->head_dim;
    int most_rows = 0;
    for (int s = 0; s < c->n_segs; s++) {
        r->segs[s] = {c->n_segs - 1 - s, r->n_rows, c->n[s], slots_of(c, s, 0) - c->n[s]};
        r->n_rows += c->n[s];
        most_rows = c->n[s] > most_rows ? c->n[s] : most_rows;
        int slots = slots_of(c, s, c->n_kv_heads - 1);
        r->most_slots = slots > r->most_slots ? slots : r->most_slots;
    }
    paged_make(&r->cache, c->type, c->head_dim, COLS, 1, c->n_segs, N_LAYERS, c->n_kv_heads,
               r->most_slots / KV_PAGE + 1, NULL, 0);
    r->q = (float *)malloc(r->n_rows * r->q_stride * sizeof(float));
    if (!r->q) exit(1);
    for (int s = 0; s < c->n_segs; s++) {
        for (int h = 0; h < c->n_kv_heads; h++)
            paged_fill(&r->cache, paged_head(&r->cache, r->segs[s].seq, LAYER, h), slots_of(c, s, h),
                       seed + 100 * s + 10 * h);
        for (size_t i = 0; i < c->n[s] * r->q_stride; i++) {
            float *q = r->q + r->segs[s].row * r->q_stride + i;
            check_set_element(q, c->type, 0, 3 * check_random(seed + 100 * s + 7, i));
            *q = check_element(q, c->type, 0);
        }
    }
    paged_upload(&r->cache);
    r->d_q = upload_queries(r);
    r->d_segs = check_device(r->segs, sizeof r->segs);
    r->out = (float *)check_device(NULL, (size_t)r->n_rows * r->n_heads * c->head_dim * sizeof(float));
    r->lse = (float *)check_device(NULL, (size_t)r->n_rows * r->n_heads * sizeof(float));
    kv_cuda_attend a = {};
    a.q = r->d_q, a.q_stride = r->q_stride, a.out = r->out, a.lse = r->lse;
    a.segs = (kv_cuda_segment *)r->d_segs, a.n_segs = c->n_segs, a.n_rows = r->n_rows, a.most_rows = most_rows;
    a.seqs = r->cache.seqs, a.layout = r->cache.layout, a.layer = LAYER, a.n_heads = r->n_heads;
    a.n_kv_heads = c->n_kv_heads, a.head_dim = c->head_dim, a.most_slots = r->most_slots;
    a.scale = 1 / sqrtf((float)c->head_dim);
    r->a = a;
}

static void free_run(attend_run *r) {
    paged_free(&r->cache);
    free(r->q);
    cudaFree(r->d_q), cudaFree(r->d_segs), cudaFree(r->out), cudaFree(r->lse);
}

/* Keys (or values) of a head as fp32 (slots, head_dim). */
static float *head_values(const attend_run *r, size_t head, int is_v) {
    int n = r->cache.n_slots[head], d = r->c->head_dim;
    float *x = (float *)malloc((size_t)n * d * sizeof(float));
    if (!x) exit(1);
    for (int s = 0; s < n; s++)
        for (int i = 0; i < d; i++) x[(size_t)s * d + i] = paged_get(&r->cache, head, is_v, s, i);
    return x;
}

/* prob (n) of one query over n slots; returns the log of the sum of exp. */
static double softmax(double *prob, const float *q, const float *k, int d, int n, double scale) {
    double top = -INFINITY, sum = 0;
    for (int s = 0; s < n; s++) {
        prob[s] = 0;
        for (int i = 0; i < d; i++) prob[s] += (double)q[i] * k[(size_t)s * d + i];
        prob[s] *= scale;
        top = fmax(top, prob[s]);
    }
    for (int s = 0; s < n; s++) sum += prob[s] = exp(prob[s] - top);
    for (int s = 0; s < n; s++) prob[s] /= sum;
    return top + log(sum);
}

typedef struct expected {
    double *out, *lse;       /* as the kernel's */
    double *mass[MOST_SEGS]; /* (n_kv_heads, most_slots) per segment, added by its rows */
} expected;

static void expect(expected *e, const attend_run *r) {
    const attend_case *c = r->c;
    int d = c->head_dim;
    double *prob = (double *)malloc(r->most_slots * sizeof(double));
    e->out = (double *)calloc((size_t)r->n_rows * r->n_heads * d, sizeof(double));
    e->lse = (double *)calloc((size_t)r->n_rows * r->n_heads, sizeof(double));
    for (int s = 0; s < c->n_segs; s++) {
        e->mass[s] = (double *)calloc((size_t)c->n_kv_heads * r->most_slots, sizeof(double));
        for (int h = 0; h < c->n_kv_heads; h++) {
            size_t head = paged_head(&r->cache, r->segs[s].seq, LAYER, h);
            float *k = head_values(r, head, 0), *v = head_values(r, head, 1);
            for (int i = 0; i < c->n[s] * c->group; i++) {
                int row = r->segs[s].row + i / c->group, query = h * c->group + i % c->group;
                int n = r->cache.n_slots[head] - c->n[s] + i / c->group + 1;
                size_t at = (size_t)row * r->n_heads + query;
                e->lse[at] = softmax(prob, r->q + row * r->q_stride + query * d, k, d, n, 1 / sqrt(d));
                for (int j = 0; j < n; j++) {
                    e->mass[s][(size_t)h * r->most_slots + j] += prob[j];
                    for (int x = 0; x < d; x++) e->out[at * d + x] += prob[j] * v[(size_t)j * d + x];
                }
            }
            free(k), free(v);
        }
    }
    free(prob);
}

static void forget(expected *e, int n_segs) {
    free(e->out), free(e->lse);
    for (int s = 0; s < n_segs; s++) free(e->mass[s]);
}

static int attend_matches(const attend_case *c) {
    attend_run r;
    expected e;
    make_run(&r, c, c->head_dim);
    expect(&e, &r);
    size_t n_lse = (size_t)r.n_rows * r.n_heads, n_out = n_lse * c->head_dim;
    CHECK_CUDA(kv_cuda_attend_f32(&r.a, 0));
    float *out = (float *)check_host(r.out, n_out * sizeof(float)),
          *lse = (float *)check_host(r.lse, n_lse * sizeof(float));
    int bad =
        check_close("attention", out, e.out, n_out, 3e-6, 2e-6) + check_close("lse", lse, e.lse, n_lse, 3e-6, 1e-6);
    if (bad) printf("  head_dim %d, group %d\n", c->head_dim, c->group);
    forget(&e, c->n_segs), free_run(&r);
    free(out), free(lse);
    return bad;
}

static const attend_case mixed = {KV_CACHE_F32, 64, 3, 2, 5, {1, 7, 33, 1, 2}, {1, 31, 70, 540, 1031}, 13};

static int attend_matches_the_reference_for_every_head_size(void) {
    int bad = 0;
    for (int d : {2, 32, 34, 64, 80, 96, 128, 254, 256}) {
        attend_case c = mixed;
        c.head_dim = d;
        bad += attend_matches(&c);
    }
    return bad;
}

static int attend_matches_the_reference_for_every_group(void) {
    int bad = 0;
    for (int g = 1; g <= KV_CUDA_GROUP_MAX; g++) {
        attend_case c = mixed;
        c.group = g, c.n_kv_heads = g % 2 ? 3 : 1, c.head_dim = g % 4 == 0 ? 256 : 34;
        bad += attend_matches(&c);
    }
    return bad;
}

static int attend_handles_a_long_cache(void) {
    attend_case c = {KV_CACHE_F32, 64, 2, 1, 2, {1, 3}, {20011, 4096}, 0};
    return attend_matches(&c);
}

static int attend_refuses_what_it_cannot_do(void) {
    attend_run r;
    int bad = 0;
    make_run(&r, &mixed, 1);
    kv_cuda_attend a = r.a;
    a.head_dim = 258, bad += kv_cuda_attend_f32(&a, 0) != cudaErrorInvalidValue;
    a = r.a, a.n_heads = 9 * a.n_kv_heads, bad += kv_cuda_attend_f32(&a, 0) != cudaErrorInvalidValue;
    a = r.a, a.layout.has_mass = 0, bad += kv_cuda_mass_rows(&a, 0) != cudaErrorInvalidValue;
    a = r.a, a.lse = NULL, bad += kv_cuda_mass_rows(&a, 0) != cudaErrorInvalidValue;
    free_run(&r);
    return bad;
}

/* Fills lse (device) with the reference's, so that mass is tested apart from attention. */
static void give_lse(attend_run *r, const expected *e) {
    size_t n = (size_t)r->n_rows * r->n_heads;
    float *lse = (float *)malloc(n * sizeof(float));
    if (!lse) exit(1);
    for (size_t i = 0; i < n; i++) lse[i] = (float)e->lse[i];
    CHECK_CUDA(cudaMemcpy(r->lse, lse, n * sizeof(float), cudaMemcpyHostToDevice));
    free(lse);
}

static int mass_matches(const attend_case *c) {
    attend_run r;
    expected e;
    make_run(&r, c, c->head_dim);
    expect(&e, &r);
    give_lse(&r, &e);
    size_t bytes = paged_heads(&r.cache) * r.cache.page_cap * r.cache.layout.bytes;
    char *before = (char *)check_host(r.cache.pages, bytes);
    CHECK_CUDA(kv_cuda_mass_rows(&r.a, 0));
    paged_download(&r.cache);
    int bad = 0;
    for (int s = 0; s < c->n_segs; s++)
        for (int h = 0; h < c->n_kv_heads; h++) {
            size_t head = paged_head(&r.cache, r.segs[s].seq, LAYER, h);
            for (int i = 0; i < r.cache.n_slots[head]; i++) {
                float *mass = paged_col(&r.cache, head, i, 0),
                      *old = (float *)(before + ((char *)mass - r.cache.image));
                double want = *old + e.mass[s][(size_t)h * r.most_slots + i];
                bad += !(fabs(*mass - want) <= 2e-6 + 1e-5 * want);
                *mass = *old;
            }
        }
    if (bad) printf("  mass: %d slots differ\n", bad);
    if (memcmp(before, r.cache.image, bytes) != 0) printf("  something but the mass changed\n"), bad++;
    if (bad) printf("  type %d, head_dim %d, group %d\n", c->type, c->head_dim, c->group);
    forget(&e, c->n_segs), free_run(&r);
    free(before);
    return bad;
}

static int mass_matches_the_reference(void) {
    int bad = 0;
    for (int d : {2, 32, 34, 64, 96, 128, 256}) {
        attend_case c = mixed;
        c.head_dim = d;
        bad += mass_matches(&c);
        if (d % 16) continue;
        c.type = KV_CACHE_BF16, c.n[2] = 65;
        bad += mass_matches(&c);
    }
    for (int g = 1; g <= KV_CUDA_GROUP_MAX; g++) {
        attend_case c = mixed;
        c.group = g, c.type = g % 2 ? KV_CACHE_F32 : KV_CACHE_BF16;
        bad += mass_matches(&c);
    }
    return bad;
}

/* Attention (fp32; bf16 takes the reference's lse) and mass, both read back into out, lse and the cache's image. */
typedef struct outcome {
    float *out, *lse;
} outcome;

static void read_outcome(attend_run *r, outcome *o) {
    size_t n = (size_t)r->n_rows * r->n_heads * sizeof(float);
    o->out = (float *)check_host(r->out, n * r->c->head_dim);
    o->lse = (float *)check_host(r->lse, n);
    paged_download(&r->cache);
}

/* Runs rows [from, from + n) of every segment, as if the later ones were not there yet. */
static void run_rows(attend_run *r, int from, int n) {
    const attend_case *c = r->c;
    kv_cuda_segment segs[MOST_SEGS];
    for (int s = 0; s < c->n_segs; s++) {
        segs[s] = r->segs[s];
        segs[s].row += from, segs[s].n = n, segs[s].pos += from;
        for (int h = 0; h < c->n_kv_heads; h++)
            r->cache.n_slots[paged_head(&r->cache, segs[s].seq, LAYER, h)] = slots_of(c, s, h) - c->n[s] + from + n;
    }
    CHECK_CUDA(cudaMemcpy(r->d_segs, segs, sizeof segs, cudaMemcpyHostToDevice));
    CHECK_CUDA(cudaMemcpy(r->cache.d_slots, r->cache.n_slots, paged_heads(&r->cache) * sizeof(int32_t),
                          cudaMemcpyHostToDevice));
    kv_cuda_attend a = r->a;
    a.most_rows = n;
    if (c->type == KV_CACHE_F32) CHECK_CUDA(kv_cuda_attend_f32(&a, 0));
    CHECK_CUDA(kv_cuda_mass_rows(&a, 0));
}

static void give_reference_lse(attend_run *r) {
    expected e;
    if (r->c->type == KV_CACHE_F32) return;
    expect(&e, r);
    give_lse(r, &e);
    forget(&e, r->c->n_segs);
}

/* Segment i of x against segment j of y, bit for bit. */
static int same_segment(const char *what, attend_run *x, const outcome *ox, int i, attend_run *y, const outcome *oy,
                        int j) {
    int n = x->c->n[i], bad = 0;
    size_t row = (size_t)x->n_heads, d = x->c->head_dim, bytes = n * row * sizeof(float);
    bad += memcmp(ox->lse + x->segs[i].row * row, oy->lse + y->segs[j].row * row, bytes) != 0;
    bad += memcmp(ox->out + x->segs[i].row * row * d, oy->out + y->segs[j].row * row * d, bytes * d) != 0;
    for (int h = 0; h < x->c->n_kv_heads; h++)
        for (int s = 0; s < slots_of(x->c, i, h); s++) {
            float *a = paged_col(&x->cache, paged_head(&x->cache, x->segs[i].seq, LAYER, h), s, 0);
            float *b = paged_col(&y->cache, paged_head(&y->cache, y->segs[j].seq, LAYER, h), s, 0);
            bad += memcmp(a, b, sizeof *a) != 0;
        }
    if (bad) printf("  %s: type %d, segment %d: %d differences\n", what, x->c->type, i, bad);
    return bad;
}

static void run_whole(attend_run *r, outcome *o) {
    if (r->c->type == KV_CACHE_F32) CHECK_CUDA(kv_cuda_attend_f32(&r->a, 0));
    CHECK_CUDA(kv_cuda_mass_rows(&r->a, 0));
    read_outcome(r, o);
}

static void free_outcome(attend_run *r, outcome *o) {
    free(o->out), free(o->lse);
    free_run(r);
}

static int packing_changes_no_bit(void) {
    int bad = 0;
    for (kv_cache_type type : {KV_CACHE_F32, KV_CACHE_BF16}) {
        attend_case c = mixed;
        attend_run all, one;
        outcome all_out, one_out;
        c.type = type;
        make_run(&all, &c, 11);
        give_reference_lse(&all);
        run_whole(&all, &all_out);
        for (int s = 0; s < c.n_segs; s++) {
            attend_case alone = c;
            alone.n_segs = 1, alone.n[0] = c.n[s], alone.slots[0] = c.slots[s];
            make_run(&one, &alone, 11 + 100 * s);
            give_reference_lse(&one);
            one.a.most_slots += 1000;
            run_whole(&one, &one_out);
            bad += same_segment("alone", &one, &one_out, 0, &all, &all_out, s);
            free_outcome(&one, &one_out);
        }
        free_outcome(&all, &all_out);
    }
    return bad;
}

static int chunks_change_no_bit(void) {
    int bad = 0;
    for (kv_cache_type type : {KV_CACHE_F32, KV_CACHE_BF16})
        for (int step : {1, 5, 31}) {
            attend_case c = {type, 64, 3, 2, 2, {32, 32}, {32, 530}, 9};
            attend_run whole, cut;
            outcome whole_out, cut_out;
            make_run(&whole, &c, 5), make_run(&cut, &c, 5);
            give_reference_lse(&whole), give_reference_lse(&cut);
            run_whole(&whole, &whole_out);
            for (int from = 0; from < 32; from += step) run_rows(&cut, from, step < 32 - from ? step : 32 - from);
            read_outcome(&cut, &cut_out);
            for (int s = 0; s < 2; s++) bad += same_segment("cut", &cut, &cut_out, s, &whole, &whole_out, s);
            free_outcome(&whole, &whole_out), free_outcome(&cut, &cut_out);
        }
    return bad;
}

static const check checks[] = {
    {"attend_matches_the_reference_for_every_head_size", attend_matches_the_reference_for_every_head_size},
    {"attend_matches_the_reference_for_every_group", attend_matches_the_reference_for_every_group},
    {"attend_handles_a_long_cache", attend_handles_a_long_cache},
    {"attend_refuses_what_it_cannot_do", attend_refuses_what_it_cannot_do},
    {"mass_matches_the_reference", mass_matches_the_reference},
    {"packing_changes_no_bit", packing_changes_no_bit},
    {"chunks_change_no_bit", chunks_change_no_bit},
};

int main(int argc, char **argv) {
    return check_main(argc, argv, checks, sizeof checks / sizeof checks[0]);
}
