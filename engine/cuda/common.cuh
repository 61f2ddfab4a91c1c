/* common.cuh - what several kernels share: sums in one fixed order, loads and stores of vectors that convert, where V
 * lies inside a page, and the choice of the element type.
 *
 * Elements are fp32 or bf16 in memory and fp32 in registers.  Vectors are read and written with the widest access that
 * their size allows, so a pointer must be aligned to the vector (16 bytes at most). */
#ifndef KV_CUDA_COMMON_CUH
#define KV_CUDA_COMMON_CUH

#include "engine/cuda/cuda.h"

#define KV_DEVICE static __device__ __forceinline__

/* Runs a statement with T = the element type of a kv_cuda_type. */
#define KV_CUDA_CASE(type, T, ...)                                                                                     \
    do {                                                                                                               \
        if ((type) == KV_CUDA_F32) {                                                                                   \
            typedef float T;                                                                                           \
            __VA_ARGS__;                                                                                               \
        } else {                                                                                                       \
            typedef __nv_bfloat16 T;                                                                                   \
            __VA_ARGS__;                                                                                               \
        }                                                                                                              \
    } while (0)

/* ---- launch shapes ------------------------------------------------------------------------------------------------
 */

static __host__ __device__ inline int kv_cuda_ceil(int n, int by) {
    return (n + by - 1) / by;
}

/* Host: of the current device; 0 when it cannot be asked. */
static inline int kv_cuda_multiprocessors(void) {
    int device = 0, n = 0;
    if (cudaGetDevice(&device) != cudaSuccess) return 0;
    return cudaDeviceGetAttribute(&n, cudaDevAttrMultiProcessorCount, device) == cudaSuccess ? n : 0;
}

/* One row cut into `chunks` blocks of `threads` threads, a vector each. */
typedef struct kv_cuda_row_shape {
    int threads, chunks;
} kv_cuda_row_shape;

static inline kv_cuda_row_shape kv_cuda_shape_row(int n_vectors) {
    int threads = n_vectors >= 256 ? 256 : kv_cuda_ceil(n_vectors, 32) * 32;
    kv_cuda_row_shape s = {threads, kv_cuda_ceil(n_vectors, threads)};
    return s;
}

/* ---- reductions ---------------------------------------------------------------------------------------------------
 */

/* Over `width` neighbouring lanes, a power of two; every lane of the warp takes part and gets the same bits. */
KV_DEVICE float warp_sum(float x, int width) {
    for (int m = width / 2; m > 0; m /= 2) x += __shfl_xor_sync(0xffffffffu, x, m);
    return x;
}

/* Drops NaN, as fmaxf does. */
KV_DEVICE float warp_max(float x, int width) {
    for (int m = width / 2; m > 0; m /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, m));
    return x;
}

/* Over a one-dimensional block of whole warps: warps in order.  sh (32) must be free: nobody may still read it. */
KV_DEVICE float block_sum(float x, float *sh) {
    x = warp_sum(x, 32);
    if (threadIdx.x % 32 == 0) sh[threadIdx.x / 32] = x;
    __syncthreads();
    float s = 0;
    for (unsigned w = 0; w < blockDim.x / 32; w++) s += sh[w];
    return s;
}

/* ---- elements -----------------------------------------------------------------------------------------------------
 */

KV_DEVICE float to_float(float x) {
    return x;
}
KV_DEVICE float to_float(__nv_bfloat16 x) {
    return __bfloat162float(x);
}

template <typename T> KV_DEVICE T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) {
    return x;
}
template <> __device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
    return __float2bfloat16_rn(x);
}

/* x * sigmoid(x) for a result of type T: where that is rounded to 8 bits, the fast exponential and quotient do. */
template <typename T> KV_DEVICE float silu(float x);
template <> __device__ __forceinline__ float silu<float>(float x) {
    return x / (1.0f + expf(-x));
}
template <> __device__ __forceinline__ float silu<__nv_bfloat16>(float x) {
    return __fdividef(x, 1.0f + __expf(-x));
}

/* Two bf16 of a word, the lower address first. */
KV_DEVICE void unpack_pair(float *x, unsigned w) {
    x[0] = __uint_as_float(w << 16);
    x[1] = __uint_as_float(w & 0xffff0000u);
}
KV_DEVICE unsigned pack_pair(float lo, float hi) {
    unsigned a = __bfloat16_as_ushort(__float2bfloat16_rn(lo)), b = __bfloat16_as_ushort(__float2bfloat16_rn(hi));
    return a | b << 16;
}

/* x[0, N) = p[0, N); p aligned to min(16, N * sizeof) bytes. */
template <int N> KV_DEVICE void load_vec(float (&x)[N], const float *p) {
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            float4 v = *(const float4 *)(p + i);
            x[i] = v.x, x[i + 1] = v.y, x[i + 2] = v.z, x[i + 3] = v.w;
        }
    } else if constexpr (N == 2) {
        float2 v = *(const float2 *)p;
        x[0] = v.x, x[1] = v.y;
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = p[i];
    }
}

template <int N> KV_DEVICE void load_vec(float (&x)[N], const __nv_bfloat16 *p) {
    if constexpr (N % 8 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 8) {
            uint4 v = *(const uint4 *)(p + i);
            unpack_pair(x + i, v.x), unpack_pair(x + i + 2, v.y), unpack_pair(x + i + 4, v.z),
                unpack_pair(x + i + 6, v.w);
        }
    } else if constexpr (N == 4) {
        uint2 v = *(const uint2 *)p;
        unpack_pair(x, v.x), unpack_pair(x + 2, v.y);
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = to_float(p[i]);
    }
}

/* p[0, N) = x[0, N), rounded to nearest even. */
template <int N> KV_DEVICE void store_vec(float *p, const float (&x)[N]) {
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 4) *(float4 *)(p + i) = make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
    } else if constexpr (N == 2) {
        *(float2 *)p = make_float2(x[0], x[1]);
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) p[i] = x[i];
    }
}

template <int N> KV_DEVICE void store_vec(__nv_bfloat16 *p, const float (&x)[N]) {
    if constexpr (N % 8 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 8)
            *(uint4 *)(p + i) = make_uint4(pack_pair(x[i], x[i + 1]), pack_pair(x[i + 2], x[i + 3]),
                                           pack_pair(x[i + 4], x[i + 5]), pack_pair(x[i + 6], x[i + 7]));
    } else if constexpr (N == 4) {
        *(uint2 *)p = make_uint2(pack_pair(x[0], x[1]), pack_pair(x[2], x[3]));
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) p[i] = from_float<__nv_bfloat16>(x[i]);
    }
}

/* 16 bytes of shared memory. */
KV_DEVICE uint4 load_shared(uint32_t at) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(at));
    return v;
}

/* ---- what stays in L2 ---------------------------------------------------------------------------------------------
 */

/* Lines of these accesses are the last to leave the L2 cache (PTX ISA: createpolicy). */
KV_DEVICE uint64_t keep_policy(void) {
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

KV_DEVICE void store_kept(float *p, float v) {
    asm volatile("st.global.L2::cache_hint.f32 [%0], %1, %2;" ::"l"(p), "f"(v), "l"(keep_policy()) : "memory");
}

KV_DEVICE float load_kept(const float *p) {
    float v;
    asm volatile("ld.global.L2::cache_hint.f32 %0, [%1], %2;" : "=f"(v) : "l"(p), "l"(keep_policy()));
    return v;
}

/* ---- cache --------------------------------------------------------------------------------------------------------
 */

/* Index of K[slot][dim] in a page, in elements. */
__host__ __device__ __forceinline__ size_t k_at(int head_dim, int slot, int dim) {
    return (size_t)slot * (size_t)head_dim + (size_t)dim;
}

/* Index of V[slot][dim] from off_v, in elements; slot in [0, KV_PAGE).  bf16: head_dim is a multiple of 16. */
template <typename T> __host__ __device__ __forceinline__ size_t v_at(int head_dim, int slot, int dim) {
    if constexpr (sizeof(T) == 2) {
        int m = dim / 16, hi = dim / 8 % 2, r = dim % 8, sh = slot / 8, q = slot / 2 % 4, e = slot % 2;
        return (size_t)((m * 32 + r * 4 + q) * 8 + 4 * sh + 2 * hi + e);
    } else {
        return k_at(head_dim, slot, dim);
    }
}

/* Pages of one head, and how many slots it holds. */
typedef struct head_view {
    void *const *pages;
    int n_slots;
} head_view;

KV_DEVICE head_view view_head(const kv_cuda_seq *s, int layer, int kv_head, int n_kv_heads) {
    size_t head = (size_t)layer * (size_t)n_kv_heads + (size_t)kv_head;
    head_view v = {s->pages + head * (size_t)s->page_cap, s->n_slots[head]};
    return v;
}

KV_DEVICE char *page_of(head_view v, int slot) {
    return (char *)v.pages[slot / KV_PAGE];
}

#endif
