#include "interp/patch/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "interp/patch/sweep.h"
#include "tensor/base/check.h"
#include "tensor/base/random.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

constexpr size_t kExactFlips = 12;

// Sums that are equal but for rounding count as equal.
constexpr double kSlack = 1e-12;

}  // namespace

Interval BootstrapInterval(absl::Span<const double> values, double confidence, int64_t resamples,
                           uint64_t seed) {
  RESIDUAL_CHECK(!values.empty() && confidence > 0 && confidence < 1 && resamples > 0)
      << values.size() << " values, confidence " << confidence << ", " << resamples;
  const Philox random(seed, RandomStream("bootstrap"));
  const int64_t n = static_cast<int64_t>(values.size());
  std::vector<double> means(resamples);
  uint64_t draw = 0;
  for (double& mean : means) {
    for (int64_t i = 0; i < n; ++i) mean += values[random.Below(draw++, n)];
    mean /= static_cast<double>(n);
  }
  std::sort(means.begin(), means.end());
  // Between order statistics, as numpy's percentile.
  const auto percentile = [&means](double share) {
    const double at = share * static_cast<double>(means.size() - 1);
    const size_t below = static_cast<size_t>(at), above = std::min(below + 1, means.size() - 1);
    return means[below] + (at - static_cast<double>(below)) * (means[above] - means[below]);
  };
  return {percentile((1 - confidence) / 2), percentile((1 + confidence) / 2)};
}

double SignFlipPValue(absl::Span<const double> effects, int64_t permutations, uint64_t seed) {
  const size_t n = effects.size();
  const double sum = std::abs(std::accumulate(effects.begin(), effects.end(), 0.0));
  double scale = 0;
  for (const double effect : effects) scale += std::abs(effect);
  const double least = sum - kSlack * scale;
  int64_t as_large = 0;
  if (n <= kExactFlips) {
    for (uint64_t flips = 0; flips < uint64_t{1} << n; ++flips) {
      double flipped = 0;
      for (size_t i = 0; i < n; ++i) flipped += flips >> i & 1 ? -effects[i] : effects[i];
      as_large += std::abs(flipped) >= least;
    }
    return static_cast<double>(as_large) / static_cast<double>(uint64_t{1} << n);
  }
  const Philox random(seed, RandomStream("sign flips"));
  uint64_t draw = 0;
  for (int64_t p = 0; p < permutations; ++p) {
    double flipped = 0;
    for (const double effect : effects) {
      flipped += random.Bits(draw++) & 1 ? -effect : effect;
    }
    as_large += std::abs(flipped) >= least;
  }
  return static_cast<double>(as_large + 1) / static_cast<double>(permutations + 1);
}

absl::StatusOr<CircuitControl> RandomCircuitControl(PatchSession& session,
                                                    absl::Span<const Patch> parts,
                                                    const std::vector<int64_t>& circuit,
                                                    const Metric& metric, int64_t sets,
                                                    uint64_t seed) {
  const int64_t n = static_cast<int64_t>(parts.size());
  std::set<int64_t> seen;
  for (const int64_t index : circuit) {
    if (index < 0 || index >= n || !seen.insert(index).second) {
      return absl::InvalidArgumentError(absl::StrCat("part ", index, " of the circuit, expected ",
                                                     "different ones in [0, ", n, ")"));
    }
  }
  const auto together = [&parts](absl::Span<const int64_t> indices) {
    Patch patch;
    for (const int64_t index : indices) {
      patch.cells.insert(patch.cells.end(), parts[index].cells.begin(), parts[index].cells.end());
    }
    return patch;
  };
  std::vector<Patch> patches = {together(circuit)};
  const Philox random(seed, RandomStream("random circuits"));
  uint64_t draw = 0;
  for (int64_t set = 0; set < sets; ++set) {
    std::vector<int64_t> order(n);
    std::iota(order.begin(), order.end(), int64_t{0});
    for (size_t i = 0; i < circuit.size(); ++i) {  // Fisher-Yates, as far as needed
      std::swap(order[i], order[i + random.Below(draw++, n - static_cast<int64_t>(i))]);
    }
    patches.push_back(together(absl::MakeConstSpan(order).first(circuit.size())));
  }
  RESIDUAL_ASSIGN_OR_RETURN(const auto values, session.Run(patches, metric));
  const std::vector<double> means = Means(values);
  CircuitControl control;
  control.circuit = means[0];
  control.random.assign(means.begin() + 1, means.end());
  const auto as_good = std::count_if(control.random.begin(), control.random.end(),
                                     [&](double value) { return value >= control.circuit; });
  control.p_value = static_cast<double>(as_good + 1) / static_cast<double>(sets + 1);
  return control;
}

}  // namespace residual
