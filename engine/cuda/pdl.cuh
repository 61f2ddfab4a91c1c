/* pdl.cuh - programmatic dependent launch: a kernel starts while the one before it still runs.
 *
 * Everything a kernel reads before pdl_wait must be constant (weights), or written by kernels that had ended before the
 * one in front started; after it, all memory written by the kernels before is visible.  At least one block of every
 * kernel waits, or the kernels behind would no longer be ordered after those in front. */
#ifndef KV_CUDA_PDL_H
#define KV_CUDA_PDL_H

#include <cuda_runtime.h>

/* The next kernel may be started as soon as every block of this one has come here (or ended). */
static __device__ inline void pdl_trigger(void) {
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

static __device__ inline void pdl_wait(void) {
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

/* Launch in clusters of `cluster` blocks along x, with the attribute that lets the kernel start early. */
template <typename... P, typename... A>
static cudaError_t pdl_launch_clusters(void (*kernel)(P...), dim3 grid, int cluster, dim3 block, size_t shared,
                                       int early, cudaStream_t stream, A... args) {
    cudaLaunchAttribute attr[2];
    int n = 0;
    if (early) {
        attr[n].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attr[n++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (cluster > 1) {
        attr[n].id = cudaLaunchAttributeClusterDimension;
        attr[n].val.clusterDim.x = (unsigned)cluster;
        attr[n].val.clusterDim.y = attr[n].val.clusterDim.z = 1;
        n++;
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = attr;
    config.numAttrs = n;
    return cudaLaunchKernelEx(&config, kernel, P(args)...);
}

template <typename... P, typename... A>
static cudaError_t pdl_launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, int early,
                              cudaStream_t stream, A... args) {
    return pdl_launch_clusters(kernel, grid, 1, block, shared, early, stream, args...);
}

#endif
