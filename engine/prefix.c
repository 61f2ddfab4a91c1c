/* prefix.c - one forward pass over a prompt, shared by every cell of a sweep that only differs in policy or budget.
 *
 * The cache holds every column that any of the setups declared and nothing is evicted; kv_generate forks it into a
 * cache with one setup's columns.  Each row and column is computed by the same operations as without sharing, so
 * the tokens are the same. */
#include <stdlib.h>
#include <string.h>

#include "engine/runner.h"

static int run_prefix(kv_prefix *p, const int32_t *tokens, int n, kv_error *err) {
    kv_runner *r = p->runner;
    for (int i = 0; i < n;) {
        int rows = r->ops->piece_rows(r, i);
        if (rows > n - i) rows = n - i;
        kv_segment g = {.seq = &p->seq, .tokens = tokens + i, .n = rows, .err = err, .wants_token = i + rows == n};
        int rc = r->ops->forward(r, &g, 1, NULL, err);
        if (rc || g.status) return rc ? rc : g.status;
        i += rows;
    }
    return r->ops->finish(r, err);
}

int kv_prefix_create(kv_engine *e, const kv_setup *setups, int n_setups, const int32_t *tokens, int n, kv_prefix **out,
                     double *seconds, kv_error *err) {
    const kv_sampling greedy = {.top_p = 1};
    double start = kv_clock();
    int rc = kv_check_tokens(e, tokens, n, err);
    if (rc) return rc;
    kv_prefix *p = calloc(1, sizeof *p);
    if (p) p->setups = malloc((size_t)n_setups * sizeof *setups);
    if (!p || !p->setups) {
        kv_prefix_free(p);
        return kv_fail(err, KV_ENOMEM, "out of memory for a shared prefill");
    }
    memcpy(p->setups, setups, (size_t)n_setups * sizeof *setups);
    rc = kv_columns_init(&p->columns, p->setups, n_setups, err);
    if (rc == KV_OK) rc = kv_runner_open(e, &p->columns, NULL, 1, &p->runner, err);
    p->seq.columns = &p->columns;
    if (rc == KV_OK) rc = p->runner->ops->seq_open(p->runner, &p->seq, &greedy, n, err);
    if (rc == KV_OK) rc = run_prefix(p, tokens, n, err);
    if (rc) {
        kv_prefix_free(p);
        return rc;
    }
    p->seconds = kv_clock() - start;
    if (seconds) *seconds = p->seconds;
    *out = p;
    return KV_OK;
}

void kv_prefix_free(kv_prefix *p) {
    if (!p) return;
    if (p->seq.device) p->runner->ops->seq_close(p->runner, &p->seq);
    if (p->runner) p->runner->ops->close(p->runner);
    free(p->setups);
    free(p);
}

size_t kv_prefix_bytes(const kv_prefix *p) {
    return p->runner->ops->seq_bytes(p->runner, &p->seq);
}
