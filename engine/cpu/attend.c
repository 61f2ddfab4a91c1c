/* attend.c - attention over paged caches: the work split and the attention mass.
 *
 * A unit is a stripe of queries of one (task, KV head).  Its (query, head) rows are taken in tiles of a few rows
 * (kern_attend.h).  The masses of a stripe are summed tile by tile into its own buffer, and stripes are added to
 * column 0 in order: the number of stripes depends on the number of queries alone, never on threads. */
#include "engine/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

enum {
    STRIPE = 64,      /* queries of a stripe, unless that gives too many stripes */
    MAX_STRIPES = 16, /* bounds the partial masses of a long prefill */
    SERIAL_WORK = 64 * 1024
};

typedef struct attend_call {
    const kv_cpu_backend *c;
    const kv_attend_task *tasks;
    int n_tasks, n_heads, n_kv_heads;
    float scale;
    size_t mass_stride; /* floats per unit; 0: no task wants masses */
} attend_call;

static int n_stripes(int n_q) {
    int n = (n_q + STRIPE - 1) / STRIPE;
    return n < MAX_STRIPES ? n : MAX_STRIPES;
}

static void add_mass(const kv_attend_task *t, const kv_head_slots *h, const float *mass) {
    int n_pages = (h->n_slots + KV_PAGE - 1) / KV_PAGE;
    for (int p = 0; p < n_pages; p++) {
        float *col = (float *)((char *)h->pages[p] + t->layout->off_cols);
        for (int s = 0; s < KV_PAGE; s++) col[s] += mass[p * KV_PAGE + s];
    }
}

static void run_stripe(const attend_call *a, const kv_attend_task *t, int head, int stripe, float *scratch,
                       float *mass) {
    const kv_head_slots *h = &t->heads[head];
    int group = a->n_heads / a->n_kv_heads, d = t->layout->head_dim, n = n_stripes(t->n_q);
    int q0 = (int)((int64_t)t->n_q * stripe / n), q1 = (int)((int64_t)t->n_q * (stripe + 1) / n);
    kv_attend_tile tile = {
        .layout = t->layout, .pages = h->pages, .head_dim = d, .scale = a->scale, .scratch = scratch, .mass = mass};
    if (mass) memset(mass, 0, (size_t)(h->n_slots + KV_PAGE - 1) / KV_PAGE * KV_PAGE * sizeof *mass);
    int n_rows = (q1 - q0) * group;
    for (int r0 = 0; r0 < n_rows; r0 += a->c->k->attend_rows) {
        int left = n_rows - r0;
        tile.n_rows = left < a->c->k->attend_rows ? left : a->c->k->attend_rows;
        for (int i = 0; i < tile.n_rows; i++) {
            int q = q0 + (r0 + i) / group, g = (r0 + i) % group;
            size_t at = (size_t)(head * group + g) * d;
            tile.q[i] = t->q + (size_t)q * t->q_stride + at;
            tile.out[i] = t->out + (size_t)q * t->out_stride + at;
            tile.n_slots[i] = h->n_slots - t->n_q + q + 1;
        }
        a->c->k->attend(&tile);
    }
    if (mass && n == 1) add_mass(t, h, mass);
}

/* Unit u counts tasks, then stripes from the last (longest) one, then KV heads. */
static void run_unit(const attend_call *a, size_t u, float *scratch) {
    const kv_attend_task *t = a->tasks;
    size_t first = 0, n;
    while (u >= first + (n = (size_t)n_stripes(t->n_q) * a->n_kv_heads)) {
        first += n;
        t++;
    }
    int stripe = n_stripes(t->n_q) - 1 - (int)((u - first) / a->n_kv_heads);
    float *mass = t->add_mass ? a->c->mass + u * a->mass_stride : NULL;
    run_stripe(a, t, (int)((u - first) % a->n_kv_heads), stripe, scratch, mass);
}

static void attend_unit(void *ctx, int u, int thread) {
    const attend_call *a = ctx;
    run_unit(a, (size_t)u, a->c->attend + (size_t)thread * a->c->attend_cap);
}

static void merge_masses(const attend_call *a) {
    size_t first = 0;
    for (const kv_attend_task *t = a->tasks; t < a->tasks + a->n_tasks; t++) {
        int n = n_stripes(t->n_q);
        if (t->add_mass && n > 1) {
            for (int s = n - 1; s >= 0; s--)
                for (int h = 0; h < a->n_kv_heads; h++)
                    add_mass(t, &t->heads[h], a->c->mass + (first + (size_t)s * a->n_kv_heads + h) * a->mass_stride);
        }
        first += (size_t)n * a->n_kv_heads;
    }
}

static int grow(float **p, size_t *cap, size_t need, size_t times) {
    if (need <= *cap) return KV_OK;
    need = (need + need / 2 + 15) / 16 * 16;
    float *q = kv_cpu_alloc(need * times * sizeof *q);
    if (!q) return KV_ENOMEM;
    free(*p);
    *p = q;
    *cap = need;
    return KV_OK;
}

int kv_cpu_attend(kv_backend *b, const kv_attend_task *tasks, int n_tasks, int n_heads, int n_kv_heads, float scale) {
    kv_cpu_backend *c = (kv_cpu_backend *)b;
    attend_call a = {c, tasks, n_tasks, n_heads, n_kv_heads, scale, 0};
    size_t n_units = 0, work = 0, need = 0, mass_slots = 0;
    for (const kv_attend_task *t = tasks; t < tasks + n_tasks; t++) {
        int d = t->layout->head_dim;
        n_units += (size_t)n_stripes(t->n_q) * n_kv_heads;
        for (int h = 0; h < n_kv_heads; h++) {
            int n = t->heads[h].n_slots;
            size_t scratch = kv_cpu_attend_scratch(d, n, t->add_mass);
            need = scratch > need ? scratch : need;
            if (t->add_mass && (size_t)n > mass_slots) mass_slots = (size_t)n;
            work += (size_t)n * d * t->n_q * (n_heads / n_kv_heads);
        }
    }
    a.mass_stride = (mass_slots + KV_PAGE - 1) / KV_PAGE * KV_PAGE;
    if (grow(&c->attend, &c->attend_cap, need, (size_t)b->n_threads)) return KV_ENOMEM;
    if (grow(&c->mass, &c->mass_cap, a.mass_stride * n_units, 1)) return KV_ENOMEM;

    if (b->n_threads == 1 || work < SERIAL_WORK || n_units == 1) {
        for (size_t u = 0; u < n_units; u++) run_unit(&a, u, c->attend);
    } else {
        kv_threads_for(b->threads, (int)n_units, attend_unit, &a);
    }
    merge_masses(&a);
    return KV_OK;
}
