/* axes.c - the lists of `run` and `speed` as numbers and policies, checked against each other. */
#include "bench/plan.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_CHUNK = 256 }; /* rows that the engine packs into one piece of a prompt */

int kv_prefill_parse(const char *text, int *chunk, kv_error *err) {
    char *end;
    long c;
    *chunk = 0;
    if (strcmp(text, "full") == 0) return KV_OK;
    if (strncmp(text, "stream:", 7) != 0)
        return kv_fail(err, KV_EARG, "--prefill '%s': must be full or stream:C, such as stream:32", text);
    c = strtol(text + 7, &end, 10);
    if (text[7] < '0' || text[7] > '9' || *end || c < 1 || c > MAX_CHUNK)
        return kv_fail(err, KV_EARG, "--prefill '%s': the chunk must be a whole number, 1..%d", text, MAX_CHUNK);
    *chunk = (int)c;
    return KV_OK;
}

void kv_prefill_text(int chunk, char out[24]) {
    if (chunk)
        snprintf(out, 24, "stream:%d", chunk);
    else
        strcpy(out, "full");
}

static int copy_ints(const kv_opts *o, kv_opt_id id, int **out, size_t *n, kv_error *err) {
    *n = kv_opts_n(o, id);
    *out = calloc(*n ? *n : 1, sizeof **out);
    if (!*out) return kv_fail(err, KV_ENOMEM, "out of memory");
    for (size_t i = 0; i < *n; i++) (*out)[i] = (int)o->v[id].ints[i];
    return KV_OK;
}

static int read_policies(const kv_opts *o, kv_opt_id id, kv_axes *a, kv_error *err) {
    kv_error why = {0};
    a->policies = calloc(kv_opts_n(o, id) + 1, sizeof *a->policies);
    if (!a->policies) return kv_fail(err, KV_ENOMEM, "out of memory");
    for (size_t i = 0; i < kv_opts_n(o, id); i++) {
        kv_policy_spec *s = &a->policies[a->n_policies];
        int known = 0;
        if (kv_policy_parse(o->v[id].texts[i], s, &why)) return kv_fail(err, KV_EARG, "--policy: %.480s", why.text);
        for (size_t k = 0; k < a->n_policies; k++) known |= strcmp(a->policies[k].canonical, s->canonical) == 0;
        if (!known) a->n_policies++;
    }
    return KV_OK;
}

static int read_words(const kv_opts *o, kv_axes *a, kv_error *err) {
    size_t n_chunks = kv_opts_n(o, KV_OPT_PREFILL), n_queries = kv_opts_n(o, KV_OPT_QUERY),
           n_numerics = kv_opts_n(o, KV_OPT_NUMERICS);
    a->chunks = calloc(n_chunks + 1, sizeof *a->chunks);
    a->query_before = calloc(n_queries + 1, sizeof *a->query_before);
    a->numerics = calloc(n_numerics + 1, sizeof *a->numerics);
    if (!a->chunks || !a->query_before || !a->numerics) return kv_fail(err, KV_ENOMEM, "out of memory");
    for (size_t i = 0, k; i < n_chunks; i++) {
        int chunk, rc = kv_prefill_parse(o->v[KV_OPT_PREFILL].texts[i], &chunk, err);
        if (rc) return rc;
        for (k = 0; k < a->n_chunks && a->chunks[k] != chunk; k++) {
        }
        if (k == a->n_chunks) a->chunks[a->n_chunks++] = chunk;
    }
    for (size_t i = 0, k; i < n_queries; i++) {
        int before = strcmp(o->v[KV_OPT_QUERY].texts[i], "before") == 0;
        for (k = 0; k < a->n_queries && a->query_before[k] != before; k++) {
        }
        if (k == a->n_queries) a->query_before[a->n_queries++] = before;
    }
    if (n_queries == 0) a->query_before[a->n_queries++] = 1;
    for (size_t i = 0, k; i < n_numerics; i++) {
        kv_numerics kind = strcmp(o->v[KV_OPT_NUMERICS].texts[i], "exact") == 0 ? KV_EXACT : KV_FAST;
        for (k = 0; k < a->n_numerics && a->numerics[k] != kind; k++) {
        }
        if (k == a->n_numerics) a->numerics[a->n_numerics++] = kind;
    }
    return KV_OK;
}

static int check_chunks(const kv_axes *a, kv_error *err) {
    int evicts = 0;
    for (size_t i = 0; i < a->n_policies; i++) evicts |= !a->policies[i].policy->never_evicts;
    for (size_t i = 0; i < a->n_chunks; i++)
        for (size_t k = 0; k < a->n_buffers && evicts; k++)
            if (a->chunks[i] > a->buffers[k])
                return kv_fail(err, KV_EARG,
                               "--prefill stream:%d with --buffer %d: the chunk must not be larger than the buffer, or "
                               "more than M+B slots would be held",
                               a->chunks[i], a->buffers[k]);
    return KV_OK;
}

int kv_axes_read(const kv_opts *o, kv_axes *a, kv_error *err) {
    kv_opt_id policy = o->cmd == KV_CMD_GENERATE ? KV_OPT_POLICY_ONE : KV_OPT_POLICY;
    kv_opt_id max_new = o->cmd == KV_CMD_RUN ? KV_OPT_MAX_NEW : KV_OPT_MAX_NEW_TOKENS;
    int rc;
    memset(a, 0, sizeof *a);
    if ((rc = read_policies(o, policy, a, err)) || (rc = read_words(o, a, err)) ||
        (rc = copy_ints(o, KV_OPT_BUDGET, &a->budgets, &a->n_budgets, err)) ||
        (rc = copy_ints(o, KV_OPT_BUFFER, &a->buffers, &a->n_buffers, err)) ||
        (rc = copy_ints(o, max_new, &a->max_new, &a->n_max_new, err)))
        return rc;
    return check_chunks(a, err);
}

void kv_axes_free(kv_axes *a) {
    free(a->policies);
    free(a->chunks);
    free(a->query_before);
    free(a->numerics);
    free(a->budgets);
    free(a->buffers);
    free(a->max_new);
    memset(a, 0, sizeof *a);
}
