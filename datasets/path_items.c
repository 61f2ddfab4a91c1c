/* path_items.c - source `path`: LongProc's path traversal (arXiv 2501.05414) from its connections.
 *
 * A line of data holds the connections in the order of the prompt, each [from, to, by], and the two ends of the
 * route.  The sentences of the prompt and the route itself follow from them. */
#include "datasets/jsonl.h"
#include "datasets/path_world.h"

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

/* The row's connections, in *out (malloc'd); their number, 0 when a row is not of the expected form. */
static int read_edges(const cJSON *edges, kv_path_edge **out) {
    const cJSON *e;
    int n = 0;
    *out = cJSON_IsArray(edges) ? calloc((size_t)cJSON_GetArraySize(edges) + 1, sizeof **out) : NULL;
    if (!*out) return 0;
    cJSON_ArrayForEach(e, edges) {
        const char *text[3];
        for (int k = 0; k < 3; k++) {
            text[k] = cJSON_GetStringValue(cJSON_GetArrayItem(e, k));
            if (cJSON_GetArraySize(e) != 3 || !text[k] || !*text[k]) return 0;
        }
        (*out)[n++] = (kv_path_edge){text[0], text[1], text[2]};
    }
    return n;
}

/* Fills the two texts; they stay the caller's to free. */
static int write_world(const cJSON *row, world *w, kv_text *cities, kv_text *route, const char *where, kv_error *err) {
    const char *src = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "src"));
    const char *dst = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "dst"));
    kv_path_edge *edges;
    int n = read_edges(cJSON_GetObjectItemCaseSensitive(row, "edges"), &edges);
    int ok = n > 0 && src && dst;
    if (ok) kv_path_write_cities(edges, n, cities);
    int found = ok && kv_path_write_route(edges, n, src, dst, route);
    free(edges);
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
