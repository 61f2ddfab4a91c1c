/* dequant.c - element types of weight files and their conversion to fp32.
 *
 * Block layouts are those of ggml (ggml-common.h, docs/gguf.md); products and sums are in the order of the gguf
 * Python package (gguf/quants.py), one rounding per operation, so results agree bit for bit.  Input may be
 * unaligned: safetensors files do not align tensors, so all multi-byte loads go through memcpy. */
#include "engine/dequant.h"

#include <string.h>

static const struct {
    const char *name;
    int block;
    size_t bytes;
} dtypes[KV_N_DTYPES] = {
    [KV_F32] = {"F32", 1, 4},       [KV_F16] = {"F16", 1, 2},       [KV_BF16] = {"BF16", 1, 2},
    [KV_Q8_0] = {"Q8_0", 32, 34},   [KV_Q4_0] = {"Q4_0", 32, 18},   [KV_Q4_1] = {"Q4_1", 32, 20},
    [KV_Q4_K] = {"Q4_K", 256, 144}, [KV_Q6_K] = {"Q6_K", 256, 210},
};

const char *kv_dtype_name(kv_dtype t) {
    return dtypes[t].name;
}

int kv_dtype_block(kv_dtype t) {
    return dtypes[t].block;
}

size_t kv_dtype_block_bytes(kv_dtype t) {
    return dtypes[t].bytes;
}

size_t kv_dtype_bytes(kv_dtype t, size_t n) {
    return n / (size_t)dtypes[t].block * dtypes[t].bytes;
}

static float as_float(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t as_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

float kv_f16_to_f32(uint16_t h) {
    uint32_t u = (uint32_t)(h & 0x7fff) << 13;
    uint32_t exponent = u & 0x0f800000;
    u += 112u << 23; /* bias 15 -> 127 */
    if (exponent == 0x0f800000) u += 112u << 23;
    if (exponent == 0) u = as_bits(as_float(u + (1u << 23)) - as_float(113u << 23)); /* subnormal: renormalise */
    return as_float(u | (uint32_t)(h & 0x8000) << 16);
}

uint16_t kv_f32_to_f16(float f) {
    uint32_t u = as_bits(f), sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    if (u > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (u >> 13 & 0x1ff)); /* NaN stays NaN, quiet */
    if (u >= 0x47800000) return (uint16_t)(sign | 0x7c00);
    if (u < 0x38800000) { /* below 2^-14: adding 0.5 shifts the mantissa into place and rounds it to even */
        return (uint16_t)(sign | (as_bits(as_float(u) + 0.5f) - as_bits(0.5f)));
    }
    u += 0xfff + (u >> 13 & 1);
    return (uint16_t)(sign | ((u - (112u << 23)) >> 13));
}

float kv_bf16_to_f32(uint16_t h) {
    return as_float((uint32_t)h << 16);
}

static uint16_t load16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return h;
}

static float load_f16(const uint8_t *p) {
    return kv_f16_to_f32(load16(p));
}

static void f16(const uint8_t *p, float *dst, size_t n) {
    for (size_t i = 0; i < n; i++) dst[i] = load_f16(p + 2 * i);
}

static void bf16(const uint8_t *p, float *dst, size_t n) {
    for (size_t i = 0; i < n; i++) dst[i] = kv_bf16_to_f32(load16(p + 2 * i));
}

/* {f16 d; int8 q[32]}: d * q */
static void q8_0(const uint8_t *p, float *dst, size_t n) {
    for (; n; n -= 32, p += 34, dst += 32) {
        float d = load_f16(p);
        for (int i = 0; i < 32; i++) dst[i] = d * (float)(int8_t)p[2 + i];
    }
}

/* {f16 d; 4-bit q[32], element i and i + 16 in byte i}: d * (q - 8) */
static void q4_0(const uint8_t *p, float *dst, size_t n) {
    for (; n; n -= 32, p += 18, dst += 32) {
        float d = load_f16(p);
        for (int i = 0; i < 16; i++) dst[i] = d * (float)((p[2 + i] & 15) - 8);
        for (int i = 0; i < 16; i++) dst[16 + i] = d * (float)((p[2 + i] >> 4) - 8);
    }
}

/* {f16 d, m; 4-bit q[32]}: d * q + m */
static void q4_1(const uint8_t *p, float *dst, size_t n) {
    for (; n; n -= 32, p += 20, dst += 32) {
        float d = load_f16(p), m = load_f16(p + 2);
        for (int i = 0; i < 16; i++) dst[i] = d * (float)(p[4 + i] & 15) + m;
        for (int i = 0; i < 16; i++) dst[16 + i] = d * (float)(p[4 + i] >> 4) + m;
    }
}

/* {f16 d, dmin; 6-bit (scale, min)[8] in 12 bytes; 4-bit q[256]}: d scale q - dmin min, per 32 elements.
 * The first four pairs sit in the low 6 bits of bytes 0-3 (scales) and 4-7 (mins); the last four have their low
 * 4 bits in bytes 8-11 and their high 2 bits on top of bytes 0-7. */
static void q4_k(const uint8_t *p, float *dst, size_t n) {
    for (; n; n -= 256, p += 144, dst += 256) {
        float d = load_f16(p), dmin = load_f16(p + 2);
        const uint8_t *s = p + 4;
        for (int j = 0; j < 8; j++) {
            int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
            int min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
            float ds = d * (float)scale, dm = dmin * (float)min;
            const uint8_t *q = p + 16 + j / 2 * 32;
            int shift = j % 2 * 4;
            for (int i = 0; i < 32; i++) dst[j * 32 + i] = ds * (float)(q[i] >> shift & 15) - dm;
        }
    }
}

/* {low 4 bits[128]; high 2 bits[64]; int8 scale[16]; f16 d}: d scale (q - 32), one scale per 16 elements.
 * Each half of 128 elements is four runs of 32: the low bits of runs 0 and 2 (1 and 3) share bytes, the high
 * bits of all four do. */
static void q6_k(const uint8_t *p, float *dst, size_t n) {
    for (; n; n -= 256, p += 210, dst += 256) {
        const int8_t *scale = (const int8_t *)p + 192;
        float d = load_f16(p + 208);
        for (int j = 0; j < 8; j++) {
            const uint8_t *lo = p + j / 4 * 64 + j % 2 * 32, *hi = p + 128 + j / 4 * 32;
            int lo_shift = j / 2 % 2 * 4, hi_shift = j % 4 * 2;
            for (int i = 0; i < 32; i++) {
                int q = (lo[i] >> lo_shift & 15) | (hi[i] >> hi_shift & 3) << 4;
                dst[j * 32 + i] = d * (float)scale[j * 2 + i / 16] * (float)(q - 32);
            }
        }
    }
}

void kv_dequantize(kv_dtype t, const void *src, float *dst, size_t n) {
    switch (t) {
    case KV_F32:
        memcpy(dst, src, n * sizeof *dst);
        break;
    case KV_F16:
        f16(src, dst, n);
        break;
    case KV_BF16:
        bf16(src, dst, n);
        break;
    case KV_Q8_0:
        q8_0(src, dst, n);
        break;
    case KV_Q4_0:
        q4_0(src, dst, n);
        break;
    case KV_Q4_1:
        q4_1(src, dst, n);
        break;
    case KV_Q4_K:
        q4_k(src, dst, n);
        break;
    case KV_Q6_K:
        q6_k(src, dst, n);
        break;
    case KV_N_DTYPES:
        break;
    }
}
