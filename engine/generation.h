/* generation.h - what a checkpoint recommends for generating with it: its generation_config.json. */
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

/* Nothing recommended. */
kv_generation kv_generation_none(void);

/* Adds the ids of eos_token_id (a number or a list) and, where g has none yet, the sampling fields.  KV_EFORMAT names
 * the key when a value has the wrong type or range; `name` is used in errors, text needs no NUL. */
int kv_generation_parse(const char *text, size_t n, const char *name, kv_generation *g, kv_error *err);
/* The same for a file; KV_ENOTFOUND when there is none. */
int kv_generation_load(const char *path, kv_generation *g, kv_error *err);

/* KV_ELIMIT beyond KV_MAX_EOS; an id that is there already is not added again. */
int kv_generation_add_eos(kv_generation *g, int32_t id, const char *name, kv_error *err);

/* Appends ids not there yet; returns the count, at most max. */
int kv_generation_add_stops(const kv_generation *g, int32_t *ids, int n, int max);

#endif
