/* hf_config.h - config.json of a Hugging Face folder. */
#ifndef KV_HF_CONFIG_H
#define KV_HF_CONFIG_H

#include <cjson/cJSON.h>

#include "engine/model_config.h"

/* config.json of one of the known architectures.  Whatever changes the computation and is not done here is
 * KV_EUNSUPPORTED naming key and value; a size that is missing or senseless is KV_EFORMAT.  max_ctx: as in
 * kv_checkpoint_open.  text needs no NUL; `name` is used in errors. */
int kv_hf_config_parse(const char *text, size_t n, const char *name, int max_ctx, kv_model_config *out, kv_error *err);

/* rope_theta with rope_scaling, or rope_parameters, of a config.json; out->shape and out->n_ctx are there already and
 * yarn may raise n_ctx (hf_rope.c). */
int kv_hf_rope_parse(const cJSON *config, const char *name, kv_model_config *out, kv_error *err);

/* "key = value is not supported": the value as JSON, cut to some length. */
int kv_hf_unsupported(const char *name, const char *key, const cJSON *value, const char *why, kv_error *err);

#endif
