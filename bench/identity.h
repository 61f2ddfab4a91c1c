/* identity.h - what makes a model the model it is: hashes of its files, its shape, its tokenizer and chat template.
 *
 * All of it is known without loading weights, so that a finished sweep is recognised in a moment.  A synthetic model
 * has no file: its name and seed stand in place of hashes, and it has no tokenizer. */
#ifndef KV_IDENTITY_H
#define KV_IDENTITY_H

#include "bench/options.h"
#include "bench/paths.h"
#include "engine/chat.h"
#include "engine/engine.h"
#include "engine/gates.h"
#include "engine/generation.h"
#include "engine/synth.h"
#include "engine/tokenizer.h"

typedef struct kv_identity {
    char model_path[KV_PATH_MAX];                                /* or "synth:NAME" */
    const kv_synth_shape *synth;                                 /* of a synthetic model, else NULL */
    uint64_t seed;                                               /* of its weights and gates */
    int synth_gates;                                             /* 1: random gates, because none were given */
    char adapter_dir[KV_PATH_MAX], gates_path[KV_PATH_MAX];      /* "" = none */
    int is_default;                                              /* --model was not given */
    char model_sha256[65], adapter_sha256[65], gates_sha256[65]; /* adapter, gates: "" = none */
    char tokenizer_sha256[65];                                   /* what is hashed: engine/checkpoint.h */
    char chat_hash[65];
    const kv_chat *chat; /* NULL: the file has a template, and it is unknown */
    kv_tokenizer *tokenizer;
    kv_generation generation; /* stop ids and recommended sampling */
    char arch[32], name[96];
    kv_shape shape;
    int n_ctx;
    int64_t n_params; /* weights */
    int max_ctx;      /* --max-context, 0 = what the model has */
    int short_ctx;    /* a --max-context up to this gives longrope's short factors; 0: no other factors to be had */
} kv_identity;

/* Resolves --model (entry i of the list) against the default; checks that the file, or the synthetic model, exists. */
int kv_identity_resolve_model(const kv_opts *o, size_t i, const kv_paths *p, kv_identity *id, kv_error *err);
/* The same with --adapter and --gates. */
int kv_identity_resolve(const kv_opts *o, size_t i, const kv_paths *p, kv_identity *id, kv_error *err);

/* Reads hashes, shape and tokenizer of a resolved identity; the caller frees with kv_identity_free. */
int kv_identity_load(kv_identity *id, kv_error *err);
/* Bytes of a loaded model's weights as an engine would hold them. */
double kv_identity_weight_bytes(const kv_identity *id, kv_numerics numerics, kv_device_kind device);
/* The same without hashes and without a shape check: tokenizer and chat template only. */
int kv_identity_load_tokenizer(kv_identity *id, kv_error *err);
/* Another chat template than the file's, with its hash. */
void kv_identity_set_chat(kv_identity *id, const kv_chat *chat);
void kv_identity_free(kv_identity *id);

/* KV_EARG for a synthetic model, which can neither read nor write text; `command` is named in the message. */
int kv_identity_needs_text(const kv_identity *id, const char *command, kv_error *err);

/* The gates that go with the model: *out is NULL when it has none, or when they cannot be read (*why says so). */
void kv_identity_open_gates(const kv_identity *id, const kv_shape *shape, kv_gate_file **out, kv_error *why);

/* The path to hand to kv_engine_open: NULL when there is no adapter. */
const char *kv_identity_adapter(const kv_identity *id);

#endif
