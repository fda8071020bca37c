#include "tools/experiments/mamba/plan/induction_plan.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/experiments/claims/plan.h"

namespace residual {
namespace {

using ::testing::HasSubstr;

TEST(InductionPlanTest, PlansChangeByNameAndSayWhatIsWrong) {
  const auto changed = ChangedPlan(FullInduction(), {{"train_log", 7}, {"lr", 0.5}}, "x.json");
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ(changed->train_log, 7);
  EXPECT_EQ(changed->lr, 0.5);
  EXPECT_EQ(changed->longest_log, FullInduction().longest_log);
  const auto message = [](const nlohmann::json& json) {
    return std::string(ChangedPlan(FullInduction(), json, "x.json").status().message());
  };
  EXPECT_THAT(message({{"trainlog", 7}}), HasSubstr("trainlog"));
  EXPECT_THAT(message({{"train_log", 5}, {"first_log", 6}}), HasSubstr("'first_log' is 6"));
  EXPECT_THAT(message({{"shortest_log", 9}}), HasSubstr("'shortest_log' is 9"));
  // Shorter rows than the plan's first lesson need none.
  EXPECT_EQ(ChangedPlan(FullInduction(), {{"train_log", 5}}, "x.json")->first_log, 5);
  EXPECT_THAT(message({{"train_log", 9}, {"longest_log", 8}}), HasSubstr("'longest_log' is 8"));
  EXPECT_THAT(message({{"claimed_log", 21}}), HasSubstr("'claimed_log' is 21"));
}

TEST(InductionPlanTest, ThePapersTrainingIsAFile) {
  const auto paper = PlanWith(FullInduction(), "tools/experiments/mamba/full.json");
  ASSERT_TRUE(paper.ok()) << paper.status();
  EXPECT_EQ(paper->train_log, 8);
  EXPECT_EQ(paper->first_log, 8);
  EXPECT_EQ(paper->shortest_log, 6);
  EXPECT_EQ(paper->batch_size, 8);
  EXPECT_EQ(paper->steps, 204800);
  EXPECT_EQ(paper->pass_state, 0);
  EXPECT_EQ(paper->label_smoothing, 0);
  EXPECT_FALSE(paper->cosine);
}

TEST(InductionPlanTest, ThePlansReachFarBeyondTheirTraining) {
  for (const InductionPlan& plan : {FullInduction(), QuickInduction()}) {
    EXPECT_GE(plan.longest_log - plan.train_log, 8);
    EXPECT_GE(plan.claimed_log - plan.train_log, 3);
    EXPECT_GE(plan.attention_log - plan.train_log, 5);
  }
  EXPECT_EQ(FullInduction().train_log, 8);
  EXPECT_GE(FullInduction().claimed_log, 16);
  EXPECT_EQ(FullInduction().longest_log, 20);
  EXPECT_GE(FullInduction().seeds, 3);
}

}  // namespace
}  // namespace residual
