/* kern_attend.h - attention of a few (query, head) rows over one KV head's pages.
 *
 * Slots are taken in splits of KV_SPLIT, counted from slot 0: q K^T, softmax about the split's own maximum, p V; then
 * the split is merged into the sums so far (online softmax, arXiv:1805.02867).  K is stored transposed inside a page,
 * so one vector holds the logits of its 16 slots.  A logit is a chain over head_dim; the softmax sum has 16 lanes
 * (slot modulo 16) and a fixed tree; p V is a chain over a split's slots.  Slots that a row does not see get
 * probability 0, which changes no sum, so a row's bits do not depend on the rows it shares a tile with.
 *
 * While the logits of some pages are computed, K and V of the next ones are fetched: runs of 2 KiB are too short for
 * hardware prefetchers, which leave half of the memory bandwidth unused. */

typedef struct attend_state {
    const kv_attend_tile *t;
    float *q, *acc, *tops, *prob;                   /* parts of the tile's scratch */
    float top[KV_ATTEND_ROWS];                      /* maximum over the splits so far */
    float old[KV_ATTEND_ROWS], now[KV_ATTEND_ROWS]; /* factors of the sums so far and of the current split */
    v16 sum[KV_ATTEND_ROWS];
    int last; /* page of the split */
} attend_state;

VI v16 load_cached(const void *p, size_t i, const int half) {
    return half ? v_load_half((const uint16_t *)p + i) : v_load((const float *)p + i);
}

/* Fetches the cache lines that begin within n elements from element i. */
VI void fetch(const void *p, size_t i, int n, const int half) {
    const char *from = (const char *)p + i * (half ? 2 : 4);
    for (int at = 0; at < n * (half ? 2 : 4); at += 64) __builtin_prefetch(from + at, 0, 2);
}

/* Logits of R rows for P pages from `page`; prob: those of the first page. */
VI void logits_of(const int R, const int P, const int half, const attend_state *a, int page, float *prob) {
    const kv_attend_tile *t = a->t;
    const int D = t->head_dim, last = a->last;
    v16 acc[ATTEND_ROWS];
    const char *now[4], *next[4];
    KV_UNROLL
    for (int p = 0; p < P; p++) {
        now[p] = t->pages[page + p];
        next[p] = t->pages[page + P + p < last ? page + P + p : last];
    }
    KV_UNROLL
    for (int i = 0; i < P * R; i++) acc[i] = v_zero();
    for (int d = 0; d < D; d++) {
        KV_UNROLL
        for (int p = 0; p < P; p++) {
            v16 k = load_cached(now[p], (size_t)d * KV_PAGE, half);
            if (R <= ATTEND_ROWS / 2 && (!half || d % 2 == 0)) fetch(next[p], (size_t)d * KV_PAGE, KV_PAGE, half);
            KV_UNROLL
            for (int r = 0; r < R; r++) acc[p * R + r] = v_fma(v_set1(a->q[r * D + d]), k, acc[p * R + r]);
        }
    }
    KV_UNROLL
    for (int i = 0; i < P * R; i++) v_store(prob + i * KV_PAGE, acc[i]);
}

/* Adds the split's slots [s0, s1) to V vectors of head_dim, from dim d0, of R rows. */
VI void values_of(const int R, const int V, const int half, const attend_state *a, int s0, int s1, int d0) {
    const kv_attend_tile *t = a->t;
    const int D = t->head_dim;
    v16 acc[ATTEND_ROWS];
    KV_UNROLL
    for (int i = 0; i < R * V; i++) acc[i] = v_zero();
    const float *prob = a->prob;
    for (int p0 = s0; p0 < s1; p0 += KV_PAGE, prob += R * KV_PAGE) {
        const void *v = (const char *)t->pages[p0 / KV_PAGE] + t->layout->off_v;
        const void *next = (const char *)t->pages[p0 / KV_PAGE + (p0 + KV_PAGE < s1)] + t->layout->off_v;
        int n = s1 - p0 < KV_PAGE ? s1 - p0 : KV_PAGE;
        for (int s = 0; s < n; s++) {
            v16 x[4];
            if (R <= ATTEND_ROWS / 2) fetch(next, (size_t)s * D + d0, 16 * V, half);
            KV_UNROLL
            for (int i = 0; i < V; i++) x[i] = load_cached(v, (size_t)s * D + d0 + 16 * i, half);
            KV_UNROLL
            for (int r = 0; r < R; r++) {
                v16 p = v_set1(prob[r * KV_PAGE + s]);
                KV_UNROLL
                for (int i = 0; i < V; i++) acc[r * V + i] = v_fma(p, x[i], acc[r * V + i]);
            }
        }
    }
    KV_UNROLL
    for (int r = 0; r < R; r++) {
        KV_UNROLL
        for (int i = 0; i < V; i++) {
            float *sum = a->acc + r * ((D + 15) / 16 * 16) + d0 + 16 * i;
            v16 before = s0 ? v_mul(v_load(sum), v_set1(a->old[r])) : v_zero();
            v_store(sum, s0 ? v_fma(acc[r * V + i], v_set1(a->now[r]), before) : acc[r * V + i]);
        }
    }
}

VI float exp_of(float x) {
    float e[16];
    v_store(e, v_exp(v_set1(x)));
    return e[0];
}

/* Row r's logits of a split become exp(logit - the split's maximum), 0 beyond its n visible slots; then its sum joins
 * the row's. */
static void softmax_split(attend_state *a, int r, float *prob, size_t stride, int n, int n_pages, int first) {
    int full = n / KV_PAGE, rest = n % KV_PAGE, i;
    v16 high = v_set1(-3.4e38f), sum = v_zero();
    for (i = 0; i < full; i++) high = v_max(high, v_load(prob + i * stride));
    if (rest) high = v_max(high, v_first(v_load(prob + full * stride), high, rest));
    float top = v_top(high);
    v16 max = v_set1(top);
    for (i = 0; i < full; i++) {
        v16 e = v_exp(v_sub(v_load(prob + i * stride), max));
        v_store(prob + i * stride, e);
        sum = v_add(sum, e);
    }
    if (rest) {
        v16 e = v_first(v_exp(v_sub(v_load(prob + i * stride), max)), v_zero(), rest);
        v_store(prob + i * stride, e);
        sum = v_add(sum, e);
        i++;
    }
    for (; i < n_pages; i++) v_store(prob + i * stride, v_zero());
    if (first) {
        a->top[r] = top;
        a->sum[r] = sum;
    } else if (n == 0) {
        a->old[r] = 1;
        a->now[r] = 0;
    } else {
        float all = top > a->top[r] ? top : a->top[r];
        a->old[r] = exp_of(a->top[r] - all);
        a->now[r] = exp_of(top - all);
        a->sum[r] = v_fma(sum, v_set1(a->now[r]), v_mul(a->sum[r], v_set1(a->old[r])));
        a->top[r] = all;
    }
    a->tops[r] = top;
}

/* prob: of the first split, as left by softmax_split. */
static void add_probabilities(const attend_state *a, const int R, const float *prob, const float *tops, int n_slots,
                              const float *inv) {
    float factor[KV_ATTEND_ROWS] = {0};
    for (int s = 0; s < n_slots; s += KV_PAGE, prob += R * KV_PAGE) {
        if (s % KV_SPLIT == 0) {
            for (int r = 0; r < R; r++) factor[r] = exp_of(tops[s / KV_SPLIT * R + r] - a->top[r]) * inv[r];
        }
        v16 m = v_load(a->t->mass + s);
        for (int r = 0; r < R; r++) m = v_fma(v_load(prob + r * KV_PAGE), v_set1(factor[r]), m);
        v_store(a->t->mass + s, m);
    }
}

VI void attend_of(const int R, const int half, const kv_attend_tile *t) {
    const int P = ATTEND_ROWS / R >= 4 ? 4 : ATTEND_ROWS / R >= 2 ? 2 : 1, V = P;
    const int D = t->head_dim, wide = (D + 15) / 16 * 16;
    attend_state a = {.t = t};
    float inv[KV_ATTEND_ROWS];
    int n_slots = 0;
    a.q = t->scratch;
    a.acc = a.q + R * wide;
    a.prob = a.acc + R * wide;
    for (int r = 0; r < R; r++) {
        n_slots = t->n_slots[r] > n_slots ? t->n_slots[r] : n_slots;
        for (int d = 0; d < D; d += 16) {
            int n = D - d < 16 ? D - d : 16;
            v_store_n(a.q + r * D + d, v_mul(v_set1(t->scale), v_load_n(t->q[r] + d, n)), n);
        }
    }
    size_t kept = t->mass || n_slots < KV_SPLIT ? ((size_t)n_slots + KV_PAGE - 1) / KV_PAGE * KV_PAGE : KV_SPLIT;
    float *tops = a.tops = a.prob + R * kept, *prob = a.prob;
    for (int s0 = 0; s0 < n_slots; s0 += KV_SPLIT, a.tops += R) {
        int s1 = n_slots - s0 < KV_SPLIT ? n_slots : s0 + KV_SPLIT, d = 0;
        int page = s0 / KV_PAGE, n_pages = (s1 - s0 + KV_PAGE - 1) / KV_PAGE, i = 0;
        a.last = page + n_pages - 1;
        a.prob = t->mass ? prob + (size_t)s0 * R : prob;
        for (; i + P <= n_pages; i += P) logits_of(R, P, half, &a, page + i, a.prob + (size_t)i * R * KV_PAGE);
        for (; i < n_pages; i++) logits_of(R, 1, half, &a, page + i, a.prob + (size_t)i * R * KV_PAGE);
        for (int r = 0; r < R; r++) {
            int n = t->n_slots[r] - s0;
            n = n < 0 ? 0 : n < s1 - s0 ? n : s1 - s0;
            softmax_split(&a, r, a.prob + r * KV_PAGE, (size_t)R * KV_PAGE, n, n_pages, s0 == 0);
        }
        for (; d + 16 * (V - 1) < D; d += 16 * V) values_of(R, V, half, &a, s0, s1, d);
        for (; d < D; d += 16) values_of(R, 1, half, &a, s0, s1, d);
    }
    for (int r = 0; r < R; r++) {
        inv[r] = 1.0f / v_sum(a.sum[r]);
        for (int d = 0; d < D; d += 16)
            put_columns(t->out[r] + d, v_mul(v_load(a.acc + r * wide + d), v_set1(inv[r])), D - d, 0);
    }
    if (t->mass) add_probabilities(&a, R, prob, tops, n_slots, inv);
}

#define ATTEND(R)                                                                                                      \
    static void attend_##R(const kv_attend_tile *t) {                                                                  \
        if (t->layout->type == KV_CACHE_F16) {                                                                         \
            attend_of(R, 1, t);                                                                                        \
        } else {                                                                                                       \
            attend_of(R, 0, t);                                                                                        \
        }                                                                                                              \
    }
ATTEND(1)
ATTEND(2)
ATTEND(3)
#if ATTEND_ROWS > 3
ATTEND(4)
ATTEND(5)
ATTEND(6)
#endif
#if ATTEND_ROWS > 6
ATTEND(7)
ATTEND(8)
ATTEND(9)
ATTEND(10)
ATTEND(11)
ATTEND(12)
#endif

static void attend(const kv_attend_tile *t) {
    static void (*const of[])(const kv_attend_tile *) = {
        attend_1,
        attend_2,
        attend_3,
#if ATTEND_ROWS > 3
        attend_4,
        attend_5,
        attend_6,
#endif
#if ATTEND_ROWS > 6
        attend_7,
        attend_8,
        attend_9,
        attend_10,
        attend_11,
        attend_12,
#endif
    };
    of[t->n_rows - 1](t);
}
