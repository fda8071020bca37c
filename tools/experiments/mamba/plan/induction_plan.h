// How much of induction: lengths as powers of two, training, seeds.

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_MAMBA_PLAN_INDUCTION_PLAN_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_MAMBA_PLAN_INDUCTION_PLAN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace residual {

struct InductionPlan {
  int64_t train_log = 8;       // rows to train on, the paper's 256
  int64_t first_log = 6;       // rows to begin with, doubled once they are learned
  int64_t shortest_log = 6;    // the shortest measured
  int64_t claimed_log = 16;    // the longest of which recall is claimed
  int64_t longest_log = 20;    // the longest Mamba is measured on
  int64_t attention_log = 13;  // the longest of attention, whose work grows as its square
  int64_t batch_size = 8;      // the paper's
  double lr = 2e-3;            // of Mamba and S4; the paper's is 1e-3
  double attention_lr = 1e-3;
  double eps = 1e-8;   // Adam's
  bool cosine = true;  // the rate falls to 0 at the last step; else it stays
  // With hard labels the loss, and with it every gradient, is 0 in float32 once the rows are
  // learned, and the first that is not sends Adam astray.
  double label_smoothing = 0.1;
  // Of Mamba, see TaskTraining: without it the states of long rows are never seen in training. With
  // it states of up to 2^18 tokens are.
  int64_t pass_state = 1024;
  int64_t steps = 11000;
  int64_t eval_every = 250;     // steps
  double seconds_limit = 1800;  // of one training
  int64_t seeds = 3;
  int64_t measured_tokens = int64_t{1} << 22;  // at each length, so long rows are few: at least 16
};
// What a CPU does in half an hour for each model. The paper's training, of 204,800 steps, is
// tools/experiments/mamba/full.json.
InductionPlan FullInduction();
// Rows of 64, which Mamba learns in a minute.
InductionPlan QuickInduction();
// The plan with the members of a JSON object put over it, by their names above. InvalidArgument
// names the member, what was found and what is expected; `source` is the object's name.
absl::StatusOr<InductionPlan> ChangedPlan(InductionPlan plan, const nlohmann::json& changes,
                                          const std::string& source);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_MAMBA_PLAN_INDUCTION_PLAN_H_
