// Moving elements: parts of tensors, joining, transposing, repeating, converting.
//
// All dtypes; nothing is computed, so elements keep their bits (Cast apart). Axes may be counted
// from the end; -1 is the last. All ops are differentiable in float tensors: a gradient moves back
// the same way, and where an element was used several times its gradients are added.
//
// Tensors are contiguous, so these ops copy. Where no byte would move (Slice of the leading axis,
// a Permute that only moves axes of size 1, Split into one part, ...) the result shares the bytes
// of its input and costs nothing; such a result is not unique().

#ifndef RESIDUAL_OPS_LAYOUT_LAYOUT_H_
#define RESIDUAL_OPS_LAYOUT_LAYOUT_H_

#include <cstdint>

#include "absl/types/span.h"
#include "tensor/core/tensor.h"

namespace residual {

// The elements [begin, end) of one axis; 0 <= begin <= end <= x.dim(axis). Free for the leading
// axis. The gradient is as large as x: to cut x into many parts use Split, whose gradient is made
// once.
Tensor Slice(const Tensor& x, int axis, int64_t begin, int64_t end);

// Parts of equal dtype, and equal shape but for `axis`, one after the other along it. At least one
// part; parts of size 0 are allowed.
Tensor Concat(absl::Span<const Tensor> parts, int axis);

// The inverse of Concat: parts of these sizes along `axis`, in order; the sizes add up to
// x.dim(axis).
TensorList Split(const Tensor& x, int axis, absl::Span<const int64_t> sizes);

// Exchanges two axes.
Tensor Transpose(const Tensor& x, int axis_a, int axis_b);

// Axis i of the result is axis perm[i] of x. perm names every axis once.
Tensor Permute(const Tensor& x, absl::Span<const int> perm);

// x repeated to `shape`: x's axes are matched with the last axes of `shape`; each has that size or
// size 1, and is repeated then, as are missing leading axes. The gradient is summed over what was
// repeated, in f32 for bf16 and f16 (rounded once).
Tensor BroadcastTo(const Tensor& x, const Shape& shape);

// Every slice along `axis` `times` times in a row (numpy.repeat): [a, b] -> [a, a, b, b]. Gives the
// keys of grouped-query attention to all query heads.
Tensor Repeat(const Tensor& x, int axis, int64_t times);

// Every element converted (float to integer truncates, to bool: != 0; to a narrower float: to
// nearest even); x itself when it has that dtype. Differentiable between floats: the gradient is
// converted back.
Tensor Cast(const Tensor& x, DType dtype);

}  // namespace residual

#endif  // RESIDUAL_OPS_LAYOUT_LAYOUT_H_
