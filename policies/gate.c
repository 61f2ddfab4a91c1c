/* gate.c - the retention gates of TRIM-KV (arXiv 2512.03324: rg, rg2, rg3) and DBTrimKV (2605.09649: rg10).
 *
 * A small network per layer turns the input of the attention block (rg, rg10) or the token's rotated key and value
 * (rg2, rg3) into the log retention lb <= 0 of every KV head; the formulas are in policy.h.  The activation is SiLU,
 * that of every model with published gates.  fp32 here, where the authors' code runs in the model's bf16.  A slot's
 * score is its lb decayed over its age: nothing else is looked at, and beta never enters attention. */
#include "policies/gate.h"

#include <math.h>
#include <string.h>

const char *kv_gate_name(kv_gate_type type) {
    static const char *const names[KV_GATE_TYPES] = {"rg", "rg2", "rg3", "rg10"};
    return names[type];
}

int kv_gate_sees_kv(kv_gate_type type) {
    return type == KV_GATE_RG2 || type == KV_GATE_RG3;
}

int kv_gate_n_in(kv_gate_type type, const kv_shape *shape) {
    return kv_gate_sees_kv(type) ? 2 * shape->n_kv_heads * shape->head_dim : shape->dim;
}

/* Floats of an input row that is put together here. */
static size_t packed_floats(const kv_gates *g) {
    return kv_gate_sees_kv(g->type) ? (size_t)g->n_in : 0;
}

/* Scratch of one row: the packed input, z, one or two hidden rows. */
static size_t row_floats(const kv_gates *g) {
    size_t n_hidden_rows = g->type == KV_GATE_RG3 || g->type == KV_GATE_RG10 ? 2 : 1;
    return packed_floats(g) + (size_t)g->n_kv_heads + (size_t)g->n_hidden * n_hidden_rows;
}

int kv_gate_check(const kv_gates *g, const kv_shape *shape, const char *policy, kv_error *err) {
    int n_in = kv_gate_n_in(g->type, shape);
    if (g->n_layers != shape->n_layers || g->n_in != n_in || g->n_kv_heads != shape->n_kv_heads)
        return kv_fail(err, KV_EARG,
                       "%s: the gates (%s) are for %d layers, inputs of %d, %d KV heads, but the model has "
                       "%d, %d, %d; pass the --gates made for this model",
                       policy, kv_gate_name(g->type), g->n_layers, g->n_in, g->n_kv_heads, shape->n_layers, n_in,
                       shape->n_kv_heads);
    if (row_floats(g) > KV_MIN_SCRATCH)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: gates of %d hidden units are wider than what fits into %d floats",
                       policy, g->n_hidden, KV_MIN_SCRATCH);
    return KV_OK;
}

/* To the nearest bf16, ties to even; infinities stay. */
static float to_bf16(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if (isfinite(x)) u += 0x7fffu + (u >> 16 & 1u);
    u &= 0xffff0000u;
    memcpy(&x, &u, sizeof u);
    return x;
}

static float rounded(int bf16, float x) {
    return bf16 ? to_bf16(x) : x;
}

static void silu(float *x, size_t n, int bf16) {
    for (size_t i = 0; i < n; i++) {
        float h = rounded(bf16, x[i]);
        x[i] = rounded(bf16, h / (1 + expf(-h)));
    }
}

static float logsigmoid(float z) {
    return z >= 0 ? -log1pf(expf(-z)) : z - log1pf(expf(z));
}

/* (n, n_kv_heads, 2, head_dim): K and V side by side in every head. */
static void pack_kv(float *x, const kv_observe_args *a, int from, int n, int n_kv_heads, int head_dim) {
    size_t d = (size_t)head_dim, heads = (size_t)n * (size_t)n_kv_heads, first = (size_t)from * (size_t)n_kv_heads;
    for (size_t i = 0; i < heads; i++) {
        memcpy(x + 2 * i * d, a->k + (first + i) * d, d * sizeof *x);
        memcpy(x + (2 * i + 1) * d, a->v + (first + i) * d, d * sizeof *x);
    }
}

/* x (n, n_in) -> z (n, n_kv_heads) without the bias; hidden and, for rg3 and rg10, second: (n, n_hidden). */
static void run_maps(const kv_gates *g, const kv_gate_layer *w, int bf16, const kv_services *sv, const float *x, int n,
                     float *hidden, float *second, float *z) {
    size_t n_mid = (size_t)n * (size_t)g->n_hidden;
    sv->linear(sv->ctx, hidden, x, w->w1, w->b1, n, g->n_in, g->n_hidden);
    silu(hidden, n_mid, bf16);
    if (g->type == KV_GATE_RG3) {
        sv->linear(sv->ctx, second, x, w->up, NULL, n, g->n_in, g->n_hidden);
        for (size_t i = 0; i < n_mid; i++) hidden[i] = rounded(bf16, hidden[i] * rounded(bf16, second[i]));
    } else if (g->type == KV_GATE_RG10) {
        sv->linear(sv->ctx, second, hidden, w->mid, w->mid_b, n, g->n_hidden, g->n_hidden);
        silu(second, n_mid, bf16);
        hidden = second;
    }
    sv->linear(sv->ctx, z, hidden, w->w2, NULL, n, g->n_hidden, g->n_kv_heads);
}

void kv_gate_observe(const kv_gates *g, int head_dim, int bf16, const kv_services *sv, const kv_observe_args *a,
                     int n_stats, int col) {
    const kv_gate_layer *w = &g->layers[a->layer];
    size_t fit = sv->n_scratch / row_floats(g), n_kv = (size_t)g->n_kv_heads;
    int step = fit < (size_t)a->n_rows ? (int)fit : a->n_rows;
    for (int from = 0, n; from < a->n_rows; from += n) {
        n = step < a->n_rows - from ? step : a->n_rows - from;
        float *packed = sv->scratch, *z = packed + (size_t)n * packed_floats(g), *hidden = z + (size_t)n * n_kv;
        float *second = hidden + (size_t)n * (size_t)g->n_hidden;
        const float *x = packed;
        if (kv_gate_sees_kv(g->type))
            pack_kv(packed, a, from, n, g->n_kv_heads, head_dim);
        else
            x = a->hidden + (size_t)from * (size_t)g->n_in;
        run_maps(g, w, bf16, sv, x, n, hidden, second, z);
        for (size_t i = 0; i < (size_t)n * n_kv; i++) {
            float sum = rounded(bf16, rounded(bf16, z[i]) + w->bias[i % n_kv]);
            a->stats[((size_t)from * n_kv + i) * (size_t)n_stats + (size_t)col] = rounded(bf16, logsigmoid(sum));
        }
    }
}

/* ln(1 - e^x) for x < 0. */
static double log1mexp(double x) {
    return x < -0.6931471805599453 ? log1p(-exp(x)) : log(-expm1(x));
}

void kv_gate_score(const kv_score_args *a, const float *lb, int lookahead, float *score) {
    for (int i = 0; i < a->n_slots; i++) {
        if (lookahead == 1) {
            score[i] = (float)(a->n_seen + 1 - a->pos[i]) * lb[i];
        } else {
            double x = lb[i];
            double gain = x > -1e-7 ? log(lookahead) : log1mexp(lookahead * x) - log1mexp(x);
            score[i] = (float)((a->n_seen + 2 - a->pos[i]) * x + gain);
        }
    }
}
