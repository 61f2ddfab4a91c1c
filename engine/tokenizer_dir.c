/* tokenizer_dir.c - the tokenizer of a checkpoint's folder: tokenizer.json, and what tokenizer_config.json adds.
 *
 * The second file names bos and eos and may say whether bos is added, which then holds against the post_processor of
 * the first, as with the tokenizer classes of transformers that read it. */
#include "engine/file.h"
#include "engine/json.h"
#include "engine/tokenizer.h"

/* Id of a token given as a string or as an object with its content; -1: none, or null. */
static int named_id(const kv_tokenizer *t, const cJSON *config, const char *key, const char *path, int64_t *id,
                    kv_error *err) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(config, key);
    if (cJSON_IsObject(v)) v = cJSON_GetObjectItemCaseSensitive(v, "content");
    *id = -1;
    if (!cJSON_IsString(v)) return KV_OK;
    *id = kv_tokenizer_special(t, v->valuestring);
    if (*id >= 0) return KV_OK;
    return kv_fail(err, KV_EFORMAT, "%.300s: %s \"%.80s\" is no added token of tokenizer.json", path, key,
                   v->valuestring);
}

static int apply_config(kv_tokenizer *t, const cJSON *config, const char *path, kv_error *err) {
    int64_t bos, eos;
    int rc = named_id(t, config, "bos_token", path, &bos, err);
    if (rc == KV_OK) rc = named_id(t, config, "eos_token", path, &eos, err);
    if (rc) return rc;
    const cJSON *flag = cJSON_GetObjectItemCaseSensitive(config, "add_bos_token");
    int add_bos = cJSON_IsBool(flag) ? cJSON_IsTrue(flag) : kv_tokenizer_add_bos(t);
    if (bos < 0) bos = kv_tokenizer_bos(t);
    if (add_bos && bos < 0)
        return kv_fail(err, KV_EFORMAT, "%.300s: add_bos_token is true, but there is no bos_token", path);
    kv_tokenizer_set_ends(t, bos, eos, add_bos);
    return KV_OK;
}

int kv_tokenizer_from_dir(const char *dir, kv_tokenizer **out, kv_error *err) {
    char path[KV_FILE_PATH];
    cJSON *config = NULL;
    *out = NULL;
    int rc = kv_file_join(dir, "tokenizer.json", path, err);
    if (rc == KV_OK) rc = kv_tokenizer_from_json(path, out, err);
    if (rc == KV_OK) rc = kv_file_join(dir, "tokenizer_config.json", path, err);
    if (rc) return rc;
    rc = kv_json_load(path, &config, err);
    if (rc == KV_OK) rc = apply_config(*out, config, path, err);
    if (rc == KV_ENOTFOUND) rc = KV_OK;
    cJSON_Delete(config);
    if (rc) {
        kv_tokenizer_close(*out);
        *out = NULL;
    }
    return rc;
}
