#include "tools/experiments/copying/plan/copying_plan.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/experiments/claims/plan.h"

namespace residual {
namespace {

using ::testing::HasSubstr;

TEST(CopyingPlanTest, PlansChangeByNameAndSayWhatIsWrong) {
  const auto full = PlanWith(CpuCopying(), "tools/experiments/copying/full.json");
  ASSERT_TRUE(full.ok()) << full.status();
  EXPECT_EQ(full->context, 4096);
  EXPECT_EQ(full->first_context, 4096);
  EXPECT_EQ(full->steps, 400000);
  EXPECT_FALSE(full->cosine);
  const auto shorter = ChangedPlan(CpuCopying(), {{"context", 48}}, "x.json");
  ASSERT_TRUE(shorter.ok()) << shorter.status();
  EXPECT_EQ(shorter->first_context, 48);
  const auto message = [](const nlohmann::json& json) {
    return std::string(ChangedPlan(CpuCopying(), json, "x.json").status().message());
  };
  EXPECT_THAT(message({{"n_itens", 3}}), HasSubstr("n_itens"));
  EXPECT_THAT(message({{"steps", 0}}), HasSubstr("'steps' is 0"));
  EXPECT_THAT(message({{"first_context", 1024}}), HasSubstr("'first_context' is 1024"));
}

TEST(CopyingPlanTest, ThePlanHasThreeSeedsAndHalfAnHourForEach) {
  EXPECT_GE(CpuCopying().seeds, 3);
  EXPECT_LE(CpuCopying().seconds_limit, 1800);
  EXPECT_GT(CpuCopying().seconds_limit, 0);
}

TEST(CopyingPlanTest, QuickIsLess) {
  EXPECT_LT(QuickCopying().steps * QuickCopying().seeds, CpuCopying().steps * CpuCopying().seeds);
}

}  // namespace
}  // namespace residual
