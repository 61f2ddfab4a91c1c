/* test_reduce.cu - eviction on the device: selection against policies/select.c, compaction and copies against a model
 * on the host that keeps slots as plain arrays. */
#include "tests/cuda/paged.cuh"

extern "C" {
#include "policies/select.h"
}

enum { POISON = -2139062144 }; /* 0x80808080 */

/* ---- a cache to reduce ---------------------------------------------------------------------------------------------
 */

typedef struct reduction {
    paged c;
    kv_cuda_reduce r;
    int n, stride;                        /* heads; width of score and kept */
    float *score;                         /* host (n, stride) */
    int32_t *kept, *n_kept, *bad, n_free; /* host, after run */
    unsigned long long *moved;
    void **stack;
} reduction;

enum { OLD_FREE = 3 }; /* pages on the stack before */

static uint64_t mix(uint64_t seed, uint64_t i) {
    return (uint64_t)(((double)check_random(seed, i) + 1) * 1e6);
}

/* All heads of all sequences but the last of the order, which is left out by seq_of = -1 when there are several. */
static reduction reduction_make(kv_cache_type type, int d, int n_cols, int n_seqs, int n_layers, int n_kv, int cap,
                                int at, int budget, int n_sink, int n_recent) {
    reduction x = {};
    paged_make(&x.c, type, d, n_cols, 0, n_seqs, n_layers, n_kv, cap, NULL, 0);
    x.n = (int)paged_heads(&x.c);
    x.stride = cap * KV_PAGE;
    x.score = (float *)calloc((size_t)x.n * x.stride, sizeof(float));
    kv_cuda_heads *h = &x.r.heads;
    h->layout = x.c.layout;
    h->seqs = x.c.seqs;
    h->n = n_seqs, h->n_layers = n_layers, h->n_kv_heads = n_kv, h->group = 1, h->head_dim = d;
    h->at = at, h->budget = budget, h->stride = x.stride;
    int32_t *seq_of = (int32_t *)malloc(n_seqs * sizeof *seq_of);
    for (int i = 0; i < n_seqs; i++) seq_of[i] = i == 0 && n_seqs > 1 ? -1 : n_seqs - 1 - i + (n_seqs > 1);
    h->seq_of = (int32_t *)check_device(seq_of, n_seqs * sizeof *seq_of);
    free(seq_of);
    x.r.n_sink = n_sink, x.r.n_recent = n_recent;
    return x;
}

/* Sequence of entry i of the launch, or -1. */
static int seq_of(const reduction *x, int i) {
    return x->c.n_seqs == 1 ? 0 : i == 0 ? -1 : x->c.n_seqs - i;
}

/* Head of the cache behind row `i` of scores, or -1. */
static int head_of(const reduction *x, int i) {
    int per = x->c.n_layers * x->c.n_kv_heads, s = seq_of(x, i / per);
    return s < 0 ? -1 : s * per + i % per;
}

static void reduction_upload(reduction *x) {
    size_t cells = (size_t)x->n * x->stride;
    kv_cuda_reduce *r = &x->r;
    paged_upload(&x->c);
    r->heads.score = (float *)check_device(x->score, cells * sizeof(float));
    CHECK_CUDA(cudaMalloc((void **)&r->kept, cells * sizeof(int32_t)));
    CHECK_CUDA(cudaMemset(r->kept, 0x80, cells * sizeof(int32_t)));
    CHECK_CUDA(cudaMalloc((void **)&r->n_kept, x->n * sizeof(int32_t)));
    CHECK_CUDA(cudaMemset(r->n_kept, 0x80, x->n * sizeof(int32_t)));
    size_t room = OLD_FREE + (size_t)x->n * x->c.page_cap;
    void **stack = (void **)calloc(room, sizeof *stack);
    for (int i = 0; i < OLD_FREE; i++) stack[i] = (void *)(uintptr_t)(64 * (i + 1));
    r->free_pages = (void **)check_device(stack, room * sizeof *stack);
    free(stack);
    int32_t old = OLD_FREE;
    r->n_free = (int32_t *)check_device(&old, sizeof old);
    CHECK_CUDA(cudaMalloc((void **)&r->n_moved, x->c.n_seqs * sizeof *r->n_moved));
    CHECK_CUDA(cudaMemset(r->n_moved, 0, x->c.n_seqs * sizeof *r->n_moved));
    CHECK_CUDA(cudaMalloc((void **)&r->bad, x->c.n_seqs * sizeof *r->bad));
    CHECK_CUDA(cudaMemset(r->bad, 0, x->c.n_seqs * sizeof *r->bad));
}

static void reduction_fetch(reduction *x) {
    const kv_cuda_reduce *r = &x->r;
    CHECK_CUDA(cudaDeviceSynchronize());
    x->kept = (int32_t *)check_host(r->kept, (size_t)x->n * x->stride * sizeof(int32_t));
    x->n_kept = (int32_t *)check_host(r->n_kept, x->n * sizeof(int32_t));
    x->bad = (int32_t *)check_host(r->bad, x->c.n_seqs * sizeof(int32_t));
    x->moved = (unsigned long long *)check_host(r->n_moved, x->c.n_seqs * sizeof *x->moved);
    x->stack = (void **)check_host(r->free_pages, (OLD_FREE + (size_t)x->n * x->c.page_cap) * sizeof(void *));
    CHECK_CUDA(cudaMemcpy(&x->n_free, r->n_free, sizeof x->n_free, cudaMemcpyDeviceToHost));
}

static void reduction_free(reduction *x) {
    kv_cuda_reduce *r = &x->r;
    cudaFree((void *)r->heads.seq_of), cudaFree(r->heads.score), cudaFree(r->kept), cudaFree(r->n_kept);
    cudaFree(r->free_pages), cudaFree(r->n_free), cudaFree(r->n_moved), cudaFree(r->bad);
    free(x->score), free(x->kept), free(x->n_kept), free(x->bad), free(x->moved), free(x->stack);
    paged_free(&x->c);
}

/* Positions with gaps, the first few dense; element values come with fill_slots. */
static void fill_positions(paged *c, size_t head, int n, uint64_t seed) {
    c->n_slots[head] = n;
    for (int s = 0, pos = 0; s < n; s++) {
        *paged_pos(c, head, s) = pos;
        pos += 1 + (int)(mix(seed, (uint64_t)s) % 3 == 0 && s > 2);
    }
}

/* ---- selection ------------------------------------------------------------------------------------------------------
 */

enum { RANDOM, TIED, EQUAL, RISING, FALLING, EXTREME, WITH_NAN, KINDS };

static float score_of(int kind, uint64_t seed, int i, int n) {
    static const float extreme[] = {INFINITY, -INFINITY, 0.0f, -0.0f, 1e-45f, -1e-45f, 3e38f, -3e38f};
    float x = check_random(seed, (uint64_t)i);
    switch (kind) {
    case TIED:
        return floorf(x * 3);
    case EQUAL:
        return -2.5f;
    case RISING:
        return (float)i;
    case FALLING:
        return (float)(n - i) * 1e-3f;
    case EXTREME:
        return extreme[mix(seed, (uint64_t)i) % 8];
    case WITH_NAN:
        return i == n / 2 ? NAN : x;
    default:
        return x;
    }
}

static int compare_head(const reduction *x, int i, int at, int budget, int n_sink, int n_recent, int32_t *want_bad) {
    const int32_t *kept = x->kept + (size_t)i * x->stride;
    int head = head_of(x, i), n = head < 0 ? 0 : x->c.n_slots[head];
    if (head < 0 || n < at || n <= budget) return x->n_kept[i] != -1 || kept[0] != POISON;
    int32_t *pos = (int32_t *)malloc(n * sizeof *pos), *want = (int32_t *)malloc(n * sizeof *want);
    int32_t *scratch = (int32_t *)malloc(n * sizeof *scratch);
    for (int s = 0; s < n; s++) pos[s] = *paged_pos((paged *)&x->c, (size_t)head, s);
    int m = kv_select(x->score + (size_t)i * x->stride, pos, n, budget, n_sink, n_recent, want, scratch), bad;
    if (m < 0) {
        int per = x->c.n_layers * x->c.n_kv_heads;
        if (want_bad[head / per] < 1 + head % per) want_bad[head / per] = 1 + head % per;
        bad = x->n_kept[i] != -1;
    } else {
        bad = x->n_kept[i] != m || memcmp(kept, want, m * sizeof *want) != 0 || (m < x->stride && kept[m] != POISON);
    }
    free(pos), free(want), free(scratch);
    return bad;
}

/* One launch over ragged heads of every kind of score. */
static int run_select(int cap, int at, int budget, int n_sink, int n_recent, int only_kind, uint64_t seed) {
    enum { SEQS = 3, LAYERS = 3, KV = 7 };
    reduction x = reduction_make(KV_CACHE_F32, 4, 0, SEQS, LAYERS, KV, cap, at, budget, n_sink, n_recent);
    int failed = 0, full = cap * KV_PAGE;
    int32_t want_bad[SEQS] = {0};
    for (int i = 0; i < x.n; i++) {
        int head = head_of(&x, i), kind = only_kind >= 0 ? only_kind : i % KINDS;
        int lengths[] = {full, full - 1, budget, budget + 1, at, (int)(mix(seed, (uint64_t)i) % (uint64_t)full)};
        int n = lengths[mix(seed + 1, (uint64_t)i) % 6];
        n = n < 0 ? 0 : n > full ? full : n;
        if (head < 0) continue;
        fill_positions(&x.c, (size_t)head, n, seed + (uint64_t)i);
        for (int s = 0; s < n; s++) x.score[(size_t)i * x.stride + s] = score_of(kind, seed + (uint64_t)i, s, n);
    }
    reduction_upload(&x);
    CHECK_CUDA(kv_cuda_select_slots(&x.r, 0));
    reduction_fetch(&x);
    for (int i = 0; i < x.n; i++) {
        if (!compare_head(&x, i, at, budget, n_sink, n_recent, want_bad)) continue;
        if (!failed++)
            printf("  M %d at %d sinks %d recent %d, head %d (%d slots): n_kept %d\n", budget, at, n_sink, n_recent, i,
                   head_of(&x, i) < 0 ? -1 : x.c.n_slots[head_of(&x, i)], x.n_kept[i]);
    }
    for (int s = 0; s < SEQS; s++) failed += x.bad[s] != want_bad[s];
    reduction_free(&x);
    return failed;
}

static int select_matches(void) {
    static const int cases[][5] = {
        /* pages, at, budget, sinks, recent */
        {3, 33, 32, 0, 0},      {3, 17, 1, 0, 0},         {5, 64, 40, 4, 8},       {9, 140, 128, 4, 16},
        {20, 300, 128, 5, 64},  {20, 200, 31, 64, 0},     {20, 200, 31, 0, 64},    {20, 200, 33, 20, 20},
        {72, 1152, 1024, 4, 0}, {72, 1025, 1024, 0, 512}, {130, 600, 577, 3, 100}, {20, 0, 100, 400, 400},
    };
    int failed = 0;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int round = 0; round < 3; round++)
            failed += run_select(cases[c][0], cases[c][1], cases[c][2], cases[c][3], cases[c][4], -1, 100 * c + round);
    return failed;
}

static int select_long(void) {
    return run_select(1024, 16384, 1000, 4, 100, RANDOM, 7) + run_select(1024, 16384, 16383, 0, 0, TIED, 8);
}

static int select_longest(void) {
    enum { S = 262144, M = 65536 };
    reduction x = reduction_make(KV_CACHE_F32, 4, 0, 1, 1, 1, S / KV_PAGE, S, M, 4, 1000);
    int32_t want_bad[1] = {0};
    fill_positions(&x.c, 0, S, 3);
    for (int s = 0; s < S; s++) x.score[s] = floorf(check_random(5, (uint64_t)s) * 1e5f);
    reduction_upload(&x);
    CHECK_CUDA(kv_cuda_select_slots(&x.r, 0));
    reduction_fetch(&x);
    int failed = compare_head(&x, 0, S, M, 4, 1000, want_bad);
    reduction_free(&x);
    return failed;
}

/* ---- compaction -----------------------------------------------------------------------------------------------------
 */

/* Offset inside a page of every element of K, then V: (2, KV_PAGE, head_dim). */
static size_t *element_map(const paged *c) {
    int d = c->layout.head_dim;
    size_t *at = (size_t *)malloc(2 * KV_PAGE * d * sizeof *at), size = c->layout.type == KV_CACHE_F32 ? 4 : 2;
    for (int i = 0; i < 2 * KV_PAGE * d; i++) {
        int is_v = i / (KV_PAGE * d);
        at[i] = (is_v ? c->layout.off_v : 0) + size * paged_index(c, is_v, i / d % KV_PAGE, i % d);
    }
    return at;
}

/* Distinct bits in every element of n slots. */
static void fill_slots(paged *c, size_t head, int n, uint64_t seed) {
    int d = c->layout.head_dim;
    size_t *at = element_map(c);
    for (int s = 0; s < n; s++) {
        char *page = c->image + paged_offset(c, head, s);
        for (int i = 0; i < 2 * d; i++) {
            size_t e = at[(i / d * KV_PAGE + s % KV_PAGE) * d + i % d];
            check_set_element(page + e, c->layout.type, 0, check_random(seed, (uint64_t)s * 2 * d + i));
        }
        for (int k = 0; k < c->layout.n_cols; k++) *paged_col(c, head, s, k) = check_random(seed + 1, s * 8 + k);
    }
    free(at);
}

/* Does slot `a` of a head in `now` equal slot `b` of the same head in the old image? */
static int same_slot(paged *now, const char *old, const size_t *at, size_t head, int a, int b) {
    int d = now->layout.head_dim, size = now->layout.type == KV_CACHE_F32 ? 4 : 2;
    const char *x = now->image + paged_offset(now, head, a), *y = old + paged_offset(now, head, b);
    size_t pa = (size_t)(a % KV_PAGE), pb = (size_t)(b % KV_PAGE);
    for (int i = 0; i < 2 * d; i++) {
        size_t row = (size_t)(i / d * KV_PAGE);
        if (memcmp(x + at[(row + pa) * d + i % d], y + at[(row + pb) * d + i % d], size) != 0) return 0;
    }
    for (int k = -1; k < now->layout.n_cols; k++) {
        size_t off = k < 0 ? now->layout.off_pos : now->layout.off_cols + (size_t)k * KV_PAGE * 4;
        if (memcmp(x + off + 4 * pa, y + off + 4 * pb, 4) != 0) return 0;
    }
    return 1;
}

/* Pages pushed: counts how often page `first + i` of the cache (physical order) lies on the stack. */
static int check_stack(const reduction *x, const char *wanted) {
    size_t n = paged_heads(&x->c) * x->c.page_cap;
    char *seen = (char *)calloc(n, 1);
    int failed = 0, count = OLD_FREE;
    for (int i = 0; i < OLD_FREE; i++) failed += x->stack[i] != (void *)(uintptr_t)(64 * (i + 1));
    for (int i = OLD_FREE; i < x->n_free; i++) {
        size_t at = (size_t)((char *)x->stack[i] - x->c.pages);
        if (at % x->c.layout.bytes || at / x->c.layout.bytes >= n || seen[at / x->c.layout.bytes]++) failed++;
    }
    for (size_t i = 0; i < n; i++) {
        failed += seen[i] != wanted[i];
        count += wanted[i];
    }
    failed += x->n_free != count;
    if (failed) printf("  free pages: %d wrong, %d on the stack\n", failed, x->n_free);
    free(seen);
    return failed;
}

/* Every head of the cache against the image before. */
static int check_compacted(reduction *x, const char *old, const int32_t *n_before) {
    int failed = 0, per = x->c.n_layers * x->c.n_kv_heads;
    size_t heads = paged_heads(&x->c), *at = element_map(&x->c), bytes = x->c.layout.bytes;
    char *wanted = (char *)calloc(heads * x->c.page_cap, 1);
    unsigned long long *moved = (unsigned long long *)calloc(x->c.n_seqs, sizeof *moved);
    int *row = (int *)malloc(heads * sizeof *row);
    for (size_t h = 0; h < heads; h++) row[h] = -1;
    for (int i = 0; i < x->n; i++)
        if (head_of(x, i) >= 0) row[head_of(x, i)] = i;
    for (size_t h = 0; h < heads; h++) {
        int i = row[h], m = i < 0 ? -1 : x->n_kept[i], bad = 0;
        bad += x->c.n_slots[h] != (m < 0 ? n_before[h] : m);
        for (int p = 0; m < 0 && p < x->c.page_cap; p++) {
            size_t off = paged_offset(&x->c, h, p * KV_PAGE);
            bad += memcmp(x->c.image + off, old + off, bytes) != 0;
        }
        for (int s = 0; s < m; s++) {
            int from = x->kept[(size_t)i * x->stride + s];
            bad += !same_slot(&x->c, old, at, h, s, from);
            moved[h / per] += from != s;
        }
        for (int p = (m + KV_PAGE - 1) / KV_PAGE; m >= 0 && p < (n_before[h] + KV_PAGE - 1) / KV_PAGE; p++)
            wanted[paged_offset(&x->c, h, p * KV_PAGE) / bytes] = 1;
        if (bad) printf("  head %zu: %d differences (%d slots kept of %d)\n", h, bad, m, n_before[h]);
        failed += bad;
    }
    for (int s = 0; s < x->c.n_seqs; s++) failed += x->moved[s] != moved[s];
    failed += check_stack(x, wanted);
    free(at), free(wanted), free(moved), free(row);
    return failed;
}

static int run_compact(kv_cache_type type, int d, int n_cols, int cap, int at, int budget, int kind, uint64_t seed) {
    reduction x = reduction_make(type, d, n_cols, 3, 2, 3, cap, at, budget, 4, 8);
    int full = cap * KV_PAGE;
    for (int i = 0; i < x.n; i++) {
        int head = head_of(&x, i), n = i % 4 == 0 ? full : budget + (int)(mix(seed, i) % (full - budget + 1));
        if (i % 9 == 5) n = budget;
        if (head < 0) continue;
        fill_positions(&x.c, (size_t)head, n, seed + i);
        fill_slots(&x.c, (size_t)head, n, seed + 1000 + i);
        for (int s = 0; s < n; s++)
            x.score[(size_t)i * x.stride + s] = score_of(i % 7 == 6 ? WITH_NAN : kind, seed + i, s, n);
    }
    reduction_upload(&x);
    size_t bytes = paged_heads(&x.c) * x.c.page_cap * x.c.layout.bytes;
    char *old = (char *)malloc(bytes);
    memcpy(old, x.c.image, bytes);
    int32_t *n_before = (int32_t *)malloc(paged_heads(&x.c) * sizeof *n_before);
    memcpy(n_before, x.c.n_slots, paged_heads(&x.c) * sizeof *n_before);
    CHECK_CUDA(kv_cuda_select_slots(&x.r, 0));
    CHECK_CUDA(kv_cuda_compact_slots(&x.r, 0));
    reduction_fetch(&x);
    paged_download(&x.c);
    CHECK_CUDA(cudaMemcpy(x.c.n_slots, x.c.d_slots, paged_heads(&x.c) * sizeof(int32_t), cudaMemcpyDeviceToHost));
    int failed = check_compacted(&x, old, n_before);
    if (failed) printf("  type %d d %d columns %d pages %d M %d kind %d\n", type, d, n_cols, cap, budget, kind);
    free(old), free(n_before);
    reduction_free(&x);
    return failed;
}

static int compact_matches(void) {
    static const int dims[] = {64, 96, 128}, kinds[] = {RANDOM, RISING, FALLING, TIED};
    int failed = 0;
    for (int type = 0; type < 2; type++)
        for (int i = 0; i < 12; i++) {
            kv_cache_type t = type ? KV_CACHE_BF16 : KV_CACHE_F32;
            int d = dims[i % 3], n_cols = i % 4, kind = kinds[i / 3];
            failed += run_compact(t, d, n_cols, 7, 60, 49, kind, 10 * i);
            failed += run_compact(t, d, n_cols, 19, 288, 257, kind, 10 * i + 1);
        }
    return failed;
}

static int compact_long(void) {
    return run_compact(KV_CACHE_BF16, 128, 2, 150, 2049, 2048, RANDOM, 1) +
           run_compact(KV_CACHE_BF16, 64, 1, 150, 1300, 1025, TIED, 2) +
           run_compact(KV_CACHE_F32, 96, 3, 100, 1500, 1100, RANDOM, 3) +
           run_compact(KV_CACHE_BF16, 256, 2, 12, 100, 33, RANDOM, 4) +
           run_compact(KV_CACHE_F32, 16, 0, 12, 100, 33, RANDOM, 5);
}

/* ---- copies ---------------------------------------------------------------------------------------------------------
 */

static int gather_matches(void) {
    int failed = 0;
    for (int type = 0; type < 2; type++)
        for (int n = 1; n < 100; n += 30) {
            enum { D = 96, COLS = 2 };
            paged c;
            paged_make(&c, type ? KV_CACHE_BF16 : KV_CACHE_F32, D, COLS, 0, 2, 2, 3, 7, NULL, 0);
            size_t head = paged_head(&c, 1, 1, 2);
            paged_fill(&c, head, n, n);
            paged_upload(&c);
            float *k = (float *)check_device(NULL, n * D * 4), *v = (float *)check_device(NULL, n * D * 4);
            int32_t *pos = (int32_t *)check_device(NULL, n * 4);
            float *cols = (float *)check_device(NULL, n * COLS * 4);
            CHECK_CUDA(kv_cuda_gather_head(c.seqs, 1, &c.layout, 1, 2, 3, n, k, v, pos, cols, 0));
            CHECK_CUDA(kv_cuda_gather_head(c.seqs, 1, &c.layout, 1, 2, 3, n, NULL, NULL, NULL, NULL, 0));
            float *hk = (float *)check_host(k, n * D * 4), *hv = (float *)check_host(v, n * D * 4);
            int32_t *hp = (int32_t *)check_host(pos, n * 4);
            float *hc = (float *)check_host(cols, n * COLS * 4);
            for (int i = 0; i < n * D; i++) {
                failed += hk[i] != paged_get(&c, head, 0, i / D, i % D);
                failed += hv[i] != paged_get(&c, head, 1, i / D, i % D);
            }
            for (int s = 0; s < n; s++) {
                failed += hp[s] != *paged_pos(&c, head, s);
                for (int j = 0; j < COLS; j++) failed += hc[j * n + s] != *paged_col(&c, head, s, j);
            }
            cudaFree(k), cudaFree(v), cudaFree(pos), cudaFree(cols);
            free(hk), free(hv), free(hp), free(hc);
            paged_free(&c);
        }
    if (failed) printf("  %d elements differ\n", failed);
    return failed;
}

/* Sequence 1 of a cache with four columns, into sequence 0 of one with three. */
static int run_copy(kv_cache_type type, int d, int n) {
    enum { L = 2, H = 3, CAP = 7 };
    static const int cols[3] = {3, -1, 0};
    paged from, to;
    int failed = 0;
    paged_make(&from, type, d, 4, 0, 2, L, H, CAP, NULL, 0);
    paged_make(&to, type, d, 3, 0, 2, L, H, CAP, NULL, 0);
    for (int h = 0; h < L * H; h++) {
        fill_positions(&from, L * H + h, CAP * KV_PAGE, h);
        fill_slots(&from, L * H + h, CAP * KV_PAGE, h + 50);
    }
    paged_upload(&from);
    paged_upload(&to);
    kv_cuda_seq both[2] = {to.host_seqs[0], from.host_seqs[1]};
    kv_cuda_seq *seqs = (kv_cuda_seq *)check_device(both, sizeof both);
    CHECK_CUDA(kv_cuda_copy_slots(seqs, 0, &to.layout, 1, &from.layout, cols, n, L, H, 0));
    char *before = (char *)malloc(paged_heads(&to) * CAP * to.layout.bytes);
    memcpy(before, to.image, paged_heads(&to) * CAP * to.layout.bytes);
    paged_download(&to);
    size_t *at = element_map(&from), size = type == KV_CACHE_F32 ? 4 : 2;
    for (int h = 0; h < 2 * L * H; h++)
        for (int s = 0; s < CAP * KV_PAGE; s++) {
            size_t off = paged_offset(&to, h, s);
            if (h >= L * H || s / KV_PAGE > (n - 1) / KV_PAGE) {
                failed += memcmp(to.image + off, before + off, to.layout.bytes) != 0;
            } else if (s < n) {
                const char *a = to.image + off, *b = from.image + paged_offset(&from, L * H + h, s);
                for (int i = 0; i < 2 * d; i++) {
                    size_t e = at[(i / d * KV_PAGE + s % KV_PAGE) * d + i % d];
                    failed += memcmp(a + e, b + e, size) != 0;
                }
                failed += *paged_pos(&to, h, s) != *paged_pos(&from, L * H + h, s);
                for (int c = 0; c < 3; c++)
                    failed += *paged_col(&to, h, s, c) != (cols[c] < 0 ? 0 : *paged_col(&from, L * H + h, s, cols[c]));
            }
        }
    if (failed) printf("  type %d d %d n %d: %d differences\n", type, d, n, failed);
    free(at), free(before), cudaFree(seqs);
    paged_free(&from);
    paged_free(&to);
    return failed;
}

static int copy_matches(void) {
    int failed = 0;
    static const int ns[] = {1, 16, 31, 97, 112};
    for (int i = 0; i < 5; i++) failed += run_copy(KV_CACHE_BF16, 128, ns[i]) + run_copy(KV_CACHE_F32, 64, ns[i]);
    return failed;
}

int main(int argc, char **argv) {
    static const check checks[] = {
        {"selects_what_the_shared_selector_selects", select_matches},
        {"selects_from_long_heads", select_long},
        {"selects_from_the_longest_head", select_longest},
        {"compacts_in_place_and_returns_each_page_once", compact_matches},
        {"compacts_across_tiles_and_other_head_sizes", compact_long},
        {"gathers_a_head_to_plain_arrays", gather_matches},
        {"copies_slots_between_layouts", copy_matches},
    };
    return check_main(argc, argv, checks, sizeof checks / sizeof *checks);
}
