// Selective copying: data tokens among noise, to be said in order afterwards (Gu and Dao 2023,
// section 4.1.1 and table 1).

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_COPYING_MAMBA_COPYING_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_COPYING_MAMBA_COPYING_H_

#include "absl/status/statusor.h"
#include "tools/experiments/claims/experiment.h"
#include "tools/experiments/copying/plan/copying_plan.h"

namespace residual {

// Trains Mamba and S4D, two layers each, and looks at what Mamba's steps do.
absl::StatusOr<Findings> RunCopying(const CopyingPlan& plan, const ExperimentOptions& options);

absl::StatusOr<Findings> MambaCopying(const ExperimentOptions& options);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_COPYING_MAMBA_COPYING_H_
