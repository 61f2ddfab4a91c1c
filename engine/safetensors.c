/* safetensors.c - the .safetensors container (huggingface/safetensors, README "Format"): 8 bytes little-endian
 * header length, a JSON object {name: {dtype, shape, data_offsets}}, then the data.
 *
 * As the format demands, extents must tile the data: no overlap, no hole, no byte left over.  Sorting by offset
 * checks all three at once, and a truncated or appended-to file cannot pass. */
#include "engine/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/json.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are loaded as they lie in the file");

/* Ample for published shards (under 1 MiB), and bounds the memory that a hostile header costs. */
enum { MAX_HEADER = 16 << 20 };

#define MAX_EXACT INT64_C(9007199254740992) /* 2^53: JSON numbers are doubles */

struct kv_safetensors {
    kv_map map; /* empty when the caller owns the buffer */
    char *file;
    cJSON *header;         /* owns the names */
    kv_st_tensor *tensors; /* sorted by name */
    size_t n;
};

typedef struct extent {
    uint64_t begin, end;
    const char *name;
} extent;

static int compare_names(const void *a, const void *b) {
    const kv_st_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int compare_extents(const void *a, const void *b) {
    const extent *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static int whole(const cJSON *v, uint64_t *out) {
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= (double)MAX_EXACT)) return 0;
    *out = (uint64_t)v->valuedouble;
    return (double)*out == v->valuedouble;
}

/* The three members of an entry, each exactly once; members the format may grow are passed over. */
static int entry_members(const cJSON *entry, const cJSON *m[3]) {
    static const char *const names[3] = {"dtype", "shape", "data_offsets"};
    m[0] = m[1] = m[2] = NULL;
    if (!cJSON_IsObject(entry)) return 0;
    for (const cJSON *c = entry->child; c; c = c->next) {
        for (int i = 0; i < 3; i++) {
            if (strcmp(c->string, names[i]) != 0) continue;
            if (m[i]) return 0;
            m[i] = c;
        }
    }
    return cJSON_IsString(m[0]) && cJSON_IsArray(m[1]) && cJSON_IsArray(m[2]);
}

static int parse_dtype(const kv_safetensors *s, kv_st_tensor *t, const char *dtype, kv_error *err) {
    static const kv_dtype types[] = {KV_F32, KV_F16, KV_BF16};
    for (int i = 0; i < 3; i++) {
        if (strcmp(dtype, kv_dtype_name(types[i])) == 0) {
            t->type = types[i];
            return KV_OK;
        }
    }
    return kv_fail(err, KV_EUNSUPPORTED, "%s: tensor '%.100s' has dtype %.20s; F32, F16 and BF16 are read", s->file,
                   t->name, dtype);
}

static int parse_shape(const kv_safetensors *s, kv_st_tensor *t, const cJSON *shape, uint64_t *count, kv_error *err) {
    *count = 1;
    for (const cJSON *c = shape->child; c; c = c->next) {
        uint64_t d;
        if (t->n_dims == 4)
            return kv_fail(err, KV_EUNSUPPORTED, "%s: tensor '%.100s' has more than 4 dimensions", s->file, t->name);
        if (!whole(c, &d) || (d != 0 && *count > (uint64_t)MAX_EXACT / d))
            return kv_fail(err, KV_EFORMAT, "%s: tensor '%.100s' has an impossible shape", s->file, t->name);
        t->dims[t->n_dims++] = (int64_t)d;
        *count *= d;
    }
    for (int i = t->n_dims; i < 4; i++) t->dims[i] = 1;
    return KV_OK;
}

static int parse_entry(kv_safetensors *s, const cJSON *entry, const uint8_t *data, size_t size, kv_st_tensor *t,
                       extent *e, kv_error *err) {
    const cJSON *m[3];
    uint64_t count;
    t->name = entry->string;
    if (t->name[0] == 0) return kv_fail(err, KV_EFORMAT, "%s: a tensor has no name", s->file);
    if (!entry_members(entry, m))
        return kv_fail(err, KV_EFORMAT, "%s: tensor '%.100s' needs one dtype, one shape and one data_offsets", s->file,
                       t->name);
    int rc = parse_dtype(s, t, m[0]->valuestring, err);
    if (rc == KV_OK) rc = parse_shape(s, t, m[1], &count, err);
    if (rc != KV_OK) return rc;
    if (cJSON_GetArraySize(m[2]) != 2 || !whole(m[2]->child, &e->begin) || !whole(m[2]->child->next, &e->end) ||
        e->begin > e->end || e->end > size)
        return kv_fail(err, KV_EFORMAT, "%s: tensor '%.100s' lies outside the file's %zu data bytes: truncated?",
                       s->file, t->name, size);
    uint64_t bytes = count * kv_dtype_block_bytes(t->type);
    if (e->end - e->begin != bytes)
        return kv_fail(err, KV_EFORMAT, "%s: tensor '%.100s' has %llu bytes, its shape and dtype need %llu", s->file,
                       t->name, (unsigned long long)(e->end - e->begin), (unsigned long long)bytes);
    e->name = t->name;
    t->data = data + e->begin;
    t->bytes = (size_t)bytes;
    return KV_OK;
}

static int check_tiling(const kv_safetensors *s, extent *e, size_t size, kv_error *err) {
    uint64_t at = 0;
    qsort(e, s->n, sizeof *e, compare_extents);
    for (size_t i = 0; i < s->n; i++) {
        if (e[i].begin < at)
            return kv_fail(err, KV_EFORMAT, "%s: tensors '%.100s' and '%.100s' overlap", s->file, e[i - 1].name,
                           e[i].name);
        if (e[i].begin > at)
            return kv_fail(err, KV_EFORMAT, "%s: unused bytes before tensor '%.100s'", s->file, e[i].name);
        at = e[i].end;
    }
    if (at != size)
        return kv_fail(err, KV_EFORMAT, "%s: %llu bytes behind the last tensor", s->file,
                       (unsigned long long)(size - at));
    return KV_OK;
}

static int parse(kv_safetensors *s, const uint8_t *p, size_t size, kv_error *err) {
    uint64_t header;
    if (size < sizeof header) return kv_fail(err, KV_EFORMAT, "%s: too short for a safetensors file", s->file);
    memcpy(&header, p, sizeof header);
    size -= sizeof header;
    p += sizeof header;
    if (header > size)
        return kv_fail(err, KV_EFORMAT,
                       "%s: header of %llu bytes is longer than the file: truncated, or no safetensors", s->file,
                       (unsigned long long)header);
    if (header > MAX_HEADER)
        return kv_fail(err, KV_ELIMIT, "%s: header of %llu bytes, at most %d are read", s->file,
                       (unsigned long long)header, MAX_HEADER);
    int rc = kv_json_parse((const char *)p, (size_t)header, s->file, &s->header, err);
    if (rc != KV_OK) return rc;
    p += header;
    size -= (size_t)header;
    size_t slots = 1;
    for (const cJSON *c = s->header->child; c; c = c->next) slots++;
    s->tensors = calloc(slots, sizeof *s->tensors);
    extent *extents = calloc(slots, sizeof *extents);
    if (!s->tensors || !extents) rc = kv_fail(err, KV_ENOMEM, "%s: no memory for %zu tensors", s->file, slots);
    for (const cJSON *c = s->header->child; rc == KV_OK && c; c = c->next) {
        if (strcmp(c->string, "__metadata__") == 0) continue;
        rc = parse_entry(s, c, p, size, &s->tensors[s->n], &extents[s->n], err);
        s->n++;
    }
    if (rc == KV_OK) rc = check_tiling(s, extents, size, err);
    free(extents);
    if (rc != KV_OK) return rc;
    const char *twice = kv_st_sort(s->tensors, s->n);
    return twice ? kv_fail(err, KV_EFORMAT, "%s: tensor '%.100s' occurs twice", s->file, twice) : KV_OK;
}

int kv_safetensors_open_memory(const void *data, size_t size, const char *name, kv_safetensors **out, kv_error *err) {
    *out = NULL;
    kv_safetensors *s = calloc(1, sizeof *s);
    if (!s || !(s->file = strdup(name))) {
        free(s);
        return kv_fail(err, KV_ENOMEM, "%s: no memory", name);
    }
    int rc = parse(s, data, size, err);
    if (rc != KV_OK) {
        kv_safetensors_close(s);
        return rc;
    }
    *out = s;
    return KV_OK;
}

int kv_safetensors_open(const char *path, kv_safetensors **out, kv_error *err) {
    kv_map map = {0};
    *out = NULL;
    int rc = kv_map_open(path, &map, err);
    if (rc == KV_OK) rc = kv_safetensors_open_memory(map.data, map.size, path, out, err);
    if (rc == KV_OK) {
        (*out)->map = map;
    } else {
        kv_map_close(&map);
    }
    return rc;
}

void kv_safetensors_close(kv_safetensors *s) {
    if (!s) return;
    cJSON_Delete(s->header);
    free(s->tensors);
    free(s->file);
    kv_map_close(&s->map);
    free(s);
}

const kv_map *kv_safetensors_map(const kv_safetensors *s) {
    return &s->map;
}

size_t kv_safetensors_n(const kv_safetensors *s) {
    return s->n;
}

const kv_st_tensor *kv_safetensors_at(const kv_safetensors *s, size_t i) {
    return i < s->n ? &s->tensors[i] : NULL;
}

const char *kv_st_sort(kv_st_tensor *tensors, size_t n) {
    qsort(tensors, n, sizeof *tensors, compare_names);
    for (size_t i = 1; i < n; i++) {
        if (compare_names(&tensors[i - 1], &tensors[i]) == 0) return tensors[i].name;
    }
    return NULL;
}

const kv_st_tensor *kv_st_find(const kv_st_tensor *tensors, size_t n, const char *name) {
    kv_st_tensor wanted = {.name = name};
    return n == 0 ? NULL : bsearch(&wanted, tensors, n, sizeof *tensors, compare_names);
}

const kv_st_tensor *kv_safetensors_find(const kv_safetensors *s, const char *name) {
    return kv_st_find(s->tensors, s->n, name);
}

static void show_shape(int n_dims, const int64_t *dims, char out[96]) {
    int n = snprintf(out, 96, "(");
    for (int i = 0; i < n_dims; i++) n += snprintf(out + n, 96 - (size_t)n, i ? ", %lld" : "%lld", (long long)dims[i]);
    snprintf(out + n, 96 - (size_t)n, ")");
}

int kv_st_expect(const kv_st_tensor *tensors, size_t n, const char *file, const char *name, int n_dims,
                 const int64_t *dims, const kv_st_tensor **out, kv_error *err) {
    const kv_st_tensor *t = kv_st_find(tensors, n, name);
    if (!t) return kv_fail(err, KV_ENOTFOUND, "%s: no tensor '%.100s'", file, name);
    if (t->n_dims != n_dims || memcmp(t->dims, dims, (size_t)n_dims * sizeof *dims) != 0) {
        char found[96], wanted[96];
        show_shape(t->n_dims, t->dims, found);
        show_shape(n_dims, dims, wanted);
        return kv_fail(err, KV_EFORMAT, "%s: tensor '%.100s' has shape %s, %s expected", file, name, found, wanted);
    }
    *out = t;
    return KV_OK;
}

int kv_safetensors_expect(const kv_safetensors *s, const char *name, int n_dims, const int64_t *dims,
                          const kv_st_tensor **out, kv_error *err) {
    return kv_st_expect(s->tensors, s->n, s->file, name, n_dims, dims, out, err);
}
