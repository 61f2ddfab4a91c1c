/* model.h - weights of one model, bound, checked and converted to the backend's format. */
#ifndef KV_MODEL_H
#define KV_MODEL_H

#include "engine/engine.h"
#include "engine/checkpoint.h"

typedef struct kv_layer {
    const float *attn_norm;       /* (dim) */
    const float *ffn_norm;        /* (dim) */
    const float *q_norm, *k_norm; /* (head_dim) of every query and key head before the rotation, or NULL */
    const float *qkv_bias;        /* ((n_heads + 2 n_kv_heads) * head_dim), or NULL */
    kv_matrix *qkv;     /* ((n_heads + 2 n_kv_heads) * head_dim, dim): q rows, then k, then v; Hugging Face order */
    kv_matrix *out;     /* (dim, n_heads * head_dim) */
    kv_matrix *gate_up; /* (2 n_ff, dim): gate rows, then up */
    kv_matrix *down;    /* (dim, n_ff) */
} kv_layer;

typedef struct kv_model {
    kv_model_info info;
    float rms_eps;
    kv_checkpoint *checkpoint;  /* stays open: embedding rows are read from it; NULL for synth: models */
    kv_tensor embed;            /* (n_vocab, dim) in the file's type */
    float *vectors;             /* storage of every norm and bias */
    const float *out_norm;      /* (dim) */
    kv_layer *layers;           /* (n_layers) */
    kv_matrix *head;            /* (n_vocab, dim) */
    kv_matrix *embed_matrix;    /* (n_vocab, dim) for a backend that gathers it; head itself when tied; or NULL */
    float *rope_inv;            /* (head_dim / 2) inverse frequencies */
    float rope_scale;           /* of cosines and sines: attention factor of yarn and longrope, else 1 */
    float *rope_cos, *rope_sin; /* (n_ctx, head_dim / 2); NULL for a backend that gathers the embedding */
    kv_rope_table rope;
} kv_model;

/* Opens what kv_checkpoint_open does, merges the adapter (or NULL) in fp32 and hands every matrix to the backend.
 * Errors name the file and the tensor with its found and expected shape. */
int kv_model_open(kv_model *m, kv_backend *b, const char *path, int max_ctx, const char *adapter_dir, kv_error *err);
/* "synth:" models: an exact shape with seeded random weights made by the backend. */
int kv_model_synth(kv_model *m, kv_backend *b, const char *name, uint64_t seed, kv_error *err);
/* The entries of info that follow from the backend. */
void kv_model_finish(kv_model *m, const kv_backend *b);
void kv_model_close(kv_model *m, kv_backend *b);

/* out (dim) = embedding of one token. */
void kv_model_embed(const kv_model *m, int32_t token, float *out);

#endif
