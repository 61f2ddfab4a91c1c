/* harness.c - see harness.h.  Test code: failures to set up end the test at once. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/harness.h"

const char *const th_tiny_gates = KV_SOURCE_DIR "/tests/golden/tiny-gates";

kv_engine *th_open(const char *model, const char *adapter, kv_numerics numerics, int n_threads) {
    kv_engine_options o = {.model_path = model, .adapter_dir = adapter, .numerics = numerics, .n_threads = n_threads};
    kv_engine *e = NULL;
    kv_error err;
    if (kv_engine_open(&o, &e, &err)) fail_msg("cannot open %s: %s", model, err.text);
    return e;
}

kv_engine *th_open_tiny(kv_numerics numerics, int n_threads) {
    return th_open(KV_SOURCE_DIR "/tests/golden/tiny-llama.gguf", NULL, numerics, n_threads);
}

kv_engine *th_open_tiny_cuda(kv_numerics numerics) {
    kv_engine_options o = {
        .model_path = KV_SOURCE_DIR "/tests/golden/tiny-llama.gguf", .numerics = numerics, .device = KV_CUDA};
    kv_engine *e = NULL;
    kv_error err;
    int rc = kv_engine_open(&o, &e, &err);
    if (rc == KV_ENOTFOUND || rc == KV_EUNSUPPORTED) {
        print_message("skipped: %s\n", err.text);
        skip();
    }
    if (rc) fail_msg("%s", err.text);
    return e;
}

void th_policy_open(th_policy *p, const kv_engine *e, const char *gates, const char *spec, int budget, int buffer) {
    kv_error err;
    const kv_shape *shape = &kv_engine_info(e)->shape;
    memset(p, 0, sizeof *p);
    if (kv_policy_parse(spec, &p->spec, &err)) fail_msg("%s", err.text);
    if ((p->spec.policy->needs & KV_NEED_GATES) && kv_gates_open(gates, shape, &p->gates, &err))
        fail_msg("%s", err.text);
    kv_policy_args args = {p->spec.values, budget, buffer, 7, p->gates ? kv_gates_view(p->gates) : NULL};
    if (p->spec.policy->open(&p->state, shape, &args, &err)) fail_msg("%s", err.text);
    p->setup = (kv_setup){.policy = p->spec.policy,
                          .state = p->state,
                          .spec = p->spec.canonical,
                          .budget = budget,
                          .buffer = buffer,
                          .gates = args.gates};
}

void th_policy_close(th_policy *p) {
    if (p->spec.policy->close) p->spec.policy->close(p->state);
    kv_gates_close(p->gates);
}

void th_random_prompts(int32_t *prompts, const int *n_tokens, int n, int n_vocab, unsigned seed) {
    uint64_t z = seed * 2654435761u + 1;
    for (int i = 0; i < n; i++) {
        for (int t = 0; t < n_tokens[i]; t++) {
            z = z * 6364136223846793005u + 1442695040888963407u;
            prompts[(size_t)i * TH_MAX_PROMPT + t] = (int32_t)((z >> 33) % (unsigned)n_vocab);
        }
    }
}

typedef struct feeder {
    const int32_t *prompts;
    const int *n_tokens;
    int n, next;
    const th_config *cfg;
    th_result *results;
} feeder;

static int next_request(void *user, kv_request *r) {
    feeder *f = user;
    if (f->next == f->n) return 0;
    int i = f->cfg->order ? f->cfg->order[f->next] : f->next;
    f->next++;
    r->prompt = f->prompts + (size_t)i * TH_MAX_PROMPT;
    r->n_prompt = f->n_tokens[i];
    r->n_context = f->cfg->n_context;
    r->max_new = f->cfg->max_new;
    r->ignore_eos = f->cfg->ignore_eos;
    r->sampling = f->cfg->sampling;
    r->sampling.seed += (uint64_t)i;
    r->prefix = f->cfg->prefix ? f->cfg->prefix[i] : NULL;
    r->user = &f->results[i];
    return 1;
}

static int take_result(void *user, const kv_request *r, const kv_completion *c) {
    (void)user;
    th_result *t = r->user;
    t->done++;
    t->status = c->status;
    t->stop = c->stop;
    t->n = c->n_tokens < TH_MAX_TOKENS ? c->n_tokens : TH_MAX_TOKENS;
    if (t->n) memcpy(t->tokens, c->tokens, (size_t)t->n * sizeof(int32_t));
    t->hash = c->logits_hash;
    t->peak_slots = c->peak_slots;
    t->mean_slots = c->mean_slots;
    t->kv_bytes_peak = c->kv_bytes_peak;
    t->n_triggers = c->n_triggers;
    snprintf(t->err, sizeof t->err, "%.255s", c->status ? c->err.text : "");
    return 0;
}

int th_generate(kv_engine *e, const kv_setup *s, const int32_t *prompts, const int *n_tokens, int n,
                const th_config *cfg, th_result *results, kv_generate_stats *stats, kv_error *err) {
    feeder f = {prompts, n_tokens, n, 0, cfg, results};
    memset(results, 0, (size_t)n * sizeof *results);
    kv_generate_options o = {.batch = cfg->batch,
                             .chunk = cfg->chunk,
                             .stop_ids = cfg->stop_ids,
                             .n_stop_ids = cfg->n_stop_ids,
                             .trace = cfg->trace,
                             .next = next_request,
                             .done = take_result,
                             .user = &f};
    return kv_generate(e, s, &o, stats, err);
}
