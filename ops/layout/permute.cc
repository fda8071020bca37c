#include <algorithm>
#include <numeric>
#include <utility>

#include "ops/layout/copy.h"
#include "ops/layout/layout.h"
#include "ops/layout/layout_kernels.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

using layout_internal::CopyStrided;
using layout_internal::kSumColumns;
using layout_internal::kSumRows;
using layout_internal::Merged;
using layout_internal::SourceAxes;
using layout_internal::SumArgs;
using layout_internal::SumBlocks;
using layout_internal::SumColumnBlocks;

using Permutation = absl::InlinedVector<int, Shape::kMaxRank>;

constexpr int64_t kSumGrain = 1 << 15;  // elements

// Sizes and strides of a row-major tensor.
SourceAxes AxesOf(const Shape& shape) {
  SourceAxes axes(shape.rank());
  int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    axes[i] = {shape[i], stride};
    stride *= shape[i];
  }
  return axes;
}

// x's elements in the order of `axes`, as `shape`.
Tensor Moved(const Tensor& x, const SourceAxes& axes, const Shape& shape) {
  Tensor y = Tensor::Uninitialized(shape, x.dtype());
  if (y.elements() > 0) {
    CopyStrided(x.raw_data(), axes, SizeOf(x.dtype()), y.mutable_raw_data());
  }
  return y;
}

// The axes of x repeated to `shape`: stride 0 where x has size 1 (or no axis) and `shape` has not.
SourceAxes RepeatedAxes(const Shape& from, const Shape& shape) {
  const SourceAxes own = AxesOf(from);
  const int missing = shape.rank() - from.rank();
  SourceAxes axes;
  for (int i = 0; i < shape.rank(); ++i) {
    const bool repeats = i < missing || (own[i - missing].size == 1 && shape[i] != 1);
    axes.push_back({shape[i], repeats ? 0 : own[i - missing].stride});
  }
  return Merged(axes);
}

// [outer, n, inner] -> [outer, inner], f32 or f64. In blocks of rows, whose sums are summed the
// same way: the order depends on the shape only, and long sums keep their digits.
Tensor SumOverMiddle(const Tensor& x, int64_t outer, int64_t n, int64_t inner) {
  const int64_t blocks = SumBlocks(n);
  Tensor sum = Tensor::Uninitialized({outer, blocks, inner}, x.dtype());
  const SumArgs args{x.raw_data(), sum.mutable_raw_data(), n, inner};
  const auto kernel = x.dtype() == kF32 ? layout_internal::SumF32 : layout_internal::SumF64;
  ParallelFor(outer * blocks * SumColumnBlocks(inner),
              kSumGrain / (std::min(n, kSumRows) * std::min(inner, kSumColumns)),
              [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
  return blocks == 1 ? sum : SumOverMiddle(sum, outer, blocks, inner);
}

// The sum of a gradient over every axis of stride 0.
Tensor SummedOverRepeats(const Tensor& dy, SourceAxes axes, const Shape& shape) {
  if (dy.elements() == 0) return Tensor::Zeros(shape, dy.dtype());
  if (dy.dtype() == kBF16 || dy.dtype() == kF16) {
    return ConvertTo(SummedOverRepeats(ConvertTo(dy, kF32), axes, shape), dy.dtype());
  }
  Tensor sum = dy;
  int64_t inner = 1;
  for (; !axes.empty(); axes.pop_back()) {
    const int64_t n = axes.back().size;
    if (axes.back().stride == 0) {
      sum = SumOverMiddle(sum, sum.elements() / (n * inner), n, inner);
    } else {
      inner *= n;
    }
  }
  return sum.Reshaped(shape);
}

}  // namespace

Tensor Permute(const Tensor& x, absl::Span<const int> perm) {
  RESIDUAL_CHECK_OP("permute", x.defined() && x.device() == kCpu, x);
  RESIDUAL_CHECK_OP("permute", static_cast<int>(perm.size()) == x.rank(), x);
  const SourceAxes from = AxesOf(x.shape());
  Permutation inverse(x.rank(), -1);
  SourceAxes axes;
  absl::InlinedVector<int64_t, Shape::kMaxRank> sizes;
  for (int i = 0; i < x.rank(); ++i) {
    const int axis = x.shape().Axis(perm[i]);
    RESIDUAL_CHECK(inverse[axis] == -1)
        << "permute: axis " << axis << " of " << x.ToString() << " is named twice";
    inverse[axis] = i;
    axes.push_back(from[axis]);
    sizes.push_back(from[axis].size);
  }
  axes = Merged(axes);
  const Shape shape(sizes);
  const bool one_run = axes.empty() || (axes.size() == 1 && axes[0].stride == 1);
  if (one_run || x.elements() == 0) return x.Reshaped(shape);
  Tensor y = Moved(x, axes, shape);
  // dx is dy moved back.
  if (Tape* tape = Tape::For({&x})) {
    tape->Record("permute", {&x}, {&y}, [inverse](absl::Span<const Tensor> dy, Needs) {
      return TensorList{Permute(dy[0], inverse)};
    });
  }
  return y;
}

Tensor Transpose(const Tensor& x, int axis_a, int axis_b) {
  Permutation perm(x.rank());
  std::iota(perm.begin(), perm.end(), 0);
  std::swap(perm[x.shape().Axis(axis_a)], perm[x.shape().Axis(axis_b)]);
  return Permute(x, perm);
}

Tensor BroadcastTo(const Tensor& x, const Shape& shape) {
  RESIDUAL_CHECK_OP("broadcast_to", x.defined() && x.device() == kCpu, x);
  const int missing = shape.rank() - x.rank();
  bool fits = missing >= 0;
  for (int i = 0; fits && i < x.rank(); ++i) {
    fits = x.dim(i) == 1 || x.dim(i) == shape[i + missing];
  }
  RESIDUAL_CHECK(fits) << "broadcast_to: " << x.ToString() << " to " << shape;
  if (shape.elements() == x.elements()) return x.Reshaped(shape);
  const SourceAxes axes = RepeatedAxes(x.shape(), shape);
  Tensor y = Moved(x, axes, shape);
  // dx is the sum of dy over what was repeated.
  if (Tape* tape = Tape::For({&x})) {
    tape->Record("broadcast_to", {&x}, {&y},
                 [axes, shape = x.shape()](absl::Span<const Tensor> dy, Needs) {
                   return TensorList{SummedOverRepeats(dy[0], axes, shape)};
                 });
  }
  return y;
}

Tensor Repeat(const Tensor& x, int axis, int64_t times) {
  RESIDUAL_CHECK_OP("repeat", x.defined() && times >= 0, x);
  axis = x.shape().Axis(axis);
  const int64_t slices = x.shape().elements(0, axis + 1);
  const int64_t inner = x.shape().elements(axis + 1, x.rank());
  return BroadcastTo(x.Reshaped({slices, 1, inner}), {slices, times, inner})
      .Reshaped(x.shape().With(axis, x.dim(axis) * times));
}

}  // namespace residual
