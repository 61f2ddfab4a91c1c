/* task_list.c - the tasks of a datasets folder, by name. */
#include "datasets/task.h"

#include "datasets/task_file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_task_file(const struct dirent *e) {
    size_t n = strlen(e->d_name);
    return n > 5 && !strcmp(e->d_name + n - 5, ".task");
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

typedef void each_fn(void *user, const char *name, const char *title, const char *variants, int n_items, int max_new);

static int list_one(const char *folder, const char *file, each_fn *each, void *user, kv_error *err) {
    char path[1024], name[256], variants[KV_TASK_VARIANTS * 34] = "";
    kv_task_file f;
    if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path)
        return kv_fail(err, KV_EARG, "path too long: %.200s...", path);
    int rc = kv_task_file_open(path, &f, err);
    if (!rc) {
        const kv_task_variant *v = kv_task_file_variant(&f, NULL);
        int max_new = v->max_new;
        for (int i = 0; i < f.n_params; i++)
            if (!strcmp(f.params[i].name, v->max_new_param)) max_new += v->max_new_factor * (int)f.params[i].value;
        for (int i = 0; i < f.n_variants; i++) {
            strcat(variants, i ? "," : "");
            strcat(variants, f.variants[i].name);
        }
        snprintf(name, sizeof name, "%.*s", (int)(strlen(file) - 5), file);
        each(user, name, f.title, variants, f.data ? f.items : -1, max_new);
    }
    kv_task_file_close(&f);
    return rc;
}

int kv_task_list(const char *root, each_fn *each, void *user, kv_error *err) {
    char folder[1000];
    struct dirent **files = NULL;
    int rc = KV_OK;
    if (snprintf(folder, sizeof folder, "%s/tasks", root) >= (int)sizeof folder)
        return kv_fail(err, KV_EARG, "path too long: %.200s...", folder);
    int n = scandir(folder, &files, is_task_file, by_name);
    if (n < 0) return kv_fail(err, KV_ENOTFOUND, "tasks folder %s: %s", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        if (!rc) rc = list_one(folder, files[i]->d_name, each, user, err);
        free(files[i]);
    }
    free(files);
    return rc;
}
