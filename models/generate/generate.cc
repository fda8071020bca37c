#include "models/generate/generate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/generate/prompts.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The texts that are still being continued, as the rows of a state.
class Batch {
 public:
  // So many tokens are to be made of each.
  Batch(const ResidualModel& model, GenerationState& state, int64_t new_tokens, Precision precision)
      : model_(model), state_(state), new_tokens_(new_tokens), precision_(precision) {
    if (CanGoOn()) {
      Reserve();
      return;
    }
    state_.model = ModelState();
    state_.rows.resize(state_.texts.size());
    std::iota(state_.rows.begin(), state_.rows.end(), int64_t{0});
  }

  size_t size() const { return state_.rows.size(); }
  int64_t prompt(size_t row) const { return state_.rows[row]; }
  const std::vector<int64_t>& text(size_t row) const { return state_.texts[prompt(row)]; }
  void Append(size_t row, int64_t token) { state_.texts[prompt(row)].push_back(token); }

  // The logits after each row's last token, [rows, d_vocab].
  Tensor Logits() { return Read(0); }

  // Reads all but each row's last token.
  void ReadAhead() {
    if ((state_.model.length() == 0 ? Longest() : Unread(0)) > 1) Read(1);
  }

  // Goes on with the rows that `keep` says; with none, the last ones stay in the state.
  void Keep(const std::vector<bool>& keep) {
    std::vector<int64_t> kept, rows, padding;
    for (size_t row = 0; row < size(); ++row) {
      if (!keep[row]) continue;
      kept.push_back(static_cast<int64_t>(row));
      rows.push_back(state_.rows[row]);
      padding.push_back(state_.padding[row]);
    }
    if (kept.empty() || kept.size() == size()) return;
    state_.rows = std::move(rows);
    state_.padding = std::move(padding);
    state_.model = state_.model.Select(kept);
  }

 private:
  // Whether the state has every text, each with as many tokens to read.
  bool CanGoOn() const {
    if (state_.model.length() == 0 || size() != state_.texts.size()) return false;
    for (size_t row = 0; row < size(); ++row) {
      if (Unread(row) != Unread(0)) return false;
    }
    return true;
  }

  int64_t Unread(size_t row) const {
    return static_cast<int64_t>(text(row).size()) + state_.padding[row] - state_.model.length();
  }

  int64_t Longest() const {
    int64_t longest = 0;
    for (size_t row = 0; row < size(); ++row) {
      longest = std::max(longest, static_cast<int64_t>(text(row).size()));
    }
    return longest;
  }

  // Room for what is to be made, as far as that is not out of proportion.
  void Reserve() {
    const int64_t longest = std::max(Longest(), state_.model.length());
    int64_t length = longest + std::min(new_tokens_, 3 * longest + 1024);
    if (model_.n_ctx() > 0) length = std::min(length, model_.n_ctx());
    state_.model.Reserve(length);
  }

  // Reads all but the last `but` tokens of each row.
  Tensor Read(int64_t but) {
    int64_t past = state_.model.length();
    // A short text beside a long one can have room where the padded state has none: then what is
    // left is read anew, with less padding or none.
    const bool full = past > 0 && model_.n_ctx() > 0 && past + Unread(0) - but > model_.n_ctx();
    if (past == 0 || full) {
      past = 0;
      std::vector<std::vector<int64_t>> texts;
      for (size_t row = 0; row < size(); ++row) texts.push_back(text(row));
      state_.padding = LeftPadding(texts);
      state_.model = model_.NewState(static_cast<int64_t>(size()));
      Reserve();
    }
    std::vector<std::vector<int64_t>> unread;
    for (size_t row = 0; row < size(); ++row) {
      const int64_t begin = past == 0 ? 0 : past - state_.padding[row];
      unread.emplace_back(text(row).begin() + begin, text(row).end() - but);
    }
    ModelInput input = NextInput(unread, state_.padding, past);
    input.precision = precision_;
    return model_.NextLogits(std::move(input), &state_.model);
  }

  const ResidualModel& model_;
  GenerationState& state_;
  int64_t new_tokens_;
  Precision precision_;
};

}  // namespace

absl::StatusOr<Generated> Generate(const ResidualModel& model,
                                   const std::vector<std::vector<int64_t>>& prompts,
                                   const GenerateOptions& options) {
  GenerationState state;
  state.texts = prompts;
  return ContinueGeneration(model, options, state);
}

absl::StatusOr<Generated> ContinueGeneration(const ResidualModel& model,
                                             const GenerateOptions& options,
                                             GenerationState& state) {
  RESIDUAL_RETURN_IF_ERROR(ValidateSampler(options.sampler));
  if (options.max_new_tokens < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_new_tokens is ", options.max_new_tokens, ", expected at least 0"));
  }
  RESIDUAL_RETURN_IF_ERROR(ValidatePrompts(model, state.texts));
  Generated result;
  result.continuations.resize(state.texts.size());

  Batch batch(model, state, options.max_new_tokens, options.precision);
  auto start = std::chrono::steady_clock::now();
  if (options.max_new_tokens == 0) {
    batch.ReadAhead();
    result.prefill_seconds = SecondsSince(start);
    return result;
  }
  bool any = true;
  for (int64_t step = 0; any; ++step, ++state.draws) {
    const Tensor logits = ConvertTo(batch.Logits(), kF32);
    if (step == 0) {
      result.prefill_seconds = SecondsSince(start);
      start = std::chrono::steady_clock::now();
    }
    std::vector<bool> goes_on(batch.size());
    for (size_t row = 0; row < batch.size(); ++row) {
      const int64_t prompt = batch.prompt(row);
      Continuation& continuation = result.continuations[prompt];
      const Sampled sampled = SampleToken(logits.Row(row).span<float>(), batch.text(row),
                                          options.sampler, options.first_row + prompt, state.draws);
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
                 static_cast<int64_t>(batch.text(row).size()) > model.n_ctx()) {
        ends(EndOfGeneration::kContextFull);
      } else {
        goes_on[row] = true;
      }
    }
    any = std::find(goes_on.begin(), goes_on.end(), true) != goes_on.end();
    batch.Keep(goes_on);
  }
  result.decode_seconds = SecondsSince(start);
  return result;
}

}  // namespace residual
