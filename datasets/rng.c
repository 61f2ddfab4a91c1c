/* rng.c - splitmix64; see rng.h. */
#include "datasets/rng.h"

#include <stdlib.h>

#define GOLDEN 0x9e3779b97f4a7c15u

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

kv_rng kv_rng_open(uint64_t seed, uint64_t stream) {
    return (kv_rng){mix(mix(seed + GOLDEN) + stream * GOLDEN)};
}

uint64_t kv_rng_next(kv_rng *r) {
    return mix(r->state += GOLDEN);
}

uint64_t kv_rng_below(kv_rng *r, uint64_t n) {
    uint64_t excess = (UINT64_MAX % n + 1) % n; /* 2^64 mod n */
    uint64_t x;
    do x = kv_rng_next(r);
    while (x > UINT64_MAX - excess);
    return x % n;
}

void kv_rng_distinct(kv_rng *r, size_t n, size_t *out, size_t k) {
    for (size_t i = 0; i < k; i++) {
        size_t j;
        do {
            out[i] = (size_t)kv_rng_below(r, n);
            for (j = 0; j < i && out[j] != out[i]; j++) {
            }
        } while (j < i);
    }
}

static int by_value(const void *a, const void *b) {
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

void kv_rng_places(kv_rng *r, size_t n, size_t *out, size_t k) {
    kv_rng_distinct(r, n, out, k);
    qsort(out, k, sizeof *out, by_value);
}

void kv_rng_shuffle(kv_rng *r, size_t *order, size_t n, size_t k) {
    for (size_t i = 0; i < n; i++) order[i] = i;
    for (size_t i = 0; i < k && i + 1 < n; i++) {
        size_t j = i + (size_t)kv_rng_below(r, n - i), was = order[i];
        order[i] = order[j];
        order[j] = was;
    }
}
