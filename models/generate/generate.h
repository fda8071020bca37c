// Continuing prompts, token by token.

#ifndef RESIDUAL_MODELS_GENERATE_GENERATE_H_
#define RESIDUAL_MODELS_GENERATE_GENERATE_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "models/generate/generation_state.h"
#include "models/generate/sampler.h"
#include "models/nn/precision.h"
#include "models/stream/residual_model.h"

namespace residual {

struct GenerateOptions {
  int64_t max_new_tokens = 100;
  SamplerOptions sampler;
  std::vector<int64_t> stop_tokens;  // a prompt's continuation ends with any of them
  // Called after every token, with the number of its prompt; returns false to end that prompt's
  // continuation with it.
  std::function<bool(int64_t prompt, const Sampled& sampled)> on_token;
  int64_t first_row = 0;  // prompt i draws the random numbers of row first_row + i
  // Of the runs of the model, see ModelInput; the state then keeps keys and values in it.
  Precision precision = Precision::kFull;
};

enum class EndOfGeneration {
  kMaxNewTokens,
  kStopToken,
  kContextFull,  // the model cannot read the last token: the context is full without it
  kCallback,
};

struct Continuation {
  std::vector<int64_t> tokens;   // the new ones only
  std::vector<double> logprobs;  // of each, under the model's own distribution
  EndOfGeneration end = EndOfGeneration::kMaxNewTokens;
};

struct Generated {
  std::vector<Continuation> continuations;  // one for each prompt
  double prefill_seconds = 0;               // until the first logits
  double decode_seconds = 0;
};

// Reads the prompts once, all together, then a token of each at a time. Shorter prompts are padded
// on the left behind a mask; a prompt's continuation is what it would be alone (as
// far as rounding goes), and depends on options.first_row + its number, never on the other prompts
// or the number of threads. InvalidArgument for no prompt, an empty prompt, a token outside the
// vocabulary, a prompt longer than the context, or options out of range; DataLoss if the model's
// logits hold a NaN or nothing but -inf.
absl::StatusOr<Generated> Generate(const ResidualModel& model,
                                   const std::vector<std::vector<int64_t>>& prompts,
                                   const GenerateOptions& options);

// The same from where `state` stands, which holds texts: each is continued, for the row and at the
// draw that come next, with the bits of a generation that was never interrupted; to go on with more
// words, append their tokens to the texts. What the state's rows have read is not read again,
// unless different numbers of tokens were appended. The state is brought up to date: with
// max_new_tokens 0 all but the last token of each text is read, and prompts can be saved for later.
absl::StatusOr<Generated> ContinueGeneration(const ResidualModel& model,
                                             const GenerateOptions& options,
                                             GenerationState& state);

}  // namespace residual

#endif  // RESIDUAL_MODELS_GENERATE_GENERATE_H_
