#include "interp/lens/prompt_study.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "interp/attribution/decomposition.h"
#include "interp/attribution/logit_attribution.h"
#include "interp/heads/pattern_statistics.h"
#include "interp/token_maps/token_maps.h"
#include "ops/loss/cross_entropy.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

constexpr double kMostly = 0.5;

// What more than half of the attention goes to.
std::string MostlyLooksAt(const PatternStatistics& statistics, const Tensor& pattern,
                          int64_t head) {
  const int64_t n = pattern.dim(2);
  double previous = 0;
  const std::vector<double> values = pattern.Row(0).Row(head).ToDoubles();
  for (int64_t query = 1; query < n; ++query) previous += values[query * n + query - 1];
  if (n > 1 && previous / static_cast<double>(n - 1) > kMostly) return "previous token";
  if (statistics.current_token[0][head] > kMostly) return "current token";
  if (statistics.first_token[0][head] > kMostly) return "first token";
  return "";
}

// weights: [1, n, query, key].
void AddPatterns(const Tensor& weights, const std::vector<std::string>& names, PromptStudy& study) {
  const PatternStatistics statistics = MeasurePatterns({weights});
  for (int64_t i = 0; i < weights.dim(1); ++i) {
    study.patterns.push_back(
        {names[i], MostlyLooksAt(statistics, weights, i), weights.Row(0).Row(i)});
  }
}

// The channels that move most from earlier tokens to later ones, and the mean of all.
void AddChannels(const TokenMapSource& source, int64_t most, int64_t n, PromptStudy& study) {
  std::vector<std::pair<double, int64_t>> moved;
  std::vector<double> sizes(n * n);
  source.ForEachMapPiece([&](int64_t first, const Tensor& maps) {
    const std::vector<double> values = maps.ToDoubles();
    for (int64_t i = 0; i < maps.dim(1); ++i) {
      double sum = 0;
      for (int64_t k = 0; k < n * n; ++k) {
        const double size = std::abs(values[i * n * n + k]);
        sizes[k] += size;
        if (k % n < k / n) sum += size;
      }
      moved.push_back({-sum, first + i});
    }
  });
  const int64_t shown = std::min(most, source.n_units());
  std::partial_sort(moved.begin(), moved.begin() + shown, moved.end());
  std::vector<int64_t> units;
  for (int64_t i = 0; i < shown; ++i) units.push_back(moved[i].second);
  std::sort(units.begin(), units.end());
  std::vector<std::string> names;
  for (const int64_t unit : units) names.push_back(source.Name(unit));
  Tensor mean = Tensor::Uninitialized({1, 1, n, n});
  for (int64_t query = 0; query < n; ++query) {
    double sum = 0;
    for (int64_t key = 0; key < n; ++key) sum += sizes[query * n + key];
    for (int64_t key = 0; key < n; ++key) {
      mean.mutable_data<float>()[query * n + key] =
          sum > 0 ? static_cast<float>(sizes[query * n + key] / sum) : 0.0f;
    }
  }
  AddPatterns(mean, {absl::StrCat("L", source.layer(), " mean")}, study);
  AddPatterns(source.Weights(units), names, study);
}

// The value below which a share of `values` lies.
double Quantile(std::vector<double> values, double share) {
  const auto at = static_cast<int64_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[at];
}

PromptMemory DescribeMemory(const Retention& memory, int layer) {
  const int64_t n = memory.step.dim(1), units = memory.step.dim(2);
  const std::vector<double> step = memory.step.ToDoubles(), kept = memory.kept.ToDoubles();
  PromptMemory result;
  result.name = absl::StrCat("L", layer);
  result.n_units = units;
  std::vector<double> usual(units);
  for (size_t i = 0; i < step.size(); ++i) usual[i % units] += step[i] / static_cast<double>(n);
  for (int64_t t = 0; t < n; ++t) {
    double relative = 0;
    for (int64_t u = 0; u < units; ++u) {
      relative += usual[u] > 0 ? step[t * units + u] / usual[u] : 1;
    }
    result.step.push_back(relative / static_cast<double>(units));
    const std::vector<double> here(kept.begin() + t * units, kept.begin() + (t + 1) * units);
    result.kept_median.push_back(Quantile(here, 0.5));
    result.kept_low.push_back(Quantile(here, 0.1));
  }
  const std::vector<double> lengths = MemoryLengths(memory);
  result.length_low = Quantile(lengths, 0.1);
  result.length_median = Quantile(lengths, 0.5);
  result.length_high = Quantile(lengths, 0.9);
  return result;
}

absl::Status ReadMapsOf(const ResidualModel& model, const Tensor& tokens, int64_t channels,
                        PromptStudy& study) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<TokenMapSource> sources,
                            ReadTokenMaps(model, tokens));
  for (const TokenMapSource& source : sources) {
    study.has_channels |= !source.is_attention();
    if (!source.is_attention() && source.n_units() > channels) {
      AddChannels(source, channels, tokens.dim(1), study);
    } else {
      std::vector<int64_t> units;
      std::vector<std::string> names;
      for (int64_t i = 0; i < source.n_units(); ++i) {
        units.push_back(i);
        names.push_back(source.Name(i));
      }
      AddPatterns(source.Weights(units), names, study);
    }
    const Retention memory = source.Memory();
    if (memory.defined()) study.memories.push_back(DescribeMemory(memory, source.layer()));
  }
  return absl::OkStatus();
}

// Drops the patterns of the heads that attribute least, until the rest is small enough.
void KeepLargest(int64_t entries, PromptStudy& study) {
  const int64_t n = static_cast<int64_t>(study.tokens.size());
  const size_t room = static_cast<size_t>(std::max<int64_t>(1, entries / (n * n)));
  if (study.patterns.size() <= room) return;
  std::vector<double> sizes;
  for (const PromptPattern& pattern : study.patterns) {
    sizes.push_back(std::abs(pattern.attribution));
  }
  std::sort(sizes.rbegin(), sizes.rend());
  std::vector<PromptPattern> kept;
  for (PromptPattern& pattern : study.patterns) {
    if (kept.size() < room && std::abs(pattern.attribution) >= sizes[room - 1]) {
      kept.push_back(std::move(pattern));
    }
  }
  study.patterns_left_out = static_cast<int64_t>(study.patterns.size() - kept.size());
  study.patterns = std::move(kept);
}

double PromptLoss(const Tensor& logits, const Tensor& tokens) {
  const int64_t n = tokens.dim(1);
  if (n < 2) return std::numeric_limits<double>::quiet_NaN();
  return CrossEntropy(logits.Row(0).Rows(0, n - 1), tokens.Row(0).Rows(1, n)).Item();
}

}  // namespace

absl::StatusOr<PromptStudy> StudyPrompt(const ResidualModel& model,
                                        absl::Span<const int64_t> tokens,
                                        const PromptOptions& options) {
  const int64_t n = static_cast<int64_t>(tokens.size()), v = model.d_vocab();
  for (const auto& [name, id] :
       {std::pair("answer", options.answer), std::pair("wrong", options.wrong)}) {
    if (id >= v) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": ", id, " is outside the vocabulary of ", v));
    }
  }
  PromptStudy study;
  study.tokens.assign(tokens.begin(), tokens.end());
  const Tensor ids = Tensor::Of<int64_t>({1, n}, tokens);
  DecomposeOptions decompose;
  decompose.heads = true;
  RESIDUAL_ASSIGN_OR_RETURN(const Decomposition found, DecomposeStream(model, {ids}, decompose));
  study.loss = PromptLoss(found.logits, ids);

  LabelledStreams shown = BlockInputs(found);
  shown.labels.push_back(found.accumulated.labels.back());
  shown.values.push_back(found.accumulated.values.back());
  study.logit_lens = ReadLens(model, shown, found.logits, options.top);
  if (options.tuned_lens != nullptr) {
    study.tuned_lens =
        ReadLens(model, shown, found.logits, options.top, [&](int64_t i, const Tensor& x) {
          return i < options.tuned_lens->n_layers()
                     ? options.tuned_lens->Translate(static_cast<int>(i), x)
                     : x;
        });
  }
  const LensReading& last = study.logit_lens;
  const int64_t top = last.top_ids.dim(3);
  const int64_t at = (static_cast<int64_t>(shown.values.size()) * n - 1) * top;
  for (int64_t k = 0; k < top; ++k) {
    study.next.push_back(last.top_ids.data<int64_t>()[at + k]);
    study.next_probs.push_back(last.top_probs.data<float>()[at + k]);
  }

  study.answer = options.answer >= 0 ? options.answer : study.next[0];
  study.wrong = options.wrong;
  for (size_t k = 0; study.wrong < 0 && k < study.next.size(); ++k) {
    if (study.next[k] != study.answer) study.wrong = study.next[k];
  }
  if (study.wrong < 0 || study.wrong == study.answer) {
    return absl::InvalidArgumentError(absl::StrCat("wrong: ", study.wrong, " with the answer ",
                                                   study.answer, ", expected another token"));
  }
  LogitTargets targets;
  targets.answer = {study.answer};
  targets.wrong = {study.wrong};
  RESIDUAL_ASSIGN_OR_RETURN(const LogitDirections directions, DirectionsOf(model, found, targets));
  study.difference = directions.difference[0];
  const Tensor parts = Attribute(found.parts, directions);
  for (int64_t i = 0; i < parts.dim(0); ++i) {
    study.parts.push_back({found.parts.labels[i], parts.data<float>()[i]});
  }
  study.parts.push_back({"bias", directions.bias[0]});

  RESIDUAL_RETURN_IF_ERROR(ReadMapsOf(model, ids, options.channels, study));
  study.heads.resize(model.n_layers());
  if (!found.heads.values.empty()) {
    const Tensor heads = Attribute(found.heads, directions);
    for (int64_t i = 0; i < heads.dim(0); ++i) {
      const std::string& name = found.heads.labels[i];  // "L3H0"
      int layer = 0;
      RESIDUAL_CHECK(absl::SimpleAtoi(name.substr(1, name.find('H') - 1), &layer)) << name;
      study.heads[layer].push_back(heads.data<float>()[i]);
      for (PromptPattern& pattern : study.patterns) {
        if (pattern.name == name) pattern.attribution = heads.data<float>()[i];
      }
    }
  }
  KeepLargest(options.pattern_entries, study);
  return study;
}

}  // namespace residual
