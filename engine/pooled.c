/* pooled.c - what a shared budget means for a sequence's heads. */
#include "engine/pooled.h"

kv_pooling kv_pooling_of(const kv_setup *setup, const kv_shape *shape) {
    kv_pooling p = {1, 0};
    if (!setup || setup->policy->never_evicts || !setup->policy->pool) return p;
    kv_pool pool = setup->policy->pool(setup->state, &p.floor);
    if (pool != KV_POOL_HEAD) p.size = shape->n_kv_heads;
    if (pool == KV_POOL_MODEL) p.size *= shape->n_layers;
    return p;
}

int kv_pooled_most(const kv_setup *setup, kv_pooling p, int all) {
    /* a head may win all that is shared; the buffer comes on top of it */
    int64_t most = (int64_t)p.size * setup->budget + setup->buffer;
    return most < all ? (int)most : all;
}

int kv_pooled_select(const kv_setup *setup, kv_pooling p, kv_select_head *heads, int32_t *scratch, int *nan_head) {
    int n_sink = 0, n_recent = 0;
    if (setup->policy->protect) setup->policy->protect(setup->state, &n_sink, &n_recent);
    return kv_select_pooled(heads, p.size, setup->budget, p.floor, n_sink, n_recent, scratch, nan_head);
}
