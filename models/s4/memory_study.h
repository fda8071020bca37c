// How well HiPPO memories of a given size remember a signal.

#ifndef RESIDUAL_MODELS_S4_MEMORY_STUDY_H_
#define RESIDUAL_MODELS_S4_MEMORY_STUDY_H_

#include <cstdint>
#include <vector>

#include "Eigen/Core"
#include "absl/types/span.h"
#include "models/s4/hippo.h"

namespace residual {

// What a memory holds of the signal when it has taken `at` samples of it.
struct Remembered {
  int64_t at = 0;
  Eigen::VectorXd state;         // [n]
  std::vector<int64_t> samples;  // which ones are recalled: rising, below `at`
  std::vector<double> recalled;  // as many
  // Root mean square of recalled - signal over these samples, relative to that of the signal.
  double error = 0;
};

// Streams the signal (not empty, CHECKed) through a memory of n numbers of all of it: for kLegS by
// the rates over time, else with a window of the signal's length. One entry for each of `moments`
// (rising, in [1, length], CHECKed); at most `points` (>= 1) samples of each are recalled, evenly.
std::vector<Remembered> Remember(HippoMeasure measure, int64_t n, absl::Span<const double> signal,
                                 absl::Span<const int64_t> moments, int64_t points,
                                 uint64_t seed = 0);

// A signal to try memories on: slow and fast oscillations, a drift, and a step.
std::vector<double> ExampleSignal(int64_t length);

}  // namespace residual

#endif  // RESIDUAL_MODELS_S4_MEMORY_STUDY_H_
