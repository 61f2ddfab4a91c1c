/* grade_rows.c - reads outputs and finds their items; see grade_rows.h. */
#include "bench/grade_rows.h"

#include "bench/stop_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name; /* owned by the task */
    int i;
} named;

struct kv_grade_rows {
    FILE *file;
    const char *path, *spec;
    kv_task_options options;
    kv_task *grader; /* without items */
    kv_task *task;   /* with items; NULL until a line has an id */
    kv_item *items;  /* (n_items) without prompts; made when first asked for */
    named *names;    /* (n_names) published ids, sorted */
    int n_items, n_names;
    int64_t line;
    char *text; /* of getline */
    size_t cap;
};

int kv_grade_rows_open(const char *path, const char *task, const kv_task_options *o, kv_grade_rows **out,
                       kv_error *err) {
    kv_grade_rows *g = *out = calloc(1, sizeof *g);
    if (!g) return kv_fail(err, KV_ENOMEM, "out of memory");
    g->path = path;
    g->spec = task;
    g->options = *o;
    kv_task_options without = *o;
    without.no_items = 1;
    int rc = kv_task_open(task, &without, &g->grader, err);
    if (rc) return rc;
    g->file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    return g->file ? KV_OK : kv_fail(err, KV_ENOTFOUND, "%.400s: %s", path, strerror(errno));
}

void kv_grade_rows_close(kv_grade_rows *g) {
    if (!g) return;
    if (g->file && g->file != stdin) fclose(g->file);
    for (int i = 0; g->items && i < g->n_items; i++) kv_item_free(&g->items[i]);
    free(g->items);
    free(g->names);
    free(g->text);
    kv_task_close(g->task);
    kv_task_close(g->grader);
    free(g);
}

const kv_task *kv_grade_rows_task(const kv_grade_rows *g) {
    return g->task ? g->task : g->grader;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const named *)a)->name, ((const named *)b)->name);
}

static int open_items(kv_grade_rows *g, kv_error *err) {
    if (g->task) return KV_OK;
    kv_error why = {0};
    int rc = kv_task_open(g->spec, &g->options, &g->task, &why);
    if (rc)
        return kv_fail(err, rc, "%.100s:%lld: an 'id' needs the task's items, an 'answer' does not: %.360s", g->path,
                       (long long)g->line, why.text);
    g->n_items = kv_task_get_info(g->task)->n_items;
    g->items = calloc((size_t)g->n_items + 1, sizeof *g->items);
    g->names = calloc((size_t)g->n_items + 1, sizeof *g->names);
    if (!g->items || !g->names) return kv_fail(err, KV_ENOMEM, "out of memory for %d items", g->n_items);
    for (int i = 0; i < g->n_items; i++) {
        const char *name = kv_task_item_name(g->task, i);
        if (name) g->names[g->n_names++] = (named){name, i};
    }
    qsort(g->names, (size_t)g->n_names, sizeof *g->names, by_name);
    return KV_OK;
}

/* The item's number; -1 when nothing is called that. */
static int find_item(const kv_grade_rows *g, const char *id) {
    const named key = {id, 0}, *found = bsearch(&key, g->names, (size_t)g->n_names, sizeof key, by_name);
    if (found) return found->i;
    size_t n = strspn(id, "0123456789");
    if (!n || n > 9 || (id[n] && id[n] != ':')) return -1;
    int i = atoi(id);
    return i < g->n_items ? i : -1;
}

/* The task's item, without its prompt. */
static int get_item(kv_grade_rows *g, kv_grade_row *r, kv_error *err) {
    int rc = open_items(g, err);
    if (rc) return rc;
    int i = find_item(g, r->id);
    kv_item *it = i < 0 ? NULL : &g->items[i];
    if (it && !it->gold) {
        if ((rc = kv_task_item(g->task, i, it, err))) return rc;
        free(it->prompt);
        it->prompt = NULL;
    }
    if (!it || (strchr(r->id, ':') && strcmp(r->id, it->id)))
        return kv_fail(&r->problem, KV_EFORMAT, "%.300s:%lld: task %s has no item '%s'; there are 0..%d", g->path,
                       (long long)r->line, kv_task_get_info(g->task)->name, r->id, g->n_items - 1),
               KV_OK;
    snprintf(r->id, sizeof r->id, "%s", it->id);
    r->item = it;
    return KV_OK;
}

static void read_id(const cJSON *id, kv_grade_row *r) {
    if (cJSON_IsString(id)) snprintf(r->id, sizeof r->id, "%s", id->valuestring);
    if (cJSON_IsNumber(id)) snprintf(r->id, sizeof r->id, "%.15g", id->valuedouble);
}

/* A zero character would end the output there: \u0000 becomes a blank. */
static void blank_zeros(char *text) {
    for (char *p = text; (p = strstr(p, "\\u0000")); p += 6) {
        size_t before = 0;
        while (p - before > text && p[-(ptrdiff_t)before - 1] == '\\') before++;
        if (before % 2 == 0) p[4] = '2';
    }
}

/* Fills *r from one line; r->problem when it is of no use. */
static int read_row(kv_grade_rows *g, const char *text, size_t size, kv_grade_row *r, kv_error *err) {
    char where[340];
    const char *end = text;
    snprintf(where, sizeof where, "%.300s:%lld", g->path, (long long)r->line);
    r->json = cJSON_ParseWithLengthOpts(text, size + 1, &end, 1);
    if (strlen(text) != size || !cJSON_IsObject(r->json))
        return kv_fail(&r->problem, KV_EFORMAT, "%s: not a JSON object (near byte %zu of the line)", where,
                       (size_t)(end - text)),
               KV_OK;
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(r->json, "id");
    char *output = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(r->json, "output"));
    int own = cJSON_HasObjectItem(r->json, "answer") || cJSON_HasObjectItem(r->json, "answers"), rc = KV_OK;
    read_id(id, r);
    if (!output) {
        kv_fail(&r->problem, KV_EFORMAT, "%s: the field 'output' is missing or no string", where);
    } else if (own) {
        rc = kv_task_own_item(g->grader, r->json, where, &r->own, &r->problem);
        r->item = &r->own;
        if (rc == KV_EFORMAT) rc = KV_OK;
        if (rc) *err = r->problem;
    } else if (r->id[0]) {
        rc = get_item(g, r, err);
    } else {
        kv_fail(&r->problem, KV_EFORMAT, "%s: neither an 'id' nor an 'answer'", where);
    }
    if (rc || r->problem.code) return rc;
    kv_stop_cut(output, kv_task_get_info(g->grader)->stop); /* as `run` and the harnesses do before they grade */
    r->output = output;
    return KV_OK;
}

int kv_grade_rows_read(kv_grade_rows *g, kv_grade_row *rows, size_t max, size_t *n, kv_error *err) {
    ssize_t size;
    for (*n = 0; *n < max && (size = getline(&g->text, &g->cap, g->file)) >= 0;) {
        g->line++;
        while (size && strchr(" \t\r\n", g->text[size - 1])) g->text[--size] = 0;
        if (!size) continue;
        blank_zeros(g->text);
        kv_grade_row *r = &rows[(*n)++];
        memset(r, 0, sizeof *r);
        r->line = g->line;
        int rc = read_row(g, g->text, (size_t)size, r, err);
        if (rc) return rc;
    }
    return ferror(g->file) ? kv_fail(err, KV_EIO, "%.400s: reading failed: %s", g->path, strerror(errno)) : KV_OK;
}

void kv_grade_row_free(kv_grade_row *r) {
    cJSON_Delete(r->json);
    kv_item_free(&r->own);
    r->json = NULL;
}
