#include "ops/reduce/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "ops/reduce/reduce_kernels.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

using reduce_internal::kMaxColumns;

constexpr int64_t kGrain = 1 << 14;  // elements of work per chunk

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
  // Offset of the element of x that output j comes from, `index` being its place on the axis.
  int64_t Source(int64_t j, int64_t index) const {
    return (j / inner * size + index) * inner + j % inner;
  }
};

// VisitDType for the float types.
template <class Visitor>
void VisitFloat(DType dtype, const Visitor& visitor) {
  switch (dtype) {
    case DType::kF32:
      return visitor(float{});
    case DType::kF64:
      return visitor(double{});
    case DType::kBF16:
      return visitor(BFloat16{});
    default:
      return visitor(Float16{});
  }
}

Shape Reduced(const Shape& shape, int axis, bool keep) {
  return keep ? shape.With(axis, 1) : shape.Without(axis);
}

// The same kernels for f64 and f16 in plain loops: all in f64.
template <class T>
double SumCpu(const T* x, int64_t n) {
  double part[4] = {};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int j = 0; j < 4; ++j) part[j] += ToDouble(x[i + j]);
  }
  for (; i < n; ++i) part[0] += ToDouble(x[i]);
  return (part[0] + part[1]) + (part[2] + part[3]);
}

template <class T>
double SumOfSquaresCpu(const T* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += ToDouble(x[i]) * ToDouble(x[i]);
  return sum;
}

template <class T>
void SumRowsCpu(const T* x, int64_t rows, int64_t stride, int64_t columns, double* sums) {
  std::fill_n(sums, columns, 0.0);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) sums[c] += ToDouble(x[r * stride + c]);
  }
}

template <class T>
void ArgMaxRowsCpu(const T* x, int64_t rows, int64_t stride, int64_t columns, int64_t* indices) {
  for (int64_t c = 0; c < columns; ++c) {
    int64_t best = 0;
    for (int64_t r = 1; r < rows; ++r) {
      const double largest = ToDouble(x[best * stride + c]), value = ToDouble(x[r * stride + c]);
      if (value > largest || (std::isnan(value) && !std::isnan(largest))) best = r;
    }
    indices[c] = best;
  }
}

template <class T>
int64_t ArgMaxCpu(const T* x, int64_t n) {
  int64_t index;
  ArgMaxRowsCpu(x, n, 1, 1, &index);
  return index;
}

using reduce_internal::ArgMaxCpu;
using reduce_internal::ArgMaxRowsCpu;
using reduce_internal::SumCpu;
using reduce_internal::SumOfSquaresCpu;
using reduce_internal::SumRowsCpu;

// Sums over the middle axis of [outer, size, inner] with inner > 1. Where outer and inner are
// small, the rows are cut too; the parts are added in order.
template <class T>
void SumMiddle(const Around& a, double scale, const T* x, T* y) {
  const int64_t width = std::min(a.inner, kMaxColumns), blocks = NumChunks(a.inner, width);
  const int64_t rows = std::max<int64_t>(64, 4 * kGrain / width), cuts = NumChunks(a.size, rows);
  std::vector<double> parts(a.outer * cuts * a.inner);  // [outer, cuts, inner]
  const int64_t units = a.outer * cuts * blocks;
  const int64_t work = std::max<int64_t>(1, std::min(rows, a.size) * width);
  ParallelFor(units, kGrain / work, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t block = unit % blocks, cut = unit / blocks % cuts, o = unit / blocks / cuts;
      const int64_t c = block * width, r = cut * rows;
      SumRowsCpu(x + (o * a.size + r) * a.inner + c, std::min(rows, a.size - r), a.inner,
                 std::min(width, a.inner - c), parts.data() + (o * cuts + cut) * a.inner + c);
    }
  });
  ParallelFor(a.outer, kGrain / (cuts * a.inner), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      double* first = parts.data() + o * cuts * a.inner;
      for (int64_t cut = 1; cut < cuts; ++cut) {
        for (int64_t i = 0; i < a.inner; ++i) first[i] += first[cut * a.inner + i];
      }
      for (int64_t i = 0; i < a.inner; ++i) y[o * a.inner + i] = FromDouble<T>(scale * first[i]);
    }
  });
}

// y[outer, inner] = sum over the middle axis, times `scale`.
Tensor SumForward(const Tensor& x, int axis, bool keep, double scale) {
  const Around a(x.shape(), axis);
  Tensor y = Tensor::Uninitialized(Reduced(x.shape(), axis, keep), x.dtype());
  if (y.elements() == 0) return y;
  VisitFloat(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* in = x.data<T>();
    T* out = y.mutable_data<T>();
    if (a.size == 0) {
      std::fill_n(out, y.elements(), FromDouble<T>(scale * 0));
    } else if (a.inner > 1) {
      SumMiddle(a, scale, in, out);
    } else {
      ParallelFor(a.outer, a.grain(), [&](int64_t begin, int64_t end) {
        for (int64_t o = begin; o < end; ++o) {
          out[o] = FromDouble<T>(scale * SumCpu(in + o * a.size, a.size));
        }
      });
    }
  });
  return y;
}

// dx[outer, s, inner] = scale * dy[outer, inner] for every s.
Tensor SumBackward(const Shape& shape, int axis, double scale, const Tensor& dy) {
  const Around a(shape, axis);
  Tensor dx = Tensor::Uninitialized(shape, dy.dtype());
  if (dx.elements() == 0) return dx;
  VisitFloat(dy.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* in = dy.data<T>();
    T* out = dx.mutable_data<T>();
    std::vector<T> scaled(a.outer * a.inner);
    for (size_t i = 0; i < scaled.size(); ++i) scaled[i] = FromDouble<T>(scale * ToDouble(in[i]));
    // Rows of inner elements, or for inner = 1 of size elements.
    const int64_t rows = a.inner == 1 ? a.outer : a.outer * a.size;
    const int64_t row = dx.elements() / rows;
    ParallelFor(rows, kGrain / row, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        if (a.inner == 1) {
          std::fill_n(out + r * row, row, scaled[r]);
        } else {
          std::copy_n(scaled.data() + r / a.size * row, row, out + r * row);
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
  if (y.elements() == 0) return y;
  int64_t* out = y.mutable_data<int64_t>();
  VisitFloat(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* in = x.data<T>();
    const int64_t width = std::min(a.inner, kMaxColumns), blocks = NumChunks(a.inner, width);
    ParallelFor(a.outer * blocks, kGrain / (a.size * width), [&](int64_t begin, int64_t end) {
      for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t o = unit / blocks, c = unit % blocks * width;
        if (a.inner == 1) {
          out[o] = ArgMaxCpu(in + o * a.size, a.size);
        } else {
          ArgMaxRowsCpu(in + o * a.size * a.inner + c, a.size, a.inner,
                        std::min(width, a.inner - c), out + o * a.inner + c);
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
  VisitFloat(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* in = x.data<T>();
    T* out = y.mutable_data<T>();
    ParallelFor(y.elements(), kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) out[j] = in[a.Source(j, index[j])];
    });
  });
  if (Tape* tape = Tape::For({&x})) {  // to the element that was taken
    tape->Record("max", {&x}, {&y}, [indices, a, shape = x.shape()](auto dy, Needs) {
      Tensor dx = Tensor::Zeros(shape, dy[0].dtype());
      const int64_t* index = indices.data<int64_t>();
      VisitFloat(dx.dtype(), [&](auto tag) {
        using T = decltype(tag);
        const T* in = dy[0].template data<T>();
        T* out = dx.mutable_data<T>();
        ParallelFor(indices.elements(), kGrain, [&](int64_t begin, int64_t end) {
          for (int64_t j = begin; j < end; ++j) out[a.Source(j, index[j])] = in[j];
        });
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
  VisitFloat(x.dtype(), [&](auto tag) {
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
  Tensor y =
      Tensor::Scalar(Total(x, [](const auto* in, int64_t n) { return SumCpu(in, n); }), x.dtype());
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
      scale * Total(x, [](const auto* in, int64_t n) { return SumCpu(in, n); }), x.dtype());
  if (Tape* tape = Tape::For({&x})) {
    tape->Record("mean_all", {&x}, {&y}, [shape = x.shape(), scale](auto dy, Needs) {
      return TensorList{Tensor::Full(shape, scale * dy[0].Item(), dy[0].dtype())};
    });
  }
  return y;
}

Tensor Norm2(const Tensor& x) {
  RESIDUAL_CHECK_OP("norm2", IsFloat(x.dtype()), x);
  const double norm =
      std::sqrt(Total(x, [](const auto* in, int64_t n) { return SumOfSquaresCpu(in, n); }));
  Tensor y = Tensor::Scalar(norm, x.dtype());
  if (Tape* tape = Tape::For({&x})) {  // dx = dy x / norm
    tape->Record("norm2", {&x}, {&y}, [x, norm](auto dy, Needs) {
      const double scale = norm == 0 ? 0 : dy[0].Item() / norm;
      Tensor dx = Tensor::Uninitialized(x.shape(), x.dtype());
      VisitFloat(x.dtype(), [&](auto tag) {
        using T = decltype(tag);
        const T* in = x.data<T>();
        T* out = dx.mutable_data<T>();
        ParallelFor(x.elements(), kGrain, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) out[i] = FromDouble<T>(scale * ToDouble(in[i]));
        });
      });
      return TensorList{dx};
    });
  }
  return y;
}

}  // namespace residual
