/* logits_pipe.c - token ids in, logits out, for scripts/compare_checkpoint.py:
 *
 *     logits_pipe MODEL cpu|cuda fast|exact N_NEW OUT <ids
 *
 * Reads decimal ids from standard input.  OUT gets the teacher-forced logits of every position, raw float32 (n,
 * n_vocab). One line of JSON on standard output: seconds for starting the device, for opening the model (apart, so that
 * the latter is the load) and for what else a run does once per model (opening the files again for their identity), the
 * process's largest memory until then, and N_NEW greedy tokens of the full cache with the largest log-probabilities of
 * each step. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/checkpoint.h"
#include "engine/engine.h"
#include "policies/registry.h"

enum { N_TOP = 16 };

typedef struct pipe_state {
    kv_engine *engine;
    kv_ids ids;
    int n_new, taken;
    kv_error err; /* of the sequence */
} pipe_state;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int read_ids(kv_ids *ids, kv_error *err) {
    int id, got;
    while ((got = scanf("%d", &id)) == 1) {
        if (ids->n == ids->cap) {
            size_t cap = ids->cap ? 2 * ids->cap : 1024;
            int32_t *p = realloc(ids->ids, cap * sizeof *p);
            if (!p) return kv_fail(err, KV_ENOMEM, "out of memory for the ids");
            ids->ids = p;
            ids->cap = cap;
        }
        ids->ids[ids->n++] = id;
    }
    return got == EOF && !ferror(stdin) ? KV_OK : kv_fail(err, KV_EFORMAT, "standard input: an id is no number");
}

static int write_logits(const pipe_state *p, const char *path, double *taken, kv_error *err) {
    size_t n = p->ids.n * (size_t)kv_engine_info(p->engine)->n_vocab;
    float *logits = malloc((n ? n : 1) * sizeof *logits);
    FILE *f = fopen(path, "wb");
    int rc = KV_OK;
    if (!logits) rc = kv_fail(err, KV_ENOMEM, "out of memory for %zu logits", n);
    if (!f) rc = kv_fail(err, KV_EIO, "%s: cannot be written", path);
    double start = seconds();
    if (rc == KV_OK) rc = kv_engine_logits(p->engine, p->ids.ids, (int)p->ids.n, logits, err);
    *taken = seconds() - start;
    if (rc == KV_OK && fwrite(logits, sizeof *logits, n, f) != n) rc = kv_fail(err, KV_EIO, "%s: write failed", path);
    if (f && fclose(f) && rc == KV_OK) rc = kv_fail(err, KV_EIO, "%s: write failed", path);
    free(logits);
    return rc;
}

static int next_request(void *user, kv_request *r) {
    pipe_state *p = user;
    if (p->taken) return 0;
    p->taken = 1;
    *r = (kv_request){.prompt = p->ids.ids,
                      .n_prompt = (int)p->ids.n,
                      .max_new = p->n_new,
                      .ignore_eos = 1,
                      .sampling = {.top_p = 1}};
    return 1;
}

static int print_tokens(void *user, const kv_request *r, const kv_completion *c) {
    pipe_state *p = user;
    (void)r;
    if (c->status) return kv_fail(&p->err, c->status, "%s", c->err.text);
    printf(",\"tokens\":[");
    for (int i = 0; i < c->n_tokens; i++) printf("%s%" PRId32, i ? "," : "", c->tokens[i]);
    printf("],\"top\":[");
    for (int i = 0; i < c->n_tokens; i++)
        for (int k = 0; k < N_TOP; k++) {
            const kv_top *t = &c->top[i * N_TOP + k];
            printf("%s[%" PRId32 ",%.9g]", k ? "," : i ? "],[" : "[", t->id, (double)t->logprob);
        }
    printf(c->n_tokens ? "]]" : "]");
    return KV_OK;
}

static int generate(pipe_state *p, kv_error *err) {
    const kv_model_info *info = kv_engine_info(p->engine);
    kv_policy_spec spec;
    void *state = NULL;
    int rc = kv_policy_parse("full", &spec, err);
    const kv_policy_args args = {spec.values, info->n_ctx, info->n_ctx, 0, NULL};
    if (rc == KV_OK) rc = spec.policy->open(&state, &info->shape, &args, err);
    if (rc) return rc;
    const kv_setup setup = {
        .policy = spec.policy, .state = state, .spec = spec.canonical, .budget = info->n_ctx, .buffer = info->n_ctx};
    const kv_generate_options o = {.batch = 1, .n_top = N_TOP, .next = next_request, .done = print_tokens, .user = p};
    rc = kv_generate(p->engine, &setup, &o, NULL, err);
    if (rc && p->err.code) *err = p->err;
    return rc;
}

/* On a GPU a small model first: opening it starts the device, which is no part of loading. */
static int open_models(kv_engine_options o, kv_engine **out, double taken[2], kv_error *err) {
    const char *const paths[] = {"synth:tiny", o.model_path};
    int rc = KV_OK;
    for (int i = o.device == KV_CPU; rc == KV_OK && i < 2; i++) {
        kv_engine_close(*out);
        *out = NULL;
        double start = seconds();
        o.model_path = paths[i];
        rc = kv_engine_open(&o, out, err);
        taken[i] = seconds() - start;
    }
    return rc;
}

/* Of this process: getrusage would begin with what its parent had at the fork. */
static long read_peak_kib(void) {
    char line[128];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "VmHWM: %ld", &kib) != 1)
        ;
    if (f) fclose(f);
    return kib;
}

static int identify(const char *path, double *taken, kv_error *err) {
    char model[65], tokenizer[65];
    kv_checkpoint *s = NULL;
    kv_tokenizer *t = NULL;
    const kv_chat *chat;
    double start = seconds();
    int rc = kv_checkpoint_open(path, 0, &s, err);
    if (rc == KV_OK) rc = kv_checkpoint_tokenizer(s, &t, &chat, err);
    if (rc == KV_OK) rc = kv_checkpoint_hash(s, t, model, tokenizer, err);
    *taken = seconds() - start;
    kv_tokenizer_close(t);
    kv_checkpoint_close(s);
    return rc;
}

int main(int argc, char **argv) {
    pipe_state p = {0};
    kv_error err = {0};
    double open_s[2] = {0}, identity_s = 0, logits_s = 0;
    long peak_kib = 0;
    int usable = argc == 6 && (p.n_new = atoi(argv[4])) >= 0;
    int rc = usable ? read_ids(&p.ids, &err)
                    : kv_fail(&err, KV_EARG, "usage: logits_pipe MODEL cpu|cuda fast|exact N_NEW OUT <ids");
    if (rc == KV_OK) {
        const kv_engine_options o = {.model_path = argv[1],
                                     .device = strcmp(argv[2], "cuda") == 0 ? KV_CUDA : KV_CPU,
                                     .numerics = strcmp(argv[3], "exact") == 0 ? KV_EXACT : KV_FAST};
        rc = open_models(o, &p.engine, open_s, &err);
        peak_kib = read_peak_kib();
    }
    if (rc == KV_OK) rc = identify(argv[1], &identity_s, &err);
    if (rc == KV_OK) rc = write_logits(&p, argv[5], &logits_s, &err);
    if (rc == KV_OK) {
        const kv_model_info *i = kv_engine_info(p.engine);
        printf("{\"device_s\":%.6f,\"open_s\":%.6f,\"identity_s\":%.6f,\"logits_s\":%.6f,\"peak_bytes\":%ld,"
               "\"weight_bytes\":%zu,\"weights\":\"%s\",\"backend\":\"%s\"",
               open_s[0], open_s[1], identity_s, logits_s, 1024 * peak_kib, i->weight_bytes, i->weights, i->backend);
        rc = generate(&p, &err);
        puts("}");
    }
    if (rc) fprintf(stderr, "logits_pipe: %s\n", err.text);
    kv_engine_close(p.engine);
    kv_ids_free(&p.ids);
    return rc != KV_OK;
}
