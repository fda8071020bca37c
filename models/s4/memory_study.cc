#include "models/s4/memory_study.h"

#include <algorithm>
#include <cmath>

#include "models/s4/hippo_memory.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

Remembered Look(const HippoMemory& memory, absl::Span<const double> signal, int64_t points) {
  Remembered found;
  found.at = memory.steps();
  found.state = memory.state();
  const int64_t count = std::min(points, found.at);
  double error = 0, energy = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t sample = (2 * i + 1) * found.at / (2 * count);
    found.samples.push_back(sample);
    found.recalled.push_back(memory.Recall(static_cast<double>(found.at - sample) - 0.5));
    error += std::pow(found.recalled.back() - signal[sample], 2);
    energy += std::pow(signal[sample], 2);
  }
  found.error = std::sqrt(error / std::max(energy, 1e-300));
  return found;
}

}  // namespace

std::vector<Remembered> Remember(HippoMeasure measure, int64_t n, absl::Span<const double> signal,
                                 absl::Span<const int64_t> moments, int64_t points, uint64_t seed) {
  RESIDUAL_CHECK(!signal.empty());
  RESIDUAL_CHECK_GE(points, 1);
  const int64_t length = static_cast<int64_t>(signal.size());
  HippoMemory memory(
      measure, n,
      measure == HippoMeasure::kLegS ? HippoMemory::kWholePast : static_cast<double>(length), seed);
  std::vector<Remembered> found;
  for (const int64_t moment : moments) {
    RESIDUAL_CHECK(moment >= std::max<int64_t>(1, memory.steps()) && moment <= length)
        << "moment " << moment << " of " << length;
    while (memory.steps() < moment) memory.Step(signal[memory.steps()]);
    found.push_back(Look(memory, signal, points));
  }
  return found;
}

std::vector<double> ExampleSignal(int64_t length) {
  std::vector<double> signal(length);
  for (int64_t i = 0; i < length; ++i) {
    const double t = (static_cast<double>(i) + 0.5) / static_cast<double>(length);
    const double chirp = std::sin(2 * M_PI * (2 * t + 6 * t * t));
    const double slow = 0.6 * std::cos(2 * M_PI * 1.3 * t) - 0.4 * t;
    signal[i] = chirp * (0.4 + 0.6 * t) + slow + (t > 0.35 && t < 0.5 ? 0.5 : 0);
  }
  return signal;
}

}  // namespace residual
