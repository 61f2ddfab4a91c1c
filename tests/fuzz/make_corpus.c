/* make_corpus.c - writes the seed inputs of fuzz_gguf and fuzz_safetensors: make_corpus tests/fuzz/corpus
 *
 * Small whole files with every kind of entry; the fuzzers do the damage. */
#include <stdio.h>

#include "tests/support/gguf_writer.h"
#include "tests/support/quantize.h"
#include "tests/support/safetensors_writer.h"

static const char *const words[] = {"a", "b", "ab", ""};

static const char *in(const char *dir, const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void add_tensor(gw_writer *w, kv_dtype t) {
    unsigned char raw[256];
    uint64_t seed = 5;
    int64_t dims[1] = {kv_dtype_block(t)};
    tq_random(t, raw, (size_t)dims[0], 1, &seed);
    gw_tensor(w, kv_dtype_name(t), t, 1, dims, raw, kv_dtype_block_bytes(t));
}

static int save(gw_writer *w, const char *path) {
    int rc = gw_write(w, path);
    gw_free(w);
    return rc;
}

static int make_gguf(const char *dir) {
    int rc = save(gw_new(), in(dir, "gguf/empty"));
    gw_writer *w = gw_new();
    gw_string(w, "general.architecture", "llama");
    gw_u32(w, "general.alignment", 32);
    gw_u64(w, "llama.block_count", 2);
    gw_i16(w, "llama.embedding_length", 64);
    gw_f32(w, "llama.rope.freq_base", 1e4f);
    gw_bool(w, "tokenizer.ggml.add_bos_token", 1);
    gw_string_array(w, "tokenizer.ggml.tokens", words, 4);
    gw_i32_array(w, "tokenizer.ggml.token_type", (const int32_t[]){1, 1, 1, 3}, 4);
    gw_f32_array(w, "tokenizer.ggml.scores", (const float[]){0, -1, -2, -3}, 4);
    rc |= save(w, in(dir, "gguf/metadata"));
    w = gw_new();
    gw_version(w, 2);
    gw_alignment(w, 8);
    for (int t = 0; t < KV_N_DTYPES; t++) add_tensor(w, (kv_dtype)t);
    rc |= save(w, in(dir, "gguf/tensors"));
    w = gw_new();
    gw_u8(w, "llama.block_count", 1);
    gw_f64(w, "llama.rope.freq_base", 1e6);
    gw_tensor(w, "w", KV_F16, 4, (const int64_t[]){4, 1, 2, 2}, "0123456789abcdef0123456789abcdef", 32);
    return rc | save(w, in(dir, "gguf/both"));
}

static int make_safetensors(const char *dir) {
    static const float x[8] = {1, -2, 0.5f, 3};
    sw_writer *w = sw_new();
    int rc = sw_write(w, in(dir, "safetensors/empty"));
    sw_tensor(w, "a", KV_F32, 2, (const int64_t[]){2, 3}, x);
    sw_tensor(w, "model.layers.0.b", KV_F16, 1, (const int64_t[]){3}, x);
    sw_tensor(w, "scalar", KV_BF16, 0, NULL, x);
    sw_tensor(w, "none", KV_F32, 3, (const int64_t[]){4, 0, 2}, x);
    rc |= sw_write(w, in(dir, "safetensors/types"));
    sw_free(w);
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\",\"\\u00e9\":\"\\\"\"},\"b\":{\"shape\":[1,2],"
                                 "\"later\":[{},1e3,null,true],\"data_offsets\":[4,8],\"dtype\":\"F16\"},"
                                 "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}  ";
    uint64_t n = sizeof header - 1;
    FILE *f = fopen(in(dir, "safetensors/metadata"), "wb");
    if (!f) return -1;
    int ok = fwrite(&n, sizeof n, 1, f) == 1 && fwrite(header, 1, n, f) == n && fwrite(x, 1, 8, f) == 8;
    return fclose(f) == 0 && ok ? rc : -1;
}

int main(int argc, char **argv) {
    if (argc == 2 && make_gguf(argv[1]) == 0 && make_safetensors(argv[1]) == 0) return 0;
    fprintf(stderr, "usage: %s FOLDER (with the folders gguf and safetensors in it, writable)\n", argv[0]);
    return 1;
}
