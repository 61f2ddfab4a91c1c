/* tensor_map.cuh - host: the copy engine's view of a bf16 tensor (CUDA driver API, "Tensor Map Object Management"). */
#ifndef KV_CUDA_TENSOR_MAP_H
#define KV_CUDA_TENSOR_MAP_H

#include <cuda.h>
#include <cuda_runtime.h>

/* map = boxes of x, dims[0] elements side by side, strides (bytes) of the other dimensions; x and strides multiples of
 * 16 bytes.  What lies outside of dims arrives as zeros. */
static inline cudaError_t map_tensor(CUtensorMap *map, const void *x, int rank, const cuuint64_t *dims,
                                     const cuuint64_t *strides, const cuuint32_t *box, CUtensorMapSwizzle swizzle) {
    typedef CUresult (*encode_fn)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                                  const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                                  CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
    const cuuint32_t step[5] = {1, 1, 1, 1, 1};
    void *encode = NULL; /* looked up by name, so that nothing links against the driver */
    cudaDriverEntryPointQueryResult found;
    cudaError_t rc =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, 12000, cudaEnableDefault, &found);
    if (rc != cudaSuccess) return rc;
    if (found != cudaDriverEntryPointSuccess) return cudaErrorNotSupported;
    const CUresult made = ((encode_fn)encode)(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, (cuuint32_t)rank, (void *)x, dims,
                                              strides, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                                              CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return made == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

#endif
