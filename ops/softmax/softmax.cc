#include "ops/softmax/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/layout/layout.h"
#include "ops/simd/stream.h"
#include "ops/softmax/softmax_cuda.h"
#include "ops/softmax/softmax_kernels.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

int64_t RowGrain(int64_t n) { return std::max<int64_t>(1, (1 << 13) / std::max<int64_t>(1, n)); }
int64_t Rows(const Tensor& x) { return x.shape().elements(0, x.rank() - 1); }

// One row in double, the plain way.
void RowF64(bool log, const double* x, double* y, int64_t n) {
  const double infinity = std::numeric_limits<double>::infinity();
  double largest = -infinity, sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] > largest || std::isnan(x[i])) largest = x[i];
    if (std::isnan(largest)) break;
  }
  if (largest == -infinity) {
    std::fill_n(y, n, log ? -infinity : 0.0);
    return;
  }
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - largest);
  for (int64_t i = 0; i < n; ++i) {
    y[i] = log ? x[i] - largest - std::log(sum) : std::exp(x[i] - largest) / sum;
  }
}

void BackwardRowF64(bool log, const double* y, const double* dy, double* dx, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += log ? dy[i] : dy[i] * y[i];
  for (int64_t i = 0; i < n; ++i) {
    dx[i] = log ? dy[i] - std::exp(y[i]) * sum : y[i] * (dy[i] - sum);
  }
}

Tensor Backward(bool log, const Tensor& y, const Tensor& dy) {
  Tensor dx = Tensor::Uninitialized(y.shape(), y.dtype(), y.device());
  const int64_t n = y.dim(-1);
  if (y.device() == kCuda) {
    if constexpr (kBuiltWithCuda) {
      SoftmaxBackwardCuda(log, y.dtype(), y.raw_data(), dy.raw_data(), dx.mutable_raw_data(),
                          Rows(y), n);
    }
  } else if (y.dtype() == kF32) {
    const SoftmaxBackwardArgs args{y.data<float>(), dy.data<float>(), dx.mutable_data<float>(), n,
                                   PastCaches(dx.bytes())};
    ParallelFor(Rows(y), RowGrain(n), [&](int64_t begin, int64_t end) {
      log ? LogSoftmaxBackwardCpu(args, begin, end) : SoftmaxBackwardCpu(args, begin, end);
    });
  } else {
    const double *out = y.data<double>(), *grad = dy.data<double>();
    double* in = dx.mutable_data<double>();
    for (int64_t r = 0; r < Rows(y); ++r) {
      BackwardRowF64(log, out + r * n, grad + r * n, in + r * n, n);
    }
  }
  return dx;
}

Tensor SoftmaxOrLog(const char* name, bool log, const Tensor& x) {
  RESIDUAL_CHECK_OP(name, x.rank() >= 1 && IsFloat(x.dtype()), x);
  if (x.dtype() == kBF16 || x.dtype() == kF16) {
    return Cast(SoftmaxOrLog(name, log, Cast(x, kF32)), x.dtype());
  }
  Tensor y = Tensor::Uninitialized(x.shape(), x.dtype(), x.device());
  const int64_t n = x.dim(-1);
  if (x.device() == kCuda) {
    if constexpr (kBuiltWithCuda) {
      SoftmaxCuda(log, x.dtype(), x.raw_data(), y.mutable_raw_data(), Rows(x), n);
    }
  } else if (x.dtype() == kF32) {
    const SoftmaxArgs args{x.data<float>(), y.mutable_data<float>(), n, PastCaches(y.bytes())};
    ParallelFor(Rows(x), RowGrain(n), [&](int64_t begin, int64_t end) {
      log ? LogSoftmaxCpu(args, begin, end) : SoftmaxCpu(args, begin, end);
    });
  } else {
    const double* in = x.data<double>();
    double* out = y.mutable_data<double>();
    for (int64_t r = 0; r < Rows(x); ++r) RowF64(log, in + r * n, out + r * n, n);
  }
  // softmax: dx = y (dy - sum(dy y)); log_softmax: dx = dy - e^y sum(dy). Both need y alone.
  if (Tape* tape = Tape::For({&x})) {
    tape->Record(name, {&x}, {&y},
                 [log, y](auto dy, Needs) { return TensorList{Backward(log, y, dy[0])}; });
  }
  return y;
}

}  // namespace

Tensor Softmax(const Tensor& x) { return SoftmaxOrLog("softmax", false, x); }
Tensor LogSoftmax(const Tensor& x) { return SoftmaxOrLog("log_softmax", true, x); }

}  // namespace residual
