/* model_config.c - checks that hold for a model's sizes whatever file they came from. */
#include "engine/model_config.h"

int kv_model_config_check(const kv_model_config *c, const char *file, kv_error *err) {
    const kv_shape *s = &c->shape;
    if (s->n_layers < 1 || s->n_layers > 512 || s->n_heads < 1 || s->n_heads > 256 || s->dim < 1 || s->dim > 1 << 16 ||
        c->n_ff < 1 || c->n_ff > 1 << 18 || c->n_ctx < 1 || c->n_ctx > 1 << 21 || c->n_vocab < 1 ||
        c->n_vocab > 1 << 24 || !(c->rms_eps >= 0 && c->rms_eps < 1) || !(c->rope.base > 1 && c->rope.base < 1e12))
        return kv_fail(err, KV_EFORMAT,
                       "%s: a size is far outside of what models have (%d layers, width %d, %d heads, feed-forward %d, "
                       "vocabulary %d, context %d)",
                       file, s->n_layers, s->dim, s->n_heads, c->n_ff, c->n_vocab, c->n_ctx);
    if (s->n_kv_heads < 1 || s->n_heads % s->n_kv_heads)
        return kv_fail(err, KV_EFORMAT, "%s: %d query heads cannot share %d KV heads", file, s->n_heads, s->n_kv_heads);
    if (s->head_dim < 2 || s->head_dim % 2 || s->head_dim > 2 * KV_ROPE_HALF_MOST)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: head size %d is not supported (even numbers up to %d are)", file,
                       s->head_dim, 2 * KV_ROPE_HALF_MOST);
    return KV_OK;
}

int kv_model_config_limit(kv_model_config *c, int max_ctx, const char *file, kv_error *err) {
    if (max_ctx > c->n_ctx)
        return kv_fail(err, KV_EARG, "%s: a context of %d tokens was asked for, the model has %d", file, max_ctx,
                       c->n_ctx);
    if (max_ctx > 0) c->n_ctx = max_ctx;
    return KV_OK;
}

int64_t kv_model_config_params(const kv_model_config *c) {
    const kv_shape *s = &c->shape;
    int64_t dim = s->dim, nq = (int64_t)s->n_heads * s->head_dim, width = nq + 2 * (int64_t)s->n_kv_heads * s->head_dim;
    int64_t layer = dim * (width + nq + 3 * (int64_t)c->n_ff) + 2 * dim;
    if (c->qk_norm) layer += 2 * (int64_t)s->head_dim;
    if (c->qkv_bias) layer += width;
    return layer * s->n_layers + dim + (c->tied ? 1 : 2) * (int64_t)c->n_vocab * dim;
}
