#include "interp/heads/pattern_statistics.h"

#include <cmath>

#include "gtest/gtest.h"
#include "interp/testing/planted_circuit.h"

namespace residual {
namespace {

TEST(PatternStatisticsTest, PatternsByHand) {
  // Head 0 looks at itself, head 1 at everything alike; the last query of row 1 is padding.
  const Tensor patterns = Tensor::Of<float>(
      {2, 2, 3, 3}, {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, .5f, .5f, 0, 1.f / 3, 1.f / 3, 1.f / 3,
                     1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, .5f, .5f, 0, 0,       0,       0});
  const PatternStatistics got = MeasurePatterns({patterns, Tensor()});
  ASSERT_EQ(got.entropy.size(), 2);
  EXPECT_TRUE(got.entropy[1].empty());
  EXPECT_EQ(got.entropy[0][0], 0);
  EXPECT_EQ(got.mean_distance[0][0], 0);
  EXPECT_EQ(got.current_token[0][0], 1);
  EXPECT_EQ(got.first_token[0][0], 2.0 / 5);
  EXPECT_NEAR(got.entropy[0][1], (2 * std::log(2) + std::log(3)) / 5, 1e-6);
  EXPECT_NEAR(got.mean_distance[0][1], (2 * .5 + 1) / 5, 1e-6);
  EXPECT_NEAR(got.first_token[0][1], (2 + 2 * .5 + 1.0 / 3) / 5, 1e-6);
  EXPECT_NEAR(got.current_token[0][1], (2 + 2 * .5 + 1.0 / 3) / 5, 1e-6);
}

TEST(PatternStatisticsTest, NothingAttended) {
  const PatternStatistics got = MeasurePatterns({Tensor::Zeros({1, 1, 2, 2})});
  EXPECT_EQ(got.entropy[0][0], 0);
  EXPECT_EQ(got.first_token[0][0], 0);
}

TEST(PatternStatisticsTest, ThePlantedPreviousTokenHeadLooksOneBack) {
  const auto model = PlantedInductionModel();
  const Tensor tokens = Tensor::Of<int64_t>({1, 9}, {3, 1, 4, 15, 9, 2, 6, 5, 8});
  const auto patterns = ReadPatterns(*model, tokens);
  ASSERT_TRUE(patterns.ok());
  const PatternStatistics got = MeasurePatterns(*patterns);
  EXPECT_NEAR(got.mean_distance[0][0], 8.0 / 9, 1e-9);  // the first looks at itself
  EXPECT_NEAR(got.entropy[0][0], 0, 1e-9);
  EXPECT_NEAR(got.mean_distance[0][1], 2, 1e-9);  // everything alike: (0 + .5 + 1 + ... + 4) / 9
}

}  // namespace
}  // namespace residual
