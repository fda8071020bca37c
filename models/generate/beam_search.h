// Beam search: the continuations of highest total log-probability, found by keeping the best few at
// every length. The rules, down to when the search ends, are those of Hugging Face's generate with
// num_beams, so that the same model gives the same tokens.

#ifndef RESIDUAL_MODELS_GENERATE_BEAM_SEARCH_H_
#define RESIDUAL_MODELS_GENERATE_BEAM_SEARCH_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "models/stream/residual_model.h"

namespace residual {

// When the search ends, once num_beams continuations have ended by a stop token.
enum class EarlyStopping {
  kNo,     // when the best open one, were it to end at this length, is no better than the worst
  kYes,    // at once
  kNever,  // when the best open one can become no better, whatever its length
};

struct BeamSearchOptions {
  int64_t num_beams = 4;
  int64_t max_new_tokens = 100;
  // A continuation of n tokens has the score (sum of its log-probabilities) / n^length_penalty: 0
  // favours short ones, more favours long ones.
  double length_penalty = 1;
  EarlyStopping early_stopping = EarlyStopping::kNo;
  double repetition_penalty = 1;           // as in SamplerOptions, on log-probabilities
  std::vector<int64_t> stop_tokens;        // any of them ends a continuation
  Precision precision = Precision::kFull;  // of the runs of the model, see ModelInput
};

struct Beam {
  std::vector<int64_t> tokens;   // the new ones only, the stop token included
  std::vector<double> logprobs;  // of each, under the model's own distribution
  double score = 0;
};

struct BeamSearchResult {
  std::vector<Beam> beams;  // at most num_beams, the best first
  double prefill_seconds = 0, decode_seconds = 0;
};

// All beams end by a stop token, at max_new_tokens, or when the context is full. Of equal scores
// the earlier beam's, then the smaller token's. InvalidArgument and DataLoss as Generate.
absl::StatusOr<BeamSearchResult> BeamSearch(const ResidualModel& model,
                                            const std::vector<int64_t>& prompt,
                                            const BeamSearchOptions& options);

}  // namespace residual

#endif  // RESIDUAL_MODELS_GENERATE_BEAM_SEARCH_H_
