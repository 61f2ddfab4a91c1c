/* shots.c - source `rows_5shot`: rows (rows.c) with the slot {shots}, five examples drawn for each item from a second
 * file of rows, as lm-evaluation-harness draws them: one Mersenne Twister seeded with 1234, one sample of five an item,
 * in the order of the items. */
#include "datasets/mt19937.h"
#include "datasets/source.h"

#include "engine/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_SHOTS = 5, SEED = 1234 };

typedef struct {
    kv_source_state items, pool;
    const char *slots[KV_SLOTS + 1]; /* the items' and "shots" */
    int n_slots;
    const char *template;
    uint32_t (*drawn)[N_SHOTS]; /* (items) */
} shots;

static void close_shots(kv_source_state *s) {
    shots *x = s->impl;
    if (!x) return;
    kv_source_rows.close(&x->items);
    kv_source_rows.close(&x->pool);
    free(x->drawn);
    free(x);
    s->impl = NULL;
}

static int name_slots(shots *x, const kv_task_file *f, kv_error *err) {
    for (; x->items.slots[x->n_slots]; x->n_slots++) x->slots[x->n_slots] = x->items.slots[x->n_slots];
    if (x->n_slots == KV_SLOTS)
        return kv_fail(err, KV_EFORMAT, "%s: %d fields leave no room for the slot {shots}", f->data, KV_SLOTS);
    x->slots[x->n_slots++] = "shots";
    char where[400];
    snprintf(where, sizeof where, "%s:%d", f->path, f->shot_line);
    return kv_template_check(f->shot, x->pool.slots, 0, where, err);
}

static int draw(shots *x, kv_error *err) {
    kv_mt m;
    x->drawn = malloc((size_t)x->items.n_items * sizeof *x->drawn);
    if (!x->drawn) return kv_fail(err, KV_ENOMEM, "no memory for the examples of %d items", x->items.n_items);
    kv_mt_seed(&m, SEED);
    for (int i = 0; i < x->items.n_items; i++) kv_mt_sample(&m, (uint32_t)x->pool.n_items, N_SHOTS, x->drawn[i]);
    return KV_OK;
}

static int open_shots(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    shots *x = calloc(1, sizeof *x);
    if (!x) return kv_fail(err, KV_ENOMEM, "no memory for %s", a->file->data);
    out->impl = x;
    x->template = a->file->shot;
    if (a->file->shot_items <= 21)
        return kv_fail(err, KV_EFORMAT, "%s: shot_items must be more than 21", a->file->path);
    kv_task_file pool_file = *a->file; /* only read; owns nothing of its own */
    pool_file.data = a->file->shots;
    pool_file.items = a->file->shot_items;
    kv_source_args pool = *a;
    pool.file = &pool_file;
    int rc = kv_source_rows.open(a, &x->items, err);
    if (!rc) rc = kv_source_rows.open(&pool, &x->pool, err);
    if (!rc) rc = name_slots(x, a->file, err);
    if (!rc) rc = draw(x, err);
    if (rc) return rc;
    char both[130];
    snprintf(both, sizeof both, "%s\n%s", x->items.sha256, x->pool.sha256);
    kv_sha256_bytes(both, strlen(both), out->sha256);
    out->n_items = x->items.n_items;
    out->slots = x->slots;
    return KV_OK;
}

static void shots_item(const kv_source_state *s, int i, kv_text *values, void **data) {
    const shots *x = s->impl;
    kv_source_rows.item(&x->items, i, values, data);
    for (int k = 0; k < N_SHOTS; k++) {
        kv_text shot[KV_SLOTS] = {{0}};
        void *none;
        kv_source_rows.item(&x->pool, (int)x->drawn[i][k], shot, &none);
        kv_template_render(x->template, x->pool.slots, shot, &values[x->n_slots - 1], NULL);
        for (int j = 0; j < KV_SLOTS; j++) kv_text_free(&shot[j]);
    }
}

static const char *const no_params[] = {NULL};

const kv_source kv_source_rows_5shot = {.name = "rows_5shot",
                                        .params = no_params,
                                        .reads_data = 1,
                                        .reads_shots = 1,
                                        .open = open_shots,
                                        .item = shots_item,
                                        .close = close_shots};
