/* need.cu - what a batch takes of the device: counted, and taken before the first sequence runs.
 *
 * Every size comes from the function that the place of its allocation uses, and prediction and reservation walk over
 * the same list, so that neither can say something else than what is allocated.  Captured graphs are left out: their
 * size is the driver's. */
#include "engine/cuda/engine.cuh"

enum { MAX_PARTS = 13 };

typedef struct part {
    kv_cuda_buffer *buffer;
    size_t bytes;
    const char *what;
} part;

typedef struct parts {
    part list[MAX_PARTS];
    int n;
} parts;

static void add(parts *p, kv_cuda_buffer *b, size_t bytes, const char *what) {
    p->list[p->n++] = {b, bytes, what};
}

template <typename T> static T larger(T a, T b) {
    return a > b ? a : b;
}

/* Rows of the largest forward: of prompts as generate.c packs them, and of steps that are forwards too. */
static int widest_forward(const kv_cuda_runner *r, const kv_load *l) {
    int64_t most = larger(r->base.ops->most_rows(&r->base), l->rows), all = (int64_t)l->n * l->rows;
    int rows = (int)(all < most ? all : most);
    return r->fused ? rows : larger(rows, l->n);
}

/* Slots of the fullest head, at most, until the prompt is in. */
static int most_before(const kv_load *l) {
    return l->shares ? l->max_slots : larger(l->first, l->start);
}

static void list_forward(kv_cuda_runner *r, const kv_load *l, parts *p) {
    int rows = widest_forward(r, l), slots = most_before(l);
    if (!rows) return;
    size_t scratch = l->rows ? kv_cuda_prompt_scratch_bytes(r, l->n, l->rows, slots) : 0;
    if (!r->fused) scratch = larger(scratch, kv_cuda_prompt_scratch_bytes(r, l->n, 1, l->fullest));
    add(p, &r->prompt, kv_cuda_prompt_bytes(r, rows), "the rows of a prompt");
    add(p, &r->segments, kv_cuda_prompt_list_bytes(rows, l->n), "the rows of a prompt");
    add(p, &r->prompt_scratch, scratch, "attention");
    add(p, &r->mass, kv_cuda_prompt_mass_bytes(r, l->rows), "attention mass");
    add(p, &r->last, kv_cuda_prompt_last_bytes(r, l->n), "last rows");
}

/* A prompt is reduced by itself, the captured step reduces all sequences at once. */
static void list_eviction(kv_cuda_runner *r, const kv_load *l, parts *p) {
    int longest = larger(most_before(l), l->fullest);
    kv_cuda_evict_sizes one = kv_cuda_evict_bytes(r, 1, longest);
    kv_cuda_evict_sizes all = kv_cuda_evict_bytes(r, r->fused ? l->n : 1, kv_cuda_bound_slots(r, l->fullest));
    add(p, &r->score, larger(one.score, all.score), "scores");
    add(p, &r->kept, larger(one.kept, all.kept), "kept slots");
    add(p, &r->score_scratch, larger(one.scratch, all.scratch), "the scores of recent queries");
    add(p, &r->gathered, kv_cuda_gathered_bytes(r, longest), "a policy that runs on the host");
}

static void list_parts(kv_cuda_runner *r, const kv_load *l, parts *p) {
    const kv_model_info *in = &r->base.engine->model.info;
    const kv_shape *s = &in->shape;
    p->n = 0;
    list_forward(r, l, p);
    if (kv_cuda_evicts(r)) list_eviction(r, l, p);
    add(p, &r->sample_scratch, kv_cuda_sample_scratch_bytes(l->n, in->n_vocab), "sampling");
    if (!r->fused) return;
    int bound = kv_cuda_bound_slots(r, l->fullest);
    add(p, &r->decode, kv_cuda_decode_bytes(r, l->n), "a decode step");
    add(p, &r->attend_scratch, kv_cuda_decode_attend_scratch_bytes(l->n, s->n_kv_heads, s->head_dim, bound),
        "attention");
    add(p, &r->scores, kv_cuda_scores_bytes(r, l->n, bound), "attention mass");
}

void kv_cuda_need(kv_runner *base, const kv_load *l, kv_memory *out) {
    kv_cuda_runner *r = kv_cuda_runner_of(base);
    parts p;
    list_parts(r, l, &p);
    out->kv = kv_cuda_pool_bytes(r, kv_load_pages(l));
    out->workspace = kv_cuda_state_bytes(r, l->n) + kv_cuda_logits_bytes(r, l->n) + kv_cuda_rings_bytes(r, l->n) +
                     l->n * kv_cuda_table_bytes(r, l->max_slots) + kv_cuda_pool_list_bytes(r, kv_load_pages(l));
    for (int i = 0; i < p.n; i++) out->workspace += p.list[i].bytes;
}

int kv_cuda_reserve(kv_runner *base, const kv_load *l, kv_error *err) {
    kv_cuda_runner *r = kv_cuda_runner_of(base);
    parts p;
    list_parts(r, l, &p);
    int rc = kv_cuda_pool_ensure(r, kv_load_pages(l), err);
    for (int i = 0; rc == KV_OK && i < l->n; i++) rc = kv_cuda_row_table(r, i, l->max_slots, err);
    for (int i = 0; rc == KV_OK && i < p.n; i++)
        rc = kv_cuda_grow(r, p.list[i].buffer, KV_USE_WORKSPACE, p.list[i].bytes, p.list[i].what, err);
    return rc;
}
