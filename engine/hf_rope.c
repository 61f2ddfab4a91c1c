/* hf_rope.c - rotary embedding settings of a config.json, in both spellings: rope_theta with rope_scaling (transformers
 * up to 4) and rope_parameters (5).  A key that is not known here may change the angles, so it is refused by name. */
#include <string.h>

#include "engine/hf_config.h"
#include "engine/json.h"

static const cJSON *get(const cJSON *o, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

static int is_null(const cJSON *v) {
    return !v || cJSON_IsNull(v);
}

static int refuse_unknown_keys(const cJSON *rope, const char *name, kv_error *err) {
    static const char *const known[] = {"type",
                                        "rope_type",
                                        "rope_theta",
                                        "factor",
                                        "low_freq_factor",
                                        "high_freq_factor",
                                        "beta_fast",
                                        "beta_slow",
                                        "mscale",
                                        "truncate",
                                        "mscale_all_dim",
                                        "attention_factor",
                                        "long_factor",
                                        "short_factor",
                                        "original_max_position_embeddings",
                                        "partial_rotary_factor"};
    for (const cJSON *c = rope ? rope->child : NULL; c; c = c->next) {
        int ok = is_null(c);
        for (size_t i = 0; !ok && i < sizeof known / sizeof *known; i++) ok = strcmp(c->string, known[i]) == 0;
        if (!ok) return kv_hf_unsupported(name, c->string, c, "an unknown key of the rotary embedding", err);
    }
    return KV_OK;
}

static int find_kind(const cJSON *rope, const char *name, const kv_model_config *c, kv_rope_kind *out, kv_error *err) {
    static const struct {
        const char *name;
        kv_rope_kind kind;
    } kinds[] = {{"default", KV_ROPE_PLAIN},
                 {"linear", KV_ROPE_LINEAR},
                 {"llama3", KV_ROPE_LLAMA3},
                 {"yarn", KV_ROPE_YARN},
                 {"longrope", KV_ROPE_LONG}};
    const cJSON *type = get(rope, "rope_type");
    if (is_null(type)) type = get(rope, "type");
    *out = KV_ROPE_PLAIN;
    if (is_null(type)) return KV_OK;
    const char *text = cJSON_IsString(type) ? type->valuestring : "";
    /* early Phi-3 files call longrope "su" or "yarn" */
    if (c->fused && (strcmp(text, "su") == 0 || strcmp(text, "yarn") == 0)) text = "longrope";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(text, kinds[i].name) == 0) {
            *out = kinds[i].kind;
            return KV_OK;
        }
    }
    return kv_hf_unsupported(name, "rope_type", type, "default, linear, llama3, yarn and longrope are", err);
}

static int read_factors(const cJSON *rope, const char *key, const char *name, int half, float *out, kv_error *err) {
    const cJSON *list = get(rope, key), *v;
    int n = 0;
    cJSON_ArrayForEach(v, list) {
        if (!cJSON_IsArray(list) || n == half || !cJSON_IsNumber(v) ||
            !(v->valuedouble > 1e-6 && v->valuedouble < 1e6)) {
            n = -1;
            break;
        }
        out[n++] = (float)v->valuedouble;
    }
    if (n == half) return KV_OK;
    return kv_fail(err, KV_EFORMAT, "%s: '%s' must be a list of %d positive numbers, one per rotary pair", name, key,
                   half);
}

/* A number that this kind needs. */
static int need(const cJSON *rope, const char *key, const char *name, double lo, double *out, kv_error *err) {
    if (is_null(get(rope, key))) return kv_fail(err, KV_EFORMAT, "%s: the rotary embedding needs '%s'", name, key);
    return kv_json_real(rope, key, name, lo, 1e6, out, err);
}

static int read_original(const cJSON *config, const cJSON *rope, const char *name, kv_model_config *c, kv_error *err) {
    static const char key[] = "original_max_position_embeddings";
    int64_t v = c->n_ctx;
    int rc = kv_json_int(rope, key, name, 2, 1 << 24, &v, err);
    if (rc == KV_OK) rc = kv_json_int(config, key, name, 2, 1 << 24, &v, err); /* Phi-3 keeps it there */
    c->rope.original_ctx = (int)v;
    return rc;
}

static int read_llama3(const cJSON *rope, const char *name, kv_rope_config *r, kv_error *err) {
    int rc = need(rope, "factor", name, 1, &r->factor, err);
    if (rc == KV_OK) rc = need(rope, "low_freq_factor", name, 1e-3, &r->low_freq_factor, err);
    if (rc == KV_OK) rc = need(rope, "high_freq_factor", name, 1e-3, &r->high_freq_factor, err);
    if (rc == KV_OK && r->high_freq_factor <= r->low_freq_factor)
        rc = kv_fail(err, KV_EFORMAT, "%s: 'high_freq_factor' must be above 'low_freq_factor'", name);
    return rc;
}

static int read_yarn(const cJSON *rope, const char *name, kv_model_config *c, kv_error *err) {
    kv_rope_config *r = &c->rope;
    const cJSON *truncate = get(rope, "truncate");
    r->factor = (double)c->n_ctx / r->original_ctx;
    r->beta_fast = 32;
    r->beta_slow = 1;
    r->truncate = !cJSON_IsFalse(truncate);
    int rc;
    if ((rc = kv_json_real(rope, "factor", name, 1, 1e6, &r->factor, err)) ||
        (rc = kv_json_real(rope, "beta_fast", name, 1e-3, 1e6, &r->beta_fast, err)) ||
        (rc = kv_json_real(rope, "beta_slow", name, 1e-3, 1e6, &r->beta_slow, err)) ||
        (rc = kv_json_real(rope, "mscale", name, 0, 1e6, &r->mscale, err)) ||
        (rc = kv_json_real(rope, "mscale_all_dim", name, 0, 1e6, &r->mscale_all_dim, err)))
        return rc;
    /* Qwen's instructions add yarn to a file and leave max_position_embeddings as it was */
    double reach = r->factor * r->original_ctx;
    if (reach > c->n_ctx && reach <= 1 << 21) c->n_ctx = (int)reach;
    return KV_OK;
}

static int read_long(const cJSON *rope, const char *name, kv_model_config *c, kv_error *err) {
    kv_rope_config *r = &c->rope;
    int half = c->shape.head_dim / 2;
    r->factor = (double)c->n_ctx / r->original_ctx;
    int rc = kv_json_real(rope, "factor", name, 1e-3, 1e6, &r->factor, err);
    if (rc == KV_OK) rc = read_factors(rope, "short_factor", name, half, r->short_factor, err);
    return rc ? rc : read_factors(rope, "long_factor", name, half, r->long_factor, err);
}

static int read_scaling(const cJSON *config, const cJSON *rope, const char *name, kv_model_config *c, kv_error *err) {
    kv_rope_config *r = &c->rope;
    int rc = read_original(config, rope, name, c, err);
    if (rc == KV_OK) rc = kv_json_real(rope, "attention_factor", name, 1e-3, 1e3, &r->attention_factor, err);
    if (rc) return rc;
    switch (r->kind) {
    case KV_ROPE_LINEAR:
        return need(rope, "factor", name, 1, &r->factor, err);
    case KV_ROPE_LLAMA3:
        return read_llama3(rope, name, r, err);
    case KV_ROPE_YARN:
        return read_yarn(rope, name, c, err);
    case KV_ROPE_LONG:
        return read_long(rope, name, c, err);
    default:
        return KV_OK;
    }
}

/* Of the whole file, or of the rotary settings. */
static int check_partial(const cJSON *o, const char *name, kv_error *err) {
    const cJSON *v = get(o, "partial_rotary_factor");
    if (is_null(v) || (cJSON_IsNumber(v) && v->valuedouble == 1)) return KV_OK;
    return kv_hf_unsupported(name, "partial_rotary_factor", v, "only 1.0", err);
}

int kv_hf_rope_parse(const cJSON *config, const char *name, kv_model_config *c, kv_error *err) {
    const cJSON *rope = get(config, "rope_scaling");
    if (is_null(rope)) rope = get(config, "rope_parameters");
    if (is_null(rope)) rope = NULL;
    if (rope && !cJSON_IsObject(rope))
        return kv_fail(err, KV_EFORMAT, "%s: '%s' must be an object or null", name, rope->string);
    int rc;
    if ((rc = kv_json_real(config, "rope_theta", name, 1, 1e12, &c->rope.base, err)) ||
        (rc = kv_json_real(rope, "rope_theta", name, 1, 1e12, &c->rope.base, err)) ||
        (rc = check_partial(config, name, err)) || (rc = check_partial(rope, name, err)) ||
        (rc = refuse_unknown_keys(rope, name, err)) || (rc = find_kind(rope, name, c, &c->rope.kind, err)))
        return rc;
    return c->rope.kind == KV_ROPE_PLAIN ? KV_OK : read_scaling(config, rope, name, c, err);
}
