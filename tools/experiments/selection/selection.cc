#include "tools/experiments/selection/selection.h"

#include <limits>

#include "absl/status/status.h"
#include "interp/token_maps/token_maps.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

// The step by token kind of one layer; step [batch, pos, channels].
StepsOfLayer AverageSteps(int layer, const Tensor& step, const Tensor& tokens, int kinds,
                          const std::function<int(int64_t)>& kind_of) {
  const Tensor steps = ConvertTo(step, kF32);
  const int64_t channels = steps.dim(2);
  std::vector<double> sum(kinds), count(kinds);
  for (int64_t i = 0; i < tokens.elements(); ++i) {
    const int kind = kind_of(tokens.data<int64_t>()[i]);
    if (kind < 0) continue;
    RESIDUAL_CHECK(kind < kinds);
    for (int64_t c = 0; c < channels; ++c) sum[kind] += steps.data<float>()[i * channels + c];
    count[kind] += static_cast<double>(channels);
  }
  StepsOfLayer of_layer{layer, {}};
  for (int k = 0; k < kinds; ++k) {
    of_layer.of_kind.push_back(count[k] > 0 ? sum[k] / count[k]
                                            : std::numeric_limits<double>::quiet_NaN());
  }
  return of_layer;
}

}  // namespace

absl::StatusOr<std::vector<StepsOfLayer>> MeasureSteps(
    const ResidualModel& model, const Tensor& tokens, int kinds,
    const std::function<int(int64_t token)>& kind_of) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<TokenMapSource> sources,
                            ReadTokenMaps(model, tokens));
  std::vector<StepsOfLayer> steps;
  for (const TokenMapSource& source : sources) {
    const Retention memory = source.Memory();
    if (!memory.defined()) continue;
    steps.push_back(AverageSteps(source.layer(), memory.step, tokens, kinds, kind_of));
  }
  if (steps.empty()) return absl::NotFoundError("no layer of this model has a memory that fades");
  return steps;
}

absl::StatusOr<ReadingUnit> WhoReadsFrom(const ResidualModel& model, const Tensor& tokens,
                                         const std::vector<int64_t>& from) {
  const int64_t rows = tokens.dim(0), pos = tokens.dim(1);
  RESIDUAL_CHECK(static_cast<int64_t>(from.size()) == rows);
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<TokenMapSource> sources,
                            ReadTokenMaps(model, tokens));
  if (sources.empty()) {
    return absl::NotFoundError("no mixer of this model has maps from token to token");
  }
  ReadingUnit best;
  for (const TokenMapSource& source : sources) {
    source.ForEachPiece([&](int64_t first, const Tensor& piece) {
      const Tensor weights = ConvertTo(piece, kF32);  // [rows, units, query, key]
      const int64_t units = weights.dim(1);
      for (int64_t unit = 0; unit < units; ++unit) {
        double share = 0;
        for (int64_t row = 0; row < rows; ++row) {
          const int64_t last_query = ((row * units + unit) * pos + pos - 1) * pos;
          share += weights.data<float>()[last_query + from[row]] / static_cast<double>(rows);
        }
        if (best.name.empty() || share > best.share) best = {source.Name(first + unit), share};
      }
    });
  }
  return best;
}

}  // namespace residual
