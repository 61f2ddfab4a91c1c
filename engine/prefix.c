/* prefix.c - one forward pass over a prompt, shared by every cell of a sweep that only differs in policy or budget.
 *
 * The cache holds every column that any of the setups declared and nothing is evicted; kv_generate forks it into a
 * cache with one setup's columns.  Each row and column is computed by the same operations as without sharing, so
 * the tokens are the same. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/internal.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int run_prefix(kv_engine *e, kv_prefix *p, const int32_t *tokens, int n, kv_error *err) {
    for (int i = 0; i < n; i += KV_PREFILL_ROWS) {
        int rows = n - i < KV_PREFILL_ROWS ? n - i : KV_PREFILL_ROWS;
        kv_segment g = {
            .seq = &p->seq, .tokens = tokens + i, .n = rows, .err = err, .logits = i + rows == n ? p->logits : NULL};
        int rc = kv_forward(e, &g, 1, NULL, err);
        if (rc || g.status) return rc ? rc : g.status;
    }
    return KV_OK;
}

int kv_prefix_create(kv_engine *e, const kv_setup *setups, int n_setups, const int32_t *tokens, int n, kv_prefix **out,
                     double *seconds, kv_error *err) {
    double start = now();
    int rc = kv_check_tokens(e, tokens, n, err);
    if (rc) return rc;
    kv_prefix *p = calloc(1, sizeof *p);
    if (p) {
        p->setups = malloc((size_t)n_setups * sizeof *setups);
        p->logits = malloc((size_t)e->model.info.n_vocab * sizeof *p->logits);
    }
    if (!p || !p->setups || !p->logits) {
        kv_prefix_free(p);
        return kv_fail(err, KV_ENOMEM, "out of memory for a shared prefill");
    }
    memcpy(p->setups, setups, (size_t)n_setups * sizeof *setups);
    rc = kv_columns_init(&p->columns, p->setups, n_setups, err);
    if (rc == KV_OK) rc = kv_cache_pool_create(e, &p->columns, &p->pool, err);
    if (rc == KV_OK) rc = kv_seq_init(&p->seq, e, p->pool, &p->columns, NULL, err);
    if (rc == KV_OK) rc = run_prefix(e, p, tokens, n, err);
    if (rc) {
        kv_prefix_free(p);
        return rc;
    }
    p->seconds = now() - start;
    if (seconds) *seconds = p->seconds;
    *out = p;
    return KV_OK;
}

void kv_prefix_free(kv_prefix *p) {
    if (!p) return;
    kv_seq_free(&p->seq);
    kv_page_pool_free(p->pool);
    free(p->setups);
    free(p->logits);
    free(p);
}

size_t kv_prefix_bytes(const kv_prefix *p) {
    return p->seq.cache.bytes;
}
