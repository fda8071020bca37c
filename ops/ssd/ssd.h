// The state-space dual form of Mamba-2 (Dao and Gu 2024, section 6, "SSD"): a selective scan whose
// A is one number for each head, so that most of the work is matrix products.
//
//   delta_t = clamp(softplus(dt_t + dt_bias), dt_min, dt_max)
//   h_t = exp(delta_t A) h_{t-1} + delta_t x_t B_t^T             [head_dim, state] of a head
//   y_t = h_t C_t + D x_t
//
// Softplus, the bias and D may be left out.
//
// Within a chunk of positions y = (C B^T . L) (delta x), L_ts = exp(the sum of delta A over
// s+1..t), and what came before the chunk enters as its state (ibid., listing 1). Sums of delta A
// are taken in double, and L is the exponential of their differences.
//
// A sequence cut anywhere, the last state of one part being the initial state of the next, has the
// results of the whole but for rounding. A NaN or an infinity in x, B or C may also reach up to
// kChunk earlier positions of its head (for B and C: of its group): 0 times it is NaN.

#ifndef RESIDUAL_OPS_SSD_SSD_H_
#define RESIDUAL_OPS_SSD_SSD_H_

#include <limits>

#include "tensor/core/tensor.h"

namespace residual {

// x and y are of one dtype: f32, bf16 or f64. B and C are of that or of f32, everything else is f32
// (f64 with f64).
struct SsdInputs {
  Tensor x;   // [batch, pos, head, head_dim]
  Tensor dt;  // [batch, pos, head]
  Tensor A;   // [head]; negative, to forget
  // [batch, pos, group, state]: head / group heads next to one another share a group.
  Tensor B, C;
  Tensor D = {};              // [head], or [head, head_dim]
  Tensor dt_bias = {};        // [head]
  Tensor initial_state = {};  // [batch, head, head_dim, state]; undefined: zeros
  // i64 [batch, pos]: several sequences packed into a row, each a run of one number. Where the
  // number changes the state is zero again.
  Tensor segments = {};
  bool softplus = false;  // of dt + dt_bias
  // Limits of delta ("time_step_limit" of Mamba-2); no gradient comes from beyond them.
  double dt_min = -std::numeric_limits<double>::infinity();
  double dt_max = std::numeric_limits<double>::infinity();
};

struct SsdResult {
  Tensor y;           // [batch, pos, head, head_dim]
  Tensor last_state;  // [batch, head, head_dim, state], after the last position
};

// Differentiable in every float input, through both results. The backward pass recomputes: beside
// its inputs a recorded call keeps nothing.
SsdResult Ssd(const SsdInputs& inputs);

}  // namespace residual

#endif  // RESIDUAL_OPS_SSD_SSD_H_
