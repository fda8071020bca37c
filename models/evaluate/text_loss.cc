#include "models/evaluate/text_loss.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ops/layout/layout.h"
#include "ops/loss/cross_entropy.h"

namespace residual {
namespace {

// Tokens that go through the model at once, in windows side by side.
constexpr int64_t kTokensAtOnce = 4096;
// Logits made at once.
constexpr int64_t kLogitsAtOnce = int64_t{1} << 25;

struct Window {
  int64_t begin, scored_from, end;  // tokens [begin, end) of the text; those from scored_from count
};

std::vector<Window> Windows(int64_t tokens, int64_t context, int64_t stride) {
  std::vector<Window> windows;
  int64_t scored = 1;
  for (int64_t begin = 0; scored < tokens; begin += stride) {
    const int64_t end = std::min(begin + context, tokens);
    windows.push_back({begin, scored, end});
    scored = end;
  }
  return windows;
}

// The loss of windows of the same shape, side by side.
double WindowsLoss(const ResidualModel& model, absl::Span<const int32_t> tokens,
                   absl::Span<const Window> windows, Precision precision) {
  const int64_t batch = static_cast<int64_t>(windows.size());
  const int64_t pos = windows[0].end - windows[0].begin - 1;  // the last token is only predicted
  const int64_t scored = windows[0].end - windows[0].scored_from;
  ModelInput input;
  input.tokens = Tensor::Uninitialized({batch, pos}, kI64);
  input.precision = precision;
  Tensor targets = Tensor::Uninitialized({batch, scored}, kI64);
  for (int64_t row = 0; row < batch; ++row) {
    const Window& w = windows[row];
    std::copy_n(tokens.begin() + w.begin, pos, input.tokens.mutable_data<int64_t>() + row * pos);
    std::copy_n(tokens.begin() + w.scored_from, scored,
                targets.mutable_data<int64_t>() + row * scored);
  }
  const Scope none;
  const MixerContext context = model.MakeContext(input);
  const Tensor resid = model.Stream(model.EmbedTokens(input, context, none), {0, model.n_layers()},
                                    context, nullptr, none);
  double total = 0;
  const int64_t step = std::max<int64_t>(1, kLogitsAtOnce / (batch * model.d_vocab()));
  for (int64_t begin = 0; begin < scored; begin += step) {
    const int64_t end = std::min(begin + step, scored);
    const Tensor logits = model.UnembedStream(
        Slice(resid, 1, pos - scored + begin, pos - scored + end), none, precision);
    for (const double logprob : TokenLogProbs(logits, Slice(targets, 1, begin, end)).ToDoubles()) {
      total -= logprob;
    }
  }
  return total;
}

absl::Status OutOfRange(const char* field, int64_t found, int64_t low, int64_t high) {
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", found, ", expected an integer in [", low, ", ", high, "]"));
}

}  // namespace

absl::StatusOr<TextLoss> EvaluateText(const ResidualModel& model, absl::Span<const int32_t> tokens,
                                      const TextLossOptions& options) {
  const int64_t n = static_cast<int64_t>(tokens.size());
  if (n < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text has ", n, n == 1 ? " token" : " tokens", ", expected at least 2"));
  }
  for (int64_t i = 0; i < n; ++i) {
    if (tokens[i] < 0 || tokens[i] >= model.d_vocab()) {
      return absl::InvalidArgumentError(absl::StrCat("token ", tokens[i], " at position ", i,
                                                     " is outside the vocabulary of ",
                                                     model.d_vocab()));
    }
  }
  const int64_t longest = model.n_ctx() > 0 ? model.n_ctx() : int64_t{1} << 30;
  const int64_t context = options.context != 0 ? options.context
                          : model.n_ctx() > 0  ? model.n_ctx()
                                               : 1024;
  if (context < 2 || context > longest) return OutOfRange("context", context, 2, longest);
  const int64_t stride = options.stride != 0 ? options.stride : context / 2;
  if (stride < 1 || stride >= context) return OutOfRange("stride", stride, 1, context - 1);

  TextLoss result;
  const std::vector<Window> windows = Windows(n, context, stride);
  auto alike = [](const Window& a, const Window& b) {
    return a.end - a.begin == b.end - b.begin && a.end - a.scored_from == b.end - b.scored_from;
  };
  const size_t at_once = std::max<int64_t>(1, kTokensAtOnce / context);
  for (size_t i = 0; i < windows.size();) {
    size_t j = i + 1;
    while (j < windows.size() && j - i < at_once && alike(windows[i], windows[j])) ++j;
    result.total +=
        WindowsLoss(model, tokens, absl::MakeSpan(windows).subspan(i, j - i), options.precision);
    for (size_t k = i; k < j; ++k) result.tokens += windows[k].end - windows[k].scored_from;
    if (options.on_progress) options.on_progress(result.tokens, n - 1);
    i = j;
  }
  return result;
}

}  // namespace residual
