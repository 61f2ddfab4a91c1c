/* weights.h - the rows of one weight matrix, from where they lie to whoever packs or uploads them.
 *
 * A matrix is one to three tensors one below the other (q, k, v; gate, up).  Its rows are independent of each other in
 * everything that happens to them on the way - type, order, a LoRA update - so any range can be had by itself, and no
 * copy of a whole matrix in fp32 is ever made. */
#ifndef KV_WEIGHTS_H
#define KV_WEIGHTS_H

#include "engine/adapter.h"
#include "engine/dequant.h"
#include "engine/file.h"
#include "engine/threads.h"

enum { KV_WEIGHT_PARTS = 3 };

typedef struct kv_weight_part {
    int n_rows;
    kv_dtype type;
    const void *data; /* (n_rows, n_in), may be unaligned */
    /* When not NULL, data lies in this mapping and is read from its file with pread: no page faults, no pages that stay
     * in the process, and a file that was cut is an error instead of a SIGBUS.  file: its path, for errors. */
    const kv_map *map;
    const char *file;
    int pair_dim; /* > 0, without map: heads of so many rows hold each rotary pair side by side (GGUF llama) and are
                     read in Hugging Face order, all first halves, then all second halves */
    const kv_lora *lora; /* added in fp32; or NULL */
} kv_weight_part;

typedef struct kv_weights {
    int n_out, n_in; /* n_out: rows of all parts */
    int n_parts;
    kv_weight_part parts[KV_WEIGHT_PARTS];
} kv_weights;

/* w (n_out, n_in), read while the result is in use. */
kv_weights kv_weights_of_floats(const float *w, int n_out, int n_in);

/* F32, F16 or BF16 when all parts have it and their rows are taken as they lie; else F32. */
kv_dtype kv_weights_type(const kv_weights *w);

/* Rows [first, first + n) of type kv_weights_type into dst, by all threads.  KV_EIO names the file that cannot be read
 * or has become shorter, KV_ENOMEM. */
int kv_weights_read(const kv_weights *w, kv_threads *t, int first, int n, void *dst, kv_error *err);

/* All rows in fp32, block_rows at a time (fewer in the last block): fn is called once per block, by any thread, in any
 * order, with rows that are its own until it returns.  Errors as above; blocks that were not read are left out then. */
typedef void kv_weights_fn(void *ctx, int block, const float *rows, int n_rows);
int kv_weights_blocks(const kv_weights *w, kv_threads *t, int block_rows, kv_weights_fn *fn, void *ctx, kv_error *err);

#endif
