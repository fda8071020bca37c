// h_t = a_t h_{t-1} + b_t, for each channel by itself.

#ifndef RESIDUAL_OPS_SCAN_LINEAR_RECURRENCE_H_
#define RESIDUAL_OPS_SCAN_LINEAR_RECURRENCE_H_

#include "tensor/core/tensor.h"

namespace residual {

// a, b: [batch, pos, dim], f32 or f64; initial_state: [batch, dim], h before the first position;
// undefined: zeros. Returns h [batch, pos, dim], the last of which is the state to go on from: a
// recurrence cut anywhere has the bits of the whole. Differentiable in all three.
Tensor LinearRecurrence(const Tensor& a, const Tensor& b, const Tensor& initial_state = Tensor());

}  // namespace residual

#endif  // RESIDUAL_OPS_SCAN_LINEAR_RECURRENCE_H_
