#include "interp/heads/head_scores.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "interp/hook_names/hook_name.h"
#include "models/nn/module.h"
#include "ops/elementwise/elementwise.h"
#include "tensor/base/random.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

constexpr char kPatterns[] = "blocks.*.attn.hook_pattern";

// Mean over rows and over queries [first, last) of pattern[b, h, i, i - back].
std::vector<double> MeanAttentionBack(const Tensor& pattern, int64_t back, int64_t first,
                                      int64_t last) {
  const int64_t batch = pattern.dim(0), heads = pattern.dim(1), n = pattern.dim(2);
  const std::vector<double> values = pattern.ToDoubles();
  std::vector<double> means(heads);
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t i = first; i < last; ++i) {
        means[h] += values[((b * heads + h) * n + i) * n + i - back];
      }
    }
    means[h] /= static_cast<double>(batch * (last - first));
  }
  return means;
}

}  // namespace

Tensor TableTensor(const HeadTable& table) {
  size_t width = 0;
  for (const std::vector<double>& row : table) width = std::max(width, row.size());
  const int64_t layers = static_cast<int64_t>(table.size()), heads = static_cast<int64_t>(width);
  Tensor tensor = Tensor::Full({layers, heads}, std::numeric_limits<double>::quiet_NaN());
  float* to = tensor.mutable_data<float>();
  for (size_t layer = 0; layer < table.size(); ++layer) {
    std::copy(table[layer].begin(), table[layer].end(), to + layer * width);
  }
  return tensor;
}

BestHead Best(const HeadTable& table) {
  BestHead best;
  for (size_t layer = 0; layer < table.size(); ++layer) {
    for (size_t head = 0; head < table[layer].size(); ++head) {
      if (std::isnan(table[layer][head])) continue;
      if (best.head.layer < 0 || table[layer][head] > best.score) {
        best = {{static_cast<int>(layer), static_cast<int>(head)}, table[layer][head]};
      }
    }
  }
  return best;
}

Tensor RepeatedRandomTokens(int64_t batch, int64_t n, absl::Span<const int64_t> vocabulary,
                            uint64_t seed) {
  RESIDUAL_CHECK(!vocabulary.empty());
  Tensor tokens = Tensor::Uninitialized({batch, 2 * n}, kI64);
  int64_t* data = tokens.mutable_data<int64_t>();
  const Philox random(seed, RandomStream("repeated random tokens"));
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t i = 0; i < n; ++i) {
      data[b * 2 * n + i] = data[b * 2 * n + n + i] =
          vocabulary[random.Below(b * n + i, static_cast<int64_t>(vocabulary.size()))];
    }
  }
  return tokens;
}

void ZeroHeads(const std::vector<HeadIndex>& heads, Hooks& hooks) {
  for (const HeadIndex& index : heads) {
    hooks.Edit(absl::StrCat("blocks.", index.layer, ".attn.hook_z"),
               [head = index.head](absl::string_view, const Tensor& z) {
                 RESIDUAL_CHECK(0 <= head && head < z.dim(2))
                     << "head " << head << " of " << z.ToString();
                 Tensor keep = Tensor::Full({z.dim(2), z.dim(3)}, 1, z.dtype());
                 VisitDType(z.dtype(), [&](auto tag) {
                   using T = decltype(tag);
                   std::fill_n(keep.mutable_data<T>() + head * z.dim(3), z.dim(3), T{});
                 });
                 return Mul(z, keep);
               });
  }
}

void FreezePatterns(const std::vector<Tensor>& patterns, Hooks& hooks) {
  for (size_t layer = 0; layer < patterns.size(); ++layer) {
    if (!patterns[layer].defined()) continue;
    hooks.Edit(absl::StrCat("blocks.", layer, ".attn.hook_pattern"),
               [pattern = patterns[layer]](absl::string_view, const Tensor&) { return pattern; });
  }
}

std::vector<int64_t> HeadsPerLayer(const ResidualModel& model) {
  std::vector<int64_t> heads(model.n_layers(), 0);
  for (const Parameter& parameter : Parameters(const_cast<ResidualModel&>(model))) {
    if (GlobMatches("blocks.*.attn.W_Q", parameter.name)) {
      heads[SplitBlockName(parameter.name).layer] = DiskShape(parameter)[0];
    }
  }
  return heads;
}

absl::Status CheckHeads(const ResidualModel& model, const std::vector<HeadIndex>& heads) {
  const std::vector<int64_t> per_layer = HeadsPerLayer(model);
  for (const HeadIndex& index : heads) {
    if (index.layer < 0 || index.layer >= model.n_layers()) {
      return absl::InvalidArgumentError(absl::StrCat("the model has no head ", HeadName(index),
                                                     ": it has ", model.n_layers(), " layers"));
    }
    if (index.head < 0 || index.head >= per_layer[index.layer]) {
      return absl::InvalidArgumentError(absl::StrCat("the model has no head ", HeadName(index),
                                                     ": layer ", index.layer, " has ",
                                                     per_layer[index.layer], " heads"));
    }
  }
  return absl::OkStatus();
}

std::string HeadName(const HeadIndex& head) {
  return absl::StrCat("L", head.layer, "H", head.head);
}

absl::StatusOr<std::vector<Tensor>> ReadPatterns(const ResidualModel& model, const Tensor& tokens,
                                                 const std::vector<HeadIndex>& ablated) {
  RESIDUAL_RETURN_IF_ERROR(CheckHeads(model, ablated));
  std::vector<Tensor> patterns(model.n_layers());
  Hooks hooks;
  ZeroHeads(ablated, hooks);
  hooks.Read(kPatterns, [&](absl::string_view name, const Tensor& pattern) {
    patterns[SplitBlockName(name).layer] = pattern;
  });
  RESIDUAL_RETURN_IF_ERROR(model.Run({tokens}, &hooks).status());
  return patterns;
}

absl::StatusOr<HeadScores> ScoreHeads(const ResidualModel& model, const Tensor& tokens,
                                      const std::vector<HeadIndex>& ablated) {
  RESIDUAL_RETURN_IF_ERROR(model.Validate({tokens}));
  const int64_t n = tokens.dim(1) / 2;
  if (n < 2 || tokens.dim(1) != 2 * n) {
    return absl::InvalidArgumentError(
        absl::StrCat("the tokens are ", tokens.ToString(),
                     ", expected a passage of at least two tokens repeated once: [batch, 2 n]"));
  }
  const std::vector<double> ids = tokens.ToDoubles();
  for (int64_t b = 0; b < tokens.dim(0); ++b) {
    const auto first = ids.begin() + b * 2 * n;
    if (!std::equal(first, first + n, first + n)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "row ", b, " of the tokens ", tokens.ToString(), " is not a passage repeated once"));
    }
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<Tensor> patterns,
                            ReadPatterns(model, tokens, ablated));
  HeadScores scores;
  for (const Tensor& pattern : patterns) {
    auto mean = [&](int64_t back, int64_t first) {
      return pattern.defined() ? MeanAttentionBack(pattern, back, first, 2 * n)
                               : std::vector<double>();
    };
    scores.induction.push_back(mean(n - 1, n));
    scores.duplicate_token.push_back(mean(n, n));
    scores.previous_token.push_back(mean(1, 1));
  }
  return scores;
}

}  // namespace residual
