/* path_items.c - source `path`: LongProc's path traversal (arXiv 2501.05414) from its connections.
 *
 * A line of data holds the connections in the order of the prompt, each [from, to, by], and the two ends of the
 * route.  The sentences of the prompt and the route itself follow from them. */
#include "datasets/jsonl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *cities; /* one line per connection, no newline at the end */
    char *src, *dst;
    char *route; /* one line per step */
} world;

typedef struct {
    world *worlds;
    int n;
} worlds;

static const char *const slots[] = {"cities", "src", "dst", "route", NULL};

static void close_worlds(kv_source_state *s) {
    worlds *w = s->impl;
    if (!w) return;
    for (int i = 0; w->worlds && i < w->n; i++) {
        free(w->worlds[i].cities);
        free(w->worlds[i].src);
        free(w->worlds[i].dst);
        free(w->worlds[i].route);
    }
    free(w->worlds);
    free(w);
    s->impl = NULL;
}

/* Element k of an edge, or NULL. */
static const char *edge_text(const cJSON *edge, int k) {
    return cJSON_GetStringValue(cJSON_GetArrayItem(edge, k));
}

static const cJSON *edge_from(const cJSON *edges, const char *city) {
    const cJSON *e;
    cJSON_ArrayForEach(e, edges) if (!strcmp(edge_text(e, 0), city)) return e;
    return NULL;
}

/* Appends the steps from src to dst; 0 when there is no route. */
static int write_route(const cJSON *edges, const char *src, const char *dst, kv_text *out) {
    int left = cJSON_GetArraySize(edges);
    for (const char *at = src; strcmp(at, dst); left--) {
        const cJSON *e = left > 0 ? edge_from(edges, at) : NULL;
        if (!e) return 0;
        if (out->n) kv_text_puts(out, "\n");
        kv_text_puts(out, "From ");
        kv_text_puts(out, at);
        kv_text_puts(out, ", take a ");
        kv_text_puts(out, edge_text(e, 2));
        kv_text_puts(out, " to ");
        at = edge_text(e, 1);
        kv_text_puts(out, at);
        kv_text_puts(out, ".");
    }
    return out->n > 0;
}

static int write_cities(const cJSON *edges, kv_text *out) {
    const cJSON *e;
    cJSON_ArrayForEach(e, edges) {
        const char *from = edge_text(e, 0), *to = edge_text(e, 1), *by = edge_text(e, 2);
        if (cJSON_GetArraySize(e) != 3 || !from || !to || !by || !*from || !*to || !*by) return 0;
        if (out->n) kv_text_puts(out, "\n");
        kv_text_puts(out, from);
        kv_text_puts(out, " is a lively city. You can travel from ");
        kv_text_puts(out, from);
        kv_text_puts(out, " to ");
        kv_text_puts(out, to);
        kv_text_puts(out, " by ");
        kv_text_puts(out, by);
        kv_text_puts(out, ".");
    }
    return out->n > 0;
}

/* Fills the two texts; they stay the caller's to free. */
static int write_world(const cJSON *row, world *w, kv_text *cities, kv_text *route, const char *where, kv_error *err) {
    const cJSON *edges = cJSON_GetObjectItemCaseSensitive(row, "edges");
    const char *src = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "src"));
    const char *dst = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "dst"));
    int ok = cJSON_IsArray(edges) && src && dst && write_cities(edges, cities);
    int found = ok && write_route(edges, src, dst, route);
    if (cities->failed || route->failed) return kv_fail(err, KV_ENOMEM, "%s: no memory for the item", where);
    if (!ok)
        return kv_fail(err, KV_EFORMAT, "%s: expected {\"edges\":[[from,to,by],...],\"src\":...,\"dst\":...}", where);
    if (!found) return kv_fail(err, KV_EFORMAT, "%s: there is no route from '%.60s' to '%.60s'", where, src, dst);
    w->src = strdup(src);
    w->dst = strdup(dst);
    return w->src && w->dst ? KV_OK : kv_fail(err, KV_ENOMEM, "%s: no memory for the item", where);
}

static int add_world(void *user, int i, const cJSON *row, const char *where, kv_error *err) {
    world *w = &((worlds *)user)->worlds[i];
    kv_text cities = {0}, route = {0};
    int rc = write_world(row, w, &cities, &route, where, err);
    if (!rc) rc = kv_text_take(&cities, "a list of cities", &w->cities, err);
    if (!rc) rc = kv_text_take(&route, "a route", &w->route, err);
    kv_text_free(&cities);
    kv_text_free(&route);
    return rc;
}

static int open_worlds(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    worlds *w = calloc(1, sizeof *w);
    out->impl = w;
    out->n_items = a->file->items;
    out->slots = slots;
    if (w) {
        w->n = a->file->items;
        w->worlds = calloc((size_t)w->n, sizeof *w->worlds);
    }
    if (!w || !w->worlds) return kv_fail(err, KV_ENOMEM, "no memory for %d items", a->file->items);
    return kv_jsonl_read(a, add_world, w, out->sha256, err);
}

static void world_item(const kv_source_state *s, int i, kv_text *values, void **data) {
    const world *w = &((const worlds *)s->impl)->worlds[i];
    kv_text_puts(&values[0], w->cities);
    kv_text_puts(&values[1], w->src);
    kv_text_puts(&values[2], w->dst);
    kv_text_puts(&values[3], w->route);
    *data = NULL;
}

static const char *const no_params[] = {NULL};

const kv_source kv_source_path = {.name = "path",
                                  .params = no_params,
                                  .reads_data = 1,
                                  .open = open_worlds,
                                  .item = world_item,
                                  .close = close_worlds};
