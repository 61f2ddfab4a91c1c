/* workspace.c - the buffers of a forward on the CPU. */
#include <stdlib.h>

#include "engine/cpu/runner.h"

int kv_cpu_workspace_create(kv_engine *e, kv_error *err) {
    const kv_model_info *in = &e->model.info;
    const kv_shape *s = &in->shape;
    kv_workspace *ws = e->ws = calloc(1, sizeof *ws);
    if (!ws) return kv_fail(err, KV_ENOMEM, "out of memory for the engine's work buffers");
    size_t rows = KV_MAX_ROWS, nq = (size_t)s->n_heads * s->head_dim, nk = (size_t)s->n_kv_heads * s->head_dim;
    size_t att = nq > (size_t)s->dim ? nq : (size_t)s->dim;
    const struct {
        float **p;
        size_t n;
    } want[] = {
        {&ws->x, rows * s->dim},
        {&ws->qkv, rows * (nq + 2 * nk)},
        {&ws->att, rows * att},
        {&ws->gate_up, rows * 2 * in->n_ff},
        {&ws->hidden, rows * s->dim},
        {&ws->k, rows * nk},
        {&ws->v, rows * nk},
        {&ws->stats, rows * s->n_kv_heads * KV_MAX_COLUMN_SETS * KV_MAX_STATS},
        {&ws->stats_one, rows * s->n_kv_heads * KV_MAX_STATS},
        {&ws->last, (size_t)KV_HEAD_ROWS * s->dim},
        {&ws->services, KV_SERVICE_SCRATCH},
    };
    size_t bytes = rows * sizeof *ws->pos;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) bytes += want[i].n * sizeof(float);
    int rc = kv_books_check(&e->backend->books, bytes, "the engine's work buffers", err);
    if (rc) return rc;
    kv_books_add(&e->backend->books, KV_USE_WORKSPACE, bytes);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        *want[i].p = aligned_alloc(64, (want[i].n * sizeof(float) + 63) & ~(size_t)63);
        if (!*want[i].p) return kv_fail(err, KV_ENOMEM, "out of memory for the engine's work buffers");
    }
    ws->pos = malloc(rows * sizeof *ws->pos);
    return ws->pos ? KV_OK : kv_fail(err, KV_ENOMEM, "out of memory for the engine's work buffers");
}

void kv_cpu_workspace_free(kv_workspace *ws) {
    if (!ws) return;
    float *const all[] = {ws->x, ws->qkv,   ws->att,       ws->gate_up, ws->hidden,  ws->k,
                          ws->v, ws->stats, ws->stats_one, ws->last,    ws->services};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(ws->pos);
    free(ws);
}
