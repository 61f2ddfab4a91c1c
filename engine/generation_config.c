/* generation_config.c - the sampling part of generation_config.json.
 *
 * Keys and defaults are those of transformers' GenerationConfig; null counts as absent, as there. */
#include "engine/generation_config.h"

#include <limits.h>
#include <stdlib.h>

#include "engine/file.h"
#include "engine/json.h"

static int read_real(const cJSON *o, const char *key, const char *name, double hi, int *has, float *out,
                     kv_error *err) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    if (!v || cJSON_IsNull(v)) return KV_OK;
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= hi))
        return kv_fail(err, KV_EFORMAT, "%s: '%s' must be a number from 0 to %g", name, key, hi);
    *has = 1;
    *out = (float)v->valuedouble;
    return KV_OK;
}

static int read_all(const cJSON *o, const char *name, kv_generation_config *c, kv_error *err) {
    const cJSON *sample = cJSON_GetObjectItemCaseSensitive(o, "do_sample");
    int64_t top_k = -1;
    int rc;
    if (sample && !cJSON_IsNull(sample) && !cJSON_IsBool(sample))
        return kv_fail(err, KV_EFORMAT, "%s: 'do_sample' must be true or false", name);
    c->do_sample = cJSON_IsTrue(sample);
    if ((rc = read_real(o, "temperature", name, 100, &c->has_temperature, &c->temperature, err)) ||
        (rc = read_real(o, "top_p", name, 1, &c->has_top_p, &c->top_p, err)) ||
        (rc = read_real(o, "min_p", name, 1, &c->has_min_p, &c->min_p, err)) ||
        (rc = kv_json_int(o, "top_k", name, 0, INT_MAX, &top_k, err)))
        return rc;
    c->has_top_k = top_k >= 0;
    c->top_k = c->has_top_k ? (int)top_k : 0;
    return KV_OK;
}

int kv_generation_config_parse(const char *text, size_t n, const char *name, kv_generation_config *out, kv_error *err) {
    cJSON *root;
    *out = (kv_generation_config){0};
    int rc = kv_json_parse(text, n, name, &root, err);
    if (rc) return rc;
    rc = read_all(root, name, out, err);
    cJSON_Delete(root);
    return rc;
}

int kv_generation_config_load(const char *path, kv_generation_config *out, kv_error *err) {
    char *text;
    size_t n;
    *out = (kv_generation_config){0};
    int rc = kv_read_file(path, &text, &n, err);
    if (rc) return rc;
    rc = kv_generation_config_parse(text, n, path, out, err);
    free(text);
    return rc;
}

kv_sampling kv_generation_config_sampling(const kv_generation_config *c) {
    if (!c->do_sample) return (kv_sampling){.top_p = 1};
    return (kv_sampling){.temperature = c->has_temperature ? c->temperature : 1,
                         .top_p = c->has_top_p ? c->top_p : 1,
                         .top_k = c->has_top_k ? c->top_k : 50,
                         .min_p = c->has_min_p ? c->min_p : 0};
}
