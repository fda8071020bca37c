// Every score of every unit that has a token-to-token map: attention heads by their patterns, the
// channels of state spaces by their hidden attention as weights (TokenMapSource::Weights).

#ifndef RESIDUAL_INTERP_HEADS_MAP_SCORES_H_
#define RESIDUAL_INTERP_HEADS_MAP_SCORES_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "interp/heads/detect.h"
#include "interp/heads/head_scores.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

struct MapScores {
  // previous_token, duplicate_token, induction (options.measure does not count: NAME is kMul,
  // NAME.abs kAbs); induction_stripe where the tokens are a first one and a passage twice;
  // pattern.entropy, .mean_distance, .first_token, .current_token; and where a memory fades (NaN
  // elsewhere; missing where none does) memory.length, tokens, and memory.step, the mean step.
  std::map<std::string, HeadTable> tables;  // [layer][unit]
  std::vector<char> unit;                   // of a layer: 'H' heads, 'C' channels, 0 none
};

// Patterns are made and dropped piece by piece: memory does not grow with the units. NotFound where
// no mixer has maps; else the model's errors.
absl::StatusOr<MapScores> ScoreMaps(const ResidualModel& model, const Tensor& tokens,
                                    const DetectOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_INTERP_HEADS_MAP_SCORES_H_
