#include "tensor/base/check.h"
#include "tensor/cuda/kernel.h"
#include "tensor/cuda/tensor_kernels.h"

#ifndef RESIDUAL_CUDA_EMULATED
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace residual {
namespace {

constexpr int kThreads = 256;

// The float formats in device code: 16-bit floats widen to f32, and round once on the way back.
__device__ inline float Widen(float x) { return x; }
__device__ inline double Widen(double x) { return x; }
#ifdef RESIDUAL_CUDA_EMULATED
inline float Widen(BFloat16 x) { return x.ToFloat(); }
inline float Widen(Float16 x) { return x.ToFloat(); }
inline void Round(float x, BFloat16& to) { to = BFloat16::FromFloat(x); }
inline void Round(float x, Float16& to) { to = Float16::FromFloat(x); }
#else
__device__ inline float Widen(BFloat16 x) { return __bfloat162float(__ushort_as_bfloat16(x.bits)); }
__device__ inline float Widen(Float16 x) { return __half2float(__ushort_as_half(x.bits)); }
__device__ inline void Round(float x, BFloat16& to) {
  to.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
}
__device__ inline void Round(float x, Float16& to) {
  to.bits = __half_as_ushort(__float2half_rn(x));
}
#endif
template <class From>
__device__ inline void Round(From x, float& to) {
  to = static_cast<float>(x);
}
template <class From>
__device__ inline void Round(From x, double& to) {
  to = static_cast<double>(x);
}

template <class T>
__global__ void AddIntoKernel(T* a, const T* b, int64_t n) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += step) {
    Round(Widen(a[i]) + Widen(b[i]), a[i]);
  }
}

template <class From, class To>
__global__ void ConvertKernel(const From* x, To* to, int64_t n) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += step) {
    Round(Widen(x[i]), to[i]);
  }
}

unsigned Blocks(int64_t n) {
  const int64_t blocks = (n + kThreads - 1) / kThreads;
  return static_cast<unsigned>(blocks < (1 << 20) ? blocks : 1 << 20);
}

template <class Visitor>
void VisitFloat(DType dtype, Visitor&& visitor) {
  switch (dtype) {
    case DType::kF32:
      return visitor(float{});
    case DType::kF64:
      return visitor(double{});
    case DType::kBF16:
      return visitor(BFloat16{});
    case DType::kF16:
      return visitor(Float16{});
    default:
      RESIDUAL_CHECK(false) << "on cuda, only floats are added and converted, not " << Name(dtype);
  }
}

}  // namespace

void AddIntoCuda(DType dtype, void* a, const void* b, int64_t n) {
  if (n == 0) return;
  VisitFloat(dtype, [&](auto tag) {
    using T = decltype(tag);
    LaunchKernel(AddIntoKernel<T>, Blocks(n), kThreads, static_cast<T*>(a),
                 static_cast<const T*>(b), n);
  });
}

void ConvertCuda(DType from, const void* x, DType to_dtype, void* to, int64_t n) {
  if (n == 0) return;
  VisitFloat(from, [&](auto from_tag) {
    using From = decltype(from_tag);
    VisitFloat(to_dtype, [&](auto to_tag) {
      using To = decltype(to_tag);
      LaunchKernel(ConvertKernel<From, To>, Blocks(n), kThreads, static_cast<const From*>(x),
                   static_cast<To*>(to), n);
    });
  });
}

bool CudaKernelsRunHere() {
#ifdef RESIDUAL_CUDA_EMULATED
  return true;
#else
  cudaFuncAttributes attributes;
  const bool found = cudaFuncGetAttributes(&attributes, AddIntoKernel<float>) == cudaSuccess;
  cudaGetLastError();
  return found;
#endif
}

}  // namespace residual
