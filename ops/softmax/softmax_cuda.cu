// A row belongs to one warp, or to a block of eight when it is long. It is read twice: once for its
// maximum and the sum of exponentials, together (the sum is scaled down whenever a larger maximum
// comes; Milakov and Gimelshein 2018), and once, mostly from cache, to write the result. Lane l
// takes the elements l, l + 32, ...: neighbours in one request. The order of every sum depends on n
// only.

#include <cmath>

#include "ops/softmax/softmax_cuda.h"
#include "tensor/cuda/kernel.h"

namespace residual {
namespace {

constexpr int kWarp = 32;
constexpr int kWarpsPerBlock = 8;
constexpr int kThreads = kWarp * kWarpsPerBlock;
constexpr int64_t kLongRow = 1024;  // elements: from here on a block works on one row

// The maximum of some elements and the sum of exp(element - maximum). Adding two of them gives the
// same bits either way round, so all lanes end with the same.
template <class T>
struct Running {
  T largest, sum;

  __device__ void Add(T x) { Add(Running{x, T(1)}); }

  __device__ void Add(const Running& other) {
    if (other.largest == -static_cast<T>(INFINITY)) {  // adds nothing, but -inf - -inf is NaN
      sum += other.sum * 0;                            // a NaN stays
      return;
    }
    const T scale = std::exp(-std::abs(largest - other.largest));  // NaN for a NaN
    if (other.largest > largest) {
      sum = sum * scale + other.sum;
      largest = other.largest;
    } else {
      sum += other.sum * scale;
    }
  }

  __device__ Running FromLane(int mask) const {
    return {__shfl_xor_sync(0xffffffffu, largest, mask), __shfl_xor_sync(0xffffffffu, sum, mask)};
  }
};

template <class T>
struct Sum {
  T sum;
  __device__ void Add(const Sum& other) { sum += other.sum; }
  __device__ Sum FromLane(int mask) const { return {__shfl_xor_sync(0xffffffffu, sum, mask)}; }
};

// What all threads of the row hold together, known to each of them afterwards.
template <int kWarpsPerRow, class Total>
__device__ Total Combine(Total mine) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    mine.Add(mine.FromLane(mask));
  }
  if (kWarpsPerRow == 1) return mine;
  __shared__ Total warps[kWarpsPerRow];
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = mine;
  __syncthreads();
  Total total = warps[0];
#pragma unroll
  for (int w = 1; w < kWarpsPerRow; ++w) total.Add(warps[w]);
  return total;
}

// Where the row of this thread begins, and which of its elements are the thread's.
template <int kWarpsPerRow>
struct Place {
  static constexpr int kStep = kWarp * kWarpsPerRow;
  const int64_t row = int64_t{blockIdx.x} * (kWarpsPerBlock / kWarpsPerRow) + threadIdx.x / kStep;
  const int first = threadIdx.x % kStep;
};

template <bool kLog, int kWarpsPerRow, class T>
__global__ void __launch_bounds__(kThreads)
    SoftmaxKernel(const T* x, T* y, int64_t rows, int64_t n) {
  const Place<kWarpsPerRow> place;
  if (place.row >= rows) return;  // the whole warp
  x += place.row * n;
  y += place.row * n;
  Running<T> row{-static_cast<T>(INFINITY), 0};  // of no elements
  for (int64_t i = place.first; i < n; i += place.kStep) row.Add(x[i]);
  row = Combine<kWarpsPerRow>(row);
  // Nothing but -inf: zeros, or -inf. A NaN made the sum NaN; +inf makes the row NaN.
  const bool masked = row.largest == -static_cast<T>(INFINITY) && row.sum == 0;
  if (row.largest == static_cast<T>(INFINITY)) row.sum = static_cast<T>(NAN);
  const T scale = 1 / row.sum, log_sum = std::log(row.sum);
  for (int64_t i = place.first; i < n; i += place.kStep) {
    if (kLog) {
      y[i] = masked ? -static_cast<T>(INFINITY) : (x[i] - row.largest) - log_sum;
    } else {
      y[i] = masked ? T(0) : std::exp(x[i] - row.largest) * scale;
    }
  }
}

template <bool kLog, int kWarpsPerRow, class T>
__global__ void __launch_bounds__(kThreads)
    SoftmaxBackwardKernel(const T* y, const T* dy, T* dx, int64_t rows, int64_t n) {
  const Place<kWarpsPerRow> place;
  if (place.row >= rows) return;
  y += place.row * n;
  dy += place.row * n;
  dx += place.row * n;
  Sum<T> row{0};
  for (int64_t i = place.first; i < n; i += place.kStep) row.sum += kLog ? dy[i] : dy[i] * y[i];
  row = Combine<kWarpsPerRow>(row);
  for (int64_t i = place.first; i < n; i += place.kStep) {
    dx[i] = kLog ? dy[i] - std::exp(y[i]) * row.sum : y[i] * (dy[i] - row.sum);
  }
}

unsigned Blocks(int64_t rows, int64_t rows_per_block) {
  return static_cast<unsigned>((rows + rows_per_block - 1) / rows_per_block);
}

template <bool kLog, class T>
void Forward(const T* x, T* y, int64_t rows, int64_t n) {
  if (n < kLongRow) {
    LaunchKernel(SoftmaxKernel<kLog, 1, T>, Blocks(rows, kWarpsPerBlock), kThreads, x, y, rows, n);
  } else {
    LaunchKernel(SoftmaxKernel<kLog, kWarpsPerBlock, T>, Blocks(rows, 1), kThreads, x, y, rows, n);
  }
}

template <bool kLog, class T>
void Backward(const T* y, const T* dy, T* dx, int64_t rows, int64_t n) {
  if (n < kLongRow) {
    LaunchKernel(SoftmaxBackwardKernel<kLog, 1, T>, Blocks(rows, kWarpsPerBlock), kThreads, y, dy,
                 dx, rows, n);
  } else {
    LaunchKernel(SoftmaxBackwardKernel<kLog, kWarpsPerBlock, T>, Blocks(rows, 1), kThreads, y, dy,
                 dx, rows, n);
  }
}

template <class Visitor>
void VisitF32OrF64(DType dtype, Visitor&& visitor) {
  dtype == kF64 ? visitor(double{}) : visitor(float{});
}

}  // namespace

void SoftmaxCuda(bool log, DType dtype, const void* x, void* y, int64_t rows, int64_t n) {
  if (rows == 0 || n == 0) return;
  VisitF32OrF64(dtype, [&](auto tag) {
    using T = decltype(tag);
    const T* in = static_cast<const T*>(x);
    T* out = static_cast<T*>(y);
    log ? Forward<true>(in, out, rows, n) : Forward<false>(in, out, rows, n);
  });
}

void SoftmaxBackwardCuda(bool log, DType dtype, const void* y, const void* dy, void* dx,
                         int64_t rows, int64_t n) {
  if (rows == 0 || n == 0) return;
  VisitF32OrF64(dtype, [&](auto tag) {
    using T = decltype(tag);
    const T *out = static_cast<const T*>(y), *grad = static_cast<const T*>(dy);
    T* in = static_cast<T*>(dx);
    log ? Backward<true>(out, grad, in, rows, n) : Backward<false>(out, grad, in, rows, n);
  });
}

}  // namespace residual
