#include "tools/experiments/copying/mamba_copying.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

// Too little to learn anything: what is measured and said, not what is found.
CopyingPlan Small() {
  CopyingPlan plan;
  plan.context = 24;
  plan.n_items = 3;
  plan.first_context = 12;
  plan.lesson_steps = 2;
  plan.d_model = 8;
  plan.batch_size = 4;
  plan.warmup_steps = 1;
  plan.steps = 4;
  plan.eval_every = 2;
  plan.seeds = 2;
  plan.measured_rows = 16;
  return plan;
}

TEST(MambaCopyingTest, TrainsBothOnEverySeedAndClaimsWhatItMeasured) {
  std::vector<std::string> lines;
  ExperimentOptions options;
  options.seed = 5;
  options.say = [&](const std::string& line) { lines.push_back(line); };
  const auto findings = RunCopying(Small(), options);
  ASSERT_TRUE(findings.ok()) << findings.status();
  ASSERT_EQ(findings->claims.size(), 5);
  // Nothing was learned: guessing is not copying, and there is no gap.
  EXPECT_FALSE(findings->claims[0].pass());
  EXPECT_LT(findings->claims[0].ours, 0.5);
  EXPECT_FALSE(findings->claims[2].pass());
  EXPECT_DOUBLE_EQ(findings->claims[2].ours, findings->claims[0].ours - findings->claims[1].ours);
  // Not yet more than a model that starts does.
  EXPECT_FALSE(findings->claims[3].pass());
  EXPECT_GT(findings->claims[3].ours, 0.5);
  EXPECT_FALSE(findings->claims[4].pass());
  EXPECT_GT(findings->claims[4].ours, 0.1);
  int copied = 0;
  for (const std::string& line : lines) copied += line.find("of 48 tokens copied") != line.npos;
  EXPECT_EQ(copied, 4);
  EXPECT_THAT(findings->report.ToString(), HasSubstr("step Δ where data is seen"));
  // The rows grow, and those that are measured at the end are the longest.
  EXPECT_THAT(lines, Contains(HasSubstr("step 2: rows of 12")));
  EXPECT_THAT(lines, Contains(HasSubstr("step 4: rows of 24")));

  const auto again = RunCopying(Small(), options);
  ASSERT_TRUE(again.ok());
  for (size_t i = 0; i < again->claims.size(); ++i) {
    EXPECT_EQ(again->claims[i].ours, findings->claims[i].ours) << i;
  }
}

TEST(MambaCopyingTest, RowsThatCannotHoldTheirItemsAreRefused) {
  CopyingPlan plan = Small();
  plan.n_items = 13;
  ExperimentOptions options;
  options.say = [](const std::string&) {};
  const absl::Status status = RunCopying(plan, options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("13"));
}

}  // namespace
}  // namespace residual
