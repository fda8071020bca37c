#include "tools/experiments/selection/selection.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "interp/token_maps/token_maps.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double MeanOrNaN(double sum, double count) { return count > 0 ? sum / count : kNaN; }

// step [batch, pos, channels].
StepsOfLayer AverageSteps(int layer, const Tensor& step, const Tensor& kind_of, int kinds) {
  const Tensor steps = ConvertTo(step, kF32);
  const int64_t channels = steps.dim(2);
  std::vector<double> count(kinds);
  StepsOfLayer of_layer{layer, std::vector(kinds, std::vector<double>(channels))};
  for (int64_t i = 0; i < kind_of.elements(); ++i) {
    const int64_t kind = kind_of.data<int64_t>()[i];
    if (kind < 0) continue;
    RESIDUAL_CHECK(kind < kinds);
    for (int64_t c = 0; c < channels; ++c) {
      of_layer.of_channel[kind][c] += steps.data<float>()[i * channels + c];
    }
    ++count[kind];
  }
  for (int kind = 0; kind < kinds; ++kind) {
    for (double& mean : of_layer.of_channel[kind]) mean = MeanOrNaN(mean, count[kind]);
  }
  return of_layer;
}

absl::StatusOr<std::vector<TokenMapSource>> MapsOf(const ResidualModel& model,
                                                   const Tensor& tokens) {
  RESIDUAL_ASSIGN_OR_RETURN(std::vector<TokenMapSource> sources, ReadTokenMaps(model, tokens));
  if (sources.empty()) {
    return absl::NotFoundError("no mixer of this model has maps from token to token");
  }
  return sources;
}

}  // namespace

absl::StatusOr<std::vector<StepsOfLayer>> MeasureSteps(const ResidualModel& model,
                                                       const Tensor& tokens, const Tensor& kind_of,
                                                       int kinds) {
  RESIDUAL_CHECK(kind_of.shape() == tokens.shape());
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<TokenMapSource> sources,
                            ReadTokenMaps(model, tokens));
  std::vector<StepsOfLayer> steps;
  for (const TokenMapSource& source : sources) {
    const Retention memory = source.Memory();
    if (!memory.defined()) continue;
    steps.push_back(AverageSteps(source.layer(), memory.step, kind_of, kinds));
  }
  if (steps.empty()) return absl::NotFoundError("no layer of this model has a memory that fades");
  return steps;
}

absl::StatusOr<std::vector<ReadingOfLayer>> MeasureReading(const ResidualModel& model,
                                                           const Tensor& tokens,
                                                           const Tensor& kind_of, int kinds,
                                                           int reads) {
  RESIDUAL_CHECK(kind_of.shape() == tokens.shape());
  const int64_t rows = tokens.dim(0), pos = tokens.dim(1);
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<TokenMapSource> sources, MapsOf(model, tokens));
  std::vector<ReadingOfLayer> reading;
  for (const TokenMapSource& source : sources) {
    std::vector<double> sum(kinds), count(kinds);
    source.ForEachPiece([&](int64_t, const Tensor& piece) {
      const Tensor weights = ConvertTo(piece, kF32);  // [rows, units, query, key]
      const float* weight = weights.data<float>();
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t* kinds_of_row = kind_of.data<int64_t>() + row * pos;
        for (int64_t unit = 0; unit < weights.dim(1); ++unit) {
          for (int64_t query = 0; query < pos; ++query, weight += pos) {
            if (kinds_of_row[query] != reads) continue;
            for (int64_t key = 0; key < query; ++key) {
              const int64_t kind = kinds_of_row[key];
              if (kind < 0) continue;
              sum[kind] += weight[key];
              ++count[kind];
            }
          }
        }
      }
    });
    ReadingOfLayer of_layer{source.layer(), {}};
    for (int kind = 0; kind < kinds; ++kind) {
      of_layer.of_kind.push_back(MeanOrNaN(sum[kind], count[kind]));
    }
    reading.push_back(std::move(of_layer));
  }
  return reading;
}

absl::StatusOr<ReadingUnit> WhoReadsFrom(const ResidualModel& model, const Tensor& tokens,
                                         const std::vector<int64_t>& from, int64_t places) {
  const int64_t rows = tokens.dim(0), pos = tokens.dim(1);
  RESIDUAL_CHECK(static_cast<int64_t>(from.size()) == rows);
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<TokenMapSource> sources, MapsOf(model, tokens));
  ReadingUnit best;
  for (const TokenMapSource& source : sources) {
    source.ForEachPiece([&](int64_t first, const Tensor& piece) {
      const Tensor weights = ConvertTo(piece, kF32);  // [rows, units, query, key]
      const int64_t units = weights.dim(1);
      for (int64_t unit = 0; unit < units; ++unit) {
        double share = 0;
        for (int64_t row = 0; row < rows; ++row) {
          const float* last_query =
              weights.data<float>() + ((row * units + unit) * pos + pos - 1) * pos;
          for (int64_t key = from[row]; key < std::min(from[row] + places, pos); ++key) {
            share += last_query[key] / static_cast<double>(rows);
          }
        }
        if (best.name.empty() || share > best.share) best = {source.Name(first + unit), share};
      }
    });
  }
  return best;
}

}  // namespace residual
