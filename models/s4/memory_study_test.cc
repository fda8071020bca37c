#include "models/s4/memory_study.h"

#include <cmath>

#include "gtest/gtest.h"
#include "models/s4/hippo_memory.h"

namespace residual {
namespace {

TEST(MemoryStudyTest, LooksAtTheMomentsAskedFor) {
  const std::vector<double> signal = ExampleSignal(300);
  const std::vector<Remembered> found = Remember(HippoMeasure::kLegS, 8, signal, {1, 7, 300}, 50);
  ASSERT_EQ(found.size(), 3);
  EXPECT_EQ(found[0].samples, std::vector<int64_t>{0});
  EXPECT_EQ(found[1].samples, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(found[2].samples.size(), 50);
  HippoMemory memory(HippoMeasure::kLegS, 8, HippoMemory::kWholePast);
  for (const double sample : signal) memory.Step(sample);
  EXPECT_EQ(found[2].state, memory.state());
  double error = 0, energy = 0;
  for (size_t i = 0; i < 50; ++i) {
    const int64_t sample = found[2].samples[i];
    EXPECT_EQ(found[2].recalled[i], memory.Recall(299.5 - sample));
    error += std::pow(found[2].recalled[i] - signal[sample], 2);
    energy += signal[sample] * signal[sample];
  }
  EXPECT_NEAR(found[2].error, std::sqrt(error / energy), 1e-12);
}

TEST(MemoryStudyTest, MoreNumbersRememberMore) {
  const std::vector<double> signal = ExampleSignal(1000);
  for (const HippoMeasure measure :
       {HippoMeasure::kLegS, HippoMeasure::kLegT, HippoMeasure::kFourier, HippoMeasure::kChebyshev,
        HippoMeasure::kRandom}) {
    const auto error = [&](int64_t n) {
      return Remember(measure, n, signal, {1000}, 250, 1).back().error;
    };
    const double few = error(4), many = error(48);
    EXPECT_LT(many, (measure == HippoMeasure::kRandom ? 1 : 0.7) * few) << Name(measure);
    EXPECT_GT(many, 1e-4) << Name(measure);
    // Orthogonal polynomials do better than chance.
    const bool legendre = measure == HippoMeasure::kLegS || measure == HippoMeasure::kLegT;
    if (legendre) {
      EXPECT_LT(many, 0.12);
    } else if (measure == HippoMeasure::kRandom) {
      EXPECT_GT(many, 0.12);
    }
  }
}

TEST(MemoryStudyTest, SilenceHasNoError) {
  EXPECT_EQ(Remember(HippoMeasure::kLegT, 4, std::vector<double>(9), {9}, 9).back().error, 0);
}

TEST(MemoryStudyDeathTest, MomentsOfTheSignal) {
  EXPECT_DEATH(Remember(HippoMeasure::kLegT, 4, {1.0, 2.0}, {3}, 9), "moment 3 of 2");
  EXPECT_DEATH(Remember(HippoMeasure::kLegT, 4, {}, {}, 9), "signal.empty");
}

}  // namespace
}  // namespace residual
