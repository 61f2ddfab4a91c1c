/* kern_attend.h - attention of a few (query, head) rows over one KV head's pages.
 *
 * Three passes over a buffer of logits (pages, rows, KV_PAGE): q K^T, softmax, p V.  K is stored transposed inside a
 * page, so one vector holds the logits of its 16 slots.  A logit is a chain over head_dim; the softmax sum has 16
 * lanes (slot modulo 16) and a fixed tree; p V is a chain over slots.  Slots a row does not see get probability 0,
 * which changes no sum, so a row's bits do not depend on the rows it shares a tile with. */

VI v16 load_cached(const void *p, size_t i, const int half) {
    return half ? v_load_half((const uint16_t *)p + i) : v_load((const float *)p + i);
}

/* Logits of R rows for P pages. */
VI void logits_of(const int R, const int P, const int half, const kv_attend_tile *t, int page) {
    const int D = t->head_dim;
    v16 acc[ATTEND_ROWS];
    KV_UNROLL
    for (int i = 0; i < P * R; i++) acc[i] = v_zero();
    for (int d = 0; d < D; d++) {
        KV_UNROLL
        for (int p = 0; p < P; p++) {
            v16 k = load_cached(t->pages[page + p], (size_t)d * KV_PAGE, half);
            KV_UNROLL
            for (int r = 0; r < R; r++) acc[p * R + r] = v_fma(v_set1(t->q_scaled[r * D + d]), k, acc[p * R + r]);
        }
    }
    KV_UNROLL
    for (int i = 0; i < P * R; i++) v_store(t->prob + ((size_t)page * R + i) * KV_PAGE, acc[i]);
}

/* out (R rows, V vectors of head_dim from dim d0), not yet divided by the sum. */
VI void values_of(const int R, const int V, const int half, const kv_attend_tile *t, int n_slots, int d0,
                  const float *inv) {
    const int D = t->head_dim;
    v16 acc[ATTEND_ROWS];
    KV_UNROLL
    for (int i = 0; i < R * V; i++) acc[i] = v_zero();
    for (int s0 = 0; s0 < n_slots; s0 += KV_PAGE) {
        const void *v = (const char *)t->pages[s0 / KV_PAGE] + t->layout->off_v;
        const float *prob = t->prob + (size_t)s0 * R;
        int n = n_slots - s0 < KV_PAGE ? n_slots - s0 : KV_PAGE;
        for (int s = 0; s < n; s++) {
            v16 x[4];
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
        for (int i = 0; i < V; i++)
            put_columns(t->out[r] + d0 + 16 * i, v_mul(acc[r * V + i], v_set1(inv[r])), D - d0 - 16 * i, 0);
    }
}

/* Turns a row's logits into exp(logit - max), 0 beyond what it sees; returns 1 / sum. */
static float softmax_row(float *prob, size_t page_stride, int n_slots, int n_pages) {
    int full = n_slots / KV_PAGE, rest = n_slots % KV_PAGE, i;
    v16 top = v_set1(-3.4e38f), sum = v_zero();
    for (i = 0; i < full; i++) top = v_max(top, v_load(prob + i * page_stride));
    if (rest) top = v_max(top, v_first(v_load(prob + full * page_stride), top, rest));
    v16 max = v_set1(v_top(top));
    for (i = 0; i < full; i++) {
        v16 e = v_exp(v_sub(v_load(prob + i * page_stride), max));
        v_store(prob + i * page_stride, e);
        sum = v_add(sum, e);
    }
    if (rest) {
        v16 e = v_first(v_exp(v_sub(v_load(prob + i * page_stride), max)), v_zero(), rest);
        v_store(prob + i * page_stride, e);
        sum = v_add(sum, e);
        i++;
    }
    for (; i < n_pages; i++) v_store(prob + i * page_stride, v_zero());
    return 1.0f / v_sum(sum);
}

VI void attend_of(const int R, const int half, const kv_attend_tile *t) {
    const int P = ATTEND_ROWS / R >= 4 ? 4 : ATTEND_ROWS / R >= 2 ? 2 : 1, V = P;
    const int D = t->head_dim;
    int n_slots = 0;
    float inv[ATTEND_ROWS];
    for (int r = 0; r < R; r++) {
        v16 s = v_set1(t->scale);
        n_slots = t->n_slots[r] > n_slots ? t->n_slots[r] : n_slots;
        for (int d = 0; d < D; d += 16) {
            int n = D - d < 16 ? D - d : 16;
            v_store_n(t->q_scaled + r * D + d, v_mul(s, v_load_n(t->q[r] + d, n)), n);
        }
    }
    int n_pages = (n_slots + KV_PAGE - 1) / KV_PAGE, page = 0;
    for (; page + P <= n_pages; page += P) logits_of(R, P, half, t, page);
    for (; page < n_pages; page++) logits_of(R, 1, half, t, page);
    for (int r = 0; r < R; r++)
        inv[r] = softmax_row(t->prob + r * KV_PAGE, (size_t)R * KV_PAGE, t->n_slots[r], n_pages);
    if (t->mass) {
        for (int i = 0; i < n_pages; i++) {
            v16 m = v_load(t->mass + (size_t)i * KV_PAGE);
            for (int r = 0; r < R; r++) m = v_fma(v_load(t->prob + ((size_t)i * R + r) * KV_PAGE), v_set1(inv[r]), m);
            v_store(t->mass + (size_t)i * KV_PAGE, m);
        }
    }
    int d = 0;
    for (; d + 16 * (V - 1) < D; d += 16 * V) values_of(R, V, half, t, n_slots, d, inv);
    for (; d < D; d += 16) values_of(R, 1, half, t, n_slots, d, inv);
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
