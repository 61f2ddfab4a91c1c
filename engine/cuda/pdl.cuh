/* pdl.cuh - programmatic dependent launch: a kernel starts while the one before it still runs.
 *
 * Everything a kernel reads before pdl_wait must be constant (weights), or written by kernels that had ended before the
 * one in front started; after it, all memory
 * written by the kernels before is visible. */
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

/* Launch with the attribute that lets the kernel start early; cluster: blocks of a thread block cluster, along x. */
template <typename... P, typename... A>
static cudaError_t pdl_launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, int early, int cluster,
                              cudaStream_t stream, A... args) {
    cudaLaunchAttribute attr[2];
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = attr;
    if (early) {
        attr[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attr[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (cluster > 1) {
        attr[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
        attr[config.numAttrs].val.clusterDim.x = cluster;
        attr[config.numAttrs].val.clusterDim.y = attr[config.numAttrs].val.clusterDim.z = 1;
        config.numAttrs++;
    }
    return cudaLaunchKernelEx(&config, kernel, P(args)...);
}

/* Clusters of that many blocks that the GPU runs at once; 0: not known. */
template <typename... P> static int clusters_at_once(void (*kernel)(P...), dim3 block, int cluster) {
    cudaLaunchAttribute attr;
    cudaLaunchConfig_t config = {};
    int n = 0;
    attr.id = cudaLaunchAttributeClusterDimension;
    attr.val.clusterDim.x = cluster;
    attr.val.clusterDim.y = attr.val.clusterDim.z = 1;
    config.gridDim = dim3(cluster);
    config.blockDim = block;
    config.attrs = &attr;
    config.numAttrs = 1;
    return cudaOccupancyMaxActiveClusters(&n, kernel, &config) == cudaSuccess ? n : 0;
}

#endif
