// Long convolution along positions, by fast Fourier transforms: what a linear state space is once
// its kernel is known (Gu et al. 2022, "Efficiently Modeling Long Sequences with Structured State
// Spaces", section 2.4).
//
//   y[b, t, c] = sum_(s <= t) kernel[c, s] u[b, t - s, c]
//              + sum_(s < length - t) reverse_kernel[c, s] u[b, t + s, c]     if there is one
//              + D[c] u[b, t, c] + added[b, t, c]                             if they are there
//
// With both kernels an S4 layer sees both directions; both have a tap on the position itself, and
// each alone is the other one on the reversed sequence, exactly.
//
// Cost: two transforms of `length` complex elements for each row and channel, three more in the
// backward pass. Channels stay side by side as the stream has them: nothing is transposed.

#ifndef RESIDUAL_OPS_FFT_FFT_CONV_H_
#define RESIDUAL_OPS_FFT_FFT_CONV_H_

#include "tensor/core/tensor.h"

namespace residual {

// u, added and y are of one dtype: f32, bf16 or f64. Kernels and D are f32 (f64 with f64).
struct FftConvInputs {
  Tensor u;  // [batch, pos, channel]; any length
  // [channel, taps], any number of taps: those past the sequence have no effect, those missing are
  // zeros.
  Tensor kernel;
  Tensor reverse_kernel = {};  // the same
  Tensor D = {};               // [channel]
  // [batch, pos, channel]: what a state before the first position contributes.
  Tensor added = {};
};

// Differentiable in every input; nothing but the inputs is kept for it. In f32 errors are 3e-7 of
// the largest |y|, at 1024 positions as at 16384, where a plain sum's grow with the length. They
// are relative to that largest value, not to each. A NaN or an infinity stays in its row and
// channel (in a kernel's or D's gradient, in its channel) but spreads over all positions, earlier
// ones too.
Tensor FftConv(const FftConvInputs& inputs);

}  // namespace residual

#endif  // RESIDUAL_OPS_FFT_FFT_CONV_H_
