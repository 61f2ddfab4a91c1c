/* bpe.c - merges of byte pair encoding (Sennrich et al., arXiv:1508.07909).
 *
 * A piece starts as one symbol per byte or character.  Again and again the adjacent pair with the lowest rank, the
 * leftmost of equals, becomes one symbol.  Symbols form a linked list; candidates wait in a binary heap keyed by rank
 * and position, so a piece of n symbols costs O(n log n) also when it is one enormous word.  An entry that a
 * neighbour's merge made stale is recognised when it surfaces: the pair's rank at that position is no longer the
 * entry's. Short pieces, which is nearly all of them, skip the heap and look through the list instead. */
#include "engine/bpe.h"

#include <stdlib.h>
#include <string.h>

#define NO_RANK UINT32_MAX
enum { SHORT_PIECE = 24 };

typedef struct kv_symbol {
    int32_t id; /* -1: swallowed by its left neighbour */
    int32_t merged;
    uint32_t rank;  /* of the pair (this, next); NO_RANK: no such merge */
    uint32_t start; /* first byte */
    int32_t prev, next;
} kv_symbol;

static size_t slot_of(const kv_bpe *b, uint64_t pair) {
    return (size_t)((pair * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - b->bits));
}

int kv_bpe_open(kv_bpe *b, size_t n_merges, kv_error *err) {
    memset(b, 0, sizeof *b);
    b->bits = 4;
    while (((size_t)1 << b->bits) < 2 * n_merges) b->bits++;
    size_t bytes = sizeof *b->table << b->bits;
    b->table = malloc(bytes);
    if (!b->table) return kv_fail(err, KV_ENOMEM, "out of memory for %zu BPE merges", n_merges);
    memset(b->table, 0xFF, bytes);
    return KV_OK;
}

void kv_bpe_close(kv_bpe *b) {
    free(b->table);
    memset(b, 0, sizeof *b);
}

static kv_merge *find_merge(const kv_bpe *b, int32_t left, int32_t right) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t mask = ((size_t)1 << b->bits) - 1, i = slot_of(b, pair);
    while (b->table[i].pair != pair && b->table[i].pair != UINT64_MAX) i = (i + 1) & mask;
    return &b->table[i];
}

void kv_bpe_add(kv_bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id) {
    *find_merge(b, left, right) = (kv_merge){(uint64_t)(uint32_t)left << 32 | (uint32_t)right, rank, id};
}

void kv_bpe_work_free(kv_bpe_work *w) {
    free(w->sym);
    free(w->heap);
    free(w->ids);
    free(w->starts);
    memset(w, 0, sizeof *w);
}

int kv_bpe_begin(kv_bpe_work *w, size_t n, kv_error *err) {
    w->n = 0;
    if (n <= w->cap) return KV_OK;
    size_t cap = w->cap ? w->cap : 256;
    while (cap < n) cap *= 2;
    kv_bpe_work_free(w);
    w->sym = malloc(cap * sizeof *w->sym);
    w->heap = malloc(3 * cap * sizeof *w->heap); /* n - 1 at first, two more per merge */
    w->ids = malloc(cap * sizeof *w->ids);
    w->starts = malloc(cap * sizeof *w->starts);
    if (!w->sym || !w->heap || !w->ids || !w->starts) {
        kv_bpe_work_free(w);
        return kv_fail(err, KV_ENOMEM, "out of memory encoding a word of %zu symbols", n);
    }
    w->cap = cap;
    return KV_OK;
}

static void push(uint64_t *heap, size_t *n, uint64_t key) {
    size_t i = (*n)++;
    for (; i && heap[(i - 1) / 2] > key; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = key;
}

static uint64_t pop(uint64_t *heap, size_t *n) {
    uint64_t top = heap[0], last = heap[--*n];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < *n) {
        if (child + 1 < *n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

static void rank_pair(const kv_bpe *b, kv_symbol *sym, int32_t i) {
    if (sym[i].next < 0) {
        sym[i].rank = NO_RANK;
        return;
    }
    const kv_merge *m = find_merge(b, sym[i].id, sym[sym[i].next].id);
    sym[i].rank = m->pair == UINT64_MAX ? NO_RANK : m->rank;
    sym[i].merged = m->id;
}

static void merge_at(const kv_bpe *b, kv_symbol *sym, int32_t i) {
    kv_symbol *s = &sym[i], *gone = &sym[s->next];
    s->id = s->merged;
    s->next = gone->next;
    gone->id = -1;
    if (s->next >= 0) sym[s->next].prev = i;
    rank_pair(b, sym, i);
    if (s->prev >= 0) rank_pair(b, sym, s->prev);
}

static void merge_short(const kv_bpe *b, kv_symbol *sym) {
    for (;;) {
        int32_t best = 0;
        for (int32_t i = sym[0].next; i >= 0; i = sym[i].next)
            if (sym[i].rank < sym[best].rank) best = i;
        if (sym[best].rank == NO_RANK) return;
        merge_at(b, sym, best);
    }
}

static void offer(uint64_t *heap, size_t *n, const kv_symbol *sym, int32_t i) {
    if (sym[i].rank != NO_RANK) push(heap, n, (uint64_t)sym[i].rank << 32 | (uint32_t)i);
}

static void merge_long(const kv_bpe *b, kv_symbol *sym, size_t count, uint64_t *heap) {
    size_t n = 0;
    for (size_t i = 0; i < count; i++) offer(heap, &n, sym, (int32_t)i);
    while (n) {
        uint64_t key = pop(heap, &n);
        int32_t i = (int32_t)(uint32_t)key;
        if (sym[i].id < 0 || sym[i].rank != key >> 32) continue;
        merge_at(b, sym, i);
        offer(heap, &n, sym, i);
        if (sym[i].prev >= 0) offer(heap, &n, sym, sym[i].prev);
    }
}

void kv_bpe_push(kv_bpe_work *w, int32_t id, size_t start) {
    int32_t i = (int32_t)w->n++;
    w->sym[i] = (kv_symbol){.id = id, .start = (uint32_t)start, .prev = i - 1, .next = i + 1};
}

void kv_bpe_merge(const kv_bpe *b, kv_bpe_work *w) {
    size_t count = w->n;
    w->n = 0;
    if (count == 0) return;
    w->sym[count - 1].next = -1;
    for (size_t i = 0; i < count; i++) rank_pair(b, w->sym, (int32_t)i);
    if (count <= SHORT_PIECE)
        merge_short(b, w->sym);
    else
        merge_long(b, w->sym, count, w->heap);
    for (int32_t i = 0; i >= 0; i = w->sym[i].next) {
        w->ids[w->n] = w->sym[i].id;
        w->starts[w->n++] = w->sym[i].start;
    }
}
