/* cache.h - the slots of one sequence: per layer and KV head, paged, in temporal order. */
#ifndef KV_CACHE_H
#define KV_CACHE_H

#include "engine/cpu/pages.h"

typedef struct kv_cache {
    kv_page_pool *pool; /* borrowed */
    int n_layers, n_kv_heads;
    kv_head_slots *heads;     /* (n_layers, n_kv_heads) */
    int *n_pages, *cap;       /* pages held and room in heads[i].pages */
    size_t bytes, bytes_peak; /* page bytes of this sequence, as handed out by the pool */
} kv_cache;

int kv_cache_init(kv_cache *c, kv_page_pool *pool, int n_layers, int n_kv_heads, kv_error *err);
void kv_cache_free(kv_cache *c); /* returns every page */

static inline kv_head_slots *kv_cache_head(const kv_cache *c, int layer, int head) {
    return &c->heads[(size_t)layer * c->n_kv_heads + head];
}

/* Adds room for n slots to every head of every layer and counts them as held; the caller fills them.  On KV_ENOMEM
 * nothing has changed. */
int kv_cache_extend(kv_cache *c, int n, kv_error *err);

/* Keeps the first n slots of one head and returns the pages behind them. */
void kv_cache_truncate(kv_cache *c, int layer, int head, int n);

/* Slots held, averaged over layers and KV heads; most slots of any head of a layer. */
double kv_cache_mean_slots(const kv_cache *c);
int kv_cache_layer_slots(const kv_cache *c, int layer);

/* kv_pooled_slots of the fullest of the pools, `size` consecutive heads each. */
int kv_cache_pool_slots(const kv_cache *c, int size);

#endif
