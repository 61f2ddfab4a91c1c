/* paths.h - where the project's tree is, and the default files in it. */
#ifndef KV_PATHS_H
#define KV_PATHS_H

#include "engine/kv.h"

enum { KV_PATH_MAX = 4096 };

typedef struct kv_paths {
    char root[KV_PATH_MAX];    /* the project's tree */
    char model[KV_PATH_MAX];   /* models/SmolLM2-135M-Instruct.Q4_1.gguf; may be absent */
    char adapter[KV_PATH_MAX]; /* policies/trimkv-smollm2-135m: LoRA adapter ... */
    char gates[KV_PATH_MAX];   /* ... and retention gates for it */
    char datasets[KV_PATH_MAX];
    char db[KV_PATH_MAX]; /* results/trimbench.sqlite */
} kv_paths;

/* sha256 of the default model. */
extern const char kv_default_model_sha256[65];

/* The tree is the folder above the program's (build/trimbench), the program's own, or the one it was built from:
 * the first that holds datasets/tasks.  KV_ENOTFOUND names the places looked at. */
int kv_paths_find(kv_paths *p, kv_error *err);

/* 1 when something of that name exists. */
int kv_path_exists(const char *path);

#endif
