/* page.c - sizes and offsets inside a cache page. */
#include "engine/page.h"

void kv_page_layout_init(kv_page_layout *l, kv_cache_type type, int head_dim, int n_cols, int has_mass) {
    size_t matrix = (size_t)head_dim * KV_PAGE * (type == KV_CACHE_F32 ? 4 : 2);
    l->type = type;
    l->head_dim = head_dim;
    l->n_cols = n_cols;
    l->has_mass = has_mass;
    l->off_v = matrix;
    l->off_pos = 2 * matrix;
    l->off_cols = l->off_pos + KV_PAGE * sizeof(int32_t);
    l->bytes = (l->off_cols + (size_t)n_cols * KV_PAGE * sizeof(float) + 63) / 64 * 64;
    if (type == KV_CACHE_BF16) l->bytes = (l->bytes + 127) / 128 * 128; /* whole lines of a GPU's cache */
}
