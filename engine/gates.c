/* gates.c - loads retention gates (arXiv 2512.03324, 2605.09649) of the types rg, rg2, rg3 and rg10 into fp32 arrays.
 *
 * The file holds, per layer l and under model.layers.{l}.self_attn.retention_gate., the tensors of the tables below and
 * nothing else, the same names for every model family.  rg and rg2 differ only in the width of their input.  Published
 * rg10 files have a copy of the last map per layer although their config calls it tied; the copies differ, so every
 * layer's own is read. */
#include "engine/gates_file.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/pth.h"
#include "engine/safetensors.h"
#include "policies/gate.h"

enum { MAX_HIDDEN = 1 << 20 };

#define GATE "model.layers.%d.self_attn.retention_gate.%s"

typedef enum extent { NONE, HIDDEN, INPUT, HEADS } extent;

/* A tensor of a layer: (rows) or (rows, cols). */
typedef struct part {
    const char *leaf;
    extent rows, cols;
    size_t at; /* its pointer in kv_gate_layer */
} part;

enum { MAX_PARTS = 6 };

#define AT(field) offsetof(kv_gate_layer, field)
#define PARTS_RG                                                                                                       \
    {                                                                                                                  \
        {"linear1.weight", HIDDEN, INPUT, AT(w1)}, {"linear1.bias", HIDDEN, NONE, AT(b1)},                             \
            {"linear2.weight", HEADS, HIDDEN, AT(w2)}, {                                                               \
            "bias", HEADS, NONE, AT(bias)                                                                              \
        }                                                                                                              \
    }

/* Each starts with the map from the input and ends at the first without a name. */
static const part parts[KV_GATE_TYPES][MAX_PARTS + 1] = {
    [KV_GATE_RG] = PARTS_RG,
    [KV_GATE_RG2] = PARTS_RG,
    [KV_GATE_RG3] = {{"gate_proj.weight", HIDDEN, INPUT, AT(w1)},
                     {"up_proj.weight", HIDDEN, INPUT, AT(up)},
                     {"down_proj.weight", HEADS, HIDDEN, AT(w2)},
                     {"bias", HEADS, NONE, AT(bias)}},
    [KV_GATE_RG10] = {{"linear1.weight", HIDDEN, INPUT, AT(w1)},
                      {"linear1.bias", HIDDEN, NONE, AT(b1)},
                      {"linear2.weight", HIDDEN, HIDDEN, AT(mid)},
                      {"linear2.bias", HIDDEN, NONE, AT(mid_b)},
                      {"linear3.weight", HEADS, HIDDEN, AT(w2)},
                      {"bias", HEADS, NONE, AT(bias)}},
};

typedef struct source {
    const char *path;
    kv_safetensors *safetensors; /* this or the other */
    kv_pth *pth;
    const kv_st_tensor *tensors; /* of either, sorted by name */
    size_t n;
    kv_gates_config config;
} source;

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

static const kv_st_tensor *find(const source *src, int layer, const char *leaf) {
    char name[128];
    snprintf(name, sizeof name, GATE, layer, leaf);
    return kv_st_find(src->tensors, src->n, name);
}

/* By the names of a layer's tensors, rg2 as rg; -1 when none is known. */
static int family_of(const source *src, int layer) {
    if (find(src, layer, "gate_proj.weight")) return KV_GATE_RG3;
    if (find(src, layer, "linear3.weight")) return KV_GATE_RG10;
    return find(src, layer, "linear1.weight") || find(src, layer, "linear1.bias") ? KV_GATE_RG : -1;
}

static int declared_type(const source *src, int *type, kv_error *err) {
    const char *name = src->config.type;
    *type = -1;
    for (int t = 0; t < KV_GATE_TYPES; t++)
        if (strcmp(name, kv_gate_name((kv_gate_type)t)) == 0) *type = t;
    if (*type < 0 && name[0])
        return kv_fail(err, KV_EUNSUPPORTED,
                       "%s: its config.json names gates of type %s; rg, rg2, rg3 and rg10 are known", src->path, name);
    return KV_OK;
}

static int find_type(const source *src, const kv_shape *shape, kv_gate_type *out, kv_error *err) {
    int declared, family = family_of(src, 0), rc = declared_type(src, &declared, err);
    if (rc != KV_OK) return rc;
    if (family < 0)
        return kv_fail(err, KV_EFORMAT,
                       "%s: no tensor of a retention gate of type rg, rg2, rg3 or rg10 for layer 0: not a gate file?",
                       src->path);
    *out = (kv_gate_type)family;
    const kv_st_tensor *w1 = find(src, 0, parts[family][0].leaf);
    if (family == KV_GATE_RG && (declared == KV_GATE_RG || declared == KV_GATE_RG2))
        *out = (kv_gate_type)declared;
    else if (family == KV_GATE_RG && w1 && w1->n_dims == 2 && w1->dims[1] != shape->dim &&
             w1->dims[1] == kv_gate_n_in(KV_GATE_RG2, shape))
        *out = KV_GATE_RG2;
    if (declared >= 0 && declared != (int)*out)
        return kv_fail(err, KV_EFORMAT, "%s: the tensors are those of gates of type %s, config.json says %s", src->path,
                       kv_gate_name(*out), src->config.type);
    return KV_OK;
}

/* Layer of a tensor of a gate, -1 for other tensors. */
static int layer_of(const char *name) {
    int layer, at = 0;
    int n = sscanf(name, "model.layers.%5d.self_attn.retention_gate.%n", &layer, &at);
    return n == 1 && at > 0 ? layer : -1;
}

/* One more than the last layer that any tensor names. */
static int count_layers(const source *src) {
    int most = -1;
    for (size_t i = 0; i < src->n; i++) {
        int layer = layer_of(src->tensors[i].name);
        most = layer > most ? layer : most;
    }
    return most + 1;
}

/* Gates made for another model: both shapes in one message, before any tensor is named. */
static int check_model(const source *src, const kv_shape *shape, kv_gate_type type, kv_error *err) {
    const kv_st_tensor *w1 = find(src, 0, parts[type][0].leaf), *bias = find(src, 0, "bias");
    if (!w1 || !bias || w1->n_dims != 2 || bias->n_dims != 1) return KV_OK;
    const char *base = src->config.base_model;
    int n_layers = count_layers(src), n_in = kv_gate_n_in(type, shape);
    if (n_layers >= shape->n_layers && w1->dims[1] == n_in && bias->dims[0] == shape->n_kv_heads) return KV_OK;
    return kv_fail(err, KV_EFORMAT,
                   "%s: gates of type %s%s%s for %d layers, inputs of %lld, %lld KV heads; the model has %d, %d, %d: "
                   "give the gates made for it",
                   src->path, kv_gate_name(type), base[0] ? ", made for " : "", base, n_layers, (long long)w1->dims[1],
                   (long long)bias->dims[0], shape->n_layers, n_in, shape->n_kv_heads);
}

static int64_t extent_of(const kv_gates *g, extent e) {
    const int64_t sizes[] = {[NONE] = 1, [HIDDEN] = g->n_hidden, [INPUT] = g->n_in, [HEADS] = g->n_kv_heads};
    return sizes[e];
}

static int expect(const source *src, const kv_gates *g, int layer, const part *p, const kv_st_tensor **t,
                  kv_error *err) {
    char name[128];
    int64_t dims[2] = {extent_of(g, p->rows), extent_of(g, p->cols)};
    snprintf(name, sizeof name, GATE, layer, p->leaf);
    int rc = kv_st_expect(src->tensors, src->n, src->path, name, p->cols == NONE ? 1 : 2, dims, t, err);
    return rc == KV_ENOTFOUND ? KV_EFORMAT : rc;
}

static int load_layer(const source *src, kv_gate_file *g, int layer, float **to, kv_error *err) {
    int family = family_of(src, layer), first = family_of(src, 0);
    if (family >= 0 && family != first)
        return kv_fail(
            err, KV_EFORMAT,
            "%s: layer %d has tensors of a gate of type %s, layer 0 those of %s: all layers must have one type",
            src->path, layer, kv_gate_name((kv_gate_type)family), kv_gate_name((kv_gate_type)first));
    for (const part *p = parts[g->gates.type]; p->leaf; p++) {
        const kv_st_tensor *t;
        int rc = expect(src, &g->gates, layer, p, &t, err);
        if (rc != KV_OK) return rc;
        size_t n = (size_t)(extent_of(&g->gates, p->rows) * extent_of(&g->gates, p->cols));
        kv_dequantize(t->type, t->data, *to, n);
        for (size_t i = 0; i < n; i++)
            if (!isfinite((*to)[i]))
                return kv_fail(err, KV_ENUM, "%s: tensor '%s' holds NaN or infinity at %zu", src->path, t->name, i);
        *(const float **)((char *)&g->layers[layer] + p->at) = *to;
        *to += n;
    }
    return KV_OK;
}

int kv_gates_alloc(const kv_shape *shape, kv_gate_type type, int n_hidden, kv_gate_file *g, kv_error *err) {
    size_t n_layers = (size_t)shape->n_layers, each = 0;
    g->gates = (kv_gates){.type = type,
                          .n_layers = shape->n_layers,
                          .n_in = kv_gate_n_in(type, shape),
                          .n_hidden = n_hidden,
                          .n_kv_heads = shape->n_kv_heads};
    for (const part *p = parts[type]; p->leaf; p++)
        each += (size_t)(extent_of(&g->gates, p->rows) * extent_of(&g->gates, p->cols));
    g->layers = calloc(n_layers, sizeof *g->layers);
    g->n_values = n_layers * each;
    g->values = malloc(g->n_values * sizeof *g->values);
    g->gates.layers = g->layers;
    if (!g->layers || !g->values) return kv_fail(err, KV_ENOMEM, "no memory for the gates of %zu layers", n_layers);
    return KV_OK;
}

void kv_gates_seal(kv_gate_file *g) {
    uint64_t h = 0xcbf29ce484222325u + (uint64_t)g->gates.type; /* FNV-1a over whole values */
    for (size_t i = 0; i < g->n_values; i++) {
        uint32_t bits;
        memcpy(&bits, &g->values[i], sizeof bits);
        h = (h ^ bits) * 0x100000001b3u;
    }
    g->gates.id = h;
}

/* 1 when the type has such a tensor in one of the first n_layers layers. */
static int belongs(const char *name, kv_gate_type type, int n_layers) {
    int layer = layer_of(name);
    char known[128];
    if (layer < 0 || layer >= n_layers) return 0;
    for (const part *p = parts[type]; p->leaf; p++) {
        snprintf(known, sizeof known, GATE, layer, p->leaf);
        if (strcmp(name, known) == 0) return 1;
    }
    return 0;
}

static int check_rest(const source *src, const kv_gates *g, kv_error *err) {
    for (size_t i = 0; i < src->n; i++)
        if (!belongs(src->tensors[i].name, g->type, g->n_layers))
            return kv_fail(
                err, KV_EFORMAT,
                "%s: tensor '%.120s' does not belong to gates of type %s for %d layers: gates of another model?",
                src->path, src->tensors[i].name, kv_gate_name(g->type), g->n_layers);
    return KV_OK;
}

static int load_all(const source *src, const kv_shape *shape, kv_gate_file *g, kv_error *err) {
    kv_gate_type type = KV_GATE_RG;
    int rc = find_type(src, shape, &type, err);
    if (rc == KV_OK) rc = check_model(src, shape, type, err);
    if (rc != KV_OK) return rc;
    const kv_st_tensor *w1 = find(src, 0, parts[type][0].leaf), *t;
    int64_t hidden = w1 ? w1->dims[0] : 1; /* its absence is named below */
    if (hidden < 1 || hidden > MAX_HIDDEN)
        return kv_fail(err, KV_EFORMAT, "%s: gates of %lld hidden units, 1 to %d expected", src->path,
                       (long long)hidden, MAX_HIDDEN);
    if (w1 && src->config.n_hidden && src->config.n_hidden != hidden)
        return kv_fail(err, KV_EFORMAT, "%s: intermediate size is %lld, config.json says %d", src->path,
                       (long long)hidden, src->config.n_hidden);
    const kv_gates wanted = {.type = type,
                             .n_layers = shape->n_layers,
                             .n_in = kv_gate_n_in(type, shape),
                             .n_hidden = (int)hidden,
                             .n_kv_heads = shape->n_kv_heads};
    /* Before any allocation: a real file backs the first layer's matrices. */
    for (const part *p = parts[type]; p->leaf && rc == KV_OK; p++) rc = expect(src, &wanted, 0, p, &t, err);
    if (rc == KV_OK) rc = kv_gates_alloc(shape, type, (int)hidden, g, err);
    float *to = g->values;
    for (int l = 0; rc == KV_OK && l < shape->n_layers; l++) rc = load_layer(src, g, l, &to, err);
    return rc ? rc : check_rest(src, &wanted, err);
}

int kv_gates_open(const char *path, const kv_shape *shape, kv_gate_file **out, kv_error *err) {
    char weights[KV_GATES_PATH], config[KV_GATES_PATH];
    *out = NULL;
    int rc = kv_gates_find(path, weights, config, err);
    if (rc != KV_OK) return rc;
    source src = {.path = weights};
    kv_gate_file *g = calloc(1, sizeof *g);
    if (!g) return kv_fail(err, KV_ENOMEM, "%s: no memory", path);
    rc = open_weights(&src, err);
    if (rc == KV_OK) rc = kv_gates_read_config(config, &src.config, err);
    if (rc == KV_OK) rc = load_all(&src, shape, g, err);
    kv_safetensors_close(src.safetensors);
    kv_pth_close(src.pth);
    if (rc != KV_OK) {
        kv_gates_close(g);
        return rc;
    }
    kv_gates_seal(g);
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
