/* items.h - the items of one task under one model's tokenizer and chat template, rendered when first asked for. */
#ifndef KV_ITEMS_H
#define KV_ITEMS_H

#include "bench/identity.h"
#include "datasets/task.h"

typedef struct kv_prompt {
    kv_item item;
    int has_item, rendered;
    int32_t *ids; /* (n) */
    int n;
    int n_context;       /* ids before the question; n when the item has no split */
    char sha256[65];     /* over ids as little-endian int32 */
    char first_ids[256]; /* JSON array of the first 16 */
} kv_prompt;

typedef struct kv_items kv_items;

/* id is borrowed and must outlive the items; the caller frees. */
int kv_items_open(const char *spec, const kv_task_options *o, const kv_identity *id, kv_items **out, kv_error *err);
void kv_items_close(kv_items *it);

const kv_task *kv_items_task(const kv_items *it);
const kv_task_info *kv_items_info(const kv_items *it);

/* Item i with its text and ids, made when first asked for.  Owned by the items. */
int kv_items_render(kv_items *it, int i, const kv_prompt **out, kv_error *err);

#endif
