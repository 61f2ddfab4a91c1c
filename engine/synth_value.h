/* synth_value.h - the value of element `index` of synthetic matrix number `matrix`: one definition for host and device.
 *
 * Counter based, so that any element can be made by itself, in any order, by any number of threads, with the same bits.
 * The hash is SplitMix64 (Steele, Lea, Flood 2014) started at a key of seed and matrix.  One 64-bit hash gives four
 * consecutive elements: each takes sixteen bits as four digits 0..15 and is their sum, centred and scaled to standard
 * deviation 1.  That is near enough to a normal distribution (61 levels, at most 3.25 deviations, kurtosis 2.7) and
 * costs no more than the memory traffic it feeds. */
#ifndef KV_SYNTH_VALUE_H
#define KV_SYNTH_VALUE_H

#include <stdint.h>

#ifdef __CUDACC__
#define KV_SYNTH_FN static inline __host__ __device__
#else
#define KV_SYNTH_FN static inline
#endif

enum { KV_SYNTH_GROUP = 4 }; /* elements per hash */

KV_SYNTH_FN uint64_t kv_synth_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

KV_SYNTH_FN uint64_t kv_synth_key(uint64_t seed, uint64_t matrix) {
    return kv_synth_mix(kv_synth_mix(seed + 0x9E3779B97F4A7C15u) + (matrix + 1) * 0xD1B54A32D192ED03u);
}

/* Levels 0..60 of elements 4 group .. 4 group + 3, sixteen bits each, the first in the lowest. */
KV_SYNTH_FN uint64_t kv_synth_levels(uint64_t key, uint64_t group) {
    uint64_t h = kv_synth_mix(key + (group + 1) * 0x9E3779B97F4A7C15u);
    h = (h & 0x0F0F0F0F0F0F0F0Fu) + (h >> 4 & 0x0F0F0F0F0F0F0F0Fu);
    return (h & 0x00FF00FF00FF00FFu) + (h >> 8 & 0x00FF00FF00FF00FFu);
}

KV_SYNTH_FN int kv_synth_level(uint64_t levels, unsigned i) {
    return (int)(levels >> 16 * i & 63);
}

/* The sum of four digits 0..15 has mean 30 and variance 85. */
KV_SYNTH_FN float kv_synth_scaled(int level, float std) {
    return (float)(level - 30) * 0.108465229f * std;
}

/* About normal, standard deviation 1; a weight is this times its matrix's std (kv_synth_std). */
KV_SYNTH_FN float kv_synth_value(uint64_t seed, uint64_t matrix, uint64_t index) {
    uint64_t levels = kv_synth_levels(kv_synth_key(seed, matrix), index / KV_SYNTH_GROUP);
    return kv_synth_scaled(kv_synth_level(levels, (unsigned)(index % KV_SYNTH_GROUP)), 1.0f);
}

#endif
