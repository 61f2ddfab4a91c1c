/* quantize.c - see quantize.h.  Block layouts: ggml's ggml-common.h. */
#include "tests/support/quantize.h"

#include <math.h>
#include <string.h>

uint64_t tq_bits(uint64_t *state) {
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

float tq_uniform(uint64_t *state) {
    return (float)(int32_t)(tq_bits(state) >> 40) * 0x1p-23f - 1.0f;
}

static void put16(unsigned char *p, uint16_t h) {
    memcpy(p, &h, sizeof h);
}

static uint16_t to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static int clamp(float v, int lo, int hi) {
    int i = (int)floorf(v + 0.5f);
    return i < lo ? lo : i > hi ? hi : i;
}

static void q8_0(const float *x, unsigned char *p) {
    float top = 0;
    for (int i = 0; i < 32; i++) top = fmaxf(top, fabsf(x[i]));
    float d = top / 127, inv = d > 0 ? 1 / d : 0;
    put16(p, kv_f32_to_f16(d));
    for (int i = 0; i < 32; i++) p[2 + i] = (unsigned char)(signed char)clamp(x[i] * inv, -127, 127);
}

static void q4_0(const float *x, unsigned char *p) {
    float top = 0;
    for (int i = 0; i < 32; i++)
        if (fabsf(x[i]) > fabsf(top)) top = x[i];
    float d = top / -8, inv = d != 0 ? 1 / d : 0;
    put16(p, kv_f32_to_f16(d));
    for (int i = 0; i < 16; i++)
        p[2 + i] = (unsigned char)(clamp(x[i] * inv + 8, 0, 15) | clamp(x[i + 16] * inv + 8, 0, 15) << 4);
}

static void q4_1(const float *x, unsigned char *p) {
    float lo = x[0], hi = x[0];
    for (int i = 1; i < 32; i++) {
        lo = fminf(lo, x[i]);
        hi = fmaxf(hi, x[i]);
    }
    float d = (hi - lo) / 15, inv = d > 0 ? 1 / d : 0;
    put16(p, kv_f32_to_f16(d));
    put16(p + 2, kv_f32_to_f16(lo));
    for (int i = 0; i < 16; i++)
        p[4 + i] = (unsigned char)(clamp((x[i] - lo) * inv, 0, 15) | clamp((x[i + 16] - lo) * inv, 0, 15) << 4);
}

int tq_quantize(kv_dtype t, const float *src, void *dst, size_t n) {
    unsigned char *p = dst;
    size_t block = (size_t)kv_dtype_block(t), step = kv_dtype_block_bytes(t);
    for (size_t i = 0; i < n; i += block, p += step) {
        switch (t) {
        case KV_F32:
            memcpy(p, src + i, sizeof(float));
            break;
        case KV_F16:
            put16(p, kv_f32_to_f16(src[i]));
            break;
        case KV_BF16:
            put16(p, to_bf16(src[i]));
            break;
        case KV_Q8_0:
            q8_0(src + i, p);
            break;
        case KV_Q4_0:
            q4_0(src + i, p);
            break;
        case KV_Q4_1:
            q4_1(src + i, p);
            break;
        default:
            return -1;
        }
    }
    return 0;
}

static void fill(unsigned char *p, size_t n, uint64_t *state) {
    for (size_t i = 0; i < n; i++) p[i] = (unsigned char)(tq_bits(state) >> 56);
}

/* value = d * scale * quant - dmin * min with 6-bit scale and min, 4-bit quant: mean 0 when dmin = 7.5 d. */
static void random_q4_k(unsigned char *p, float amplitude, uint64_t *state) {
    float d = amplitude / (63 * 15) * (1 + 0.25f * tq_uniform(state));
    put16(p, kv_f32_to_f16(d));
    put16(p + 2, kv_f32_to_f16(d * 7.5f));
    fill(p + 4, 140, state);
}

/* value = d * scale * (quant - 32) with a signed 8-bit scale and 6-bit quant. */
static void random_q6_k(unsigned char *p, float amplitude, uint64_t *state) {
    fill(p, 208, state);
    put16(p + 208, kv_f32_to_f16(amplitude / (128 * 32) * (1 + 0.25f * tq_uniform(state))));
}

void tq_random(kv_dtype t, void *dst, size_t n, float amplitude, uint64_t *state) {
    unsigned char *p = dst;
    size_t block = (size_t)kv_dtype_block(t), step = kv_dtype_block_bytes(t);
    for (size_t i = 0; i < n; i += block, p += step) {
        if (t == KV_Q4_K) {
            random_q4_k(p, amplitude, state);
        } else if (t == KV_Q6_K) {
            random_q6_k(p, amplitude, state);
        } else {
            float x[32];
            for (size_t j = 0; j < block; j++) x[j] = amplitude * tq_uniform(state);
            tq_quantize(t, x, p, block);
        }
    }
}
