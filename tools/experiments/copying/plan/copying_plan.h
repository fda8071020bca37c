// How much of selective copying: rows, training, seeds, the bounds of its claims.

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_COPYING_PLAN_COPYING_PLAN_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_COPYING_PLAN_COPYING_PLAN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace residual {

struct CopyingPlan {
  int64_t context = 512;  // positions, markers among them
  int64_t n_items = 16;   // data tokens of a row
  // Rows to begin with, doubled once they are copied, or after so many steps; from `context` on
  // there are none such. Of as few tokens more are data, and which to say when is learned sooner.
  int64_t first_context = 64, lesson_steps = 1500;
  int64_t d_model = 64;
  int64_t batch_size = 16;  // more of the rows to begin with: as many tokens
  double lr = 2e-3;
  int64_t warmup_steps = 100;
  bool cosine = true;  // the rate falls to 0 at the last step; else it stays
  int64_t steps = 8000;
  int64_t eval_every = 250;     // steps
  double seconds_limit = 1800;  // of one training; 0: none
  int64_t seeds = 3;
  int64_t measured_rows = 512;
  // The bounds of the claims.
  double mamba_least = 0.98, s4_most = 0.6, gap_least = 0.35;
};
// For a CPU: minutes for each training.
CopyingPlan CpuCopying();
// Less to copy, one seed.
CopyingPlan QuickCopying();
// The plan with the members of a JSON object put over it, by their names above. InvalidArgument
// names the member, what was found and what is expected; `source` is the object's name.
absl::StatusOr<CopyingPlan> ChangedPlan(CopyingPlan plan, const nlohmann::json& changes,
                                        const std::string& source);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_COPYING_PLAN_COPYING_PLAN_H_
