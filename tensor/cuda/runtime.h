// Device memory and the start of the CUDA runtime. Only where there is a CUDA toolkit.

#ifndef RESIDUAL_TENSOR_CUDA_RUNTIME_H_
#define RESIDUAL_TENSOR_CUDA_RUNTIME_H_

#include "absl/status/status.h"
#include "tensor/core/storage.h"
#include "tensor/cuda/device_pool.h"

namespace residual {

// What StartCuda() of start.h does.
absl::Status StartCudaDevice();

// `bytes` of device memory from a pool. Aborts with the size when the device has no more.
StorageRef AllocateCuda(size_t bytes);
DevicePool::Stats CudaPoolStats();

}  // namespace residual

#endif  // RESIDUAL_TENSOR_CUDA_RUNTIME_H_
