// A mathematical framework for transformer circuits (Elhage et al. 2021), claim by claim.

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_FRAMEWORK_FRAMEWORK_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_FRAMEWORK_FRAMEWORK_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "tools/experiments/claims/experiment.h"

namespace residual {

struct FrameworkPlan {
  int64_t d_model = 128, n_heads = 8, context = 96, vocab_size = 512;
  int64_t batch_size = 32, steps = 1500;
  double lr = 5e-3, weight_decay = 0, init_scale = 0.1;
  // Of the training windows of one and two layers: the part that are a passage repeated (see
  // TextOptions), without which induction heads take far more text.
  double repeat = 0.9;
  int64_t seeds = 1;
  int64_t rows = 16;           // of held-out text, for what is measured
  int64_t random_models = 16;  // of the one-layer shape, for what chance gives
  int64_t crossed_per_head = 4;
};
// Wider, more heads, more text, three seeds: an hour on a CPU.
FrameworkPlan FullFramework();
// Minutes.
FrameworkPlan QuickFramework();
// The plan with the members of a JSON object put over it, by their names. InvalidArgument names the
// member, what was found and what is expected; `source` is the object's name.
absl::StatusOr<FrameworkPlan> ChangedPlan(FrameworkPlan plan, const nlohmann::json& changes,
                                          const std::string& source);

// Trains on `text`, called `name`. InvalidArgument for a text too short for two windows.
absl::StatusOr<Findings> RunFramework(const FrameworkPlan& plan, const std::string& text,
                                      const std::string& name, const ExperimentOptions& options);

// options.data: a text file; else the project's own text.
absl::StatusOr<Findings> Framework(const ExperimentOptions& options);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_FRAMEWORK_FRAMEWORK_H_
