// The causal convolution of Mamba (Gu and Dao 2023, section 3.4): each channel along the sequence
// with a few taps of its own, and no position sees one after it.
//
//   y_t = act(bias + sum over j < width of weight_j x_{t - (width - 1) + j})
//
// so the last tap is that of the position itself. act is the identity or SiLU. Before the first
// position x is what the initial state holds, or zero. A step is a convolution of one position from
// a state; a sequence cut anywhere, the last state of one part being the initial state of the next,
// has the bits of the whole.

#ifndef RESIDUAL_OPS_CONV_CAUSAL_CONV_H_
#define RESIDUAL_OPS_CONV_CAUSAL_CONV_H_

#include "tensor/core/tensor.h"

namespace residual {

// x, y and states are of one dtype: f32, bf16 or f64. The weight and the bias are of that, or f32
// beside bf16. bf16 is computed in f32 and rounded once.
struct CausalConvInputs {
  Tensor x;                   // [batch, pos, channels]
  Tensor weight;              // [channels, width], width >= 1
  Tensor bias = {};           // [channels]
  Tensor initial_state = {};  // [batch, channels, width - 1]: x before, the oldest first
  // i64 [batch, pos]: several sequences packed into a row, each a run of one number. Where the
  // number changes, what went before is not seen (the initial state goes before the first).
  Tensor segments = {};
  bool silu = false;
};

struct CausalConvResult {
  Tensor y;           // [batch, pos, channels]
  Tensor last_state;  // [batch, channels, width - 1]: the last of x, of the last sequence
};

// Differentiable in every float input, through both results. Gradients of weight and bias are
// summed in a fixed order; what comes before SiLU is computed again for the backward pass.
CausalConvResult CausalConv(const CausalConvInputs& inputs);

}  // namespace residual

#endif  // RESIDUAL_OPS_CONV_CAUSAL_CONV_H_
