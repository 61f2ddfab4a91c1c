/* load.h - what a batch of sequences that are all alike will hold, counted before any of them runs.
 *
 * The generation loop decides when slots come and go, so these counts follow its rules (generate.c); a device's runner
 * turns them into bytes (runner.h: need, reserve). */
#ifndef KV_LOAD_H
#define KV_LOAD_H

#include "engine/internal.h"
#include "engine/pooled.h"

/* Heads that share a budget (pooled.h) hold `first`, `start` and `most` on average; how many each of them holds, nobody
 * knows before. */
typedef struct kv_load {
    int n;         /* sequences */
    int n_heads;   /* (layer, KV head) of a sequence */
    int shares;    /* 1: heads share a budget */
    int forked;    /* 1: from a shared prefill, one after the other */
    int first;     /* slots of a head when its first part of the prompt is in, not reduced yet */
    int start;     /* slots of a head, at most, when the whole prompt is in */
    int most;      /* ... while decoding */
    int fullest;   /* slots of the fullest head, at most, while decoding */
    int max_slots; /* ... ever; what seq_open gets */
    int rows;      /* tokens that a sequence brings into one forward over prompts, 0 = none */
    int draws;     /* 1: sampled, not greedy */
} kv_load;

/* Most slots of any cache of a request that generates `limit` tokens. */
int kv_most_slots(const kv_setup *s, const kv_shape *shape, int chunk, const kv_request *q, int limit);

/* o->batch requests like o->like. */
void kv_load_of(const kv_setup *s, const kv_generate_options *o, const kv_model_info *in, kv_load *out);

/* Pages that all sequences hold at once, at most.  Two cases are bounded only: heads that share a budget, whose lengths
 * may lie so that the last page of each holds a single slot; and whole prompts without a shared prefill, which need not
 * all be in at once. */
int64_t kv_load_pages(const kv_load *l);

/* Tokens before this are the first part of the prompt. */
int kv_context_end(const kv_request *q);

#endif
