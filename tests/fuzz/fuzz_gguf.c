/* fuzz_gguf.c - any bytes as a GGUF file: open it and, when that works, read everything it offers. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/gguf.h"

/* Keys of the seed files; a mutation of a value keeps its key. */
static const char *const keys[] = {"general.architecture",  "general.alignment",         "llama.block_count",
                                   "llama.rope.freq_base",  "llama.embedding_length",    "tokenizer.ggml.add_bos_token",
                                   "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.scores"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned sum_bytes(const void *p, size_t n) {
    unsigned sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((const unsigned char *)p)[i];
    return sum;
}

static unsigned read_key(const kv_gguf *g, const char *key) {
    kv_error err;
    int64_t whole;
    double real;
    int flag;
    const char *text;
    size_t n;
    unsigned sum = 0;
    if (kv_gguf_int(g, key, &whole, &err) == KV_OK) sum += (unsigned)whole;
    if (kv_gguf_float(g, key, &real, &err) == KV_OK) sum += real > 0;
    if (kv_gguf_bool(g, key, &flag, &err) == KV_OK) sum += (unsigned)flag;
    if (kv_gguf_string(g, key, &text, &n, &err) == KV_OK) sum += sum_bytes(text, n);
    if (kv_gguf_array_len(g, key, &n, &err) != KV_OK) return sum;
    for (size_t i = 0; i <= n; i++) {
        size_t len;
        if (kv_gguf_array_int(g, key, i, &whole, &err) == KV_OK) sum += (unsigned)whole;
        if (kv_gguf_array_string(g, key, i, &text, &len, &err) == KV_OK) sum += sum_bytes(text, len);
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kv_gguf *g;
    kv_error err;
    if (kv_gguf_open_memory(data, size, "fuzz", &g, &err) != KV_OK) return 0;
    volatile unsigned sum = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) sum += read_key(g, keys[i]);
    for (size_t i = 0; i < kv_gguf_n_tensors(g); i++) {
        const kv_gguf_tensor *t = kv_gguf_tensor_at(g, i);
        if (kv_gguf_find(g, t->name) != t) abort();
        sum += sum_bytes(t->data, t->bytes);
        size_t n = (size_t)(t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3]);
        float *x = malloc(n * sizeof *x);
        if (x) kv_dequantize(t->type, t->data, x, n);
        free(x);
    }
    (void)sum;
    kv_gguf_close(g);
    return 0;
}
