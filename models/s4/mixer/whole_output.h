// C from what S4 learns in its place.

#ifndef RESIDUAL_MODELS_S4_MIXER_WHOLE_OUTPUT_H_
#define RESIDUAL_MODELS_S4_MIXER_WHOLE_OUTPUT_H_

#include <cstdint>

#include "ops/ssm_recurrence/ssm_recurrence.h"
#include "tensor/core/tensor.h"

namespace residual {

// C [H, N/2, 2] in f64 from C (I - A_bar^length), which `system.C` is: the inverse of
// TruncatedOutput. A linear system of N real unknowns for each channel, whose matrix is made by log
// length squarings: O(N^3 log length). It is singular where a state does not decay over `length`
// positions at all; C is not finite then.
Tensor WholeOutput(const DiscreteSsm& system, int64_t length);

}  // namespace residual

#endif  // RESIDUAL_MODELS_S4_MIXER_WHOLE_OUTPUT_H_
