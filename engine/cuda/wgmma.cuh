/* wgmma.cuh - Hopper's matrix units and copy engine, as much of them as prompt attention and the products of a step
 * need.
 *
 * Tiles of prompt attention are 128 rows (tokens) of one head.  The copy engine lays a tile out in shared memory as
 * chunks of CHUNK columns, each (128, CHUNK) bf16 with rows of 128 (CHUNK 64) or 64 bytes (CHUNK 32), 16-byte units
 * swizzled within 8 rows.  The same bytes serve as K-major operand (columns are summed over: q, k) and as MN-major B
 * operand (rows are summed over: v).  Rows past the end of the tensor arrive as zeros.
 *
 * Accumulators of m64nN: thread t of a warpgroup, lane l = t % 32, holds in d[i] row 16 (t / 32) + l / 4 + 8 (i / 2 %
 * 2), column 8 (i / 4) + 2 (l % 4) + i % 2.  Source: PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions" and
 * "Tensors".  Needs sm_90a. */
#ifndef KV_CUDA_WGMMA_H
#define KV_CUDA_WGMMA_H

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "engine/cuda/ring.cuh"
#include "engine/cuda/tensor_map.cuh"

enum { TILE_ROWS = 128 };

/* Of head size D: a chunk never straddles D, so 96 takes the narrower swizzle. */
template <int D> struct tile_shape {
    enum {
        CHUNK = D % 64 == 0 ? 64 : 32,
        N_CHUNKS = D / CHUNK,
        ROW_BYTES = 2 * CHUNK,
        CHUNK_BYTES = TILE_ROWS * ROW_BYTES,
        BYTES = N_CHUNKS * CHUNK_BYTES,
        LAYOUT = CHUNK == 64 ? 1 : 2 /* of a matrix descriptor: 128- or 64-byte swizzle */
    };
};

/* One tile of `head` from `row` on to shared address dst (aligned to 1024); completes on bar, which expects
 * tile_shape<D>::BYTES. */
template <int D>
static __device__ __forceinline__ void load_tile(uint32_t dst, const CUtensorMap *map, int row, int head,
                                                 uint32_t bar) {
    barrier_expect(bar, tile_shape<D>::BYTES);
#pragma unroll
    for (int c = 0; c < tile_shape<D>::N_CHUNKS; c++)
        asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, "
                     "%4}], [%5];" ::"r"(dst + (uint32_t)(c * tile_shape<D>::CHUNK_BYTES)),
                     "l"((uint64_t)map), "r"(c * tile_shape<D>::CHUNK), "r"(head), "r"(row), "r"(bar)
                     : "memory");
}

/* ---- matrix products ------------------------------------------------------------------------------------------------
 */

/* Descriptors of an operand that starts at a shared address.  K-major: rows from addr, 8-row groups ROW_BYTES * 8
 * apart; MN-major: the same stride between groups of 8 summed rows, chunks of columns CHUNK_BYTES apart. */
template <int D> static __device__ __forceinline__ uint64_t operand_desc(uint32_t addr, uint32_t leading) {
    return (uint64_t)((addr & 0x3ffff) >> 4) | (uint64_t)(leading >> 4) << 16 |
           (uint64_t)(8 * tile_shape<D>::ROW_BYTES >> 4) << 32 | (uint64_t)tile_shape<D>::LAYOUT << 62;
}

template <int D> static __device__ __forceinline__ uint64_t rows_desc(uint32_t addr) {
    return operand_desc<D>(addr, 16); /* the leading offset has no meaning here */
}

template <int D> static __device__ __forceinline__ uint64_t columns_desc(uint32_t addr) {
    return operand_desc<D>(addr, tile_shape<D>::CHUNK_BYTES);
}

/* What to add to rows_desc for columns [16 k, 16 k + 16), to columns_desc for rows [16 k, 16 k + 16). */
template <int D> static __device__ __forceinline__ uint64_t rows_step(int k) {
    const int per = tile_shape<D>::CHUNK / 16;
    return (uint64_t)((k / per * tile_shape<D>::CHUNK_BYTES + k % per * 32) >> 4);
}

template <int D> static __device__ __forceinline__ uint64_t columns_step(int k) {
    return (uint64_t)(k * 16 * tile_shape<D>::ROW_BYTES >> 4);
}

static __device__ __forceinline__ void wgmma_fence(void) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void wgmma_commit(void) {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int PENDING> static __device__ __forceinline__ void wgmma_wait(void) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

/* Keeps the compiler from moving uses of registers that a product in flight owns across this point. */
template <int N> static __device__ __forceinline__ void pin(float (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(x[i])::"memory");
}

template <int N> static __device__ __forceinline__ void pin(uint32_t (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+r"(x[i])::"memory");
}

#define WGMMA_R16_0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define WGMMA_R16_1 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_R16_2 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define WGMMA_R16_3 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_D4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WGMMA_D16(d, i) WGMMA_D4(d, i), WGMMA_D4(d, i + 4), WGMMA_D4(d, i + 8), WGMMA_D4(d, i + 12)

/* d (64, 128) = or += A (64, 16) B (16, 128), both K-major in shared memory. */
template <bool ADD> static __device__ __forceinline__ void wgmma_rows(float (&d)[64], uint64_t a, uint64_t b) {
    asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %66, 0;\n\t"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" WGMMA_R16_0 ", " WGMMA_R16_1 ", " WGMMA_R16_2
                 ", " WGMMA_R16_3 "}, %64, %65, p, 1, 1, 0, 0;\n\t}"
                 : WGMMA_D16(d, 0), WGMMA_D16(d, 16), WGMMA_D16(d, 32), WGMMA_D16(d, 48)
                 : "l"(a), "l"(b), "n"(ADD));
}

/* How B lies in shared memory. */
enum { K_MAJOR = 0, MN_MAJOR = 1 };

/* d (64, N) += A (64, 16) B (16, N), A in registers; d has N / 2 elements. */
template <int LAYOUT> static __device__ __forceinline__ void wgmma_add(float (&d)[16], const uint32_t *a, uint64_t b) {
    asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, 1, 0;\n\t"
                 "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {" WGMMA_R16_0
                 "}, {%16, %17, %18, %19}, %20, p, 1, 1, %21;\n\t}"
                 : WGMMA_D16(d, 0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(LAYOUT));
}

template <int LAYOUT> static __device__ __forceinline__ void wgmma_add(float (&d)[32], const uint32_t *a, uint64_t b) {
    asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, 1, 0;\n\t"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" WGMMA_R16_0 ", " WGMMA_R16_1
                 "}, {%32, %33, %34, %35}, %36, p, 1, 1, %37;\n\t}"
                 : WGMMA_D16(d, 0), WGMMA_D16(d, 16)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(LAYOUT));
}

template <int LAYOUT> static __device__ __forceinline__ void wgmma_add(float (&d)[48], const uint32_t *a, uint64_t b) {
    asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, 1, 0;\n\t"
                 "wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 {" WGMMA_R16_0 ", " WGMMA_R16_1 ", " WGMMA_R16_2
                 "}, {%48, %49, %50, %51}, %52, p, 1, 1, %53;\n\t}"
                 : WGMMA_D16(d, 0), WGMMA_D16(d, 16), WGMMA_D16(d, 32)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(LAYOUT));
}

template <int LAYOUT> static __device__ __forceinline__ void wgmma_add(float (&d)[64], const uint32_t *a, uint64_t b) {
    asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, 1, 0;\n\t"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" WGMMA_R16_0 ", " WGMMA_R16_1 ", " WGMMA_R16_2
                 ", " WGMMA_R16_3 "}, {%64, %65, %66, %67}, %68, p, 1, 1, %69;\n\t}"
                 : WGMMA_D16(d, 0), WGMMA_D16(d, 16), WGMMA_D16(d, 32), WGMMA_D16(d, 48)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(LAYOUT));
}

#undef WGMMA_R16_0
#undef WGMMA_R16_1
#undef WGMMA_R16_2
#undef WGMMA_R16_3
#undef WGMMA_D4
#undef WGMMA_D16

/* s (64, 128) = the 64 rows at a times the 128 rows at b, transposed; left in flight as one group. */
template <int D> static __device__ __forceinline__ void multiply_rows(float (&s)[64], uint32_t a, uint32_t b) {
    const uint64_t ad = rows_desc<D>(a), bd = rows_desc<D>(b);
    wgmma_fence();
    wgmma_rows<false>(s, ad, bd);
#pragma unroll
    for (int k = 1; k < D / 16; k++) wgmma_rows<true>(s, ad + rows_step<D>(k), bd + rows_step<D>(k));
    wgmma_commit();
}

/* 2^x, a subnormal result as zero; 2^-inf = 0. */
static __device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* ---- host: the copy engine's view of a tensor -----------------------------------------------------------------------
 */

/* map = tiles of x: n rows, `stride` elements apart (a multiple of 8), of (n_heads, D) bf16; x aligned to 16 bytes. */
template <int D>
static inline cudaError_t map_tiles(CUtensorMap *map, const void *x, size_t stride, int n, int n_heads) {
    const cuuint64_t dims[3] = {(cuuint64_t)D, (cuuint64_t)n_heads, (cuuint64_t)n};
    const cuuint64_t strides[2] = {2 * (cuuint64_t)D, 2 * (cuuint64_t)stride};
    const cuuint32_t box[3] = {tile_shape<D>::CHUNK, 1, TILE_ROWS};
    return map_tensor(map, x, 3, dims, strides, box,
                      tile_shape<D>::CHUNK == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B);
}

#endif
