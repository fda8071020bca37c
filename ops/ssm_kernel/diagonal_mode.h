// One mode of a diagonal system, discretised, in double. For this folder and ops/ssm_recurrence
// only.

#ifndef RESIDUAL_OPS_SSM_KERNEL_DIAGONAL_MODE_H_
#define RESIDUAL_OPS_SSM_KERNEL_DIAGONAL_MODE_H_

#include <complex>
#include <cstdint>

#include "ops/ssm_kernel/channel_params.h"
#include "ops/ssm_kernel/ssm_kernel.h"

namespace residual {
namespace ssm_internal {

// A mode of a channel: K_l is the real part of w z^(l - shift), summed.
struct Mode {
  Complex z, w;
  double shift = 0;
};

struct ModeParams {
  Complex A, B, C;
  double dt;
  int64_t length;
};
Mode ModeOf(const ModeParams& p, Discretization discretization);

struct ModeGradients {
  Complex A, B, C;
  double dt = 0;
};
// From the gradients of w, of log z and (for z = 0, which has no logarithm) of z.
ModeGradients BackThroughMode(const ModeParams& p, Discretization discretization, Complex g_w,
                              Complex g_log_z, Complex g_z_at_zero);

}  // namespace ssm_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_SSM_KERNEL_DIAGONAL_MODE_H_
