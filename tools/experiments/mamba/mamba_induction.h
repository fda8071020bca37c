// Induction heads beyond the length of training (Gu and Dao 2023, section 4.1.2 and table 2).

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_MAMBA_MAMBA_INDUCTION_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_MAMBA_MAMBA_INDUCTION_H_

#include "absl/status/statusor.h"
#include "tools/experiments/claims/experiment.h"
#include "tools/experiments/mamba/plan/induction_plan.h"

namespace residual {

// Trains Mamba, attention (learned and rotary positions) and S4D, two layers each, to recall what
// followed a special token, and measures them on rows of the training's length and more: Mamba in
// memory that does not grow with the row.
absl::StatusOr<Findings> RunInduction(const InductionPlan& plan, const ExperimentOptions& options);

absl::StatusOr<Findings> MambaInduction(const ExperimentOptions& options);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_MAMBA_MAMBA_INDUCTION_H_
