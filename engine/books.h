/* books.h - what an engine holds in memory, by use, and the most it may hold.
 *
 * Every backend enters what it takes and gives back, so that a prediction can be compared with what was really taken,
 * and a limit can stand for a smaller machine. */
#ifndef KV_BOOKS_H
#define KV_BOOKS_H

#include <stddef.h>

#include "engine/kv.h"

typedef enum kv_use { KV_USE_WEIGHTS, KV_USE_CACHE, KV_USE_WORKSPACE, KV_USE_GRAPHS, KV_N_USES } kv_use;

typedef struct kv_books {
    size_t used[KV_N_USES], total, peak; /* peak: most of total */
    size_t limit;                        /* of total; 0 = none */
    int64_t n_allocs;
} kv_books;

/* KV_ENOMEM when bytes more would go beyond the limit; `what` says what they are for. */
int kv_books_check(const kv_books *b, size_t bytes, const char *what, kv_error *err);
void kv_books_add(kv_books *b, kv_use use, size_t bytes);
void kv_books_remove(kv_books *b, kv_use use, size_t bytes);
/* Bytes left below the limit; SIZE_MAX without one. */
size_t kv_books_room(const kv_books *b);

#endif
