/* checkpoint.h - one view of a model's files: a GGUF, or a Hugging Face folder.
 *
 * A tensor is asked for by what it is in the model (its role), not by its name; the names, the order of rows and where
 * sizes are written down are the checkpoint's business.  Everything is mapped, nothing is copied. */
#ifndef KV_CHECKPOINT_H
#define KV_CHECKPOINT_H

#include "engine/chat.h"
#include "engine/dequant.h"
#include "engine/file.h"
#include "engine/generation.h"
#include "engine/model_config.h"

typedef enum kv_role {
    KV_ROLE_EMBED,     /* (n_vocab, dim) */
    KV_ROLE_OUT_NORM,  /* (dim) */
    KV_ROLE_HEAD,      /* (n_vocab, dim); absent when tied */
    KV_ROLE_ATTN_NORM, /* (dim); from here on one per layer */
    KV_ROLE_FFN_NORM,
    KV_ROLE_Q_NORM, /* (head_dim) */
    KV_ROLE_K_NORM,
    KV_ROLE_Q, /* (n_heads * head_dim, dim) */
    KV_ROLE_K,
    KV_ROLE_V,
    KV_ROLE_QKV, /* q, k, v one below the other */
    KV_ROLE_Q_BIAS,
    KV_ROLE_K_BIAS,
    KV_ROLE_V_BIAS,
    KV_ROLE_OUT,  /* (dim, n_heads * head_dim) */
    KV_ROLE_GATE, /* (n_ff, dim) */
    KV_ROLE_UP,
    KV_ROLE_GATE_UP, /* gate, up one below the other */
    KV_ROLE_DOWN,    /* (dim, n_ff) */
    KV_N_ROLES
} kv_role;

typedef struct kv_tensor {
    const char *name; /* owned by the checkpoint, as data is */
    kv_dtype type;
    int n_dims;
    int64_t dims[4];   /* row-major: dims[0] varies slowest */
    const void *data;  /* may be unaligned: read it through kv_dequantize */
    const char *file;  /* that it lies in */
    const kv_map *map; /* of that file, when large reads go around the mapping (kv_weights); NULL in a GGUF */
} kv_tensor;

typedef struct kv_checkpoint kv_checkpoint;

/* path: a GGUF file, or a folder with config.json.  Maps every file and checks configuration, names and shapes: each
 * tensor that the configuration asks for is there with its shape, and no other.  A model that the engine cannot run as
 * its authors meant is KV_EUNSUPPORTED naming what is in the way; a tensor that is missing or different is KV_EFORMAT
 * naming file, tensor, found and expected shape.  max_ctx: longest sequence wanted, 0 = what the model has.  The caller
 * closes. */
int kv_checkpoint_open(const char *path, int max_ctx, kv_checkpoint **out, kv_error *err);
void kv_checkpoint_close(kv_checkpoint *s);

const kv_model_config *kv_checkpoint_config(const kv_checkpoint *s);
const char *kv_checkpoint_path(const kv_checkpoint *s);

/* The tensor of a role that the model has, in a layer (any for those without). */
kv_tensor kv_checkpoint_tensor(const kv_checkpoint *s, kv_role role, int layer);

/* Module of a LoRA adapter that changes this role ("self_attn.q_proj"), or NULL. */
const char *kv_role_module(kv_role role);
/* 1 when a model of this configuration has a tensor of the role. */
int kv_role_is_used(const kv_model_config *c, kv_role role);

/* Tokenizer (the caller closes) and chat template; *chat is NULL when the template is none of the known ones. */
int kv_checkpoint_tokenizer(const kv_checkpoint *s, kv_tokenizer **tokenizer, const kv_chat **chat, kv_error *err);
/* Stop ids and sampling that the files recommend; t: the checkpoint's tokenizer. */
int kv_checkpoint_generation(const kv_checkpoint *s, const kv_tokenizer *t, kv_generation *out, kv_error *err);

/* What identifies the model, and its tokenizer, in results.
 *
 * GGUF: sha256 of the file; of the lines pre-tokenizer, every token, every merge.
 *
 * Folder: sha256 over config.json, generation_config.json and, in the order of names, every tensor's name, type, shape
 * and content, of which each tensor above 64 KiB gives its first and last 4 KiB and 14 pieces evenly between; sha256
 * over that of tokenizer.json and the tokenizer's BOS, EOS and whether BOS is added, wherever they are written down. So
 * a checkpoint of any size is identified in seconds, and one cut into other shards is the same model; a change that
 * keeps clear of every sampled piece is not seen.
 *
 * t: the checkpoint's tokenizer. */
int kv_checkpoint_hash(const kv_checkpoint *s, const kv_tokenizer *t, char model[65], char tokenizer[65],
                       kv_error *err);

#endif
