/* gates_synth.c - random retention gates of type rg for synthetic models.
 *
 * Published gate files are bf16, so these values are bf16 too, and any way of splitting or rounding them is exact.  The
 * input of a gate is a normalised row, so W1 x has deviation 1 when W1 has 1 / sqrt(dim).  silu of such a number has
 * deviation 0.56; W2 is scaled so that the logit z gets deviation 2 around its bias of 4, which puts retention mostly
 * between 0.88 and 0.998: tokens differ and scores rarely tie. */
#include "engine/gates_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/synth.h"

static const double silu_deviation = 0.56, logit_deviation = 2, b1_deviation = 0.25;
static const float logit_bias = 4;

/* To the nearest bf16, ties to even; all are finite. */
static void round_bf16(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
        memcpy(&x[i], &u, sizeof u);
    }
}

/* Fills n values at *to and advances it. */
static const float *fill(float **to, size_t n, uint64_t seed, kv_synth_part part, int layer, double std) {
    float *at = *to;
    kv_synth_fill(at, n, seed, kv_synth_matrix(part, layer), (float)std);
    round_bf16(at, n);
    *to += n;
    return at;
}

int kv_gates_synth(const kv_shape *shape, int n_hidden, uint64_t seed, kv_gate_file **out, kv_error *err) {
    size_t dim = (size_t)shape->dim, h = (size_t)n_hidden, kv = (size_t)shape->n_kv_heads;
    *out = NULL;
    kv_gate_file *g = calloc(1, sizeof *g);
    if (!g) return kv_fail(err, KV_ENOMEM, "no memory for synthetic gates");
    int rc = kv_gates_alloc(shape, KV_GATE_RG, n_hidden, g, err);
    if (rc != KV_OK) {
        kv_gates_close(g);
        return rc;
    }
    float *to = g->values;
    for (int l = 0; l < shape->n_layers; l++) {
        kv_gate_layer *gl = &g->layers[l];
        gl->w1 = fill(&to, h * dim, seed, KV_SYNTH_W1, l, 1 / sqrt((double)dim));
        gl->b1 = fill(&to, h, seed, KV_SYNTH_B1, l, b1_deviation);
        gl->w2 = fill(&to, kv * h, seed, KV_SYNTH_W2, l, logit_deviation / (silu_deviation * sqrt((double)h)));
        gl->bias = to;
        for (size_t i = 0; i < kv; i++) *to++ = logit_bias;
    }
    kv_gates_seal(g);
    *out = g;
    return KV_OK;
}
