#include "interp/patch/statistics.h"

#include <cmath>
#include <numeric>

#include "gtest/gtest.h"
#include "interp/patch/sweep.h"
#include "interp/testing/planted_circuit.h"

namespace residual {
namespace {

TEST(BootstrapTest, CoversTheMeanAsOftenAsItSays) {
  // Examples 0 .. 99 have standard error 2.887; a normal interval is +- 1.96 of them.
  std::vector<double> values(100);
  std::iota(values.begin(), values.end(), 0.0);
  const Interval interval = BootstrapInterval(values, 0.95, 4000, 7);
  EXPECT_NEAR(interval.low, 49.5 - 1.96 * 2.887, 0.5);
  EXPECT_NEAR(interval.high, 49.5 + 1.96 * 2.887, 0.5);
  const Interval narrow = BootstrapInterval(values, 0.5, 4000, 7);
  EXPECT_NEAR(narrow.high - narrow.low, 2 * 0.6745 * 2.887, 0.4);
  EXPECT_EQ(BootstrapInterval(values, 0.95, 4000, 7).low, interval.low);
  EXPECT_NE(BootstrapInterval(values, 0.95, 4000, 8).low, interval.low);
}

TEST(BootstrapTest, OfOneValueIsThatValue) {
  const Interval one = BootstrapInterval({3.5});
  EXPECT_EQ(one.low, 3.5);
  EXPECT_EQ(one.high, 3.5);
}

TEST(SignFlipTest, IsExactForFewExamples) {
  // Only no flip and all flips reach the sum of equal signs: 2 of 2^n.
  EXPECT_DOUBLE_EQ(SignFlipPValue({1, 2, 3, 4, 5}), 2.0 / 32);
  EXPECT_DOUBLE_EQ(SignFlipPValue({-0.1, -0.2, -0.3}), 2.0 / 8);
  // 1 + 2 - 3: |sum| 0, which every flip reaches.
  EXPECT_DOUBLE_EQ(SignFlipPValue({1, 2, -3}), 1);
  // Sums of {3, -1}: 2, 4, -4, -2.
  EXPECT_DOUBLE_EQ(SignFlipPValue({3, -1}), 1);
  EXPECT_DOUBLE_EQ(SignFlipPValue({}), 1);
  // Rounding does not make equal sums unequal: of +-1 +-2 +-3 +-1 +-2, 22 are at least 3 in size.
  EXPECT_DOUBLE_EQ(SignFlipPValue({0.1, 0.2, 0.3, -0.1, -0.2}), 22.0 / 32);
}

TEST(SignFlipTest, DrawsFlipsForMany) {
  std::vector<double> effects(40, 1.0);
  EXPECT_DOUBLE_EQ(SignFlipPValue(effects, 1000), 1.0 / 1001);
  for (size_t i = 0; i < effects.size(); ++i) effects[i] = i % 2 ? 1.0 + i : -1.0 - i;
  EXPECT_GT(SignFlipPValue(effects, 1000), 0.3);
}

TEST(CircuitTest, ThePlantedCircuitBeatsRandomOnes) {
  // [A B .. A] against a prompt whose first tokens are others: what comes after A is B.
  const auto model = PlantedInductionModel();
  const ModelInput clean{Tensor::Of<int64_t>({1, 7}, {3, 5, 8, 1, 9, 2, 3})};
  const ModelInput corrupted{Tensor::Of<int64_t>({1, 7}, {4, 6, 8, 1, 9, 2, 3})};
  auto session = *PatchSession::Create(*model, clean, corrupted);
  const Metric metric = LogitDifference({5}, {6});
  EXPECT_GT((*session.Clean(metric))[0], 10);
  // The end looks at all positions alike there, and finds the wrong token once.
  const double corrupted_value = (*session.Corrupted(metric))[0];
  EXPECT_LT(corrupted_value, -1);
  const Sweep heads = *PlanSweep(session, "z", "head");
  ASSERT_EQ(heads.shape, Shape({2, 2}));
  // The induction head alone carries the answer to the end.
  const auto values = *session.Run(heads.patches, metric);
  EXPECT_GT(values[2][0], 10);
  EXPECT_NEAR(values[3][0], corrupted_value, 1e-6);
  const CircuitControl control = *RandomCircuitControl(session, heads.patches, {2}, metric, 40, 3);
  EXPECT_DOUBLE_EQ(control.circuit, values[2][0]);
  ASSERT_EQ(control.random.size(), 40);
  int same = 0;
  for (const double value : control.random) same += value > 10;
  EXPECT_GT(same, 2);
  EXPECT_LT(same, 25);
  EXPECT_DOUBLE_EQ(control.p_value, (same + 1) / 41.0);
  EXPECT_EQ(RandomCircuitControl(session, heads.patches, {4}, metric).status().message(),
            "part 4 of the circuit, expected different ones in [0, 4)");
  EXPECT_FALSE(RandomCircuitControl(session, heads.patches, {1, 1}, metric).ok());
}

}  // namespace
}  // namespace residual
