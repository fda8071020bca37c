// Linear state-space systems as recurrences (see ssm_kernel.h for the letters): one step for one
// more position, or the state after many.
//
//   x_t = A_bar x_{t-1} + B_bar u_t,   y_t = Re(C x_t), twice that for pairs of conjugates

#ifndef RESIDUAL_OPS_SSM_RECURRENCE_SSM_RECURRENCE_H_
#define RESIDUAL_OPS_SSM_RECURRENCE_SSM_RECURRENCE_H_

#include <cstdint>

#include "ops/ssm_kernel/ssm_kernel.h"
#include "tensor/core/tensor.h"

namespace residual {

// f64 whatever the parameters are: an error of A_bar is taken to the power of the position.
struct DiscreteSsm {
  Tensor A_bar;        // [H, N, 2], diagonal
  Tensor left, right;  // [H, r, N, 2]: less sum_i left_i right_i^T; undefined for diagonal systems
  Tensor B_bar, C;     // [H, N, 2]
  bool conjugate_pairs = true;
};

// From the operands of DiagonalSsmKernel and DplrSsmKernel (C itself, not C (I - A_bar^L)), with
// the same result. kDssSoftmax is a recurrence for one `length`, its softmax's, and where no mode
// grows (Re A <= 0, CHECKed); the others do not ask for it.
DiscreteSsm DiscretizeDiagonal(const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& dt,
                               const DiagonalKernelOptions& options = {}, int64_t length = 0);
DiscreteSsm DiscretizeDplr(const Tensor& Lambda, const Tensor& P, const Tensor& Q, const Tensor& B,
                           const Tensor& C, const Tensor& dt, bool conjugate_pairs = true);

// The same numbers as the recurrence reads them: of every channel real parts apart from imaginary
// ones, modes padded with zeros to whole vectors. Pack once, step often.
struct PackedSsm {
  Tensor numbers;  // f64 [H, 3 + 2 r, 2, padded]: A_bar, B_bar, C, left, right
  int64_t modes = 0, rank = 0;
  bool conjugate_pairs = true;
};
PackedSsm Pack(const DiscreteSsm& ssm);

struct SsmOutput {
  Tensor y;      // [batch, pos, H]
  Tensor state;  // [batch, H, N, 2], after the last position
};

// u: [batch, pos, H], f32 or f64; state: before the first position, of u's dtype; undefined: zeros.
// O(N (1 + r)) for each position and channel, in double; memory beside the results: a channel's. A
// sequence cut anywhere gives the same up to the rounding of the state at the cut. Not
// differentiable: sequences are trained by convolution.
SsmOutput SsmRecurrence(const PackedSsm& ssm, const Tensor& u, const Tensor& state = Tensor());
SsmOutput SsmRecurrence(const DiscreteSsm& ssm, const Tensor& u, const Tensor& state = Tensor());

}  // namespace residual

#endif  // RESIDUAL_OPS_SSM_RECURRENCE_SSM_RECURRENCE_H_
