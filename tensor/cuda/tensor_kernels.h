// Private: the arithmetic that tensor/core needs on a GPU. Pointers to device memory.

#ifndef RESIDUAL_TENSOR_CUDA_TENSOR_KERNELS_H_
#define RESIDUAL_TENSOR_CUDA_TENSOR_KERNELS_H_

#include <cstdint>

#include "tensor/core/dtype.h"

namespace residual {

// a[i] += b[i] for floats; 16-bit ones in f32, rounded once.
void AddIntoCuda(DType dtype, void* a, const void* b, int64_t n);

// to[i] = x[i], both floats. Rounds to nearest, as ConvertTo on the host.
void ConvertCuda(DType from, const void* x, DType to_dtype, void* to, int64_t n);

// Whether this program holds code for the device.
bool CudaKernelsRunHere();

}  // namespace residual

#endif  // RESIDUAL_TENSOR_CUDA_TENSOR_KERNELS_H_
