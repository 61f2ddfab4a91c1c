/* rope.c - inverse frequencies of rotary embeddings (RoPE, arXiv 2104.09864) and their scalings.
 *
 *   linear    position interpolation (arXiv 2306.15595)
 *   llama3    Llama 3.1: long wavelengths are stretched, short ones kept, a ramp between them
 *   yarn      NTK by parts and a factor on the attention logits (arXiv 2309.00071)
 *   longrope  one factor per frequency, two lists of them (arXiv 2402.13753; Phi-3)
 *
 * Computed in fp32 in the order of transformers' modeling_rope_utils.py, so that angles agree at large positions.
 *
 * Longrope: transformers takes the short factors while a sequence is no longer than the original context and the long
 * ones from then on, recomputing nothing that is cached.  A cache here keeps rotated keys, and an evicting policy mixes
 * keys of all ages, so one list must hold for a sequence's whole life.  The list is chosen when the model is opened, by
 * the longest sequence that it is opened for (vLLM's rule too): short when that fits the original context, else
 * long. */
#include "engine/rope.h"

#include <math.h>

int kv_rope_is_long(const kv_rope_config *c, int n_ctx) {
    return c->kind == KV_ROPE_LONG && n_ctx > c->original_ctx;
}

static float power(const kv_rope_config *c, int i, int half) {
    return powf((float)c->base, (float)(2 * i) / (float)(2 * half));
}

static float llama3(const kv_rope_config *c, float inv) {
    const float pi = 3.14159265358979323846f;
    float ctx = (float)c->original_ctx, factor = (float)c->factor;
    float low = (float)c->low_freq_factor, high = (float)c->high_freq_factor, wavelength = 2 * pi / inv;
    if (wavelength < ctx / high) return inv;
    if (wavelength > ctx / low) return inv / factor;
    float smooth = (ctx / wavelength - low) / (high - low);
    return (1 - smooth) * inv / factor + smooth * inv;
}

/* The dimension whose wavelength fits `rotations` times into the original context. */
static double correction_dim(const kv_rope_config *c, double rotations, int dim) {
    return dim * log(c->original_ctx / (rotations * 2 * M_PI)) / (2 * log(c->base));
}

static float yarn_scale(double scale, double mscale) {
    return scale <= 1 ? 1.0f : (float)(0.1 * mscale * log(scale) + 1.0);
}

static float yarn(const kv_rope_config *c, int half, float *inv) {
    double low = correction_dim(c, c->beta_fast, 2 * half), high = correction_dim(c, c->beta_slow, 2 * half);
    if (c->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    if (low < 0) low = 0;
    if (high > 2 * half - 1) high = 2 * half - 1;
    if (low == high) high += 0.001;
    for (int i = 0; i < half; i++) {
        float ramp = ((float)i - (float)low) / (float)(high - low), pow_i = power(c, i, half);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        float keep = 1 - ramp;
        inv[i] = 1 / ((float)c->factor * pow_i) * (1 - keep) + 1 / pow_i * keep;
    }
    if (c->attention_factor > 0) return (float)c->attention_factor;
    if (c->mscale > 0 && c->mscale_all_dim > 0)
        return yarn_scale(c->factor, c->mscale) / yarn_scale(c->factor, c->mscale_all_dim);
    return yarn_scale(c->factor, 1);
}

static float longrope(const kv_rope_config *c, int half, int n_ctx, float *inv) {
    const float *factor = kv_rope_is_long(c, n_ctx) ? c->long_factor : c->short_factor;
    for (int i = 0; i < half; i++) inv[i] = 1 / (factor[i] * power(c, i, half));
    if (c->attention_factor > 0) return (float)c->attention_factor;
    return c->factor <= 1 ? 1.0f : (float)sqrt(1 + log(c->factor) / log(c->original_ctx));
}

float kv_rope_frequencies(const kv_rope_config *c, int head_dim, int n_ctx, float *inv) {
    int half = head_dim / 2;
    if (c->kind == KV_ROPE_YARN) return yarn(c, half, inv);
    if (c->kind == KV_ROPE_LONG) return longrope(c, half, n_ctx, inv);
    for (int i = 0; i < half; i++) {
        inv[i] = 1.0f / power(c, i, half);
        if (c->kind == KV_ROPE_DIVIDED) inv[i] /= c->short_factor[i];
        if (c->kind == KV_ROPE_LINEAR) inv[i] /= (float)c->factor;
        if (c->kind == KV_ROPE_LLAMA3) inv[i] = llama3(c, inv[i]);
    }
    return 1;
}
