/* rng.h - the random numbers of the generators: splitmix64 (Steele, Lea, Flood, OOPSLA 2014), 64-bit state.
 *
 * Only unsigned 64-bit arithmetic, so a seed gives the same items on every platform.  A generator opens one
 * stream per item, which is why item i does not depend on how many items came before it. */
#ifndef KV_RNG_H
#define KV_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct kv_rng {
    uint64_t state;
} kv_rng;

/* Streams of one seed start at unrelated states: mix(mix(seed + g) + stream * g) with g = 0x9e3779b97f4a7c15. */
kv_rng kv_rng_open(uint64_t seed, uint64_t stream);
uint64_t kv_rng_next(kv_rng *r);
/* Uniform in 0..n-1 without bias (values above the last multiple of n are redrawn); n >= 1. */
uint64_t kv_rng_below(kv_rng *r, uint64_t n);
/* k different numbers of 0..n-1, k <= n, in the order drawn; a number that was drawn already is drawn again, so k
 * should be small. */
void kv_rng_distinct(kv_rng *r, size_t n, size_t *out, size_t k);
/* The same in ascending order. */
void kv_rng_places(kv_rng *r, size_t n, size_t *out, size_t k);
/* order (n) becomes 0..n-1 in random order, of which the first k places are settled (Fisher and Yates, from the
 * front). */
void kv_rng_shuffle(kv_rng *r, size_t *order, size_t n, size_t k);

#endif
