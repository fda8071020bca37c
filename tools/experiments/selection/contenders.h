// The small models that the experiments on selection compare: two layers each.

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_SELECTION_CONTENDERS_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_SELECTION_CONTENDERS_H_

#include <cstdint>

#include "models/transformer/transformer.h"
#include "nlohmann/json.hpp"

namespace residual {

// A config.json of each. Mamba has 16 states a channel and reads rows of any length.
nlohmann::json SmallMamba(int64_t d_vocab, int64_t d_model);

// Four heads, no MLPs; rows of up to `context` tokens.
nlohmann::json SmallAttention(int64_t d_vocab, int64_t d_model, Positions positions,
                              int64_t context);

// S4D with 64 states a channel: like Mamba a recurrence, but the same one at every token.
nlohmann::json SmallS4(int64_t d_vocab, int64_t d_model, int64_t context);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_SELECTION_CONTENDERS_H_
