/* cache.c - page tables of one sequence. */
#include "engine/cpu/cache.h"

#include <stdlib.h>
#include <string.h>

#include "engine/pooled.h"

int kv_cache_init(kv_cache *c, kv_page_pool *pool, int n_layers, int n_kv_heads, kv_error *err) {
    size_t n = (size_t)n_layers * n_kv_heads;
    memset(c, 0, sizeof *c);
    c->pool = pool;
    c->n_layers = n_layers;
    c->n_kv_heads = n_kv_heads;
    c->heads = calloc(n, sizeof *c->heads);
    c->n_pages = calloc(n, sizeof *c->n_pages);
    c->cap = calloc(n, sizeof *c->cap);
    if (!c->heads || !c->n_pages || !c->cap) {
        kv_cache_free(c);
        return kv_fail(err, KV_ENOMEM, "out of memory for the page tables of a sequence");
    }
    return KV_OK;
}

static void drop_pages(kv_cache *c, size_t i, int keep) {
    size_t page_bytes = kv_page_pool_layout(c->pool)->bytes;
    while (c->n_pages[i] > keep) {
        kv_page_put(c->pool, c->heads[i].pages[--c->n_pages[i]]);
        c->bytes -= page_bytes;
    }
}

void kv_cache_free(kv_cache *c) {
    if (c->heads && c->n_pages) {
        for (size_t i = 0; i < (size_t)c->n_layers * c->n_kv_heads; i++) {
            drop_pages(c, i, 0);
            free(c->heads[i].pages);
        }
    }
    free(c->heads);
    free(c->n_pages);
    free(c->cap);
    memset(c, 0, sizeof *c);
}

static int grow(kv_cache *c, size_t i, int n_pages) {
    if (n_pages > c->cap[i]) {
        int cap = c->cap[i] ? c->cap[i] * 2 : 8;
        while (cap < n_pages) cap *= 2;
        void **pages = realloc(c->heads[i].pages, (size_t)cap * sizeof *pages);
        if (!pages) return KV_ENOMEM;
        c->heads[i].pages = pages;
        c->cap[i] = cap;
    }
    while (c->n_pages[i] < n_pages) {
        void *page = kv_page_get(c->pool);
        if (!page) return KV_ENOMEM;
        c->heads[i].pages[c->n_pages[i]++] = page;
        c->bytes += kv_page_pool_layout(c->pool)->bytes;
    }
    return KV_OK;
}

static int pages_for(int n_slots) {
    return (n_slots + KV_PAGE - 1) / KV_PAGE;
}

int kv_cache_extend(kv_cache *c, int n, kv_error *err) {
    size_t count = (size_t)c->n_layers * c->n_kv_heads;
    for (size_t i = 0; i < count; i++) {
        if (grow(c, i, pages_for(c->heads[i].n_slots + n)) == KV_OK) continue;
        int limited = kv_page_pool_check(c->pool, err);
        for (size_t j = 0; j <= i; j++) drop_pages(c, j, pages_for(c->heads[j].n_slots));
        if (limited) return limited;
        return kv_fail(err, KV_ENOMEM,
                       "out of memory for the KV cache (%.1f MiB held by this sequence): use a smaller --budget or "
                       "--batch, or a shorter prompt",
                       (double)c->bytes / 1048576.0);
    }
    for (size_t i = 0; i < count; i++) c->heads[i].n_slots += n;
    if (c->bytes > c->bytes_peak) c->bytes_peak = c->bytes;
    return KV_OK;
}

void kv_cache_truncate(kv_cache *c, int layer, int head, int n) {
    size_t i = (size_t)layer * c->n_kv_heads + head;
    if (n >= c->heads[i].n_slots) return;
    c->heads[i].n_slots = n;
    drop_pages(c, i, pages_for(n));
}

double kv_cache_mean_slots(const kv_cache *c) {
    size_t count = (size_t)c->n_layers * c->n_kv_heads;
    int64_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += c->heads[i].n_slots;
    return (double)sum / (double)count;
}

int kv_cache_layer_slots(const kv_cache *c, int layer) {
    int most = 0;
    for (int h = 0; h < c->n_kv_heads; h++) {
        int n = kv_cache_head(c, layer, h)->n_slots;
        if (n > most) most = n;
    }
    return most;
}

int kv_cache_pool_slots(const kv_cache *c, int size) {
    int most = 0;
    for (int first = 0; first < c->n_layers * c->n_kv_heads; first += size) {
        int64_t held = 0;
        for (int i = first; i < first + size; i++) held += c->heads[i].n_slots;
        if (kv_pooled_slots(held, size) > most) most = kv_pooled_slots(held, size);
    }
    return most;
}
