#include "tensor/cuda/runtime.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "tensor/base/check.h"
#include "tensor/core/cuda_hooks.h"
#include "tensor/cuda/stream.h"
#include "tensor/cuda/tensor_kernels.h"

namespace residual {
namespace {

cudaStream_t g_stream = nullptr;

void* AllocateBlock(size_t bytes) {
  void* block = nullptr;
  if (cudaMalloc(&block, bytes) == cudaSuccess) return block;
  cudaGetLastError();  // or the next check would report it
  return nullptr;
}

// Never destroyed: tensors of static duration may outlive it, and the driver frees all at exit.
DevicePool& ThePool() {
  static DevicePool* pool =
      new DevicePool(AllocateBlock, [](void* block) { RESIDUAL_CUDA_CHECK(cudaFree(block)); });
  return *pool;
}

void ReleaseCuda(Storage* storage) {
  ThePool().Give(storage->data(), storage->bytes());
  delete storage;
}

void Copy(void* to, Device to_device, const void* from, Device from_device, size_t bytes) {
  if (bytes == 0) return;
  RESIDUAL_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, g_stream));
  if (to_device == kCpu || from_device == kCpu) SynchronizeCuda();
}

void AddIntoTensor(Tensor& a, const Tensor& b) {
  AddIntoCuda(a.dtype(), a.mutable_raw_data(), b.raw_data(), a.elements());
}

void ConvertTensor(const Tensor& x, Tensor& to) {
  ConvertCuda(x.dtype(), x.raw_data(), to.dtype(), to.mutable_raw_data(), x.elements());
}

absl::Status NoGpu(absl::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat("no GPU to use: ", why));
}

absl::Status Start() {
  int devices = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess) {
    return NoGpu(cudaGetErrorString(error));
  }
  if (devices == 0) return NoGpu("the driver sees no device");
  cudaDeviceProp device;
  if (const cudaError_t error = cudaGetDeviceProperties(&device, 0); error != cudaSuccess) {
    return NoGpu(cudaGetErrorString(error));
  }
  if (!CudaKernelsRunHere()) {
    return NoGpu(absl::StrCat(device.name, " has compute capability ", device.major, ".",
                              device.minor,
                              ", for which this program holds no code; build with --repo_env=",
                              "RESIDUAL_CUDA_ARCHS=", device.major, device.minor));
  }
  if (const cudaError_t error = cudaStreamCreateWithFlags(&g_stream, cudaStreamNonBlocking);
      error != cudaSuccess) {
    return NoGpu(cudaGetErrorString(error));
  }
  SetCudaHooks({AllocateCuda, Copy, AddIntoTensor, ConvertTensor});
  return absl::OkStatus();
}

}  // namespace

absl::Status StartCudaDevice() {
  static const absl::Status* status = new absl::Status(Start());  // once, for all threads
  return *status;
}

cudaStream_t CudaStream() { return g_stream; }

void SynchronizeCuda() { RESIDUAL_CUDA_CHECK(cudaStreamSynchronize(g_stream)); }

StorageRef AllocateCuda(size_t bytes) {
  void* block = ThePool().Take(bytes);
  if (block == nullptr) {
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    RESIDUAL_CHECK(false) << "out of GPU memory: no " << bytes << " bytes; this process holds "
                          << CudaPoolStats().bytes << ", " << free << " of " << total
                          << " are free. ";
  }
  return StorageRef(new Storage(block, bytes, kCuda, ReleaseCuda));
}

DevicePool::Stats CudaPoolStats() { return ThePool().stats(); }

namespace internal {

void CudaFailed(cudaError_t error, const char* file, int line, const char* expression) {
  CheckFailure(file, line, expression).stream()
      << cudaGetErrorName(error) << ": " << cudaGetErrorString(error) << ". ";
  std::abort();  // not reached: the failure's destructor aborts
}

}  // namespace internal
}  // namespace residual
