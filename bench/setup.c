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
                    .buffer = p->never_evicts ? all : a->buffer,
                    .gates = p->needs & KV_NEED_GATES ? gates : NULL};
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

size_t kv_memory_limit(const kv_opts *o) {
    return (size_t)(kv_opts_real(o, KV_OPT_DEVICE_MEMORY) * 1073741824.0);
}

int kv_session_open_on(const kv_identity *id, const kv_opts *o, kv_device_kind device, kv_numerics numerics,
                       int n_threads, kv_engine **out, kv_error *err) {
    kv_engine_options eo = {.model_path = id->model_path,
                            .adapter_dir = kv_identity_adapter(id),
                            .numerics = numerics,
                            .n_threads = n_threads,
                            .device = device,
                            .device_index = (int)kv_opts_int(o, KV_OPT_DEVICE),
                            .seed = id->seed,
                            .max_ctx = id->max_ctx,
                            .memory_limit = kv_memory_limit(o)};
    int rc = kv_engine_open(&eo, out, err);
    if (rc) *out = NULL;
    return rc;
}

int kv_session_open(const kv_opts *o, size_t i, const kv_paths *p, kv_numerics numerics, int n_threads, kv_session *s,
                    kv_error *err) {
    memset(s, 0, sizeof *s);
    int rc = kv_identity_resolve(o, i, p, &s->id, err);
    if (rc == KV_OK) rc = kv_place_choose(o, s->id.synth ? &s->id.synth->shape : NULL, &s->device, err);
    if (rc) return rc;
    rc = kv_session_open_on(&s->id, o, s->device, numerics, n_threads, &s->engine, err);
    if (rc == KV_EUNSUPPORTED && s->device == KV_CUDA && kv_place_is_free(o)) {
        s->device = KV_CPU;
        rc = kv_session_open_on(&s->id, o, KV_CPU, numerics, n_threads, &s->engine, err);
    }
    if (rc) return rc;
    kv_identity_open_gates(&s->id, &kv_engine_info(s->engine)->shape, &s->gates, &s->gates_err);
    if (err) err->code = KV_OK; /* optional entries of the file that were looked for */
    return KV_OK;
}

void kv_session_close(kv_session *s) {
    kv_gates_close(s->gates);
    kv_engine_close(s->engine);
    memset(s, 0, sizeof *s);
}
