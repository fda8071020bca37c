// Choosing the next token from logits.

#ifndef RESIDUAL_MODELS_GENERATE_SAMPLER_H_
#define RESIDUAL_MODELS_GENERATE_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace residual {

// Applied in this order, as Hugging Face's generate does: repetition penalty, temperature, top-k,
// top-p, min-p, then a draw from what is left.
struct SamplerOptions {
  double temperature = 1;  // 0: greedy, the most probable token (the smallest id of equals)
  int64_t top_k = 0;       // keep the k most probable; 0: all
  double top_p = 1;        // keep the fewest whose probabilities reach p (Holtzman et al. 2020)
  double min_p = 0;        // keep those of at least min_p times the largest probability
  double repetition_penalty = 1;  // > 1 lowers tokens that occurred (Keskar et al. 2019)
  uint64_t seed = 0;
};

// InvalidArgument names the field, what was found and what is expected.
absl::Status ValidateSampler(const SamplerOptions& options);

// log sum exp of logits, off by 2e-7 at most; not finite if one is NaN or +inf, or all are -inf.
double LogSumExp(absl::Span<const float> logits);

// Applies the penalty once for every token that occurs in `history`: a positive score is divided by
// it, a negative one multiplied.
void PenalizeRepetition(absl::Span<const int64_t> history, double penalty,
                        absl::Span<double> scores);

struct Sampled {
  int64_t token = 0;
  double logprob = 0;  // natural log of its probability under the model's own distribution
};

// logits: [d_vocab], all finite or -inf. history: the tokens so far (for the repetition penalty).
// The draw is a pure function of (options.seed, row, index), so it does not depend on threads, on
// other rows or on what was drawn before.
Sampled SampleToken(absl::Span<const float> logits, absl::Span<const int64_t> history,
                    const SamplerOptions& options, int64_t row, int64_t index);

}  // namespace residual

#endif  // RESIDUAL_MODELS_GENERATE_SAMPLER_H_
