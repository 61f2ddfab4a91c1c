/* hub.h - models in the cache of the Hugging Face hub: ${HF_HOME}/hub/models--ORG--NAME/snapshots/COMMIT.
 *
 * Where the cache is comes from the environment, as for huggingface_hub and scripts/get_model.sh; nothing is fetched
 * from here. */
#ifndef KV_HUB_H
#define KV_HUB_H

#include "bench/paths.h"

/* The cache folder: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub or
 * ~/.cache/huggingface/hub, the first that is set. */
int kv_hub_cache(char out[KV_PATH_MAX], kv_error *err);

/* 1 for ORG/NAME or ORG/NAME@REVISION: two words of letters, digits, '.', '_' and '-', neither starting with a dot. */
int kv_hub_is_id(const char *text);

/* The snapshot folder of an id: of refs/main, or of the branch, tag or commit behind '@'.  KV_ENOTFOUND names the cache
 * and the command that fetches the model. */
int kv_hub_find(const char *cache, const char *id, char out[KV_PATH_MAX], kv_error *err);

/* A path that exists, or an id, as a path; a repository's folder in a cache stands for the snapshot that refs/main
 * names.  KV_ENOTFOUND as above, or says that there is no such path. */
int kv_hub_locate(const char *text, char out[KV_PATH_MAX], kv_error *err);

/* Calls with "ORG/NAME" and its folder for every model of the cache that refs/main points to and that has a
 * config.json; in no order. */
void kv_hub_list(const char *cache, void (*found)(void *user, const char *id, const char *dir), void *user);

#endif
