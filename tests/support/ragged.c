/* ragged.c - see ragged.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/ragged.h"

/* ---- the policy -------------------------------------------------------------------------------------------------- */

static int open_nothing(void **state, const kv_shape *shape, const kv_policy_args *args, kv_error *err) {
    (void)state, (void)shape, (void)args, (void)err;
    return KV_OK;
}

static kv_pool pool_of_state(const void *state, int *floor) {
    *floor = ((const tr_state *)state)->floor;
    return ((const tr_state *)state)->pool;
}

static void score_by_age(const void *state, const kv_score_args *a, float *score) {
    static const int rate[] = {1, 1, 3, 9};
    const tr_state *s = state;
    int head = a->layer * s->n_kv_heads + a->kv_head;
    for (int i = 0; i < a->n_slots; i++)
        score[i] = head == s->nan_head ? NAN : (float)-((a->n_seen - a->pos[i]) * rate[head % 4]);
}

const kv_policy tr_policy = {
    .name = "ragged", .title = "ragged", .open = open_nothing, .pool = pool_of_state, .score = score_by_age};

static kv_pool pool_model(const void *state, int *floor) {
    (void)state, (void)floor;
    return KV_POOL_MODEL;
}

kv_policy tr_pooled(const kv_policy *p) {
    kv_policy pooled = *p;
    pooled.pool = pool_model;
    return pooled;
}

/* ---- the witness ------------------------------------------------------------------------------------------------- */

typedef struct tr_head {
    int n_before, n_kept;
    int32_t before[TR_MAX_SLOTS], kept[TR_MAX_SLOTS];
    float score[TR_MAX_SLOTS];
} tr_head;

typedef struct record {
    float score;
    int32_t pos;
    int head;
} record;

/* Best first. */
static int compare_records(const void *a, const void *b) {
    const record *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->pos != y->pos) return x->pos > y->pos ? -1 : 1;
    return x->head > y->head ? -1 : 1;
}

static int compare_positions(const void *a, const void *b) {
    return *(const int32_t *)a - *(const int32_t *)b;
}

static int put_head(record *out, const tr_head *h, int index) {
    for (int i = 0; i < h->n_before; i++) out[i] = (record){h->score[i], h->before[i], index};
    return h->n_before;
}

/* The pool of heads [first, first + size) is complete. */
static void check_pool(tr_witness *w, int first, int n_seen) {
    int room = w->size * (w->setup->budget - w->floor), won[TR_HEADS] = {0}, total = 0;
    record *all = malloc(TR_HEADS * TR_MAX_SLOTS * sizeof *all);
    int32_t *want = malloc(TR_MAX_SLOTS * sizeof *want);
    assert_true(all && want);
    for (int h = first; h < first + w->size; h++) total += put_head(all + total, &w->heads[h], h);
    qsort(all, (size_t)total, sizeof *all, compare_records);
    for (int i = 0; i < room && i < total; i++) won[all[i].head]++;
    for (int h = first; h < first + w->size; h++) {
        const tr_head *x = &w->heads[h];
        int n = won[h] + w->floor < x->n_before ? won[h] + w->floor : x->n_before;
        put_head(all, x, h);
        qsort(all, (size_t)x->n_before, sizeof *all, compare_records);
        for (int i = 0; i < n; i++) want[i] = all[i].pos;
        qsort(want, (size_t)n, sizeof *want, compare_positions);
        if (x->n_kept != n || memcmp(x->kept, want, (size_t)n * sizeof *want))
            fail_msg("T = %d, head %d: %d slots stayed, %d should, or others", n_seen, h, x->n_kept, n);
    }
    w->n_pools++;
    free(all);
    free(want);
}

static void add_to_hash(tr_witness *w, const int32_t *x, int n) {
    for (int i = 0; i < n; i++) w->hash = (w->hash ^ (uint32_t)x[i]) * 0x100000001b3u;
}

static void on_evict(void *user, void *request_user, int layer, int kv_head, int n_seen, const int32_t *before,
                     int n_before, const int32_t *kept, int n_kept) {
    tr_witness *w = user;
    if (request_user != w->result) return;
    int index = layer * w->shape.n_kv_heads + kv_head, same = 0;
    tr_head *h = &w->heads[index];
    kv_score_args a = {.layer = layer, .kv_head = kv_head, .n_slots = n_before, .n_seen = n_seen, .pos = before};
    assert_true(n_before <= TR_MAX_SLOTS && n_kept <= n_before);
    h->n_before = n_before;
    h->n_kept = n_kept;
    memcpy(h->before, before, (size_t)n_before * sizeof *before);
    memcpy(h->kept, kept, (size_t)n_kept * sizeof *kept);
    w->setup->policy->score(w->setup->state, &a, h->score);
    while (same < n_kept && kept[same] == before[same]) same++;
    w->n[index] = n_kept;
    w->n_dropped += n_before - n_kept;
    w->n_moved += n_kept - same;
    if (n_kept < w->shortest) w->shortest = n_kept;
    if (n_kept > w->longest) w->longest = n_kept;
    add_to_hash(w, (int32_t[]){layer, kv_head, n_seen, n_before, n_kept}, 5);
    add_to_hash(w, before, n_before);
    add_to_hash(w, kept, n_kept);
    if ((index + 1) % w->size == 0) check_pool(w, index + 1 - w->size, n_seen);
}

static void on_append(void *user, void *request_user, int layer, int n, const int32_t *pos, const float *hidden,
                      const float *q, const float *k, const float *v) {
    tr_witness *w = user;
    int n_heads = w->shape.n_layers * w->shape.n_kv_heads, pages = 0;
    int64_t held = 0;
    (void)pos, (void)hidden, (void)q, (void)k, (void)v;
    if (request_user != w->result) return;
    for (int i = 0; i < w->shape.n_kv_heads; i++) w->n[layer * w->shape.n_kv_heads + i] += n;
    if (layer < w->shape.n_layers - 1) return;
    for (int i = 0; i < n_heads; i++) {
        held += w->n[i];
        pages += (w->n[i] + KV_PAGE - 1) / KV_PAGE;
    }
    double mean = (double)held / n_heads;
    if (mean > w->peak) w->peak = mean;
    if (pages > w->peak_pages) w->peak_pages = pages;
    if (n > 1) return;
    w->held_sum += mean;
    w->n_steps++;
}

void tr_witness_open(tr_witness *w, const kv_setup *setup, const kv_engine *e, const void *result) {
    const kv_shape *s = &kv_engine_info(e)->shape;
    *w = (tr_witness){.setup = setup, .shape = *s, .size = 1, .result = result, .shortest = TR_MAX_SLOTS};
    kv_pool pool = setup->policy->pool(setup->state, &w->floor);
    if (pool != KV_POOL_HEAD) w->size = s->n_kv_heads;
    if (pool == KV_POOL_MODEL) w->size *= s->n_layers;
    assert_true(s->n_layers * s->n_kv_heads <= TR_HEADS);
    w->heads = malloc(TR_HEADS * sizeof *w->heads);
    assert_non_null(w->heads);
}

void tr_witness_close(tr_witness *w) {
    free(w->heads);
}

kv_trace tr_witness_trace(tr_witness *w, int sees_appends) {
    return (kv_trace){.user = w, .on_append = sees_appends ? on_append : NULL, .on_evict = on_evict};
}
