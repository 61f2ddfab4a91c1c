/* path_world.h - the texts of path traversal: cities with one way out each, and the route between two of them. */
#ifndef KV_PATH_WORLD_H
#define KV_PATH_WORLD_H

#include "datasets/text.h"

typedef struct kv_path_edge {
    const char *from, *to, *by; /* borrowed */
} kv_path_edge;

/* Appends LongProc's sentence for each of the n edges, one a line, no newline at the end. */
void kv_path_write_cities(const kv_path_edge *edges, int n, kv_text *out);
/* Appends the steps from src to dst, one a line.  0 when there is no route, or src is dst. */
int kv_path_write_route(const kv_path_edge *edges, int n, const char *src, const char *dst, kv_text *out);

#endif
