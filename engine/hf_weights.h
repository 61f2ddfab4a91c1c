/* hf_weights.h - the tensors of a Hugging Face folder: model.safetensors, or the shards that
 * model.safetensors.index.json names, as one sorted list. */
#ifndef KV_HF_WEIGHTS_H
#define KV_HF_WEIGHTS_H

#include "engine/safetensors.h"

typedef struct kv_hf_weights kv_hf_weights;

/* Maps every file of the folder.  A tensor that the index names and its shard lacks, or the other way round, is
 * KV_EFORMAT naming both.  The caller closes. */
int kv_hf_weights_open(const char *dir, kv_hf_weights **out, kv_error *err);
void kv_hf_weights_close(kv_hf_weights *w);

size_t kv_hf_weights_n(const kv_hf_weights *w);
/* In the order of names; NULL from n on. */
const kv_st_tensor *kv_hf_weights_at(const kv_hf_weights *w, size_t i);
/* NULL when absent. */
const kv_st_tensor *kv_hf_weights_find(const kv_hf_weights *w, const char *name);
/* The file that a tensor of this list lies in, and its mapping. */
const char *kv_hf_weights_file(const kv_hf_weights *w, const kv_st_tensor *t);
const kv_map *kv_hf_weights_map(const kv_hf_weights *w, const kv_st_tensor *t);

/* File names in an index, each once and in order.  Names that are no plain *.safetensors file beside the index are
 * KV_EFORMAT.  text needs no NUL; `name` is used in errors.  The caller frees with kv_hf_index_free. */
typedef struct kv_hf_index {
    struct cJSON *root;
    const struct cJSON *map; /* tensor: file */
    const char **files;
    size_t n_files;
} kv_hf_index;
int kv_hf_index_parse(const char *text, size_t n, const char *name, kv_hf_index *out, kv_error *err);
void kv_hf_index_free(kv_hf_index *x);

#endif
