#include "models/generate/prompts.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace residual {

absl::Status ValidatePrompts(const ResidualModel& model,
                             const std::vector<std::vector<int64_t>>& prompts) {
  if (prompts.empty()) return absl::InvalidArgumentError("no prompt, expected at least one");
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::vector<int64_t>& prompt = prompts[i];
    const std::string which = prompts.size() == 1 ? "the prompt" : absl::StrCat("prompt ", i);
    if (prompt.empty()) {
      return absl::InvalidArgumentError(which + " is empty, expected at least one token");
    }
    if (model.n_ctx() > 0 && static_cast<int64_t>(prompt.size()) > model.n_ctx()) {
      return absl::InvalidArgumentError(absl::StrCat(which, " has ", prompt.size(),
                                                     " tokens, more than the model's context of ",
                                                     model.n_ctx()));
    }
    for (size_t j = 0; j < prompt.size(); ++j) {
      if (prompt[j] < 0 || prompt[j] >= model.d_vocab()) {
        return absl::InvalidArgumentError(
            absl::StrCat("token ", prompt[j], " at position ", j, " of ", which,
                         " is outside the vocabulary of ", model.d_vocab()));
      }
    }
  }
  return absl::OkStatus();
}

std::vector<int64_t> LeftPadding(const std::vector<std::vector<int64_t>>& prompts) {
  size_t longest = 0;
  for (const auto& prompt : prompts) longest = std::max(longest, prompt.size());
  std::vector<int64_t> padding;
  for (const auto& prompt : prompts) {
    padding.push_back(static_cast<int64_t>(longest - prompt.size()));
  }
  return padding;
}

ModelInput NextInput(const std::vector<std::vector<int64_t>>& tokens,
                     const std::vector<int64_t>& padding, int64_t past) {
  const int64_t batch = static_cast<int64_t>(tokens.size());
  const int64_t padded = past == 0 ? padding[0] : 0;
  const int64_t pos = static_cast<int64_t>(tokens[0].size()) + padded;
  ModelInput input;
  input.tokens = Tensor::Zeros({batch, pos}, kI64);
  int64_t* ids = input.tokens.mutable_data<int64_t>();
  for (int64_t row = 0; row < batch; ++row) {
    std::copy(tokens[row].begin(), tokens[row].end(),
              ids + (row + 1) * pos - static_cast<int64_t>(tokens[row].size()));
  }
  if (std::all_of(padding.begin(), padding.end(), [](int64_t p) { return p == 0; })) return input;

  input.attention_mask = Tensor::Uninitialized({batch, past + pos}, kBool);
  input.positions = Tensor::Uninitialized({batch, pos}, kI64);
  bool* mask = input.attention_mask.mutable_data<bool>();
  int64_t* positions = input.positions.mutable_data<int64_t>();
  for (int64_t row = 0; row < batch; ++row) {
    for (int64_t i = 0; i < past + pos; ++i) *mask++ = i >= padding[row];
    for (int64_t i = past; i < past + pos; ++i) {
      *positions++ = std::max<int64_t>(0, i - padding[row]);
    }
  }
  return input;
}

}  // namespace residual
