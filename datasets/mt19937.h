/* mt19937.h - the Mersenne Twister as Python's random module seeds and uses it; for few-shot examples that must be
 * those of other harnesses.  Our own generators use rng.h. */
#ifndef KV_MT19937_H
#define KV_MT19937_H

#include <stdint.h>

typedef struct kv_mt {
    uint32_t state[624];
    int at;
} kv_mt;

/* random.seed(seed), by the array method with one key. */
void kv_mt_seed(kv_mt *m, uint32_t seed);
uint32_t kv_mt_next(kv_mt *m);
/* random.sample(range(n), k) where n is large beside k: Python's branch that keeps a set (n > 21 for k <= 5). */
void kv_mt_sample(kv_mt *m, uint32_t n, int k, uint32_t *out);

#endif
