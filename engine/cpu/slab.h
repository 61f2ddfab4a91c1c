/* slab.h - memory of weight matrices.
 *
 * Decoding reads every weight once per token, and with 4 KiB pages the address translation costs a third of the
 * bandwidth; matrices are mostly smaller than a 2 MiB page, so they share slabs that ask for huge pages. */
#ifndef KV_CPU_SLAB_H
#define KV_CPU_SLAB_H

#include <stddef.h>

typedef struct kv_slab kv_slab; /* freed with its last user */

/* n bytes, 64-byte aligned, from *slab or from a new slab that replaces it; *slab starts NULL.  *owner receives the
 * slab to give back with kv_slab_release.  NULL when out of memory. */
void *kv_slab_alloc(kv_slab **slab, size_t n, kv_slab **owner);
/* Ends one use: of an allocation, or of the caller's *slab.  NULL is allowed. */
void kv_slab_release(kv_slab *s);

#endif
