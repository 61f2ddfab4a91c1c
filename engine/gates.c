/* gates.c - loads TRIM-KV retention gates (arXiv 2512.03324) of type rg into fp32 arrays.
 *
 * The file holds, per layer l and under model.layers.{l}.self_attn.retention_gate., linear1.weight (n_hidden, dim),
 * linear1.bias (n_hidden), linear2.weight (n_kv_heads, n_hidden) and bias (n_kv_heads); nothing else.  The other
 * published gate types have other tensors (rg3, rg10) or another input width (rg2: the token's keys and values). */
#include "engine/gates_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/json.h"
#include "engine/pth.h"
#include "engine/safetensors.h"

enum { MAX_PATH = 4096, PER_LAYER = 4, MAX_HIDDEN = 1 << 20 };

typedef struct source {
    const char *path;
    kv_safetensors *safetensors; /* this or the other */
    kv_pth *pth;
    const kv_st_tensor *tensors; /* of either, sorted by name */
    size_t n;
    char declared[16];       /* retention_gate of config.json, or empty */
    int64_t declared_hidden; /* 0 when not given */
} source;

/* path -> the weight file and the config.json beside it. */
static int resolve(const char *path, char *weights, char *config, kv_error *err) {
    static const char *const names[] = {"trimkv_weights.safetensors", "trimkv_weights.pth"};
    struct stat st;
    int is_dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    const char *slash = strrchr(path, '/');
    int dir_len = slash ? (int)(slash - path) + 1 : 0;
    int m = is_dir ? snprintf(config, MAX_PATH, "%s/config.json", path)
                   : snprintf(config, MAX_PATH, "%.*sconfig.json", dir_len, path);
    int n = is_dir ? 0 : snprintf(weights, MAX_PATH, "%s", path), found = !is_dir;
    for (int i = 0; !found && i < 2; i++) {
        n = snprintf(weights, MAX_PATH, "%s/%s", path, names[i]);
        found = n >= MAX_PATH || stat(weights, &st) == 0;
    }
    if (n >= MAX_PATH || m >= MAX_PATH) return kv_fail(err, KV_ELIMIT, "%.200s...: path is too long", path);
    if (!found) return kv_fail(err, KV_ENOTFOUND, "%s: neither %s nor %s in this folder", path, names[0], names[1]);
    return KV_OK;
}

static int open_weights(source *src, kv_error *err) {
    size_t len = strlen(src->path);
    if (len >= 4 && strcmp(src->path + len - 4, ".pth") == 0) {
        int rc = kv_pth_open(src->path, &src->pth, err);
        if (rc != KV_OK) return rc;
        src->tensors = kv_pth_at(src->pth, 0);
        src->n = kv_pth_n(src->pth);
        return KV_OK;
    }
    int rc = kv_safetensors_open(src->path, &src->safetensors, err);
    if (rc != KV_OK) return rc;
    src->tensors = kv_safetensors_at(src->safetensors, 0);
    src->n = kv_safetensors_n(src->safetensors);
    return KV_OK;
}

static int read_config(const char *path, source *src, kv_gate_file *g, kv_error *err) {
    struct stat st;
    if (stat(path, &st) != 0) return KV_OK;
    cJSON *config;
    int rc = kv_json_load(path, &config, err);
    if (rc != KV_OK) return rc;
    int64_t budget = 0, buffer = 0;
    rc = kv_json_int(config, "memory_size", path, 0, INT32_MAX, &budget, err);
    if (rc == KV_OK) rc = kv_json_int(config, "buffer_size", path, 0, INT32_MAX, &buffer, err);
    if (rc == KV_OK)
        rc = kv_json_int(config, "retention_gate_intermediate_size", path, 1, INT32_MAX, &src->declared_hidden, err);
    const cJSON *act = cJSON_GetObjectItemCaseSensitive(config, "hidden_act");
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(config, "retention_gate");
    if (rc == KV_OK && cJSON_IsString(act) && strcmp(act->valuestring, "silu") != 0)
        rc = kv_fail(err, KV_EUNSUPPORTED, "%s: hidden_act is %.40s, gates are computed with silu", path,
                     act->valuestring);
    if (rc == KV_OK && cJSON_IsString(type)) snprintf(src->declared, sizeof src->declared, "%.15s", type->valuestring);
    cJSON_Delete(config);
    g->budget = (int)budget;
    g->buffer = (int)buffer;
    return rc;
}

static void gate_name(char out[128], int layer, const char *leaf) {
    snprintf(out, 128, "model.layers.%d.self_attn.retention_gate.%s", layer, leaf);
}

static const kv_st_tensor *find_first(const source *src, const char *leaf) {
    char name[128];
    gate_name(name, 0, leaf);
    return kv_st_find(src->tensors, src->n, name);
}

static int check_type(const source *src, const kv_shape *shape, kv_error *err) {
    const char *type = src->declared[0] ? src->declared : "rg";
    if (find_first(src, "gate_proj.weight")) type = "rg3";
    if (find_first(src, "linear3.weight")) type = "rg10";
    const kv_st_tensor *w1 = find_first(src, "linear1.weight");
    int64_t kv_width = 2 * (int64_t)shape->n_kv_heads * shape->head_dim;
    if (strcmp(type, "rg") == 0 && w1 && w1->dims[1] != shape->dim && w1->dims[1] == kv_width) type = "rg2";
    if (strcmp(type, "rg") == 0) return KV_OK;
    return kv_fail(err, KV_EUNSUPPORTED, "%s: gates of type %s; only type rg can be used", src->path, type);
}

/* Converts one tensor of shape (rows) or (rows, cols) and advances *to behind it. */
static int load(const source *src, int layer, const char *leaf, int n_dims, int64_t rows, int64_t cols, float **to,
                const float **at, kv_error *err) {
    char name[128];
    const kv_st_tensor *t;
    gate_name(name, layer, leaf);
    int rc = kv_st_expect(src->tensors, src->n, src->path, name, n_dims, (int64_t[]){rows, cols}, &t, err);
    if (rc != KV_OK) return rc == KV_ENOTFOUND ? KV_EFORMAT : rc;
    size_t n = (size_t)(rows * cols);
    kv_dequantize(t->type, t->data, *to, n);
    for (size_t i = 0; i < n; i++) {
        if (!isfinite((*to)[i]))
            return kv_fail(err, KV_ENUM, "%s: tensor '%s' holds NaN or infinity at %zu", src->path, name, i);
    }
    *at = *to;
    *to += n;
    return KV_OK;
}

int kv_gates_alloc(const kv_shape *shape, int n_hidden, kv_gate_file *g, kv_error *err) {
    size_t n_layers = (size_t)shape->n_layers, h = (size_t)n_hidden, kv = (size_t)shape->n_kv_heads;
    g->layers = calloc(n_layers, sizeof *g->layers);
    g->values = malloc(n_layers * (h * (size_t)shape->dim + h + kv * h + kv) * sizeof *g->values);
    if (!g->layers || !g->values) return kv_fail(err, KV_ENOMEM, "no memory for the gates of %zu layers", n_layers);
    g->gates = (kv_gates){.type = "rg",
                          .n_layers = shape->n_layers,
                          .dim = shape->dim,
                          .n_hidden = n_hidden,
                          .n_kv_heads = shape->n_kv_heads,
                          .layers = g->layers};
    return KV_OK;
}

static int load_all(const source *src, const kv_shape *shape, kv_gate_file *g, kv_error *err) {
    char name[128];
    int rc = check_type(src, shape, err);
    if (rc != KV_OK) return rc;
    gate_name(name, 0, "linear1.bias");
    const kv_st_tensor *b1 = kv_st_find(src->tensors, src->n, name);
    if (!b1) return kv_fail(err, KV_EFORMAT, "%s: no tensor '%s': not a gate file?", src->path, name);
    int64_t hidden = b1->dims[0];
    if (hidden < 1 || hidden > MAX_HIDDEN)
        return kv_fail(err, KV_EFORMAT, "%s: tensor '%s' has %lld elements, 1 to %d expected", src->path, name,
                       (long long)hidden, MAX_HIDDEN);
    if (src->declared_hidden != 0 && src->declared_hidden != hidden)
        return kv_fail(err, KV_EFORMAT, "%s: intermediate size is %lld, config.json says %lld", src->path,
                       (long long)hidden, (long long)src->declared_hidden);
    /* Before any allocation: a real file backs the first layer's matrix. */
    const kv_st_tensor *w1;
    gate_name(name, 0, "linear1.weight");
    rc = kv_st_expect(src->tensors, src->n, src->path, name, 2, (int64_t[]){hidden, shape->dim}, &w1, err);
    if (rc != KV_OK) return rc == KV_ENOTFOUND ? KV_EFORMAT : rc;
    rc = kv_gates_alloc(shape, (int)hidden, g, err);
    float *to = g->values;
    for (int l = 0; rc == KV_OK && l < shape->n_layers; l++) {
        kv_gate_layer *gl = &g->layers[l];
        rc = load(src, l, "linear1.weight", 2, hidden, shape->dim, &to, &gl->w1, err);
        if (rc == KV_OK) rc = load(src, l, "linear1.bias", 1, hidden, 1, &to, &gl->b1, err);
        if (rc == KV_OK) rc = load(src, l, "linear2.weight", 2, shape->n_kv_heads, hidden, &to, &gl->w2, err);
        if (rc == KV_OK) rc = load(src, l, "bias", 1, shape->n_kv_heads, 1, &to, &gl->bias, err);
    }
    if (rc != KV_OK) return rc;
    size_t expected = (size_t)shape->n_layers * PER_LAYER;
    if (src->n != expected)
        return kv_fail(err, KV_EFORMAT, "%s: %zu tensors, %zu expected for %d layers: gates of another model?",
                       src->path, src->n, expected, shape->n_layers);
    return KV_OK;
}

int kv_gates_open(const char *path, const kv_shape *shape, kv_gate_file **out, kv_error *err) {
    char weights[MAX_PATH], config[MAX_PATH];
    *out = NULL;
    int rc = resolve(path, weights, config, err);
    if (rc != KV_OK) return rc;
    source src = {.path = weights};
    kv_gate_file *g = calloc(1, sizeof *g);
    if (!g) return kv_fail(err, KV_ENOMEM, "%s: no memory", path);
    rc = open_weights(&src, err);
    if (rc == KV_OK) rc = read_config(config, &src, g, err);
    if (rc == KV_OK) rc = load_all(&src, shape, g, err);
    kv_safetensors_close(src.safetensors);
    kv_pth_close(src.pth);
    if (rc != KV_OK) {
        kv_gates_close(g);
        return rc;
    }
    *out = g;
    return KV_OK;
}

void kv_gates_close(kv_gate_file *g) {
    if (!g) return;
    free(g->layers);
    free(g->values);
    free(g);
}

const kv_gates *kv_gates_view(const kv_gate_file *g) {
    return &g->gates;
}

int kv_gates_budget(const kv_gate_file *g) {
    return g->budget;
}

int kv_gates_buffer(const kv_gate_file *g) {
    return g->buffer;
}
