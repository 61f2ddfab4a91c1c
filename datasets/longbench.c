/* longbench.c - sources `longbench` and `longbench_v2`: the published files of LongBench, which are not part of the
 * project (scripts/get_longbench.sh fetches them).
 *
 * A v1 file holds one object a line with context, input, answers, all_classes, length (words, or characters of
 * Chinese) and _id; e = 1 takes LongBench-E's file of the set, whose items fall into groups by length.  v2 is one file
 * of questions with four choices, grouped by difficulty and length.  Texts of v2 are trimmed, as its pred.py does. */
#include "datasets/longbench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "datasets/fold.h"
#include "datasets/jsonl.h"

enum { MAX_TEXTS = 6 };

typedef struct {
    kv_longbench refs;
    char *texts[MAX_TEXTS]; /* parallel to the source's slots; the last slot, answers, is made of refs */
} item;

typedef struct {
    const char *const *fields; /* NULL-terminated: the slots that are fields of the data */
    int v2, e;
    kv_jieba *words;
    item *items; /* (n) */
    size_t n, cap;
} set;

static const char *const v1_fields[] = {"context", "input", NULL}, *const v1_slots[] = {"context", "input", "answers",
                                                                                        NULL};
static const char *const v2_fields[] = {"context", "question", "choice_A", "choice_B", "choice_C", "choice_D", NULL},
                         *const v2_slots[] = {"context",  "question", "choice_A", "choice_B",
                                              "choice_C", "choice_D", "answers",  NULL};

static void free_list(char **list, int n) {
    for (int i = 0; list && i < n; i++) free(list[i]);
    free(list);
}

static void free_refs(kv_longbench *r) {
    free_list(r->answers, r->n_answers);
    free_list(r->classes, r->n_classes);
    free(r->id);
}

static void close_set(kv_source_state *s) {
    set *d = s->impl;
    if (!d) return;
    for (size_t i = 0; i < d->n; i++) {
        free_refs(&d->items[i].refs);
        for (int k = 0; k < MAX_TEXTS; k++) free(d->items[i].texts[k]);
    }
    free(d->items);
    kv_jieba_close(d->words);
    free(d);
    s->impl = NULL;
}

/* A string, or a list of strings; null and a missing field are an empty list. */
static int read_list(const cJSON *row, const char *field, const char *where, char ***out, int *n, kv_error *err) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(row, field), *c = list;
    if (!list || cJSON_IsNull(list)) return KV_OK;
    int count = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 1;
    *out = calloc((size_t)count + 1, sizeof **out);
    if (!*out) return kv_fail(err, KV_ENOMEM, "%s: no memory for '%s'", where, field);
    for (c = cJSON_IsArray(list) ? list->child : list; *n < count; c = c->next) {
        if (!cJSON_IsString(c)) return kv_fail(err, KV_EFORMAT, "%s: field '%s' is no list of strings", where, field);
        (*out)[*n] = strdup(c->valuestring);
        if (!(*out)[*n]) return kv_fail(err, KV_ENOMEM, "%s: no memory for '%s'", where, field);
        ++*n;
    }
    return KV_OK;
}

/* Answers and classes of a row; it must have an answer. */
static int read_refs(const cJSON *row, const char *answers, const char *where, kv_longbench *r, kv_error *err) {
    int rc = read_list(row, answers, where, &r->answers, &r->n_answers, err);
    if (!rc) rc = read_list(row, "all_classes", where, &r->classes, &r->n_classes, err);
    if (!rc && !r->n_answers) rc = kv_fail(err, KV_EFORMAT, "%s: there is no '%s'", where, answers);
    return rc;
}

static char *trimmed(const char *s) {
    kv_span t = kv_unicode_trim((kv_span){s, strlen(s)});
    return strndup(t.s, t.n);
}

static int name_group(const set *d, const cJSON *row, const char *where, kv_longbench *r, kv_error *err) {
    const cJSON *length = cJSON_GetObjectItemCaseSensitive(row, "length");
    if (d->v2) {
        const char *hard = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "difficulty"));
        const char *size = cJSON_GetStringValue(length);
        if (!hard || !size) return kv_fail(err, KV_EFORMAT, "%s: difficulty or length is no string", where);
        snprintf(r->group, sizeof r->group, "%.10s/%.10s", hard, size);
    } else if (d->e) {
        if (!cJSON_IsNumber(length)) return kv_fail(err, KV_EFORMAT, "%s: length is no number", where);
        double n = length->valuedouble;
        strcpy(r->group, n < 4000 ? "0-4k" : n < 8000 ? "4-8k" : "8k+");
    }
    return KV_OK;
}

static int add_row(void *user, int i, const cJSON *row, const char *where, kv_error *err) {
    set *d = user;
    (void)i;
    if (d->n == d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 256;
        item *p = realloc(d->items, cap * sizeof *p);
        if (!p) return kv_fail(err, KV_ENOMEM, "%s: no memory for more items", where);
        d->items = p;
        d->cap = cap;
    }
    item *it = &d->items[d->n++];
    memset(it, 0, sizeof *it);
    for (int k = 0; d->fields[k]; k++) {
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, d->fields[k]));
        if (!s) return kv_fail(err, KV_EFORMAT, "%s: field '%s' is missing or no string", where, d->fields[k]);
        it->texts[k] = d->v2 ? trimmed(s) : strdup(s);
        if (!it->texts[k]) return kv_fail(err, KV_ENOMEM, "%s: no memory for the item", where);
    }
    const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "_id"));
    if (id && !(it->refs.id = strdup(id))) return kv_fail(err, KV_ENOMEM, "%s: no memory for the item", where);
    it->refs.words = d->words;
    int rc = read_refs(row, d->v2 ? "answer" : "answers", where, &it->refs, err);
    return rc ? rc : name_group(d, row, where, &it->refs, err);
}

/* Path of a file: --data's folder, or the one that the task names; e: with LongBench-E's ending. */
static int find_file(const kv_source_args *a, const char *name, int e, char *path, size_t cap, kv_error *err) {
    const char *data = a->file->data, *slash = strrchr(data, '/');
    const char *base = name ? name : slash ? slash + 1 : data, *dot = strrchr(base, '.');
    int folder = slash ? (int)(slash - data) : 0, n;
    if (a->data_dir)
        n = snprintf(path, cap, "%s/", a->data_dir);
    else
        n = snprintf(path, cap, "%s/%.*s/", a->root, folder, data);
    int stem = dot ? (int)(dot - base) : (int)strlen(base);
    if (n < (int)cap) n += snprintf(path + n, cap - (size_t)n, "%.*s%s%s", stem, base, e ? "_e" : "", base + stem);
    if (n >= (int)cap) return kv_fail(err, KV_EARG, "path too long: %.200s...", path);
    struct stat st;
    if (stat(path, &st) == 0) return KV_OK;
    return kv_fail(err, KV_ENOTFOUND,
                   "%.300s is not there: scripts/get_longbench.sh fetches it; or give the folder that holds it with "
                   "--data DIR",
                   path);
}

static int open_words(const kv_source_args *a, set *d, kv_error *err) {
    const kv_grader *g = kv_grader_find(a->variant->grader);
    char path[1024];
    if (!g || !g->needs_words) return KV_OK;
    int rc = find_file(a, "jieba.txt", 0, path, sizeof path, err);
    return rc ? rc : kv_jieba_open(path, &d->words, err);
}

static int open_set(const kv_source_args *a, int v2, kv_source_state *out, kv_error *err) {
    set *d = calloc(1, sizeof *d);
    char path[1024];
    if (!d) return kv_fail(err, KV_ENOMEM, "no memory for %s", a->file->data);
    d->fields = v2 ? v2_fields : v1_fields;
    d->v2 = v2;
    d->e = !v2 && kv_source_param(a, "e") == 1;
    out->impl = d;
    out->slots = v2 ? v2_slots : v1_slots;
    int rc = open_words(a, d, err);
    if (rc || a->no_items) return rc;
    if ((rc = find_file(a, NULL, d->e, path, sizeof path, err))) return rc;
    if ((rc = kv_json_objects(path, add_row, d, &out->n_items, out->sha256, err))) return rc;
    if (!d->e && out->n_items != a->file->items)
        return kv_fail(err, KV_EFORMAT, "%s: %d items, expected %d", path, out->n_items, a->file->items);
    return out->n_items ? KV_OK : kv_fail(err, KV_EFORMAT, "%s: no items", path);
}

static int open_v1(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    return open_set(a, 0, out, err);
}

static int open_v2(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    return open_set(a, 1, out, err);
}

static void put_answers(const kv_longbench *r, kv_text *out) {
    for (int i = 0; i < r->n_answers; i++) {
        if (i) kv_text_puts(out, " | ");
        kv_text_puts(out, r->answers[i]);
    }
}

static void make_item(const kv_source_state *s, int i, kv_text *values, void **data) {
    const set *d = s->impl;
    item *it = &d->items[i];
    int k = 0;
    for (; d->fields[k]; k++) kv_text_puts(&values[k], it->texts[k]);
    put_answers(&it->refs, &values[k]);
    *data = &it->refs;
}

static void name_item(const kv_source_state *s, int i, char *out, size_t cap) {
    const kv_longbench *r = &((const set *)s->impl)->items[i].refs;
    snprintf(out, cap, "%d%s%s", i, r->group[0] ? ":" : "", r->group);
}

static const char *name_of(const kv_source_state *s, int i) {
    return ((const set *)s->impl)->items[i].refs.id;
}

static void free_own(void *data) {
    free_refs(data);
    free(data);
}

/* A row with `answer` or `answers`, and all_classes where the metric needs them. */
static int own(const kv_source_state *s, const cJSON *row, const char *where, char **gold, void **data, kv_error *err) {
    const set *d = s->impl;
    kv_text text = {0};
    kv_longbench *r = calloc(1, sizeof *r);
    if (!r) return kv_fail(err, KV_ENOMEM, "%s: no memory for the answer", where);
    r->words = d->words;
    const char *field = cJSON_GetObjectItemCaseSensitive(row, "answers") ? "answers" : "answer";
    int rc = read_refs(row, field, where, r, err);
    if (!rc) put_answers(r, &text);
    if (!rc) rc = kv_text_take(&text, "an answer", gold, err);
    if (rc)
        free_own(r);
    else
        *data = r;
    return rc;
}

static const char *const v1_params[] = {"e", "max_prompt", NULL}, *const v2_params[] = {"max_prompt", NULL};

const kv_source kv_source_longbench = {.name = "longbench",
                                       .params = v1_params,
                                       .reads_data = 1,
                                       .data_kind = "longbench",
                                       .open = open_v1,
                                       .item = make_item,
                                       .close = close_set,
                                       .id = name_item,
                                       .name_of = name_of,
                                       .own = own,
                                       .own_free = free_own};

const kv_source kv_source_longbench_v2 = {.name = "longbench_v2",
                                          .params = v2_params,
                                          .reads_data = 1,
                                          .data_kind = "longbench",
                                          .open = open_v2,
                                          .item = make_item,
                                          .close = close_set,
                                          .id = name_item,
                                          .name_of = name_of,
                                          .own = own,
                                          .own_free = free_own};
