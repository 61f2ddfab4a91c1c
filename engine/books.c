/* books.c - see books.h. */
#include "engine/books.h"

#include <stdint.h>

size_t kv_books_room(const kv_books *b) {
    if (!b->limit) return SIZE_MAX;
    return b->limit > b->total ? b->limit - b->total : 0;
}

int kv_books_check(const kv_books *b, size_t bytes, const char *what, kv_error *err) {
    if (bytes <= kv_books_room(b)) return KV_OK;
    const double mib = 1 << 20;
    return kv_fail(err, KV_ENOMEM,
                   "%.1f MiB of memory for %s: %.1f of the %.1f MiB that the engine may take are in use: use a smaller "
                   "--batch, --budget, context or model, or a larger --device-memory",
                   (double)bytes / mib, what, (double)b->total / mib, (double)b->limit / mib);
}

void kv_books_add(kv_books *b, kv_use use, size_t bytes) {
    b->used[use] += bytes;
    b->total += bytes;
    b->n_allocs++;
    if (b->total > b->peak) b->peak = b->total;
}

void kv_books_remove(kv_books *b, kv_use use, size_t bytes) {
    b->used[use] -= bytes;
    b->total -= bytes;
}
