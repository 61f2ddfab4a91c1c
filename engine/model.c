/* model.c - from a model's files (and a LoRA adapter) to backend matrices.
 *
 * GGUF files of the llama architecture store the rows of q and k with each rotary pair side by side; they are put
 * back into Hugging Face order (all first halves, then all second halves of a head), because adapters, gates and the
 * rotate-half kernel use that order.  q, k and v become one matrix, gate and up another: fewer, larger products; files
 * of Phi-3 hold them so already.  The backend reads the rows of a matrix as it needs them (weights.h). */
#include "engine/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/adapter.h"

typedef struct binder {
    kv_model *m;
    kv_backend *b;
    const kv_checkpoint *src;
    const kv_model_config *config;
    const kv_adapter *adapter;
    size_t next_vector; /* floats used in m->vectors */
} binder;

static const float *load_vector(binder *bd, kv_role role, int layer, int n) {
    kv_tensor t = kv_checkpoint_tensor(bd->src, role, layer);
    float *dst = bd->m->vectors + bd->next_vector;
    kv_dequantize(t.type, t.data, dst, (size_t)n);
    bd->next_vector += (size_t)n;
    return dst;
}

static int part_of(const binder *bd, kv_role role, int layer, kv_weight_part *out, kv_lora *lora, kv_error *err) {
    kv_tensor t = kv_checkpoint_tensor(bd->src, role, layer);
    int pairs = bd->config->pair_rows && (role == KV_ROLE_Q || role == KV_ROLE_K), rc = KV_OK;
    if (bd->adapter && kv_role_module(role))
        rc = kv_adapter_lora(bd->adapter, layer, kv_role_module(role), (int)t.dims[0], (int)t.dims[1], lora, err);
    *out = (kv_weight_part){.n_rows = (int)t.dims[0],
                            .type = t.type,
                            .data = t.data,
                            .map = t.map,
                            .file = t.file,
                            .pair_dim = pairs ? bd->config->shape.head_dim : 0,
                            .lora = lora->a ? lora : NULL};
    return rc;
}

/* One matrix of the tensors of n roles, one below the other. */
static int load_matrix(binder *bd, int layer, const kv_role *roles, int n, kv_matrix **out, kv_error *err) {
    kv_lora loras[KV_WEIGHT_PARTS] = {0};
    kv_weights w = {.n_in = (int)kv_checkpoint_tensor(bd->src, roles[0], layer).dims[1], .n_parts = n};
    int rc = KV_OK;
    for (int i = 0; rc == KV_OK && i < n; i++) {
        rc = part_of(bd, roles[i], layer, &w.parts[i], &loras[i], err);
        w.n_out += w.parts[i].n_rows;
    }
    if (rc == KV_OK) rc = bd->b->ops->matrix_create(bd->b, &w, out, err);
    if (rc == KV_OK) bd->m->info.weight_bytes += bd->b->ops->matrix_bytes(*out);
    for (int i = 0; i < n; i++) kv_lora_free(&loras[i]);
    return rc;
}

static void load_vectors(binder *bd, int layer) {
    const kv_shape *s = &bd->config->shape;
    kv_layer *ly = &bd->m->layers[layer];
    ly->attn_norm = load_vector(bd, KV_ROLE_ATTN_NORM, layer, s->dim);
    ly->ffn_norm = load_vector(bd, KV_ROLE_FFN_NORM, layer, s->dim);
    if (bd->config->qk_norm) {
        ly->q_norm = load_vector(bd, KV_ROLE_Q_NORM, layer, s->head_dim);
        ly->k_norm = load_vector(bd, KV_ROLE_K_NORM, layer, s->head_dim);
    }
    if (bd->config->qkv_bias) { /* one behind the other */
        ly->qkv_bias = load_vector(bd, KV_ROLE_Q_BIAS, layer, s->n_heads * s->head_dim);
        load_vector(bd, KV_ROLE_K_BIAS, layer, s->n_kv_heads * s->head_dim);
        load_vector(bd, KV_ROLE_V_BIAS, layer, s->n_kv_heads * s->head_dim);
    }
}

static int load_layer(binder *bd, int layer, kv_error *err) {
    static const kv_role qkv[] = {KV_ROLE_Q, KV_ROLE_K, KV_ROLE_V}, gate_up[] = {KV_ROLE_GATE, KV_ROLE_UP};
    static const kv_role fused_qkv[] = {KV_ROLE_QKV}, fused_gate_up[] = {KV_ROLE_GATE_UP};
    static const kv_role out[] = {KV_ROLE_OUT}, down[] = {KV_ROLE_DOWN};
    kv_layer *ly = &bd->m->layers[layer];
    int fused = bd->config->fused;
    int rc = load_matrix(bd, layer, fused ? fused_qkv : qkv, fused ? 1 : 3, &ly->qkv, err);
    if (rc == KV_OK) rc = load_matrix(bd, layer, out, 1, &ly->out, err);
    if (rc == KV_OK) rc = load_matrix(bd, layer, fused ? fused_gate_up : gate_up, fused ? 1 : 2, &ly->gate_up, err);
    if (rc == KV_OK) rc = load_matrix(bd, layer, down, 1, &ly->down, err);
    if (rc == KV_OK) load_vectors(bd, layer);
    return rc;
}

/* Angles as transformers computes them: inverse frequencies and products rounded to fp32. */
static int make_rope(binder *bd, kv_error *err) {
    kv_model *m = bd->m;
    int half = m->info.shape.head_dim / 2, n_ctx = m->info.n_ctx;
    float *inv = m->rope_inv = malloc((size_t)half * sizeof *inv);
    if (!inv) return kv_fail(err, KV_ENOMEM, "out of memory for the rotary frequencies");
    m->rope_scale = kv_rope_frequencies(&bd->config->rope, m->info.shape.head_dim, n_ctx, inv);
    if (bd->b->gathers_embedding) return KV_OK;
    m->rope_cos = malloc((size_t)n_ctx * half * sizeof(float));
    m->rope_sin = malloc((size_t)n_ctx * half * sizeof(float));
    if (!m->rope_cos || !m->rope_sin)
        return kv_fail(err, KV_ENOMEM, "out of memory for the rotary table of %d positions", n_ctx);
    for (int p = 0; p < n_ctx; p++) {
        for (int i = 0; i < half; i++) {
            float angle = (float)p * inv[i];
            m->rope_cos[(size_t)p * half + i] = cosf(angle) * m->rope_scale;
            m->rope_sin[(size_t)p * half + i] = sinf(angle) * m->rope_scale;
        }
    }
    m->rope = (kv_rope_table){m->rope_cos, m->rope_sin, n_ctx, half};
    return KV_OK;
}

static int load_head(binder *bd, kv_error *err) {
    static const kv_role embed[] = {KV_ROLE_EMBED}, head[] = {KV_ROLE_HEAD};
    kv_model *m = bd->m;
    int tied = bd->config->tied;
    m->embed = kv_checkpoint_tensor(bd->src, KV_ROLE_EMBED, 0);
    int rc = load_matrix(bd, 0, tied ? embed : head, 1, &m->head, err);
    if (rc || !bd->b->gathers_embedding) return rc;
    m->embed_matrix = m->head;
    return tied ? KV_OK : load_matrix(bd, 0, embed, 1, &m->embed_matrix, err);
}

void kv_model_finish(kv_model *m, const kv_backend *b) {
    int exact = b->numerics == KV_EXACT;
    m->info.bytes_per_slot = (size_t)2 * m->info.shape.head_dim * (exact ? 4 : 2);
    m->info.backend = b->ops->name;
    m->info.cache_type = exact ? "f32" : b->open_runner ? "bf16" : "f16";
}

static void fill_info(kv_model *m, const kv_model_config *c) {
    m->info.shape = c->shape;
    m->info.n_ff = c->n_ff;
    m->info.n_vocab = c->n_vocab;
    m->info.n_ctx = c->n_ctx;
    snprintf(m->info.arch, sizeof m->info.arch, "%s", c->arch);
    snprintf(m->info.name, sizeof m->info.name, "%s", c->name);
    m->rms_eps = c->rms_eps;
}

/* Modules that an adapter of this model may change. */
static int check_adapter(const binder *bd, kv_error *err) {
    const char *modules[KV_N_ROLES];
    size_t n = 0;
    for (int r = 0; r < KV_N_ROLES; r++)
        if (kv_role_module((kv_role)r) && kv_role_is_used(bd->config, (kv_role)r))
            modules[n++] = kv_role_module((kv_role)r);
    return kv_adapter_check(bd->adapter, bd->config->shape.n_layers, modules, n, err);
}

static int load_all(binder *bd, kv_error *err) {
    kv_model *m = bd->m;
    const kv_shape *s = &m->info.shape;
    int rc = KV_OK;
    fill_info(m, bd->config);
    if (bd->adapter && (rc = check_adapter(bd, err))) return rc;
    size_t nq = (size_t)s->n_heads * s->head_dim, nk = (size_t)s->n_kv_heads * s->head_dim;
    size_t per_layer = 2 * (size_t)s->dim + (bd->config->qk_norm ? 2 * (size_t)s->head_dim : 0) +
                       (bd->config->qkv_bias ? nq + 2 * nk : 0);
    m->layers = calloc((size_t)s->n_layers, sizeof *m->layers);
    m->vectors = calloc(per_layer * (size_t)s->n_layers + (size_t)s->dim, sizeof *m->vectors);
    if (!m->layers || !m->vectors)
        return kv_fail(err, KV_ENOMEM, "out of memory loading %s", kv_checkpoint_path(bd->src));
    rc = load_head(bd, err);
    for (int l = 0; rc == KV_OK && l < s->n_layers; l++) rc = load_layer(bd, l, err);
    if (rc == KV_OK && bd->b->ops->matrices_end) rc = bd->b->ops->matrices_end(bd->b, err);
    if (rc || (rc = make_rope(bd, err))) return rc;
    m->out_norm = load_vector(bd, KV_ROLE_OUT_NORM, 0, s->dim);
    kv_tensor t = kv_checkpoint_tensor(bd->src, bd->config->fused ? KV_ROLE_QKV : KV_ROLE_Q, 0);
    snprintf(m->info.weights, sizeof m->info.weights, "%s (from %s%s)", bd->b->ops->matrix_format(m->head),
             kv_dtype_name(t.type), bd->adapter ? " + LoRA" : "");
    kv_model_finish(m, bd->b);
    return KV_OK;
}

int kv_model_open(kv_model *m, kv_backend *b, const char *path, int max_ctx, const char *adapter_dir, kv_error *err) {
    kv_adapter *adapter = NULL;
    memset(m, 0, sizeof *m);
    int rc = kv_checkpoint_open(path, max_ctx, &m->checkpoint, err);
    if (rc == KV_OK && adapter_dir) rc = kv_adapter_open(adapter_dir, &adapter, err);
    if (rc == KV_OK) {
        binder bd = {m, b, m->checkpoint, kv_checkpoint_config(m->checkpoint), adapter, 0};
        rc = load_all(&bd, err);
    }
    kv_adapter_close(adapter);
    if (rc) kv_model_close(m, b);
    return rc;
}

void kv_model_close(kv_model *m, kv_backend *b) {
    const kv_ops *ops = b->ops;
    for (int l = 0; m->layers && l < m->info.shape.n_layers; l++) {
        ops->matrix_free(b, m->layers[l].qkv);
        ops->matrix_free(b, m->layers[l].out);
        ops->matrix_free(b, m->layers[l].gate_up);
        ops->matrix_free(b, m->layers[l].down);
    }
    if (m->embed_matrix != m->head) ops->matrix_free(b, m->embed_matrix);
    ops->matrix_free(b, m->head);
    free(m->layers);
    free(m->vectors);
    free(m->rope_inv);
    free(m->rope_cos);
    free(m->rope_sin);
    kv_checkpoint_close(m->checkpoint);
    memset(m, 0, sizeof *m);
}

void kv_model_embed(const kv_model *m, int32_t token, float *out) {
    size_t dim = (size_t)m->info.shape.dim;
    size_t row = kv_dtype_bytes(m->embed.type, dim);
    kv_dequantize(m->embed.type, (const char *)m->embed.data + row * (size_t)token, out, dim);
}
