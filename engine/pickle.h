/* pickle.h - the tensors that the pickle index of a torch.save file describes, read without executing anything.
 *
 * A pickle is a program for a stack machine that may import and call whatever it names.  This reader knows the data
 * opcodes and the few names with which torch describes tensors; every other opcode or name is refused by its name. */
#ifndef KV_PICKLE_H
#define KV_PICKLE_H

#include "engine/dequant.h"

typedef struct kv_pickle kv_pickle;

typedef struct kv_pickle_tensor {
    const char *name;
    const char *storage; /* the data is the archive's entry data/<storage> */
    const char *dtype;   /* torch's name: "Float", "Half", "BFloat16", "Long", ... */
    kv_dtype type;       /* KV_N_DTYPES when it is none of F32, F16 and BF16 */
    int64_t n_stored;    /* elements of the storage */
    int64_t offset;      /* of the first element, in elements */
    int n_dims;
    int64_t dims[4], strides[4]; /* in elements, none negative; not compared with n_stored */
} kv_pickle_tensor;

/* Protocols 2 to 5.  The pickle must be one dict or OrderedDict of tensors by name, as torch.save writes a state dict.
 * Damage is KV_EFORMAT, a refused opcode or name KV_EUNSUPPORTED, both naming byte and opcode; more than 1 MiB is
 * KV_ELIMIT, which bounds the memory too.  `data` may go afterwards; `file` is used in errors.  The caller frees. */
int kv_pickle_read(const void *data, size_t size, const char *file, kv_pickle **out, kv_error *err);
void kv_pickle_free(kv_pickle *p);
size_t kv_pickle_n(const kv_pickle *p);
const kv_pickle_tensor *kv_pickle_at(const kv_pickle *p, size_t i); /* in the order of the pickle; NULL from n on */

#endif
