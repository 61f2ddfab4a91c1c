/* pool.cu - pages of the device cache: a stack of free pages that kernels pop and push, and the sequences' tables.
 *
 * Which page a head gets depends on the order in which threads reach the stack; that is the only thing here that is not
 * the same on every run, and no result depends on it.  How many pages are taken and given back follows from lengths
 * that the host knows, so the host keeps count without asking the device, and sees to it that the stack never runs dry.
 * Where heads share a budget it knows the length of each.
 */
#include "engine/cuda/engine.cuh"

#include <stdlib.h>
#include <string.h>

enum { SLAB_BYTES = 64 << 20 };

/* Captured steps hold the addresses of these; prompts and their evictions let some of them grow between two steps. */
static int is_in_graphs(const kv_cuda_runner *r, const kv_cuda_buffer *b) {
    return b == &r->decode || b == &r->attend_scratch || b == &r->sample_scratch || b == &r->scores || b == &r->kept ||
           b == &r->score || b == &r->score_scratch;
}

int kv_cuda_grow(kv_cuda_runner *r, kv_cuda_buffer *b, kv_use use, size_t bytes, const char *what, kv_error *err) {
    if (bytes <= b->bytes) return KV_OK;
    if (b->p) {
        cudaStreamSynchronize(r->b->stream);
        if (is_in_graphs(r, b)) kv_cuda_drop_graphs(r);
        kv_cuda_give(r->b, use, b->p, b->bytes);
    }
    *b = (kv_cuda_buffer){NULL, 0};
    int rc = kv_cuda_take(r->b, use, bytes, what, &b->p, err);
    if (rc == KV_OK) b->bytes = bytes;
    return rc;
}

/* Launch: one thread a page. */
static __global__ void push_pages(void **stack, int32_t *height, char *base, size_t page_bytes, int n, int first) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) stack[first + i] = base + (size_t)i * page_bytes;
    if (i == 0) *height = first + n;
}

/* Room for `n` entries on the stack; captured graphs hold its address, so they go when it moves. */
static int grow_stack(kv_cuda_runner *r, size_t n, kv_error *err) {
    void *p = NULL;
    if (n <= r->cap_free) return KV_OK;
    size_t cap = r->cap_free * 2 > n ? r->cap_free * 2 : n;
    int rc = kv_cuda_take(r->b, KV_USE_WORKSPACE, cap * sizeof(void *), "the list of free pages", &p, err);
    if (rc) return rc;
    cudaError_t c = cudaSuccess;
    if (r->free_pages)
        c = cudaMemcpyAsync(p, r->free_pages, r->cap_free * sizeof(void *), cudaMemcpyDeviceToDevice, r->b->stream);
    if (c == cudaSuccess) c = cudaStreamSynchronize(r->b->stream);
    kv_cuda_give(r->b, KV_USE_WORKSPACE, r->free_pages, r->cap_free * sizeof(void *));
    r->free_pages = (void **)p;
    r->cap_free = cap;
    kv_cuda_drop_graphs(r);
    return c == cudaSuccess ? KV_OK : kv_cuda_failed(c, "list of free pages", err);
}

static int add_slab(kv_cuda_runner *r, int64_t n_pages, kv_error *err) {
    size_t bytes = (size_t)n_pages * r->layout.bytes;
    void *base = NULL;
    if (r->n_slabs == r->cap_slabs) {
        int cap = r->cap_slabs ? 2 * r->cap_slabs : 16;
        void **slabs = (void **)realloc(r->slabs, cap * sizeof *slabs);
        if (slabs) r->slabs = slabs;
        size_t *sizes = slabs ? (size_t *)realloc(r->slab_bytes, cap * sizeof *sizes) : NULL;
        if (!sizes) return kv_fail(err, KV_ENOMEM, "out of memory for the page pool");
        r->slab_bytes = sizes;
        r->cap_slabs = cap;
    }
    int rc = grow_stack(r, (size_t)(r->n_pages + n_pages), err);
    if (rc == KV_OK) rc = kv_cuda_take(r->b, KV_USE_CACHE, bytes, "the KV cache", &base, err);
    if (rc) return rc;
    r->slabs[r->n_slabs] = base;
    r->slab_bytes[r->n_slabs++] = bytes;
    int64_t free = r->n_pages - r->n_live;
    push_pages<<<(unsigned)((n_pages + 255) / 256), 256, 0, r->b->stream>>>(r->free_pages, r->n_free, (char *)base,
                                                                            r->layout.bytes, (int)n_pages, (int)free);
    cudaError_t c = cudaGetLastError();
    r->n_pages += n_pages;
    return c == cudaSuccess ? KV_OK : kv_cuda_failed(c, "page pool", err);
}

static int64_t least_pages(const kv_cuda_runner *r) {
    return SLAB_BYTES / (int64_t)r->layout.bytes;
}

size_t kv_cuda_pool_bytes(const kv_cuda_runner *r, int64_t n_pages) {
    return (size_t)(n_pages < least_pages(r) ? least_pages(r) : n_pages) * r->layout.bytes;
}

size_t kv_cuda_pool_list_bytes(const kv_cuda_runner *r, int64_t n_pages) {
    return (size_t)(n_pages < least_pages(r) ? least_pages(r) : n_pages) * sizeof(void *);
}

int kv_cuda_pool_ensure(kv_cuda_runner *r, int64_t n_free, kv_error *err) {
    int64_t missing = n_free - (r->n_pages - r->n_live), least = least_pages(r);
    if (missing <= 0) return KV_OK;
    int rc = missing < least ? add_slab(r, least, NULL) : KV_ENOMEM;
    return rc ? add_slab(r, missing, err) : KV_OK;
}

void kv_cuda_pool_free(kv_cuda_runner *r) {
    for (int i = 0; i < r->n_slabs; i++) kv_cuda_give(r->b, KV_USE_CACHE, r->slabs[i], r->slab_bytes[i]);
    kv_cuda_give(r->b, KV_USE_WORKSPACE, r->free_pages, r->cap_free * sizeof(void *));
    free(r->slabs);
    free(r->slab_bytes);
}

static int64_t n_heads(const kv_cuda_runner *r) {
    const kv_shape *s = &r->base.engine->model.info.shape;
    return (int64_t)s->n_layers * s->n_kv_heads;
}

/* ---- the host's counts ------------------------------------------------------------------------------------------- */

static int64_t grow_pages(const kv_cuda_runner *r, const kv_cuda_row *w, int n) {
    int64_t pages = 0, heads = n_heads(r);
    if (!w->heads) return heads * (kv_cuda_pages_of(w->slots + n) - kv_cuda_pages_of(w->slots));
    for (int64_t h = 0; h < heads; h++) pages += kv_cuda_pages_of(w->heads[h] + n) - kv_cuda_pages_of(w->heads[h]);
    return pages;
}

void kv_cuda_row_grow(kv_cuda_runner *r, int row, int n) {
    kv_cuda_row *w = &r->rows[row];
    int64_t pages = grow_pages(r, w, n);
    w->slots += n;
    r->n_live += pages;
    r->n_page_allocs += pages;
    if (!w->heads) return;
    w->n_pages += pages;
    w->n_held += n * n_heads(r);
    for (int64_t h = 0; h < n_heads(r); h++) w->heads[h] += n;
}

static int64_t row_pages(const kv_cuda_runner *r, const kv_cuda_row *w) {
    return w->heads ? w->n_pages : n_heads(r) * kv_cuda_pages_of(w->slots);
}

int64_t kv_cuda_row_held(const kv_cuda_runner *r, int row) {
    const kv_cuda_row *w = &r->rows[row];
    return w->heads ? w->n_held : n_heads(r) * w->slots;
}

int kv_cuda_row_trigger_slots(const kv_cuda_runner *r, int row) {
    const kv_cuda_row *w = &r->rows[row];
    int most = 0, size = r->pooling.size;
    if (!w->heads) return w->slots;
    if (size == n_heads(r)) return kv_pooled_slots(w->n_held, size);
    for (int64_t first = 0; first < n_heads(r); first += size) {
        int64_t held = 0;
        for (int i = 0; i < size; i++) held += w->heads[first + i];
        if (kv_pooled_slots(held, size) > most) most = kv_pooled_slots(held, size);
    }
    return most;
}

size_t kv_cuda_row_bytes(const kv_cuda_runner *r, int row) {
    return (size_t)row_pages(r, &r->rows[row]) * r->layout.bytes;
}

int64_t kv_cuda_row_decode_pages(const kv_cuda_runner *r, int row) {
    const kv_cuda_row *w = &r->rows[row];
    int64_t heads = n_heads(r), most = heads * kv_cuda_pages_of(w->decode_slots);
    /* lengths may lie so that the last page of every head holds a single slot */
    if (w->heads) most = heads * (w->decode_slots + KV_PAGE - 1) / KV_PAGE;
    int64_t missing = most - row_pages(r, w);
    return missing > 0 ? missing : 0;
}

void kv_cuda_account_held(kv_cuda_runner *r, kv_seq *q) {
    kv_account *a = &q->account;
    size_t bytes = kv_cuda_row_bytes(r, q->row);
    a->held = (double)kv_cuda_row_held(r, q->row) / (double)n_heads(r);
    if (a->held > a->peak_slots) a->peak_slots = a->held;
    if (bytes > a->bytes_peak) a->bytes_peak = bytes;
}

void kv_cuda_row_reduced(kv_cuda_runner *r, int row, int slots) {
    kv_cuda_row *w = &r->rows[row];
    if (slots >= w->slots) return;
    r->n_live -= n_heads(r) * (kv_cuda_pages_of(w->slots) - kv_cuda_pages_of(slots));
    w->slots = slots;
}

void kv_cuda_row_reduced_heads(kv_cuda_runner *r, int row, const int32_t *n_kept) {
    kv_cuda_row *w = &r->rows[row];
    w->slots = 0;
    for (int64_t h = 0; h < n_heads(r); h++) {
        if (n_kept[h] >= 0) {
            int pages = kv_cuda_pages_of(w->heads[h]) - kv_cuda_pages_of(n_kept[h]);
            w->n_pages -= pages;
            r->n_live -= pages;
            w->n_held -= w->heads[h] - n_kept[h];
            w->heads[h] = n_kept[h];
        }
        if (w->heads[h] > w->slots) w->slots = w->heads[h];
    }
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

static size_t table_bytes(const kv_cuda_runner *r, int cap) {
    return (size_t)n_heads(r) * cap * sizeof(void *);
}

/* Launch: one thread. */
static __global__ void set_seq(kv_cuda_seq *seq, void **pages, int page_cap, int n_seen) {
    seq->pages = pages;
    seq->page_cap = page_cap;
    seq->n_seen = n_seen;
}

static int table_cap(int max_slots) {
    return kv_cuda_pages_of(max_slots) + 1;
}

size_t kv_cuda_table_bytes(const kv_cuda_runner *r, int max_slots) {
    return table_bytes(r, table_cap(max_slots));
}

int kv_cuda_row_table(kv_cuda_runner *r, int row, int max_slots, kv_error *err) {
    kv_cuda_row *w = &r->rows[row];
    int cap = table_cap(max_slots);
    if (cap <= w->page_cap) return KV_OK;
    if (w->pages) cudaStreamSynchronize(r->b->stream);
    kv_cuda_give(r->b, KV_USE_WORKSPACE, w->pages, table_bytes(r, w->page_cap));
    w->page_cap = 0;
    int rc = kv_cuda_take(r->b, KV_USE_WORKSPACE, table_bytes(r, cap), "a page table", &w->pages, err);
    if (rc == KV_OK) w->page_cap = cap;
    return rc;
}

int kv_cuda_row_open(kv_cuda_runner *r, int row, int max_slots, kv_error *err) {
    kv_cuda_row *w = &r->rows[row];
    int rc = kv_cuda_row_table(r, row, max_slots, err);
    if (rc) return rc;
    w->slots = 0;
    w->n_held = w->n_pages = 0;
    w->max_slots = max_slots;
    if (w->heads) memset(w->heads, 0, (size_t)n_heads(r) * sizeof *w->heads);
    set_seq<<<1, 1, 0, r->b->stream>>>(r->seqs + row, (void **)w->pages, w->page_cap, 0);
    cudaError_t c = cudaGetLastError();
    if (c == cudaSuccess)
        c = cudaMemsetAsync(r->n_slots + row * n_heads(r), 0, (size_t)n_heads(r) * sizeof *r->n_slots, r->b->stream);
    r->membership = 1;
    return c == cudaSuccess ? KV_OK : kv_cuda_failed(c, "a sequence", err);
}

/* Gives every page of a sequence back, as it is: nothing reads a slot that nobody filled.  Launch: one block a head. */
static __global__ void release_pages(const kv_cuda_seq *seqs, int row, void **stack, int32_t *height) {
    const kv_cuda_seq &s = seqs[row];
    int head = blockIdx.x, n = (s.n_slots[head] + KV_PAGE - 1) / KV_PAGE;
    void **pages = s.pages + (size_t)head * s.page_cap;
    for (int p = threadIdx.x; p < n; p += blockDim.x) stack[atomicAdd(height, 1)] = pages[p];
    __syncthreads();
    if (threadIdx.x == 0) s.n_slots[head] = 0;
}

int kv_cuda_row_close(kv_cuda_runner *r, int row, kv_error *err) {
    kv_cuda_row *w = &r->rows[row];
    release_pages<<<(unsigned)n_heads(r), 32, 0, r->b->stream>>>(r->seqs, row, r->free_pages, r->n_free);
    r->n_live -= row_pages(r, w);
    w->slots = 0;
    w->n_held = w->n_pages = 0;
    w->seq = NULL;
    r->membership = 1;
    cudaError_t c = cudaGetLastError();
    return c == cudaSuccess ? KV_OK : kv_cuda_failed(c, "release of a sequence", err);
}

typedef struct extension {
    int32_t row, n;
} extension;

/* Takes the pages that n more slots need.  Launch: (heads / 128, entries) blocks of 128: a thread has a head. */
static __global__ void extend_heads(kv_cuda_seq *seqs, const extension *list, int n_heads, void **stack,
                                    int32_t *height) {
    extension e = list[blockIdx.y];
    kv_cuda_seq &s = seqs[e.row];
    int head = blockIdx.x * 128 + threadIdx.x;
    if (head == 0) s.n_seen += e.n;
    if (head >= n_heads) return;
    int held = s.n_slots[head];
    void **pages = s.pages + (size_t)head * s.page_cap;
    for (int p = (held + KV_PAGE - 1) / KV_PAGE; p * KV_PAGE < held + e.n; p++)
        pages[p] = stack[atomicSub(height, 1) - 1];
    s.n_slots[head] = held + e.n;
}

int kv_cuda_extend_rows(kv_cuda_runner *r, const int32_t *rows, const int32_t *counts, int n, kv_error *err) {
    extension list[KV_MAX_BATCH];
    int64_t pages = 0, heads = n_heads(r);
    if (!n) return KV_OK;
    for (int i = 0; i < n; i++) {
        list[i] = (extension){rows[i], counts[i]};
        pages += grow_pages(r, &r->rows[rows[i]], counts[i]);
    }
    int rc = kv_cuda_pool_ensure(r, pages, err);
    if (rc) return rc;
    cudaError_t c = cudaMemcpyAsync(r->list, list, n * sizeof *list, cudaMemcpyHostToDevice, r->b->stream);
    extend_heads<<<dim3((unsigned)((heads + 127) / 128), n), 128, 0, r->b->stream>>>(
        r->seqs, (const extension *)r->list, (int)heads, r->free_pages, r->n_free);
    if (c == cudaSuccess) c = cudaGetLastError();
    if (c != cudaSuccess) return kv_cuda_failed(c, "growth of the cache", err);
    for (int i = 0; i < n; i++) kv_cuda_row_grow(r, rows[i], counts[i]);
    if (r->n_live > r->live_peak) r->live_peak = r->n_live;
    return KV_OK;
}
