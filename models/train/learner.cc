#include "models/train/learner.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "ops/optimizer/optimizer.h"

namespace residual {

std::optional<std::string> DescribeNonFinite(const std::string& name, const Tensor& x) {
  const std::optional<int64_t> index = FirstNonFinite(x);
  if (!index) return std::nullopt;
  Tensor flat = x.Reshaped({x.elements()});
  flat.set_tape_ref({});  // nothing to record
  const double value = flat.Row(*index).Item();
  return absl::StrCat("'", name, "' ", x.shape().ToString(), " at index ", *index, " (", value,
                      ")");
}

absl::StatusOr<double> Learner::Update(const std::vector<Tensor>& grads, const Rates& rates) {
  const std::vector<Parameter> parameters = Parameters(module_);
  // The norm is NaN or infinite exactly if an element is.
  const double norm = GlobalNorm(grads) / rates.batches;
  if (!std::isfinite(norm)) {
    for (size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i].defined()) continue;
      if (auto found = DescribeNonFinite(parameters[i].name, grads[i])) {
        return absl::FailedPreconditionError(
            absl::StrCat("step ", step_, ": the gradient of ", *found, " is not finite"));
      }
    }
  }
  const double scale = rates.clip_norm > 0 ? ClipScale(norm, rates.clip_norm) : 1.0;
  optimizer_.Step(rates.lr, grads, scale / rates.batches, rates.peak_lr);
  std::vector<Tensor> weights;
  for (const Parameter& parameter : parameters) weights.push_back(*parameter.value);
  if (!std::isfinite(GlobalNorm(weights))) {
    for (const Parameter& parameter : parameters) {
      if (auto found = DescribeNonFinite(parameter.name, *parameter.value)) {
        return absl::FailedPreconditionError(
            absl::StrCat("step ", step_, ": the update made weight ", *found, " non-finite"));
      }
    }
  }
  ++step_;
  return norm;
}

}  // namespace residual
