#include "models/generate/generate.h"

#include <chrono>

#include "absl/strings/str_cat.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Tensor OneRow(absl::Span<const int64_t> tokens) {
  return Tensor::Of<int64_t>({1, static_cast<int64_t>(tokens.size())}, tokens);
}

}  // namespace

absl::StatusOr<Generated> Generate(const ResidualModel& model, const std::vector<int64_t>& prompt,
                                   const GenerateOptions& options) {
  RESIDUAL_RETURN_IF_ERROR(ValidateSampler(options.sampler));
  if (options.max_new_tokens < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_new_tokens is ", options.max_new_tokens, ", expected at least 0"));
  }
  if (prompt.empty()) {
    return absl::InvalidArgumentError("the prompt is empty, expected at least one token");
  }
  RESIDUAL_RETURN_IF_ERROR(model.Validate({OneRow(prompt)}));

  Generated result;
  ModelState state = model.NewState(1);
  std::vector<int64_t> history = prompt;
  const auto start = std::chrono::steady_clock::now();
  Tensor logits = model.Forward({OneRow(prompt)}, &state);
  result.prefill_seconds = SecondsSince(start);

  const auto decode_start = std::chrono::steady_clock::now();
  while (static_cast<int64_t>(result.tokens.size()) < options.max_new_tokens) {
    const Tensor last = ConvertTo(logits.Row(0).Row(logits.dim(1) - 1), kF32);
    const Sampled sampled = SampleToken(last.span<float>(), history, options.sampler, options.row,
                                        static_cast<int64_t>(result.tokens.size()));
    result.tokens.push_back(sampled.token);
    result.logprobs.push_back(sampled.logprob);
    history.push_back(sampled.token);
    if (options.on_token && !options.on_token(sampled.token)) break;
    if (options.stop_token && sampled.token == *options.stop_token) break;
    if (static_cast<int64_t>(result.tokens.size()) == options.max_new_tokens) break;
    if (model.n_ctx() > 0 && state.length() >= model.n_ctx()) break;
    logits = model.Forward({OneRow({sampled.token})}, &state);
  }
  result.decode_seconds = SecondsSince(decode_start);
  return result;
}

}  // namespace residual
