/* sampling.c - from options and generation_config.json to one kv_sampling, and the seed of every sample. */
#include "bench/sampling.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/file.h"
#include "engine/generation.h"

static const kv_opt_id values[] = {KV_OPT_TEMPERATURE, KV_OPT_TOP_P, KV_OPT_TOP_K, KV_OPT_MIN_P};
enum { N_VALUES = sizeof values / sizeof *values };

/* The first of the four that was typed, or NULL. */
static const char *typed(const kv_opts *o) {
    for (int i = 0; i < N_VALUES; i++)
        if (kv_opts_given(o, values[i])) return kv_opt_table()[values[i]].name;
    return NULL;
}

static void apply_typed(const kv_opts *o, kv_sampling *s) {
    if (kv_opts_given(o, KV_OPT_TEMPERATURE)) s->temperature = (float)kv_opts_real(o, KV_OPT_TEMPERATURE);
    if (kv_opts_given(o, KV_OPT_TOP_P)) s->top_p = (float)kv_opts_real(o, KV_OPT_TOP_P);
    if (kv_opts_given(o, KV_OPT_TOP_K)) s->top_k = (int)kv_opts_int(o, KV_OPT_TOP_K);
    if (kv_opts_given(o, KV_OPT_MIN_P)) s->min_p = (float)kv_opts_real(o, KV_OPT_MIN_P);
}

kv_sampling kv_sampling_recommended(const kv_generation *g) {
    if (g->do_sample != 1) return (kv_sampling){.top_p = 1};
    return (kv_sampling){.temperature = g->temperature >= 0 ? g->temperature : 1,
                         .top_p = g->top_p >= 0 ? g->top_p : 1,
                         .top_k = g->top_k >= 0 ? g->top_k : 50,
                         .min_p = g->min_p >= 0 ? g->min_p : 0};
}

static int from_model(const kv_identity *m, kv_sampling *out, kv_error *err) {
    static const char name[] = "generation_config.json";
    char path[KV_PATH_MAX + sizeof name + 1];
    struct stat st;
    kv_generation g = kv_generation_none();
    const char *slash = strrchr(m->model_path, '/');
    if (stat(m->model_path, &st) == 0 && S_ISDIR(st.st_mode))
        snprintf(path, sizeof path, "%s/%s", m->model_path, name);
    else
        snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash + 1 - m->model_path) : 0, m->model_path, name);
    if (!kv_path_exists(path))
        return kv_fail(err, KV_EARG,
                       "--sampling model: %.300s is not there: put the checkpoint's file there, or give --temperature "
                       "and the like",
                       path);
    int rc = kv_generation_load(path, &g, err);
    if (rc == KV_OK) *out = kv_sampling_recommended(&g);
    return rc;
}

int kv_sampling_choose(const kv_opts *o, const kv_identity *model, kv_sampling *out, kv_error *err) {
    const char *how = kv_opts_text(o, KV_OPT_SAMPLING), *value = typed(o);
    if (!how) how = value ? "custom" : "greedy";
    *out = (kv_sampling){.top_p = 1};
    if (strcmp(how, "greedy") == 0) {
        if (value) return kv_fail(err, KV_EARG, "--sampling greedy does not go with --%s", value);
        return KV_OK;
    }
    if (strcmp(how, "model") == 0) {
        int rc = from_model(model, out, err);
        if (rc) return rc;
    } else {
        out->temperature = 1;
    }
    apply_typed(o, out);
    return KV_OK;
}

uint64_t kv_sampling_seed(int64_t seed, const char *item, int k) {
    char text[160], hex[65];
    int n = snprintf(text, sizeof text, "%lld/%s/%d", (long long)seed, item, k);
    kv_sha256_bytes(text, (size_t)n, hex);
    hex[16] = 0;
    return strtoull(hex, NULL, 16);
}
