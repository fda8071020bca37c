// The selective scan of Mamba (Gu and Dao 2023, section 3.2, algorithm 2): a linear state space per
// channel whose step size, input and output depend on the input.
//
//   delta' = softplus(delta + delta_bias), or without softplus, or without a bias
//   h_t = exp(delta'_t A) h_{t-1} + delta'_t B_t u_t       A by zero-order hold, B by Euler
//   y_t = (C_t . h_t + D u_t) silu(z_t)                    . over the state; D and z may be missing
//
// A step is a scan of one position from a state; a scan cut anywhere, the last state of one part
// being the initial state of the next, has the bits of the whole.

#ifndef RESIDUAL_OPS_SCAN_SELECTIVE_SCAN_H_
#define RESIDUAL_OPS_SCAN_SELECTIVE_SCAN_H_

#include "tensor/core/tensor.h"

namespace residual {

// u, z and y are of one dtype: f32, bf16 or f64. States, A, delta, D and delta_bias are f32 (f64
// with f64): exp(delta A) of rounded numbers forgets at another rate. B and C are of either.
struct SelectiveScanInputs {
  Tensor u;      // [batch, pos, dim]
  Tensor delta;  // [batch, pos, dim]
  Tensor A;      // [dim, state]
  // [batch, pos, state]; [batch, pos, groups, state], dim / groups channels next to one another
  // share a group; or [dim, state], the same at every position (S4D's).
  Tensor B, C;
  Tensor D = {};              // [dim]
  Tensor z = {};              // [batch, pos, dim]
  Tensor delta_bias = {};     // [dim]
  Tensor initial_state = {};  // [batch, dim, state]; undefined: zeros
  // i64 [batch, pos]: several sequences packed into a row, each a run of one number. Where the
  // number changes the state is zero again.
  Tensor segments = {};
  bool softplus = false;  // of delta + delta_bias
};

struct SelectiveScanResult {
  Tensor y;           // [batch, pos, dim]
  Tensor last_state;  // [batch, dim, state], after the last position
};

// Differentiable in every float input, through both results. The backward pass recomputes the
// states from every 32nd: nothing of [pos, dim, state] elements is ever stored.
SelectiveScanResult SelectiveScan(const SelectiveScanInputs& inputs);

}  // namespace residual

#endif  // RESIDUAL_OPS_SCAN_SELECTIVE_SCAN_H_
