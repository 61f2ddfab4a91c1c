/* fuzz_pickle.c - any bytes as the pickle index of a .pth file: refused with a reason, or tensors that make sense. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kv_pickle *p;
    kv_error err = {0};
    if (kv_pickle_read(data, size, "fuzz", &p, &err) != KV_OK) {
        if (p || !err.text[0]) abort();
        return 0;
    }
    for (size_t i = 0; i < kv_pickle_n(p); i++) {
        const kv_pickle_tensor *t = kv_pickle_at(p, i);
        if (!t->name[0] || !t->storage || !t->dtype || t->type > KV_N_DTYPES) abort();
        if (t->n_stored < 0 || t->offset < 0 || t->n_dims < 0 || t->n_dims > 4) abort();
        for (int d = 0; d < 4; d++)
            if (t->dims[d] < 0 || t->strides[d] < 0) abort();
    }
    if (kv_pickle_at(p, kv_pickle_n(p))) abort();
    kv_pickle_free(p);
    return 0;
}
