/* identity.c - resolves the model's files and hashes them. */
#include "bench/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/hub.h"
#include "engine/checkpoint.h"
#include "engine/file.h"

static const char synth_prefix[] = "synth:";

/* "none" = no file; a given path, else the default one when the default model is used.  no_id: what to say behind a
 * path that does not exist. */
static int pick(const char *what, const char *no_id, const char *given, const char *fallback, char *out,
                kv_error *err) {
    const char *from = given ? given : fallback;
    out[0] = 0;
    if (!from || strcmp(from, "none") == 0) return KV_OK;
    if (strlen(from) >= KV_PATH_MAX) return kv_fail(err, KV_ELIMIT, "--%s: the path is too long", what);
    strcpy(out, from);
    if (!kv_path_exists(out))
        return kv_fail(err, KV_ENOTFOUND, "--%s: %.400s does not exist%s", what, out,
                       given ? no_id : " (part of the project's tree: check it out again, or give none)");
    return KV_OK;
}

/* The model cards load a snapshot as if it were a model; here it is half of one. */
static int refuse_gates(const char *model, kv_error *err) {
    static const char *const of_models[] = {"model.safetensors", "model.safetensors.index.json"};
    char path[KV_GATES_PATH], config[KV_GATES_PATH];
    kv_gates_config c;
    struct stat st;
    if (stat(model, &st) != 0 || !S_ISDIR(st.st_mode) || kv_gates_find(model, path, config, NULL)) return KV_OK;
    for (int i = 0; i < 2; i++)
        if (kv_file_join(model, of_models[i], path, NULL) == KV_OK && kv_path_exists(path)) return KV_OK;
    if (kv_gates_read_config(config, &c, NULL)) c.base_model[0] = 0;
    return kv_fail(err, KV_EARG,
                   "--model %.240s: these are retention gates: give them with --gates, and with --model the model "
                   "that they are made for%s%s",
                   model, c.base_model[0] ? ", " : "", c.base_model);
}

int kv_identity_resolve_model(const kv_opts *o, size_t i, const kv_paths *p, kv_identity *id, kv_error *err) {
    const char *model = i < kv_opts_n(o, KV_OPT_MODEL) ? o->v[KV_OPT_MODEL].texts[i] : NULL;
    memset(id, 0, sizeof *id);
    id->is_default = model == NULL;
    id->seed = (uint64_t)kv_opts_int(o, KV_OPT_SEED);
    id->max_ctx = (int)kv_opts_int(o, KV_OPT_MAX_CONTEXT);
    if (snprintf(id->model_path, KV_PATH_MAX, "%s", model ? model : p->model) >= KV_PATH_MAX)
        return kv_fail(err, KV_ELIMIT, "--model: the path is too long");
    if (strncmp(id->model_path, synth_prefix, strlen(synth_prefix)) == 0) {
        if (id->max_ctx)
            return kv_fail(err, KV_EARG, "--max-context does not go with --model %.80s: shapes are taken as they are",
                           id->model_path);
        return kv_synth_get(id->model_path + strlen(synth_prefix), &id->synth, err);
    }
    if (!model && !kv_path_exists(p->model))
        return kv_fail(err, KV_ENOTFOUND,
                       "the default model %.300s is not there: run scripts/get_model.sh, or give --model FILE.gguf",
                       p->model);
    kv_error why = {0};
    int rc = model ? kv_hub_locate(model, id->model_path, &why) : KV_OK;
    if (rc) return kv_fail(err, rc, "--model: %.480s", why.text);
    return refuse_gates(id->model_path, err);
}

int kv_identity_resolve(const kv_opts *o, size_t i, const kv_paths *p, kv_identity *id, kv_error *err) {
    static const char no_id[] = ": give the folder of a PEFT adapter (ORG/NAME is for --model and --gates)";
    int rc = kv_identity_resolve_model(o, i, p, id, err);
    if (rc) return rc;
    const char *adapter = id->is_default ? p->adapter : NULL, *gates = id->is_default ? p->gates : NULL;
    if ((rc = pick("adapter", no_id, kv_opts_text(o, KV_OPT_ADAPTER), adapter, id->adapter_dir, err))) return rc;
    if (id->synth && id->adapter_dir[0])
        return kv_fail(err, KV_EARG, "--adapter does not go with --model %.80s: random weights have no adapter",
                       id->model_path);
    id->synth_gates = id->synth && !kv_opts_given(o, KV_OPT_GATES);
    return pick("gates", "", kv_opts_text(o, KV_OPT_GATES), gates, id->gates_path, err);
}

/* Hash of settings, which may be absent, and weights. */
static int hash_pair(const char *settings, const char *weights, char hex[65], kv_error *err) {
    char text[2 * 65] = {0};
    int rc = kv_path_exists(settings) ? kv_sha256_file(settings, text, err) : KV_OK;
    if (rc == KV_OK) rc = kv_sha256_file(weights, text + 65, err);
    if (rc) return rc;
    text[64] = '\n';
    kv_sha256_bytes(text, sizeof text - 1, hex);
    return KV_OK;
}

static int hash_adapter(kv_identity *id, kv_error *err) {
    char weights[KV_FILE_PATH], config[KV_FILE_PATH];
    if (!id->adapter_dir[0]) return KV_OK;
    int rc = kv_file_join(id->adapter_dir, "adapter_config.json", config, err);
    if (rc == KV_OK) rc = kv_file_join(id->adapter_dir, "adapter_model.safetensors", weights, err);
    return rc ? rc : hash_pair(config, weights, id->adapter_sha256, err);
}

void kv_identity_set_chat(kv_identity *id, const kv_chat *chat) {
    id->chat = chat;
    id->chat_hash[0] = 0;
    if (chat) kv_chat_hash(chat, id->chat_hash);
}

static int read_tokenizer(const kv_checkpoint *src, kv_identity *id, kv_error *err) {
    const kv_chat *chat = NULL;
    int rc = kv_checkpoint_tokenizer(src, &id->tokenizer, &chat, err);
    if (rc == KV_OK) rc = kv_checkpoint_generation(src, id->tokenizer, &id->generation, err);
    kv_identity_set_chat(id, chat);
    return rc;
}

static int hash_gates(kv_identity *id, kv_error *err) {
    char weights[KV_GATES_PATH], config[KV_GATES_PATH];
    if (!id->gates_path[0]) return KV_OK;
    int rc = kv_gates_find(id->gates_path, weights, config, err);
    return rc ? rc : hash_pair(config, weights, id->gates_sha256, err);
}

static int load_synth(kv_identity *id, kv_error *err) {
    const kv_synth_shape *s = id->synth;
    snprintf(id->model_sha256, sizeof id->model_sha256, "synth:%.24s:%llu", s->name, (unsigned long long)id->seed);
    if (id->synth_gates) snprintf(id->gates_sha256, sizeof id->gates_sha256, "%.58s:gates", id->model_sha256);
    snprintf(id->arch, sizeof id->arch, "%s", s->arch);
    snprintf(id->name, sizeof id->name, "%.95s", id->model_path);
    id->shape = s->shape;
    id->n_ctx = s->n_ctx;
    id->n_params = kv_synth_params(s);
    id->chat = kv_chat_find("none");
    return hash_gates(id, err);
}

/* A shorter context may end answers earlier and choose other factors of longrope: not the same model. */
static void hash_limit(kv_identity *id) {
    char text[96];
    int n = snprintf(text, sizeof text, "%s\ncontext %d\n", id->model_sha256, id->max_ctx);
    kv_sha256_bytes(text, (size_t)n, id->model_sha256);
}

int kv_identity_load(kv_identity *id, kv_error *err) {
    kv_checkpoint *src = NULL;
    if (id->synth) return load_synth(id, err);
    int rc = kv_checkpoint_open(id->model_path, id->max_ctx, &src, err);
    if (rc) return rc;
    const kv_model_config *c = kv_checkpoint_config(src);
    snprintf(id->arch, sizeof id->arch, "%s", c->arch);
    snprintf(id->name, sizeof id->name, "%s", c->name);
    id->shape = c->shape;
    id->n_ctx = c->n_ctx;
    id->short_ctx = kv_rope_is_long(&c->rope, c->n_ctx) ? c->rope.original_ctx : 0;
    id->n_params = kv_model_config_params(c);
    if ((rc = read_tokenizer(src, id, err)) ||
        (rc = kv_checkpoint_hash(src, id->tokenizer, id->model_sha256, id->tokenizer_sha256, err)))
        goto done;
    if (id->max_ctx) hash_limit(id);
    rc = hash_adapter(id, err);
    if (rc == KV_OK) rc = hash_gates(id, err);
done:
    kv_checkpoint_close(src);
    return rc;
}

double kv_identity_weight_bytes(const kv_identity *id, kv_numerics numerics, kv_device_kind device) {
    const double int8_g64 = 1 + 4.0 / 64; /* a scale for 64 weights */
    return (double)id->n_params * (numerics == KV_EXACT ? 4 : device == KV_CUDA ? 2 : int8_g64);
}

int kv_identity_load_tokenizer(kv_identity *id, kv_error *err) {
    kv_checkpoint *src = NULL;
    int rc = kv_checkpoint_open(id->model_path, id->max_ctx, &src, err);
    if (rc == KV_OK) rc = read_tokenizer(src, id, err);
    kv_checkpoint_close(src);
    return rc;
}

int kv_identity_needs_text(const kv_identity *id, const char *command, kv_error *err) {
    if (!id->synth) return KV_OK;
    return kv_fail(err, KV_EARG,
                   "--model %.80s: random weights have no tokenizer, so `%s` has nothing to read or write; "
                   "trimbench speed measures them",
                   id->model_path, command);
}

void kv_identity_open_gates(const kv_identity *id, const kv_shape *shape, kv_gate_file **out, kv_error *why) {
    int rc = KV_OK;
    *out = NULL;
    if (id->gates_path[0])
        rc = kv_gates_open(id->gates_path, shape, out, why);
    else if (id->synth_gates)
        rc = kv_gates_synth(shape, id->synth->n_gate_hidden, id->seed, out, why);
    if (rc) *out = NULL;
}

void kv_identity_free(kv_identity *id) {
    kv_tokenizer_close(id->tokenizer);
    id->tokenizer = NULL;
}

const char *kv_identity_adapter(const kv_identity *id) {
    return id->adapter_dir[0] ? id->adapter_dir : NULL;
}
