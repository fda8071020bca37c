// For .cu files: what a kernel is written with, and how it is launched.
//
// The same file is compiled twice: by nvcc, and by the host's compiler with
// RESIDUAL_CUDA_EMULATED, where emulation.h stands in for the language. So a kernel's arithmetic,
// bounds and barriers are tested on a machine without a GPU. What emulation.h offers is therefore
// what kernels may use: threadIdx, blockIdx, blockDim, gridDim (x and y), __shared__ arrays,
// __syncthreads(), __shfl_xor_sync() of a whole warp, and LaunchKernel() below.

#ifndef RESIDUAL_TENSOR_CUDA_KERNEL_H_
#define RESIDUAL_TENSOR_CUDA_KERNEL_H_

#ifdef RESIDUAL_CUDA_EMULATED

#include "tensor/cuda/emulation.h"

#else

#include "tensor/cuda/stream.h"

namespace residual {

// Queues kernel<<<grid, block>>>(arguments...) on the stream. Aborts when it cannot be launched; an
// error inside the kernel shows at the next copy to the host.
template <class... Parameters, class... Arguments>
void LaunchKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, Arguments... arguments) {
  // clang-format off
  kernel<<<grid, block, 0, CudaStream()>>>(arguments...);
  // clang-format on
  RESIDUAL_CUDA_CHECK(cudaGetLastError());
}

}  // namespace residual

#endif  // RESIDUAL_CUDA_EMULATED

#endif  // RESIDUAL_TENSOR_CUDA_KERNEL_H_
