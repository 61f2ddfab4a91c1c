/* safetensors_writer.h - builds small .safetensors files for tests (adapters, gates).
 *
 * Allocation failure is remembered and reported by sw_write.  Dimensions are row-major, dims[0] slowest. */
#ifndef KV_TEST_SAFETENSORS_WRITER_H
#define KV_TEST_SAFETENSORS_WRITER_H

#include "engine/dequant.h"

typedef struct sw_writer sw_writer;

sw_writer *sw_new(void); /* NULL without memory */
void sw_free(sw_writer *w);

/* Converts fp32 values to `type` (F32, F16 or BF16). */
void sw_tensor(sw_writer *w, const char *name, kv_dtype type, int n_dims, const int64_t *dims, const float *values);

/* 0, or -1 without memory or when the file cannot be written. */
int sw_write(const sw_writer *w, const char *path);

#endif
