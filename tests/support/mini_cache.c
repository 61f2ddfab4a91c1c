/* mini_cache.c - see mini_cache.h. */
#include "tests/support/mini_cache.h"

#include "policies/select.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void *get(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    assert_non_null(p);
    return p;
}

/* Scratch has undefined contents: here, ones that would win every comparison. */
static float *get_scratch(size_t n) {
    float *p = get(n, sizeof *p);
    for (size_t i = 0; i < n; i++) p[i] = 1e30f;
    return p;
}

void kv_mini_linear(void *ctx, float *out, const float *x, const float *w, const float *b, int n_rows, int n_in,
                    int n_out) {
    (void)ctx;
    for (int r = 0; r < n_rows; r++)
        for (int o = 0; o < n_out; o++) {
            double sum = b ? b[o] : 0;
            for (int i = 0; i < n_in; i++) sum += (double)x[r * n_in + i] * w[o * n_in + i];
            out[r * n_out + o] = (float)sum;
        }
}

void kv_mini_open(kv_mini *m, const kv_mini_options *o) {
    kv_error err = {0};
    *m = (kv_mini){.shape = o->shape,
                   .layer = o->layer,
                   .budget = o->budget,
                   .buffer = o->buffer,
                   .cap = o->cap,
                   .seed = o->seed,
                   .gates = o->gates};
    if (kv_policy_parse(o->policy, &m->spec, &err)) fail_msg("%s", err.text);
    kv_policy_args args = {m->spec.values, o->budget, o->buffer, o->seed, o->gates};
    if (m->spec.policy->open(&m->state, &m->shape, &args, &err)) fail_msg("%s", err.text);
    size_t cap = (size_t)o->cap, d = (size_t)o->shape.head_dim;
    m->hidden = get(cap * (size_t)o->shape.dim, sizeof *m->hidden);
    m->q = get(cap * (size_t)o->shape.n_heads * d, sizeof *m->q);
    m->k = get(cap * (size_t)o->shape.n_kv_heads * d, sizeof *m->k);
    m->score = get(cap, sizeof *m->score);
    m->heads = get((size_t)o->shape.n_kv_heads, sizeof *m->heads);
    for (int h = 0; h < o->shape.n_kv_heads; h++) {
        kv_mini_head *c = &m->heads[h];
        c->pos = get(cap, sizeof *c->pos);
        c->mass = get(cap, sizeof *c->mass);
        c->last_p = get(cap, sizeof *c->last_p);
        for (int i = 0; i < KV_MAX_STATS; i++) c->stats[i] = get(cap, sizeof **c->stats);
        c->events = get(2 * cap, sizeof *c->events);
        c->event_pos = get(cap * (cap + 1), sizeof *c->event_pos);
    }
}

void kv_mini_close(kv_mini *m) {
    for (int h = 0; h < m->shape.n_kv_heads; h++) {
        kv_mini_head *c = &m->heads[h];
        free(c->pos);
        free(c->mass);
        free(c->last_p);
        for (int i = 0; i < KV_MAX_STATS; i++) free(c->stats[i]);
        free(c->events);
        free(c->event_pos);
    }
    free(m->heads);
    free(m->score);
    free(m->k);
    free(m->q);
    free(m->hidden);
    if (m->spec.policy->close) m->spec.policy->close(m->state);
}

static void record(kv_mini_head *c, kv_ref_kind kind, int n, const int32_t *pos) {
    int32_t *copy = c->event_pos + c->n_event_pos;
    memcpy(copy, pos, (size_t)n * sizeof *pos);
    c->n_event_pos += n;
    c->events[c->n_events++] = (kv_ref_event){kind, n, copy};
}

/* Query `row` of KV head h over its first n slots. */
static void attend(kv_mini *m, int h, int row, int n) {
    kv_mini_head *c = &m->heads[h];
    int d = m->shape.head_dim, group = m->shape.n_heads / m->shape.n_kv_heads;
    double *p = get((size_t)n, sizeof *p);
    memset(c->last_p, 0, (size_t)m->cap * sizeof *c->last_p);
    for (int g = 0; g < group; g++) {
        const float *q = m->q + (row * m->shape.n_heads + h * group + g) * d;
        double sum = 0;
        for (int j = 0; j < n; j++) {
            double x = 0;
            for (int i = 0; i < d; i++) x += (double)q[i] * m->k[(c->pos[j] * m->shape.n_kv_heads + h) * d + i];
            sum += p[j] = exp(x / sqrt(d));
        }
        for (int j = 0; j < n; j++) c->last_p[j] += p[j] / sum;
    }
    for (int j = 0; j < n; j++) c->mass[j] += (float)c->last_p[j];
    free(p);
}

void kv_mini_append(kv_mini *m, int n, const float *hidden, const float *q, const float *k) {
    const kv_policy *p = m->spec.policy;
    int first = m->n_seen, n_kv = m->shape.n_kv_heads, d = m->shape.head_dim;
    assert_true(first + n <= m->cap);
    if (hidden) memcpy(m->hidden + first * m->shape.dim, hidden, (size_t)(n * m->shape.dim) * sizeof *hidden);
    memcpy(m->q + first * m->shape.n_heads * d, q, (size_t)(n * m->shape.n_heads * d) * sizeof *q);
    memcpy(m->k + first * n_kv * d, k, (size_t)(n * n_kv * d) * sizeof *k);
    float *stats = get((size_t)(n * n_kv * KV_MAX_STATS), sizeof *stats);
    int32_t *pos = get((size_t)n, sizeof *pos);
    for (int i = 0; i < n; i++) pos[i] = first + i;
    if (p->needs & KV_NEED_OBSERVE) {
        float *scratch = get_scratch(KV_MIN_SCRATCH);
        kv_services sv = {.linear = kv_mini_linear, .scratch = scratch, .n_scratch = KV_MIN_SCRATCH};
        kv_observe_args a = {m->layer, n, hidden, k, k, pos, stats};
        p->observe(m->state, &sv, &a);
        free(scratch);
    }
    for (int h = 0; h < n_kv; h++) {
        kv_mini_head *c = &m->heads[h];
        for (int i = 0; i < n; i++) {
            int slot = c->n_slots++;
            c->pos[slot] = pos[i];
            c->mass[slot] = 0;
            for (int s = 0; s < p->n_stats; s++) c->stats[s][slot] = stats[(i * n_kv + h) * p->n_stats + s];
        }
        for (int i = 0; i < n; i++) attend(m, h, first + i, c->n_slots - n + i + 1);
        record(c, KV_REF_APPEND, n, pos);
    }
    m->n_seen += n;
    free(pos);
    free(stats);
}

/* Copies what the policy declared and nothing else, so that an undeclared read is a NULL dereference. */
void kv_mini_score(kv_mini *m, int head) {
    const kv_policy *p = m->spec.policy;
    kv_mini_head *c = &m->heads[head];
    int d = m->shape.head_dim, group = m->shape.n_heads / m->shape.n_kv_heads;
    int w = p->needs & KV_NEED_QUERIES ? p->window(m->state) : 0;
    if (w > m->n_seen) w = m->n_seen;
    float *keys = get((size_t)(c->n_slots * d), sizeof *keys);
    float *queries = get((size_t)(w * group * d), sizeof *queries);
    float *scratch = get_scratch((size_t)((w + 4) * c->n_slots));
    for (int j = 0; j < c->n_slots; j++)
        memcpy(keys + j * d, m->k + (c->pos[j] * m->shape.n_kv_heads + head) * d, (size_t)d * sizeof *keys);
    for (int t = 0; t < w; t++)
        memcpy(queries + t * group * d, m->q + ((m->n_seen - w + t) * m->shape.n_heads + head * group) * d,
               (size_t)(group * d) * sizeof *queries);
    kv_score_args a = {
        .layer = m->layer,
        .kv_head = head,
        .n_slots = c->n_slots,
        .n_seen = m->n_seen,
        .pos = c->pos,
        .stats = p->n_stats ? (const float *const *)c->stats : NULL,
        .mass = p->needs & KV_NEED_MASS ? c->mass : NULL,
        .keys = p->needs & KV_NEED_KEYS ? keys : NULL,
        .queries = p->needs & KV_NEED_QUERIES ? queries : NULL,
        .n_queries = w,
        .group = group,
        .head_dim = d,
        .scratch = scratch,
    };
    p->score(m->state, &a, m->score);
    free(scratch);
    free(queries);
    free(keys);
}

static void reduce_head(kv_mini *m, int head) {
    const kv_policy *p = m->spec.policy;
    kv_mini_head *c = &m->heads[head];
    int32_t *kept = get((size_t)c->n_slots, sizeof *kept), *scratch = get((size_t)c->n_slots, sizeof *scratch);
    int n_sink = 0, n_recent = 0;
    if (p->protect) p->protect(m->state, &n_sink, &n_recent);
    kv_mini_score(m, head);
    int n = kv_select(m->score, c->pos, c->n_slots, m->budget, n_sink, n_recent, kept, scratch);
    assert_int_equal(n, m->budget);
    for (int i = 0; i < n; i++) {
        c->pos[i] = c->pos[kept[i]];
        c->mass[i] = c->mass[kept[i]];
        for (int s = 0; s < p->n_stats; s++) c->stats[s][i] = c->stats[s][kept[i]];
    }
    c->n_slots = n;
    record(c, KV_REF_EVICT, n, c->pos);
    free(scratch);
    free(kept);
}

int kv_mini_reduce(kv_mini *m) {
    if (m->spec.policy->never_evicts || m->heads[0].n_slots < m->budget + m->buffer) return 0;
    for (int h = 0; h < m->shape.n_kv_heads; h++) reduce_head(m, h);
    return 1;
}

kv_ref_trace kv_mini_trace(const kv_mini *m, int head) {
    return (kv_ref_trace){
        .shape = m->shape,
        .layer = m->layer,
        .kv_head = head,
        .n_seen = m->n_seen,
        .hidden = m->hidden,
        .q = m->q,
        .k = m->k,
        .v = m->k, /* as observe was given it */
        .gates = m->gates,
        .seed = m->seed,
        .events = m->heads[head].events,
        .n_events = m->heads[head].n_events,
    };
}
