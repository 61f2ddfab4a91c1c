/* pages.c - source `pages`: web pages and what to extract from them, as LongProc's html_to_tsv (arXiv 2501.05414) has
 * them.
 *
 * The data is a zip archive: items.jsonl first, {"page","topic","description","filter","header","gold"} a line, and the
 * pages, which several items may share.  It is read whole, so that an item is cheap and cannot fail. */
#include "datasets/jsonl.h"

#include "engine/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zip.h>

#define MAX_BYTES ((uint64_t)1 << 30) /* of all members unpacked; the largest released archive has 10 MB */

enum { PAGE, TOPIC, DESCRIPTION, FILTER, HEADER, GOLD, N_FIELDS };

typedef struct {
    char *name, *text;
    size_t size;
} member;

typedef struct {
    member *members; /* (n_members) in the archive's order */
    int n_members;
    char *(*items)[N_FIELDS]; /* (n) */
    const char **html;        /* (n) */
    int n;
} pages;

static const char *const slots[] = {"html", "topic", "description", "filter", "header", "gold", NULL};
static const char *const fields[N_FIELDS] = {"page", "topic", "description", "filter", "header", "gold"};

static void close_pages(kv_source_state *s) {
    pages *p = s->impl;
    if (!p) return;
    for (int i = 0; p->members && i < p->n_members; i++) {
        free(p->members[i].name);
        free(p->members[i].text);
    }
    for (int i = 0; p->items && i < p->n; i++)
        for (int k = 0; k < N_FIELDS; k++) free(p->items[i][k]);
    free(p->members);
    free(p->items);
    free(p->html);
    free(p);
    s->impl = NULL;
}

static int read_member(zip_t *zip, int i, uint64_t *left, member *m, const char *path, kv_error *err) {
    zip_stat_t st;
    if (zip_stat_index(zip, (zip_uint64_t)i, 0, &st) || !(st.valid & ZIP_STAT_SIZE) || !(st.valid & ZIP_STAT_NAME))
        return kv_fail(err, KV_EFORMAT, "%s: entry %d: %s", path, i, zip_strerror(zip));
    if (st.size > *left)
        return kv_fail(err, KV_ELIMIT, "%s: larger than %llu bytes unpacked", path, (unsigned long long)MAX_BYTES);
    *left -= st.size;
    m->size = (size_t)st.size;
    m->name = strdup(st.name);
    m->text = malloc(m->size + 1);
    if (!m->name || !m->text) return kv_fail(err, KV_ENOMEM, "no memory for %s in %s", st.name, path);
    zip_file_t *f = zip_fopen_index(zip, (zip_uint64_t)i, 0);
    zip_int64_t got = f ? zip_fread(f, m->text, m->size) : -1;
    char past; /* the sum is checked at the end of the entry */
    int whole = got == (zip_int64_t)m->size && zip_fread(f, &past, 1) == 0;
    if (f) zip_fclose(f);
    m->text[whole ? m->size : 0] = 0;
    if (!whole || strlen(m->text) != m->size)
        return kv_fail(err, KV_EFORMAT, "%s: %s is damaged or no text", path, st.name);
    return KV_OK;
}

static int read_members(zip_t *zip, pages *p, const char *path, kv_error *err) {
    zip_int64_t n = zip_get_num_entries(zip, 0);
    uint64_t left = MAX_BYTES;
    if (n < 1 || n > 100000) return kv_fail(err, KV_EFORMAT, "%s: %lld entries", path, (long long)n);
    p->members = calloc((size_t)n, sizeof *p->members);
    if (!p->members) return kv_fail(err, KV_ENOMEM, "no memory for %s", path);
    p->n_members = (int)n;
    for (int i = 0; i < p->n_members; i++) {
        int rc = read_member(zip, i, &left, &p->members[i], path, err);
        if (rc) return rc;
    }
    return strcmp(p->members[0].name, "items.jsonl")
               ? kv_fail(err, KV_EFORMAT, "%s: its first entry is %.60s, not items.jsonl", path, p->members[0].name)
               : KV_OK;
}

/* Of names and contents, so that an archive packed by another zlib is the same data. */
static int hash_members(const pages *p, char sha256[65], kv_error *err) {
    kv_text all = {0};
    for (int i = 0; i < p->n_members; i++) {
        const member *m = &p->members[i];
        kv_text_append(&all, m->name, strlen(m->name) + 1);
        kv_text_printf(&all, "%zu", m->size);
        kv_text_append(&all, "", 1);
        kv_text_append(&all, m->text, m->size);
    }
    int rc = all.failed ? kv_fail(err, KV_ENOMEM, "no memory to hash the pages") : KV_OK;
    if (!rc) kv_sha256_bytes(all.s, all.n, sha256);
    kv_text_free(&all);
    return rc;
}

static int add_item(void *user, int i, const cJSON *row, const char *where, kv_error *err) {
    pages *p = user;
    for (int k = 0; k < N_FIELDS; k++) {
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, fields[k]));
        if (!s) return kv_fail(err, KV_EFORMAT, "%s: expected a string '%s'", where, fields[k]);
        p->items[i][k] = strdup(s);
        if (!p->items[i][k]) return kv_fail(err, KV_ENOMEM, "%s: no memory for the item", where);
    }
    for (int m = 1; m < p->n_members; m++)
        if (!strcmp(p->members[m].name, p->items[i][PAGE])) p->html[i] = p->members[m].text;
    return p->html[i] ? KV_OK : kv_fail(err, KV_EFORMAT, "%s: there is no page '%.80s'", where, p->items[i][PAGE]);
}

static int read_archive(const kv_source_args *a, pages *p, char sha256[65], kv_error *err) {
    char path[1024], within[1100];
    int code = 0, rc = kv_data_path(a, path, sizeof path, err);
    if (rc) return rc;
    zip_t *zip = zip_open(path, ZIP_RDONLY | ZIP_CHECKCONS, &code);
    if (!zip && code == ZIP_ER_NOENT) return kv_fail(err, KV_ENOTFOUND, "%s: no such file", path);
    if (!zip) return kv_fail(err, KV_EFORMAT, "%s: no zip archive, or a damaged one (libzip error %d)", path, code);
    rc = read_members(zip, p, path, err);
    zip_discard(zip);
    if (!rc) rc = hash_members(p, sha256, err);
    if (rc) return rc;
    snprintf(within, sizeof within, "%s: items.jsonl", path);
    return kv_jsonl_parse(a, within, p->members[0].text, p->members[0].size, add_item, p, err);
}

static int open_pages(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    pages *p = calloc(1, sizeof *p);
    out->impl = p;
    out->n_items = a->file->items;
    out->slots = slots;
    if (p) {
        p->n = a->file->items;
        p->items = calloc((size_t)p->n, sizeof *p->items);
        p->html = calloc((size_t)p->n, sizeof *p->html);
    }
    if (!p || !p->items || !p->html) return kv_fail(err, KV_ENOMEM, "no memory for %d items", a->file->items);
    return read_archive(a, p, out->sha256, err);
}

static void page_item(const kv_source_state *s, int i, kv_text *values, void **data) {
    const pages *p = s->impl;
    kv_text_puts(&values[0], p->html[i]);
    for (int k = TOPIC; k < N_FIELDS; k++) kv_text_puts(&values[k], p->items[i][k]);
    *data = NULL;
}

static const char *const no_params[] = {NULL};

const kv_source kv_source_pages = {
    .name = "pages", .params = no_params, .reads_data = 1, .open = open_pages, .item = page_item, .close = close_pages};
