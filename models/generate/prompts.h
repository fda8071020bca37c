// Prompts of different lengths as one input.

#ifndef RESIDUAL_MODELS_GENERATE_PROMPTS_H_
#define RESIDUAL_MODELS_GENERATE_PROMPTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "models/stream/residual_model.h"

namespace residual {

// InvalidArgument for no prompt, an empty one, one longer than the context, and tokens outside the
// vocabulary.
absl::Status ValidatePrompts(const ResidualModel& model,
                             const std::vector<std::vector<int64_t>>& prompts);

// How much padding each needs on its left to be as long as the longest.
std::vector<int64_t> LeftPadding(const std::vector<std::vector<int64_t>>& prompts);

// The next tokens of rows, after `past` tokens of which padding[row] were padding. At the start
// (past 0) the rows are whole prompts and are padded here; later all have the same length. A mask
// hides the padding, and positions count from a row's first token; without padding there are
// neither.
ModelInput NextInput(const std::vector<std::vector<int64_t>>& tokens,
                     const std::vector<int64_t>& padding, int64_t past);

}  // namespace residual

#endif  // RESIDUAL_MODELS_GENERATE_PROMPTS_H_
