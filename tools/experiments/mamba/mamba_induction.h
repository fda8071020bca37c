// Induction heads beyond the length of training (Gu and Dao 2023, section 4.1.2 and table 2).

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_MAMBA_MAMBA_INDUCTION_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_MAMBA_MAMBA_INDUCTION_H_

#include "absl/status/statusor.h"
#include "tools/experiments/claims/experiment.h"

namespace residual {

// Trains Mamba and attention (learned and rotary positions), two layers each, to recall what
// followed a special token in rows of 256, and measures them on rows of 2^6 tokens and more: Mamba
// up to 2^20 (quick: 2^14), in memory that does not grow with the row.
absl::StatusOr<Findings> MambaInduction(const ExperimentOptions& options);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_MAMBA_MAMBA_INDUCTION_H_
