#include "tools/experiments/mamba/mamba_induction.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

using ::testing::HasSubstr;

// Too little to learn anything: what is measured and said, not what is found.
InductionPlan Small() {
  InductionPlan plan;
  plan.train_log = 4;
  plan.claimed_log = 5;
  plan.longest_log = 6;
  plan.attention_log = 5;
  plan.steps = 4;
  plan.eval_every = 2;
  plan.seeds = 2;
  plan.measured_tokens = 1;  // 16 rows of each length
  return plan;
}

TEST(MambaInductionTest, MeasuresEveryLengthAndClaimsWhatItMeasured) {
  std::vector<std::string> lines;
  ExperimentOptions options;
  options.seed = 5;
  options.say = [&](const std::string& line) { lines.push_back(line); };
  const auto findings = RunInduction(Small(), options);
  ASSERT_TRUE(findings.ok()) << findings.status();
  ASSERT_EQ(findings->claims.size(), 8);
  // Guessing does not pass for recalling.
  EXPECT_FALSE(findings->claims[0].pass());
  EXPECT_FALSE(findings->claims[1].pass());
  EXPECT_FALSE(findings->claims[3].pass());
  // Nor can it be lost.
  EXPECT_FALSE(findings->claims[4].pass());
  EXPECT_FALSE(findings->claims[5].pass());
  EXPECT_FALSE(findings->claims[6].pass());
  EXPECT_LE(findings->claims[1].ours, findings->claims[0].ours);
  EXPECT_THAT(findings->claims[1].claim, HasSubstr("from 2^4 to 2^5"));
  // A state of Mamba has the same bytes after 16 and after 64 tokens.
  EXPECT_EQ(findings->claims[2].ours, 1);
  // Of two seeds: Mamba at three lengths, both attentions and S4 at two.
  int measured = 0;
  for (const std::string& line : lines) measured += line.find(" of 16 rows of 2^") != line.npos;
  EXPECT_EQ(measured, 2 * (3 + 2 + 2 + 2));
  EXPECT_THAT(findings->report.ToString(), HasSubstr("attention, rotary positions"));
}

TEST(MambaInductionTest, IsAFunctionOfTheSeed) {
  ExperimentOptions options;
  options.say = [](const std::string&) {};
  InductionPlan plan = Small();
  plan.seeds = 1;
  const auto once = RunInduction(plan, options), again = RunInduction(plan, options);
  ASSERT_TRUE(once.ok() && again.ok());
  for (size_t i = 0; i < once->claims.size(); ++i) {
    EXPECT_EQ(once->claims[i].ours, again->claims[i].ours);
  }
}

}  // namespace
}  // namespace residual
