/* golden.c - see golden.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/file.h"
#include "tests/support/golden.h"

cJSON *gj_load(const char *relative) {
    char path[1024], *text;
    size_t size;
    kv_error err;
    snprintf(path, sizeof path, "%s/tests/golden/%s", KV_SOURCE_DIR, relative);
    if (kv_read_file(path, &text, &size, &err)) fail_msg("%s", err.text);
    cJSON *o = cJSON_ParseWithLength(text, size);
    if (!o) fail_msg("%s is no JSON", path);
    free(text);
    return o;
}

const cJSON *gj_get(const cJSON *o, const char *key) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    if (!v) fail_msg("golden file without '%s'", key);
    return v;
}

double gj_number(const cJSON *o, const char *key) {
    const cJSON *v = gj_get(o, key);
    if (!cJSON_IsNumber(v)) fail_msg("golden value '%s' is no number", key);
    return v->valuedouble;
}

int32_t *gj_ids(const cJSON *o, const char *key, int *n) {
    const cJSON *a = gj_get(o, key), *v;
    int i = 0;
    *n = cJSON_GetArraySize(a);
    int32_t *out = malloc(((size_t)*n + 1) * sizeof *out);
    cJSON_ArrayForEach(v, a) out[i++] = (int32_t)v->valuedouble;
    return out;
}

int gj_exists(const char *path) {
    return access(path, R_OK) == 0;
}
