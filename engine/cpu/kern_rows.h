/* kern_rows.h - conversion to and from the cache type, and moving slots between pages. */

static void store_cache(void *dst, kv_cache_type type, const float *src, int n) {
    if (type == KV_CACHE_F32) {
        memcpy(dst, src, (size_t)n * sizeof *src);
        return;
    }
    uint16_t *out = dst;
    int i = 0;
    for (; i + 16 <= n; i += 16) v_store_half(out + i, v_load(src + i));
    if (i < n) {
        uint16_t tail[16];
        v_store_half(tail, v_load_n(src + i, n - i));
        memcpy(out + i, tail, (size_t)(n - i) * sizeof *tail);
    }
}

static void load_cache(float *dst, const void *src, kv_cache_type type, int n) {
    if (type == KV_CACHE_F32) {
        memcpy(dst, src, (size_t)n * sizeof *dst);
        return;
    }
    const uint16_t *in = src;
    int i = 0;
    for (; i + 16 <= n; i += 16) v_store(dst + i, v_load_half(in + i));
    if (i < n) {
        uint16_t tail[16] = {0};
        memcpy(tail, in + i, (size_t)(n - i) * sizeof *tail);
        v_store_n(dst + i, v_load_half(tail), n - i);
    }
}

/* Lanes [lane0, lane1) of n_vec vectors of 16 elements: dst[j] = src[from[j]].  A vector is read before it is written,
 * since a page may be moved within itself. */
#define PERMUTE(T, name)                                                                                               \
    static void name(T *dst, const T *src, int n_vec, const uint8_t *from, int lane0, int lane1) {                     \
        for (int i = 0; i < n_vec; i++, dst += KV_PAGE, src += KV_PAGE) {                                              \
            T old[KV_PAGE];                                                                                            \
            memcpy(old, src, sizeof old);                                                                              \
            for (int j = lane0; j < lane1; j++) dst[j] = old[from[j]];                                                 \
        }                                                                                                              \
    }
PERMUTE(uint32_t, permute_words)
#ifndef KV_HAVE_PERMUTE_HALVES
PERMUTE(uint16_t, permute_halves)
#endif

static void move_slots(const kv_page_layout *l, void *dst, const void *src, const uint8_t *from, int lane0, int lane1) {
    char *d = dst;
    const char *s = src;
    size_t row = (size_t)l->head_dim * (l->type == KV_CACHE_F16 ? 2 : 4);
    if (l->type == KV_CACHE_F16) {
        permute_halves(dst, src, l->head_dim, from, lane0, lane1);
    } else {
        permute_words(dst, src, l->head_dim, from, lane0, lane1);
    }
    for (int j = lane0; j < lane1; j++)
        memmove(d + l->off_v + (size_t)j * row, s + l->off_v + (size_t)from[j] * row, row);
    permute_words((uint32_t *)(d + l->off_pos), (const uint32_t *)(s + l->off_pos), 1, from, lane0, lane1);
    permute_words((uint32_t *)(d + l->off_cols), (const uint32_t *)(s + l->off_cols), l->n_cols, from, lane0, lane1);
}
