/* gates_config.c - where the files of a TRIM-KV snapshot are, and what its config.json says about the gates.
 *
 * Two generations of files: the older ones name memory_size, buffer_size and compress_strategy, the newer ones may name
 * strategy, lookahead_steps and sliding_window_size. */
#include "engine/gates.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/json.h"

enum { MOST = 1 << 24 }; /* of every number: sums of two stay in int */

int kv_gates_find(const char *path, char weights[KV_GATES_PATH], char config[KV_GATES_PATH], kv_error *err) {
    static const char *const names[] = {"trimkv_weights.safetensors", "trimkv_weights.pth"};
    struct stat st;
    int is_dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    const char *slash = strrchr(path, '/');
    int dir_len = slash ? (int)(slash - path) + 1 : 0;
    int m = is_dir ? snprintf(config, KV_GATES_PATH, "%s/config.json", path)
                   : snprintf(config, KV_GATES_PATH, "%.*sconfig.json", dir_len, path);
    int n = is_dir ? 0 : snprintf(weights, KV_GATES_PATH, "%s", path), found = !is_dir;
    for (int i = 0; !found && i < 2; i++) {
        n = snprintf(weights, KV_GATES_PATH, "%s/%s", path, names[i]);
        found = n >= KV_GATES_PATH || stat(weights, &st) == 0;
    }
    if (n >= KV_GATES_PATH || m >= KV_GATES_PATH) return kv_fail(err, KV_ELIMIT, "%.200s...: path is too long", path);
    if (!found) return kv_fail(err, KV_ENOTFOUND, "%s: neither %s nor %s in this folder", path, names[0], names[1]);
    return KV_OK;
}

/* A member that must be a string when present; absent or null leaves out alone. */
static int read_text(const cJSON *object, const char *key, const char *name, char *out, size_t size, kv_error *err) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!v || cJSON_IsNull(v)) return KV_OK;
    if (!cJSON_IsString(v) || strlen(v->valuestring) >= size)
        return kv_fail(err, KV_EFORMAT, "%s: '%s' must be a text of at most %zu characters", name, key, size - 1);
    strcpy(out, v->valuestring);
    return KV_OK;
}

static int read_members(const cJSON *object, const char *path, kv_gates_config *c, kv_error *err) {
    static const struct {
        const char *key;
        int64_t lo;
        size_t at;
    } numbers[] = {
        {"memory_size", 0, offsetof(kv_gates_config, budget)},
        {"buffer_size", 0, offsetof(kv_gates_config, buffer)},
        {"retention_gate_intermediate_size", 1, offsetof(kv_gates_config, n_hidden)},
        {"lookahead_steps", 1, offsetof(kv_gates_config, lookahead)},
        {"sliding_window_size", 0, offsetof(kv_gates_config, window)},
    };
    int rc;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        int64_t x = 0;
        if ((rc = kv_json_int(object, numbers[i].key, path, numbers[i].lo, MOST, &x, err))) return rc;
        *(int *)((char *)c + numbers[i].at) = (int)x;
    }
    int64_t skipped = 0;
    if ((rc = kv_json_int(object, "skip_layers", path, 0, MOST, &skipped, err))) return rc;
    if (skipped)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "%s: skip_layers is %lld, but here every layer is reduced: only 0 is supported", path,
                       (long long)skipped);
    char act[32] = "silu";
    if ((rc = read_text(object, "base_model", path, c->base_model, sizeof c->base_model, err)) ||
        (rc = read_text(object, "retention_gate", path, c->type, sizeof c->type, err)) ||
        (rc = read_text(object, "compress_strategy", path, c->strategy, sizeof c->strategy, err)) ||
        (rc = read_text(object, "strategy", path, c->strategy, sizeof c->strategy, err)) ||
        (rc = read_text(object, "hidden_act", path, act, sizeof act, err)))
        return rc;
    if (strcmp(act, "silu") != 0)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: hidden_act is %s, gates are computed with silu", path, act);
    return KV_OK;
}

int kv_gates_read_config(const char *config, kv_gates_config *out, kv_error *err) {
    struct stat st;
    cJSON *object;
    memset(out, 0, sizeof *out);
    if (stat(config, &st) != 0) return KV_OK;
    int rc = kv_json_load(config, &object, err);
    if (rc != KV_OK) return rc;
    rc = read_members(object, config, out, err);
    cJSON_Delete(object);
    return rc;
}
