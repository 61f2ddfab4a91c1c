/* rows.c - rotation of new rows, appending them to pages, and moving, copying and reading back slots. */
#include "engine/cpu/cpu.h"

#include <string.h>

enum { SERIAL_WORK = 16 * 1024, ROPE_ROWS = 16 };

typedef struct rope_call {
    const kv_cpu_kernels *k;
    const kv_rope_args *a;
} rope_call;

static void rope_row(const kv_cpu_kernels *k, const kv_rope_args *a, int r) {
    float *x = a->x + r * a->stride;
    int n_rotated = a->n_heads + a->n_kv_heads, width = (n_rotated + a->n_kv_heads) * a->head_dim;
    for (int i = 0; a->bias && i < width; i++) x[i] += a->bias[i];
    for (int h = 0; a->q_norm && h < n_rotated; h++) {
        float *head = x + (size_t)h * a->head_dim;
        k->norm_row(head, head, h < a->n_heads ? a->q_norm : a->k_norm, a->norm_eps, a->head_dim);
    }
    size_t at = (size_t)a->pos[r] * a->table->half;
    k->rope_row(x, n_rotated, a->head_dim, a->table->cos + at, a->table->sin + at);
}

static void rope_rows(void *ctx, int u, int thread) {
    const rope_call *c = ctx;
    (void)thread;
    for (int r = u * ROPE_ROWS; r < c->a->n_rows && r < (u + 1) * ROPE_ROWS; r++) rope_row(c->k, c->a, r);
}

void kv_cpu_rope(kv_backend *b, const kv_rope_args *a) {
    rope_call c = {((kv_cpu_backend *)b)->k, a};
    kv_threads_for(b->threads, (a->n_rows + ROPE_ROWS - 1) / ROPE_ROWS, rope_rows, &c);
}

static void append_head(const kv_cpu_kernels *k, const kv_append_task *t, int head, int n_kv_heads) {
    const kv_page_layout *l = t->layout;
    const kv_head_slots *h = &t->heads[head];
    int d = l->head_dim, n_stats = l->n_cols - l->has_mass;
    size_t es = l->type == KV_CACHE_F16 ? 2 : 4;
    uint16_t half[256];
    for (int i = 0; i < t->n; i++) {
        int slot = h->n_slots - t->n + i, s = slot % KV_PAGE;
        char *page = h->pages[slot / KV_PAGE];
        const float *key = t->k + i * t->kv_stride + (size_t)head * d;
        if (l->type == KV_CACHE_F16) {
            uint16_t *dst = (uint16_t *)page + s;
            for (int j = 0; j < d; j += 256) {
                int n = d - j < 256 ? d - j : 256;
                k->store_cache(half, l->type, key + j, n);
                for (int e = 0; e < n; e++) dst[(size_t)(j + e) * KV_PAGE] = half[e];
            }
        } else {
            float *dst = (float *)page + s;
            for (int e = 0; e < d; e++) dst[(size_t)e * KV_PAGE] = key[e];
        }
        k->store_cache(page + l->off_v + (size_t)s * d * es, l->type, t->v + i * t->kv_stride + (size_t)head * d, d);
        ((int32_t *)(page + l->off_pos))[s] = t->pos[i];
        float *cols = (float *)(page + l->off_cols);
        if (l->has_mass) cols[s] = 0;
        for (int c = 0; c < n_stats; c++)
            cols[(size_t)(c + l->has_mass) * KV_PAGE + s] = t->stats[((size_t)i * n_kv_heads + head) * n_stats + c];
    }
}

typedef struct append_call {
    const kv_cpu_kernels *k;
    const kv_append_task *tasks;
    int n_kv_heads;
} append_call;

static void append_unit(void *ctx, int u, int thread) {
    const append_call *c = ctx;
    (void)thread;
    append_head(c->k, &c->tasks[u / c->n_kv_heads], u % c->n_kv_heads, c->n_kv_heads);
}

void kv_cpu_append(kv_backend *b, const kv_append_task *tasks, int n_tasks, int n_kv_heads) {
    append_call c = {((kv_cpu_backend *)b)->k, tasks, n_kv_heads};
    size_t work = 0;
    for (int i = 0; i < n_tasks; i++) work += (size_t)tasks[i].n * n_kv_heads * tasks[i].layout->head_dim;
    if (work < SERIAL_WORK) {
        for (int u = 0; u < n_tasks * n_kv_heads; u++) append_unit(&c, u, 0);
    } else {
        kv_threads_for(b->threads, n_tasks * n_kv_heads, append_unit, &c);
    }
}

void kv_cpu_compact(kv_backend *b, const kv_page_layout *l, const kv_head_slots *h, const int32_t *kept, int n_kept) {
    const kv_cpu_kernels *k = ((kv_cpu_backend *)b)->k;
    int i = 0;
    while (i < n_kept && kept[i] == i) i++;
    /* Runs of kept slots that share a source page and a destination page. */
    while (i < n_kept) {
        int dst = i / KV_PAGE, src = kept[i] / KV_PAGE, lane0 = i % KV_PAGE, lane = lane0;
        uint8_t from[KV_PAGE];
        for (; lane < KV_PAGE && i < n_kept && kept[i] / KV_PAGE == src; i++, lane++)
            from[lane] = (uint8_t)(kept[i] % KV_PAGE);
        k->move_slots(l, h->pages[dst], h->pages[src], from, lane0, lane);
    }
}

void kv_cpu_copy_slots(kv_backend *b, const kv_page_layout *dl, const kv_head_slots *dst, const kv_page_layout *sl,
                       const kv_head_slots *src, const int *cols, int n) {
    (void)b;
    for (int s = 0; s < n; s += KV_PAGE) {
        char *d = dst->pages[s / KV_PAGE];
        const char *p = src->pages[s / KV_PAGE];
        /* K, V and positions lie alike in both layouts. */
        memcpy(d, p, sl->off_pos + KV_PAGE * sizeof(int32_t));
        float *to = (float *)(d + dl->off_cols);
        const float *from = (const float *)(p + sl->off_cols);
        for (int c = 0; c < dl->n_cols; c++) {
            if (cols[c] >= 0) {
                memcpy(to + c * KV_PAGE, from + cols[c] * KV_PAGE, KV_PAGE * sizeof *to);
            } else {
                memset(to + c * KV_PAGE, 0, KV_PAGE * sizeof *to);
            }
        }
    }
}

void kv_cpu_gather(kv_backend *b, const kv_page_layout *l, const kv_head_slots *h, float *keys, int32_t *pos,
                   float *cols) {
    const kv_cpu_kernels *k = ((kv_cpu_backend *)b)->k;
    size_t es = l->type == KV_CACHE_F16 ? 2 : 4;
    for (int s0 = 0; s0 < h->n_slots; s0 += KV_PAGE) {
        const char *page = h->pages[s0 / KV_PAGE];
        int n = h->n_slots - s0 < KV_PAGE ? h->n_slots - s0 : KV_PAGE;
        if (pos) memcpy(pos + s0, page + l->off_pos, (size_t)n * sizeof *pos);
        for (int c = 0; cols && c < l->n_cols; c++)
            memcpy(cols + (size_t)c * h->n_slots + s0, page + l->off_cols + c * KV_PAGE * sizeof(float),
                   (size_t)n * sizeof *cols);
        for (int d = 0; keys && d < l->head_dim; d++) {
            float row[KV_PAGE];
            k->load_cache(row, page + (size_t)d * KV_PAGE * es, l->type, KV_PAGE);
            for (int i = 0; i < n; i++) keys[(size_t)(s0 + i) * l->head_dim + d] = row[i];
        }
    }
}
