/* pickle.c - the list of tensors from what the stack machine (pickle_machine.c) made of a pickle. */
#include "engine/pickle.h"

#include <stdlib.h>

#include "engine/pickle_machine.h"

enum { MAX_PICKLE = 1 << 20 };

struct kv_pickle {
    kv_pickle_tensor *tensors;
    size_t n;
    char *text; /* every string of the pickle */
};

/* The dict that is left on the stack -> p->tensors. */
static int collect(const pk_reader *r, kv_pickle *p) {
    if (r->stack[0].kind != PK_DICT) return kv_fail(r->err, KV_EFORMAT, "%s: the pickle holds no dict", r->file);
    p->tensors = calloc(r->n_entries + 1, sizeof *p->tensors);
    if (!p->tensors) return kv_fail(r->err, KV_ENOMEM, "%s: no memory for the list of tensors", r->file);
    const pk_entry *e = r->entries;
    for (size_t i = r->dicts[r->stack[0].at].first; i != 0; i = e[i].next) {
        kv_pickle_tensor *out = &p->tensors[p->n];
        if (e[i].key.kind != PK_STRING || !e[i].key.s[0])
            return kv_fail(r->err, KV_EFORMAT, "%s: entry %zu of the dict has no name", r->file, p->n);
        out->name = e[i].key.s;
        if (e[i].val.kind != PK_TENSOR)
            return kv_fail(r->err, KV_EFORMAT, "%s: entry '%.100s' of the dict is no tensor", r->file, out->name);
        const pk_tensor *t = &r->tensors[e[i].val.at];
        const pk_storage *s = &r->storages[t->storage];
        out->storage = s->key;
        out->dtype = s->dtype;
        out->type = s->type;
        out->n_stored = s->n;
        out->offset = t->offset;
        out->n_dims = (int)t->dims.n;
        for (int d = 0; d < 4; d++) {
            out->dims[d] = d < out->n_dims ? r->items[t->dims.at + (size_t)d].i : 1;
            out->strides[d] = d < out->n_dims ? r->items[t->strides.at + (size_t)d].i : 1;
        }
        p->n++;
    }
    p->text = r->text;
    return KV_OK;
}

static void free_reader(pk_reader *r) {
    free(r->stack);
    free(r->memo);
    free(r->items);
    free(r->entries);
    free(r->dicts);
    free(r->storages);
    free(r->tensors);
}

int kv_pickle_read(const void *data, size_t size, const char *file, kv_pickle **out, kv_error *err) {
    *out = NULL;
    if (size > MAX_PICKLE)
        return kv_fail(err, KV_ELIMIT, "%s: pickle of %zu bytes, at most %d are read", file, size, MAX_PICKLE);
    size_t n = size + 1;
    pk_reader r = {.p = data, .size = size, .file = file, .err = err};
    kv_pickle *p = calloc(1, sizeof *p);
    r.stack = calloc(n, sizeof *r.stack);
    r.memo = calloc(n, sizeof *r.memo);
    r.items = calloc(n, sizeof *r.items);
    r.entries = calloc(n, sizeof *r.entries);
    r.dicts = calloc(n, sizeof *r.dicts);
    r.storages = calloc(n, sizeof *r.storages);
    r.tensors = calloc(n, sizeof *r.tensors);
    r.text = calloc(n, 1);
    int rc = KV_OK;
    if (!p || !r.stack || !r.memo || !r.items || !r.entries || !r.dicts || !r.storages || !r.tensors || !r.text)
        rc = kv_fail(err, KV_ENOMEM, "%s: no memory for a pickle of %zu bytes", file, size);
    if (rc == KV_OK) rc = kv_pk_run(&r);
    if (rc == KV_OK) rc = collect(&r, p);
    free_reader(&r);
    if (rc != KV_OK) {
        if (p) free(p->tensors);
        free(p);
        free(r.text);
        return rc;
    }
    *out = p;
    return KV_OK;
}

void kv_pickle_free(kv_pickle *p) {
    if (!p) return;
    free(p->tensors);
    free(p->text);
    free(p);
}

size_t kv_pickle_n(const kv_pickle *p) {
    return p->n;
}

const kv_pickle_tensor *kv_pickle_at(const kv_pickle *p, size_t i) {
    return i < p->n ? &p->tensors[i] : NULL;
}
