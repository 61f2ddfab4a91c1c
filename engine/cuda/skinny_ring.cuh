/* skinny_ring.cuh - how weights and x reach a block of skinny_wide.cu: the copy engine brings them, 64 k at a time,
 * into a ring of stages in shared memory.
 *
 * A stage is 64 k of x (its columns, turned), then of the weights: rows of 128 bytes, whose 16-byte units the
 * copy engine swizzles within 8 rows.  (Rows of 64 bytes took a tenth longer.)  x lies there as the tensor core wants
 * its B operand.  A stage never reaches into the next run; of the last one of a run only half may belong to it. */
#ifndef KV_CUDA_SKINNY_RING_H
#define KV_CUDA_SKINNY_RING_H

#include "engine/cuda/ring.cuh"
#include "engine/cuda/skinny_tile.cuh"
#include "engine/cuda/tensor_map.cuh"

enum {
    STEP = 2 * CHUNK,     /* k of a stage */
    ROW_BYTES = 2 * STEP, /* of a row's stage */
    PART = 8 * ROW_BYTES, /* of 8 rows' stage: a group of columns of x, half a tile */
    MOST_STAGES = 16
};

/* ---- stages ---------------------------------------------------------------------------------------------------------
 */

/* A place in the ring, and how often it has been there.  (tile_ring of ring.cuh finds both from the number of an item,
 * by divisions that need the number of stages when it is compiled; here it follows from the tiles of a unit.) */
typedef struct cursor {
    int stage;
    uint32_t round;
} cursor;

typedef struct ring {
    uint32_t first, bytes; /* stages, and the bytes of one; of those x_bytes of x */
    uint32_t x_bytes;
    uint32_t full;  /* 8-byte barriers: all bytes are there */
    uint32_t empty; /* all warps have multiplied it */
    int n;
} ring;

KV_DEVICE uint32_t stage_at(const ring &r, const cursor &c) {
    return r.first + c.stage * r.bytes;
}

KV_DEVICE void advance(const ring &r, cursor &c) {
    if (++c.stage == r.n) c.stage = 0, c.round++;
}

KV_DEVICE void wait_full(const ring &r, const cursor &c) {
    barrier_wait(r.full + 8 * c.stage, c.round & 1);
}

KV_DEVICE void wait_empty(const ring &r, const cursor &c) {
    if (c.round) barrier_wait(r.empty + 8 * c.stage, (c.round - 1) & 1);
}

/* readers: warps that multiply. */
KV_DEVICE void init_ring(const ring &r, int readers) {
#pragma unroll 1
    for (int i = 0; i < r.n; i++) {
        barrier_init(r.full + 8 * i, 1);
        barrier_init(r.empty + 8 * i, readers);
    }
}

/* ---- what a block works on ------------------------------------------------------------------------------------------
 */

/* Its runs, and its units: `tiles` tiles of the first matrix or of the second, never of both. */
typedef struct block_work {
    int first_run, end_run, n_chunks; /* n_chunks: of all runs */
    int first_unit, n_units, every;   /* units first_unit, first_unit + every, ... */
    int tiles, tiles1, n_tiles;       /* of a unit, the first matrix, both */
    int column;                       /* of x, the first */
    int up;                           /* swiglu: how far the up rows are behind the gate rows; else 0 */
} block_work;

typedef struct unit_tiles {
    int second, in_matrix; /* the first tile, counted within its matrix */
    int first, end;        /* counted over both; end: of the matrix */
} unit_tiles;

KV_DEVICE unit_tiles find_tiles(const block_work &b, int unit) {
    const int units1 = kv_cuda_ceil(b.tiles1, b.tiles), second = unit >= units1;
    const int in_matrix = (unit - (second ? units1 : 0)) * b.tiles;
    const unit_tiles t = {second, in_matrix, (second ? b.tiles1 : 0) + in_matrix, second ? b.n_tiles : b.tiles1};
    return t;
}

/* ---- copies ---------------------------------------------------------------------------------------------------------
 */

/* Boxes of STEP columns: of the weights the rows of a unit (swiglu: gate rows or up rows), of x a block's columns. */
typedef struct maps {
    CUtensorMap w, w2, x;
} maps;

/* The box at column k and row `row`, to shared memory; announced to bar before. */
KV_DEVICE void copy_box(uint32_t to, const CUtensorMap *map, int k, int row, uint32_t bar) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
                 "[%4];" ::"r"(to),
                 "l"((uint64_t)map), "r"(k), "r"(row), "r"(bar)
                 : "memory");
}

/* Announces the whole stage. */
KV_DEVICE void copy_weights(const ring &r, const cursor &c, const maps &m, const block_work &b, const unit_tiles &t,
                            int chunk) {
    const uint32_t to = stage_at(r, c) + r.x_bytes, bar = r.full + 8 * c.stage;
    const CUtensorMap *map = t.second ? &m.w2 : &m.w;
    const int row = t.in_matrix * (b.up ? 8 : TILE);
    barrier_expect(bar, r.bytes);
    copy_box(to, map, chunk * CHUNK, row, bar);
    if (b.up) copy_box(to + b.tiles * PART, map, chunk * CHUNK, b.up + row, bar);
}

/* By one thread.  The weights of the first `ahead` stages do not wait for the kernel in front; not those of the whole
 * ring, because copies are carried out in order and x would arrive last. */
KV_DEVICE void copy_all(const ring &r, const maps &m, const block_work &b, int ahead) {
    const unit_tiles first = find_tiles(b, b.first_unit);
    cursor c = {0, 0};
    for (int run = b.first_run; run < b.end_run && c.stage < ahead; run++)
        for (int i = run_start(run, b.n_chunks); i < run_start(run + 1, b.n_chunks) && c.stage < ahead; i += 2) {
            copy_weights(r, c, m, b, first, i);
            c.stage++;
        }
    const int there = c.stage;
    c.stage = 0;
    pdl_wait();
    for (int unit = b.first_unit; unit < b.n_units; unit += b.every) {
        const unit_tiles t = find_tiles(b, unit);
        for (int run = b.first_run; run < b.end_run; run++)
            for (int i = run_start(run, b.n_chunks); i < run_start(run + 1, b.n_chunks); i += 2, advance(r, c)) {
                wait_empty(r, c);
                if (c.round || c.stage >= there) copy_weights(r, c, m, b, t, i);
                copy_box(stage_at(r, c), &m.x, i * CHUNK, b.column, r.full + 8 * c.stage);
            }
    }
}

/* ---- host -----------------------------------------------------------------------------------------------------------
 */

/* (rows, n_in) bf16 in boxes of box_rows. */
static inline cudaError_t map_rows(CUtensorMap *map, const void *x, int rows, int n_in, int box_rows) {
    const cuuint64_t dims[2] = {(cuuint64_t)n_in, (cuuint64_t)rows}, stride = sizeof(__nv_bfloat16) * (cuuint64_t)n_in;
    const cuuint32_t box[2] = {STEP, (cuuint32_t)box_rows};
    return map_tensor(map, x, 2, dims, &stride, box, CU_TENSOR_MAP_SWIZZLE_128B);
}

#endif
