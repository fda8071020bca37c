// What tensor/core needs from tensor/cuda, which lies above it: set once at start-up by a program
// that links tensor/cuda. Without it a CUDA tensor cannot come into being.

#ifndef RESIDUAL_TENSOR_CORE_CUDA_HOOKS_H_
#define RESIDUAL_TENSOR_CORE_CUDA_HOOKS_H_

#include <cstddef>

#include "tensor/core/storage.h"
#include "tensor/core/tensor.h"

namespace residual {

struct CudaHooks {
  StorageRef (*allocate)(size_t bytes);
  // Ordered with the kernels of this process; to or from the host it waits for the copy.
  void (*copy)(void* to, Device to_device, const void* from, Device from_device, size_t bytes);
  void (*add_into)(Tensor& a, const Tensor& b);
  // Floats to floats, as ConvertTo.
  void (*convert)(const Tensor& x, Tensor& to);
};

// CHECKs that they were set.
const CudaHooks& GetCudaHooks();
void SetCudaHooks(const CudaHooks& hooks);
bool HaveCudaHooks();

}  // namespace residual

#endif  // RESIDUAL_TENSOR_CORE_CUDA_HOOKS_H_
