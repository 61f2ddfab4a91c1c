/* pth.c - the zip container of torch.save (PyTorch 1.6 and later): <folder>/data.pkl describes the tensors,
 * <folder>/data/<key> are their storages, <folder>/byteorder names the byte order; all stored, not compressed.
 *
 * libzip reads the archive and checks the sum of each entry.  Storages are copied, each once; together they may not
 * be longer than the file, so entries that overlap cannot multiply it. */
#include "engine/pth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zip.h>

#include "engine/file.h"
#include "engine/pickle.h"

static const char index_name[] = "/data.pkl";

struct kv_pth {
    char *file;
    zip_t *zip;               /* only while it is read */
    size_t n_entries, budget; /* budget: bytes that may still be copied */
    uint8_t **entries;        /* (n_entries) what was read of them, or NULL */
    size_t *sizes;            /* (n_entries) */
    char *folder;
    kv_pickle *pickle; /* owns the names */
    kv_st_tensor *tensors;
    size_t n;
};

static int open_zip(kv_pth *p, const void *data, size_t size, kv_error *err) {
    zip_error_t e;
    if (size < 4 || memcmp(data, "PK\3\4", 4) != 0)
        return kv_fail(err, KV_EFORMAT, "%s: no zip archive; what torch before 1.6 wrote must be saved again", p->file);
    zip_error_init(&e);
    zip_source_t *source = zip_source_buffer_create(data, size, 0, &e);
    if (source) p->zip = zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &e);
    if (!p->zip) {
        zip_source_free(source);
        int rc = zip_error_code_zip(&e) == ZIP_ER_MEMORY ? KV_ENOMEM : KV_EFORMAT;
        kv_fail(err, rc, "%s: damaged zip archive (%s): truncated?", p->file, zip_error_strerror(&e));
        zip_error_fini(&e);
        return rc;
    }
    zip_error_fini(&e);
    p->n_entries = (size_t)zip_get_num_entries(p->zip, 0);
    p->budget = size;
    p->entries = calloc(p->n_entries + 1, sizeof *p->entries);
    p->sizes = calloc(p->n_entries + 1, sizeof *p->sizes);
    if (!p->entries || !p->sizes) return kv_fail(err, KV_ENOMEM, "%s: no memory for its index", p->file);
    return KV_OK;
}

/* The folder's name from its only data.pkl. */
static int find_index(kv_pth *p, size_t *at, kv_error *err) {
    for (size_t i = 0; i < p->n_entries; i++) {
        const char *name = zip_get_name(p->zip, i, 0), *slash = name ? strchr(name, '/') : NULL;
        if (!slash || strcmp(slash, index_name) != 0) continue;
        if (p->folder) return kv_fail(err, KV_EFORMAT, "%s: more than one data.pkl", p->file);
        p->folder = strndup(name, (size_t)(slash - name));
        if (!p->folder) return kv_fail(err, KV_ENOMEM, "%s: no memory", p->file);
        *at = i;
    }
    if (!p->folder) return kv_fail(err, KV_EFORMAT, "%s: no data.pkl in it: not a file of torch.save?", p->file);
    return KV_OK;
}

static int read_fully(kv_pth *p, size_t i, const char *name, uint8_t *to, size_t size, kv_error *err) {
    zip_file_t *f = zip_fopen_index(p->zip, i, 0);
    if (!f)
        return kv_fail(err, KV_EFORMAT, "%s: entry '%.100s': %s", p->file, name,
                       zip_error_strerror(zip_get_error(p->zip)));
    size_t done = 0;
    zip_int64_t got = 1;
    /* One byte more than there is: the sum is compared at the end. */
    while (got > 0 && done <= size) {
        got = zip_fread(f, to + done, size + 1 - done);
        if (got > 0) done += (size_t)got;
    }
    int rc = KV_OK;
    if (got < 0) {
        rc = kv_fail(err, KV_EFORMAT, "%s: entry '%.100s': %s", p->file, name,
                     zip_error_strerror(zip_file_get_error(f)));
    } else if (done != size) {
        rc = kv_fail(err, KV_EFORMAT, "%s: entry '%.100s' has not the %zu bytes it should", p->file, name, size);
    }
    zip_fclose(f);
    return rc;
}

/* Entry i in p->entries and p->sizes; once. */
static int read_entry(kv_pth *p, size_t i, kv_error *err) {
    zip_stat_t st;
    if (p->entries[i]) return KV_OK;
    if (zip_stat_index(p->zip, i, 0, &st) != 0 || !(st.valid & ZIP_STAT_NAME) || !(st.valid & ZIP_STAT_SIZE))
        return kv_fail(err, KV_EFORMAT, "%s: entry %zu has no name or size", p->file, i);
    if (st.comp_method != ZIP_CM_STORE || st.encryption_method != ZIP_EM_NONE)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: entry '%.100s' is compressed or encrypted; torch.save does neither",
                       p->file, st.name);
    if (st.size > p->budget)
        return kv_fail(err, KV_EFORMAT, "%s: entry '%.100s' claims %llu bytes, more than the file has left", p->file,
                       st.name, (unsigned long long)st.size);
    p->budget -= (size_t)st.size;
    p->sizes[i] = (size_t)st.size;
    p->entries[i] = malloc((size_t)st.size + 1);
    if (!p->entries[i]) return kv_fail(err, KV_ENOMEM, "%s: no memory for entry '%.100s'", p->file, st.name);
    return read_fully(p, i, st.name, p->entries[i], p->sizes[i], err);
}

/* Reads <folder>/<leaf>; *at stays -1 when there is none. */
static int read_named(kv_pth *p, const char *leaf, zip_int64_t *at, kv_error *err) {
    char name[1024];
    *at = -1;
    if (snprintf(name, sizeof name, "%s/%s", p->folder, leaf) < (int)sizeof name)
        *at = zip_name_locate(p->zip, name, 0);
    return *at < 0 ? KV_OK : read_entry(p, (size_t)*at, err);
}

static int check_byte_order(kv_pth *p, kv_error *err) {
    static const char little[] = "little";
    zip_int64_t at;
    int rc = read_named(p, "byteorder", &at, err);
    if (rc != KV_OK || at < 0) return rc; /* absent before torch 2.1, which wrote little-endian numbers */
    if (p->sizes[at] != sizeof little - 1 || memcmp(p->entries[at], little, sizeof little - 1) != 0)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: its byte order is not little-endian", p->file);
    return KV_OK;
}

/* Elements of t, at most n_stored; -1 when its strides are not those of an array without gaps or it has too many. */
static int64_t contiguous(const kv_pickle_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->n_dims; i++) {
        if (t->dims[i] == 0) return 0;
    }
    for (int i = t->n_dims - 1; i >= 0; i--) {
        if (t->dims[i] != 1 && t->strides[i] != n) return -1;
        if (t->dims[i] > t->n_stored / n) return -1;
        n *= t->dims[i];
    }
    return n;
}

static int bind(kv_pth *p, const kv_pickle_tensor *t, kv_st_tensor *out, kv_error *err) {
    char leaf[512];
    zip_int64_t at = -1;
    if (t->type == KV_N_DTYPES)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: tensor '%.100s' has dtype %s; Float, Half and BFloat16 are read",
                       p->file, t->name, t->dtype);
    int rc = KV_OK;
    if (snprintf(leaf, sizeof leaf, "data/%s", t->storage) < (int)sizeof leaf) rc = read_named(p, leaf, &at, err);
    if (rc != KV_OK) return rc;
    if (at < 0)
        return kv_fail(err, KV_EFORMAT, "%s: tensor '%.100s': its storage data/%.60s is missing", p->file, t->name,
                       t->storage);
    size_t item = kv_dtype_block_bytes(t->type);
    if (p->sizes[at] % item != 0 || (uint64_t)t->n_stored != p->sizes[at] / item)
        return kv_fail(err, KV_EFORMAT, "%s: tensor '%.100s': its storage has %zu bytes, %lld elements of %zu expected",
                       p->file, t->name, p->sizes[at], (long long)t->n_stored, item);
    int64_t n = contiguous(t);
    if (n < 0)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "%s: tensor '%.100s' does not fit its storage of %lld elements or is not contiguous", p->file,
                       t->name, (long long)t->n_stored);
    if (t->offset > t->n_stored - n)
        return kv_fail(err, KV_EFORMAT, "%s: tensor '%.100s' begins at element %lld of %lld and has %lld", p->file,
                       t->name, (long long)t->offset, (long long)t->n_stored, (long long)n);
    *out = (kv_st_tensor){.name = t->name, .type = t->type, .n_dims = t->n_dims};
    memcpy(out->dims, t->dims, sizeof out->dims);
    out->data = p->entries[at] + (size_t)t->offset * item;
    out->bytes = (size_t)n * item;
    return KV_OK;
}

static int parse(kv_pth *p, const void *data, size_t size, kv_error *err) {
    size_t at = 0;
    int rc = open_zip(p, data, size, err);
    if (rc == KV_OK) rc = find_index(p, &at, err);
    if (rc == KV_OK) rc = read_entry(p, at, err);
    if (rc == KV_OK) rc = check_byte_order(p, err);
    if (rc == KV_OK) rc = kv_pickle_read(p->entries[at], p->sizes[at], p->file, &p->pickle, err);
    if (rc != KV_OK) return rc;
    size_t n = kv_pickle_n(p->pickle);
    p->tensors = calloc(n + 1, sizeof *p->tensors);
    if (!p->tensors) return kv_fail(err, KV_ENOMEM, "%s: no memory for %zu tensors", p->file, n);
    for (; rc == KV_OK && p->n < n; p->n++) rc = bind(p, kv_pickle_at(p->pickle, p->n), &p->tensors[p->n], err);
    if (rc != KV_OK) return rc;
    const char *twice = kv_st_sort(p->tensors, n);
    return twice ? kv_fail(err, KV_EFORMAT, "%s: tensor '%.100s' occurs twice", p->file, twice) : KV_OK;
}

int kv_pth_open_memory(const void *data, size_t size, const char *name, kv_pth **out, kv_error *err) {
    *out = NULL;
    kv_pth *p = calloc(1, sizeof *p);
    if (!p || !(p->file = strdup(name))) {
        free(p);
        return kv_fail(err, KV_ENOMEM, "%s: no memory", name);
    }
    int rc = parse(p, data, size, err);
    if (p->zip) zip_discard(p->zip);
    p->zip = NULL;
    if (rc != KV_OK) {
        kv_pth_close(p);
        return rc;
    }
    *out = p;
    return KV_OK;
}

int kv_pth_open(const char *path, kv_pth **out, kv_error *err) {
    kv_map map = {0};
    *out = NULL;
    int rc = kv_map_open(path, &map, err);
    if (rc == KV_OK) rc = kv_pth_open_memory(map.data, map.size, path, out, err);
    kv_map_close(&map);
    return rc;
}

void kv_pth_close(kv_pth *p) {
    if (!p) return;
    for (size_t i = 0; p->entries && i < p->n_entries; i++) free(p->entries[i]);
    free(p->entries);
    free(p->sizes);
    free(p->tensors);
    kv_pickle_free(p->pickle);
    free(p->folder);
    free(p->file);
    free(p);
}

size_t kv_pth_n(const kv_pth *p) {
    return p->n;
}

const kv_st_tensor *kv_pth_at(const kv_pth *p, size_t i) {
    return i < p->n ? &p->tensors[i] : NULL;
}
