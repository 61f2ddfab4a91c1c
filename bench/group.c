/* group.c - cells that differ only in policy, budget and buffer, run side by side over blocks of items.
 *
 * With full prefill the forward pass over a prompt is the same for all of them, so it is done once per item: a block
 * of prefixes is built, every cell runs over the block, the prefixes are dropped.  A block is as large as a third of
 * the memory allows, because the last sequences of a block decode in a batch that is no longer full. */
#include "bench/sweep.h"

#include <stdlib.h>
#include <string.h>

static const size_t SOFT_BYTES = (size_t)3 << 29; /* 1.5 GiB of prefixes is enough for any block of two batches */

/* Cells of the group that still need this item, as setups; *n_jobs counts their missing samples. */
static int wanting(const kv_sweep *s, size_t first, size_t last, int item, kv_setup *setups, size_t *n_jobs) {
    size_t per_item = (size_t)s->plan->n_samples;
    int n = 0;
    *n_jobs = 0;
    for (size_t i = first; i < last; i++) {
        const kv_cell_run *c = &s->cells[i];
        size_t jobs = 0;
        if (!c->active) continue;
        for (size_t k = 0; k < per_item; k++) jobs += c->todo[(size_t)item * per_item + k];
        if (jobs) setups[n++] = c->setup;
        *n_jobs += jobs;
    }
    return n;
}

/* One item's prefix, when more than one sample can use it.  An item that cannot be prefilled is left to its cells,
 * which report why; only a lack of memory comes back. */
static int make_prefix(kv_sweep *s, size_t first, size_t last, int item, kv_setup *setups, kv_shared *sh) {
    const kv_plan_cell *cell = s->cells[first].plan;
    const kv_plan_task *t = &s->plan->tasks[cell->task];
    const kv_prompt *p;
    size_t n_jobs;
    int n = wanting(s, first, last, item, setups, &n_jobs), at = item - sh->at;
    if (n_jobs < 2 || kv_items_render(t->items, item, &p, NULL)) return KV_OK;
    int rc = kv_prefix_create(s->engine, setups, n, p->ids, cell->query_before ? p->n : p->n_context, &sh->prefix[at],
                              &sh->seconds[at], NULL);
    if (rc) sh->prefix[at] = NULL;
    return rc == KV_ENOMEM ? rc : KV_OK;
}

/* Bytes that prefixes and sequences can still take where the engine runs. */
static size_t room_left(const kv_sweep *s) {
    kv_memory m;
    size_t host = (size_t)s->host.ram_available;
    kv_engine_memory(s->engine, &m, NULL);
    return m.device_free || m.room < host ? m.room : host;
}

/* Prefixes for as many items from sh->at on as one block may hold. */
static int make_block(kv_sweep *s, size_t first, size_t last, int n_items, kv_setup *setups, kv_shared *sh,
                      kv_error *err) {
    size_t bytes = 0, biggest = 0, hard = room_left(s) / 3; /* the rest is for the sequences that fork them */
    for (sh->n = 0; sh->at + sh->n < n_items;) {
        if (*s->io->cancel) return kv_fail(err, KV_ECANCEL, "interrupted");
        if (sh->n && (bytes + biggest > hard || (bytes >= SOFT_BYTES && sh->n >= 2 * s->batch))) return KV_OK;
        int rc = make_prefix(s, first, last, sh->at + sh->n, setups, sh);
        if (rc && sh->n) return KV_OK; /* memory is full: go on with what there is */
        const kv_prefix *p = sh->prefix[sh->n++];
        s->progress.cell_done = (size_t)(sh->at + sh->n);
        if (!p) continue;
        size_t size = kv_prefix_bytes(p);
        bytes += size;
        if (size > biggest) biggest = size;
        kv_progress_show(&s->progress);
    }
    return KV_OK;
}

static int run_block(kv_sweep *s, size_t first, size_t last, int at, int end, const kv_shared *sh, kv_error *err) {
    for (size_t i = first; i < last; i++) {
        kv_cell_run *c = &s->cells[i];
        if (!c->active) continue;
        int rc = kv_cell_run_items(s, c, at, end, sh, err);
        if (rc) return rc;
    }
    return KV_OK;
}

static int run_shared(kv_sweep *s, size_t first, size_t last, int n_items, kv_error *err) {
    kv_shared sh = {0};
    kv_setup *setups = malloc((last - first) * sizeof *setups);
    sh.prefix = calloc((size_t)n_items, sizeof(kv_prefix *));
    sh.seconds = calloc((size_t)n_items, sizeof *sh.seconds);
    sh.used = calloc((size_t)n_items, 1);
    int rc = setups && sh.prefix && sh.seconds && sh.used
                 ? KV_OK
                 : kv_fail(err, KV_ENOMEM, "out of memory for %d items", n_items);
    for (; rc == KV_OK && sh.at < n_items; sh.at += sh.n) {
        char label[64];
        snprintf(label, sizeof label, "shared prefill for %zu cells", last - first);
        kv_progress_cell(&s->progress, first + 1, label, (size_t)sh.at, (size_t)n_items);
        rc = make_block(s, first, last, n_items, setups, &sh, err);
        if (rc == KV_OK) rc = run_block(s, first, last, sh.at, sh.at + sh.n, &sh, err);
        for (int i = 0; i < sh.n; i++) {
            kv_prefix_free(sh.prefix[i]);
            sh.prefix[i] = NULL;
            sh.used[i] = 0;
        }
    }
    free(setups);
    free(sh.prefix);
    free(sh.seconds);
    free(sh.used);
    return rc;
}

/* After an interrupt or a failing database: what can still be said of the cells that were open. */
static void abandon(kv_sweep *s, size_t first, size_t last, int code) {
    for (size_t i = first; i < last; i++) {
        kv_cell_run *c = &s->cells[i];
        if (c->active && c->n_todo == 0) kv_cell_finish(s, c, NULL);
        if (c->active) kv_cell_end(s, c, kv_cell_status(code), NULL, NULL);
    }
}

int kv_group_run(kv_sweep *s, size_t first, size_t last, kv_error *err) {
    int n_items = s->plan->tasks[s->cells[first].plan->task].n_items, rc = KV_OK;
    size_t n_active = 0;
    for (size_t i = first; i < last && rc == KV_OK; i++) {
        if (s->cells[i].n_todo) rc = kv_cell_begin(s, &s->cells[i], err);
        n_active += (size_t)s->cells[i].active;
    }
    int share = s->cells[first].plan->chunk == 0 && !kv_opts_flag(s->o, KV_OPT_NO_SHARE) &&
                (n_active > 1 || s->plan->n_samples > 1);
    if (rc == KV_OK && n_active && share) rc = run_shared(s, first, last, n_items, err);
    if (rc == KV_OK && n_active && !share) rc = run_block(s, first, last, 0, n_items, NULL, err);
    for (size_t i = first; i < last && rc == KV_OK; i++)
        if (s->cells[i].active) rc = kv_cell_finish(s, &s->cells[i], err);
    if (rc) abandon(s, first, last, rc);
    return rc;
}
