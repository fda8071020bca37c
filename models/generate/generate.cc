#include "models/generate/generate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/generate/prompts.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The prompts that are still being continued, as the rows of a state.
class Batch {
 public:
  Batch(const ResidualModel& model, const std::vector<std::vector<int64_t>>& prompts)
      : model_(model), state_(model.NewState(0)) {
    for (size_t i = 0; i < prompts.size(); ++i) rows_.push_back({static_cast<int64_t>(i), 0});
    histories_ = prompts;
  }

  bool empty() const { return rows_.empty(); }
  size_t size() const { return rows_.size(); }
  int64_t prompt(size_t row) const { return rows_[row].prompt; }
  const std::vector<int64_t>& history(size_t row) const { return histories_[rows_[row].prompt]; }
  void Append(size_t row, int64_t token) { histories_[rows_[row].prompt].push_back(token); }

  // The logits after each row's last token, [rows, d_vocab].
  Tensor Logits() {
    // A short prompt beside a long one can have room where the padded state has none: then what is
    // left is read anew, with less padding or none.
    const bool full = model_.n_ctx() > 0 && state_.length() >= model_.n_ctx();
    if (state_.length() == 0 || full) return Read();
    std::vector<int64_t> padding;
    std::vector<std::vector<int64_t>> last;
    for (size_t row = 0; row < size(); ++row) {
      padding.push_back(rows_[row].padding);
      last.push_back({history(row).back()});
    }
    return model_.NextLogits(NextInput(last, padding, state_.length()), &state_);
  }

  // Goes on with the rows that `keep` says.
  void Keep(const std::vector<bool>& keep) {
    std::vector<int64_t> kept;
    std::vector<Row> rows;
    for (size_t row = 0; row < size(); ++row) {
      if (!keep[row]) continue;
      kept.push_back(static_cast<int64_t>(row));
      rows.push_back(rows_[row]);
    }
    if (kept.size() == size()) return;
    rows_ = std::move(rows);
    state_ = state_.Select(kept);
  }

 private:
  struct Row {
    int64_t prompt, padding;
  };

  Tensor Read() {
    std::vector<std::vector<int64_t>> histories;
    for (size_t row = 0; row < size(); ++row) histories.push_back(history(row));
    const std::vector<int64_t> padding = LeftPadding(histories);
    for (size_t row = 0; row < size(); ++row) rows_[row].padding = padding[row];
    state_ = model_.NewState(static_cast<int64_t>(size()));
    return model_.NextLogits(NextInput(histories, padding, 0), &state_);
  }

  const ResidualModel& model_;
  std::vector<std::vector<int64_t>> histories_;  // by prompt: its tokens so far
  std::vector<Row> rows_;
  ModelState state_;
};

}  // namespace

absl::StatusOr<Generated> Generate(const ResidualModel& model,
                                   const std::vector<std::vector<int64_t>>& prompts,
                                   const GenerateOptions& options) {
  RESIDUAL_RETURN_IF_ERROR(ValidateSampler(options.sampler));
  if (options.max_new_tokens < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_new_tokens is ", options.max_new_tokens, ", expected at least 0"));
  }
  RESIDUAL_RETURN_IF_ERROR(ValidatePrompts(model, prompts));
  Generated result;
  result.continuations.resize(prompts.size());
  if (options.max_new_tokens == 0) return result;

  Batch batch(model, prompts);
  auto start = std::chrono::steady_clock::now();
  for (int64_t step = 0; !batch.empty(); ++step) {
    const Tensor logits = ConvertTo(batch.Logits(), kF32);
    if (step == 0) {
      result.prefill_seconds = SecondsSince(start);
      start = std::chrono::steady_clock::now();
    }
    std::vector<bool> goes_on(batch.size());
    for (size_t row = 0; row < batch.size(); ++row) {
      const int64_t prompt = batch.prompt(row);
      Continuation& continuation = result.continuations[prompt];
      const Sampled sampled = SampleToken(logits.Row(row).span<float>(), batch.history(row),
                                          options.sampler, options.first_row + prompt, step);
      if (!std::isfinite(sampled.logprob)) {
        return absl::DataLossError(absl::StrCat("the logits for new token ", step, " of prompt ",
                                                prompt, " hold a NaN or only -inf"));
      }
      continuation.tokens.push_back(sampled.token);
      continuation.logprobs.push_back(sampled.logprob);
      batch.Append(row, sampled.token);
      auto is = [&](int64_t token) { return token == sampled.token; };
      auto ends = [&](EndOfGeneration end) { continuation.end = end; };
      if (options.on_token && !options.on_token(prompt, sampled)) {
        ends(EndOfGeneration::kCallback);
      } else if (std::any_of(options.stop_tokens.begin(), options.stop_tokens.end(), is)) {
        ends(EndOfGeneration::kStopToken);
      } else if (step + 1 == options.max_new_tokens) {
        ends(EndOfGeneration::kMaxNewTokens);
      } else if (model.n_ctx() > 0 &&
                 static_cast<int64_t>(batch.history(row).size()) > model.n_ctx()) {
        ends(EndOfGeneration::kContextFull);
      } else {
        goes_on[row] = true;
      }
    }
    batch.Keep(goes_on);
  }
  result.decode_seconds = SecondsSince(start);
  return result;
}

}  // namespace residual
