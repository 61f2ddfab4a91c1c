/* model_config.h - what a checkpoint says about a model apart from its weights, whatever file it came from. */
#ifndef KV_MODEL_CONFIG_H
#define KV_MODEL_CONFIG_H

#include "engine/rope.h"

typedef struct kv_model_config {
    char arch[32], name[96]; /* "llama", "qwen2", "qwen3", "phi3", "mistral" */
    kv_shape shape;
    int n_ff, n_vocab;
    int n_ctx;     /* most tokens of a sequence: the model's own number, or fewer when asked for */
    int tied;      /* the output head is the embedding */
    int qk_norm;   /* RMSNorm of every query and key head before the rotation */
    int qkv_bias;  /* biases of q, k and v */
    int fused;     /* q, k, v are one tensor, gate and up another */
    int pair_rows; /* rows of q and k hold each rotary pair side by side (GGUF llama), not in halves of a head */
    float rms_eps;
    kv_rope_config rope;
} kv_model_config;

/* Sizes that no model has, or that the kernels cannot take, are KV_EFORMAT or KV_EUNSUPPORTED naming `file`. */
int kv_model_config_check(const kv_model_config *c, const char *file, kv_error *err);

/* Weights, norms and biases included; a tied head counts once. */
int64_t kv_model_config_params(const kv_model_config *c);

/* Limits the context to max_ctx tokens (0: the model's own); KV_EARG when the model has fewer. */
int kv_model_config_limit(kv_model_config *c, int max_ctx, const char *file, kv_error *err);

#endif
