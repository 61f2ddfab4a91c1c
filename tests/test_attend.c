/* test_attend.c - the CPU backend's paged cache ops in every instruction set this machine has: attention against a
 * double-precision twin, the same bits in decoding, chunks and prefill, attention mass, and moves of slots. */
#include "engine/cpu/cpu.h"
#include "tests/support/ops.h"
#include "tests/support/ref_ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct shape {
    int head_dim, n_kv_heads, group;
} shape;

static const shape shapes[] = {{8, 2, 2}, {16, 1, 1}, {64, 3, 3}, {2, 1, 5}, {34, 2, 7}, {128, 2, 4}, {256, 1, 16}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static int attend(kv_backend *b, kv_test_cache *c, const shape *s, const float *q, float *out, int n_q, int add_mass) {
    size_t row = (size_t)s->head_dim * s->n_kv_heads * s->group;
    kv_attend_task t = {.layout = &c->layout,
                        .heads = c->heads,
                        .q = q,
                        .q_stride = row,
                        .out = out,
                        .out_stride = row,
                        .n_q = n_q,
                        .add_mass = add_mass};
    return b->ops->attend(b, &t, 1, s->n_kv_heads * s->group, s->n_kv_heads, 1.0f / sqrtf((float)s->head_dim));
}

/* Twin over rows [0, n) of k and v; the queries are those of the last n_q rows. */
static void compare_with_twin(const kv_test_cache *c, const shape *s, const float *q, const float *k, const float *v,
                              const float *out, const float *mass, int n_q, int n) {
    int d = s->head_dim, hk = s->n_kv_heads, g = s->group;
    float *kh = kv_test_floats((size_t)n * d, 0), *vh = kv_test_floats((size_t)n * d, 0);
    float *qh = kv_test_floats((size_t)n_q * g * d, 0);
    double *want = kv_test_doubles((size_t)n_q * g * d), *want_mass = kv_test_doubles((size_t)n);
    for (int h = 0; h < hk; h++) {
        for (int i = 0; i < n * d; i++) {
            kh[i] = kv_ref_cached(c->layout.type, k[((size_t)(i / d) * hk + h) * d + i % d]);
            vh[i] = kv_ref_cached(c->layout.type, v[((size_t)(i / d) * hk + h) * d + i % d]);
        }
        for (int i = 0; i < n_q; i++)
            memcpy(qh + (size_t)i * g * d, q + ((size_t)i * hk + h) * g * d, (size_t)g * d * sizeof *qh);
        memset(want_mass, 0, (size_t)n * sizeof *want_mass);
        kv_ref_attend(want, want_mass, qh, kh, vh, n_q, g, d, n, 1.0f / sqrtf((float)d));
        for (int i = 0; i < n_q * g * d; i++) {
            float got = out[((size_t)(i / (g * d)) * hk + h) * g * d + i % (g * d)];
            if (!(fabs(got - want[i]) <= 1e-5 + 1e-5 * fabs(want[i]))) fail_msg("%.9g, expected %.9g", got, want[i]);
        }
        for (int i = 0; mass && i < n; i++) {
            double got = mass[(size_t)h * n + i];
            if (!(fabs(got - want_mass[i]) <= 2e-6 + 1e-5 * want_mass[i])) fail_msg("%.9g, %.9g", got, want_mass[i]);
        }
    }
    kv_test_free(5, kh, vh, qh, want, want_mass);
}

/* Mass of every head, (n_kv_heads, n). */
static float *read_mass(kv_backend *b, const kv_test_cache *c, int n) {
    float *mass = kv_test_floats((size_t)c->n_heads * n, 0);
    float *cols = kv_test_floats((size_t)c->layout.n_cols * n, 0);
    for (int h = 0; h < c->n_heads; h++) {
        b->ops->gather(b, &c->layout, &c->heads[h], NULL, NULL, cols);
        memcpy(mass + (size_t)h * n, cols, (size_t)n * sizeof *mass);
    }
    free(cols);
    return mass;
}

static void attention_matches_double_precision(void **state) {
    (void)state;
    static const int lengths[][2] = {{1, 1}, {17, 1}, {31, 31}, {52, 5}, {131, 1}, {83, 70}}; /* slots, queries */
    for (int type = KV_CACHE_F32; type <= KV_CACHE_F16; type++) {
        FOR_EACH_BACKEND(b, KV_EXACT, 2, 8) {
            for (int i = 0; i < N_SHAPES; i++) {
                const shape *s = &shapes[i];
                for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
                    int n = lengths[l][0], n_q = lengths[l][1];
                    size_t kv = (size_t)n * s->n_kv_heads * s->head_dim;
                    float *k = kv_test_floats(kv, 1), *v = kv_test_floats(kv, 2), *mass;
                    float *q = kv_test_floats(kv * s->group, 3), *out = kv_test_floats(kv * s->group, 4);
                    kv_test_cache c = kv_test_cache_create(type, s->head_dim, 1, 1, s->n_kv_heads, n);
                    kv_test_append(b, &c, k, v, NULL, 0, n);
                    assert_int_equal(attend(b, &c, s, q, out, n_q, 1), KV_OK);
                    mass = read_mass(b, &c, n);
                    compare_with_twin(&c, s, q, k, v, out, mass, n_q, n);
                    kv_test_cache_free(&c);
                    kv_test_free(5, k, v, q, out, mass);
                }
            }
        }
    }
}

static void decoding_chunks_and_prefill_give_the_same_bits(void **state) {
    (void)state;
    enum { N = 101 };
    static const int chunks[] = {N, 1, 7, 32, 90};
    FOR_EACH_BACKEND(b, KV_EXACT, 2, 8) {
        for (int i = 0; i < N_SHAPES; i++) {
            const shape *s = &shapes[i];
            size_t kv = (size_t)N * s->n_kv_heads * s->head_dim, row = kv / N * s->group;
            float *k = kv_test_floats(kv, 1), *v = kv_test_floats(kv, 2), *q = kv_test_floats(kv * s->group, 3);
            float *out = kv_test_floats(kv * s->group, 4), *want = kv_test_floats(kv * s->group, 5);
            for (size_t j = 0; j < sizeof chunks / sizeof *chunks; j++) {
                kv_test_cache c = kv_test_cache_create(KV_CACHE_F16, s->head_dim, 0, 0, s->n_kv_heads, N);
                for (int at = 0; at < N; at += chunks[j]) {
                    int n = N - at < chunks[j] ? N - at : chunks[j];
                    kv_test_append(b, &c, k, v, NULL, at, n);
                    assert_int_equal(attend(b, &c, s, q + at * row, (j ? out : want) + at * row, n, 0), KV_OK);
                }
                if (j) assert_memory_equal(out, want, kv * s->group * sizeof *out);
                kv_test_cache_free(&c);
            }
            kv_test_free(5, k, v, q, out, want);
        }
    }
}

/* Longer than two splits: against the twin, and alone around the borders of the splits. */
static void long_caches_are_merged_from_splits(void **state) {
    (void)state;
    enum { N = 2 * KV_SPLIT + 77, D = 16, GROUP = 2 };
    const shape s = {D, 1, GROUP};
    float *k = kv_test_floats(N * D, 1), *v = kv_test_floats(N * D, 2), *q = kv_test_floats(N * D * GROUP, 3);
    float *want = kv_test_floats(N * D * GROUP, 4), out[D * GROUP];
    for (int i = 0; i < N * D; i++) k[i] *= 4; /* maxima that rise from split to split and fall */
    FOR_EACH_BACKEND(b, KV_EXACT, 2, 8) {
        for (int type = KV_CACHE_F32; type <= KV_CACHE_F16; type++) {
            kv_test_cache c = kv_test_cache_create(type, D, 1, 1, 1, N);
            kv_test_append(b, &c, k, v, NULL, 0, N);
            assert_int_equal(attend(b, &c, &s, q, want, N, 1), KV_OK);
            float *mass = read_mass(b, &c, N);
            if (type == KV_CACHE_F16) compare_with_twin(&c, &s, q, k, v, want, mass, N, N);
            for (int i = 0; i < N; i += i % KV_SPLIT < 3 || i % KV_SPLIT > KV_SPLIT - 3 ? 1 : 31) {
                c.heads[0].n_slots = i + 1;
                assert_int_equal(attend(b, &c, &s, q + i * D * GROUP, out, 1, i % 2), KV_OK);
                assert_memory_equal(out, want + i * D * GROUP, sizeof out);
            }
            kv_test_cache_free(&c);
            free(mass);
        }
    }
    kv_test_free(4, k, v, q, want);
}

static void mass_and_output_do_not_depend_on_threads(void **state) {
    (void)state;
    enum { N = 210 };
    const shape *s = &shapes[2];
    size_t kv = (size_t)N * s->n_kv_heads * s->head_dim;
    float *k = kv_test_floats(kv, 1), *v = kv_test_floats(kv, 2), *q = kv_test_floats(kv * s->group, 3);
    for (int isa = 0; isa < KV_N_ISA; isa++) {
        float *want = NULL, *want_mass = NULL;
        for (int threads = 1; threads <= 3; threads++) {
            kv_backend *b = kv_test_backend(isa, KV_EXACT, threads, 8);
            if (!b) continue;
            kv_test_cache c = kv_test_cache_create(KV_CACHE_F16, s->head_dim, 1, 1, s->n_kv_heads, N);
            float *out = kv_test_floats(kv * s->group, 4);
            kv_test_append(b, &c, k, v, NULL, 0, N - 10);
            assert_int_equal(attend(b, &c, s, q, out, N - 10, 1), KV_OK);
            kv_test_append(b, &c, k, v, NULL, N - 10, 10);
            assert_int_equal(attend(b, &c, s, q, out, 10, 1), KV_OK);
            float *mass = read_mass(b, &c, N);
            if (want) {
                assert_memory_equal(out, want, kv * s->group * sizeof *out);
                assert_memory_equal(mass, want_mass, (size_t)N * s->n_kv_heads * sizeof *mass);
                kv_test_free(2, out, mass);
            } else {
                want = out;
                want_mass = mass;
            }
            kv_test_cache_free(&c);
            b->ops->destroy(b);
        }
        kv_test_free(2, want, want_mass);
    }
    kv_test_free(3, k, v, q);
}

/* Many sequences in one call, one head shorter than the others: each as if it were alone. */
static void tasks_and_ragged_heads_are_independent(void **state) {
    (void)state;
    enum { TASKS = 9 };
    const shape *s = &shapes[2];
    size_t row = (size_t)s->n_kv_heads * s->group * s->head_dim;
    FOR_EACH_BACKEND(b, KV_EXACT, 2, 8) {
        kv_test_cache c[TASKS];
        kv_attend_task t[TASKS];
        float *q = kv_test_floats(TASKS * row, 3), *out = kv_test_floats(TASKS * row, 4),
              *want = kv_test_floats(row, 5);
        for (int i = 0; i < TASKS; i++) {
            int n = 3 + 37 * i;
            size_t kv = (size_t)n * s->n_kv_heads * s->head_dim;
            float *k = kv_test_floats(kv, 10 + i), *v = kv_test_floats(kv, 30 + i);
            c[i] = kv_test_cache_create(KV_CACHE_F16, s->head_dim, 2, 1, s->n_kv_heads, n);
            kv_test_append(b, &c[i], k, v, k, 0, n);
            c[i].heads[1].n_slots = n / 2 + 1;
            t[i] = (kv_attend_task){&c[i].layout, c[i].heads, q + i * row, row, out + i * row, row, 1, i % 2};
            kv_test_free(2, k, v);
        }
        assert_int_equal(b->ops->attend(b, t, TASKS, s->n_kv_heads * s->group, s->n_kv_heads, 0.125f), KV_OK);
        for (int i = 0; i < TASKS; i++) {
            t[i].out = want;
            t[i].add_mass = 0;
            assert_int_equal(b->ops->attend(b, &t[i], 1, s->n_kv_heads * s->group, s->n_kv_heads, 0.125f), KV_OK);
            assert_memory_equal(out + i * row, want, row * sizeof *want);
            for (int h = 0; i % 2 && h < s->n_kv_heads; h++) {
                float *cols = kv_test_floats((size_t)2 * c[i].heads[h].n_slots, 0);
                double sum = 0;
                b->ops->gather(b, &c[i].layout, &c[i].heads[h], NULL, NULL, cols);
                for (int j = 0; j < c[i].heads[h].n_slots; j++) sum += cols[j];
                assert_true(fabs(sum - s->group) < 1e-5);
                free(cols);
            }
            kv_test_cache_free(&c[i]);
        }
        kv_test_free(3, q, out, want);
    }
}

static void check_slots(kv_backend *b, const kv_test_cache *c, int h, const float *k, const float *stats,
                        const int32_t *kept, int n, int col) {
    int d = c->layout.head_dim, nh = c->n_heads;
    float *keys = kv_test_floats((size_t)n * d, 0), *cols = kv_test_floats((size_t)n * c->layout.n_cols, 0);
    int32_t *pos = malloc((size_t)n * sizeof *pos);
    b->ops->gather(b, &c->layout, &c->heads[h], keys, pos, cols);
    for (int i = 0; i < n; i++) {
        int row = kept ? kept[i] : i;
        assert_int_equal(pos[i], row);
        assert_true(cols[(size_t)col * n + i] == stats[row * nh + h]);
        for (int e = 0; e < d; e++)
            assert_true(keys[(size_t)i * d + e] == kv_ref_cached(c->layout.type, k[((size_t)row * nh + h) * d + e]));
    }
    kv_test_free(3, keys, cols, pos);
}

static void compaction_keeps_the_kept_slots_in_order(void **state) {
    (void)state;
    enum { N = 93, HEADS = 2 };
    for (int type = KV_CACHE_F32; type <= KV_CACHE_F16; type++) {
        FOR_EACH_BACKEND(b, KV_EXACT, 1, 8) {
            for (int pattern = 0; pattern < 6; pattern++) {
                int d = pattern % 2 ? 34 : 64, n = 0;
                int32_t kept[N];
                for (int i = 0; i < N; i++) {
                    int keep[] = {i % 3 != 1, i > 40, i < 50, 1, i % 17 == 5, i < 4 || i % 7 == 0 || i > 80};
                    if (keep[pattern]) kept[n++] = i;
                }
                shape s = {d, HEADS, 3};
                size_t kv = (size_t)N * HEADS * d;
                float *k = kv_test_floats(kv, 1), *v = kv_test_floats(kv, 2), *stats = kv_test_floats(N * HEADS, 3);
                float *q = kv_test_floats(HEADS * 3 * d, 4), *out = kv_test_floats(HEADS * 3 * d, 5);
                float *kk = malloc(kv * sizeof *kk), *vv = malloc(kv * sizeof *vv);
                kv_test_cache c = kv_test_cache_create(type, d, 2, 1, HEADS, N);
                kv_test_append(b, &c, k, v, stats, 0, N);
                for (int h = 0; h < HEADS; h++) {
                    b->ops->compact(b, &c.layout, &c.heads[h], kept, n);
                    c.heads[h].n_slots = n;
                    check_slots(b, &c, h, k, stats, kept, n, 1);
                }
                for (int i = 0; i < n; i++) {
                    memcpy(kk + i * HEADS * d, k + kept[i] * HEADS * d, HEADS * (size_t)d * sizeof *k);
                    memcpy(vv + i * HEADS * d, v + kept[i] * HEADS * d, HEADS * (size_t)d * sizeof *v);
                }
                assert_int_equal(attend(b, &c, &s, q, out, 1, 0), KV_OK);
                compare_with_twin(&c, &s, q, kk, vv, out, NULL, 1, n);
                kv_test_cache_free(&c);
                kv_test_free(7, k, v, stats, q, out, kk, vv);
            }
        }
    }
}

static void copies_take_columns_by_number(void **state) {
    (void)state;
    enum { N = 41, HEADS = 2, D = 24 };
    static const int cols[] = {-1, 1, 0};
    for (int type = KV_CACHE_F32; type <= KV_CACHE_F16; type++) {
        FOR_EACH_BACKEND(b, KV_EXACT, 1, 8) {
            float *k = kv_test_floats(N * HEADS * D, 1), *stats = kv_test_floats(N * HEADS, 3), got[3 * N];
            kv_test_cache from = kv_test_cache_create(type, D, 2, 1, HEADS, N);
            kv_test_cache to = kv_test_cache_create(type, D, 3, 1, HEADS, N);
            kv_test_append(b, &from, k, k, stats, 0, N);
            for (int h = 0; h < HEADS; h++) {
                b->ops->copy_slots(b, &to.layout, &to.heads[h], &from.layout, &from.heads[h], cols, N);
                to.heads[h].n_slots = N;
                check_slots(b, &to, h, k, stats, NULL, N, 1);
                b->ops->gather(b, &to.layout, &to.heads[h], NULL, NULL, got);
                for (int i = 0; i < N; i++) assert_true(got[i] == 0 && got[2 * N + i] == 0);
            }
            kv_test_cache_free(&from);
            kv_test_cache_free(&to);
            kv_test_free(2, k, stats);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_matches_double_precision),
        cmocka_unit_test(decoding_chunks_and_prefill_give_the_same_bits),
        cmocka_unit_test(long_caches_are_merged_from_splits),
        cmocka_unit_test(mass_and_output_do_not_depend_on_threads),
        cmocka_unit_test(tasks_and_ragged_heads_are_independent),
        cmocka_unit_test(compaction_keeps_the_kept_slots_in_order),
        cmocka_unit_test(copies_take_columns_by_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
