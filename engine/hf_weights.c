/* hf_weights.c - one list of tensors over one or many .safetensors files (layout of transformers' save_pretrained).
 *
 * Index and shards must say the same: a tensor that only one of them knows means that files of two checkpoints, or of
 * half of one, lie together. */
#include "engine/hf_weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/file.h"
#include "engine/json.h"

enum { MAX_FILES = 4096 };

static const char single_name[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

typedef struct shard {
    char path[KV_FILE_PATH];
    kv_safetensors *st;
} shard;

struct kv_hf_weights {
    shard *shards;
    size_t n_shards;
    kv_st_tensor *tensors; /* of all shards, sorted by name */
    size_t n;
};

static int compare_texts(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int is_plain_name(const char *s) {
    static const char end[] = ".safetensors";
    size_t n = strlen(s), k = sizeof end - 1;
    return n > k && n < 256 && s[0] != '.' && !strchr(s, '/') && strcmp(s + n - k, end) == 0;
}

int kv_hf_index_parse(const char *text, size_t n, const char *name, kv_hf_index *x, kv_error *err) {
    *x = (kv_hf_index){0};
    int rc = kv_json_parse(text, n, name, &x->root, err);
    if (rc) return rc;
    x->map = cJSON_GetObjectItemCaseSensitive(x->root, "weight_map");
    size_t n_names = 0;
    for (const cJSON *c = cJSON_IsObject(x->map) ? x->map->child : NULL; c; c = c->next) {
        n_names++;
        if (!cJSON_IsString(c) || !is_plain_name(c->valuestring)) {
            rc = kv_fail(err, KV_EFORMAT, "%s: '%.100s' is assigned to %.100s, which is no .safetensors file beside it",
                         name, c->string, cJSON_IsString(c) ? c->valuestring : "something");
            break;
        }
    }
    if (rc == KV_OK && !n_names) rc = kv_fail(err, KV_EFORMAT, "%s: 'weight_map' is missing or names no tensor", name);
    if (rc == KV_OK && !(x->files = malloc(n_names * sizeof *x->files)))
        rc = kv_fail(err, KV_ENOMEM, "%s: no memory for %zu names", name, n_names);
    if (rc) {
        kv_hf_index_free(x);
        return rc;
    }
    n_names = 0;
    for (const cJSON *c = x->map->child; c; c = c->next) x->files[n_names++] = c->valuestring;
    qsort(x->files, n_names, sizeof *x->files, compare_texts);
    for (size_t i = 0; i < n_names; i++)
        if (i == 0 || strcmp(x->files[i], x->files[x->n_files - 1]) != 0) x->files[x->n_files++] = x->files[i];
    if (x->n_files <= MAX_FILES) return KV_OK;
    rc = kv_fail(err, KV_ELIMIT, "%s: %zu files, at most %d are opened", name, x->n_files, MAX_FILES);
    kv_hf_index_free(x);
    return rc;
}

void kv_hf_index_free(kv_hf_index *x) {
    cJSON_Delete(x->root);
    free(x->files);
    *x = (kv_hf_index){0};
}

static int open_shards(kv_hf_weights *w, const char *dir, const char *const *files, size_t n, kv_error *err) {
    w->shards = calloc(n, sizeof *w->shards);
    if (!w->shards) return kv_fail(err, KV_ENOMEM, "%s: no memory for %zu files", dir, n);
    for (; w->n_shards < n; w->n_shards++) {
        shard *s = &w->shards[w->n_shards];
        int rc = kv_file_join(dir, files[w->n_shards], s->path, err);
        if (rc == KV_OK) rc = kv_safetensors_open(s->path, &s->st, err);
        if (rc == KV_ENOTFOUND)
            return kv_fail(err, rc, "%s is named in %s, but not there: fetch the rest (scripts/get_model.sh)", s->path,
                           index_name);
        if (rc) return rc;
        w->n += kv_safetensors_n(s->st);
    }
    return KV_OK;
}

static int merge_lists(kv_hf_weights *w, const char *dir, kv_error *err) {
    size_t at = 0;
    w->tensors = malloc((w->n + 1) * sizeof *w->tensors);
    if (!w->tensors) return kv_fail(err, KV_ENOMEM, "%s: no memory for %zu tensors", dir, w->n);
    for (size_t i = 0; i < w->n_shards; i++)
        for (size_t k = 0; k < kv_safetensors_n(w->shards[i].st); k++)
            w->tensors[at++] = *kv_safetensors_at(w->shards[i].st, k);
    const char *twice = kv_st_sort(w->tensors, w->n);
    return twice ? kv_fail(err, KV_EFORMAT, "%s: tensor '%.100s' is in two files", dir, twice) : KV_OK;
}

/* Every entry of the index is in its file, and there is nothing else. */
static int compare_index(const kv_hf_weights *w, const kv_hf_index *x, const char *path, kv_error *err) {
    size_t n_named = 0;
    for (const cJSON *c = x->map->child; c; c = c->next, n_named++) {
        const kv_st_tensor *t = kv_hf_weights_find(w, c->string);
        const char *file = t ? strrchr(kv_hf_weights_file(w, t), '/') + 1 : NULL;
        if (!file || strcmp(file, c->valuestring) != 0)
            return kv_fail(err, KV_EFORMAT, "%s: tensor '%.100s' is said to be in %.100s, it is %s%.100s", path,
                           c->string, c->valuestring, file ? "in " : "in none of the files", file ? file : "");
    }
    for (size_t i = 0; i < w->n && n_named != w->n; i++)
        if (!cJSON_GetObjectItemCaseSensitive(x->map, w->tensors[i].name))
            return kv_fail(err, KV_EFORMAT, "%s: tensor '%.100s' of %s is not in it: files of two checkpoints?", path,
                           w->tensors[i].name, kv_hf_weights_file(w, &w->tensors[i]));
    return n_named == w->n ? KV_OK : kv_fail(err, KV_EFORMAT, "%s: a tensor is named twice", path);
}

static int open_sharded(kv_hf_weights *w, const char *dir, const char *path, kv_error *err) {
    char *text;
    size_t n;
    kv_hf_index x = {0};
    int rc = kv_read_file(path, &text, &n, err);
    if (rc) return rc;
    rc = kv_hf_index_parse(text, n, path, &x, err);
    free(text);
    if (rc == KV_OK) rc = open_shards(w, dir, x.files, x.n_files, err);
    if (rc == KV_OK) rc = merge_lists(w, dir, err);
    if (rc == KV_OK) rc = compare_index(w, &x, path, err);
    kv_hf_index_free(&x);
    return rc;
}

int kv_hf_weights_open(const char *dir, kv_hf_weights **out, kv_error *err) {
    const char *const single = single_name;
    char path[KV_FILE_PATH], index[KV_FILE_PATH];
    struct stat st;
    *out = NULL;
    int rc = kv_file_join(dir, single_name, path, err);
    if (rc == KV_OK) rc = kv_file_join(dir, index_name, index, err);
    if (rc) return rc;
    kv_hf_weights *w = calloc(1, sizeof *w);
    if (!w) return kv_fail(err, KV_ENOMEM, "%s: no memory", dir);
    if (stat(path, &st) == 0) {
        rc = open_shards(w, dir, &single, 1, err);
        if (rc == KV_OK) rc = merge_lists(w, dir, err);
    } else if (stat(index, &st) == 0) {
        rc = open_sharded(w, dir, index, err);
    } else {
        rc =
            kv_fail(err, KV_ENOTFOUND,
                    "%s: neither %s nor %s in this folder; other formats of weights are not read (scripts/get_model.sh "
                    "fetches these)",
                    dir, single_name, index_name);
    }
    if (rc) {
        kv_hf_weights_close(w);
        return rc;
    }
    *out = w;
    return KV_OK;
}

void kv_hf_weights_close(kv_hf_weights *w) {
    if (!w) return;
    for (size_t i = 0; i < w->n_shards; i++) kv_safetensors_close(w->shards[i].st);
    free(w->shards);
    free(w->tensors);
    free(w);
}

size_t kv_hf_weights_n(const kv_hf_weights *w) {
    return w->n;
}

const kv_st_tensor *kv_hf_weights_at(const kv_hf_weights *w, size_t i) {
    return i < w->n ? &w->tensors[i] : NULL;
}

const kv_st_tensor *kv_hf_weights_find(const kv_hf_weights *w, const char *name) {
    return kv_st_find(w->tensors, w->n, name);
}

static const shard *shard_of(const kv_hf_weights *w, const kv_st_tensor *t) {
    const shard *s = w->shards;
    while (!kv_safetensors_find(s->st, t->name)) s++;
    return s;
}

const char *kv_hf_weights_file(const kv_hf_weights *w, const kv_st_tensor *t) {
    return shard_of(w, t)->path;
}

const kv_map *kv_hf_weights_map(const kv_hf_weights *w, const kv_st_tensor *t) {
    return kv_safetensors_map(shard_of(w, t)->st);
}
