/* record.c - model, policy, host and build as rows. */
#include "bench/record.h"

#include <string.h>

#include "bench/hostinfo.h"
#include "engine/file.h"

static const char *or_null(const char *s) {
    return s && s[0] ? s : NULL;
}

int kv_record_model(kv_store *s, const kv_identity *m, int gated, const char *weights, int64_t *id, kv_error *err) {
    const char *gates = m->synth_gates ? "synth" : or_null(m->gates_path);
    kv_model_row r = {
        .path = m->model_path,
        .sha256 = m->model_sha256,
        .arch = m->arch,
        .name = m->name,
        .weights = weights,
        .adapter = or_null(m->adapter_dir),
        .adapter_sha256 = or_null(m->adapter_sha256),
        .gates = gated ? gates : NULL,
        .gates_sha256 = gated ? or_null(m->gates_sha256) : NULL,
        .tokenizer_sha256 = or_null(m->tokenizer_sha256),
        .chat_template = m->chat ? kv_chat_name(m->chat) : NULL,
        .chat_hash = or_null(m->chat_hash),
        .n_layers = m->shape.n_layers,
        .dim = m->shape.dim,
        .n_heads = m->shape.n_heads,
        .n_kv_heads = m->shape.n_kv_heads,
        .head_dim = m->shape.head_dim,
        .n_ctx = m->n_ctx,
    };
    return kv_store_model(s, &r, id, err);
}

int kv_record_policy(kv_store *s, const kv_policy_spec *spec, int64_t *id, kv_error *err) {
    const char *params = strchr(spec->canonical, ':');
    char sha[65];
    kv_sha256_bytes(spec->canonical, strlen(spec->canonical), sha);
    kv_policy_row r = {spec->policy->name, params ? params + 1 : NULL, sha, spec->policy->title};
    return kv_store_policy(s, &r, id, err);
}

int kv_record_machine(kv_store *s, int64_t *host_id, int64_t *build_id, kv_error *err) {
    const kv_build_info *b = kv_buildinfo_get();
    kv_host_info h;
    kv_hostinfo_read(&h);
    const kv_host_row host = {h.hostname, h.os, h.cpu, h.n_cores, h.ram_bytes};
    const kv_build_row build = {b->commit, b->dirty, b->flags, b->compiler, b->cuda[0] ? b->cuda : NULL};
    int rc = kv_store_host(s, &host, host_id, err);
    return rc ? rc : kv_store_build(s, &build, build_id, err);
}
