/* dequant.h - element types of weight files and their conversion to fp32. */
#ifndef KV_DEQUANT_H
#define KV_DEQUANT_H

#include "engine/kv.h"

typedef enum kv_dtype { KV_F32, KV_F16, KV_BF16, KV_Q8_0, KV_Q4_0, KV_Q4_1, KV_Q4_K, KV_Q6_K, KV_N_DTYPES } kv_dtype;

const char *kv_dtype_name(kv_dtype t);
/* Elements per block (1 for float types, 32 or 256) and bytes per block. */
int kv_dtype_block(kv_dtype t);
size_t kv_dtype_block_bytes(kv_dtype t);
/* Bytes of n elements; n must be a multiple of the block. */
size_t kv_dtype_bytes(kv_dtype t, size_t n);

/* Converts n elements (a multiple of the block) to fp32, bit-identical to the gguf Python package. */
void kv_dequantize(kv_dtype t, const void *src, float *dst, size_t n);

float kv_f16_to_f32(uint16_t h);
uint16_t kv_f32_to_f16(float f); /* round to nearest even */
float kv_bf16_to_f32(uint16_t h);

#endif
