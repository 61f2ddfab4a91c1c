/* slab.c - memory of weight matrices on huge pages.  See slab.h. */
#include "engine/cpu/slab.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 * 1024 * 1024, SLAB = 16 * HUGE_PAGE };

struct kv_slab {
    char *data;
    size_t used, size;
    size_t users; /* allocations, and the one who holds it as the slab to fill */
};

static kv_slab *slab_create(size_t n) {
    kv_slab *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->size = n > SLAB ? (n + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE : SLAB;
    s->data = aligned_alloc(HUGE_PAGE, s->size);
    s->users = 1;
    if (!s->data) {
        free(s);
        return NULL;
    }
    /* Only a hint: without huge pages everything works, more slowly. */
    (void)madvise(s->data, s->size, MADV_HUGEPAGE);
    return s;
}

void *kv_slab_alloc(kv_slab **slab, size_t n, kv_slab **owner) {
    if (n > (size_t)-1 / 2) return NULL;
    n = (n + 63) / 64 * 64;
    if (!*slab || (*slab)->size - (*slab)->used < n) {
        kv_slab *s = slab_create(n);
        if (!s) return NULL;
        kv_slab_release(*slab);
        *slab = s;
    }
    void *p = (*slab)->data + (*slab)->used;
    (*slab)->used += n;
    (*slab)->users++;
    *owner = *slab;
    return p;
}

void kv_slab_release(kv_slab *s) {
    if (!s || --s->users) return;
    free(s->data);
    free(s);
}
