/* rows.c - source `rows`: a file of JSON objects whose fields are strings; every field is a slot.
 *
 * All lines must have the fields of the first one, in the same order. */
#include "datasets/jsonl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int n_slots;
    char *names[KV_SLOTS + 1]; /* NULL-terminated */
    char **values;             /* (items, n_slots) */
    int items;
} rows;

static void close_rows(kv_source_state *s) {
    rows *r = s->impl;
    if (!r) return;
    for (int k = 0; k < r->n_slots; k++) free(r->names[k]);
    for (size_t i = 0; r->values && i < (size_t)r->items * (size_t)r->n_slots; i++) free(r->values[i]);
    free(r->values);
    free(r);
    s->impl = NULL;
}

static int name_slots(rows *r, const cJSON *row, const char *where, kv_error *err) {
    for (const cJSON *c = row->child; c; c = c->next) {
        if (r->n_slots == KV_SLOTS) return kv_fail(err, KV_EFORMAT, "%s: more than %d fields", where, KV_SLOTS);
        r->names[r->n_slots] = strdup(c->string);
        if (!r->names[r->n_slots]) return kv_fail(err, KV_ENOMEM, "%s: no memory for field names", where);
        r->n_slots++;
    }
    if (!r->n_slots) return kv_fail(err, KV_EFORMAT, "%s: the object has no fields", where);
    r->values = calloc((size_t)r->items * (size_t)r->n_slots, sizeof *r->values);
    return r->values ? KV_OK : kv_fail(err, KV_ENOMEM, "%s: no memory for %d items", where, r->items);
}

static int add_row(void *user, int i, const cJSON *row, const char *where, kv_error *err) {
    rows *r = user;
    int k = 0, rc = i ? KV_OK : name_slots(r, row, where, err);
    if (rc) return rc;
    for (const cJSON *c = row->child; c; c = c->next, k++) {
        if (k == r->n_slots || strcmp(c->string, r->names[k]))
            return kv_fail(err, KV_EFORMAT, "%s: field '%.40s' is not in the first line, or not in this place", where,
                           c->string);
        if (!cJSON_IsString(c)) return kv_fail(err, KV_EFORMAT, "%s: field '%.40s' is no string", where, c->string);
        char *v = strdup(c->valuestring);
        if (!v) return kv_fail(err, KV_ENOMEM, "%s: no memory for the item", where);
        r->values[(size_t)i * (size_t)r->n_slots + (size_t)k] = v;
    }
    if (k < r->n_slots) return kv_fail(err, KV_EFORMAT, "%s: field '%s' is missing", where, r->names[k]);
    return KV_OK;
}

static int open_rows(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    rows *r = calloc(1, sizeof *r);
    if (!r) return kv_fail(err, KV_ENOMEM, "no memory for %s", a->file->data);
    r->items = a->file->items;
    out->impl = r;
    out->n_items = r->items;
    out->slots = (const char *const *)r->names;
    return kv_jsonl_read(a, add_row, r, out->sha256, err);
}

static void row_item(const kv_source_state *s, int i, kv_text *values, void **data) {
    const rows *r = s->impl;
    for (int k = 0; k < r->n_slots; k++)
        kv_text_puts(&values[k], r->values[(size_t)i * (size_t)r->n_slots + (size_t)k]);
    *data = NULL;
}

static const char *const no_params[] = {NULL};

const kv_source kv_source_rows = {
    .name = "rows", .params = no_params, .reads_data = 1, .open = open_rows, .item = row_item, .close = close_rows};
