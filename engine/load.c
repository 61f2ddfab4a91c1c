/* load.c - see load.h. */
#include "engine/load.h"

static int least(int a, int b) {
    return a < b ? a : b;
}

static int largest(int a, int b) {
    return a > b ? a : b;
}

int kv_context_end(const kv_request *q) {
    return q->n_context > 0 && q->n_context < q->n_prompt ? q->n_context : q->n_prompt;
}

/* Slots of a sequence from which nothing leaves, at its end: the last token is never appended. */
static int all_slots(const kv_request *q, int limit) {
    return q->n_prompt + largest(limit - 1, 0);
}

int kv_most_slots(const kv_setup *s, const kv_shape *shape, int chunk, const kv_request *q, int limit) {
    int all = all_slots(q, limit);
    if (s->policy->never_evicts) return all;
    int kept = kv_pooled_most(s, kv_pooling_of(s, shape), all);
    if (!chunk || q->prefix) kept = largest(q->n_prompt, kept) + 1;
    return least(kept, all);
}

void kv_load_of(const kv_setup *s, const kv_generate_options *o, const kv_model_info *in, kv_load *out) {
    const kv_request *q = o->like;
    int evicts = !s->policy->never_evicts, at = evicts ? s->budget + s->buffer : 0, forked = q->prefix != NULL;
    int limit = least(q->max_new, in->n_ctx - q->n_prompt), context = kv_context_end(q), rest = q->n_prompt - context;
    kv_pooling pooling = kv_pooling_of(s, &in->shape);
    *out = (kv_load){.n = o->batch, .forked = forked, .first = context, .draws = q->sampling.temperature > 0};
    out->n_heads = in->shape.n_layers * in->shape.n_kv_heads;
    out->shares = pooling.size > 1;
    out->max_slots = kv_most_slots(s, &in->shape, o->chunk, q, limit);
    if (o->chunk && !forked) {
        out->rows = least(o->chunk, q->n_prompt);
        out->first = out->start = evicts ? least(q->n_prompt, at) : q->n_prompt;
    } else {
        int kept = evicts && context >= at ? s->budget : context;
        out->rows = forked ? rest : largest(context, rest);
        out->start = kept + rest;
    }
    int all = all_slots(q, limit);
    out->most = evicts ? least(at, all) : all;
    out->fullest = out->shares ? kv_pooled_most(s, pooling, all) : out->most;
}

/* Of one sequence. */
static int64_t pages(const kv_load *l, int slots) {
    int64_t n = l->n_heads, up = slots + KV_PAGE - 1;
    return l->shares ? n * up / KV_PAGE : n * (up / KV_PAGE);
}

int64_t kv_load_pages(const kv_load *l) {
    int64_t n = l->n, decode = n * pages(l, l->most), prompt = n * pages(l, l->start);
    int64_t before = l->forked ? (n - 1) * pages(l, l->start) + pages(l, l->first) : n * pages(l, l->first);
    if (decode > before) before = decode;
    return prompt > before ? prompt : before;
}
