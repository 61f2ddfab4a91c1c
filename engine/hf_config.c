/* hf_config.c - config.json of transformers (src/transformers/models/<name>/configuration_<name>.py, 5.23).
 *
 * Five families share one forward pass here: Llama, Mistral (the same), Qwen2 (biases of q, k, v), Qwen3 (norms of q
 * and k heads), Phi-3 (fused tensors).  A configuration is a program for a forward pass, so every switch that these
 * families know and that is not implemented must be at its harmless value. */
#include "engine/hf_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/json.h"

typedef struct family {
    const char *architecture, *arch; /* "Qwen3ForCausalLM", "qwen3" (also model_type) */
    int qk_norm, qkv_bias, fused;
    int has_window_switch; /* sliding_window counts only with use_sliding_window */
    /* when the key is absent; head size 0: the width divided by the heads */
    int default_window, default_head;
    double default_eps;
} family;

static const family families[] = {
    {"LlamaForCausalLM", "llama", 0, 0, 0, 0, 0, 0, 1e-6},
    {"MistralForCausalLM", "mistral", 0, 0, 0, 0, 4096, 0, 1e-6},
    {"Qwen2ForCausalLM", "qwen2", 0, 1, 0, 1, 4096, 0, 1e-6},
    {"Qwen3ForCausalLM", "qwen3", 1, 0, 0, 1, 4096, 128, 1e-6},
    {"Phi3ForCausalLM", "phi3", 0, 0, 1, 0, 0, 0, 1e-5},
};
enum { N_FAMILIES = sizeof families / sizeof *families };

static const cJSON *get(const cJSON *o, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

int kv_hf_unsupported(const char *name, const char *key, const cJSON *value, const char *why, kv_error *err) {
    char *text = cJSON_PrintUnformatted(value);
    int rc = kv_fail(err, KV_EUNSUPPORTED, "%s: %s = %.80s is not supported%s%s", name, key, text ? text : "?",
                     *why ? ": " : "", why);
    cJSON_free(text);
    return rc;
}

static int find_family(const cJSON *config, const char *name, const family **out, kv_error *err) {
    const cJSON *list = get(config, "architectures"), *first = cJSON_IsArray(list) ? list->child : NULL;
    const cJSON *by = cJSON_IsString(first) ? first : get(config, "model_type");
    const char *key = by == first ? "architectures" : "model_type";
    for (int i = 0; cJSON_IsString(by) && i < N_FAMILIES; i++) {
        const char *known = by == first ? families[i].architecture : families[i].arch;
        if (strcmp(by->valuestring, known) == 0) {
            *out = &families[i];
            return KV_OK;
        }
    }
    char all[160] = "";
    for (int i = 0; i < N_FAMILIES; i++) {
        size_t n = strlen(all);
        snprintf(all + n, sizeof all - n, "%s%s", i ? ", " : "", families[i].architecture);
    }
    if (!cJSON_IsString(by))
        return kv_fail(err, KV_EFORMAT, "%s: neither 'architectures' nor 'model_type': no language model?", name);
    char why[200];
    snprintf(why, sizeof why, "supported are %s", all);
    return kv_hf_unsupported(name, key, by, why, err);
}

/* A whole number that must be there (fallback 0) or may be absent. */
static int read_int(const cJSON *config, const char *key, const char *name, int fallback, int *out, kv_error *err) {
    int64_t v = 0;
    int rc = kv_json_int(config, key, name, 1, INT32_MAX, &v, err);
    if (rc) return rc;
    if (!v && !fallback) return kv_fail(err, KV_EFORMAT, "%s: '%s' is missing", name, key);
    *out = v ? (int)v : fallback;
    return KV_OK;
}

static int read_sizes(const cJSON *config, const char *name, const family *f, kv_model_config *c, kv_error *err) {
    kv_shape *s = &c->shape;
    double eps = f->default_eps;
    int rc;
    if ((rc = read_int(config, "num_hidden_layers", name, 0, &s->n_layers, err)) ||
        (rc = read_int(config, "hidden_size", name, 0, &s->dim, err)) ||
        (rc = read_int(config, "intermediate_size", name, 0, &c->n_ff, err)) ||
        (rc = read_int(config, "num_attention_heads", name, 0, &s->n_heads, err)) ||
        (rc = read_int(config, "num_key_value_heads", name, s->n_heads, &s->n_kv_heads, err)) ||
        (rc = read_int(config, "vocab_size", name, 0, &c->n_vocab, err)) ||
        (rc = read_int(config, "max_position_embeddings", name, 0, &c->n_ctx, err)) ||
        (rc = kv_json_real(config, "rms_norm_eps", name, 0, 1, &eps, err)))
        return rc;
    c->rms_eps = (float)eps;
    const cJSON *given = get(config, "head_dim");
    if (!given && f->default_head) {
        s->head_dim = f->default_head;
        return KV_OK;
    }
    if ((!given || cJSON_IsNull(given)) && s->dim % s->n_heads)
        return kv_fail(err, KV_EFORMAT, "%s: hidden_size %d is no multiple of num_attention_heads %d, and no head_dim",
                       name, s->dim, s->n_heads);
    int even = s->dim / s->n_heads;
    return read_int(config, "head_dim", name, even ? even : 1, &s->head_dim, err);
}

/* Switches that must be absent, null or false. */
static int check_switches(const cJSON *config, const char *name, kv_error *err) {
    static const char *const off[] = {"quantization_config", "attention_bias",      "mlp_bias",
                                      "rope_interleaved",    "add_cross_attention", "is_encoder_decoder"};
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        const cJSON *v = get(config, off[i]);
        if (v && !cJSON_IsNull(v) && !cJSON_IsFalse(v)) return kv_hf_unsupported(name, off[i], v, "", err);
    }
    const cJSON *act = get(config, "hidden_act");
    if (act && !(cJSON_IsString(act) && strcmp(act->valuestring, "silu") == 0))
        return kv_hf_unsupported(name, "hidden_act", act, "only silu", err);
    const cJSON *types = get(config, "layer_types"), *t;
    cJSON_ArrayForEach(t, types) {
        if (!cJSON_IsString(t) || strcmp(t->valuestring, "full_attention") != 0)
            return kv_hf_unsupported(name, "layer_types", t, "only full_attention", err);
    }
    const cJSON *tied = get(config, "tie_word_embeddings");
    if (tied && !cJSON_IsBool(tied))
        return kv_fail(err, KV_EFORMAT, "%s: 'tie_word_embeddings' must be true or false", name);
    return KV_OK;
}

/* A window as long as the context hides nothing. */
static int check_window(const cJSON *config, const char *name, const family *f, int n_ctx, kv_error *err) {
    const cJSON *use = get(config, "use_sliding_window"), *v = get(config, "sliding_window");
    int64_t window = v ? 0 : f->default_window;
    char why[120];
    if (f->has_window_switch && !cJSON_IsTrue(use)) return KV_OK;
    int rc = kv_json_int(config, "sliding_window", name, 1, INT32_MAX, &window, err);
    if (rc || window == 0 || window >= n_ctx) return rc;
    if (!v)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: without 'sliding_window' it is %lld, which is not supported", name,
                       (long long)window);
    snprintf(why, sizeof why, "the context is %d; one of at most the window would do (--max-context)", n_ctx);
    return kv_hf_unsupported(name, "sliding_window", v, why, err);
}

static int read_all(const cJSON *config, const char *name, int max_ctx, kv_model_config *c, kv_error *err) {
    const family *f = NULL;
    int rc = find_family(config, name, &f, err);
    if (rc) return rc;
    snprintf(c->arch, sizeof c->arch, "%s", f->arch);
    c->qk_norm = f->qk_norm;
    c->qkv_bias = f->qkv_bias;
    c->fused = f->fused;
    c->tied = cJSON_IsTrue(get(config, "tie_word_embeddings"));
    c->rope.base = 10000;
    if ((rc = check_switches(config, name, err)) || (rc = read_sizes(config, name, f, c, err)) ||
        (rc = kv_model_config_check(c, name, err)) || (rc = kv_hf_rope_parse(config, name, c, err)) ||
        (rc = kv_model_config_check(c, name, err)) || (rc = kv_model_config_limit(c, max_ctx, name, err)))
        return rc;
    return check_window(config, name, f, c->n_ctx, err);
}

int kv_hf_config_parse(const char *text, size_t n, const char *name, int max_ctx, kv_model_config *out, kv_error *err) {
    cJSON *config;
    *out = (kv_model_config){0};
    int rc = kv_json_parse(text, n, name, &config, err);
    if (rc) return rc;
    rc = read_all(config, name, max_ctx, out, err);
    cJSON_Delete(config);
    return rc;
}
