/* gguf_writer.h - builds small GGUF files (versions 2 and 3) for tests: metadata of every kind and raw tensor bytes.
 *
 * Nothing is checked beyond memory: a test may write a damaged file on purpose (gw_raw, gw_tensor_raw).
 * Allocation failure is remembered and reported by gw_finish and gw_write.  Dimensions are in GGUF order:
 * dims[0] varies fastest, so an (n_out, n_in) matrix has dims {n_in, n_out}.
 *
 *     gw_writer *w = gw_new();
 *     gw_string(w, "general.architecture", "llama");
 *     gw_u32(w, "llama.block_count", 2);
 *     gw_tensor(w, "token_embd.weight", KV_F32, 2, (int64_t[]){64, 100}, data, sizeof data);
 *     gw_write(w, "tiny.gguf");
 *     gw_free(w); */
#ifndef KV_TEST_GGUF_WRITER_H
#define KV_TEST_GGUF_WRITER_H

#include "engine/dequant.h"

typedef struct gw_writer gw_writer;

/* Type numbers of metadata values in the file. */
enum { GW_U8, GW_I8, GW_U16, GW_I16, GW_U32, GW_I32, GW_F32, GW_BOOL, GW_STRING, GW_ARRAY, GW_U64, GW_I64, GW_F64 };

/* Version 3, alignment 32; NULL without memory. */
gw_writer *gw_new(void);
void gw_free(gw_writer *w);

void gw_version(gw_writer *w, uint32_t version);
/* Also writes general.alignment.  Call before the first tensor. */
void gw_alignment(gw_writer *w, uint32_t alignment);

void gw_u8(gw_writer *w, const char *key, uint8_t v);
void gw_i8(gw_writer *w, const char *key, int8_t v);
void gw_u16(gw_writer *w, const char *key, uint16_t v);
void gw_i16(gw_writer *w, const char *key, int16_t v);
void gw_u32(gw_writer *w, const char *key, uint32_t v);
void gw_i32(gw_writer *w, const char *key, int32_t v);
void gw_u64(gw_writer *w, const char *key, uint64_t v);
void gw_i64(gw_writer *w, const char *key, int64_t v);
void gw_f32(gw_writer *w, const char *key, float v);
void gw_f64(gw_writer *w, const char *key, double v);
void gw_bool(gw_writer *w, const char *key, int v);
void gw_string(gw_writer *w, const char *key, const char *v);
void gw_string_array(gw_writer *w, const char *key, const char *const *v, size_t n);
void gw_u32_array(gw_writer *w, const char *key, const uint32_t *v, size_t n);
void gw_i32_array(gw_writer *w, const char *key, const int32_t *v, size_t n);
void gw_f32_array(gw_writer *w, const char *key, const float *v, size_t n);
/* Any type number with any bytes behind it. */
void gw_raw(gw_writer *w, const char *key, uint32_t type, const void *bytes, size_t n);

/* Copies `bytes` bytes of data, padded to the alignment. */
void gw_tensor(gw_writer *w, const char *name, kv_dtype type, int n_dims, const int64_t *dims, const void *data,
               size_t bytes);
/* A directory entry alone, with any ggml type number and any offset into the data section. */
void gw_tensor_raw(gw_writer *w, const char *name, uint32_t ggml_type, int n_dims, const int64_t *dims,
                   uint64_t offset);

/* The whole file in a malloc'd buffer; the caller frees.  0, or -1 without memory. */
int gw_finish(const gw_writer *w, void **buf, size_t *size);
/* 0, or -1 without memory or when the file cannot be written. */
int gw_write(const gw_writer *w, const char *path);

#endif
