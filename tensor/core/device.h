// Where a tensor's bytes live.

#ifndef RESIDUAL_TENSOR_CORE_DEVICE_H_
#define RESIDUAL_TENSOR_CORE_DEVICE_H_

#include <cstdint>

namespace residual {

// One host, at most one GPU. A tensor with kCuda exists only in a program built with CUDA.
enum class Device : uint8_t { kCpu, kCuda };

inline constexpr Device kCpu = Device::kCpu;
inline constexpr Device kCuda = Device::kCuda;

// True in a program built with the CUDA toolkit. An op's dispatch is a visible branch:
//   if (x.device() == kCpu) SoftmaxCpu(args);
//   else if constexpr (kBuiltWithCuda) SoftmaxCuda(args);
// where a function named only in a discarded branch needs no definition. (Not `inline`: a test may
// build one op with emulated kernels in a program that has no others.)
#ifdef RESIDUAL_WITH_CUDA
constexpr bool kBuiltWithCuda = true;
#else
constexpr bool kBuiltWithCuda = false;
#endif

// "cpu" or "cuda".
inline const char* Name(Device device) { return device == kCpu ? "cpu" : "cuda"; }

}  // namespace residual

// Before a function that kernels call too.
#ifdef __CUDACC__
#define RESIDUAL_HOST_DEVICE __host__ __device__
#else
#define RESIDUAL_HOST_DEVICE
#endif

#endif  // RESIDUAL_TENSOR_CORE_DEVICE_H_
