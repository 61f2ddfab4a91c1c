/* generation.c - generation_config.json: where to stop and how to sample.
 *
 * Keys are those of transformers' GenerationConfig; null counts as absent, as there.  Older checkpoints have the same
 * keys in config.json. */
#include "engine/generation.h"

#include <stdlib.h>

#include "engine/file.h"
#include "engine/json.h"

kv_generation kv_generation_none(void) {
    return (kv_generation){.do_sample = -1, .temperature = -1, .top_p = -1, .min_p = -1, .top_k = -1};
}

int kv_generation_add_eos(kv_generation *g, int32_t id, const char *name, kv_error *err) {
    for (int i = 0; i < g->n_eos; i++)
        if (g->eos[i] == id) return KV_OK;
    if (g->n_eos == KV_MAX_EOS) return kv_fail(err, KV_ELIMIT, "%s: more than %d end-of-text tokens", name, KV_MAX_EOS);
    g->eos[g->n_eos++] = id;
    return KV_OK;
}

static int read_id(const cJSON *v, const char *name, kv_generation *g, kv_error *err) {
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble < 1 << 24) ||
        v->valuedouble != (double)(int32_t)v->valuedouble)
        return kv_fail(err, KV_EFORMAT, "%s: 'eos_token_id' must be a token id or a list of them", name);
    return kv_generation_add_eos(g, (int32_t)v->valuedouble, name, err);
}

static int read_ids(const cJSON *root, const char *name, kv_generation *g, kv_error *err) {
    const cJSON *eos = cJSON_GetObjectItemCaseSensitive(root, "eos_token_id"), *v;
    if (!eos || cJSON_IsNull(eos)) return KV_OK;
    if (!cJSON_IsArray(eos)) return read_id(eos, name, g, err);
    cJSON_ArrayForEach(v, eos) {
        int rc = read_id(v, name, g, err);
        if (rc) return rc;
    }
    return KV_OK;
}

static int read_number(const cJSON *root, const char *key, const char *name, double hi, float *out, kv_error *err) {
    double v = -1;
    int rc = *out < 0 ? kv_json_real(root, key, name, 0, hi, &v, err) : KV_OK;
    if (v >= 0) *out = (float)v;
    return rc;
}

static int read_all(const cJSON *root, const char *name, kv_generation *g, kv_error *err) {
    const cJSON *sample = cJSON_GetObjectItemCaseSensitive(root, "do_sample");
    int64_t top_k = -1;
    int rc;
    if (sample && !cJSON_IsNull(sample) && !cJSON_IsBool(sample))
        return kv_fail(err, KV_EFORMAT, "%s: 'do_sample' must be true or false", name);
    if (g->do_sample < 0 && cJSON_IsBool(sample)) g->do_sample = cJSON_IsTrue(sample);
    if ((rc = read_ids(root, name, g, err)) ||
        (rc = read_number(root, "temperature", name, 100, &g->temperature, err)) ||
        (rc = read_number(root, "top_p", name, 1, &g->top_p, err)) ||
        (rc = read_number(root, "min_p", name, 1, &g->min_p, err)) ||
        (rc = kv_json_int(root, "top_k", name, 0, INT32_MAX, &top_k, err)))
        return rc;
    if (g->top_k < 0) g->top_k = (int)top_k;
    return KV_OK;
}

int kv_generation_parse(const char *text, size_t n, const char *name, kv_generation *g, kv_error *err) {
    cJSON *root;
    int rc = kv_json_parse(text, n, name, &root, err);
    if (rc) return rc;
    rc = read_all(root, name, g, err);
    cJSON_Delete(root);
    return rc;
}

int kv_generation_load(const char *path, kv_generation *g, kv_error *err) {
    char *text;
    size_t n;
    int rc = kv_read_file(path, &text, &n, err);
    if (rc) return rc;
    rc = kv_generation_parse(text, n, path, g, err);
    free(text);
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
