/* quantize.h - weight blocks for test models: simple rounding quantizers, and random blocks for the K types.
 *
 * The quantizers follow the plain ones of ggml (largest magnitude or range decides the block's scale); they are
 * for making test files, not for quality. */
#ifndef KV_TEST_QUANTIZE_H
#define KV_TEST_QUANTIZE_H

#include "engine/dequant.h"

/* n fp32 values (a multiple of the block) to F32, F16, BF16, Q8_0, Q4_0 or Q4_1; dst holds kv_dtype_bytes(t, n).
 * 0, or -1 for the K types, which only tq_random makes. */
int tq_quantize(kv_dtype t, const float *src, void *dst, size_t n);

/* n random values of any type, finite, roughly within +-amplitude and centred; *state is advanced (any seed but 0). */
void tq_random(kv_dtype t, void *dst, size_t n, float amplitude, uint64_t *state);

/* The generator behind it (xorshift64*): 64 bits, and a float in [-1, 1). */
uint64_t tq_bits(uint64_t *state);
float tq_uniform(uint64_t *state);

#endif
