/* decode.cu - decode steps on the GPU: buffers, and the step of decode_step.cu captured once in a graph and replayed.
 *
 * All buffers are there before; nothing is allocated and nothing waits for the host.  A graph serves any sequences in
 * its rows: which rows take part, their lengths and tables lie in device memory. */
#include "engine/cuda/decode_step.cuh"

size_t kv_cuda_decode_bytes(const kv_cuda_runner *r, int n) {
    const kv_model_info *in = &r->base.engine->model.info;
    const kv_shape *s = &in->shape;
    size_t dim = s->dim, nq = (size_t)s->n_heads * s->head_dim, width = nq + 2 * (size_t)s->n_kv_heads * s->head_dim;
    size_t mid = (size_t)kv_cuda_mid_floats(r) * s->n_layers;
    size_t floats = n * (dim + width + mid + kv_cuda_skinny_squares(s->dim)),
           halves = kv_cuda_whole_bands(n) * (dim + nq + in->n_ff);
    return floats * 4 + halves * 2 + 4096;
}

size_t kv_cuda_scores_bytes(const kv_cuda_runner *r, int n, int most_slots) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    return r->columns->has_mass ? (size_t)n * s->n_heads * s->n_layers * (most_slots + 1) * sizeof(float) : 0;
}

/* Cuts the decode buffers out of one allocation. */
static int cut_buffers(kv_cuda_runner *r, int n, kv_error *err) {
    const kv_model_info *in = &r->base.engine->model.info;
    const kv_shape *s = &in->shape;
    size_t dim = s->dim, nq = (size_t)s->n_heads * s->head_dim, width = nq + 2 * (size_t)s->n_kv_heads * s->head_dim;
    size_t mid = (size_t)kv_cuda_mid_floats(r) * s->n_layers, bands = kv_cuda_whole_bands(n);
    if (n <= r->decode_rows && r->normed == r->decode.p) return KV_OK; /* a reservation may have moved them */
    r->decode_rows = 0;
    int rc = kv_cuda_grow(r, &r->decode, KV_USE_WORKSPACE, kv_cuda_decode_bytes(r, n), "a decode step", err);
    if (rc) return rc;
    /* bf16 rows first: they are read in pieces of 16 bytes, and all their sizes are multiples of that */
    r->normed = (__nv_bfloat16 *)r->decode.p;
    r->att = r->normed + bands * dim;
    r->h = r->att + bands * nq;
    r->x = (float *)(((size_t)(r->h + bands * (size_t)in->n_ff) + 255) & ~(size_t)255);
    r->qkv = r->x + n * dim;
    r->mid = r->qkv + n * width;
    r->squares = r->mid + n * mid;
    r->decode_rows = n;
    /* rows without a sequence are multiplied too */
    cudaError_t c = cudaMemsetAsync(r->decode.p, 0, r->decode.bytes, r->b->stream);
    return c == cudaSuccess ? KV_OK : kv_cuda_failed(c, "decode buffers", err);
}

void kv_cuda_drop_graphs(kv_cuda_runner *r) {
    kv_books *b = &r->b->base.books;
    for (int i = 0; i < r->n_graphs; i++) {
        cudaGraphExecDestroy(r->graphs[i].exec);
        kv_books_remove(b, KV_USE_GRAPHS, r->graphs[i].bytes);
    }
    r->n_graphs = 0;
}

static int decode_prepare(kv_cuda_runner *r, int n, int most_slots, kv_error *err) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    int rc = cut_buffers(r, n, err);
    if (rc == KV_OK)
        rc = kv_cuda_grow(r, &r->attend_scratch, KV_USE_WORKSPACE,
                          kv_cuda_decode_attend_scratch_bytes(n, s->n_kv_heads, s->head_dim, most_slots), "attention",
                          err);
    if (rc == KV_OK)
        rc = kv_cuda_grow(r, &r->scores, KV_USE_WORKSPACE, kv_cuda_scores_bytes(r, n, most_slots), "attention mass",
                          err);
    if (rc == KV_OK && r->setup && !r->setup->policy->never_evicts) rc = kv_cuda_evict_prepare(r, n, most_slots, err);
    return rc ? rc : kv_cuda_sampling_prepare(r, n, err);
}

static int capture(kv_cuda_runner *r, int n, int most_slots, int reduces, kv_cuda_graph *out, kv_error *err) {
    kv_cuda_pass p = {r, n, most_slots, NULL, NULL, NULL, 0, cudaSuccess};
    cudaGraph_t graph = NULL;
    size_t before = 0, after = 0, total;
    cudaMemGetInfo(&before, &total);
    cudaError_t c = cudaStreamBeginCapture(r->b->stream, cudaStreamCaptureModeThreadLocal);
    if (c != cudaSuccess) return kv_cuda_failed(c, "capture of the decode step", err);
    kv_cuda_enqueue_step(&p, reduces);
    c = cudaStreamEndCapture(r->b->stream, &graph);
    if (p.rc != cudaSuccess) c = p.rc;
    *out = (kv_cuda_graph){n, most_slots, reduces, NULL, p.n_launches, 0};
    if (c == cudaSuccess) c = cudaGraphInstantiate(&out->exec, graph, 0);
    if (c == cudaSuccess) c = cudaGraphUpload(out->exec, r->b->stream);
    if (graph) cudaGraphDestroy(graph);
    if (c != cudaSuccess) {
        if (out->exec) cudaGraphExecDestroy(out->exec);
        return kv_cuda_failed(c, "capture of the decode step", err);
    }
    cudaMemGetInfo(&after, &total);
    out->bytes = before > after ? before - after : 0;
    int rc = kv_books_check(&r->b->base.books, out->bytes, "the captured decode step", err);
    if (rc)
        cudaGraphExecDestroy(out->exec);
    else
        kv_books_add(&r->b->base.books, KV_USE_GRAPHS, out->bytes);
    return rc;
}

static int find_graph(kv_cuda_runner *r, int n, int most_slots, int reduces, kv_cuda_graph **out, kv_error *err) {
    for (int i = 0; i < r->n_graphs; i++) {
        kv_cuda_graph *g = &r->graphs[i];
        if (g->n_rows != n || g->most_slots != most_slots || g->reduces != reduces) continue;
        *out = g;
        return KV_OK;
    }
    if (r->n_graphs == KV_CUDA_GRAPHS) kv_cuda_drop_graphs(r);
    int rc = capture(r, n, most_slots, reduces, &r->graphs[r->n_graphs], err);
    if (rc) return rc;
    *out = &r->graphs[r->n_graphs++];
    return KV_OK;
}

static int profiled_step(kv_cuda_runner *r, int n, int most_slots, int reduces, kv_profile *profile, kv_error *err) {
    kv_cuda_pass p = {r, n, most_slots, profile, NULL, NULL, 0, cudaSuccess};
    p.rc = cudaEventCreate(&p.from);
    if (p.rc == cudaSuccess) p.rc = cudaEventCreate(&p.to);
    kv_cuda_enqueue_step(&p, reduces);
    if (p.from) cudaEventDestroy(p.from);
    if (p.to) cudaEventDestroy(p.to);
    profile->n_steps++;
    r->n_launches += p.n_launches;
    return p.rc == cudaSuccess ? KV_OK : kv_cuda_failed(p.rc, "profiled decode step", err);
}

int kv_cuda_decode_ready(kv_cuda_runner *r, int n, int most_slots, int may_reduce, kv_error *err) {
    kv_cuda_graph *g = NULL;
    int rc = decode_prepare(r, n, most_slots, err);
    if (rc == KV_OK) rc = find_graph(r, n, most_slots, 0, &g, err);
    return rc == KV_OK && may_reduce ? find_graph(r, n, most_slots, 1, &g, err) : rc;
}

int kv_cuda_decode_step(kv_cuda_runner *r, int n, int most_slots, int reduces, kv_profile *profile, kv_error *err) {
    kv_cuda_graph *g = NULL;
    int rc = KV_OK;
    if (profile) return profiled_step(r, n, most_slots, reduces, profile, err);
    if ((rc = find_graph(r, n, most_slots, reduces, &g, err))) return rc;
    r->n_launches += g->n_launches;
    cudaError_t c = cudaGraphLaunch(g->exec, r->b->stream);
    return c == cudaSuccess ? KV_OK : kv_cuda_failed(c, "decode step", err);
}
