#include "interp/heads/map_scores.h"

#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "interp/heads/pattern_statistics.h"
#include "interp/token_maps/token_maps.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

void Append(const HeadTable& from, std::vector<double>& to) {
  to.insert(to.end(), from[0].begin(), from[0].end());
}

void AddMemory(const TokenMapSource& source, int n_layers, MapScores& scores) {
  const Retention memory = source.Memory();
  std::vector<double> length(source.n_units(), std::numeric_limits<double>::quiet_NaN());
  std::vector<double> step = length;
  if (memory.defined()) {
    length = MemoryLengths(memory);
    const std::vector<double> steps = memory.step.ToDoubles();
    step.assign(step.size(), 0);
    for (size_t i = 0; i < steps.size(); ++i) {
      step[i % step.size()] +=
          steps[i] * static_cast<double>(step.size()) / static_cast<double>(steps.size());
    }
  }
  for (const auto& [name, values] :
       {std::pair("memory.length", &length), std::pair("memory.step", &step)}) {
    HeadTable& table = scores.tables[name];
    table.resize(n_layers);
    std::vector<double>& row = table[source.layer()];
    row.insert(row.end(), values->begin(), values->end());
  }
}

}  // namespace

absl::StatusOr<MapScores> ScoreMaps(const ResidualModel& model, const Tensor& tokens,
                                    const DetectOptions& options) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<TokenMapSource> sources,
                            ReadTokenMaps(model, tokens));
  if (sources.empty()) {
    return absl::NotFoundError("the model has no attention and no other token-to-token maps");
  }
  MapScores scores;
  scores.unit.resize(model.n_layers());
  const bool repeated = IsRepeatedAfterFirst(tokens);
  bool fades = false;
  for (const TokenMapSource& source : sources) {
    scores.unit[source.layer()] = source.unit();
    fades |= source.Memory().defined();
    const auto row = [&](const std::string& name) -> std::vector<double>& {
      HeadTable& table = scores.tables[name];
      table.resize(model.n_layers());
      return table[source.layer()];
    };
    source.ForEachPiece([&](int64_t, const Tensor& weights) {
      for (const auto& [kind, name] : {std::pair(HeadKind::kPreviousToken, "previous_token"),
                                       std::pair(HeadKind::kDuplicateToken, "duplicate_token"),
                                       std::pair(HeadKind::kInduction, "induction")}) {
        DetectOptions detect = options;
        detect.measure = DetectMeasure::kMul;
        Append(DetectHeads({weights}, tokens, kind, detect), row(name));
        detect.measure = DetectMeasure::kAbs;
        Append(DetectHeads({weights}, tokens, kind, detect), row(absl::StrCat(name, ".abs")));
      }
      if (repeated) Append(InductionStripes({weights}), row("induction_stripe"));
      const PatternStatistics statistics = MeasurePatterns({weights});
      Append(statistics.entropy, row("pattern.entropy"));
      Append(statistics.mean_distance, row("pattern.mean_distance"));
      Append(statistics.first_token, row("pattern.first_token"));
      Append(statistics.current_token, row("pattern.current_token"));
    });
  }
  if (!fades) return scores;
  for (const TokenMapSource& source : sources) AddMemory(source, model.n_layers(), scores);
  return scores;
}

}  // namespace residual
