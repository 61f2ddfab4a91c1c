/* bpe.h - merges of byte pair encoding, applied to one piece of text at a time. */
#ifndef KV_BPE_H
#define KV_BPE_H

#include "engine/kv.h"

/* One merge: the pair (left id, right id) becomes id; the smallest rank goes first. */
typedef struct kv_merge {
    uint64_t pair; /* left << 32 | right; UINT64_MAX marks an empty entry of the table */
    uint32_t rank;
    int32_t id;
} kv_merge;

typedef struct kv_bpe {
    kv_merge *table; /* open addressing, 1 << bits entries */
    int bits;
} kv_bpe;

/* Makes room for n merges.  kv_bpe_close frees. */
int kv_bpe_open(kv_bpe *b, size_t n_merges, kv_error *err);
void kv_bpe_close(kv_bpe *b);

/* Adds one of the n merges promised; the later of two merges with the same pair holds. */
void kv_bpe_add(kv_bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id);

/* Scratch of one thread: the symbols pushed, then the result.  Start from zeros. */
typedef struct kv_bpe_work {
    struct kv_symbol *sym; /* cap */
    uint64_t *heap;        /* 3 * cap */
    size_t cap;
    int32_t *ids;     /* n tokens */
    uint32_t *starts; /* and the offset of each one's first byte in the piece */
    size_t n;
} kv_bpe_work;

/* Empties w and makes room for n symbols, n < 2^31.  KV_ENOMEM is the only failure. */
int kv_bpe_begin(kv_bpe_work *w, size_t n, kv_error *err);
/* Adds the next symbol of the piece, which starts at byte `start`. */
void kv_bpe_push(kv_bpe_work *w, int32_t id, size_t start);
/* Merges the symbols; the result is in w. */
void kv_bpe_merge(const kv_bpe *b, kv_bpe_work *w);
void kv_bpe_work_free(kv_bpe_work *w);

#endif
