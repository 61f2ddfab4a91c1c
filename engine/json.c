/* json.c - cJSON with a fence around it.
 *
 * cJSON up to 1.7.17 reads past the end of text that has no terminator (CVE-2023-53154), so text is copied and
 * terminated first, and the terminator is part of what cJSON is shown. */
#include "engine/json.h"

#include <stdlib.h>
#include <string.h>

#include "engine/file.h"

int kv_json_parse(const char *text, size_t n, const char *name, cJSON **out, kv_error *err) {
    *out = NULL;
    char *copy = malloc(n + 1);
    if (!copy) return kv_fail(err, KV_ENOMEM, "%s: no memory for %zu bytes of JSON", name, n);
    memcpy(copy, text, n);
    copy[n] = 0;
    const char *end = NULL;
    cJSON *root = cJSON_ParseWithLengthOpts(copy, n + 1, &end, 0);
    size_t at = end ? (size_t)(end - copy) : 0;
    size_t rest = at < n ? at + strspn(copy + at, " \t\r\n") : n;
    free(copy);
    if (!root) return kv_fail(err, KV_EFORMAT, "%s: not valid JSON (near byte %zu)", name, at);
    if (!cJSON_IsObject(root) || rest < n) {
        cJSON_Delete(root);
        return kv_fail(err, KV_EFORMAT, "%s: one JSON object and nothing else expected", name);
    }
    *out = root;
    return KV_OK;
}

int kv_json_load(const char *path, cJSON **out, kv_error *err) {
    char *text;
    size_t n;
    *out = NULL;
    int rc = kv_read_file(path, &text, &n, err);
    if (rc != KV_OK) return rc;
    rc = kv_json_parse(text, n, path, out, err);
    free(text);
    return rc;
}

int kv_json_int(const cJSON *object, const char *key, const char *name, int64_t lo, int64_t hi, int64_t *out,
                kv_error *err) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!v || cJSON_IsNull(v)) return KV_OK;
    /* The range is tested first: a conversion out of range would be undefined. */
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= (double)lo && v->valuedouble <= (double)hi) ||
        (double)(int64_t)v->valuedouble != v->valuedouble)
        return kv_fail(err, KV_EFORMAT, "%s: '%s' must be a whole number from %lld to %lld", name, key, (long long)lo,
                       (long long)hi);
    *out = (int64_t)v->valuedouble;
    return KV_OK;
}

int kv_json_real(const cJSON *object, const char *key, const char *name, double lo, double hi, double *out,
                 kv_error *err) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!v || cJSON_IsNull(v)) return KV_OK;
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= lo && v->valuedouble <= hi))
        return kv_fail(err, KV_EFORMAT, "%s: '%s' must be a number from %g to %g", name, key, lo, hi);
    *out = v->valuedouble;
    return KV_OK;
}
