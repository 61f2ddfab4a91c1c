/* gguf.h - read-only view of a GGUF file (versions 2 and 3): the file is mapped, nothing is copied. */
#ifndef KV_GGUF_H
#define KV_GGUF_H

#include "engine/kv.h"
#include "engine/dequant.h"

typedef struct kv_gguf kv_gguf;

typedef struct kv_gguf_tensor {
    const char *name; /* owned by the file */
    kv_dtype type;
    int n_dims;
    int64_t dims[4];  /* GGUF order: dims[0] varies fastest, so a (n_out, n_in) matrix has dims {n_in, n_out} */
    const void *data; /* inside the mapping, bounds checked */
    size_t bytes;
} kv_gguf_tensor;

/* Maps and validates the whole directory (magic, version, counts, every offset and size, alignment, types).
 * Any damage is KV_EFORMAT naming the file and the entry; unknown tensor types are KV_EUNSUPPORTED.
 * The caller closes with kv_gguf_close. */
int kv_gguf_open(const char *path, kv_gguf **out, kv_error *err);
void kv_gguf_close(kv_gguf *g);

/* The same over a caller's buffer, which must outlive the handle (fuzzing, tests).  `name` is used in errors. */
int kv_gguf_open_memory(const void *data, size_t size, const char *name, kv_gguf **out, kv_error *err);

size_t kv_gguf_n_tensors(const kv_gguf *g);
const kv_gguf_tensor *kv_gguf_tensor_at(const kv_gguf *g, size_t i); /* file order; NULL from n on */
/* NULL when absent. */
const kv_gguf_tensor *kv_gguf_find(const kv_gguf *g, const char *name);

/* Metadata by key.  Return KV_OK, KV_ENOTFOUND when absent, KV_EFORMAT when of another type.
 * Integers of any width are accepted by _int when they fit; floats of both widths by _float (and integers). */
int kv_gguf_int(const kv_gguf *g, const char *key, int64_t *out, kv_error *err);
int kv_gguf_float(const kv_gguf *g, const char *key, double *out, kv_error *err);
int kv_gguf_bool(const kv_gguf *g, const char *key, int *out, kv_error *err);
/* Not NUL-terminated: points into the mapping. */
int kv_gguf_string(const kv_gguf *g, const char *key, const char **out, size_t *len, kv_error *err);
/* Arrays: length, then elements (string arrays are indexed at open, access is O(1)); KV_EARG for i >= length. */
int kv_gguf_array_len(const kv_gguf *g, const char *key, size_t *n, kv_error *err);
int kv_gguf_array_string(const kv_gguf *g, const char *key, size_t i, const char **out, size_t *len, kv_error *err);
int kv_gguf_array_int(const kv_gguf *g, const char *key, size_t i, int64_t *out, kv_error *err);

#endif
