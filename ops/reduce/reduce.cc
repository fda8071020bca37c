#include "ops/reduce/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements of work per chunk
constexpr int64_t kBlock = 256;      // elements summed in f32 before they join a double

// x seen as [outer, size, inner], the middle axis being reduced.
struct Around {
  int64_t outer, size, inner;
  Around(const Shape& shape, int axis)
      : outer(shape.elements(0, axis)),
        size(shape[axis]),
        inner(shape.elements(axis + 1, shape.rank())) {}
  int64_t grain() const {
    return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, size * inner));
  }
};

Shape Reduced(const Shape& shape, int axis, bool keep) {
  return keep ? shape.With(axis, 1) : shape.Without(axis);
}

// The type partial sums are made in: f32 for f32 and 16-bit floats, f64 for f64.
template <class T>
using Partial = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Sum of n elements `stride` apart. Eight interleaved partial sums per block, blocks in double.
template <class T>
double SumStrided(const T* x, int64_t n, int64_t stride) {
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = std::min(n, begin + kBlock);
    Partial<T> part[8] = {};
    int64_t i = begin;
    for (; i + 8 <= end; i += 8) {
      for (int j = 0; j < 8; ++j) part[j] += static_cast<Partial<T>>(ToDouble(x[(i + j) * stride]));
    }
    for (int j = 0; i < end; ++i, ++j) part[j] += static_cast<Partial<T>>(ToDouble(x[i * stride]));
    total +=
        ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
  }
  return total;
}

// y[outer, inner] = sum over the middle axis, times `scale`.
Tensor SumForward(const Tensor& x, int axis, bool keep, double scale) {
  const Around a(x.shape(), axis);
  Tensor y = Tensor::Uninitialized(Reduced(x.shape(), axis, keep), x.dtype());
  VisitDType(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* in = x.data<T>();
    T* out = y.mutable_data<T>();
    ParallelFor(a.outer, a.grain(), [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) {
        const T* from = in + o * a.size * a.inner;
        if (a.inner == 1) {
          out[o] = FromDouble<T>(scale * SumStrided(from, a.size, 1));
          continue;
        }
        std::vector<double> sums(a.inner);  // along rows: reads stay contiguous
        for (int64_t s = 0; s < a.size; ++s) {
          for (int64_t i = 0; i < a.inner; ++i) sums[i] += ToDouble(from[s * a.inner + i]);
        }
        for (int64_t i = 0; i < a.inner; ++i) out[o * a.inner + i] = FromDouble<T>(scale * sums[i]);
      }
    });
  });
  return y;
}

// dx[outer, s, inner] = scale * dy[outer, inner] for every s.
Tensor SumBackward(const Shape& shape, int axis, double scale, const Tensor& dy) {
  const Around a(shape, axis);
  Tensor dx = Tensor::Uninitialized(shape, dy.dtype());
  VisitDType(dy.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* in = dy.data<T>();
    T* out = dx.mutable_data<T>();
    ParallelFor(a.outer, a.grain(), [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) {
        for (int64_t s = 0; s < a.size; ++s) {
          for (int64_t i = 0; i < a.inner; ++i) {
            out[(o * a.size + s) * a.inner + i] =
                FromDouble<T>(scale * ToDouble(in[o * a.inner + i]));
          }
        }
      }
    });
  });
  return dx;
}

Tensor SumOrMean(const char* name, const Tensor& x, int axis, bool keep, bool mean) {
  RESIDUAL_CHECK_OP(name, IsFloat(x.dtype()) && x.rank() >= 1, x);
  axis = x.shape().Axis(axis);
  const double scale = mean ? 1.0 / static_cast<double>(x.dim(axis)) : 1.0;
  Tensor y = SumForward(x, axis, keep, scale);
  if (Tape* tape = Tape::For({&x})) {
    tape->Record(name, {&x}, {&y}, [shape = x.shape(), axis, scale](auto dy, Needs) {
      return TensorList{SumBackward(shape, axis, scale, dy[0])};
    });
  }
  return y;
}

// Index of the first largest element, or of the first NaN.
Tensor ArgMaxForward(const Tensor& x, int axis, bool keep) {
  const Around a(x.shape(), axis);
  Tensor y = Tensor::Uninitialized(Reduced(x.shape(), axis, keep), kI64);
  int64_t* out = y.mutable_data<int64_t>();
  VisitDType(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* in = x.data<T>();
    ParallelFor(a.outer, a.grain(), [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) {
        for (int64_t i = 0; i < a.inner; ++i) {
          const T* from = in + o * a.size * a.inner + i;
          int64_t best = 0;
          for (int64_t s = 1; s < a.size; ++s) {
            const double largest = ToDouble(from[best * a.inner]);
            const double value = ToDouble(from[s * a.inner]);
            if (std::isnan(largest)) break;
            if (value > largest || std::isnan(value)) best = s;
          }
          out[o * a.inner + i] = best;
        }
      }
    });
  });
  return y;
}

}  // namespace

Tensor Sum(const Tensor& x, int axis, bool keep) { return SumOrMean("sum", x, axis, keep, false); }
Tensor Mean(const Tensor& x, int axis, bool keep) { return SumOrMean("mean", x, axis, keep, true); }

Tensor ArgMax(const Tensor& x, int axis, bool keep) {
  RESIDUAL_CHECK_OP("arg_max", IsFloat(x.dtype()) && x.rank() >= 1, x);
  axis = x.shape().Axis(axis);
  RESIDUAL_CHECK_OP("arg_max", x.dim(axis) >= 1 || x.shape().Without(axis).elements() == 0, x);
  return ArgMaxForward(x, axis, keep);
}

Tensor Max(const Tensor& x, int axis, bool keep) {
  RESIDUAL_CHECK_OP("max", IsFloat(x.dtype()) && x.rank() >= 1, x);
  axis = x.shape().Axis(axis);
  RESIDUAL_CHECK_OP("max", x.dim(axis) >= 1 || x.shape().Without(axis).elements() == 0, x);
  const Tensor indices = ArgMaxForward(x, axis, keep);
  const Around a(x.shape(), axis);
  Tensor y = Tensor::Uninitialized(indices.shape(), x.dtype());
  const int64_t* index = indices.data<int64_t>();
  VisitDType(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* in = x.data<T>();
    T* out = y.mutable_data<T>();
    for (int64_t j = 0; j < y.elements(); ++j) {
      out[j] = in[(j / a.inner * a.size + index[j]) * a.inner + j % a.inner];
    }
  });
  if (Tape* tape = Tape::For({&x})) {  // to the element that was taken
    tape->Record("max", {&x}, {&y}, [indices, a, shape = x.shape()](auto dy, Needs) {
      Tensor dx = Tensor::Zeros(shape, dy[0].dtype());
      const int64_t* index = indices.data<int64_t>();
      VisitDType(dx.dtype(), [&](auto tag) {
        using T = decltype(tag);
        const T* in = dy[0].template data<T>();
        T* out = dx.mutable_data<T>();
        for (int64_t j = 0; j < indices.elements(); ++j) {
          out[(j / a.inner * a.size + index[j]) * a.inner + j % a.inner] = in[j];
        }
      });
      return TensorList{dx};
    });
  }
  return y;
}

namespace {

// Sum of f(element) over all, by chunks that depend on the size only.
template <class F>
double Total(const Tensor& x, F f) {
  const int64_t chunks = NumChunks(x.elements(), kGrain);
  std::vector<double> parts(chunks);
  VisitDType(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* in = x.data<T>();
    ParallelFor(x.elements(), kGrain, [&](int64_t begin, int64_t end) {
      parts[begin / kGrain] = f(in + begin, end - begin);
    });
  });
  double total = 0;
  for (double part : parts) total += part;
  return total;
}

}  // namespace

Tensor SumAll(const Tensor& x) {
  RESIDUAL_CHECK_OP("sum_all", IsFloat(x.dtype()), x);
  Tensor y = Tensor::Scalar(
      Total(x, [](const auto* in, int64_t n) { return SumStrided(in, n, 1); }), x.dtype());
  if (Tape* tape = Tape::For({&x})) {
    tape->Record("sum_all", {&x}, {&y}, [shape = x.shape()](auto dy, Needs) {
      return TensorList{Tensor::Full(shape, dy[0].Item(), dy[0].dtype())};
    });
  }
  return y;
}

Tensor MeanAll(const Tensor& x) {
  RESIDUAL_CHECK_OP("mean_all", IsFloat(x.dtype()), x);
  const double scale = 1.0 / static_cast<double>(x.elements());
  Tensor y = Tensor::Scalar(
      scale * Total(x, [](const auto* in, int64_t n) { return SumStrided(in, n, 1); }), x.dtype());
  if (Tape* tape = Tape::For({&x})) {
    tape->Record("mean_all", {&x}, {&y}, [shape = x.shape(), scale](auto dy, Needs) {
      return TensorList{Tensor::Full(shape, scale * dy[0].Item(), dy[0].dtype())};
    });
  }
  return y;
}

Tensor Norm2(const Tensor& x) {
  RESIDUAL_CHECK_OP("norm2", IsFloat(x.dtype()), x);
  const double norm = std::sqrt(Total(x, [](const auto* in, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += ToDouble(in[i]) * ToDouble(in[i]);
    return sum;
  }));
  Tensor y = Tensor::Scalar(norm, x.dtype());
  if (Tape* tape = Tape::For({&x})) {  // dx = dy x / norm
    tape->Record("norm2", {&x}, {&y}, [x, norm](auto dy, Needs) {
      const double scale = norm == 0 ? 0 : dy[0].Item() / norm;
      Tensor dx = Tensor::Uninitialized(x.shape(), x.dtype());
      VisitDType(x.dtype(), [&](auto tag) {
        using T = decltype(tag);
        const T* in = x.data<T>();
        T* out = dx.mutable_data<T>();
        for (int64_t i = 0; i < x.elements(); ++i) out[i] = FromDouble<T>(scale * ToDouble(in[i]));
      });
      return TensorList{dx};
    });
  }
  return y;
}

}  // namespace residual
