/* cluster.cuh - blocks of a cluster: their barrier, and stores into each other's shared memory (PTX ISA,
 * "barrier.cluster", "mapa", "st.async").
 *
 * Addresses are 32-bit shared ones of the own block; those of another block's variables are the same there. */
#ifndef KV_CUDA_CLUSTER_H
#define KV_CUDA_CLUSTER_H

#include <cuda_runtime.h>
#include <stdint.h>

/* The two halves of a barrier of all threads of the cluster, behind which barriers that barrier_publish has published
 * are there for all.  (To release all memory would wait for the memory, and for microseconds when it is busy.) */
static __device__ __forceinline__ void cluster_arrive(void) {
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}

static __device__ __forceinline__ void cluster_wait(void) {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/* To that shared address of the cluster's block `rank`; 16 bytes, which complete on its barrier bar. */
static __device__ __forceinline__ void send_shared(uint32_t at, const float v[4], uint32_t bar, int rank) {
    uint32_t to, on;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(at), "r"(rank));
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(on) : "r"(bar), "r"(rank));
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
        "f"(v[0]), "f"(v[1]), "f"(v[2]), "f"(v[3]), "r"(on)
        : "memory");
}

/* What other blocks have sent is there. */
static __device__ __forceinline__ void wait_for_peers(uint32_t bar) {
    uint32_t over;
    do {
        asm volatile("{\n\t.reg .pred p;\n\t"
                     "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0;\n\t"
                     "selp.u32 %0, 1, 0, p;\n\t}"
                     : "=r"(over)
                     : "r"(bar)
                     : "memory");
    } while (!over);
}

#endif
