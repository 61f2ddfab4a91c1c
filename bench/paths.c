/* paths.c - finds the project's tree from the program's own place, so that no environment variable is needed. */
#include "bench/paths.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "build_info.h"

const char kv_default_model_sha256[65] = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

int kv_path_exists(const char *path) {
    return access(path, F_OK) == 0;
}

static int join(char *out, const char *root, const char *name, kv_error *err) {
    int n = snprintf(out, KV_PATH_MAX, "%s/%s", root, name);
    if (n < 0 || n >= KV_PATH_MAX) return kv_fail(err, KV_ELIMIT, "the path %s/%s is too long", root, name);
    return KV_OK;
}

/* Cuts the last component; 0 when there was none. */
static int parent(char *path) {
    char *slash = strrchr(path, '/');
    if (!slash || slash == path) return 0;
    *slash = 0;
    return 1;
}

static int is_tree(const char *dir) {
    char probe[KV_PATH_MAX];
    return join(probe, dir, "datasets/tasks", NULL) == KV_OK && kv_path_exists(probe);
}

static int find_root(char *root, kv_error *err) {
    char here[KV_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", here, sizeof here - 1);
    here[n > 0 ? n : 0] = 0;
    for (int up = 0; up < 2 && parent(here); up++) {
        if (!is_tree(here)) continue;
        memcpy(root, here, sizeof here);
        return KV_OK;
    }
    if (!is_tree(KV_BUILD_SOURCE_DIR))
        return kv_fail(
            err, KV_ENOTFOUND,
            "the project's tree (the folder with datasets/tasks) is neither beside the program nor at %s where "
            "it was built: move it back or build again",
            KV_BUILD_SOURCE_DIR);
    snprintf(root, KV_PATH_MAX, "%s", KV_BUILD_SOURCE_DIR);
    return KV_OK;
}

int kv_paths_find(kv_paths *p, kv_error *err) {
    memset(p, 0, sizeof *p);
    int rc = find_root(p->root, err);
    if (rc == KV_OK) rc = join(p->model, p->root, "models/SmolLM2-135M-Instruct.Q4_1.gguf", err);
    if (rc == KV_OK) rc = join(p->adapter, p->root, "policies/trimkv-smollm2-135m", err);
    if (rc == KV_OK) rc = join(p->gates, p->root, "policies/trimkv-smollm2-135m", err);
    if (rc == KV_OK) rc = join(p->datasets, p->root, "datasets", err);
    if (rc == KV_OK) rc = join(p->db, p->root, "results/trimbench.sqlite", err);
    return rc;
}
