/* json.h - parsing JSON text of unknown origin with cJSON. */
#ifndef KV_JSON_H
#define KV_JSON_H

#include <cjson/cJSON.h>

#include "engine/kv.h"

/* One JSON object with nothing but white space behind it; anything else is KV_EFORMAT.  `name` is used in errors;
 * text needs no NUL.  The caller frees with cJSON_Delete. */
int kv_json_parse(const char *text, size_t n, const char *name, cJSON **out, kv_error *err);

/* The same for a file. */
int kv_json_load(const char *path, cJSON **out, kv_error *err);

/* A member that must be a whole number in lo..hi when present; absent or null leaves *out alone. */
int kv_json_int(const cJSON *object, const char *key, const char *name, int64_t lo, int64_t hi, int64_t *out,
                kv_error *err);

/* The same for any finite number in lo..hi. */
int kv_json_real(const cJSON *object, const char *key, const char *name, double lo, double hi, double *out,
                 kv_error *err);

#endif
