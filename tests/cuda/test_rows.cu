/* test_rows.cu - the kernels over rows against plain double-precision twins: embedding, norm, SwiGLU, the append with
 * its norms and rotation, the retention gate. */
#include "tests/cuda/order.cuh"
#include "tests/cuda/paged.cuh"

#include "policies/policy.h"

static size_t size_of(kv_cuda_type type) {
    return type == KV_CUDA_BF16 ? 2 : 4;
}

static kv_cache_type cache_type(kv_cuda_type type) {
    return type == KV_CUDA_BF16 ? KV_CACHE_BF16 : KV_CACHE_F32;
}

static double eps_of(kv_cuda_type type) {
    return type == KV_CUDA_BF16 ? 1.0 / 255 : 2e-6;
}

/* n random values of a type, at host and device; *seen are the values as fp32. */
static void *random_values(kv_cuda_type type, size_t n, uint64_t seed, float range, float **seen) {
    void *raw = malloc(n * size_of(type));
    *seen = (float *)malloc(n * sizeof(float));
    if (!raw || !*seen) exit(1);
    for (size_t i = 0; i < n; i++) {
        check_set_element(raw, cache_type(type), i, range * check_random(seed, i));
        (*seen)[i] = check_element(raw, cache_type(type), i);
    }
    void *p = check_device(raw, n * size_of(type));
    free(raw);
    return p;
}

/* Device values of a type as fp32. */
static float *read_values(kv_cuda_type type, const void *p, size_t n) {
    void *raw = check_host(p, n * size_of(type));
    float *f = (float *)malloc(n * sizeof(float));
    if (!f) exit(1);
    for (size_t i = 0; i < n; i++) f[i] = check_element(raw, cache_type(type), i);
    free(raw);
    return f;
}

static double *doubles(size_t n) {
    double *d = (double *)calloc(n, sizeof *d);
    if (!d) exit(1);
    return d;
}

static int compare(const char *what, kv_cuda_type type, const void *got, double *want, size_t n, double abs_tol) {
    float *f = read_values(type, got, n);
    int bad = check_close(what, f, want, n, abs_tol, eps_of(type));
    free(f);
    free(want);
    return bad;
}

static const kv_cuda_type types[] = {KV_CUDA_BF16, KV_CUDA_F32};

static int embed_case(kv_cuda_type type, int n, int dim) {
    enum { VOCAB = 50 };
    float *table;
    void *embed = random_values(type, (size_t)VOCAB * dim, dim, 1, &table);
    int32_t *token = (int32_t *)malloc(n * sizeof *token);
    double *want = doubles((size_t)n * dim);
    for (int r = 0; r < n; r++) {
        token[r] = r % 7 == 5 ? KV_ENUM : r * 13 % VOCAB;
        for (int i = 0; i < dim && token[r] >= 0; i++) want[(size_t)r * dim + i] = table[(size_t)token[r] * dim + i];
    }
    int32_t *d_token = (int32_t *)check_device(token, n * sizeof *token);
    float *x = (float *)check_device(NULL, (size_t)n * dim * sizeof(float));
    CHECK_CUDA(kv_cuda_embed_rows(x, embed, type, d_token, n, dim, 0));
    float *got = (float *)check_host(x, (size_t)n * dim * sizeof(float));
    int bad = check_close("embedding", got, want, (size_t)n * dim, 0, 0);
    free(table), free(token), free(want), free(got);
    cudaFree(embed), cudaFree(d_token), cudaFree(x);
    return bad;
}

static int embed_rows_are_those_of_the_tokens(void) {
    const int dims[] = {1, 31, 33, 64, 576, 2049, 2560};
    int bad = 0;
    for (kv_cuda_type type : types)
        for (int dim : dims) bad += embed_case(type, 1, dim) + embed_case(type, 37, dim);
    return bad;
}

static int norm_case(kv_cuda_type type, int n, int dim) {
    float *x, *w;
    void *d_x = random_values(KV_CUDA_F32, (size_t)n * dim, dim + n, 3, &x);
    void *d_w = random_values(KV_CUDA_F32, dim, dim, 2, &w);
    double *want = doubles((size_t)n * dim);
    for (int r = 0; r < n; r++) {
        double s = 0;
        for (int i = 0; i < dim; i++) s += (double)x[(size_t)r * dim + i] * x[(size_t)r * dim + i];
        s = 1 / sqrt(s / dim + 1e-5);
        for (int i = 0; i < dim; i++) want[(size_t)r * dim + i] = x[(size_t)r * dim + i] * s * w[i];
    }
    size_t bytes = (size_t)n * dim * size_of(type), row = (size_t)dim * size_of(type);
    void *out = check_device(NULL, bytes), *alone = check_device(NULL, row);
    CHECK_CUDA(kv_cuda_norm_rows(out, type, KV_ORDER_PLAIN, (float *)d_x, (float *)d_w, 1e-5f, n, dim, 0));
    CHECK_CUDA(kv_cuda_norm_rows(alone, type, KV_ORDER_PLAIN, (float *)d_x + (size_t)(n - 1) * dim, (float *)d_w, 1e-5f,
                                 1, dim, 0));
    int bad = compare("norm", type, out, want, (size_t)n * dim, 1e-6);
    char *all = (char *)check_host(out, bytes), *one = (char *)check_host(alone, row);
    if (memcmp(all + bytes - row, one, row) != 0) printf("  a row alone has other bits\n"), bad++;
    free(x), free(w), free(all), free(one);
    cudaFree(d_x), cudaFree(d_w), cudaFree(out), cudaFree(alone);
    return bad;
}

/* Norms in bands are those of rows in plain order, and the rows behind them are left alone. */
static int norm_in_bands(void) {
    enum { ROWS = 13 };
    static const int dims[] = {32, 96, 576, 2560};
    const size_t whole = kv_cuda_whole_bands(ROWS);
    int bad = 0;
    for (int dim : dims) {
        float *x, *w;
        float *d_x = (float *)random_values(KV_CUDA_F32, (size_t)ROWS * dim, dim, 3, &x);
        float *d_w = (float *)random_values(KV_CUDA_F32, dim, dim, 2, &w);
        const size_t bytes = whole * dim * sizeof(__nv_bfloat16);
        void *plain = check_device(NULL, bytes), *bands = check_device(NULL, bytes);
        CHECK_CUDA(kv_cuda_norm_rows(plain, KV_CUDA_BF16, KV_ORDER_PLAIN, d_x, d_w, 1e-5f, ROWS, dim, 0));
        CHECK_CUDA(kv_cuda_norm_rows(bands, KV_CUDA_BF16, KV_ORDER_BANDS, d_x, d_w, 1e-5f, ROWS, dim, 0));
        bad += kv_cuda_norm_rows(bands, KV_CUDA_F32, KV_ORDER_BANDS, d_x, d_w, 1e-5f, 1, 32, 0) == cudaSuccess;
        char *want = (char *)check_host(plain, bytes), *got = (char *)check_host(bands, bytes);
        reorder((__nv_bfloat16 *)got, KV_ORDER_BANDS, KV_ORDER_PLAIN, whole, dim);
        if (memcmp(want, got, bytes)) printf("  other values in bands, width %d\n", dim), bad++;
        bad += kv_cuda_norm_rows(bands, KV_CUDA_BF16, KV_ORDER_BANDS, d_x, d_w, 1e-5f, 1, 31, 0) == cudaSuccess;
        bad += kv_cuda_norm_rows(bands, KV_CUDA_BF16, KV_ORDER_TURNED, d_x, d_w, 1e-5f, 1, 32, 0) == cudaSuccess;
        free(x), free(w), free(want), free(got);
        cudaFree(d_x), cudaFree(d_w), cudaFree(plain), cudaFree(bands);
    }
    return bad;
}

static int norm_matches_the_reference(void) {
    const int dims[] = {1, 31, 33, 64, 576, 960, 2048, 2560, 4096, 5120, 8191, 16384};
    int bad = 0;
    for (kv_cuda_type type : types)
        for (int dim : dims) bad += norm_case(type, 1, dim) + norm_case(type, 5, dim);
    return bad;
}

static int swiglu_case(kv_cuda_type type, int n, int n_ff) {
    float *gu;
    void *d_gu = random_values(type, (size_t)n * 2 * n_ff, n_ff, 12, &gu);
    double *want = doubles((size_t)n * n_ff);
    for (int r = 0; r < n; r++)
        for (int i = 0; i < n_ff; i++) {
            double g = gu[(size_t)r * 2 * n_ff + i], u = gu[(size_t)r * 2 * n_ff + n_ff + i];
            want[(size_t)r * n_ff + i] = g / (1 + exp(-g)) * u;
        }
    void *out = check_device(NULL, (size_t)n * n_ff * size_of(type));
    CHECK_CUDA(kv_cuda_swiglu_rows(out, d_gu, type, n, n_ff, 0));
    int bad = compare("swiglu", type, out, want, (size_t)n * n_ff, 1e-6);
    free(gu);
    cudaFree(d_gu), cudaFree(out);
    return bad;
}

static int swiglu_matches_the_reference(void) {
    const int widths[] = {1, 31, 33, 1536, 2049, 9728};
    int bad = 0;
    for (kv_cuda_type type : types)
        for (int n_ff : widths) bad += swiglu_case(type, 1, n_ff) + swiglu_case(type, 7, n_ff);
    return bad;
}

static double ref_silu(double x) {
    return x / (1 + exp(-x));
}

static int gate_case(kv_gate_type type, int n, int n_hidden, int n_kv_heads, int n_parts) {
    int twice = type == KV_GATE_RG3, n_first = (1 + twice) * n_hidden, stride = n_parts * n_first + 3, n_stats = 3;
    float *mid, *b1, *w2, *bias, *map, *map_b;
    kv_cuda_gate g = {};
    g.n_stats = n_stats, g.at = 1, g.mid_stride = stride, g.n_parts = n_parts;
    g.n = n, g.n_hidden = n_hidden, g.n_kv_heads = n_kv_heads;
    float *d_b1 = (float *)random_values(KV_CUDA_F32, n_hidden, 2, 1, &b1);
    size_t n_map = type == KV_GATE_RG10 ? (size_t)n_hidden * n_hidden : 1;
    float *d_map = (float *)random_values(KV_CUDA_F32, n_map, 5, 2 / sqrtf(n_hidden), &map);
    float *d_map_b = (float *)random_values(KV_CUDA_F32, n_hidden, 6, 1, &map_b);
    g.mid = (float *)random_values(KV_CUDA_F32, (size_t)n * stride, n_hidden, 4, &mid);
    g.w2 = (float *)random_values(KV_CUDA_F32, (size_t)n_kv_heads * n_hidden, 3, 0.5f, &w2);
    g.bias = (float *)random_values(KV_CUDA_F32, n_kv_heads, 4, 30, &bias);
    if (!twice) g.b1 = d_b1;
    if (type == KV_GATE_RG10) g.map = d_map, g.map_b = d_map_b;
    size_t n_out = (size_t)n * n_kv_heads * n_stats;
    double *want = doubles(n_out), *act = doubles(n_hidden), *last = doubles(n_hidden);
    float *before = (float *)malloc(n_out * sizeof(float));
    for (size_t i = 0; i < n_out; i++) want[i] = before[i] = check_random(9, i);
    for (int r = 0; r < n; r++) {
        for (int i = 0; i < n_hidden; i++) {
            const float *m = mid + (size_t)r * stride + i;
            double x = m[0] + (n_parts == 2 ? (double)m[n_first] : 0);
            const float *u = m + n_hidden;
            act[i] = twice ? ref_silu(x) * (u[0] + (n_parts == 2 ? (double)u[n_first] : 0)) : ref_silu(x + b1[i]);
        }
        for (int i = 0; i < n_hidden; i++) {
            double z = map_b[i];
            for (int k = 0; g.map && k < n_hidden; k++) z += act[k] * map[(size_t)i * n_hidden + k];
            last[i] = g.map ? ref_silu(z) : act[i];
        }
        for (int h = 0; h < n_kv_heads; h++) {
            double z = bias[h];
            for (int i = 0; i < n_hidden; i++) z += last[i] * w2[(size_t)h * n_hidden + i];
            want[((size_t)r * n_kv_heads + h) * n_stats + g.at] = z >= 0 ? -log1p(exp(-z)) : z - log1p(exp(z));
        }
    }
    g.stats = (float *)check_device(before, n_out * sizeof(float));
    CHECK_CUDA(kv_cuda_gate_rows(&g, 0));
    float *got = (float *)check_host(g.stats, n_out * sizeof(float));
    /* the dot product carries the rounding of its terms, which rg3 and rg10 have twice; logsigmoid has slope <= 1 */
    int bad = check_close("gate", got, want, n_out, 2e-7 * sqrt(n_hidden) * (type == KV_GATE_RG ? 4 : 40), 2e-6);
    free(mid), free(b1), free(w2), free(bias), free(map), free(map_b), free(want), free(act), free(last), free(before);
    free(got);
    cudaFree((void *)g.mid), cudaFree((void *)g.w2), cudaFree((void *)g.bias), cudaFree(g.stats);
    cudaFree(d_b1), cudaFree(d_map), cudaFree(d_map_b);
    return bad;
}

static int gate_matches_the_reference(void) {
    int bad = gate_case(KV_GATE_RG, 2, 12288, 2, 1);
    for (kv_gate_type type : {KV_GATE_RG, KV_GATE_RG3, KV_GATE_RG10})
        bad += gate_case(type, 1, 1, 1, 1) + gate_case(type, 33, 31, 3, 1) + gate_case(type, 5, 512, 8, 2) +
               gate_case(type, 3, 129, 33, 2);
    return bad;
}

static int keys_and_values_stand_head_by_head(void) {
    int bad = 0, n = 5, n_kv_heads = 3, d = 96;
    size_t all = (size_t)n * n_kv_heads * d;
    for (kv_cuda_type type : types) {
        float *k, *v;
        void *d_k = random_values(type, all, 1, 1, &k), *d_v = random_values(type, all, 2, 1, &v);
        void *out = check_device(NULL, 2 * all * size_of(type));
        double *want = doubles(2 * all);
        for (size_t i = 0; i < all; i++) {
            want[i / d * 2 * d + i % d] = k[i];
            want[i / d * 2 * d + d + i % d] = v[i];
        }
        CHECK_CUDA(kv_cuda_pack_kv(out, d_k, d_v, type, n, n_kv_heads, d, 0));
        bad += compare("keys and values", type, out, want, 2 * all, 0);
        free(k), free(v);
        cudaFree(d_k), cudaFree(d_v), cudaFree(out);
    }
    return bad;
}

typedef struct append_case {
    kv_cuda_type type;
    int head_dim, n_heads, n_kv_heads;
    int norm, window, has_mass, n_stats, stats,
        outs; /* stats 0: the array is NULL, outs: k_out and v_out are asked for */
    int n_segs;
    kv_cuda_segment segs[20]; /* of sequences 0, 1, ... */
    int before[20];           /* slots held before, of KV head 0; head h has 5 h more when ragged */
    int ragged;
} append_case;

enum { N_LAYERS = 2, LAYER = 1, N_POSITIONS = 3000 };

typedef struct append_run {
    const append_case *c;
    int n, width, n_cols, page_cap;
    float *qkv, *q_norm, *k_norm, *cos, *sin, *stats; /* host */
    int32_t *pos, *seq, *back;
    void *d_qkv, *ring, *k_out, *v_out;
    size_t n_ring; /* floats per sequence */
    paged cache;
} append_run;

static int slots_before(const append_case *c, int seg, int kv_head) {
    return c->before[seg] + (c->ragged ? 5 * kv_head : 0);
}

static void describe_rows(append_run *r) {
    const append_case *c = r->c;
    for (int s = 0; s < c->n_segs; s++) r->n += c->segs[s].n;
    r->pos = (int32_t *)malloc(3 * r->n * sizeof(int32_t));
    r->seq = r->pos + r->n, r->back = r->seq + r->n;
    for (int s = 0; s < c->n_segs; s++)
        for (int i = 0; i < c->segs[s].n; i++) {
            int row = c->segs[s].row + i;
            r->pos[row] = c->segs[s].pos + i, r->seq[row] = s, r->back[row] = c->segs[s].n - i;
        }
    r->width = (c->n_heads + 2 * c->n_kv_heads) * c->head_dim;
    r->n_cols = c->has_mass + c->n_stats;
    for (int s = 0; s < c->n_segs; s++) {
        int need = (slots_before(c, s, c->n_kv_heads - 1) + c->segs[s].n) / KV_PAGE + 1;
        r->page_cap = need > r->page_cap ? need : r->page_cap;
    }
}

static cudaError_t call_append(append_run *r) {
    const append_case *c = r->c;
    describe_rows(r);
    size_t d = c->head_dim, nk = (size_t)r->n * c->n_kv_heads;
    r->n_ring = (size_t)N_LAYERS * c->window * c->n_heads * d;
    r->ring = check_device(NULL, c->n_segs * r->n_ring * sizeof(float));
    paged_make(&r->cache, cache_type(c->type), c->head_dim, r->n_cols, c->has_mass, c->n_segs, N_LAYERS, c->n_kv_heads,
               r->page_cap, c->window ? (float *)r->ring : NULL, r->n_ring);
    for (int s = 0; s < c->n_segs; s++)
        for (int h = 0; h < c->n_kv_heads; h++)
            r->cache.n_slots[paged_head(&r->cache, s, LAYER, h)] = slots_before(c, s, h) + c->segs[s].n;
    paged_upload(&r->cache);
    kv_cuda_append a = {};
    r->d_qkv = a.qkv = random_values(c->type, (size_t)r->n * r->width, d, 2, &r->qkv);
    int32_t *rows = (int32_t *)check_device(r->pos, 3 * r->n * sizeof(int32_t));
    float *q_norm = (float *)random_values(KV_CUDA_F32, d, 5, 1.5f, &r->q_norm);
    float *k_norm = (float *)random_values(KV_CUDA_F32, d, 6, 1.5f, &r->k_norm);
    float *cos = (float *)random_values(KV_CUDA_F32, N_POSITIONS * d / 2, 7, 1, &r->cos);
    float *sin = (float *)random_values(KV_CUDA_F32, N_POSITIONS * d / 2, 8, 1, &r->sin);
    float *stats = (float *)random_values(KV_CUDA_F32, nk * c->n_stats, 9, 1, &r->stats);
    a.type = c->type;
    a.rows = {NULL, rows, rows + r->n, rows + 2 * r->n, r->n};
    a.seqs = r->cache.seqs, a.layout = r->cache.layout;
    a.layer = LAYER, a.n_heads = c->n_heads, a.n_kv_heads = c->n_kv_heads, a.head_dim = c->head_dim;
    a.window = c->window, a.eps = 1e-6f, a.rope_cos = cos, a.rope_sin = sin;
    if (c->norm) a.q_norm = q_norm, a.k_norm = k_norm;
    if (c->stats) a.stats = stats;
    r->k_out = check_device(NULL, nk * d * size_of(c->type));
    r->v_out = check_device(NULL, nk * d * size_of(c->type));
    if (c->outs) a.k_out = r->k_out, a.v_out = r->v_out;
    cudaError_t rc = kv_cuda_append_rows(&a, 0);
    paged_download(&r->cache);
    cudaFree(rows), cudaFree(q_norm), cudaFree(k_norm), cudaFree(cos), cudaFree(sin), cudaFree(stats);
    return rc;
}

/* Head h of q and k (side by side) of a row, normed and rotated. */
static void rotate_reference(const append_run *r, int row, int h, double *out) {
    const append_case *c = r->c;
    int d = c->head_dim, half = d / 2;
    const float *x = r->qkv + (size_t)row * r->width + (size_t)h * d, *w = h < c->n_heads ? r->q_norm : r->k_norm;
    double sum = 0;
    for (int i = 0; i < d; i++) sum += (double)x[i] * x[i];
    double scale = 1 / sqrt(sum / d + 1e-6);
    for (int i = 0; i < half; i++) {
        double a = x[i], b = x[i + half];
        double co = r->cos[(size_t)r->pos[row] * half + i], si = r->sin[(size_t)r->pos[row] * half + i];
        if (c->norm) a *= scale * w[i], b *= scale * w[i + half];
        out[i] = a * co - b * si;
        out[i + half] = b * co + a * si;
    }
}

/* A slot against its row; what was checked becomes poison again, so that at the end everything must be. */
static int check_slot(append_run *r, int row, int h, const float *k_out, const float *v_out) {
    const append_case *c = r->c;
    int d = c->head_dim, s = r->seq[row], bad = 0;
    size_t head = paged_head(&r->cache, s, LAYER, h), kh = (size_t)row * c->n_kv_heads + h;
    int slot = r->cache.n_slots[head] - r->back[row];
    float k[256], v[256];
    double want[256];
    rotate_reference(r, row, c->n_heads + h, want);
    for (int i = 0; i < d; i++) {
        const float *from = r->qkv + (size_t)row * r->width + (size_t)(c->n_heads + c->n_kv_heads + h) * d;
        k[i] = paged_get(&r->cache, head, 0, slot, i), v[i] = paged_get(&r->cache, head, 1, slot, i);
        bad += v[i] != from[i] || (c->outs && (v_out[kh * d + i] != v[i] || k_out[kh * d + i] != k[i]));
    }
    bad += check_close("key", k, want, d, 4e-6, eps_of(c->type));
    bad += *paged_pos(&r->cache, head, slot) != r->pos[row];
    memset(paged_pos(&r->cache, head, slot), 0xff, 4);
    for (int j = 0; j < r->n_cols; j++) {
        int stat = j - c->has_mass;
        float *at = paged_col(&r->cache, head, slot, j),
              e = stat < 0 || !c->stats ? 0 : r->stats[kh * c->n_stats + stat];
        bad += *at != e;
        memset(at, 0xff, 4);
    }
    for (int i = 0; i < d; i++) {
        char *page = r->cache.image + paged_offset(&r->cache, head, slot);
        memset(page + paged_index(&r->cache, 0, slot, i) * size_of(c->type), 0xff, size_of(c->type));
        memset(page + r->cache.layout.off_v + paged_index(&r->cache, 1, slot, i) * size_of(c->type), 0xff,
               size_of(c->type));
    }
    return bad != 0;
}

static int check_queries(append_run *r, float *ring) {
    const append_case *c = r->c;
    int d = c->head_dim, bad = 0;
    float *got = read_values(c->type, r->d_qkv, (size_t)r->n * r->width);
    for (int row = 0; row < r->n; row++) {
        float *q = got + (size_t)row * r->width;
        double want[256];
        for (int h = 0; h < c->n_heads; h++) {
            rotate_reference(r, row, h, want);
            bad += check_close("query", q + (size_t)h * d, want, d, 4e-6, eps_of(c->type));
        }
        size_t nq = (size_t)c->n_heads * d;
        bad += memcmp(q + nq, r->qkv + (size_t)row * r->width + nq, (r->width - nq) * sizeof(float)) != 0;
        if (r->back[row] > c->window) continue;
        float *kept = ring + r->seq[row] * r->n_ring + ((size_t)LAYER * c->window + r->pos[row] % c->window) * nq;
        if (memcmp(kept, q, nq * sizeof(float)) != 0) printf("  row %d: not in the ring\n", row), bad++;
        memset(kept, 0xff, nq * sizeof(float));
    }
    free(got);
    return bad;
}

static int is_poison(const char *what, const void *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (((const unsigned char *)p)[i] != 0xff) return printf("  %s: byte %zu was written\n", what, i), 0;
    return 1;
}

static int run_append(const append_case *c) {
    append_run r = {};
    r.c = c;
    CHECK_CUDA(call_append(&r));
    size_t nk = (size_t)r.n * c->n_kv_heads * c->head_dim, ring_bytes = c->n_segs * r.n_ring * sizeof(float);
    size_t cache_bytes = paged_heads(&r.cache) * r.page_cap * r.cache.layout.bytes;
    float *k_out = read_values(c->type, r.k_out, nk), *v_out = read_values(c->type, r.v_out, nk);
    float *ring = (float *)check_host(r.ring, ring_bytes);
    int bad = check_queries(&r, ring);
    for (int row = 0; row < r.n; row++)
        for (int h = 0; h < c->n_kv_heads; h++) bad += check_slot(&r, row, h, k_out, v_out);
    if (bad) printf("  %d rows or slots differ\n", bad);
    bad += !is_poison("cache", r.cache.image, cache_bytes) + !is_poison("ring", ring, ring_bytes);
    if (bad) printf("  type %d, head_dim %d, %d rows\n", c->type, c->head_dim, r.n);
    free(k_out), free(v_out), free(ring), free(r.qkv), free(r.q_norm), free(r.k_norm), free(r.cos), free(r.sin);
    free(r.stats), free(r.pos);
    cudaFree(r.d_qkv), cudaFree(r.ring), cudaFree(r.k_out), cudaFree(r.v_out);
    paged_free(&r.cache);
    return bad;
}

static const append_case packed = {KV_CUDA_BF16,
                                   64,
                                   6,
                                   2,
                                   0,
                                   8,
                                   1,
                                   2,
                                   1,
                                   0,
                                   5,
                                   {{0, 0, 48, 0}, {1, 48, 1, 700}, {2, 49, 17, 15}, {3, 66, 5, 33}, {4, 71, 31, 2}},
                                   {0, 40, 15, 16, 3},
                                   1};

static int append_handles_every_head_size(void) {
    const int wide[] = {16, 32, 64, 80, 96, 128, 256}, narrow[] = {2, 34, 50, 72, 254};
    int bad = 0;
    for (int norm = 0; norm < 2; norm++) {
        append_case c = packed;
        c.norm = norm;
        for (int d : wide)
            for (kv_cuda_type type : types) c.head_dim = d, c.type = type, bad += run_append(&c);
        for (int d : narrow) c.head_dim = d, c.type = KV_CUDA_F32, bad += run_append(&c);
    }
    return bad;
}

static int append_fills_whole_pages(void) {
    int bad = 0;
    for (kv_cuda_type type : types)
        for (int before = 0; before < 33; before += 16) {
            append_case c = packed;
            c.type = type, c.ragged = 0, c.outs = 1, c.before[0] = before, c.n_segs = 2;
            c.segs[1] = {1, 48, 35, 9}, c.before[1] = 32;
            bad += run_append(&c);
        }
    return bad;
}

static int append_handles_every_option(void) {
    int bad = 0;
    for (int i = 0; i < 32; i++) {
        append_case c = packed;
        c.type = types[i % 2], c.window = i & 2 ? 0 : 40, c.has_mass = i & 4 ? 0 : 1, c.n_stats = i & 8 ? 0 : 3;
        c.stats = i & 16 ? 0 : 1, c.outs = i % 3 == 0, c.n_heads = i % 5 == 0 ? 2 : 14, c.norm = i % 7 == 0;
        bad += run_append(&c);
    }
    return bad;
}

/* One row each, and row i at slot i of some page: as in a whole page, but of different pages. */
static int append_keeps_sequences_apart(void) {
    append_case c = packed;
    c.n_segs = 20, c.ragged = 0;
    for (int s = 0; s < c.n_segs; s++) c.segs[s] = {s, s, 1, s}, c.before[s] = s % 16 + 16 * (s % 3);
    return run_append(&c);
}

static int append_handles_long_prompts(void) {
    int bad = 0;
    for (kv_cuda_type type : types) {
        append_case c = packed;
        c.type = type, c.n_segs = 2, c.norm = 1, c.outs = 1, c.ragged = 0;
        c.segs[0] = {0, 0, 1031, 0}, c.segs[1] = {1, 1031, 257, 5};
        c.before[1] = 5;
        bad += run_append(&c);
    }
    return bad;
}

static int append_refuses_what_it_cannot_lay_out(void) {
    append_case c = packed;
    int bad = 0;
    for (int d : {8, 72, 272}) {
        kv_cuda_append a = {};
        a.type = c.type, a.head_dim = d, a.rows.n = 1, a.n_heads = a.n_kv_heads = 1;
        bad += kv_cuda_append_rows(&a, 0) != cudaErrorInvalidValue;
    }
    return bad;
}

static const check checks[] = {
    {"embed_rows_are_those_of_the_tokens", embed_rows_are_those_of_the_tokens},
    {"norm_matches_the_reference", norm_matches_the_reference},
    {"norm_in_bands", norm_in_bands},
    {"swiglu_matches_the_reference", swiglu_matches_the_reference},
    {"gate_matches_the_reference", gate_matches_the_reference},
    {"keys_and_values_stand_head_by_head", keys_and_values_stand_head_by_head},
    {"append_handles_every_head_size", append_handles_every_head_size},
    {"append_fills_whole_pages", append_fills_whole_pages},
    {"append_handles_every_option", append_handles_every_option},
    {"append_keeps_sequences_apart", append_keeps_sequences_apart},
    {"append_handles_long_prompts", append_handles_long_prompts},
    {"append_refuses_what_it_cannot_lay_out", append_refuses_what_it_cannot_lay_out},
};

int main(int argc, char **argv) {
    return check_main(argc, argv, checks, sizeof checks / sizeof checks[0]);
}
