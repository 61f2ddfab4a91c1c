/* checkpoint.c - roles and their names in both kinds of files; opening, and finding tensors.
 *
 * Names: llama.cpp gguf-py/gguf/constants.py; transformers modeling_{llama,qwen2,qwen3,phi3}.py. */
#include "engine/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/file.h"
#include "engine/hf_config.h"
#include "engine/checkpoint_internal.h"

/* Roles from KV_ROLE_ATTN_NORM on stand behind "blk.N." and "model.layers.N."; NULL: not in GGUF files that are read.
 */
static const struct {
    const char *gguf, *hf;
} names[KV_N_ROLES] = {
    [KV_ROLE_EMBED] = {"token_embd.weight", "model.embed_tokens.weight"},
    [KV_ROLE_OUT_NORM] = {"output_norm.weight", "model.norm.weight"},
    [KV_ROLE_HEAD] = {"output.weight", "lm_head.weight"},
    [KV_ROLE_ATTN_NORM] = {"attn_norm.weight", "input_layernorm.weight"},
    [KV_ROLE_FFN_NORM] = {"ffn_norm.weight", "post_attention_layernorm.weight"},
    [KV_ROLE_Q_NORM] = {"attn_q_norm.weight", "self_attn.q_norm.weight"},
    [KV_ROLE_K_NORM] = {"attn_k_norm.weight", "self_attn.k_norm.weight"},
    [KV_ROLE_Q] = {"attn_q.weight", "self_attn.q_proj.weight"},
    [KV_ROLE_K] = {"attn_k.weight", "self_attn.k_proj.weight"},
    [KV_ROLE_V] = {"attn_v.weight", "self_attn.v_proj.weight"},
    [KV_ROLE_QKV] = {NULL, "self_attn.qkv_proj.weight"},
    [KV_ROLE_Q_BIAS] = {"attn_q.bias", "self_attn.q_proj.bias"},
    [KV_ROLE_K_BIAS] = {"attn_k.bias", "self_attn.k_proj.bias"},
    [KV_ROLE_V_BIAS] = {"attn_v.bias", "self_attn.v_proj.bias"},
    [KV_ROLE_OUT] = {"attn_output.weight", "self_attn.o_proj.weight"},
    [KV_ROLE_GATE] = {"ffn_gate.weight", "mlp.gate_proj.weight"},
    [KV_ROLE_UP] = {"ffn_up.weight", "mlp.up_proj.weight"},
    [KV_ROLE_GATE_UP] = {NULL, "mlp.gate_up_proj.weight"},
    [KV_ROLE_DOWN] = {"ffn_down.weight", "mlp.down_proj.weight"},
};

static const char *const modules[KV_N_ROLES] = {
    [KV_ROLE_Q] = "self_attn.q_proj",     [KV_ROLE_K] = "self_attn.k_proj",       [KV_ROLE_V] = "self_attn.v_proj",
    [KV_ROLE_QKV] = "self_attn.qkv_proj", [KV_ROLE_OUT] = "self_attn.o_proj",     [KV_ROLE_GATE] = "mlp.gate_proj",
    [KV_ROLE_UP] = "mlp.up_proj",         [KV_ROLE_GATE_UP] = "mlp.gate_up_proj", [KV_ROLE_DOWN] = "mlp.down_proj",
};

const char *kv_role_module(kv_role role) {
    return modules[role];
}

int kv_role_is_used(const kv_model_config *c, kv_role role) {
    switch (role) {
    case KV_ROLE_HEAD:
        return !c->tied;
    case KV_ROLE_Q_NORM:
    case KV_ROLE_K_NORM:
        return c->qk_norm;
    case KV_ROLE_Q_BIAS:
    case KV_ROLE_K_BIAS:
    case KV_ROLE_V_BIAS:
        return c->qkv_bias;
    case KV_ROLE_Q:
    case KV_ROLE_K:
    case KV_ROLE_V:
    case KV_ROLE_GATE:
    case KV_ROLE_UP:
        return !c->fused;
    case KV_ROLE_QKV:
    case KV_ROLE_GATE_UP:
        return c->fused;
    default:
        return 1;
    }
}

static const char *name_of(const kv_checkpoint *s, kv_role role) {
    return s->gguf ? names[role].gguf : names[role].hf;
}

static void full_name(const kv_checkpoint *s, kv_role role, int layer, char out[128]) {
    if (role < KV_ROLE_ATTN_NORM)
        snprintf(out, 128, "%s", name_of(s, role));
    else
        snprintf(out, 128, "%s%d.%s", s->gguf ? "blk." : "model.layers.", layer, name_of(s, role));
}

static void take_gguf(const kv_gguf_tensor *t, kv_tensor *out) {
    *out = (kv_tensor){.name = t->name, .type = t->type, .n_dims = t->n_dims, .dims = {1, 1, 1, 1}, .data = t->data};
    for (int i = 0; i < t->n_dims; i++) out->dims[i] = t->dims[t->n_dims - 1 - i];
}

static void take_st(const kv_st_tensor *t, kv_tensor *out) {
    *out = (kv_tensor){.name = t->name, .type = t->type, .n_dims = t->n_dims, .data = t->data};
    memcpy(out->dims, t->dims, sizeof out->dims);
}

/* 0 when there is none of that name. */
static int lookup(const kv_checkpoint *s, const char *name, kv_tensor *out) {
    if (s->gguf) {
        const kv_gguf_tensor *t = kv_gguf_find(s->gguf, name);
        if (t) take_gguf(t, out);
        out->file = s->path;
        return t != NULL;
    }
    const kv_st_tensor *t = kv_hf_weights_find(s->hf, name);
    if (!t) return 0;
    take_st(t, out);
    out->file = kv_hf_weights_file(s->hf, t);
    out->map = kv_hf_weights_map(s->hf, t);
    return 1;
}

static void show_dims(int n_dims, const int64_t *dims, char out[96]) {
    int n = snprintf(out, 96, "[");
    for (int i = 0; i < n_dims; i++) n += snprintf(out + n, 96 - (size_t)n, i ? ", %lld" : "%lld", (long long)dims[i]);
    snprintf(out + n, 96 - (size_t)n, "]");
}

/* rows and columns of a role's tensor; 0 columns: a vector. */
static void shape_of(const kv_model_config *c, kv_role role, int64_t dims[2]) {
    const kv_shape *s = &c->shape;
    int64_t dim = s->dim, nq = s->n_heads * s->head_dim, nk = s->n_kv_heads * s->head_dim;
    const struct {
        int64_t rows, cols;
    } shapes[KV_N_ROLES] = {
        [KV_ROLE_EMBED] = {c->n_vocab, dim},
        [KV_ROLE_OUT_NORM] = {dim, 0},
        [KV_ROLE_HEAD] = {c->n_vocab, dim},
        [KV_ROLE_ATTN_NORM] = {dim, 0},
        [KV_ROLE_FFN_NORM] = {dim, 0},
        [KV_ROLE_Q_NORM] = {s->head_dim, 0},
        [KV_ROLE_K_NORM] = {s->head_dim, 0},
        [KV_ROLE_Q] = {nq, dim},
        [KV_ROLE_K] = {nk, dim},
        [KV_ROLE_V] = {nk, dim},
        [KV_ROLE_QKV] = {nq + 2 * nk, dim},
        [KV_ROLE_Q_BIAS] = {nq, 0},
        [KV_ROLE_K_BIAS] = {nk, 0},
        [KV_ROLE_V_BIAS] = {nk, 0},
        [KV_ROLE_OUT] = {dim, nq},
        [KV_ROLE_GATE] = {c->n_ff, dim},
        [KV_ROLE_UP] = {c->n_ff, dim},
        [KV_ROLE_GATE_UP] = {2 * c->n_ff, dim},
        [KV_ROLE_DOWN] = {dim, c->n_ff},
    };
    dims[0] = shapes[role].rows;
    dims[1] = shapes[role].cols;
}

static int check_tensor(const kv_checkpoint *s, kv_role role, int layer, kv_error *err) {
    char name[128], found[96], wanted[96];
    kv_tensor t = {.file = s->path};
    int64_t dims[2];
    shape_of(&s->config, role, dims);
    int n_dims = dims[1] ? 2 : 1;
    full_name(s, role, layer, name);
    if (!lookup(s, name, &t)) return kv_fail(err, KV_EFORMAT, "%.300s: tensor %s is missing", t.file, name);
    if (t.n_dims == n_dims && memcmp(t.dims, dims, (size_t)n_dims * sizeof *dims) == 0) return KV_OK;
    show_dims(t.n_dims, t.dims, found);
    show_dims(n_dims, dims, wanted);
    return kv_fail(err, KV_EFORMAT, "%.300s: tensor %s has shape %s, expected %s", t.file, name, found, wanted);
}

static int check_tensors(const kv_checkpoint *s, kv_error *err) {
    int rc = KV_OK;
    for (int r = 0; rc == KV_OK && r < KV_N_ROLES; r++) {
        int n = r < KV_ROLE_ATTN_NORM ? 1 : s->config.shape.n_layers;
        for (int l = 0; rc == KV_OK && l < n && kv_role_is_used(&s->config, (kv_role)r); l++)
            rc = check_tensor(s, (kv_role)r, l, err);
    }
    return rc;
}

kv_tensor kv_checkpoint_tensor(const kv_checkpoint *s, kv_role role, int layer) {
    char name[128];
    kv_tensor t = {0};
    full_name(s, role, layer, name);
    lookup(s, name, &t);
    return t;
}

static int ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

/* Role of a layer's tensor from the rest of its name, KV_N_ROLES when it has none. */
static kv_role role_of(const kv_checkpoint *s, const char *rest, kv_role from) {
    kv_role end = from == KV_ROLE_EMBED ? KV_ROLE_ATTN_NORM : KV_N_ROLES, r = from;
    while (r < end && !(name_of(s, r) && strcmp(rest, name_of(s, r)) == 0)) r++;
    return r < end ? r : KV_N_ROLES;
}

/* Constants that some writers store beside the weights: frequencies, and the head of a tied model once more. */
static int is_harmless(const kv_checkpoint *s, const char *name) {
    if (s->gguf) return strcmp(name, "rope_freqs.weight") == 0;
    return ends_with(name, ".rotary_emb.inv_freq") || (s->config.tied && strcmp(name, "lm_head.weight") == 0);
}

static int is_known(const kv_checkpoint *s, const char *name) {
    const char *head = s->gguf ? "blk." : "model.layers.";
    kv_role role = KV_N_ROLES;
    if (is_harmless(s, name)) return 1;
    if (strncmp(name, head, strlen(head)) == 0) {
        const char *rest = name + strlen(head);
        size_t n = strspn(rest, "0123456789");
        if (n < 1 || n > 4 || rest[n] != '.' || atoi(rest) >= s->config.shape.n_layers) return 0;
        role = role_of(s, rest + n + 1, KV_ROLE_ATTN_NORM);
    } else {
        role = role_of(s, name, KV_ROLE_EMBED);
    }
    return role != KV_N_ROLES && kv_role_is_used(&s->config, role);
}

/* Tensors that the forward pass does not know (other biases, experts, ...) would be ignored silently otherwise. */
static int refuse_unknown_tensors(const kv_checkpoint *s, kv_error *err) {
    size_t n = s->gguf ? kv_gguf_n_tensors(s->gguf) : kv_hf_weights_n(s->hf);
    for (size_t i = 0; i < n; i++) {
        const char *name = s->gguf ? kv_gguf_tensor_at(s->gguf, i)->name : kv_hf_weights_at(s->hf, i)->name;
        const char *file = s->gguf ? s->path : kv_hf_weights_file(s->hf, kv_hf_weights_at(s->hf, i));
        if (!is_known(s, name))
            return kv_fail(err, KV_EUNSUPPORTED, "%.300s: tensor %.100s is not part of a %s model of %d layers", file,
                           name, s->config.arch, s->config.shape.n_layers);
    }
    return KV_OK;
}

static int open_folder(kv_checkpoint *s, int max_ctx, kv_error *err) {
    char path[KV_FILE_PATH], *text;
    size_t n;
    int rc = kv_file_join(s->path, "config.json", path, err);
    if (rc == KV_OK) rc = kv_read_file(path, &text, &n, err);
    if (rc == KV_ENOTFOUND)
        return kv_fail(err, rc, "%s: no config.json in this folder: give a GGUF file or a Hugging Face model folder",
                       s->path);
    if (rc) return rc;
    rc = kv_hf_config_parse(text, n, path, max_ctx, &s->config, err);
    free(text);
    if (rc == KV_OK) rc = kv_hf_weights_open(s->path, &s->hf, err);
    if (rc == KV_OK) kv_file_title(s->path, s->config.name, sizeof s->config.name);
    return rc;
}

int kv_checkpoint_open(const char *path, int max_ctx, kv_checkpoint **out, kv_error *err) {
    struct stat st;
    *out = NULL;
    kv_checkpoint *s = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(path))) {
        free(s);
        return kv_fail(err, KV_ENOMEM, "out of memory opening %s", path);
    }
    int rc;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        rc = open_folder(s, max_ctx, err);
    } else if (ends_with(path, ".safetensors")) {
        rc = kv_fail(err, KV_EFORMAT, "%s: give the folder that it lies in, with config.json", path);
    } else {
        rc = kv_gguf_open(path, &s->gguf, err);
        if (rc == KV_OK) rc = kv_gguf_config(s->gguf, path, &s->config, err);
        if (rc == KV_OK) rc = kv_model_config_limit(&s->config, max_ctx, path, err);
    }
    if (rc == KV_OK) rc = refuse_unknown_tensors(s, err);
    if (rc == KV_OK) rc = check_tensors(s, err);
    if (rc) {
        kv_checkpoint_close(s);
        return rc;
    }
    *out = s;
    return KV_OK;
}

void kv_checkpoint_close(kv_checkpoint *s) {
    if (!s) return;
    kv_gguf_close(s->gguf);
    kv_hf_weights_close(s->hf);
    free(s->path);
    free(s);
}

const kv_model_config *kv_checkpoint_config(const kv_checkpoint *s) {
    return &s->config;
}

const char *kv_checkpoint_path(const kv_checkpoint *s) {
    return s->path;
}
