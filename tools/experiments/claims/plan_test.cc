#include "tools/experiments/claims/plan.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

struct Plan {
  int64_t steps = 5;
};
absl::StatusOr<Plan> ChangedPlan(Plan plan, const nlohmann::json& changes,
                                 const std::string& source) {
  ConfigReader c(changes, source);
  plan.steps = c.IntOr("steps", plan.steps, 1, 100);
  c.FailOnUnreadKeys({});
  RESIDUAL_RETURN_IF_ERROR(c.status());
  return plan;
}

TEST(PlanTest, AFileChangesIt) {
  const std::string path = JoinPath(testing::TempDir(), "plan.json");
  EXPECT_EQ(PlanWith(Plan(), "")->steps, 5);
  ASSERT_TRUE(WriteFileAtomically(path, R"({"steps": 7})").ok());
  EXPECT_EQ(PlanWith(Plan(), path)->steps, 7);
  ASSERT_TRUE(WriteFileAtomically(path, R"({"steps": 0})").ok());
  EXPECT_THAT(std::string(PlanWith(Plan(), path).status().message()),
              testing::AllOf(testing::HasSubstr("plan.json"), testing::HasSubstr("'steps' is 0")));
  EXPECT_FALSE(PlanWith(Plan(), path + ".not").ok());
}

TEST(PlanTest, TheWorstOfTheSeeds) {
  const auto itself = [](double x) { return x; };
  EXPECT_EQ(LeastOf(std::vector<double>{2, 1, 3}, itself), 1);
  EXPECT_EQ(MostOf(std::vector<double>{2, 1, 3}, itself), 3);
  EXPECT_TRUE(std::isnan(LeastOf(std::vector<double>{2, NAN, 3}, itself)));
  EXPECT_TRUE(std::isnan(MostOf(std::vector<double>{NAN, 3}, itself)));
}

}  // namespace
}  // namespace residual
