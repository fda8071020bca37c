// Reductions of f32, f64, bf16 and f16 tensors along one axis or over all elements.
//
// axis may be negative (from the end). The reduced axis is dropped, or kept with size 1 if `keep`.
// Sums accumulate f32 and 16-bit floats in f32 over blocks of bounded length and combine blocks in
// f64 (error of a few units in the last place for any length), f64 in f64; the order depends on the
// shape only, so the bits are the same for any number of threads. 16-bit results are rounded once.
// NaN gives NaN in all of them (ArgMax: the index of the first NaN).

#ifndef RESIDUAL_OPS_REDUCE_REDUCE_H_
#define RESIDUAL_OPS_REDUCE_REDUCE_H_

#include "tensor/core/tensor.h"

namespace residual {

// Sum along the axis; an axis of size 0 gives 0.
Tensor Sum(const Tensor& x, int axis, bool keep = false);

// Sum / size; an axis of size 0 gives NaN.
Tensor Mean(const Tensor& x, int axis, bool keep = false);

// Largest element along the axis, whose size must be >= 1 (unless nothing is returned). The
// gradient goes to the first of equal maxima.
Tensor Max(const Tensor& x, int axis, bool keep = false);

// Index (i64) of the first largest element along the axis; size >= 1 as for Max. Not
// differentiable.
Tensor ArgMax(const Tensor& x, int axis, bool keep = false);

// Over all elements: a tensor of rank 0 and x's dtype. Of nothing: 0, and NaN for the mean.
Tensor SumAll(const Tensor& x);
Tensor MeanAll(const Tensor& x);

// sqrt(sum x_i^2) over all elements, of rank 0 and x's dtype, accumulated in f64 (no overflow for
// any f32 values). The gradient at 0 is 0.
Tensor Norm2(const Tensor& x);

}  // namespace residual

#endif  // RESIDUAL_OPS_REDUCE_REDUCE_H_
