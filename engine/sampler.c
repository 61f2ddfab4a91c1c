/* sampler.c - greedy and seeded sampling.
 *
 * A draw is a place in the running sum of weights over the tokens in order of likelihood; each filter only shortens
 * that order.  Numbers and weights are those of draw.h, so the tokens of a sample depend on its logits and its seed
 * alone: not on batch, arrival order, resume or device. */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/draw.h"

uint64_t kv_logits_hash(uint64_t seed, const float *logits, int n) {
    uint64_t sum = 0;
    for (int i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, logits + i, sizeof bits);
        uint64_t z = ((uint64_t)(i + 1) << 32 | bits) * 0x9E3779B97F4A7C15u;
        z ^= z >> 32;
        z *= 0xD6E8FEB86659FD93u;
        sum += z ^ z >> 29;
    }
    uint64_t h = (seed ^ sum) * 0x100000001b3u;
    return h ^ h >> 31;
}

int kv_argmax(const float *logits, int n) {
    enum { LANES = 16 };
    float best[LANES], zero[LANES] = {0}; /* zero stays 0 unless a logit is NaN or infinite */
    for (int k = 0; k < LANES; k++) best[k] = -INFINITY;
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            float v = logits[i + k];
            best[k] = v > best[k] ? v : best[k];
            zero[k] += v * 0.0f;
        }
    }
    for (; i < n; i++) {
        best[0] = logits[i] > best[0] ? logits[i] : best[0];
        zero[0] += logits[i] * 0.0f;
    }
    float most = best[0], sum = 0;
    for (int k = 0; k < LANES; k++) {
        most = best[k] > most ? best[k] : most;
        sum += zero[k];
    }
    if (sum != 0) return KV_ENUM; /* NaN compares unequal */
    for (i = 0; i < n; i++)
        if (logits[i] == most) return i;
    return KV_ENUM;
}

/* Keys are steps << 32 | id: ascending, they are the tokens from the likeliest on, the lower id first among equals.
 * They are grouped by bucket and only those buckets are sorted in which a limit falls. */
enum { BUCKET_SHIFT = 21, N_BUCKETS = KV_DRAW_REACH << (26 - BUCKET_SHIFT) };

typedef struct ranking {
    uint64_t *keys;
    int start[N_BUCKETS + 1];   /* of a bucket in keys */
    uint64_t weight[N_BUCKETS]; /* of all tokens of a bucket */
} ranking;

static uint64_t weight_of(uint64_t key) {
    return kv_draw_weight((uint32_t)(key >> 32));
}

static void rank_tokens(ranking *r, float temperature, float best, const float *logits, int n) {
    int end[N_BUCKETS];
    uint32_t steps;
    memset(r->start, 0, sizeof r->start);
    memset(r->weight, 0, sizeof r->weight);
    for (int i = 0; i < n; i++)
        if (kv_draw_steps(best, logits[i], temperature, &steps)) r->start[(steps >> BUCKET_SHIFT) + 1]++;
    for (int b = 0; b < N_BUCKETS; b++) {
        end[b] = r->start[b];
        r->start[b + 1] += r->start[b];
    }
    for (int i = 0; i < n; i++) {
        if (!kv_draw_steps(best, logits[i], temperature, &steps)) continue;
        r->keys[end[steps >> BUCKET_SHIFT]++] = (uint64_t)steps << 32 | (uint32_t)i;
        r->weight[steps >> BUCKET_SHIFT] += kv_draw_weight(steps);
    }
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void sort_bucket(const ranking *r, int b) {
    qsort(r->keys + r->start[b], (size_t)(r->start[b + 1] - r->start[b]), sizeof *r->keys, ascending);
}

/* The rank (1 = the likeliest) at which the running weight reaches target; *weight = the weight up to there. */
static int find_weight(const ranking *r, uint64_t target, uint64_t *weight) {
    int b = 0;
    uint64_t sum = 0;
    while (sum + r->weight[b] < target) sum += r->weight[b++];
    sort_bucket(r, b);
    int i = r->start[b];
    while ((sum += weight_of(r->keys[i++])) < target) {
    }
    *weight = sum;
    return i;
}

/* The rank of the last token as likely as the one of rank k. */
static int find_rank(const ranking *r, int k, uint64_t *weight) {
    int b = 0, i;
    *weight = 0;
    while (r->start[b + 1] < k) *weight += r->weight[b++];
    sort_bucket(r, b);
    for (i = r->start[b]; i < r->start[b + 1] && (i < k || r->keys[i] >> 32 == r->keys[k - 1] >> 32); i++)
        *weight += weight_of(r->keys[i]);
    return i;
}

/* The weight of those of the first m tokens that weigh at least `least`. */
static uint64_t sum_least(const ranking *r, int m, uint64_t least) {
    uint64_t sum = 0;
    for (int i = 0; i < m; i++) {
        uint64_t w = weight_of(r->keys[i]);
        if (w >= least) sum += w;
    }
    return sum;
}

int kv_sample_number(const kv_sampling *s, uint64_t number, const float *logits, int n, uint64_t *keys) {
    int best = kv_argmax(logits, n);
    if (best < 0 || s->temperature <= 0) return best;
    ranking r = {.keys = keys};
    uint64_t total = 0;
    rank_tokens(&r, s->temperature, logits[best], logits, n);
    int m = r.start[N_BUCKETS];
    for (int b = 0; b < N_BUCKETS; b++) total += r.weight[b];
    if (s->top_k > 0 && s->top_k < m) m = find_rank(&r, s->top_k, &total);
    if (s->top_p < 1) m = find_weight(&r, kv_draw_top_p(s->top_p, total), &total);
    if (s->min_p > 0) total = sum_least(&r, m, kv_draw_min_p(s->min_p));
    m = find_weight(&r, kv_draw_place(number, total), &total);
    return (int)(uint32_t)keys[m - 1];
}

int kv_sample(const kv_sampling *s, uint64_t step, const float *logits, int n, uint64_t *keys) {
    return kv_sample_number(s, kv_draw_number(s->seed, step), logits, n, keys);
}

void kv_top_logprobs(const float *logits, int n, int n_top, kv_top *out) {
    float most = logits[0];
    for (int i = 1; i < n; i++) most = logits[i] > most ? logits[i] : most;
    double sum = 0;
    for (int i = 0; i < n; i++) sum += exp((double)logits[i] - most);
    double lse = most + log(sum);
    int m = 0;
    for (int i = 0; i < n; i++) {
        if (m == n_top && logits[i] <= out[m - 1].logprob) continue;
        int j = m < n_top ? m++ : m - 1;
        for (; j > 0 && out[j - 1].logprob < logits[i]; j--) out[j] = out[j - 1];
        out[j] = (kv_top){i, logits[i]};
    }
    for (int j = 0; j < m; j++) out[j].logprob = (float)(out[j].logprob - lse);
}
