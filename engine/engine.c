/* engine.c - opening a model, and teacher-forced logits. */
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/runner.h"
#ifdef KV_HAVE_CUDA
#include "engine/cuda/backend.h"
#endif

static int create_backend(const kv_engine_options *o, kv_backend **out, kv_error *err) {
    if (o->device == KV_CPU) return kv_cpu_backend_create(o->numerics, o->n_threads, KV_MAX_ROWS, out, err);
#ifdef KV_HAVE_CUDA
    return kv_cuda_backend_create(o->numerics, o->device_index, o->n_threads, out, err);
#else
    return kv_fail(err, KV_EUNSUPPORTED,
                   "this build has no CUDA backend: configure with -DKV_CUDA=ON, or use --backend "
                   "cpu");
#endif
}

static const char synth_prefix[] = "synth:";

static int open_model(kv_engine *e, const kv_engine_options *o, kv_error *err) {
    size_t n = sizeof synth_prefix - 1;
    if (strncmp(o->model_path, synth_prefix, n) == 0)
        return kv_model_synth(&e->model, e->backend, o->model_path + n, o->seed, err);
    int rc = kv_model_open(&e->model, e->backend, o->model_path, o->max_ctx, o->adapter_dir, err);
    if (rc == KV_OK) rc = kv_checkpoint_tokenizer(e->model.checkpoint, &e->tokenizer, &e->chat, err);
    return rc ? rc : kv_checkpoint_generation(e->model.checkpoint, e->tokenizer, &e->generation, err);
}

int kv_engine_open(const kv_engine_options *o, kv_engine **out, kv_error *err) {
    kv_engine *e = calloc(1, sizeof *e);
    if (!e) return kv_fail(err, KV_ENOMEM, "out of memory opening %s", o->model_path);
    int rc = create_backend(o, &e->backend, err);
    if (rc == KV_OK) kv_engine_limit_memory(e, o->memory_limit);
    if (rc == KV_OK) rc = open_model(e, o, err);
    if (rc == KV_OK && !e->backend->open_runner) rc = kv_cpu_workspace_create(e, err);
    if (rc) {
        kv_engine_close(e);
        return rc;
    }
    *out = e;
    return KV_OK;
}

void kv_engine_close(kv_engine *e) {
    if (!e) return;
    kv_cpu_workspace_free(e->ws);
    kv_tokenizer_close(e->tokenizer);
    if (e->backend) {
        kv_model_close(&e->model, e->backend);
        e->backend->ops->destroy(e->backend);
    }
    free(e);
}

const kv_model_info *kv_engine_info(const kv_engine *e) {
    return &e->model.info;
}
const kv_tokenizer *kv_engine_tokenizer(const kv_engine *e) {
    return e->tokenizer;
}
const kv_chat *kv_engine_chat(const kv_engine *e) {
    return e->chat;
}
const kv_generation *kv_engine_generation(const kv_engine *e) {
    return &e->generation;
}

const char *kv_stop_name(kv_stop s) {
    static const char *const names[] = {"eos", "length", "stop-string", "context", "error"};
    return (unsigned)s < sizeof names / sizeof *names ? names[s] : "unknown";
}

int kv_engine_memory(kv_engine *e, kv_memory *out, kv_error *err) {
    const kv_books *b = &e->backend->books;
    (void)err;
    *out = (kv_memory){.weights = b->used[KV_USE_WEIGHTS],
                       .kv = b->used[KV_USE_CACHE],
                       .workspace = b->used[KV_USE_WORKSPACE],
                       .graphs = b->used[KV_USE_GRAPHS],
                       .peak = b->peak,
                       .room = kv_books_room(b)};
#ifdef KV_HAVE_CUDA
    if (e->backend->open_runner) {
        kv_cuda_device_memory(e->backend, &out->device_free, &out->device_total);
        if (out->device_free < out->room) out->room = out->device_free;
    }
#endif
    return KV_OK;
}

void kv_engine_limit_memory(kv_engine *e, size_t bytes) {
    e->backend->books.limit = bytes;
}

const char *kv_engine_score_path(const kv_engine *e, const kv_setup *s) {
#ifdef KV_HAVE_CUDA
    if (e->backend->open_runner && !kv_cuda_setup_on_device(e->backend, s)) return "host";
#else
    (void)e;
    (void)s;
#endif
    return "device";
}

int kv_check_tokens(const kv_engine *e, const int32_t *tokens, int n, kv_error *err) {
    if (n < 1) return kv_fail(err, KV_EARG, "the prompt is empty");
    if (n > e->model.info.n_ctx)
        return kv_fail(err, KV_ELIMIT, "the prompt has %d tokens, the model's context is %d", n, e->model.info.n_ctx);
    for (int i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= e->model.info.n_vocab)
            return kv_fail(err, KV_EARG, "token id %d at position %d is outside the vocabulary of %d", tokens[i], i,
                           e->model.info.n_vocab);
    return KV_OK;
}

int kv_engine_logits(kv_engine *e, const int32_t *tokens, int n, float *out, kv_error *err) {
    const kv_columns none = {0};
    const kv_sampling greedy = {.top_p = 1};
    kv_runner *r = NULL;
    kv_seq seq = {.columns = &none};
    int rc = kv_check_tokens(e, tokens, n, err);
    if (rc == KV_OK) rc = kv_runner_open(e, &none, NULL, 1, &r, err);
    if (rc == KV_OK) rc = r->ops->seq_open(r, &seq, &greedy, n, err);
    for (int i = 0; rc == KV_OK && i < n;) {
        int rows = r->ops->piece_rows(r, i);
        if (rows > n - i) rows = n - i;
        kv_segment g = {.seq = &seq, .tokens = tokens + i, .n = rows, .err = err};
        rc = r->ops->forward(r, &g, 1, NULL, err);
        if (rc == KV_OK) rc = g.status;
        if (rc == KV_OK) rc = r->ops->read_logits(r, rows, out + (size_t)i * e->model.info.n_vocab, err);
        i += rows;
    }
    if (seq.device) r->ops->seq_close(r, &seq);
    if (r) r->ops->close(r);
    return rc;
}
