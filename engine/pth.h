/* pth.h - read-only view of a torch.save file: a zip of a pickle index and stored tensors, every extent checked. */
#ifndef KV_PTH_H
#define KV_PTH_H

#include "engine/safetensors.h"

typedef struct kv_pth kv_pth;

/* Reads and validates a state dict: contiguous F32, F16 and BF16 tensors.  Damage, a storage that is absent or too
 * small for its tensor included, is KV_EFORMAT; compression, other dtypes and whatever pickle.h refuses are
 * KV_EUNSUPPORTED.  No code of the pickle is executed.  _memory reads a caller's buffer, which may go afterwards;
 * `name` is used in errors.  The caller closes. */
int kv_pth_open(const char *path, kv_pth **out, kv_error *err);
int kv_pth_open_memory(const void *data, size_t size, const char *name, kv_pth **out, kv_error *err);
void kv_pth_close(kv_pth *p);
/* Tensors in order of their names; kv_st_find and kv_st_expect search them. */
size_t kv_pth_n(const kv_pth *p);
const kv_st_tensor *kv_pth_at(const kv_pth *p, size_t i); /* NULL from n on */

#endif
