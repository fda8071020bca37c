// Softmax over the last axis.
//
//   softmax      y_i = exp(x_i - max_j x_j) / sum_k exp(x_k - max_j x_j)
//   log_softmax  y_i = x_i - max_j x_j - log sum_k exp(x_k - max_j x_j)
//
// x: [..., n], f32, f64, bf16 or f16 (16-bit floats are computed in f32 and rounded once). A row of
// only -inf gives zeros (softmax; a fully masked query) or -inf (log_softmax). A NaN or +inf makes
// its row NaN. On the CPU or a GPU.

#ifndef RESIDUAL_OPS_SOFTMAX_SOFTMAX_H_
#define RESIDUAL_OPS_SOFTMAX_SOFTMAX_H_

#include "tensor/core/tensor.h"

namespace residual {

Tensor Softmax(const Tensor& x);
Tensor LogSoftmax(const Tensor& x);

}  // namespace residual

#endif  // RESIDUAL_OPS_SOFTMAX_SOFTMAX_H_
