/* adapter.h - PEFT LoRA adapters (adapter_config.json + adapter_model.safetensors). */
#ifndef KV_ADAPTER_H
#define KV_ADAPTER_H

#include "engine/kv.h"

typedef struct kv_adapter kv_adapter;

/* Opens DIR; checks peft_type LORA, r, lora_alpha, bias none, no dora; use_rslora changes the scale to
 * alpha / sqrt(r).  The caller closes. */
int kv_adapter_open(const char *dir, kv_adapter **out, kv_error *err);
void kv_adapter_close(kv_adapter *a);

/* What an adapter adds to one linear map, in fp32. */
typedef struct kv_lora {
    float *a, *b; /* (rank, n_in), (n_out, rank); NULL: nothing is added */
    int rank, n_in;
    float scale;
} kv_lora;

/* The update of `model.layers.{layer}.{module}` (module = "self_attn.q_proj", "mlp.up_proj", ...), an (n_out, n_in)
 * map: none for a module without LoRA tensors; tensors of another shape are KV_EFORMAT naming both shapes.  The caller
 * frees; free is safe on a zeroed kv_lora. */
int kv_adapter_lora(const kv_adapter *a, int layer, const char *module, int n_out, int n_in, kv_lora *out,
                    kv_error *err);
void kv_lora_free(kv_lora *l);

/* w += scale * B * A, where w (n, n_in) fp32 holds rows [first, first + n) of the map in Hugging Face order. */
void kv_lora_merge(const kv_lora *l, float *w, int first, int n);

/* Errors when the adapter holds tensors for layers >= n_layers or for modules (names as above) that the model lacks. */
int kv_adapter_check(const kv_adapter *a, int n_layers, const char *const *modules, size_t n_modules, kv_error *err);

#endif
