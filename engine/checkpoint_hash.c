/* checkpoint_hash.c - what identifies a model in results (rules in checkpoint.h).
 *
 * sha256 runs at 1.7 GB/s: ten seconds for 16 GB of shards, at every start, and more from a disk; so of a folder's
 * tensors only samples are hashed.  Every tensor is sampled, and training changes every tensor everywhere.  All samples
 * are asked for before the first is waited for: a disk that answers thousands at once is slow one by one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/evp.h>

#include "engine/file.h"
#include "engine/checkpoint_internal.h"

enum { WHOLE = 64 << 10, PIECE = 4 << 10, N_PIECES = 16 };

typedef struct hasher {
    EVP_MD_CTX *ctx;
    int ok;
} hasher;

static void add(hasher *h, const void *data, size_t n) {
    h->ok = h->ok && EVP_DigestUpdate(h->ctx, data, n) == 1;
}

static void add_line(hasher *h, const char *line) {
    add(h, line, strlen(line));
    add(h, "\n", 1);
}

/* What of a tensor's content is hashed: all of it, or pieces. */
static int n_pieces(const kv_st_tensor *t) {
    return t->bytes <= WHOLE ? 1 : N_PIECES;
}

static size_t piece_bytes(const kv_st_tensor *t) {
    return t->bytes <= WHOLE ? t->bytes : PIECE;
}

static const char *piece_at(const kv_st_tensor *t, int i) {
    size_t last = t->bytes - piece_bytes(t);
    return (const char *)t->data + (i == N_PIECES - 1 ? last : last / (N_PIECES - 1) * (size_t)i);
}

static void add_tensor(hasher *h, const kv_st_tensor *t) {
    char line[160];
    add_line(h, t->name);
    snprintf(line, sizeof line, "%s %d %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64, kv_dtype_name(t->type), t->n_dims,
             t->dims[0], t->dims[1], t->dims[2], t->dims[3]);
    add_line(h, line);
    for (int i = 0; i < n_pieces(t); i++) add(h, piece_at(t, i), piece_bytes(t));
}

/* Settings as they are in the file; one that is absent leaves a line too. */
static int add_settings(hasher *h, const kv_checkpoint *s, const char *name, kv_error *err) {
    char path[KV_FILE_PATH], hex[65] = "-";
    struct stat st;
    int rc = kv_file_join(s->path, name, path, err);
    if (rc == KV_OK && stat(path, &st) == 0) rc = kv_sha256_file(path, hex, err);
    add_line(h, name);
    add_line(h, hex);
    return rc;
}

static int hash_folder(const kv_checkpoint *s, char hex[65], kv_error *err) {
    unsigned char digest[32];
    hasher h = {EVP_MD_CTX_new(), 0};
    for (size_t i = 0; i < kv_hf_weights_n(s->hf); i++) {
        const kv_st_tensor *t = kv_hf_weights_at(s->hf, i);
        for (int k = 0; k < n_pieces(t); k++) kv_map_prefetch(piece_at(t, k), piece_bytes(t));
    }
    h.ok = h.ctx && EVP_DigestInit_ex(h.ctx, EVP_sha256(), NULL) == 1;
    int rc = add_settings(&h, s, "config.json", err);
    if (rc == KV_OK) rc = add_settings(&h, s, "generation_config.json", err);
    for (size_t i = 0; rc == KV_OK && i < kv_hf_weights_n(s->hf); i++) add_tensor(&h, kv_hf_weights_at(s->hf, i));
    h.ok = h.ok && EVP_DigestFinal_ex(h.ctx, digest, NULL) == 1;
    EVP_MD_CTX_free(h.ctx);
    if (rc == KV_OK && !h.ok) rc = kv_fail(err, KV_ENOMEM, "%s: no memory for sha256", s->path);
    if (rc == KV_OK) kv_hex(digest, sizeof digest, hex);
    return rc;
}

/* tokenizer_config.json may be changed in many ways that no id depends on, so its outcome is hashed. */
static int hash_tokenizer(const kv_checkpoint *s, const kv_tokenizer *t, char hex[65], kv_error *err) {
    char path[KV_FILE_PATH], file[65], text[256];
    int rc = kv_file_join(s->path, "tokenizer.json", path, err);
    if (rc == KV_OK) rc = kv_sha256_file(path, file, err);
    if (rc) return rc;
    int n = snprintf(text, sizeof text, "%s\nbos %" PRId64 " add %d\neos %" PRId64 "\n", file, kv_tokenizer_bos(t),
                     kv_tokenizer_add_bos(t), kv_tokenizer_eos(t));
    kv_sha256_bytes(text, (size_t)n, hex);
    return KV_OK;
}

int kv_checkpoint_hash(const kv_checkpoint *s, const kv_tokenizer *t, char model[65], char tokenizer[65],
                       kv_error *err) {
    int rc = s->gguf ? kv_gguf_tokenizer_hash(s->gguf, tokenizer, err) : hash_tokenizer(s, t, tokenizer, err);
    if (rc) return rc;
    return s->gguf ? kv_sha256_file(s->path, model, err) : hash_folder(s, model, err);
}
