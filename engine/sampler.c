/* sampler.c - greedy and seeded sampling.
 *
 * The random stream is a hash of (seed, step) (splitmix64's finaliser), so the tokens of a sample depend on its seed
 * alone: not on batch, arrival order or resume. */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static double uniform(uint64_t seed, uint64_t step) {
    uint64_t z = seed + (step + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1.0p-53;
}

static int by_value(const void *a, const void *b) {
    const kv_top *x = a, *y = b;
    if (x->logprob != y->logprob) return x->logprob > y->logprob ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

int kv_sample(const kv_sampling *s, uint64_t step, const float *logits, int n, kv_top *order) {
    int best = kv_argmax(logits, n);
    if (best < 0 || s->temperature <= 0) return best;
    /* tokens whose probability is below e^-40 of the best one's can not be drawn with a 53-bit number */
    int m = 0;
    for (int i = 0; i < n; i++) {
        float v = (logits[i] - logits[best]) / s->temperature;
        if (v > -40) order[m++] = (kv_top){i, v};
    }
    qsort(order, (size_t)m, sizeof *order, by_value);
    if (s->top_k > 0 && s->top_k < m) m = s->top_k;
    double total = 0, sum = 0;
    for (int i = 0; i < m; i++) total += exp(order[i].logprob);
    if (s->top_p < 1) {
        int keep = 0;
        while (keep < m && (keep == 0 || sum < s->top_p * total)) sum += exp(order[keep++].logprob);
        m = keep;
    }
    if (s->min_p > 0) {
        int keep = 1;
        while (keep < m && exp(order[keep].logprob) >= s->min_p) keep++;
        m = keep;
    }
    total = sum = 0;
    for (int i = 0; i < m; i++) total += exp(order[i].logprob);
    double u = uniform(s->seed, step) * total;
    for (int i = 0; i < m; i++) {
        sum += exp(order[i].logprob);
        if (u < sum) return order[i].id;
    }
    return order[m - 1].id;
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
