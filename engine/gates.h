/* gates.h - TRIM-KV retention gates (arXiv 2512.03324) in fp32 arrays: loaded, or random for synthetic models. */
#ifndef KV_GATES_H
#define KV_GATES_H

#include "policies/policy.h"

typedef struct kv_gate_file kv_gate_file;

/* path: a folder holding trimkv_weights.safetensors or, failing that, trimkv_weights.pth (and config.json), or either
 * file itself; F32, F16 or BF16.  Type `rg`; others (rg2, rg3, rg10) are recognised by their keys and refused by name.
 * Shapes are checked against each other and against `shape` (layers, dim, KV heads): KV_EFORMAT names tensor, found and
 * expected shape. */
int kv_gates_open(const char *path, const kv_shape *shape, kv_gate_file **out, kv_error *err);
/* Random gates of type rg for a synthetic model: every value is a bf16, and the log retention differs between tokens
 * and heads (logit 4 +- 2).  Same seed, same gates. */
int kv_gates_synth(const kv_shape *shape, int n_hidden, uint64_t seed, kv_gate_file **out, kv_error *err);
void kv_gates_close(kv_gate_file *g);
const kv_gates *kv_gates_view(const kv_gate_file *g); /* owned by the file */
/* memory_size and buffer_size of config.json, 0 when not given. */
int kv_gates_budget(const kv_gate_file *g);
int kv_gates_buffer(const kv_gate_file *g);

#endif
