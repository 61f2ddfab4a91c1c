/* checkpoint_internal.h - what the files behind checkpoint.h share. */
#ifndef KV_CHECKPOINT_INTERNAL_H
#define KV_CHECKPOINT_INTERNAL_H

#include "engine/gguf.h"
#include "engine/hf_weights.h"
#include "engine/checkpoint.h"

struct kv_checkpoint {
    char *path;
    kv_model_config config;
    kv_gguf *gguf; /* this or the other */
    kv_hf_weights *hf;
};

/* checkpoint_gguf.c */
int kv_gguf_config(const kv_gguf *g, const char *path, kv_model_config *out, kv_error *err);
int kv_gguf_tokenizer_hash(const kv_gguf *g, char hex[65], kv_error *err);

#endif
