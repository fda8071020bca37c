// How sure a sweep is: a number per example says more than their mean.

#ifndef RESIDUAL_INTERP_PATCH_STATISTICS_H_
#define RESIDUAL_INTERP_PATCH_STATISTICS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "interp/patch/session.h"

namespace residual {

struct Interval {
  double low = 0, high = 0;
};

// Percentile bootstrap interval of the mean (Efron 1979): examples drawn with replacement, a pure
// function of the seed. `values` is not empty; confidence in (0, 1).
Interval BootstrapInterval(absl::Span<const double> values, double confidence = 0.95,
                           int64_t resamples = 1000, uint64_t seed = 0);

// Two-sided p value that the mean effect is zero, by flipping signs (Fisher 1935): all flips of up
// to 12 effects, else `permutations` random ones, of which the one without flips is one more.
double SignFlipPValue(absl::Span<const double> effects, int64_t permutations = 1000,
                      uint64_t seed = 0);

// The control of a circuit: what it restores when all its parts are patched at once, against sets
// of as many parts drawn from all of them.
struct CircuitControl {
  double circuit = 0;          // mean metric
  std::vector<double> random;  // of each set
  // Share of sets, the circuit counted among them, that restore as much or more.
  double p_value = 1;
};

// parts: patches of one part each; circuit: which of them. InvalidArgument for an index that is
// not there or comes twice.
absl::StatusOr<CircuitControl> RandomCircuitControl(PatchSession& session,
                                                    absl::Span<const Patch> parts,
                                                    const std::vector<int64_t>& circuit,
                                                    const Metric& metric, int64_t sets = 100,
                                                    uint64_t seed = 0);

}  // namespace residual

#endif  // RESIDUAL_INTERP_PATCH_STATISTICS_H_
