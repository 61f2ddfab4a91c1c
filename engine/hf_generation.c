/* hf_generation.c - generation_config.json: where to stop and how to sample. */
#include "engine/hf_config.h"
#include "engine/json.h"

static int add_id(const cJSON *v, const char *name, kv_generation *g, kv_error *err) {
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble < 1 << 24) ||
        v->valuedouble != (double)(int32_t)v->valuedouble)
        return kv_fail(err, KV_EFORMAT, "%s: 'eos_token_id' must be a token id or a list of them", name);
    int32_t id = (int32_t)v->valuedouble;
    for (int i = 0; i < g->n_eos; i++)
        if (g->eos[i] == id) return KV_OK;
    if (g->n_eos == KV_MAX_EOS) return kv_fail(err, KV_ELIMIT, "%s: more than %d end-of-text tokens", name, KV_MAX_EOS);
    g->eos[g->n_eos++] = id;
    return KV_OK;
}

static int add_ids(const cJSON *root, const char *name, kv_generation *g, kv_error *err) {
    const cJSON *eos = cJSON_GetObjectItemCaseSensitive(root, "eos_token_id"), *v;
    if (!eos || cJSON_IsNull(eos)) return KV_OK;
    if (!cJSON_IsArray(eos)) return add_id(eos, name, g, err);
    cJSON_ArrayForEach(v, eos) {
        int rc = add_id(v, name, g, err);
        if (rc) return rc;
    }
    return KV_OK;
}

static int add_number(const cJSON *root, const char *key, const char *name, double hi, float *out, kv_error *err) {
    double v = -1;
    int rc = *out < 0 ? kv_json_real(root, key, name, 0, hi, &v, err) : KV_OK;
    if (v >= 0) *out = (float)v;
    return rc;
}

static int add_all(const cJSON *root, const char *name, kv_generation *g, kv_error *err) {
    const cJSON *sample = cJSON_GetObjectItemCaseSensitive(root, "do_sample");
    int64_t top_k = g->top_k;
    int rc;
    if (g->do_sample < 0 && cJSON_IsBool(sample)) g->do_sample = cJSON_IsTrue(sample);
    if ((rc = add_ids(root, name, g, err)) || (rc = add_number(root, "temperature", name, 100, &g->temperature, err)) ||
        (rc = add_number(root, "top_p", name, 1, &g->top_p, err)) ||
        (rc = add_number(root, "min_p", name, 1, &g->min_p, err)))
        return rc;
    if (g->top_k < 0) rc = kv_json_int(root, "top_k", name, 0, INT32_MAX, &top_k, err);
    g->top_k = (int)top_k;
    return rc;
}

int kv_hf_generation_parse(const char *text, size_t n, const char *name, kv_generation *out, kv_error *err) {
    cJSON *root;
    int rc = kv_json_parse(text, n, name, &root, err);
    if (rc) return rc;
    rc = add_all(root, name, out, err);
    cJSON_Delete(root);
    return rc;
}

int kv_generation_add_stops(const kv_generation *g, int32_t *ids, int n, int max) {
    for (int i = 0; i < g->n_eos; i++) {
        int there = 0;
        for (int k = 0; k < n; k++) there |= ids[k] == g->eos[i];
        if (!there && n < max) ids[n++] = g->eos[i];
    }
    return n;
}
