/* generation.h - what a checkpoint recommends for generating with it (generation_config.json). */
#ifndef KV_GENERATION_H
#define KV_GENERATION_H

#include "engine/kv.h"

enum { KV_MAX_EOS = 8 };

/* Numbers that the files do not give are negative. */
typedef struct kv_generation {
    int32_t eos[KV_MAX_EOS];
    int n_eos;
    int do_sample; /* 0: greedy is recommended */
    float temperature, top_p, min_p;
    int top_k;
} kv_generation;

/* Appends ids not there yet; returns the count, at most max. */
int kv_generation_add_stops(const kv_generation *g, int32_t *ids, int n, int max);

#endif
