// One patched run the plain way: a whole forward of the corrupted input with hooks that replace.
// Slow and obvious: what PatchSession's runs are tested against, and how it patches points outside
// the blocks.

#ifndef RESIDUAL_INTERP_PATCH_PLAIN_PATCH_H_
#define RESIDUAL_INTERP_PATCH_PLAIN_PATCH_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "interp/metric/metric.h"
#include "interp/patch/activation_axes.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

struct PlainEdit {
  PatchCell cell;
  ActivationAxes axes;
  Tensor clean;  // the whole activation of the clean run
};

// x with the cell's elements taken from the clean activation, element by element.
Tensor EditPlainly(const PlainEdit& edit, const Tensor& x);

// The metric of every example; as ResidualModel::Run, an error for input that does not fit.
absl::StatusOr<std::vector<double>> PatchPlainly(const ResidualModel& model,
                                                 const ModelInput& corrupted,
                                                 absl::Span<const PlainEdit> edits,
                                                 const Metric& metric);

}  // namespace residual

#endif  // RESIDUAL_INTERP_PATCH_PLAIN_PATCH_H_
