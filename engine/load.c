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

int kv_most_slots(const kv_setup *s, int chunk, const kv_request *q, int limit) {
    int all = q->n_prompt + (limit > 0 ? limit - 1 : 0); /* the last token is never appended */
    int kept = s->budget + s->buffer;
    if (s->policy->never_evicts) return all;
    if (!chunk || q->prefix) kept = largest(q->n_prompt, kept) + 1;
    return least(kept, all);
}

void kv_load_of(const kv_setup *s, const kv_generate_options *o, int n_ctx, kv_load *out) {
    const kv_request *q = o->like;
    int evicts = !s->policy->never_evicts, at = evicts ? s->budget + s->buffer : 0, forked = q->prefix != NULL;
    int limit = least(q->max_new, n_ctx - q->n_prompt), context = kv_context_end(q), rest = q->n_prompt - context;
    *out = (kv_load){.n = o->batch, .forked = forked, .first = context, .draws = q->sampling.temperature > 0};
    out->max_slots = kv_most_slots(s, o->chunk, q, limit);
    if (o->chunk && !forked) {
        out->rows = least(o->chunk, q->n_prompt);
        out->first = out->start = evicts ? least(q->n_prompt, at) : q->n_prompt;
    } else {
        int kept = evicts && context >= at ? s->budget : context;
        out->rows = forked ? rest : largest(context, rest);
        out->start = kept + rest;
    }
    int all = q->n_prompt + largest(limit - 1, 0);
    out->most = evicts ? least(at, all) : all;
}

static int64_t pages(int slots) {
    return (slots + KV_PAGE - 1) / KV_PAGE;
}

int64_t kv_load_pages(const kv_load *l) {
    int64_t n = l->n, decode = n * pages(l->most), prompt = n * pages(l->start);
    int64_t before = l->forked ? (n - 1) * pages(l->start) + pages(l->first) : n * pages(l->first);
    if (decode > before) before = decode;
    return prompt > before ? prompt : before;
}
