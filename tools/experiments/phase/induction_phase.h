// The phase change in which induction heads form (Olsson et al. 2022, "In-context learning and
// induction heads"), with one and two layers, with plain keys and with smeared ones.

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_PHASE_INDUCTION_PHASE_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_PHASE_INDUCTION_PHASE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "tools/experiments/claims/experiment.h"

namespace residual {

struct PhasePlan {
  int64_t d_model = 64, n_heads = 4, context = 96, vocab_size = 512;
  int64_t batch_size = 32, steps = 1500;
  int64_t checkpoints = 30;  // measured, evenly spaced
  double lr = 5e-3, weight_decay = 0.1;
  double repeat = 0.9;  // see TextOptions: brings the phase change from billions of tokens to these
  int64_t seeds = 1;
};
// More heads and text, three seeds.
PhasePlan FullPhase();
PhasePlan QuickPhase();
// The plan with the members of a JSON object put over it, by their names. InvalidArgument names the
// member, what was found and what is expected; `source` is the object's name.
absl::StatusOr<PhasePlan> ChangedPlan(PhasePlan plan, const nlohmann::json& changes,
                                      const std::string& source);

// Trains on `text`, called `name`. InvalidArgument for a text too short for two windows.
absl::StatusOr<Findings> RunPhase(const PhasePlan& plan, const std::string& text,
                                  const std::string& name, const ExperimentOptions& options);

// options.data: a text file; else the project's own text.
absl::StatusOr<Findings> InductionPhase(const ExperimentOptions& options);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_PHASE_INDUCTION_PHASE_H_
