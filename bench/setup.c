/* setup.c - opens policies and models for the commands. */
#include "bench/setup.h"

#include <string.h>

int kv_setup_open(const kv_setup_args *a, kv_setup *s, kv_error *err) {
    const kv_policy *p = a->spec->policy;
    const kv_gates *gates = a->gates ? kv_gates_view(a->gates) : NULL;
    int all = a->info->n_ctx > a->chunk ? a->info->n_ctx : a->chunk;
    void *state = NULL;
    *s = (kv_setup){.policy = p,
                    .spec = a->spec->canonical,
                    .budget = p->never_evicts ? all : a->budget,
                    .buffer = p->never_evicts ? all : a->buffer};
    if ((p->needs & KV_NEED_GATES) && !gates)
        return kv_fail(err, KV_EARG, "policy %s needs retention gates: %.400s", p->name,
                       a->gates_err && a->gates_err->code ? a->gates_err->text : "give --gates PATH");
    kv_policy_args args = {a->spec->values, s->budget, s->buffer, (uint64_t)a->seed, gates};
    int rc = p->open(&state, &a->info->shape, &args, err);
    s->state = rc ? NULL : state;
    return rc;
}

void kv_setup_close(kv_setup *s) {
    if (s->state && s->policy->close) s->policy->close((void *)s->state);
    s->state = NULL;
}

int kv_session_open(const kv_opts *o, size_t i, const kv_paths *p, kv_numerics numerics, int n_threads, kv_session *s,
                    kv_error *err) {
    memset(s, 0, sizeof *s);
    int rc = kv_identity_resolve(o, i, p, &s->id, err);
    if (rc) return rc;
    kv_engine_options eo = {s->id.model_path, kv_identity_adapter(&s->id), numerics, n_threads};
    rc = kv_engine_open(&eo, &s->engine, err);
    if (rc) {
        s->engine = NULL;
        return rc;
    }
    if (s->id.gates_path[0] &&
        kv_gates_open(s->id.gates_path, &kv_engine_info(s->engine)->shape, &s->gates, &s->gates_err))
        s->gates = NULL;
    if (err) err->code = KV_OK; /* optional entries of the file that were looked for */
    return KV_OK;
}

void kv_session_close(kv_session *s) {
    kv_gates_close(s->gates);
    kv_engine_close(s->engine);
    memset(s, 0, sizeof *s);
}
