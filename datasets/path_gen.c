/* path_gen.c - source `path_gen`: new worlds for path traversal, with a route of a wanted length.
 *
 * A world has `cities` connections.  A route of min_steps..max_steps of them leads from its first city, which no
 * connection enters, to its last, which none leaves; the others start at cities beside the route and lead to any city
 * but the first, on the route or beside it, as in the released worlds.  Names are drawn without repetition from
 * data/cities.txt; above its 640 names each also comes with a word in front, "New Lille". */
#include "datasets/path_world.h"
#include "datasets/rng.h"
#include "datasets/source.h"

#include "engine/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_FILE "data/cities.txt"

static const char *const fronts[] = {"", "New ", "Old ", "North ", "South ", "East ", "West ", "Upper ", "Lower "};
static const char *const ways[] = {"bus", "train", "plane", "ferry"};
static const char *const slots[] = {"cities", "src", "dst", "route", NULL};

#define N_FRONTS (int)(sizeof fronts / sizeof *fronts)
#define N_WAYS (int)(sizeof ways / sizeof *ways)

typedef struct {
    uint64_t seed;
    int edges, min_steps, max_steps;
    char *text;   /* of the file, its newlines zero */
    char **names; /* (n_names) with every word in front; those without one point into text */
    int n_names, n_plain;
} worlds;

static void close_worlds(kv_source_state *s) {
    worlds *w = s->impl;
    if (!w) return;
    for (int i = w->n_plain; w->names && i < w->n_names; i++) free(w->names[i]);
    free(w->names);
    free(w->text);
    free(w);
    s->impl = NULL;
}

static int name_cities(worlds *w, size_t size, const char *path, kv_error *err) {
    int n = 0;
    for (size_t i = 0; i < size; i++) n += w->text[i] == '\n';
    if (n < 2 || strlen(w->text) != size || w->text[size - 1] != '\n' || n > 1000000)
        return kv_fail(err, KV_EFORMAT, "%s: expected a name a line", path);
    w->names = calloc((size_t)n * N_FRONTS, sizeof *w->names);
    if (!w->names) return kv_fail(err, KV_ENOMEM, "no memory for the names of %s", path);
    char *s = w->text;
    for (; w->n_plain < n; w->n_plain++) {
        w->names[w->n_plain] = s;
        s += strcspn(s, "\n");
        *s++ = 0;
    }
    for (w->n_names = n; w->n_names < n * N_FRONTS; w->n_names++) {
        const char *front = fronts[w->n_names / n], *name = w->names[w->n_names % n];
        char *both = malloc(strlen(front) + strlen(name) + 1);
        if (!both) return kv_fail(err, KV_ENOMEM, "no memory for the names of %s", path);
        strcat(strcpy(both, front), name);
        w->names[w->n_names] = both;
    }
    return KV_OK;
}

static int open_worlds(const kv_source_args *a, kv_source_state *out, kv_error *err) {
    char path[1024], text[200], names_sha[65];
    size_t size;
    worlds *w = calloc(1, sizeof *w);
    if (!w) return kv_fail(err, KV_ENOMEM, "no memory for path_gen");
    *w = (worlds){.seed = a->seed,
                  .edges = (int)kv_source_param(a, "cities"),
                  .min_steps = (int)kv_source_param(a, "min_steps"),
                  .max_steps = (int)kv_source_param(a, "max_steps")};
    out->impl = w;
    out->n_items = (int)kv_source_param(a, "n");
    out->slots = slots;
    if (w->min_steps > w->max_steps || w->max_steps > w->edges)
        return kv_fail(err, KV_EARG, "path_gen: needs min_steps <= max_steps <= cities, not %d, %d, %d", w->min_steps,
                       w->max_steps, w->edges);
    snprintf(path, sizeof path, "%.900s/" NAMES_FILE, a->root);
    int rc = kv_read_file(path, &w->text, &size, err);
    if (rc) return rc;
    kv_sha256_bytes(w->text, size, names_sha);
    if ((rc = name_cities(w, size, path, err))) return rc;
    if (w->edges >= w->n_names)
        return kv_fail(err, KV_EARG, "path_gen: cities=%d, but there are names for %d", w->edges, w->n_names - 1);
    snprintf(text, sizeof text, "path_gen 1 %s n=%d cities=%d min_steps=%d max_steps=%d seed=%llu", names_sha,
             out->n_items, w->edges, w->min_steps, w->max_steps, (unsigned long long)a->seed);
    kv_sha256_bytes(text, strlen(text), out->sha256);
    return KV_OK;
}

/* The first k of n numbers in random order; order has room for n. */
static void draw_order(kv_rng *rng, int *order, int n, int k) {
    for (int i = 0; i < n; i++) order[i] = i;
    for (int i = 0; i < k; i++) {
        int j = i + (int)kv_rng_below(rng, (uint64_t)(n - i)), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
}

/* City 0 is the route's first, city `steps` its last; the ones behind are beside the route. */
static void draw_world(const worlds *w, kv_rng *rng, int steps, const char **city, kv_path_edge *edges, int *order) {
    draw_order(rng, order, w->edges < w->n_plain ? w->n_plain : w->n_names, w->edges + 1);
    for (int i = 0; i <= w->edges; i++) city[i] = w->names[order[i]];
    draw_order(rng, order, w->edges, w->edges);
    for (int i = 0; i < w->edges; i++) {
        int from = order[i] < steps ? order[i] : order[i] + 1;
        int to = from < steps ? from + 1 : 1 + (int)kv_rng_below(rng, (uint64_t)w->edges);
        if (to == from) to--; /* no city leads to itself; from > steps >= 1 here */
        edges[i] = (kv_path_edge){city[from], city[to], ways[kv_rng_below(rng, (uint64_t)N_WAYS)]};
    }
}

static void world_item(const kv_source_state *s, int i, kv_text *values, void **data) {
    const worlds *w = s->impl;
    kv_rng rng = kv_rng_open(w->seed, (uint64_t)i);
    int steps = w->min_steps + (int)kv_rng_below(&rng, (uint64_t)(w->max_steps - w->min_steps + 1));
    const char **city = calloc((size_t)w->edges + 1, sizeof *city);
    kv_path_edge *edges = calloc((size_t)w->edges, sizeof *edges);
    int *order = calloc((size_t)w->n_names, sizeof *order);
    *data = NULL;
    if (city && edges && order) {
        draw_world(w, &rng, steps, city, edges, order);
        kv_path_write_cities(edges, w->edges, &values[0]);
        kv_text_puts(&values[1], city[0]);
        kv_text_puts(&values[2], city[steps]);
        kv_path_write_route(edges, w->edges, city[0], city[steps], &values[3]);
    } else {
        values[0].failed = 1;
    }
    free(city);
    free(edges);
    free(order);
}

static const char *const params[] = {"n", "cities", "min_steps", "max_steps", NULL};

const kv_source kv_source_path_gen = {
    .name = "path_gen", .params = params, .seeded = 1, .open = open_worlds, .item = world_item, .close = close_worlds};
