/* ring.cuh - barriers in shared memory, and rings of stages that some warps fill while others read (PTX ISA,
 * "mbarrier").
 *
 * Addresses are 32-bit shared ones. */
#ifndef KV_CUDA_RING_H
#define KV_CUDA_RING_H

#include <cuda_runtime.h>
#include <stdint.h>

static __device__ __forceinline__ uint32_t shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void barrier_init(uint32_t bar, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}

/* Between the initialisation and the block's first __syncthreads: the copy engine must see the barriers, too. */
static __device__ __forceinline__ void barrier_publish(void) {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

static __device__ __forceinline__ void barrier_arrive(uint32_t bar) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}

/* An arrival that also announces `bytes` from the copy engine. */
static __device__ __forceinline__ void barrier_expect(uint32_t bar, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}

/* Returns once the phase of this parity is over; a fresh barrier counts as past phase 1. */
static __device__ __forceinline__ void barrier_wait(uint32_t bar, uint32_t parity) {
    uint32_t over;
    do {
        asm volatile("{\n\t.reg .pred p;\n\t"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\t"
                     "selp.u32 %0, 1, 0, p;\n\t}"
                     : "=r"(over)
                     : "r"(bar), "r"(parity)
                     : "memory");
    } while (!over);
}

/* Named barriers of the block, over `threads` threads: sync waits for all of them, arrive does not wait. */
static __device__ __forceinline__ void named_sync(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

static __device__ __forceinline__ void named_arrive(int id, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* ---- rings of tiles -------------------------------------------------------------------------------------------------
 */

/* Item i goes through stage i % N_STAGES, as the (i / N_STAGES)-th one there. */
template <int N_STAGES, int STAGE_BYTES> struct tile_ring {
    uint32_t tiles, full, empty; /* N_STAGES tiles; N_STAGES 8-byte barriers each */

    __device__ __forceinline__ uint32_t tile(int i) const {
        return tiles + (uint32_t)i % N_STAGES * STAGE_BYTES;
    }
    __device__ __forceinline__ uint32_t full_bar(int i) const {
        return full + 8 * ((uint32_t)i % N_STAGES);
    }
    __device__ __forceinline__ uint32_t empty_bar(int i) const {
        return empty + 8 * ((uint32_t)i % N_STAGES);
    }
    __device__ __forceinline__ void init(int fillers, int readers) const {
        for (int i = 0; i < N_STAGES; i++) {
            barrier_init(full_bar(i), fillers);
            barrier_init(empty_bar(i), readers);
        }
    }
    __device__ __forceinline__ void wait_full(int i) const {
        barrier_wait(full_bar(i), (uint32_t)i / N_STAGES & 1);
    }
    __device__ __forceinline__ void wait_empty(int i) const {
        barrier_wait(empty_bar(i), ((uint32_t)i / N_STAGES & 1) ^ 1);
    }
    /* As often as init was told `readers`: by one lane of every reading warp after the warp's last read of the stage,
     * or by every lane after its own. */
    __device__ __forceinline__ void release(int i) const {
        barrier_arrive(empty_bar(i));
    }
};

#endif
