// The tokens that end a text, by a model's own account.

#ifndef RESIDUAL_MODELS_GENERATE_STOP_TOKENS_H_
#define RESIDUAL_MODELS_GENERATE_STOP_TOKENS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace residual {

// `eos_token_id`, an id or a list of them, of the folder's generation_config.json, or else of
// `config`, its config.json. None if neither has it. InvalidArgument names the file, what was found
// and what is expected.
absl::StatusOr<std::vector<int64_t>> StopTokens(const std::string& folder,
                                                const nlohmann::json& config);

}  // namespace residual

#endif  // RESIDUAL_MODELS_GENERATE_STOP_TOKENS_H_
