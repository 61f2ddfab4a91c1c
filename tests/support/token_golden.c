/* token_golden.c - golden files of the tokenizer and chat tests. */
#include "tests/support/token_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

cJSON *tg_load(const char *name) {
    char path[1024];
    kv_error err;
    cJSON *root = NULL;
    snprintf(path, sizeof path, KV_SOURCE_DIR "/tests/golden/%s", name);
    if (kv_json_load(path, &root, &err)) fail_msg("%s", err.text);
    return root;
}

kv_tokenizer *tg_tokenizer(const char *name) {
    char path[1024];
    kv_error err;
    kv_tokenizer *t = NULL;
    const char *tail = strcmp(name, "smollm2") == 0 ? "-tokenizer" : "";
    snprintf(path, sizeof path, KV_SOURCE_DIR "/tests/golden/%s%s.json", name, tail);
    if (kv_tokenizer_from_json(path, &t, &err)) fail_msg("%s", err.text);
    return t;
}

char *tg_unhex(const cJSON *hex, size_t *len) {
    const char *s = cJSON_GetStringValue(hex);
    assert_non_null(s);
    *len = strlen(s) / 2;
    char *out = malloc(*len + 1);
    assert_non_null(out);
    for (size_t i = 0; i < *len; i++) {
        unsigned byte;
        assert_int_equal(sscanf(s + 2 * i, "%2x", &byte), 1);
        out[i] = (char)byte;
    }
    out[*len] = '\0';
    return out;
}

void tg_assert_ids(const kv_ids *got, const cJSON *want, const char *what) {
    const cJSON *id;
    size_t i = 0;
    assert_non_null(want);
    cJSON_ArrayForEach(id, want) {
        if (i >= got->n || got->ids[i] != id->valueint)
            fail_msg("%s: id %zu is %d, not %d (%zu ids)", what, i, i < got->n ? got->ids[i] : -1, id->valueint,
                     got->n);
        i++;
    }
    if (i != got->n) fail_msg("%s: %zu ids instead of %zu", what, got->n, i);
}

kv_ids tg_encode(const kv_tokenizer *t, const char *text, size_t len, int trusted) {
    kv_ids ids = {0};
    kv_error err;
    if (kv_tokenize(t, &(kv_text_part){text, len, trusted}, 1, &ids, &err)) fail_msg("%s", err.text);
    return ids;
}
