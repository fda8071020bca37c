// Normalisation over the last axis.
//
//   layer norm  y = (x - mean) / sqrt(var + eps) * weight + bias        Ba et al. 2016
//   RMS norm    y = x / sqrt(mean(x^2) + eps) * weight                  Zhang and Sennrich 2019
//
// x: [..., n], n >= 1; weight, bias: [n] in x's dtype, or undefined: none. var is the biased
// variance, from centred values (no cancellation). f32, f64, bf16 or f16 (16-bit floats are
// computed in f32 and rounded once). Gradients of weight and bias are summed over the rows in a
// fixed order.

#ifndef RESIDUAL_OPS_NORM_NORM_H_
#define RESIDUAL_OPS_NORM_NORM_H_

#include "tensor/core/tensor.h"

namespace residual {

Tensor LayerNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps);
Tensor RmsNorm(const Tensor& x, const Tensor& weight, double eps);

// A residual connection and the norm of what follows it, in one pass over memory: sum = a + b, of
// one shape, and normalized = LayerNorm(sum, ..) or RmsNorm(sum, ..). Differentiable in both
// outputs.
struct AddNorm {
  Tensor sum, normalized;
};
AddNorm AddLayerNorm(const Tensor& a, const Tensor& b, const Tensor& weight, const Tensor& bias,
                     double eps);
AddNorm AddRmsNorm(const Tensor& a, const Tensor& b, const Tensor& weight, double eps);

// What a norm does before gain and bias, in two tensors that hooks can read: scale [..., 1] is the
// denominator, normalized = (x - mean) / scale or x / scale. Differentiable in both outputs.
struct NormParts {
  Tensor normalized, scale;
};
NormParts LayerNormParts(const Tensor& x, double eps);
NormParts RmsNormParts(const Tensor& x, double eps);

}  // namespace residual

#endif  // RESIDUAL_OPS_NORM_NORM_H_
