/* sampler.h - choosing the next token from one row of logits. */
#ifndef KV_SAMPLER_H
#define KV_SAMPLER_H

#include "engine/engine.h"

/* Sum over i of a mix of (i, bits of logits[i]), chained from `seed`: any number of threads, on any device, may add in
 * any order. */
uint64_t kv_logits_hash(uint64_t seed, const float *logits, int n);

/* Index of the largest logit, the lowest index on ties; KV_ENUM when any logit is NaN or infinite. */
int kv_argmax(const float *logits, int n);

/* Greedy when temperature is 0; otherwise temperature, top-k, top-p, min-p in that order (as transformers does), then a
 * draw from a counter-based stream: number `step` of `seed`.  order: (n) scratch.  KV_ENUM as kv_argmax. */
int kv_sample(const kv_sampling *s, uint64_t step, const float *logits, int n, kv_top *order);

/* The n_top most likely tokens and their log-probabilities at temperature 1, best first. */
void kv_top_logprobs(const float *logits, int n, int n_top, kv_top *out);

#endif
