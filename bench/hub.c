/* hub.c - finds snapshots in the hub's cache (layout of the Python package huggingface_hub). */
#include "bench/hub.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/file.h"

enum { MAX_ID = 200 };

static const char prefix[] = "models--"; /* of a repository's folder */

int kv_hub_cache(char out[KV_PATH_MAX], kv_error *err) {
    static const struct {
        const char *variable, *below;
    } places[] = {{"HF_HUB_CACHE", ""},
                  {"HUGGINGFACE_HUB_CACHE", ""},
                  {"HF_HOME", "/hub"},
                  {"XDG_CACHE_HOME", "/huggingface/hub"},
                  {"HOME", "/.cache/huggingface/hub"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *v = getenv(places[i].variable);
        if (!v || !*v) continue;
        if (snprintf(out, KV_PATH_MAX, "%s%s", v, places[i].below) < KV_PATH_MAX) return KV_OK;
        return kv_fail(err, KV_ELIMIT, "%s: the path is too long", places[i].variable);
    }
    return kv_fail(err, KV_ENOTFOUND, "neither HF_HOME nor HOME is set: where is the cache of models?");
}

/* Length of the word that text starts with, 0 when it starts with none. */
static size_t word(const char *text) {
    size_t n = 0;
    if (!isalnum((unsigned char)text[0])) return 0;
    while (isalnum((unsigned char)text[n]) || (text[n] && strchr("._-", text[n]))) n++;
    return n;
}

int kv_hub_is_id(const char *text) {
    size_t org = word(text), name = org && text[org] == '/' ? word(text + org + 1) : 0, n = org + 1 + name;
    if (!name || n >= MAX_ID) return 0;
    return text[n] == 0 || (text[n] == '@' && text[n + 1] && !strstr(text + n, ".."));
}

/* "models--ORG--NAME" below the cache; the revision behind '@', or main. */
static int split(const char *cache, const char *id, char base[KV_PATH_MAX], const char **revision, kv_error *err) {
    size_t org = word(id), name = word(id + org + 1);
    const char *at = id + org + 1 + name;
    *revision = *at ? at + 1 : "main";
    if (snprintf(base, KV_PATH_MAX, "%s/models--%.*s--%.*s", cache, (int)org, id, (int)name, id + org + 1) <
        KV_PATH_MAX)
        return KV_OK;
    return kv_fail(err, KV_ELIMIT, "%.200s...: the path is too long", cache);
}

/* base/snapshots/NAME when that folder is there. */
static int snapshot(const char *base, const char *name, char out[KV_PATH_MAX]) {
    return snprintf(out, KV_PATH_MAX, "%s/snapshots/%s", base, name) < KV_PATH_MAX && kv_path_exists(out);
}

static int find_snapshot(const char *base, const char *revision, char out[KV_PATH_MAX]) {
    char ref[KV_PATH_MAX], *commit;
    size_t n;
    if (snprintf(ref, KV_PATH_MAX, "%s/refs/%s", base, revision) >= KV_PATH_MAX) return 0;
    if (kv_read_file(ref, &commit, &n, NULL)) return snapshot(base, revision, out);
    commit[strspn(commit, "0123456789abcdef")] = 0;
    int ok = *commit && snapshot(base, commit, out);
    free(commit);
    return ok;
}

int kv_hub_find(const char *cache, const char *id, char out[KV_PATH_MAX], kv_error *err) {
    char base[KV_PATH_MAX];
    const char *revision;
    int rc = split(cache, id, base, &revision, err);
    if (rc || find_snapshot(base, revision, out)) return rc;
    int n = (int)strcspn(id, "@");
    return kv_fail(err, KV_ENOTFOUND,
                   "%.*s (revision %.60s) is not in %.200s: fetch it with scripts/get_model.sh %.*s%s%.60s", n, id,
                   revision, cache, n, id, id[n] ? " " : "", id[n] ? revision : "");
}

/* A folder models--ORG--NAME of a cache, as one copies it from a listing, for the snapshot in it. */
static void enter_repository(char path[KV_PATH_MAX]) {
    char base[KV_PATH_MAX], dir[KV_PATH_MAX];
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    memcpy(base, path, n);
    base[n] = 0;
    const char *slash = strrchr(base, '/');
    if (strncmp(slash ? slash + 1 : base, prefix, sizeof prefix - 1) == 0 && find_snapshot(base, "main", dir))
        strcpy(path, dir);
}

int kv_hub_locate(const char *text, char out[KV_PATH_MAX], kv_error *err) {
    char cache[KV_PATH_MAX];
    if (strlen(text) >= KV_PATH_MAX) return kv_fail(err, KV_ELIMIT, "%.200s...: the path is too long", text);
    strcpy(out, text);
    if (kv_path_exists(text)) {
        enter_repository(out);
        return KV_OK;
    }
    if (!kv_hub_is_id(text)) return kv_fail(err, KV_ENOTFOUND, "%.400s does not exist", text);
    kv_error why = {0};
    int rc = kv_hub_cache(cache, &why);
    if (rc == KV_OK) rc = kv_hub_find(cache, text, out, &why);
    return rc ? kv_fail(err, rc, "no such file or folder, and %.440s", why.text) : KV_OK;
}

void kv_hub_list(const char *cache, void (*found)(void *user, const char *id, const char *dir), void *user) {
    DIR *d = opendir(cache);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        char id[MAX_ID + 4], dir[KV_PATH_MAX], config[KV_PATH_MAX + 16];
        if (strncmp(e->d_name, prefix, sizeof prefix - 1) != 0) continue;
        const char *org = e->d_name + sizeof prefix - 1, *cut = strstr(org, "--");
        if (!cut || snprintf(id, sizeof id, "%.*s/%s", (int)(cut - org), org, cut + 2) >= (int)sizeof id) continue;
        if (!kv_hub_is_id(id) || kv_hub_find(cache, id, dir, NULL)) continue;
        snprintf(config, sizeof config, "%s/config.json", dir);
        if (kv_path_exists(config)) found(user, id, dir);
    }
    if (d) closedir(d);
}
