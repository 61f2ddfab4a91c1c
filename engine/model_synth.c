/* model_synth.c - a model of an exact published shape with seeded random weights. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model.h"
#include "engine/synth.h"

typedef struct maker {
    kv_model *m;
    kv_backend *b;
    const kv_synth_shape *s;
    uint64_t seed;
} maker;

static int make_matrix(const maker *k, kv_synth_part part, int layer, kv_matrix **out, kv_error *err) {
    const kv_ops *ops = k->b->ops;
    uint64_t number = kv_synth_matrix(part, layer);
    float std = kv_synth_std(k->s, part);
    int n_out, n_in, rc;
    kv_synth_dims(k->s, part, &n_out, &n_in);
    rc = ops->matrix_synth(k->b, k->seed, number, std, n_out, n_in, out, err);
    if (rc == KV_OK) k->m->info.weight_bytes += ops->matrix_bytes(*out);
    return rc;
}

static int make_layer(const maker *k, int layer, const float *ones, kv_error *err) {
    kv_layer *l = &k->m->layers[layer];
    l->attn_norm = l->ffn_norm = ones;
    if (k->s->qk_norm) l->q_norm = l->k_norm = ones;
    int rc = make_matrix(k, KV_SYNTH_QKV, layer, &l->qkv, err);
    if (rc == KV_OK) rc = make_matrix(k, KV_SYNTH_OUT, layer, &l->out, err);
    if (rc == KV_OK) rc = make_matrix(k, KV_SYNTH_GATE_UP, layer, &l->gate_up, err);
    return rc ? rc : make_matrix(k, KV_SYNTH_DOWN, layer, &l->down, err);
}

static int make_model(const maker *k, kv_error *err) {
    kv_model *m = k->m;
    const kv_synth_shape *s = k->s;
    int half = s->shape.head_dim / 2, rc;
    m->info = (kv_model_info){.shape = s->shape, .n_ff = s->n_ff, .n_vocab = s->n_vocab, .n_ctx = s->n_ctx};
    snprintf(m->info.arch, sizeof m->info.arch, "%s", s->arch);
    snprintf(m->info.name, sizeof m->info.name, "synth:%s", s->name);
    m->rms_eps = s->rms_eps;
    m->rope_scale = 1;
    m->layers = calloc((size_t)s->shape.n_layers, sizeof *m->layers);
    size_t n_ones = (size_t)(s->shape.dim > s->shape.head_dim ? s->shape.dim : s->shape.head_dim);
    m->vectors = malloc(n_ones * sizeof *m->vectors);
    m->rope_inv = malloc((size_t)half * sizeof *m->rope_inv);
    if (!m->layers || !m->vectors || !m->rope_inv)
        return kv_fail(err, KV_ENOMEM, "out of memory for synth:%s", s->name);
    for (size_t i = 0; i < n_ones; i++) m->vectors[i] = 1;
    for (int i = 0; i < half; i++) m->rope_inv[i] = 1.0f / powf(s->rope_base, (float)(2 * i) / (float)(2 * half));
    m->out_norm = m->vectors;
    if ((rc = make_matrix(k, KV_SYNTH_EMBED, 0, &m->embed_matrix, err))) return rc;
    m->head = m->embed_matrix;
    if (!s->tied && (rc = make_matrix(k, KV_SYNTH_HEAD, 0, &m->head, err))) return rc;
    for (int l = 0; l < s->shape.n_layers; l++)
        if ((rc = make_layer(k, l, m->vectors, err))) return rc;
    snprintf(m->info.weights, sizeof m->info.weights, "%s (random)", k->b->ops->matrix_format(m->head));
    kv_model_finish(m, k->b);
    return KV_OK;
}

int kv_model_synth(kv_model *m, kv_backend *b, const char *name, uint64_t seed, kv_error *err) {
    const kv_synth_shape *s = NULL;
    memset(m, 0, sizeof *m);
    int rc = kv_synth_get(name, &s, err);
    if (rc) return rc;
    if (!b->ops->matrix_synth)
        return kv_fail(err, KV_EUNSUPPORTED, "synth:%s runs on a GPU only: use --backend cuda, or a model file", name);
    const maker k = {m, b, s, seed};
    rc = make_model(&k, err);
    if (rc) kv_model_close(m, b);
    return rc;
}
