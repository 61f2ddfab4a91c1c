/* synth.h - synthetic models: exact published shapes with seeded random weights.
 *
 * Speed and memory depend on a model's shape, hardly on its numbers, so `--model synth:NAME` measures a published model
 * without a download.  A weight is kv_synth_value(seed, matrix number, index) * std (synth_value.h); norm weights are
 * 1.  What such a model says means nothing, but its activations stay in the range of a trained one's. */
#ifndef KV_SYNTH_H
#define KV_SYNTH_H

#include "engine/kv.h"

typedef struct kv_synth_shape {
    const char *name;   /* without "synth:" */
    const char *source; /* Hugging Face repository with the config.json, or NULL */
    const char *arch;   /* "qwen3", "llama", "phi3" */
    kv_shape shape;
    int n_ff, n_vocab, n_ctx;
    int tied;    /* the output head is the embedding */
    int qk_norm; /* rms norm of every query and key head before the rotation */
    float rope_base, rms_eps;
    int n_gate_hidden; /* retention gates: width that the published ones of this family have */
} kv_synth_shape;

/* The table, smallest model first; static storage. */
const kv_synth_shape *kv_synth_all(int *n);
/* NULL when there is none of that name. */
const kv_synth_shape *kv_synth_find(const char *name);
/* The same; KV_ENOTFOUND lists the names there are and says which is most similar. */
int kv_synth_get(const char *name, const kv_synth_shape **out, kv_error *err);

/* Matrices of a model.  EMBED and HEAD belong to no layer (layer 0); there is no HEAD when tied. */
typedef enum kv_synth_part {
    KV_SYNTH_EMBED,   /* (n_vocab, dim) */
    KV_SYNTH_HEAD,    /* (n_vocab, dim) */
    KV_SYNTH_QKV,     /* ((n_heads + 2 n_kv_heads) * head_dim, dim) */
    KV_SYNTH_OUT,     /* (dim, n_heads * head_dim) */
    KV_SYNTH_GATE_UP, /* (2 n_ff, dim) */
    KV_SYNTH_DOWN,    /* (dim, n_ff) */
    KV_SYNTH_W1,      /* of the retention gate (gates_synth.c), to W2 */
    KV_SYNTH_B1,
    KV_SYNTH_W2,
    KV_SYNTH_PARTS
} kv_synth_part;

uint64_t kv_synth_matrix(kv_synth_part part, int layer); /* its number in kv_synth_value */
/* EMBED to DOWN only, here and in kv_synth_std. */
void kv_synth_dims(const kv_synth_shape *s, kv_synth_part part, int *n_out, int *n_in);
/* Standard deviation of a part's weights: 1 / sqrt(n_in), which keeps the scale of a unit input; the two maps that add
 * to the residual stream a further 1 / sqrt(2 n_layers), so that the sum of all layers stays about 1.  Embeddings 1, or
 * 0.02 when tied: logits would have deviation sqrt(dim) otherwise, and the first norm restores the scale. */
float kv_synth_std(const kv_synth_shape *s, kv_synth_part part);

/* Weights, norms included; a tied head counts once.  Retention gates do not count. */
int64_t kv_synth_params(const kv_synth_shape *s);

/* out (n) = the first n values of a matrix, times std. */
void kv_synth_fill(float *out, size_t n, uint64_t seed, uint64_t matrix, float std);

#endif
