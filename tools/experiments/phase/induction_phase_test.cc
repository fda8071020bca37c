#include "tools/experiments/phase/induction_phase.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace residual {
namespace {

using ::testing::HasSubstr;

std::string Text() {
  std::string text;
  uint32_t state = 7;
  for (int i = 0; i < 3000; ++i) {
    state = state * 1664525u + 1013904223u;
    absl::StrAppend(&text, (state >> 16) % 97, i % 7 == 0 ? ". " : " ");
  }
  return text;
}

// Too little to learn much: what is measured and said, not what is found.
PhasePlan Small() {
  PhasePlan plan;
  plan.d_model = 16;
  plan.n_heads = 2;
  plan.context = 16;
  plan.vocab_size = 260;
  plan.batch_size = 2;
  plan.steps = 4;
  plan.checkpoints = 2;
  plan.seeds = 2;
  return plan;
}

TEST(InductionPhaseTest, MeasuresAllFourAndClaimsWhatItMeasured) {
  std::vector<std::string> lines;
  ExperimentOptions options;
  options.seed = 5;
  options.say = [&](const std::string& line) { lines.push_back(line); };
  const auto findings = RunPhase(Small(), Text(), "numbers", options);
  ASSERT_TRUE(findings.ok()) << findings.status();
  for (const char* name :
       {"two layers,", "one layer,", "two layers, smeared keys,", "one layer, smeared keys,"}) {
    EXPECT_THAT(lines, testing::Contains(HasSubstr(absl::StrCat(name, " seed 6, step 4:"))));
  }
  ASSERT_EQ(findings->claims.size(), 14);
  // Nothing was learned, and so nothing is claimed.
  EXPECT_FALSE(findings->claims[0].pass());
  EXPECT_TRUE(findings->claims[1].pass());
  EXPECT_FALSE(findings->claims[2].pass());
  EXPECT_FALSE(findings->claims[4].pass());
  EXPECT_FALSE(findings->claims[7].pass());
  EXPECT_FALSE(findings->claims[8].pass());
  EXPECT_FALSE(findings->claims[9].pass());
  EXPECT_FALSE(findings->claims[11].pass());
  const std::string page = findings->report.ToString();
  EXPECT_THAT(page, HasSubstr("one layer, smeared keys, blocks.0.attn.alpha: 0."));
  const auto again = RunPhase(Small(), Text(), "numbers", options);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->claims[2].ours, findings->claims[2].ours);
}

TEST(InductionPhaseTest, PlansChangeByNameAndSayWhatIsWrong) {
  const auto plan = ChangedPlan(QuickPhase(), {{"steps", 7}, {"repeat", 0.25}}, "c.json");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->steps, 7);
  EXPECT_EQ(plan->repeat, 0.25);
  const auto because = [](const nlohmann::json& changes) {
    return std::string(ChangedPlan({}, changes, "c.json").status().message());
  };
  EXPECT_THAT(because({{"step", 7}}), HasSubstr("step"));
  EXPECT_THAT(because({{"n_heads", 7}}), HasSubstr("a divisor of 'd_model', 64"));
  EXPECT_GE(FullPhase().seeds, 3);
}

}  // namespace
}  // namespace residual
