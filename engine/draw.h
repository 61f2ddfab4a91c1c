/* draw.h - the arithmetic of a seeded draw, one definition for host and device, in integers, so that the same logits
 * give the same token to the last bit wherever it is drawn and in whatever order sums are taken.
 *
 * A token is a number of steps: how far its logit over the temperature is below the best one, in units of 2^-26.  Its
 * weight is e^-distance in units of 2^-43, so a sum over a vocabulary is exact in 64 bits.  Tokens whose weight is 0
 * (less than e^-29.8 of the best one's) are never drawn.  The random stream is counter based: SplitMix64 (Steele, Lea,
 * Flood 2014) at (seed, number of the draw). */
#ifndef KV_DRAW_H
#define KV_DRAW_H

#include <stdint.h>

#ifdef __CUDACC__
#define KV_DRAW_FN static inline __host__ __device__
#else
#define KV_DRAW_FN static inline
#endif

enum { KV_DRAW_REACH = 40 }; /* tokens further away than this are out of every sum and count */

/* Random number `draw` of a stream, below 2^53. */
KV_DRAW_FN uint64_t kv_draw_number(uint64_t seed, uint64_t draw) {
    uint64_t z = seed + (draw + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (z ^ (z >> 31)) >> 11;
}

/* Steps from the best logit down to x, which is finite; 0 when it is out of reach. */
KV_DRAW_FN int kv_draw_steps(float best, float x, float temperature, uint32_t *steps) {
#ifdef __CUDA_ARCH__
    float v = __fdiv_rn(best - x, temperature);
#else
    float v = (best - x) / temperature;
#endif
    if (!(v < KV_DRAW_REACH)) return 0;
    *steps = (uint32_t)(v * 0x1p26f);
    return 1;
}

KV_DRAW_FN uint32_t kv_draw_high(uint32_t a, uint32_t b) {
    return (uint32_t)((uint64_t)a * b >> 32);
}

/* e^-(steps 2^-26) in units of 2^-43, within 2e-8 of it and one unit, never rising with steps: 2^-n from the whole part
 * of its binary logarithm, Taylor's series of 2^-f for the rest. */
KV_DRAW_FN uint64_t kv_draw_weight(uint32_t steps) {
    uint64_t t = (uint64_t)steps * 0xB8AA3B29u; /* log2(e) 2^31 */
    uint32_t f = (uint32_t)(t >> 25), r = 0x1B5;
    r = 0x162C - kv_draw_high(r, f);
    r = 0xFFE6 - kv_draw_high(r, f);
    r = 0xA1849 - kv_draw_high(r, f);
    r = 0x576200 - kv_draw_high(r, f);
    r = 0x276556E - kv_draw_high(r, f);
    r = 0xE35846C - kv_draw_high(r, f);
    r = 0x3D7F7BFF - kv_draw_high(r, f);
    r = 0xB17217F8 - kv_draw_high(r, f);
    return (0x100000000u - kv_draw_high(r, f)) << 11 >> (t >> 57);
}

KV_DRAW_FN uint64_t kv_draw_clamp(double x, uint64_t most) {
    uint64_t n = x < 1 ? 1 : (uint64_t)x;
    return n > most ? most : n;
}

/* The running sum at which top-p is reached, 1..total. */
KV_DRAW_FN uint64_t kv_draw_top_p(float top_p, uint64_t total) {
    double x = (double)top_p * (double)total;
    uint64_t whole = kv_draw_clamp(x, total);
    return whole < total && (double)whole < x ? whole + 1 : whole;
}

/* The least weight that min-p leaves in: that of the best token is 2^43. */
KV_DRAW_FN uint64_t kv_draw_min_p(float min_p) {
    return kv_draw_clamp((double)min_p * 0x1p43, (uint64_t)1 << 43);
}

/* The running sum at which the token that a random number below 2^53 stands for is reached, 1..total. */
KV_DRAW_FN uint64_t kv_draw_place(uint64_t number, uint64_t total) {
    uint64_t before = (uint64_t)((double)number * 0x1p-53 * (double)total);
    return before < total ? before + 1 : total;
}

#endif
