/* golden.h - small helpers over cJSON for golden files; anything missing ends the test. */
#ifndef KV_TEST_GOLDEN_H
#define KV_TEST_GOLDEN_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

cJSON *gj_load(const char *relative); /* below tests/golden; the caller cJSON_Delete()s */
const cJSON *gj_get(const cJSON *o, const char *key);
double gj_number(const cJSON *o, const char *key);
/* Array of integers into a malloc'd buffer. */
int32_t *gj_ids(const cJSON *o, const char *key, int *n);
int gj_exists(const char *path);

#endif
