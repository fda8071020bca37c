// How well a model predicts a text.
//
// Windows of `context` tokens are laid over the text, each `stride` tokens after the one before. A
// token is scored once, by the first window that has it, so but for the first window's tokens each
// is predicted from at least context - stride others. The very first token has nothing before it
// and is not scored. With stride context - 1 a window begins with the last token of the one before
// (fast); with stride 1 every token has a full context (slow).
//
//   loss = -(1 / tokens) sum_i ln p(x_i | x_begin(i) .. x_{i-1}),   perplexity = exp(loss)

#ifndef RESIDUAL_MODELS_EVALUATE_TEXT_LOSS_H_
#define RESIDUAL_MODELS_EVALUATE_TEXT_LOSS_H_

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/stream/residual_model.h"

namespace residual {

struct TextLossOptions {
  int64_t context = 0;                     // 0: the model's, 1024 where that is unbounded
  int64_t stride = 0;                      // 0: half of the context
  Precision precision = Precision::kFull;  // of the runs of the model, see ModelInput
  // Called as tokens are scored.
  std::function<void(int64_t scored, int64_t of)> on_progress;
};

struct TextLoss {
  int64_t tokens = 0;  // scored: one fewer than the text has
  double total = 0;    // nats
  double loss() const { return total / static_cast<double>(tokens); }
};

// InvalidArgument for fewer than two tokens, a token outside the vocabulary, and options out of
// range (context >= 2, at most the model's; 1 <= stride < context).
absl::StatusOr<TextLoss> EvaluateText(const ResidualModel& model, absl::Span<const int32_t> tokens,
                                      const TextLossOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_MODELS_EVALUATE_TEXT_LOSS_H_
