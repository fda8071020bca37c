// Private: what softmax.cc calls for tensors on a GPU. Pointers to device memory: rows of n
// contiguous elements of `dtype`, f32 or f64.

#ifndef RESIDUAL_OPS_SOFTMAX_SOFTMAX_CUDA_H_
#define RESIDUAL_OPS_SOFTMAX_SOFTMAX_CUDA_H_

#include <cstdint>

#include "tensor/core/dtype.h"

namespace residual {

void SoftmaxCuda(bool log, DType dtype, const void* x, void* y, int64_t rows, int64_t n);

// From the result y: dx = y (dy - sum(dy y)), or dx = dy - e^y sum(dy) for the logarithm.
void SoftmaxBackwardCuda(bool log, DType dtype, const void* y, const void* dy, void* dx,
                         int64_t rows, int64_t n);

}  // namespace residual

#endif  // RESIDUAL_OPS_SOFTMAX_SOFTMAX_CUDA_H_
