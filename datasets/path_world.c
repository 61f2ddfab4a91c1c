/* path_world.c - the sentences and routes of path traversal; see path_world.h. */
#include "datasets/path_world.h"

#include <string.h>

void kv_path_write_cities(const kv_path_edge *edges, int n, kv_text *out) {
    for (int i = 0; i < n; i++) {
        if (i) kv_text_puts(out, "\n");
        kv_text_puts(out, edges[i].from);
        kv_text_puts(out, " is a lively city. You can travel from ");
        kv_text_puts(out, edges[i].from);
        kv_text_puts(out, " to ");
        kv_text_puts(out, edges[i].to);
        kv_text_puts(out, " by ");
        kv_text_puts(out, edges[i].by);
        kv_text_puts(out, ".");
    }
}

static const kv_path_edge *edge_from(const kv_path_edge *edges, int n, const char *city) {
    for (int i = 0; i < n; i++)
        if (!strcmp(edges[i].from, city)) return &edges[i];
    return NULL;
}

int kv_path_write_route(const kv_path_edge *edges, int n, const char *src, const char *dst, kv_text *out) {
    int left = n;
    for (const char *at = src; strcmp(at, dst); left--) {
        const kv_path_edge *e = left > 0 ? edge_from(edges, n, at) : NULL;
        if (!e) return 0;
        if (left < n) kv_text_puts(out, "\n");
        kv_text_puts(out, "From ");
        kv_text_puts(out, at);
        kv_text_puts(out, ", take a ");
        kv_text_puts(out, e->by);
        kv_text_puts(out, " to ");
        at = e->to;
        kv_text_puts(out, at);
        kv_text_puts(out, ".");
    }
    return left < n;
}
