// One device, one stream, and what to do about errors. Only where there is a CUDA toolkit.

#ifndef RESIDUAL_TENSOR_CUDA_STREAM_H_
#define RESIDUAL_TENSOR_CUDA_STREAM_H_

#include <cuda_runtime.h>

namespace residual {

// The stream on which every kernel and copy runs, in the order in which it was asked for.
// StartCuda() made it.
cudaStream_t CudaStream();

// Waits until the device has done all of it. Only measurements need this: copies to the host wait
// by themselves.
void SynchronizeCuda();

namespace internal {
[[noreturn]] void CudaFailed(cudaError_t error, const char* file, int line, const char* expression);
}  // namespace internal
}  // namespace residual

// Aborts with CUDA's words when the call fails: after an error in a kernel nothing that the device
// holds can be trusted.
#define RESIDUAL_CUDA_CHECK(expression)                                                       \
  do {                                                                                        \
    const cudaError_t residual_cuda_error = (expression);                                     \
    if (residual_cuda_error != cudaSuccess) {                                                 \
      ::residual::internal::CudaFailed(residual_cuda_error, __FILE__, __LINE__, #expression); \
    }                                                                                         \
  } while (false)

#endif  // RESIDUAL_TENSOR_CUDA_STREAM_H_
