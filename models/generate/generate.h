// Continuing a prompt, token by token.

#ifndef RESIDUAL_MODELS_GENERATE_GENERATE_H_
#define RESIDUAL_MODELS_GENERATE_GENERATE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "models/generate/sampler.h"
#include "models/stream/residual_model.h"

namespace residual {

struct GenerateOptions {
  int64_t max_new_tokens = 100;
  SamplerOptions sampler;
  std::optional<int64_t> stop_token;  // generation ends after it
  // Called after every token; returns false to stop.
  std::function<bool(int64_t token)> on_token;
  int64_t row = 0;  // which of several prompts this is: rows draw different numbers
};

struct Generated {
  std::vector<int64_t> tokens;  // the new ones only
  std::vector<double> logprobs;
  double prefill_seconds = 0, decode_seconds = 0;
};

// Reads the prompt once, then one token at a time with the state. Ends at max_new_tokens, the stop
// token, or when the model's context is full. InvalidArgument for an empty prompt, a token outside
// the vocabulary, a prompt longer than the context, or options out of range.
absl::StatusOr<Generated> Generate(const ResidualModel& model, const std::vector<int64_t>& prompt,
                                   const GenerateOptions& options);

}  // namespace residual

#endif  // RESIDUAL_MODELS_GENERATE_GENERATE_H_
