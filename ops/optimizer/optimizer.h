// The arithmetic of one optimizer step on one parameter, in one pass over memory, in PyTorch's
// order of operations; and what is computed over all gradients before it.
//
// param and state: f32 or f64, of one dtype and shape, unique() (a parameter that something still
// holds, such as a live tape, is a programming error: it would be changed under its feet). A bf16
// or f16 parameter has f32 state and is updated in f32 and rounded, which loses small updates:
// train f32 parameters. grad: param's shape, any float dtype, converted to param's. Scalars are
// computed in double and rounded to param's dtype once. Nothing is recorded on a tape.

#ifndef RESIDUAL_OPS_OPTIMIZER_OPTIMIZER_H_
#define RESIDUAL_OPS_OPTIMIZER_OPTIMIZER_H_

#include <cstdint>
#include <optional>

#include "absl/types/span.h"
#include "tensor/core/tensor.h"

namespace residual {

struct AdamOptions {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  // true: AdamW (Loshchilov and Hutter 2019, algorithm 2), the parameter shrinks by
  // lr * weight_decay; false: weight_decay * param is added to the gradient (L2).
  bool decoupled = true;
  // Number of this step, from 1: corrects the moments' bias.
  int64_t step = 1;
  // Multiplies the gradient first (clipping, accumulation).
  double grad_scale = 1;
};

// Kingma and Ba 2015, algorithm 1, in the form of torch.optim.Adam and AdamW:
//   g = grad_scale * grad;  param *= 1 - lr * weight_decay (decoupled) or g += weight_decay * param
//   exp_avg    += (1 - beta1) * (g - exp_avg)
//   exp_avg_sq  = beta2 * exp_avg_sq + (1 - beta2) * g * g
//   param      -= lr / (1 - beta1^step) * exp_avg / (sqrt(s) / sqrt(1 - beta2^step) + eps)
// where s is exp_avg_sq or, with max_exp_avg_sq (AMSGrad, Reddi et al. 2018), the largest
// exp_avg_sq so far, which is kept there. The state begins as zeros.
void AdamStep(Tensor& param, Tensor& exp_avg, Tensor& exp_avg_sq, const Tensor& grad,
              const AdamOptions& options, Tensor* max_exp_avg_sq = nullptr);

struct SgdOptions {
  double lr = 1e-3;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
  // Multiplies the gradient first (clipping, accumulation).
  double grad_scale = 1;
};

// torch.optim.SGD:
//   g = grad_scale * grad + weight_decay * param
//   momentum != 0:  buffer = momentum * buffer + (1 - dampening) * g;
//                   g = nesterov ? g + momentum * buffer : buffer
//   param -= lr * g
// momentum_buffer: undefined before the first step with momentum, which makes it and sets it to g
// (without dampening, as PyTorch); untouched without momentum.
void SgdStep(Tensor& param, Tensor& momentum_buffer, const Tensor& grad, const SgdOptions& options);

// sqrt(sum of squares of all elements), accumulated in double in a fixed order. Undefined tensors
// count for nothing. Floats of any dtype. NaN or infinite exactly if an element is (f64 elements
// below 1e150 in magnitude).
double GlobalNorm(absl::Span<const Tensor> tensors);

// The factor of torch.nn.utils.clip_grad_norm_: min(1, max_norm / (norm + 1e-6)).
double ClipScale(double norm, double max_norm);

// Index (row-major) of the first NaN or infinity, if there is one. Floats of any dtype.
std::optional<int64_t> FirstNonFinite(const Tensor& x);

}  // namespace residual

#endif  // RESIDUAL_OPS_OPTIMIZER_OPTIMIZER_H_
