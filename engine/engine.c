/* engine.c - opening a model, and teacher-forced logits. */
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

static int workspace_init(kv_engine *e, kv_error *err) {
    const kv_model_info *in = &e->model.info;
    const kv_shape *s = &in->shape;
    kv_workspace *ws = &e->ws;
    size_t rows = KV_MAX_ROWS, nq = (size_t)s->n_heads * s->head_dim, nk = (size_t)s->n_kv_heads * s->head_dim;
    size_t att = nq > (size_t)s->dim ? nq : (size_t)s->dim;
    const struct {
        float **p;
        size_t n;
    } want[] = {
        {&ws->x, rows * s->dim},
        {&ws->qkv, rows * (nq + 2 * nk)},
        {&ws->att, rows * att},
        {&ws->gate_up, rows * 2 * in->n_ff},
        {&ws->hidden, rows * s->dim},
        {&ws->k, rows * nk},
        {&ws->v, rows * nk},
        {&ws->stats, rows * s->n_kv_heads * KV_MAX_COLUMN_SETS * KV_MAX_STATS},
        {&ws->stats_one, rows * s->n_kv_heads * KV_MAX_STATS},
        {&ws->last, (size_t)KV_MAX_BATCH * s->dim},
        {&ws->services, KV_SERVICE_SCRATCH},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        *want[i].p = aligned_alloc(64, (want[i].n * sizeof(float) + 63) & ~(size_t)63);
        if (!*want[i].p) return kv_fail(err, KV_ENOMEM, "out of memory for the engine's work buffers");
    }
    ws->pos = malloc(rows * sizeof *ws->pos);
    return ws->pos ? KV_OK : kv_fail(err, KV_ENOMEM, "out of memory for the engine's work buffers");
}

static void workspace_free(kv_workspace *ws) {
    float *const all[] = {ws->x, ws->qkv,   ws->att,       ws->gate_up, ws->hidden,  ws->k,
                          ws->v, ws->stats, ws->stats_one, ws->last,    ws->services};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(ws->pos);
}

static int open_tokenizer(kv_engine *e, const char *path, kv_error *err) {
    const char *jinja = NULL;
    size_t len = 0;
    int rc = kv_tokenizer_from_gguf(e->model.file, &e->tokenizer, err);
    if (rc) return rc;
    if (kv_tokenizer_n_tokens(e->tokenizer) > (size_t)e->model.info.n_vocab)
        return kv_fail(err, KV_EFORMAT, "%s: the tokenizer has %zu tokens, the embedding only %d rows", path,
                       kv_tokenizer_n_tokens(e->tokenizer), e->model.info.n_vocab);
    if (kv_gguf_string(e->model.file, "tokenizer.chat_template", &jinja, &len, NULL) == KV_OK)
        e->chat = kv_chat_detect(jinja, len, e->tokenizer);
    return KV_OK;
}

int kv_engine_open(const kv_engine_options *o, kv_engine **out, kv_error *err) {
    kv_engine *e = calloc(1, sizeof *e);
    if (!e) return kv_fail(err, KV_ENOMEM, "out of memory opening %s", o->model_path);
    int rc = kv_cpu_backend_create(o->numerics, o->n_threads, KV_MAX_ROWS, &e->backend, err);
    if (rc == KV_OK) rc = kv_model_open(&e->model, e->backend, o->model_path, o->adapter_dir, err);
    if (rc == KV_OK) rc = open_tokenizer(e, o->model_path, err);
    if (rc == KV_OK) rc = workspace_init(e, err);
    if (rc) {
        kv_engine_close(e);
        return rc;
    }
    *out = e;
    return KV_OK;
}

void kv_engine_close(kv_engine *e) {
    if (!e) return;
    workspace_free(&e->ws);
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

const char *kv_stop_name(kv_stop s) {
    static const char *const names[] = {"eos", "length", "stop-string", "context", "error"};
    return (unsigned)s < sizeof names / sizeof *names ? names[s] : "unknown";
}

int kv_cache_pool_create(const kv_engine *e, const kv_columns *c, kv_page_pool **out, kv_error *err) {
    kv_page_layout l;
    kv_page_layout_init(&l, e->backend->numerics == KV_EXACT ? KV_CACHE_F32 : KV_CACHE_F16,
                        e->model.info.shape.head_dim, c->n_cols, c->has_mass);
    return kv_page_pool_create(&l, out, err);
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
    kv_page_pool *pool = NULL;
    kv_seq seq = {0};
    int rc = kv_check_tokens(e, tokens, n, err);
    if (rc == KV_OK) rc = kv_cache_pool_create(e, &none, &pool, err);
    if (rc == KV_OK) rc = kv_seq_init(&seq, e, pool, &none, NULL, err);
    /* one row at a time needs no second path for logits, but a forward of many rows is much faster: the last hidden
     * rows stay in the workspace, so the head runs over them afterwards */
    for (int i = 0; rc == KV_OK && i < n; i += KV_PREFILL_ROWS) {
        int rows = n - i < KV_PREFILL_ROWS ? n - i : KV_PREFILL_ROWS;
        kv_segment g = {.seq = &seq, .tokens = tokens + i, .n = rows, .err = err};
        rc = kv_forward(e, &g, 1, NULL, err);
        if (rc == KV_OK) rc = g.status;
        if (rc == KV_OK)
            e->backend->ops->matmul(e->backend, &(kv_matmul_args){.out = out + (size_t)i * e->model.info.n_vocab,
                                                                  .x = e->ws.x,
                                                                  .w = e->model.head,
                                                                  .n_rows = rows,
                                                                  .norm_weight = e->model.out_norm,
                                                                  .norm_eps = e->model.rms_eps});
    }
    kv_seq_free(&seq);
    kv_page_pool_free(pool);
    return rc;
}
