#include "models/train/schedule.h"

#include <cmath>

#include "gtest/gtest.h"

namespace residual {
namespace {

TEST(ScheduleTest, ConstantAfterTheWarmUp) {
  Schedule s;
  s.lr = 2;
  s.warmup_steps = 4;
  EXPECT_EQ(s.Rate(0), 0);
  EXPECT_EQ(s.Rate(1), 0.5);
  EXPECT_EQ(s.Rate(4), 2);
  EXPECT_EQ(s.Rate(1000), 2);
}

// transformers' get_linear_schedule_with_warmup and get_cosine_schedule_with_warmup.
TEST(ScheduleTest, LinearAndCosineEndAtZero) {
  Schedule s;
  s.kind = ScheduleKind::kLinear;
  s.lr = 3e-4;
  s.warmup_steps = 10;
  s.total_steps = 100;
  EXPECT_DOUBLE_EQ(s.Rate(5), 1.5e-4);
  EXPECT_DOUBLE_EQ(s.Rate(55), 1.5e-4);
  EXPECT_EQ(s.Rate(100), 0);
  EXPECT_EQ(s.Rate(104), 0);
  s.kind = ScheduleKind::kCosine;
  EXPECT_DOUBLE_EQ(s.Rate(10), 3e-4);
  EXPECT_DOUBLE_EQ(s.Rate(40), 3e-4 * 0.5 * (1 + std::cos(M_PI / 3)));
  EXPECT_NEAR(s.Rate(100), 0, 1e-20);
  s.final_fraction = 0.1;
  EXPECT_DOUBLE_EQ(s.Rate(200), 3e-5);
}

// Vaswani et al. 2017, eq. 3: the peak is at t = warmup, d_model^-0.5 warmup^-0.5.
TEST(ScheduleTest, NoamPeaksAtTheEndOfTheWarmUp) {
  Schedule s;
  s.kind = ScheduleKind::kNoam;
  s.lr = 1;
  s.d_model = 512;
  s.warmup_steps = 4000;
  EXPECT_DOUBLE_EQ(s.Rate(3999), 1 / std::sqrt(512.0 * 4000));
  EXPECT_LT(s.Rate(3998), s.Rate(3999));
  EXPECT_LT(s.Rate(4000), s.Rate(3999));
  EXPECT_DOUBLE_EQ(s.Rate(0), std::pow(4000, -1.5) / std::sqrt(512.0));
  EXPECT_DOUBLE_EQ(s.Peak(), s.Rate(3999));
  s.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(s.Peak(), s.Rate(0));
  s.kind = ScheduleKind::kCosine;
  EXPECT_EQ(s.Peak(), 1);
}

// PyTorch's OneCycleLR(max_lr=1, total_steps=10) with its defaults.
TEST(ScheduleTest, OneCycleIsPyTorchs) {
  Schedule s;
  s.kind = ScheduleKind::kOneCycle;
  s.lr = 1;
  s.total_steps = 10;
  const double expected[] = {0.04,        0.52,        1.0,         0.950484437,  0.811745103,
                             0.611260466, 0.388739534, 0.188254898, 0.0495155671, 4e-6};
  for (int i = 0; i < 10; ++i) EXPECT_NEAR(s.Rate(i), expected[i], 1e-5) << i;
}

TEST(ScheduleTest, NamesGoBothWays) {
  for (const std::string& name : ScheduleKindNames()) {
    EXPECT_EQ(ScheduleKindName(*ScheduleKindFromName(name)), name);
  }
  EXPECT_FALSE(ScheduleKindFromName("cosin").has_value());
}

}  // namespace
}  // namespace residual
