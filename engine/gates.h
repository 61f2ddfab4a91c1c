/* gates.h - retention gates (arXiv 2512.03324, 2605.09649) in fp32 arrays: loaded, or random for synthetic models. */
#ifndef KV_GATES_H
#define KV_GATES_H

#include "policies/policy.h"

typedef struct kv_gate_file kv_gate_file;

/* What a snapshot's config.json says about its gates; 0 or "" when it does not. */
typedef struct kv_gates_config {
    char base_model[128]; /* "Qwen/Qwen3-4B" */
    char type[16];        /* retention_gate */
    char strategy[32];    /* strategy, or compress_strategy of the older files */
    int n_hidden;         /* retention_gate_intermediate_size */
    int budget, buffer;   /* memory_size, buffer_size */
    int lookahead;        /* lookahead_steps */
    int window;           /* sliding_window_size */
} kv_gates_config;

enum { KV_GATES_PATH = 4096 };

/* path: a snapshot's folder or its weight file -> the weight file (trimkv_weights.safetensors or, failing that,
 * trimkv_weights.pth) and the config.json beside it, which may be absent.  KV_ENOTFOUND names what a folder lacks. */
int kv_gates_find(const char *path, char weights[KV_GATES_PATH], char config[KV_GATES_PATH], kv_error *err);

/* Reads the config.json of a snapshot, as far as it concerns gates; without one everything is 0.  KV_EFORMAT for values
 * that make no sense, KV_EUNSUPPORTED for another activation than SiLU and for layers that are never reduced. */
int kv_gates_read_config(const char *config, kv_gates_config *out, kv_error *err);

/* path as for kv_gates_find; F32, F16 or BF16.  The type (rg, rg2, rg3, rg10) is recognised by the tensors' names and
 * must be what config.json says; rg and rg2 have the same names, and config.json tells them apart or, without it, the
 * width of the input (rg when both would fit).  KV_EFORMAT names tensor or layer, found and expected; for gates of
 * another model both shapes.  The caller closes. */
int kv_gates_open(const char *path, const kv_shape *shape, kv_gate_file **out, kv_error *err);
/* Random gates of type rg for a synthetic model: every value is a bf16, and the log retention differs between tokens
 * and heads (logit 4 +- 2).  Same seed, same gates. */
int kv_gates_synth(const kv_shape *shape, int n_hidden, uint64_t seed, kv_gate_file **out, kv_error *err);
void kv_gates_close(kv_gate_file *g);
const kv_gates *kv_gates_view(const kv_gate_file *g); /* owned by the file */

#endif
