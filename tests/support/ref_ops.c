/* ref_ops.c - plain double-precision twins of the backend's ops.  See ref_ops.h. */
#include "tests/support/ref_ops.h"

#include "engine/dequant.h"

#include <math.h>
#include <stdlib.h>

void kv_ref_rmsnorm(double *out, const float *x, const float *w, double eps, int n_rows, int dim) {
    for (int r = 0; r < n_rows; r++) {
        double s = 0;
        for (int i = 0; i < dim; i++) s += (double)x[r * dim + i] * x[r * dim + i];
        double scale = 1 / sqrt(s / dim + eps);
        for (int i = 0; i < dim; i++) out[r * dim + i] = x[r * dim + i] * scale * w[i];
    }
}

void kv_ref_swiglu(double *out, const float *x, int n_rows, int n_in) {
    for (int r = 0; r < n_rows; r++) {
        for (int i = 0; i < n_in; i++) {
            double g = x[(size_t)r * 2 * n_in + i], u = x[(size_t)r * 2 * n_in + n_in + i];
            out[r * n_in + i] = g / (1 + exp(-g)) * u;
        }
    }
}

void kv_ref_linear(double *out, double *scale, const double *x, const float *w, const float *bias, int n_rows, int n_in,
                   int n_out) {
    for (int r = 0; r < n_rows; r++) {
        for (int j = 0; j < n_out; j++) {
            double s = bias ? bias[j] : 0, a = fabs(s);
            for (int k = 0; k < n_in; k++) {
                double p = x[(size_t)r * n_in + k] * w[(size_t)j * n_in + k];
                s += p;
                a += fabs(p);
            }
            out[(size_t)r * n_out + j] = s;
            if (scale) scale[(size_t)r * n_out + j] = a;
        }
    }
}

void kv_ref_rope(double *x, int n_rows, int n_heads, int head_dim, const int32_t *pos, const kv_rope_table *t) {
    int half = head_dim / 2;
    for (int r = 0; r < n_rows; r++) {
        for (int h = 0; h < n_heads; h++) {
            double *p = x + ((size_t)r * n_heads + h) * head_dim;
            for (int i = 0; i < half; i++) {
                double c = t->cos[pos[r] * half + i], s = t->sin[pos[r] * half + i], a = p[i], b = p[i + half];
                p[i] = a * c - b * s;
                p[i + half] = b * c + a * s;
            }
        }
    }
}

static void attend_row(double *out, double *mass, double *prob, const float *q, const float *k, const float *v,
                       int head_dim, int n, double scale) {
    double top = -INFINITY, sum = 0;
    for (int s = 0; s < n; s++) {
        prob[s] = 0;
        for (int d = 0; d < head_dim; d++) prob[s] += (double)q[d] * k[s * head_dim + d];
        prob[s] *= scale;
        top = fmax(top, prob[s]);
    }
    for (int s = 0; s < n; s++) sum += prob[s] = exp(prob[s] - top);
    for (int d = 0; d < head_dim; d++) out[d] = 0;
    for (int s = 0; s < n; s++) {
        prob[s] /= sum;
        if (mass) mass[s] += prob[s];
        for (int d = 0; d < head_dim; d++) out[d] += prob[s] * v[s * head_dim + d];
    }
}

void kv_ref_attend(double *out, double *mass, const float *q, const float *k, const float *v, int n_q, int group,
                   int head_dim, int n_slots, double scale) {
    double *prob = malloc((size_t)n_slots * sizeof *prob);
    if (!prob) return;
    for (int i = 0; i < n_q * group; i++)
        attend_row(out + (size_t)i * head_dim, mass, prob, q + (size_t)i * head_dim, k, v, head_dim,
                   n_slots - n_q + i / group + 1, scale);
    free(prob);
}

void kv_ref_quantize(double *out, const float *x, int n) {
    enum { group = 64 };
    for (int g = 0; g < n; g += group) {
        float top = 0, v[64] = {0};
        for (int i = 0; i < group && g + i < n; i++) v[i] = x[g + i];
        for (int h = 1; h < group; h *= 2) {
            for (int i = 0; i < group; i++) {
                float a = v[i], b = v[i ^ h];
                if (i & h) continue;
                v[i] = a + b;
                v[i ^ h] = a - b;
            }
        }
        for (int i = 0; i < group; i++) top = fmaxf(top, fabsf(v[i] *= 0.125f));
        for (int i = 0; i < group; i++)
            out[g + i] = top > 0 ? (double)rintf(v[i] * (127.0f / top)) * (double)(top * (1.0f / 127.0f)) : 0;
    }
}

float kv_ref_cached(kv_cache_type type, float x) {
    return type == KV_CACHE_F16 ? kv_f16_to_f32(kv_f32_to_f16(x)) : x;
}
