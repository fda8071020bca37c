#include "interp/neurons/max_examples.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "interp/hook_names/hook_name.h"
#include "models/nn/hook.h"
#include "models/nn/module.h"
#include "tensor/base/parallel.h"
#include "tensor/base/status_macros.h"
#include "tensor/core/tensor.h"

namespace residual {
namespace {

bool Before(const Example& a, const Example& b) {
  return std::tie(b.activation, a.position) < std::tie(a.activation, b.position);
}

// What is known of a neuron so far; `best` is a heap whose front is the last one kept.
struct Found {
  std::vector<Example> best;
  double sum = 0;
  int64_t active = 0;
};

void Offer(const Example& example, int64_t count, Found& found) {
  if (static_cast<int64_t>(found.best.size()) == count) {
    if (!Before(example, found.best.front())) return;
    std::pop_heap(found.best.begin(), found.best.end(), Before);
    found.best.pop_back();
  }
  found.best.push_back(example);
  std::push_heap(found.best.begin(), found.best.end(), Before);
}

// A window: tokens [begin, end), of which those from `first` on are new.
struct Window {
  int64_t begin, end, first;
};

std::vector<Window> WindowsOf(int64_t n, int64_t context, int64_t stride) {
  std::vector<Window> windows;
  for (int64_t begin = 0, done = 0; done < n; begin += stride) {
    const int64_t end = std::min(begin + context, n);
    windows.push_back({begin, end, done});
    done = end;
  }
  return windows;
}

// Adds what x [rows, pos, n] says of these windows.
template <class T>
void Look(const T* x, int64_t pos, int64_t n, absl::Span<const Window> windows, int64_t count,
          std::vector<Found>& found) {
  // Neurons in strips: each thread reads its columns of every row.
  ParallelFor(n, 64, [&](int64_t begin, int64_t end) {
    std::vector<Example> largest(end - begin);
    for (size_t row = 0; row < windows.size(); ++row) {
      const Window& window = windows[row];
      for (int64_t token = window.first; token < window.end; ++token) {
        const T* at = x + (static_cast<int64_t>(row) * pos + token - window.begin) * n;
        for (int64_t i = begin; i < end; ++i) {
          const double value = ToDouble(at[i]);
          found[i].sum += value;
          found[i].active += value > 0;
          Example& best = largest[i - begin];
          if (token == window.first || value > best.activation) {
            best = {window.begin, window.end, token, value};
          }
        }
      }
      for (int64_t i = begin; i < end; ++i) Offer(largest[i - begin], count, found[i]);
    }
  });
}

absl::Status Check(const ResidualModel& model, absl::Span<const int32_t> text,
                   const std::string& hook_point, const MaxExamplesOptions& options,
                   int64_t context, int64_t stride) {
  const std::vector<DeclaredHook> declared = HookPoints(model);
  Hooks hooks;
  hooks.Read(hook_point, [](absl::string_view, const Tensor&) {});
  RESIDUAL_RETURN_IF_ERROR(hooks.Validate(declared));
  if (SplitBlockName(hook_point).layer < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", hook_point, "', expected a hook point of one block, blocks.L.…"));
  }
  for (const DeclaredHook& hook : declared) {
    const size_t axes = std::count(hook.dims.begin(), hook.dims.end(), ',') + 1;
    if (hook.name == CanonicalHookName(hook_point) && axes != 3) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", hook_point, "' is ", hook.dims, ", expected [batch, pos, neurons]"));
    }
  }
  if (text.empty()) return absl::InvalidArgumentError("the text is empty");
  for (const int32_t token : text) {
    if (token < 0 || token >= model.d_vocab()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the text has the token ", token, ", outside the vocabulary of ", model.d_vocab()));
    }
  }
  if (options.count < 1 || options.rows < 1 || context < 1 || stride < 1 || stride > context) {
    return absl::InvalidArgumentError(absl::StrCat(
        "found count ", options.count, ", rows ", options.rows, ", context ", context, ", stride ",
        stride, "; expected all at least 1, and a stride of at most the context"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<NeuronExamples>> FindMaxExamples(const ResidualModel& model,
                                                            absl::Span<const int32_t> text,
                                                            const std::string& hook_point,
                                                            const MaxExamplesOptions& options) {
  const int64_t n = static_cast<int64_t>(text.size());
  int64_t context = std::min(options.context, std::max<int64_t>(n, 1));
  if (model.n_ctx() > 0) context = std::min(context, model.n_ctx());
  const int64_t stride = options.stride != 0 ? options.stride : std::max<int64_t>(1, context / 2);
  RESIDUAL_RETURN_IF_ERROR(Check(model, text, hook_point, options, context, stride));

  const std::vector<Window> windows = WindowsOf(n, context, stride);
  const int layer = SplitBlockName(hook_point).layer;
  std::vector<Found> found;
  for (size_t first = 0; first < windows.size(); first += options.rows) {
    const auto some = absl::MakeConstSpan(windows).subspan(first, options.rows);
    // The last windows may be shorter: then what stands behind their ends is padding.
    const Shape shape{static_cast<int64_t>(some.size()), context};
    Tensor tokens = Tensor::Zeros(shape, kI64), mask = Tensor::Zeros(shape, kBool);
    int64_t* to = tokens.mutable_data<int64_t>();
    bool* is_token = mask.mutable_data<bool>();
    bool padded = false;
    for (size_t row = 0; row < some.size(); ++row) {
      std::copy(text.begin() + some[row].begin, text.begin() + some[row].end, to + row * context);
      std::fill_n(is_token + row * context, some[row].end - some[row].begin, true);
      padded |= some[row].end - some[row].begin < context;
    }
    Hooks hooks;
    hooks.Read(hook_point, [&](absl::string_view, const Tensor& x) {
      found.resize(x.dim(2));
      VisitDType(x.dtype(), [&](auto tag) {
        using T = decltype(tag);
        Look(x.data<T>(), context, x.dim(2), some, options.count, found);
      });
    });
    const Scope scope(&hooks);
    ModelInput input{tokens};
    if (padded) input.attention_mask = mask;
    const MixerContext mixer = model.MakeContext(input);
    model.Stream(model.EmbedTokens(input, mixer, scope), {0, layer + 1}, mixer, nullptr, scope);
    RESIDUAL_RETURN_IF_ERROR(hooks.CheckFired());
    if (options.on_progress) options.on_progress(some.back().end, n);
  }
  std::vector<NeuronExamples> result;
  for (Found& neuron : found) {
    std::sort_heap(neuron.best.begin(), neuron.best.end(), Before);
    result.push_back({std::move(neuron.best), neuron.sum / static_cast<double>(n),
                      static_cast<double>(neuron.active) / static_cast<double>(n)});
  }
  return result;
}

}  // namespace residual
