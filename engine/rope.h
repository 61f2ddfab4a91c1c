/* rope.h - rotary position embedding: the frequencies of every scaling that published checkpoints use. */
#ifndef KV_ROPE_H
#define KV_ROPE_H

#include "engine/kv.h"

enum { KV_ROPE_HALF_MOST = 128 }; /* half of the largest head */

typedef enum kv_rope_kind {
    KV_ROPE_PLAIN,
    KV_ROPE_DIVIDED, /* frequency i divided by short_factor[i] (rope_freqs of a GGUF) */
    KV_ROPE_LINEAR,
    KV_ROPE_LLAMA3,
    KV_ROPE_YARN,
    KV_ROPE_LONG
} kv_rope_kind;

typedef struct kv_rope_config {
    kv_rope_kind kind;
    double base, factor;
    int original_ctx;                                                      /* llama3, yarn, longrope */
    double attention_factor;                                               /* yarn, longrope: given, or 0 */
    double low_freq_factor, high_freq_factor;                              /* llama3 */
    double beta_fast, beta_slow, mscale, mscale_all_dim;                   /* yarn; mscale 0: not given */
    int truncate;                                                          /* yarn */
    float short_factor[KV_ROPE_HALF_MOST], long_factor[KV_ROPE_HALF_MOST]; /* longrope (half); divided: short_factor */
} kv_rope_config;

/* 1 when the long factors of longrope apply to sequences of up to n_ctx tokens. */
int kv_rope_is_long(const kv_rope_config *c, int n_ctx);

/* inv (head_dim / 2) = inverse frequencies for sequences of up to n_ctx tokens; the result is the factor that cosines
 * and sines are multiplied with (attention factor, 1 for most kinds). */
float kv_rope_frequencies(const kv_rope_config *c, int head_dim, int n_ctx, float *inv);

#endif
