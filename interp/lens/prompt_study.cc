#include "interp/lens/prompt_study.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "interp/attribution/decomposition.h"
#include "interp/attribution/logit_attribution.h"
#include "interp/heads/pattern_statistics.h"
#include "models/nn/hook.h"
#include "models/nn/module.h"
#include "ops/loss/cross_entropy.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

constexpr double kMostly = 0.5;

// Activations [batch, n, query, key] that say where something looks. A mixer of another kind that
// has one (the hidden attention of a state-space model, per channel) is a line here; `letter` is
// what one of its n is called.
struct PatternSource {
  const char* hook;
  char letter;
};
constexpr PatternSource kPatternSources[] = {{"blocks.*.attn.hook_pattern", 'H'}};

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

void AddPatterns(const Tensor& pattern, int layer, char letter, PromptStudy& study) {
  const PatternStatistics statistics = MeasurePatterns({pattern});
  for (int64_t head = 0; head < pattern.dim(1); ++head) {
    study.patterns.push_back({absl::StrCat("L", layer, std::string(1, letter), head),
                              MostlyLooksAt(statistics, pattern, head), pattern.Row(0).Row(head)});
  }
}

absl::Status ReadPatternsOf(const ResidualModel& model, const Tensor& tokens, PromptStudy& study) {
  const std::vector<DeclaredHook> declared = HookPoints(model);
  Hooks hooks;
  for (const PatternSource& source : kPatternSources) {
    if (std::none_of(declared.begin(), declared.end(), [&](const DeclaredHook& hook) {
          return GlobMatches(source.hook, hook.name);
        })) {
      continue;
    }
    hooks.Read(source.hook, [&study, source](absl::string_view name, const Tensor& x) {
      const std::vector<absl::string_view> parts = absl::StrSplit(name, '.');
      int layer = 0;
      RESIDUAL_CHECK(absl::SimpleAtoi(parts[1], &layer)) << std::string(name);
      AddPatterns(x, layer, source.letter, study);
    });
  }
  if (hooks.empty()) return absl::OkStatus();
  return model.Run({tokens}, &hooks).status();
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

  RESIDUAL_RETURN_IF_ERROR(ReadPatternsOf(model, ids, study));
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
