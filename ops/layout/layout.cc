#include "ops/layout/layout.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "ops/layout/copy.h"
#include "tensor/autograd/tape.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

using layout_internal::CopyRows;
using layout_internal::ZeroRows;

// A tensor as [outer, n, inner] around one axis; inner in bytes.
struct Around {
  Around(const Tensor& x, int axis)
      : outer(x.shape().elements(0, axis)),
        n(x.dim(axis)),
        inner(x.shape().elements(axis + 1, x.rank()) * SizeOf(x.dtype())) {}
  int64_t outer, n, inner;
};

// A handle on the same bytes that no tape tracks.
Tensor Untracked(const Tensor& x) {
  Tensor result = x;
  result.set_tape_ref({});
  return result;
}

// The part [begin, end) of an axis; shares x's bytes where it is one run.
Tensor Part(const Tensor& x, int axis, int64_t begin, int64_t end) {
  const Around from(x, axis);
  const Shape shape = x.shape().With(axis, end - begin);
  if (from.outer == 1) {
    const Tensor rows =
        Untracked(x).Reshaped({from.n, x.elements() / std::max<int64_t>(from.n, 1)});
    return rows.Rows(begin, end).Reshaped(shape);
  }
  Tensor y = Tensor::Uninitialized(shape, x.dtype());
  CopyRows(static_cast<const char*>(x.raw_data()) + begin * from.inner, from.n * from.inner,
           y.mutable_raw_data(), (end - begin) * from.inner, (end - begin) * from.inner,
           from.outer);
  return y;
}

// Parts (undefined: zeros of that size) beside each other along an axis of `shape`.
Tensor Joined(const Shape& shape, DType dtype, int axis, absl::Span<const Tensor> parts,
              absl::Span<const int64_t> sizes) {
  Tensor y = Tensor::Uninitialized(shape, dtype);
  const Around to(y, axis);
  char* target = static_cast<char*>(y.mutable_raw_data());
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t width = sizes[i] * to.inner;
    if (parts[i].defined()) {
      CopyRows(parts[i].raw_data(), width, target, to.n * to.inner, width, to.outer);
    } else {
      ZeroRows(target, to.n * to.inner, width, to.outer);
    }
    target += width;
  }
  return y;
}

}  // namespace

Tensor Slice(const Tensor& x, int axis, int64_t begin, int64_t end) {
  RESIDUAL_CHECK_OP("slice", x.defined() && x.device() == kCpu, x);
  axis = x.shape().Axis(axis);
  const int64_t n = x.dim(axis);
  RESIDUAL_CHECK(0 <= begin && begin <= end && end <= n)
      << "slice: [" << begin << ", " << end << ") of axis " << axis << " of " << x.ToString();
  if (begin == 0 && end == n) return x;
  Tensor y = Part(x, axis, begin, end);
  // dx is dy at its place, zero elsewhere.
  if (Tape* tape = Tape::For({&x})) {
    tape->Record("slice", {&x}, {&y},
                 [shape = x.shape(), axis, begin, end](absl::Span<const Tensor> dy, Needs) {
                   const int64_t n = shape[axis];
                   const Tensor grad = dy[0].Reshaped(shape.With(axis, end - begin));
                   return TensorList{Joined(shape, grad.dtype(), axis, {Tensor(), grad, Tensor()},
                                            {begin, end - begin, n - end})};
                 });
  }
  return y;
}

Tensor Concat(absl::Span<const Tensor> parts, int axis) {
  RESIDUAL_CHECK(!parts.empty()) << "concat of nothing";
  const Tensor& first = parts[0];
  RESIDUAL_CHECK_OP("concat", first.defined() && first.device() == kCpu, first);
  axis = first.shape().Axis(axis);
  absl::InlinedVector<int64_t, 4> sizes;
  absl::InlinedVector<const Tensor*, 4> inputs;
  int64_t n = 0;
  for (const Tensor& part : parts) {
    RESIDUAL_CHECK_OP("concat", part.dtype() == first.dtype() && part.device() == kCpu, first,
                      part);
    RESIDUAL_CHECK_OP("concat", part.rank() == first.rank(), first, part);
    RESIDUAL_CHECK_OP("concat", part.shape() == first.shape().With(axis, part.dim(axis)), first,
                      part);
    sizes.push_back(part.dim(axis));
    inputs.push_back(&part);
    n += part.dim(axis);
  }
  if (parts.size() == 1) return first;
  constexpr size_t kMaxInputs = 32;  // of one entry of a tape
  if (parts.size() > kMaxInputs && Tape::Current() != nullptr) {
    std::vector<Tensor> joined;
    for (size_t i = 0; i < parts.size(); i += kMaxInputs) {
      joined.push_back(Concat(parts.subspan(i, kMaxInputs), axis));
    }
    return Concat(joined, axis);
  }
  Tensor y = Joined(first.shape().With(axis, n), first.dtype(), axis, parts, sizes);
  Tape* tape = nullptr;
  for (const Tensor* part : inputs) {
    if (tape == nullptr) tape = Tape::For({part});
  }
  // Every part's gradient is its part of dy.
  if (tape != nullptr) {
    Tensor* output = &y;
    tape->Record("concat", inputs, absl::MakeConstSpan(&output, 1),
                 [axis, sizes](absl::Span<const Tensor> dy, Needs needs) {
                   TensorList grads(sizes.size());
                   int64_t begin = 0;
                   for (size_t i = 0; i < sizes.size(); begin += sizes[i++]) {
                     if (needs[i]) grads[i] = Part(dy[0], axis, begin, begin + sizes[i]);
                   }
                   return grads;
                 });
  }
  return y;
}

TensorList Split(const Tensor& x, int axis, absl::Span<const int64_t> sizes) {
  RESIDUAL_CHECK_OP("split", x.defined() && x.device() == kCpu, x);
  axis = x.shape().Axis(axis);
  int64_t end = 0;
  for (int64_t size : sizes) {
    RESIDUAL_CHECK(size >= 0) << "split: a part of size " << size << " of " << x.ToString();
    end += size;
  }
  RESIDUAL_CHECK(end == x.dim(axis))
      << "split: parts of " << end << " in all along axis " << axis << " of " << x.ToString();
  if (sizes.size() == 1) return {x};
  TensorList parts;
  absl::InlinedVector<Tensor*, 4> outputs;
  int64_t begin = 0;
  for (int64_t size : sizes) {
    parts.push_back(Part(x, axis, begin, begin + size));
    begin += size;
  }
  // dx is the parts' gradients beside each other.
  if (Tape* tape = Tape::For({&x})) {
    for (Tensor& part : parts) outputs.push_back(&part);
    const Tensor* input = &x;
    tape->Record("split", absl::MakeConstSpan(&input, 1), outputs,
                 [shape = x.shape(), dtype = x.dtype(), axis,
                  sizes = absl::InlinedVector<int64_t, 4>(sizes.begin(), sizes.end())](
                     absl::Span<const Tensor> dy, Needs) {
                   return TensorList{Joined(shape, dtype, axis, dy, sizes)};
                 });
  }
  return parts;
}

Tensor Cast(const Tensor& x, DType dtype) {
  RESIDUAL_CHECK_OP("cast", x.defined(), x);
  if (x.dtype() == dtype) return x;
  Tensor y = ConvertTo(x, dtype);
  if (!IsFloat(dtype)) return y;
  // dx = dy in x's dtype.
  if (Tape* tape = Tape::For({&x})) {
    tape->Record("cast", {&x}, {&y}, [dtype = x.dtype()](absl::Span<const Tensor> dy, Needs) {
      return TensorList{ConvertTo(dy[0], dtype)};
    });
  }
  return y;
}

}  // namespace residual
