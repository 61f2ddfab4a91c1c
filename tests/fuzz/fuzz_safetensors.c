/* fuzz_safetensors.c - any bytes as a .safetensors file: open it and, when that works, read every tensor. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kv_safetensors *s;
    kv_error err;
    if (kv_safetensors_open_memory(data, size, "fuzz", &s, &err) != KV_OK) return 0;
    for (size_t i = 0; i < kv_safetensors_n(s); i++) {
        const kv_st_tensor *t = kv_safetensors_at(s, i), *same;
        if (kv_safetensors_expect(s, t->name, t->n_dims, t->dims, &same, &err) != KV_OK || same != t) abort();
        kv_safetensors_expect(s, t->name, 1, (const int64_t[]){-1}, &same, &err);
        size_t n = t->bytes / kv_dtype_block_bytes(t->type);
        float *x = malloc(n * sizeof *x + 1);
        if (x) kv_dequantize(t->type, t->data, x, n);
        free(x);
    }
    kv_safetensors_close(s);
    return 0;
}
