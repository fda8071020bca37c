// Elementwise kernels move bytes and little else: each thread takes four neighbours, 16 bytes of
// f32, in one load and one store where the addresses allow it. The op is a branch inside the
// kernel, the same for all threads: one kernel for eleven functions, and nothing to be seen of it
// beside the memory.

#include "ops/elementwise/elementwise_cuda.h"
#include "ops/elementwise/elementwise_scalar.h"
#include "tensor/cuda/kernel.h"

namespace residual {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 4;  // elements of one thread

// Inputs and outputs of a kernel.
template <class T, int kInputs, int kOutputs>
struct Arrays {
  const T* in[kInputs];
  T* out[kOutputs];
  int64_t n;
  bool aligned = false;  // all of them, to 16 bytes
};

template <class T>
struct alignas(16) Each {
  T values[kEach];
};

template <class T>
__device__ inline Each<T> Load(const T* x, int count, bool aligned) {
  if (aligned && count == kEach) return *reinterpret_cast<const Each<T>*>(x);
  Each<T> each;
#pragma unroll
  for (int j = 0; j < kEach; ++j) each.values[j] = j < count ? x[j] : T(0);
  return each;
}

template <class T>
__device__ inline void Store(const Each<T>& each, int count, bool aligned, T* y) {
  if (aligned && count == kEach) {
    *reinterpret_cast<Each<T>*>(y) = each;
    return;
  }
#pragma unroll
  for (int j = 0; j < kEach; ++j) {
    if (j < count) y[j] = each.values[j];
  }
}

// Calls f(i, in, out) for every i < n: in[k] holds the i-th element of input k, and out[k] becomes
// that of output k.
template <class T, int kInputs, int kOutputs, class F>
__global__ void __launch_bounds__(kThreads)
    MapKernel(const Arrays<T, kInputs, kOutputs> arrays, const F f) {
  const int64_t step = int64_t{gridDim.x} * kThreads * kEach;
  for (int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kEach; i < arrays.n;
       i += step) {
    const int count = arrays.n - i < kEach ? static_cast<int>(arrays.n - i) : kEach;
    Each<T> in[kInputs], out[kOutputs];
#pragma unroll
    for (int k = 0; k < kInputs; ++k) in[k] = Load(arrays.in[k] + i, count, arrays.aligned);
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      T inputs[kInputs], outputs[kOutputs];
#pragma unroll
      for (int k = 0; k < kInputs; ++k) inputs[k] = in[k].values[j];
      f(i + j, inputs, outputs);
#pragma unroll
      for (int k = 0; k < kOutputs; ++k) out[k].values[j] = outputs[k];
    }
#pragma unroll
    for (int k = 0; k < kOutputs; ++k) Store(out[k], count, arrays.aligned, arrays.out[k] + i);
  }
}

template <class T, int kInputs, int kOutputs, class F>
void Map(Arrays<T, kInputs, kOutputs> arrays, F f) {
  if (arrays.n == 0) return;
  arrays.aligned = true;
  for (const T* x : arrays.in) arrays.aligned &= reinterpret_cast<uintptr_t>(x) % 16 == 0;
  for (const T* y : arrays.out) arrays.aligned &= reinterpret_cast<uintptr_t>(y) % 16 == 0;
  const int64_t blocks = (arrays.n + kThreads * kEach - 1) / (kThreads * kEach);
  LaunchKernel(MapKernel<T, kInputs, kOutputs, F>,
               static_cast<unsigned>(blocks < (1 << 20) ? blocks : 1 << 20), kThreads, arrays, f);
}

template <class T>
struct Unary {
  UnaryOp op;
  __device__ void operator()(int64_t, const T (&x)[1], T (&y)[1]) const {
    y[0] = UnaryValue(op, x[0]);
  }
};

template <class T>
struct UnaryBackward {
  UnaryOp op;
  __device__ void operator()(int64_t, const T (&x)[2], T (&dx)[1]) const {
    dx[0] = UnarySlope(op, x[0]) * x[1];
  }
};

template <class T>
struct Binary {
  BinaryOp op;
  __device__ void operator()(int64_t, const T (&x)[2], T (&y)[1]) const {
    y[0] = BinaryValue(op, x[0], x[1]);
  }
};

template <class T>
struct BinaryRow {  // b repeats every `width`
  BinaryOp op;
  const T* b;
  int64_t width;
  __device__ void operator()(int64_t i, const T (&x)[1], T (&y)[1]) const {
    // A 64-bit remainder takes about 70 instructions, a 32-bit one 20.
    const int64_t j = i < (int64_t{1} << 32)
                          ? static_cast<uint32_t>(i) % static_cast<uint32_t>(width)
                          : i % width;
    y[0] = BinaryValue(op, x[0], b[j]);
  }
};

template <class T>
struct BinaryScalar {
  BinaryOp op;
  T b;
  __device__ void operator()(int64_t, const T (&x)[1], T (&y)[1]) const {
    y[0] = BinaryValue(op, x[0], b);
  }
};

struct SiluMul {
  __device__ void operator()(int64_t, const float (&x)[2], float (&y)[1]) const {
    y[0] = UnaryValue(UnaryOp::kSilu, x[0]) * x[1];
  }
};

struct SiluMulBackward {
  __device__ void operator()(int64_t, const float (&x)[3], float (&dx)[2]) const {
    dx[0] = x[2] * x[1] * UnarySlope(UnaryOp::kSilu, x[0]);
    dx[1] = x[2] * UnaryValue(UnaryOp::kSilu, x[0]);
  }
};

// A block sums rows [chunk * rows_each, ..) of kColumns columns: its threads are kColumns wide,
// each sums every (kThreads / kColumns)-th row, and the partial sums are halved in shared memory.
template <int kColumns, class From, class To>
__global__ void __launch_bounds__(kThreads)
    SumRowsKernel(const From* x, int64_t rows, int64_t width, int64_t rows_each, To* sums) {
  constexpr int kLanes = kThreads / kColumns;
  __shared__ double parts[kThreads];
  const int column = threadIdx.x % kColumns, lane = threadIdx.x / kColumns;
  const int64_t j = int64_t{blockIdx.x} * kColumns + column;
  const int64_t begin = blockIdx.y * rows_each;
  const int64_t end = begin + rows_each < rows ? begin + rows_each : rows;
  double sum = 0;
  if (j < width) {
    for (int64_t r = begin + lane; r < end; r += kLanes) sum += x[r * width + j];
  }
  parts[threadIdx.x] = sum;
  for (int half = kLanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) parts[threadIdx.x] += parts[threadIdx.x + half * kColumns];
  }
  if (lane == 0 && j < width) sums[blockIdx.y * width + j] = static_cast<To>(parts[threadIdx.x]);
}

template <class From, class To>
void SumChunks(const From* x, int64_t rows, int64_t width, int64_t chunks, To* sums) {
  const int64_t rows_each = (rows + chunks - 1) / chunks;
  const auto launch = [&](auto kernel, int64_t columns) {
    const dim3 grid(static_cast<unsigned>((width + columns - 1) / columns),
                    static_cast<unsigned>(chunks));
    LaunchKernel(kernel, grid, kThreads, x, rows, width, rows_each, sums);
  };
  if (width >= 32) {
    launch(SumRowsKernel<32, From, To>, 32);
  } else if (width > 1) {
    launch(SumRowsKernel<4, From, To>, 4);
  } else {
    launch(SumRowsKernel<1, From, To>, 1);
  }
}

template <class Visitor>
void VisitF32OrF64(DType dtype, Visitor&& visitor) {
  dtype == kF64 ? visitor(double{}) : visitor(float{});
}

}  // namespace

void UnaryCuda(UnaryOp op, DType dtype, const void* x, void* y, int64_t n) {
  VisitF32OrF64(dtype, [&](auto tag) {
    using T = decltype(tag);
    Map<T, 1, 1>({{static_cast<const T*>(x)}, {static_cast<T*>(y)}, n}, Unary<T>{op});
  });
}

void UnaryBackwardCuda(UnaryOp op, DType dtype, const void* x, const void* dy, void* dx,
                       int64_t n) {
  VisitF32OrF64(dtype, [&](auto tag) {
    using T = decltype(tag);
    Map<T, 2, 1>({{static_cast<const T*>(x), static_cast<const T*>(dy)}, {static_cast<T*>(dx)}, n},
                 UnaryBackward<T>{op});
  });
}

void BinaryCuda(BinaryOp op, DType dtype, const void* a, const void* b, int64_t width, void* y,
                int64_t n) {
  VisitF32OrF64(dtype, [&](auto tag) {
    using T = decltype(tag);
    const T *u = static_cast<const T*>(a), *v = static_cast<const T*>(b);
    if (width == n) {
      Map<T, 2, 1>({{u, v}, {static_cast<T*>(y)}, n}, Binary<T>{op});
    } else {
      Map<T, 1, 1>({{u}, {static_cast<T*>(y)}, n}, BinaryRow<T>{op, v, width});
    }
  });
}

void BinaryScalarCuda(BinaryOp op, DType dtype, const void* a, double b, void* y, int64_t n) {
  VisitF32OrF64(dtype, [&](auto tag) {
    using T = decltype(tag);
    Map<T, 1, 1>({{static_cast<const T*>(a)}, {static_cast<T*>(y)}, n},
                 BinaryScalar<T>{op, static_cast<T>(b)});
  });
}

void SiluMulCuda(const float* a, const float* b, float* y, int64_t n) {
  Map<float, 2, 1>({{a, b}, {y}, n}, SiluMul{});
}

void SiluMulBackwardCuda(const float* a, const float* b, const float* dy, float* da, float* db,
                         int64_t n) {
  Map<float, 3, 2>({{a, b, dy}, {da, db}, n}, SiluMulBackward{});
}

int64_t SumRowsChunks(int64_t rows) {
  const int64_t chunks = (rows + 255) / 256;  // 8 rows or more for each thread
  return chunks < 1 ? 1 : chunks < 64 ? chunks : 64;
}

void SumRowsCuda(DType dtype, const void* x, int64_t rows, int64_t width, double* partial,
                 void* sums) {
  if (width == 0) return;
  VisitF32OrF64(dtype, [&](auto tag) {
    using T = decltype(tag);
    const int64_t chunks = SumRowsChunks(rows);
    SumChunks(static_cast<const T*>(x), rows, width, chunks, partial);
    SumChunks(partial, chunks, width, 1, static_cast<T*>(sums));
  });
}

}  // namespace residual
