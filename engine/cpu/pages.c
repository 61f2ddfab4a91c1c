/* pages.c - slabs of cache pages.
 *
 * A slab is SLAB_BYTES of anonymous memory, aligned to its size, so that a page finds its slab by masking its
 * address.  Slabs with free pages form a doubly linked list; one whose pages are all free is unmapped (one spare is
 * kept), so a cache that shrinks gives its memory back and the process's resident size follows what the policies
 * hold.  malloc is not used: its thresholds would decide when memory returns. */
#include "engine/cpu/pages.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SLAB_BYTES = 1 << 19 };

typedef struct slab {
    struct slab *prev, *next; /* in the list of slabs with free pages */
    void *free_list;          /* first word of a free page = next free page */
    int n_free, n_fresh;      /* n_fresh pages at the end were never handed out */
    int listed;
    struct slab *all_prev, *all_next;
} slab;

struct kv_page_pool {
    kv_page_layout layout;
    size_t slab_bytes, first_offset;
    int pages_per_slab;
    slab *partial, *all;
    int n_empty;
    kv_books *books;
    size_t live, peak;
    int64_t allocs;
};

int kv_page_pool_create(const kv_page_layout *layout, kv_books *books, kv_page_pool **out, kv_error *err) {
    kv_page_pool *p = calloc(1, sizeof *p);
    if (!p) return kv_fail(err, KV_ENOMEM, "out of memory creating the cache's page pool");
    p->layout = *layout;
    p->books = books;
    p->slab_bytes = SLAB_BYTES;
    p->first_offset = (sizeof(slab) + 63) & ~(size_t)63;
    while (p->first_offset + 8 * layout->bytes > p->slab_bytes) p->slab_bytes *= 2;
    p->pages_per_slab = (int)((p->slab_bytes - p->first_offset) / layout->bytes);
    *out = p;
    return KV_OK;
}

void kv_page_pool_free(kv_page_pool *p) {
    if (!p) return;
    for (slab *s = p->all, *next; s; s = next) {
        next = s->all_next;
        munmap(s, p->slab_bytes);
    }
    kv_books_remove(p->books, KV_USE_CACHE, p->live);
    free(p);
}

static void list_add(kv_page_pool *p, slab *s) {
    s->prev = NULL;
    s->next = p->partial;
    if (p->partial) p->partial->prev = s;
    p->partial = s;
    s->listed = 1;
}

static void list_remove(kv_page_pool *p, slab *s) {
    if (s->prev)
        s->prev->next = s->next;
    else
        p->partial = s->next;
    if (s->next) s->next->prev = s->prev;
    s->listed = 0;
}

static slab *slab_map(kv_page_pool *p) {
    size_t n = p->slab_bytes;
    char *base = mmap(NULL, 2 * n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return NULL;
    char *start = (char *)(((uintptr_t)base + n - 1) & ~(uintptr_t)(n - 1));
    if (start > base) munmap(base, (size_t)(start - base));
    if (start + n < base + 2 * n) munmap(start + n, (size_t)(base + 2 * n - (start + n)));
    slab *s = (slab *)start;
    s->n_free = s->n_fresh = p->pages_per_slab;
    s->all_next = p->all;
    if (p->all) p->all->all_prev = s;
    p->all = s;
    p->n_empty++;
    list_add(p, s);
    return s;
}

static void slab_unmap(kv_page_pool *p, slab *s) {
    list_remove(p, s);
    if (s->all_prev)
        s->all_prev->all_next = s->all_next;
    else
        p->all = s->all_next;
    if (s->all_next) s->all_next->all_prev = s->all_prev;
    munmap(s, p->slab_bytes);
}

int kv_page_pool_check(const kv_page_pool *p, kv_error *err) {
    return kv_books_check(p->books, p->layout.bytes, "another page of the KV cache", err);
}

void *kv_page_get(kv_page_pool *p) {
    if (kv_page_pool_check(p, NULL)) return NULL;
    slab *s = p->partial ? p->partial : slab_map(p);
    if (!s) return NULL;
    kv_books_add(p->books, KV_USE_CACHE, p->layout.bytes);
    if (s->n_free == p->pages_per_slab) p->n_empty--;
    void *page;
    if (s->free_list) {
        page = s->free_list;
        memcpy(&s->free_list, page, sizeof(void *));
    } else {
        int i = p->pages_per_slab - s->n_fresh--;
        page = (char *)s + p->first_offset + (size_t)i * p->layout.bytes;
    }
    if (--s->n_free == 0) list_remove(p, s);
    p->live += p->layout.bytes;
    if (p->live > p->peak) p->peak = p->live;
    p->allocs++;
    return page;
}

void kv_page_put(kv_page_pool *p, void *page) {
    slab *s = (slab *)((uintptr_t)page & ~(uintptr_t)(p->slab_bytes - 1));
    memcpy(page, &s->free_list, sizeof(void *));
    s->free_list = page;
    p->live -= p->layout.bytes;
    kv_books_remove(p->books, KV_USE_CACHE, p->layout.bytes);
    if (!s->listed) list_add(p, s);
    if (++s->n_free < p->pages_per_slab) return;
    if (p->n_empty >= 1)
        slab_unmap(p, s);
    else
        p->n_empty++;
}

const kv_page_layout *kv_page_pool_layout(const kv_page_pool *p) {
    return &p->layout;
}
size_t kv_page_pool_bytes(const kv_page_pool *p) {
    return p->live;
}
size_t kv_page_pool_bytes_peak(const kv_page_pool *p) {
    return p->peak;
}
int64_t kv_page_pool_allocs(const kv_page_pool *p) {
    return p->allocs;
}
