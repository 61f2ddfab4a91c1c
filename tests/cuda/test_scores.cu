/* test_scores.cu - every policy's score on the device against its own definition in C, on random pages.
 *
 * Plain arithmetic must give the same bits; sums and transcendental functions agree up to rounding. */
#include "tests/cuda/paged.cuh"

extern "C" {
#include "policies/registry.h"
}

enum { LAYERS = 2, KV = 3 };

/* One way to open a policy, and how far its scores may be from the definition (relative; 0 = same bits). */
typedef struct spec_case {
    const char *spec;
    double tolerance;
} spec_case;

static const spec_case specs[] = {
    {"window", 0},
    {"window:sinks=0", 0},
    {"random", 0},
    {"random:seed=9007199254740991", 0},
    {"h2o", 0},
    {"snapkv", 1e-4},
    {"snapkv:window=3:pool=1", 1e-4},
    {"snapkv:window=40:pool=63", 1e-4},
    {"snapkv:window=256:pool=255", 1e-4},
    {"trimkv", 0},
    {"trimkv:knorm=1:window=16", 0},
    {"trimkv:round=bf16", 0},
    {"trimkv:lookahead=16", 1e-6},
    {"trimkv:lookahead=512:knorm=1", 1e-6},
    {"dbtrimkv", 0},
    {"dbtrimkv:lookahead=16", 1e-6},
};
enum { N_SPECS = sizeof specs / sizeof *specs };

typedef struct scene {
    kv_cache_type type;
    int head_dim, group;
    int most, n_seen; /* slots of the fullest head; tokens seen */
} scene;

/* ---- one policy, open ---------------------------------------------------------------------------------------------
 */

typedef struct opened {
    kv_policy_spec spec;
    void *state;
    kv_gate_layer layers[LAYERS];
    kv_gates gates;
} opened;

static int open_policy(opened *o, const char *text, const scene *sc) {
    kv_error err = {};
    kv_shape shape = {LAYERS, KV * sc->group, KV, sc->head_dim, 32};
    memset(o, 0, sizeof *o);
    o->gates.n_layers = LAYERS, o->gates.n_in = 32, o->gates.n_hidden = 8, o->gates.n_kv_heads = KV;
    o->gates.layers = o->layers;
    o->gates.type = KV_GATE_RG;
    int rc = kv_policy_parse(text, &o->spec, &err);
    if (rc == KV_OK) {
        kv_policy_args args = {o->spec.values, 64, 16, 12345, &o->gates};
        rc = o->spec.policy->open(&o->state, &shape, &args, &err);
    }
    if (rc) printf("  %s: %s\n", text, err.text);
    return rc;
}

static void close_policy(opened *o) {
    if (o->spec.policy->close) o->spec.policy->close(o->state);
}

/* ---- the cache it looks at ------------------------------------------------------------------------------------------
 */

typedef struct world {
    paged c;
    kv_cuda_heads h;
    float *ring; /* host (2, LAYERS, window, KV * group, head_dim) */
    size_t ring_floats;
    float *d_ring;
} world;

/* Two sequences; heads of 0 to `most` slots, positions with gaps, lb <= 0 with saturated gates among them.  Values stay
 * NaN: no score reads them. */
static void fill_world(world *w, const scene *sc, int first_stat) {
    size_t heads = paged_heads(&w->c);
    for (size_t h = 0; h < heads; h++) {
        int n = h == 1 ? 0 : h == 4 ? 5 : h % 3 == 0 ? sc->most : sc->most - (int)(7 * h);
        w->c.n_slots[h] = n > 0 ? n : 0;
        for (int s = 0; s < n; s++) {
            for (int i = 0; i < sc->head_dim; i++) paged_set(&w->c, h, 0, s, i, check_random(h, (uint64_t)s * 512 + i));
            for (int k = 0; k < w->c.layout.n_cols; k++)
                *paged_col(&w->c, h, s, k) = fabsf(check_random(h + 100, (uint64_t)k * n + s));
            *paged_pos(&w->c, h, s) = s + (s > 3 ? (sc->n_seen - n) * (int)(1 + h % 2) / 2 : 0);
            for (int k = first_stat; k < w->c.layout.n_cols; k++) {
                float *x = paged_col(&w->c, h, s, k);
                *x = k == first_stat ? (s % 11 == 0 ? -1e-9f : -*x * (s % 5 == 0 ? 20 : 0.01f)) : logf(*x + 0.1f);
            }
        }
    }
}

static void make_world(world *w, const opened *o, const scene *sc) {
    const kv_policy *p = o->spec.policy;
    int mass = (p->needs & KV_NEED_MASS) != 0, window = p->needs & KV_NEED_QUERIES ? p->window(o->state) + 2 : 0;
    int cap = (sc->most + KV_PAGE - 1) / KV_PAGE + 1;
    memset(w, 0, sizeof *w);
    w->ring_floats = (size_t)LAYERS * window * KV * sc->group * sc->head_dim;
    w->ring = (float *)malloc((2 * w->ring_floats + 1) * sizeof(float));
    for (size_t i = 0; i < 2 * w->ring_floats; i++) w->ring[i] = check_random(3, i);
    w->d_ring = window ? (float *)check_device(w->ring, 2 * w->ring_floats * sizeof(float)) : NULL;
    paged_make(&w->c, sc->type, sc->head_dim, mass + 1 + p->n_stats, mass, 2, LAYERS, KV, cap, w->d_ring,
               w->ring_floats);
    fill_world(w, sc, mass + 1);
    for (int s = 0; s < 2; s++) w->c.host_seqs[s].n_seen = sc->n_seen;
    CHECK_CUDA(cudaMemcpy(w->c.seqs, w->c.host_seqs, 2 * sizeof *w->c.host_seqs, cudaMemcpyHostToDevice));
    paged_upload(&w->c);
    static const int32_t seq_of[3] = {1, -1, 0};
    kv_cuda_heads *h = &w->h;
    h->layout = w->c.layout, h->seqs = w->c.seqs, h->seq_of = (int32_t *)check_device(seq_of, sizeof seq_of);
    h->n = 3, h->n_layers = LAYERS, h->n_kv_heads = KV, h->group = sc->group, h->head_dim = sc->head_dim;
    h->window = window, h->at = 20, h->budget = 19;
    h->stride = cap * KV_PAGE;
    h->first_stat = mass + 1;
    size_t cells = (size_t)3 * LAYERS * KV * h->stride;
    h->score = (float *)check_device(NULL, cells * sizeof(float));
    h->scratch_floats = cells * (window + 2);
    h->scratch = (float *)check_device(NULL, h->scratch_floats * sizeof(float));
}

static void free_world(world *w) {
    cudaFree((void *)w->h.seq_of), cudaFree(w->h.score), cudaFree(w->h.scratch), cudaFree(w->d_ring);
    free(w->ring);
    paged_free(&w->c);
}

/* ---- comparison -----------------------------------------------------------------------------------------------------
 */

/* The definition's scores of one head. */
static void define_scores(world *w, const opened *o, const scene *sc, int seq, int layer, int kv_head, float *score) {
    const kv_policy *p = o->spec.policy;
    size_t head = paged_head(&w->c, seq, layer, kv_head), d = sc->head_dim, g = sc->group;
    int n = w->c.n_slots[head], win = p->needs & KV_NEED_QUERIES ? p->window(o->state) : 0;
    int n_queries = win < sc->n_seen ? win : sc->n_seen;
    int32_t *pos = (int32_t *)malloc(n * sizeof *pos);
    float *keys = (float *)malloc(n * d * sizeof *keys), *cols = (float *)malloc(w->c.layout.n_cols * n * sizeof *cols);
    float *queries = (float *)malloc((n_queries * g * d + 1) * sizeof *queries);
    float *scratch = (float *)malloc((size_t)(n_queries + 4) * n * sizeof *scratch);
    for (int s = 0; s < n; s++) {
        pos[s] = *paged_pos(&w->c, head, s);
        for (size_t i = 0; i < d; i++) keys[s * d + i] = paged_get(&w->c, head, 0, s, (int)i);
        for (int k = 0; k < w->c.layout.n_cols; k++) cols[k * n + s] = *paged_col(&w->c, head, s, k);
    }
    for (int t = 0; t < n_queries; t++) {
        int at = (sc->n_seen - n_queries + t) % w->h.window;
        memcpy(queries + t * g * d,
               w->ring + seq * w->ring_floats + (((size_t)layer * w->h.window + at) * KV + kv_head) * g * d,
               g * d * sizeof(float));
    }
    const float *stats[KV_MAX_STATS] = {};
    for (int k = 0; k < p->n_stats; k++) stats[k] = cols + (size_t)(w->h.first_stat + k) * n;
    kv_score_args a = {};
    a.layer = layer, a.kv_head = kv_head, a.n_slots = n, a.n_seen = sc->n_seen, a.pos = pos, a.stats = stats;
    a.mass = p->needs & KV_NEED_MASS ? cols : NULL;
    a.keys = p->needs & KV_NEED_KEYS ? keys : NULL;
    a.queries = p->needs & KV_NEED_QUERIES ? queries : NULL;
    a.n_queries = n_queries, a.group = sc->group, a.head_dim = sc->head_dim, a.scratch = scratch;
    p->score(o->state, &a, score);
    free(pos), free(keys), free(cols), free(queries), free(scratch);
}

static int differs(float got, float want, double tolerance) {
    if (tolerance == 0) return memcmp(&got, &want, sizeof got) != 0;
    return !(fabs((double)got - want) <= 1e-9 + tolerance * fabs(want));
}

static int compare_spec(const spec_case *c, const scene *sc) {
    opened o;
    world w;
    int failed = 0;
    if (open_policy(&o, c->spec, sc)) return 1;
    make_world(&w, &o, sc);
    CHECK_CUDA((cudaError_t)o.spec.policy->score_cuda(o.state, &w.h));
    CHECK_CUDA(cudaDeviceSynchronize());
    size_t stride = w.h.stride, per = LAYERS * KV;
    float *got = (float *)check_host(w.h.score, 3 * per * stride * sizeof(float));
    float *want = (float *)malloc(stride * sizeof(float));
    for (size_t i = 0; i < 3 * per; i++) {
        static const int seq_of[3] = {1, -1, 0};
        int seq = seq_of[i / per], layer = (int)(i % per) / KV, kv_head = (int)(i % per) % KV, n = 0;
        if (seq >= 0) n = w.c.n_slots[paged_head(&w.c, seq, layer, kv_head)];
        if (n < w.h.at || n <= w.h.budget) n = 0;
        if (n) define_scores(&w, &o, sc, seq, layer, kv_head, want);
        for (size_t s = 0; s < stride; s++) {
            float x = got[i * stride + s];
            /* what is not a slot of a head that takes part stays as it was, NaN bytes */
            if ((int)s < n ? !differs(x, want[s], c->tolerance) : __builtin_isnan(x)) continue;
            if (!failed++)
                printf("  %s, d %d group %d: head %zu slot %zu of %d: %.9g, expected %.9g\n", c->spec, sc->head_dim,
                       sc->group, i, s, n, x, want[s]);
        }
    }
    free(got), free(want);
    free_world(&w);
    close_policy(&o);
    return failed;
}

static int compare_all(const char *prefix, const scene *scenes, int n) {
    int failed = 0;
    for (int i = 0; i < N_SPECS; i++)
        for (int k = 0; k < n && strncmp(specs[i].spec, prefix, strlen(prefix)) == 0; k++)
            failed += compare_spec(&specs[i], &scenes[k]);
    return failed;
}

static const scene small[] = {
    {KV_CACHE_BF16, 64, 1, 127, 127}, {KV_CACHE_F32, 64, 3, 33, 36},    {KV_CACHE_BF16, 128, 4, 300, 511},
    {KV_CACHE_F32, 96, 2, 257, 1000}, {KV_CACHE_BF16, 80, 5, 131, 200}, {KV_CACHE_F32, 128, 7, 289, 400},
    {KV_CACHE_BF16, 96, 8, 400, 401}, {KV_CACHE_BF16, 64, 6, 31, 31},   {KV_CACHE_F32, 16, 4, 129, 150},
};

static int plain_scores_match(void) {
    return compare_all("window", small, 9) + compare_all("random", small, 9) + compare_all("h2o", small, 9) +
           compare_all("trimkv", small, 9) + compare_all("dbtrimkv", small, 9);
}

static int query_scores_match(void) {
    return compare_all("snapkv", small, 9);
}

static int long_heads_match(void) {
    static const scene big[] = {{KV_CACHE_BF16, 64, 4, 9001, 20000}};
    return compare_all("window:", big, 1) + compare_all("random", big, 1) + compare_all("trimkv:knorm", big, 1) +
           compare_spec(&specs[5], &big[0]);
}

/* A policy that scores on the device and is not compared above would go unnoticed. */
static int all_are_compared(void) {
    int n, failed = 0;
    const kv_policy *const *all = kv_policy_all(&n);
    for (int i = 0; i < n; i++) {
        int known = all[i]->never_evicts || !all[i]->score_cuda;
        for (int k = 0; k < N_SPECS; k++) {
            size_t len = strlen(all[i]->name);
            known |= strncmp(specs[k].spec, all[i]->name, len) == 0 && strchr(":", specs[k].spec[len]) != NULL;
        }
        if (!known) printf("  %s has no case here\n", all[i]->name);
        failed += !known;
    }
    return failed;
}

/* Only the plain fp32 gate is what the device computes beside q, k and v. */
static int gate_stat_is_for_plain_gates(void) {
    int failed = 0;
    for (int i = 0; i < N_SPECS; i++) {
        opened o;
        if (!strstr(specs[i].spec, "trimkv")) continue;
        if (open_policy(&o, specs[i].spec, &small[0])) return failed + 1;
        int plain = !strstr(specs[i].spec, "knorm=1") && !strstr(specs[i].spec, "bf16");
        failed += o.spec.policy->gate_stat(o.state) != (plain ? 0 : -1);
        close_policy(&o);
    }
    return failed;
}

int main(int argc, char **argv) {
    static const check checks[] = {
        {"scores_of_positions_and_columns_have_the_same_bits", plain_scores_match},
        {"scores_from_queries_agree_up_to_rounding", query_scores_match},
        {"long_heads_are_scored_to_the_end", long_heads_match},
        {"every_policy_with_a_device_score_is_compared", all_are_compared},
        {"gate_stat_names_a_column_only_for_plain_gates", gate_stat_is_for_plain_gates},
    };
    return check_main(argc, argv, checks, sizeof checks / sizeof *checks);
}
