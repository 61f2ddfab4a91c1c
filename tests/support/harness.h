/* harness.h - a tiny model, policies by spec, and one call that runs prompts through kv_generate. */
#ifndef KV_TEST_HARNESS_H
#define KV_TEST_HARNESS_H

#include "engine/engine.h"
#include "engine/gates.h"
#include "policies/registry.h"

enum { TH_MAX_TOKENS = 128, TH_MAX_PROMPT = 2048 };

/* tests/golden/tiny-llama.gguf (2 layers, 4 query heads, 2 KV heads, head size 64); aborts the test on error. */
kv_engine *th_open_tiny(kv_numerics numerics, int n_threads);
kv_engine *th_open(const char *model, const char *adapter, kv_numerics numerics, int n_threads);

/* The tiny model on the first GPU; skips the test when there is none or the build has no CUDA. */
kv_engine *th_open_tiny_cuda(kv_numerics numerics);

/* A policy instance for the engine; the tiny gates are given to policies that need gates. */
typedef struct th_policy {
    kv_policy_spec spec;
    kv_setup setup;
    void *state;
    kv_gate_file *gates;
} th_policy;
void th_policy_open(th_policy *p, const kv_engine *e, const char *gates, const char *spec, int budget, int buffer);
void th_policy_close(th_policy *p);
extern const char *const th_tiny_gates;

typedef struct th_result {
    int done, status;
    kv_stop stop;
    int n;
    int32_t tokens[TH_MAX_TOKENS];
    uint64_t hash;
    double peak_slots, mean_slots;
    size_t kv_bytes_peak;
    int n_triggers;
    char err[256];
} th_result;

typedef struct th_config {
    int batch, chunk, max_new;
    int n_context;    /* of every prompt; 0 = whole */
    const int *order; /* order of arrival, NULL = 0, 1, ... */
    kv_sampling sampling;
    const kv_prefix *const *prefix; /* one per prompt, or NULL */
    const kv_trace *trace;
    int ignore_eos;
    int n_stop_ids;
    int32_t stop_ids[4];
} th_config;

/* Seeded ids below n_vocab; prompt i is n_tokens[i] long.  prompts (n, TH_MAX_PROMPT). */
void th_random_prompts(int32_t *prompts, const int *n_tokens, int n, int n_vocab, unsigned seed);

/* Runs all prompts and fills results[i] for prompt i; returns kv_generate's code. */
int th_generate(kv_engine *e, const kv_setup *s, const int32_t *prompts, const int *n_tokens, int n,
                const th_config *cfg, th_result *results, kv_generate_stats *stats, kv_error *err);

#endif
