/* generation_config.h - how a checkpoint wants to be sampled: its generation_config.json. */
#ifndef KV_GENERATION_CONFIG_H
#define KV_GENERATION_CONFIG_H

#include "engine/engine.h"

typedef struct kv_generation_config {
    int do_sample; /* 0 also when the file does not say: transformers is greedy then */
    int has_temperature, has_top_p, has_top_k, has_min_p;
    float temperature, top_p, min_p;
    int top_k;
} kv_generation_config;

/* KV_EFORMAT names the key when a value has the wrong type or range; `name` is used in errors, text needs no NUL. */
int kv_generation_config_parse(const char *text, size_t n, const char *name, kv_generation_config *out, kv_error *err);
/* The same for a file. */
int kv_generation_config_load(const char *path, kv_generation_config *out, kv_error *err);

/* As transformers generates with the file: greedy unless do_sample is true; what the file leaves out is temperature 1,
 * top-k 50, top-p and min-p off. */
kv_sampling kv_generation_config_sampling(const kv_generation_config *c);

#endif
