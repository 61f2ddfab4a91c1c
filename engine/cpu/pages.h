/* pages.h - the allocator of cache pages: counts every byte, gives memory back to the system. */
#ifndef KV_PAGES_H
#define KV_PAGES_H

#include "engine/backend.h"

typedef struct kv_page_pool kv_page_pool;

/* Pages of one layout, entered in the books (borrowed).  The caller frees; all pages must have been returned or are
 * dropped. */
int kv_page_pool_create(const kv_page_layout *layout, kv_books *books, kv_page_pool **out, kv_error *err);
void kv_page_pool_free(kv_page_pool *p);

/* A page whose contents are of no use; NULL when the system has no memory or the books no room. */
void *kv_page_get(kv_page_pool *p);
void kv_page_put(kv_page_pool *p, void *page);
/* KV_ENOMEM when it is the books that have no room for another page. */
int kv_page_pool_check(const kv_page_pool *p, kv_error *err);

const kv_page_layout *kv_page_pool_layout(const kv_page_pool *p);
size_t kv_page_pool_bytes(const kv_page_pool *p);      /* handed out now */
size_t kv_page_pool_bytes_peak(const kv_page_pool *p); /* most handed out at once */
int64_t kv_page_pool_allocs(const kv_page_pool *p);    /* calls of kv_page_get that succeeded */

#endif
