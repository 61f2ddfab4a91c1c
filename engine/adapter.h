/* adapter.h - PEFT LoRA adapters (adapter_config.json + adapter_model.safetensors). */
#ifndef KV_ADAPTER_H
#define KV_ADAPTER_H

#include "engine/kv.h"

typedef struct kv_adapter kv_adapter;

/* Opens DIR; checks peft_type LORA, r, lora_alpha, bias none, no dora; use_rslora changes the scale to
 * alpha / sqrt(r).  The caller closes. */
int kv_adapter_open(const char *dir, kv_adapter **out, kv_error *err);
void kv_adapter_close(kv_adapter *a);

/* w (n_out, n_in) fp32 row-major, Hugging Face row order, += scale * B * A for `model.layers.{layer}.{module}`
 * (module = "self_attn.q_proj", "mlp.up_proj", ...).  A module without LoRA tensors is left alone; tensors of another
 * shape are KV_EFORMAT naming both shapes. */
int kv_adapter_merge(const kv_adapter *a, int layer, const char *module, float *w, int n_out, int n_in, kv_error *err);

/* Errors when the adapter holds tensors for layers >= n_layers or for modules (names as above) that the model lacks. */
int kv_adapter_check(const kv_adapter *a, int n_layers, const char *const *modules, size_t n_modules, kv_error *err);

#endif
