/* gguf.c - the GGUF container, versions 2 and 3, little endian (docs/gguf.md of ggml-org/ggml).
 *
 * The file is hostile until proven otherwise: every count is bounded by the bytes that are left before anything
 * is allocated for it, every size is computed with overflow in mind, and every tensor's extent lies inside the
 * data section without touching another's.  After a successful open no getter can leave the mapping.
 * Metadata and tensors are kept as sorted arrays: lookups are binary searches, duplicates are neighbours. */
#include "engine/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "engine/file.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are loaded as they lie in the file");

enum { T_U8, T_I8, T_U16, T_I16, T_U32, T_I32, T_F32, T_BOOL, T_STRING, T_ARRAY, T_U64, T_I64, T_F64, N_TYPES };

enum { MAX_KEY = 65535, MAX_TENSOR_NAME = 64 }; /* limits of the format */

static const uint8_t type_size[N_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
static const char *const type_name[N_TYPES] = {"uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
                                               "bool",  "string", "array",  "uint64", "int64",  "float64"};

typedef struct meta {
    const char *key; /* in the mapping, not terminated */
    size_t key_len;
    uint32_t type, elem;     /* elem: element type of an array */
    size_t n;                /* elements of an array, bytes of a string */
    const uint8_t *value;    /* first byte of the value, of a string's text, of an array's first element */
    const uint8_t **strings; /* (n) start of each element of a string array: its length, then its text */
} meta;

struct kv_gguf {
    kv_map map; /* empty when the caller owns the buffer */
    char *name;
    meta *metas; /* sorted by key */
    size_t n_metas;
    kv_gguf_tensor *tensors; /* in file order */
    size_t n_tensors;
    const kv_gguf_tensor **by_name;
};

typedef struct reader {
    const uint8_t *base;
    size_t size, pos;
} reader;

/* NULL when fewer than n bytes are left. */
static const uint8_t *take(reader *r, uint64_t n) {
    if (n > r->size - r->pos) return NULL;
    const uint8_t *p = r->base + r->pos;
    r->pos += (size_t)n;
    return p;
}

static int take_u32(reader *r, uint32_t *v) {
    const uint8_t *p = take(r, sizeof *v);
    if (p) memcpy(v, p, sizeof *v);
    return p != NULL;
}

static int take_u64(reader *r, uint64_t *v) {
    const uint8_t *p = take(r, sizeof *v);
    if (p) memcpy(v, p, sizeof *v);
    return p != NULL;
}

static const uint8_t *take_string(reader *r, size_t *len) {
    uint64_t n;
    if (!take_u64(r, &n)) return NULL;
    *len = (size_t)n;
    return take(r, n);
}

/* Names come from the file: show them printable and short. */
typedef struct shown {
    char s[80];
} shown;

static shown show(const char *p, size_t n) {
    shown out;
    size_t m = n < sizeof out.s - 4 ? n : sizeof out.s - 4;
    for (size_t i = 0; i < m; i++) out.s[i] = p[i] >= 32 && p[i] < 127 ? p[i] : '?';
    strcpy(out.s + m, m < n ? "..." : "");
    return out;
}

static int compare_keys(const char *a, size_t na, const char *b, size_t nb) {
    int c = memcmp(a, b, na < nb ? na : nb);
    return c ? c : (na > nb) - (na < nb);
}

static int compare_metas(const void *a, const void *b) {
    const meta *x = a, *y = b;
    return compare_keys(x->key, x->key_len, y->key, y->key_len);
}

static int compare_names(const void *a, const void *b) {
    const kv_gguf_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int compare_extents(const void *a, const void *b) {
    const kv_gguf_tensor *const *x = a, *const *y = b;
    const char *p = (*x)->data, *q = (*y)->data;
    return (p > q) - (p < q);
}

static int find_meta(const kv_gguf *g, const char *key, const meta **out, kv_error *err) {
    meta wanted = {.key = key, .key_len = strlen(key)};
    *out = bsearch(&wanted, g->metas, g->n_metas, sizeof *g->metas, compare_metas);
    return *out ? KV_OK : kv_fail(err, KV_ENOTFOUND, "%s: no metadata '%s'", g->name, key);
}

static int parse_array(kv_gguf *g, reader *r, meta *m, kv_error *err) {
    uint64_t n;
    shown key = show(m->key, m->key_len);
    if (!take_u32(r, &m->elem) || !take_u64(r, &n))
        return kv_fail(err, KV_EFORMAT, "%s: truncated in metadata '%s'", g->name, key.s);
    if (m->elem >= N_TYPES)
        return kv_fail(err, KV_EFORMAT, "%s: metadata '%s' is an array of unknown type %u", g->name, key.s, m->elem);
    if (m->elem == T_ARRAY)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: metadata '%s' is a nested array, which is not handled", g->name,
                       key.s);
    size_t least = m->elem == T_STRING ? sizeof(uint64_t) : type_size[m->elem];
    if (n > (r->size - r->pos) / least)
        return kv_fail(err, KV_EFORMAT, "%s: metadata '%s' claims %llu elements, more than the file holds", g->name,
                       key.s, (unsigned long long)n);
    m->n = (size_t)n;
    if (m->elem != T_STRING) {
        m->value = take(r, n * least);
        return KV_OK;
    }
    m->strings = malloc((m->n ? m->n : 1) * sizeof *m->strings);
    if (!m->strings) return kv_fail(err, KV_ENOMEM, "%s: no memory to index '%s'", g->name, key.s);
    for (size_t i = 0; i < m->n; i++) {
        size_t len;
        m->strings[i] = r->base + r->pos;
        if (!take_string(r, &len))
            return kv_fail(err, KV_EFORMAT, "%s: truncated in element %zu of metadata '%s'", g->name, i, key.s);
    }
    return KV_OK;
}

static int parse_meta(kv_gguf *g, reader *r, size_t i, meta *m, kv_error *err) {
    m->key = (const char *)take_string(r, &m->key_len);
    if (!m->key) return kv_fail(err, KV_EFORMAT, "%s: truncated in metadata entry %zu", g->name, i);
    shown key = show(m->key, m->key_len);
    if (m->key_len == 0 || m->key_len > MAX_KEY || memchr(m->key, 0, m->key_len))
        return kv_fail(err, KV_EFORMAT, "%s: metadata entry %zu has a bad key '%s'", g->name, i, key.s);
    if (!take_u32(r, &m->type)) return kv_fail(err, KV_EFORMAT, "%s: truncated in metadata '%s'", g->name, key.s);
    if (m->type >= N_TYPES)
        return kv_fail(err, KV_EFORMAT, "%s: metadata '%s' has unknown type %u", g->name, key.s, m->type);
    if (m->type == T_ARRAY) return parse_array(g, r, m, err);
    m->value = m->type == T_STRING ? take_string(r, &m->n) : take(r, type_size[m->type]);
    if (!m->value) return kv_fail(err, KV_EFORMAT, "%s: truncated in metadata '%s'", g->name, key.s);
    if (m->type == T_BOOL && *m->value > 1)
        return kv_fail(err, KV_EFORMAT, "%s: metadata '%s' is a bool of value %u", g->name, key.s, *m->value);
    return KV_OK;
}

static int parse_metas(kv_gguf *g, reader *r, uint64_t n, kv_error *err) {
    enum { LEAST = 8 + 1 + 4 + 1 }; /* length, key, type, value */
    if (n > (r->size - r->pos) / LEAST)
        return kv_fail(err, KV_EFORMAT, "%s: claims %llu metadata entries, more than the file holds", g->name,
                       (unsigned long long)n);
    g->metas = calloc(n ? (size_t)n : 1, sizeof *g->metas);
    if (!g->metas)
        return kv_fail(err, KV_ENOMEM, "%s: no memory for %llu metadata entries", g->name, (unsigned long long)n);
    for (; g->n_metas < n; g->n_metas++) {
        int rc = parse_meta(g, r, g->n_metas, &g->metas[g->n_metas], err);
        if (rc != KV_OK) {
            free(g->metas[g->n_metas].strings);
            return rc;
        }
    }
    qsort(g->metas, g->n_metas, sizeof *g->metas, compare_metas);
    for (size_t i = 1; i < g->n_metas; i++) {
        if (compare_metas(&g->metas[i - 1], &g->metas[i]) == 0)
            return kv_fail(err, KV_EFORMAT, "%s: metadata '%s' occurs twice", g->name,
                           show(g->metas[i].key, g->metas[i].key_len).s);
    }
    return KV_OK;
}

static int tensor_type(const char *file, const char *name, uint32_t id, kv_dtype *out, kv_error *err) {
    static const struct {
        uint32_t id;
        kv_dtype type;
    } known[] = {{0, KV_F32},  {1, KV_F16},   {2, KV_Q4_0},  {3, KV_Q4_1},
                 {8, KV_Q8_0}, {12, KV_Q4_K}, {14, KV_Q6_K}, {30, KV_BF16}};
    static const char *const others[] = {
        [6] = "Q5_0",   [7] = "Q5_1",     [9] = "Q8_1",    [10] = "Q2_K",    [11] = "Q3_K",  [13] = "Q5_K",
        [15] = "Q8_K",  [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S", [20] = "IQ4_NL",
        [21] = "IQ3_S", [22] = "IQ2_S",   [23] = "IQ4_XS", [24] = "I8",      [25] = "I16",   [26] = "I32",
        [27] = "I64",   [28] = "F64",     [29] = "IQ1_M",  [34] = "TQ1_0",   [35] = "TQ2_0", [39] = "MXFP4"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].id == id) {
            *out = known[i].type;
            return KV_OK;
        }
    }
    const char *label = id < sizeof others / sizeof *others && others[id] ? others[id] : "unknown";
    return kv_fail(err, KV_EUNSUPPORTED,
                   "%s: tensor '%s' has type %u (%s); use F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K or Q6_K", file, name,
                   id, label);
}

/* Multiplies the dimensions; the result is a multiple of dims[0] and fits in int64_t. */
static int count_elements(kv_gguf *g, reader *r, kv_gguf_tensor *t, uint64_t *n, kv_error *err) {
    uint32_t n_dims;
    if (!take_u32(r, &n_dims)) return kv_fail(err, KV_EFORMAT, "%s: truncated in tensor '%s'", g->name, t->name);
    if (n_dims < 1 || n_dims > 4)
        return kv_fail(err, KV_EFORMAT, "%s: tensor '%s' has %u dimensions, 1 to 4 expected", g->name, t->name, n_dims);
    t->n_dims = (int)n_dims;
    *n = 1;
    for (int i = 0; i < 4; i++) {
        uint64_t d = 1;
        if (i < t->n_dims && !take_u64(r, &d))
            return kv_fail(err, KV_EFORMAT, "%s: truncated in tensor '%s'", g->name, t->name);
        if (d == 0 || d > INT64_MAX / *n)
            return kv_fail(err, KV_EFORMAT, "%s: tensor '%s' has an impossible dimension %llu", g->name, t->name,
                           (unsigned long long)d);
        t->dims[i] = (int64_t)d;
        *n *= d;
    }
    return KV_OK;
}

/* Reads one directory entry but for t->data: *offset counts from the data section, whose start is not known yet. */
static int parse_tensor(kv_gguf *g, reader *r, kv_gguf_tensor *t, uint64_t *offset, kv_error *err) {
    size_t len;
    const char *name = (const char *)take_string(r, &len);
    if (!name) return kv_fail(err, KV_EFORMAT, "%s: truncated in tensor entry %zu", g->name, g->n_tensors);
    if (len == 0 || len > MAX_TENSOR_NAME || memchr(name, 0, len))
        return kv_fail(err, KV_EFORMAT, "%s: tensor entry %zu has a bad name '%s' (%zu bytes, 1 to %d allowed)",
                       g->name, g->n_tensors, show(name, len).s, len, MAX_TENSOR_NAME);
    t->name = strndup(name, len);
    if (!t->name) return kv_fail(err, KV_ENOMEM, "%s: no memory for a tensor name", g->name);
    uint64_t n = 0;
    uint32_t type;
    int rc = count_elements(g, r, t, &n, err);
    if (rc != KV_OK) return rc;
    if (!take_u32(r, &type) || !take_u64(r, offset))
        return kv_fail(err, KV_EFORMAT, "%s: truncated in tensor '%s'", g->name, t->name);
    rc = tensor_type(g->name, t->name, type, &t->type, err);
    if (rc != KV_OK) return rc;
    uint64_t block = (uint64_t)kv_dtype_block(t->type), bytes = kv_dtype_block_bytes(t->type);
    if ((uint64_t)t->dims[0] % block != 0)
        return kv_fail(err, KV_EFORMAT, "%s: tensor '%s' has rows of %lld, not a multiple of %s's block of %llu",
                       g->name, t->name, (long long)t->dims[0], kv_dtype_name(t->type), (unsigned long long)block);
    if (n / block > r->size / bytes)
        return kv_fail(err, KV_EFORMAT, "%s: tensor '%s' is larger than the file", g->name, t->name);
    t->bytes = (size_t)(n / block * bytes);
    return KV_OK;
}

static int read_alignment(const kv_gguf *g, uint64_t *alignment, kv_error *err) {
    int64_t a = 32;
    const meta *m;
    int rc = find_meta(g, "general.alignment", &m, NULL);
    if (rc == KV_OK) rc = kv_gguf_int(g, "general.alignment", &a, err);
    if (rc != KV_OK && rc != KV_ENOTFOUND) return rc;
    if (a < 8 || a > UINT32_MAX || (a & (a - 1)) != 0)
        return kv_fail(err, KV_EFORMAT, "%s: general.alignment is %lld, a power of two from 8 on expected", g->name,
                       (long long)a);
    *alignment = (uint64_t)a;
    return KV_OK;
}

static int place_tensor(kv_gguf *g, const reader *r, size_t start, uint64_t alignment, uint64_t offset,
                        kv_gguf_tensor *t, kv_error *err) {
    if (offset % alignment != 0)
        return kv_fail(err, KV_EFORMAT, "%s: tensor '%s' starts at %llu, not a multiple of the alignment %llu", g->name,
                       t->name, (unsigned long long)offset, (unsigned long long)alignment);
    if (start > r->size || offset > r->size - start || t->bytes > r->size - start - offset)
        return kv_fail(err, KV_EFORMAT, "%s: tensor '%s' (%zu bytes at %llu) ends beyond the file: truncated?", g->name,
                       t->name, t->bytes, (unsigned long long)offset);
    t->data = r->base + start + offset;
    return KV_OK;
}

/* Sorts twice: by extent to find overlaps, then by name to find duplicates and to search. */
static int index_tensors(kv_gguf *g, kv_error *err) {
    size_t n = g->n_tensors;
    g->by_name = malloc((n ? n : 1) * sizeof *g->by_name);
    if (!g->by_name) return kv_fail(err, KV_ENOMEM, "%s: no memory to index %zu tensors", g->name, n);
    for (size_t i = 0; i < n; i++) g->by_name[i] = &g->tensors[i];
    qsort(g->by_name, n, sizeof *g->by_name, compare_extents);
    for (size_t i = 1; i < n; i++) {
        const kv_gguf_tensor *a = g->by_name[i - 1], *b = g->by_name[i];
        if ((const char *)a->data + a->bytes > (const char *)b->data)
            return kv_fail(err, KV_EFORMAT, "%s: tensors '%s' and '%s' overlap", g->name, a->name, b->name);
    }
    qsort(g->by_name, n, sizeof *g->by_name, compare_names);
    for (size_t i = 1; i < n; i++) {
        if (compare_names(&g->by_name[i - 1], &g->by_name[i]) == 0)
            return kv_fail(err, KV_EFORMAT, "%s: tensor '%s' occurs twice", g->name, g->by_name[i]->name);
    }
    return KV_OK;
}

static int parse_tensors(kv_gguf *g, reader *r, uint64_t n, kv_error *err) {
    enum { LEAST = 8 + 1 + 4 + 8 + 4 + 8 }; /* length, name, rank, one dimension, type, offset */
    if (n > (r->size - r->pos) / LEAST)
        return kv_fail(err, KV_EFORMAT, "%s: claims %llu tensors, more than the file holds", g->name,
                       (unsigned long long)n);
    size_t slots = n ? (size_t)n : 1;
    g->tensors = calloc(slots, sizeof *g->tensors);
    uint64_t alignment = 0, *offsets = malloc(slots * sizeof *offsets);
    int rc = KV_OK;
    if (!g->tensors || !offsets)
        rc = kv_fail(err, KV_ENOMEM, "%s: no memory for %llu tensors", g->name, (unsigned long long)n);
    while (rc == KV_OK && g->n_tensors < n) {
        rc = parse_tensor(g, r, &g->tensors[g->n_tensors], &offsets[g->n_tensors], err);
        g->n_tensors++; /* counted also when it failed: close frees its name */
    }
    if (rc == KV_OK) rc = read_alignment(g, &alignment, err);
    size_t start = rc == KV_OK ? r->pos + (size_t)(-(uint64_t)r->pos & (alignment - 1)) : 0;
    for (size_t i = 0; rc == KV_OK && i < g->n_tensors; i++)
        rc = place_tensor(g, r, start, alignment, offsets[i], &g->tensors[i], err);
    free(offsets);
    return rc == KV_OK ? index_tensors(g, err) : rc;
}

static int parse(kv_gguf *g, const void *data, size_t size, kv_error *err) {
    reader r = {data, size, 0};
    const uint8_t *magic = take(&r, 4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0)
        return kv_fail(err, KV_EFORMAT, "%s: not a GGUF file (it does not begin with 'GGUF')", g->name);
    uint32_t version;
    uint64_t n_tensors, n_metas;
    if (!take_u32(&r, &version)) return kv_fail(err, KV_EFORMAT, "%s: truncated in the header", g->name);
    if (version == UINT32_C(0x02000000) || version == UINT32_C(0x03000000))
        return kv_fail(err, KV_EUNSUPPORTED, "%s: big-endian GGUF; convert it to little endian", g->name);
    if (version != 2 && version != 3)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: GGUF version %u; versions 2 and 3 are read", g->name, version);
    if (!take_u64(&r, &n_tensors) || !take_u64(&r, &n_metas))
        return kv_fail(err, KV_EFORMAT, "%s: truncated in the header", g->name);
    int rc = parse_metas(g, &r, n_metas, err);
    return rc == KV_OK ? parse_tensors(g, &r, n_tensors, err) : rc;
}

int kv_gguf_open_memory(const void *data, size_t size, const char *name, kv_gguf **out, kv_error *err) {
    *out = NULL;
    kv_gguf *g = calloc(1, sizeof *g);
    if (!g || !(g->name = strdup(name))) {
        free(g);
        return kv_fail(err, KV_ENOMEM, "%s: no memory", name);
    }
    int rc = parse(g, data, size, err);
    if (rc != KV_OK) {
        kv_gguf_close(g);
        return rc;
    }
    *out = g;
    return KV_OK;
}

int kv_gguf_open(const char *path, kv_gguf **out, kv_error *err) {
    kv_map map = {0};
    *out = NULL;
    int rc = kv_map_open(path, &map, err);
    if (rc == KV_OK) rc = kv_gguf_open_memory(map.data, map.size, path, out, err);
    if (rc == KV_OK) {
        (*out)->map = map;
    } else {
        kv_map_close(&map);
    }
    return rc;
}

void kv_gguf_close(kv_gguf *g) {
    if (!g) return;
    for (size_t i = 0; i < g->n_metas; i++) free(g->metas[i].strings);
    for (size_t i = 0; i < g->n_tensors; i++) free((char *)g->tensors[i].name);
    free(g->metas);
    free(g->tensors);
    free(g->by_name);
    free(g->name);
    kv_map_close(&g->map);
    free(g);
}

size_t kv_gguf_n_tensors(const kv_gguf *g) {
    return g->n_tensors;
}

const kv_gguf_tensor *kv_gguf_tensor_at(const kv_gguf *g, size_t i) {
    return i < g->n_tensors ? &g->tensors[i] : NULL;
}

const kv_gguf_tensor *kv_gguf_find(const kv_gguf *g, const char *name) {
    kv_gguf_tensor wanted = {.name = name};
    const kv_gguf_tensor *key = &wanted;
    const kv_gguf_tensor **hit = bsearch(&key, g->by_name, g->n_tensors, sizeof *g->by_name, compare_names);
    return hit ? *hit : NULL;
}

static int wrong_type(const kv_gguf *g, const char *key, uint32_t found, const char *wanted, kv_error *err) {
    return kv_fail(err, KV_EFORMAT, "%s: metadata '%s' is of type %s, %s expected", g->name, key, type_name[found],
                   wanted);
}

static int get_int(const kv_gguf *g, const char *key, uint32_t type, const uint8_t *p, int64_t *out, kv_error *err) {
    int is_signed = type == T_I8 || type == T_I16 || type == T_I32 || type == T_I64;
    if (!is_signed && type != T_U8 && type != T_U16 && type != T_U32 && type != T_U64)
        return wrong_type(g, key, type, "an integer", err);
    uint64_t v = 0;
    memcpy(&v, p, type_size[type]);
    if (type == T_U64 && v > INT64_MAX)
        return kv_fail(err, KV_EFORMAT, "%s: metadata '%s' is %llu, above 2^63 - 1", g->name, key,
                       (unsigned long long)v);
    int spare = is_signed ? 64 - 8 * type_size[type] : 0;
    *out = (int64_t)(v << spare) >> spare;
    return KV_OK;
}

int kv_gguf_int(const kv_gguf *g, const char *key, int64_t *out, kv_error *err) {
    const meta *m;
    int rc = find_meta(g, key, &m, err);
    return rc == KV_OK ? get_int(g, key, m->type, m->value, out, err) : rc;
}

int kv_gguf_float(const kv_gguf *g, const char *key, double *out, kv_error *err) {
    const meta *m;
    int64_t whole;
    float f;
    int rc = find_meta(g, key, &m, err);
    if (rc != KV_OK) return rc;
    if (m->type == T_F64) {
        memcpy(out, m->value, sizeof *out);
    } else if (m->type == T_F32) {
        memcpy(&f, m->value, sizeof f);
        *out = f;
    } else {
        rc = get_int(g, key, m->type, m->value, &whole, err);
        if (rc == KV_OK) *out = (double)whole;
    }
    return rc;
}

int kv_gguf_bool(const kv_gguf *g, const char *key, int *out, kv_error *err) {
    const meta *m;
    int rc = find_meta(g, key, &m, err);
    if (rc != KV_OK) return rc;
    if (m->type != T_BOOL) return wrong_type(g, key, m->type, "bool", err);
    *out = *m->value;
    return KV_OK;
}

int kv_gguf_string(const kv_gguf *g, const char *key, const char **out, size_t *len, kv_error *err) {
    const meta *m;
    int rc = find_meta(g, key, &m, err);
    if (rc != KV_OK) return rc;
    if (m->type != T_STRING) return wrong_type(g, key, m->type, "string", err);
    *out = (const char *)m->value;
    *len = m->n;
    return KV_OK;
}

int kv_gguf_array_len(const kv_gguf *g, const char *key, size_t *n, kv_error *err) {
    const meta *m;
    int rc = find_meta(g, key, &m, err);
    if (rc != KV_OK) return rc;
    if (m->type != T_ARRAY) return wrong_type(g, key, m->type, "array", err);
    *n = m->n;
    return KV_OK;
}

static int find_element(const kv_gguf *g, const char *key, size_t i, const meta **m, kv_error *err) {
    int rc = find_meta(g, key, m, err);
    if (rc != KV_OK) return rc;
    if ((*m)->type != T_ARRAY) return wrong_type(g, key, (*m)->type, "array", err);
    if (i >= (*m)->n)
        return kv_fail(err, KV_EARG, "%s: metadata '%s' has %zu elements, number %zu asked for", g->name, key, (*m)->n,
                       i);
    return KV_OK;
}

int kv_gguf_array_string(const kv_gguf *g, const char *key, size_t i, const char **out, size_t *len, kv_error *err) {
    const meta *m;
    int rc = find_element(g, key, i, &m, err);
    if (rc != KV_OK) return rc;
    if (m->elem != T_STRING) return wrong_type(g, key, m->elem, "an array of strings", err);
    uint64_t n;
    memcpy(&n, m->strings[i], sizeof n);
    *out = (const char *)m->strings[i] + sizeof n;
    *len = (size_t)n;
    return KV_OK;
}

int kv_gguf_array_int(const kv_gguf *g, const char *key, size_t i, int64_t *out, kv_error *err) {
    const meta *m;
    int rc = find_element(g, key, i, &m, err);
    if (rc != KV_OK) return rc;
    return get_int(g, key, m->elem, m->elem == T_STRING ? NULL : m->value + i * type_size[m->elem], out, err);
}
