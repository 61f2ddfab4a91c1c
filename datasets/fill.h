/* fill.h - how much filler fits: items of a length asked for in tokens (RULER, arXiv 2404.06654).
 *
 * A context is built from units (words, lines, documents); the length of the whole item, the limit on new tokens
 * included, must not exceed the target.  The reference bisects for the number of units on one trial item and makes the
 * others shorter in steps of 500 words or 25 lines until they fit, which can leave an item of 4,096 tokens 650 short.
 * Here every item is filled until what is left is less than an average unit.  The search interpolates, as lengths are
 * nearly linear in units, and starts from the trial item's number, so that an item costs two or three measurements. */
#ifndef KV_FILL_H
#define KV_FILL_H

#include "datasets/rng.h"
#include "datasets/source.h"

typedef struct kv_fill {
    /* Appends item i with that many units to the values, which arrive empty.  The same arguments give the same text. */
    void (*text)(const void *impl, int i, size_t units, kv_text *values);
    const void *impl;
    kv_measure_fn *measure;
    const void *task;
    int64_t tokens;     /* the target */
    size_t least, most; /* units */
    size_t start;       /* first guess */
    uint64_t seed;
    int reshuffle; /* 0: shuffles are alike in every item, as in the reference */
} kv_fill;

/* The numbers that shuffle item i. */
kv_rng kv_fill_shuffle(const kv_fill *f, int i);

/* Sets start from item 0.  KV_EARG when even the least number of units is too long: the text says how long. */
int kv_fill_prepare(kv_fill *f, kv_error *err);
/* values: those of item i, filled. */
int kv_fill_item(const kv_fill *f, int i, kv_text *values, kv_error *err);

/* These as a source's prepare and make, where what impl points to begins with a kv_fill. */
int kv_fill_prepare_source(kv_source_state *s, kv_error *err);
int kv_fill_make(const kv_source_state *s, int i, kv_text *values, kv_error *err);

#endif
