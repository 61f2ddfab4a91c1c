/* mt19937.c - Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 8 (1998); see mt19937.h. */
#include "datasets/mt19937.h"

enum { N = 624, M = 397 };

void kv_mt_seed(kv_mt *m, uint32_t seed) {
    uint32_t *s = m->state;
    s[0] = 19650218;
    for (uint32_t i = 1; i < N; i++) s[i] = 1812433253u * (s[i - 1] ^ s[i - 1] >> 30) + i;
    int i = 1;
    for (int k = 0; k < N; k++) {
        s[i] = (s[i] ^ (s[i - 1] ^ s[i - 1] >> 30) * 1664525u) + seed;
        if (++i == N) s[0] = s[N - 1], i = 1;
    }
    for (int k = 0; k < N - 1; k++) {
        s[i] = (s[i] ^ (s[i - 1] ^ s[i - 1] >> 30) * 1566083941u) - (uint32_t)i;
        if (++i == N) s[0] = s[N - 1], i = 1;
    }
    s[0] = 0x80000000u;
    m->at = N;
}

static void refill(kv_mt *m) {
    uint32_t *s = m->state;
    for (int i = 0; i < N; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % N] & 0x7fffffffu);
        s[i] = s[(i + M) % N] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    m->at = 0;
}

uint32_t kv_mt_next(kv_mt *m) {
    if (m->at == N) refill(m);
    uint32_t y = m->state[m->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

void kv_mt_sample(kv_mt *m, uint32_t n, int k, uint32_t *out) {
    int bits = 0;
    while (bits < 32 && n >> bits) bits++;
    for (int i = 0; i < k; i++) {
        int again;
        do {
            out[i] = kv_mt_next(m) >> (32 - bits);
            again = out[i] >= n;
            for (int j = 0; j < i; j++) again |= out[j] == out[i];
        } while (again);
    }
}
