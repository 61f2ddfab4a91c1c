/* page.h - how a page of the cache is laid out.
 *
 * A page holds KV_PAGE slots of one (sequence, layer, KV head): K, then V, in the cache type and in an order inside the
 * page that is the device's own business; then the int32 original positions (KV_PAGE); then n_cols float columns
 * (n_cols, KV_PAGE).  Column 0 is the attention mass when the layout has one.  Slot s of a head lives in page
 * s / KV_PAGE at s % KV_PAGE; slots are in temporal order; unused slots of the last page may hold anything, NaN
 * included: no kernel lets them into a result. */
#ifndef KV_PAGE_H
#define KV_PAGE_H

#include <stddef.h>
#include <stdint.h>

enum { KV_PAGE = 16 };

typedef enum kv_cache_type { KV_CACHE_F32, KV_CACHE_F16, KV_CACHE_BF16 } kv_cache_type;

typedef struct kv_page_layout {
    kv_cache_type type;
    int head_dim;
    int n_cols;                             /* float columns per slot, the mass column included */
    int has_mass;                           /* column 0 receives attention mass */
    size_t off_v, off_pos, off_cols, bytes; /* byte offsets inside a page (K at 0); bytes is a multiple of 64 */
} kv_page_layout;

void kv_page_layout_init(kv_page_layout *l, kv_cache_type type, int head_dim, int n_cols, int has_mass);

#endif
