/* safetensors.h - read-only view of a .safetensors file: mapped, header parsed with cJSON, every extent checked. */
#ifndef KV_SAFETENSORS_H
#define KV_SAFETENSORS_H

#include "engine/kv.h"
#include "engine/dequant.h"
#include "engine/file.h"

typedef struct kv_safetensors kv_safetensors;

typedef struct kv_st_tensor {
    const char *name;
    kv_dtype type; /* F32, F16 or BF16; others are KV_EUNSUPPORTED at open */
    int n_dims;
    int64_t dims[4];  /* row-major order: dims[0] varies slowest, (n_out, n_in) */
    const void *data; /* may be unaligned: read it through kv_dequantize */
    size_t bytes;
} kv_st_tensor;

/* Maps and validates.  Damage is KV_EFORMAT naming file and tensor, another dtype KV_EUNSUPPORTED, a header above
 * 16 MiB KV_ELIMIT.  _memory reads a caller's buffer, which must outlive the handle; `name` is used in errors.
 * The caller closes. */
int kv_safetensors_open(const char *path, kv_safetensors **out, kv_error *err);
int kv_safetensors_open_memory(const void *data, size_t size, const char *name, kv_safetensors **out, kv_error *err);
void kv_safetensors_close(kv_safetensors *s);
/* The mapping that every tensor's data lies in; empty after _memory. */
const kv_map *kv_safetensors_map(const kv_safetensors *s);
/* Tensors in order of their names. */
size_t kv_safetensors_n(const kv_safetensors *s);
const kv_st_tensor *kv_safetensors_at(const kv_safetensors *s, size_t i);           /* NULL from n on */
const kv_st_tensor *kv_safetensors_find(const kv_safetensors *s, const char *name); /* NULL when absent */
/* The same with an opinion: KV_ENOTFOUND when absent, KV_EFORMAT naming found and expected shape when it differs. */
int kv_safetensors_expect(const kv_safetensors *s, const char *name, int n_dims, const int64_t *dims,
                          const kv_st_tensor **out, kv_error *err);

/* The two questions above for tensors of any file, sorted by name. */
const kv_st_tensor *kv_st_find(const kv_st_tensor *tensors, size_t n, const char *name);
int kv_st_expect(const kv_st_tensor *tensors, size_t n, const char *file, const char *name, int n_dims,
                 const int64_t *dims, const kv_st_tensor **out, kv_error *err);
/* NULL, or the first name that occurs twice; sorts. */
const char *kv_st_sort(kv_st_tensor *tensors, size_t n);

#endif
