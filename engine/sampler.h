/* sampler.h - choosing the next token from one row of logits. */
#ifndef KV_SAMPLER_H
#define KV_SAMPLER_H

#include "engine/engine.h"

/* Sum over i of a mix of (i, bits of logits[i]), chained from `seed`: any number of threads, on any device, may add in
 * any order. */
uint64_t kv_logits_hash(uint64_t seed, const float *logits, int n);

/* Index of the largest logit, the lowest index on ties; KV_ENUM when any logit is NaN or infinite. */
int kv_argmax(const float *logits, int n);

/* Greedy when temperature is 0; otherwise temperature, top-k, top-p, min-p in that order and as transformers defines
 * them (top-k keeps all that tie with the k-th; where top-p cuts among equals the lower ids stay), then the token at
 * `number`, 0..2^53 - 1, of the running sum of what is left.  keys: (n) scratch.  KV_ENUM as kv_argmax. */
int kv_sample_number(const kv_sampling *s, uint64_t number, const float *logits, int n, uint64_t *keys);

/* The same with random number `step` of the stream that s->seed names. */
int kv_sample(const kv_sampling *s, uint64_t step, const float *logits, int n, uint64_t *keys);

/* The n_top most likely tokens and their log-probabilities at temperature 1, best first. */
void kv_top_logprobs(const float *logits, int n, int n_top, kv_top *out);

#endif
