#include "tools/experiments/framework/framework.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace residual {
namespace {

using ::testing::HasSubstr;

// Sentences of a few words, so that there are skip-trigrams to find.
std::string Text() {
  const char* const verbs[] = {"keep", "hold", "take", "bring"};
  const char* const ends[] = {"in mind", "at bay", "to heart", "on time"};
  std::string text;
  uint32_t state = 7;
  for (int i = 0; i < 1500; ++i) {
    state = state * 1664525u + 1013904223u;
    absl::StrAppend(&text, "we ", verbs[(state >> 16) % 4], " it ", ends[(state >> 20) % 4], ". ");
  }
  return text;
}

// Too little to learn much: what is measured and said, not what is found.
FrameworkPlan Small() {
  FrameworkPlan plan;
  plan.d_model = 16;
  plan.n_heads = 2;
  plan.context = 24;
  plan.vocab_size = 280;
  plan.batch_size = 4;
  plan.steps = 4;
  plan.seeds = 2;
  plan.rows = 3;
  plan.random_models = 3;
  return plan;
}

TEST(FrameworkTest, MeasuresEverySeedAndClaimsWhatItMeasured) {
  std::vector<std::string> lines;
  ExperimentOptions options;
  options.seed = 5;
  options.say = [&](const std::string& line) { lines.push_back(line); };
  const auto findings = RunFramework(Small(), Text(), "sentences", options);
  ASSERT_TRUE(findings.ok()) << findings.status();
  EXPECT_THAT(lines[0], HasSubstr("sentences: "));
  EXPECT_THAT(lines.back(), HasSubstr("2 layers, seed 6, step 4"));
  ASSERT_EQ(findings->claims.size(), 16);
  for (const Claim& claim : findings->claims) {
    EXPECT_TRUE(std::isfinite(claim.ours)) << claim.claim;
    EXPECT_LT(claim.low, claim.high) << claim.claim;
  }
  // Exact, whatever was learned; nothing else was.
  EXPECT_TRUE(findings->claims[2].pass()) << findings->claims[2].ours;
  EXPECT_GT(findings->claims[2].ours, 0);
  EXPECT_FALSE(findings->claims[0].pass());
  EXPECT_FALSE(findings->claims[10].pass());
  const std::string page = findings->report.ToString();
  for (const char* part : {"which token follows which", "heads that copy", "skip-trigrams",
                           "who reads whom", "induction heads", "each kind of path"}) {
    EXPECT_THAT(page, HasSubstr(part));
  }

  const auto again = RunFramework(Small(), Text(), "sentences", options);
  ASSERT_TRUE(again.ok());
  for (size_t i = 0; i < again->claims.size(); ++i) {
    EXPECT_EQ(again->claims[i].ours, findings->claims[i].ours) << i;
  }
}

TEST(FrameworkTest, ATextTooShortIsRefused) {
  ExperimentOptions options;
  options.say = [](const std::string&) {};
  const absl::Status status = RunFramework(Small(), "we keep it", "a line", options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
}

TEST(FrameworkTest, PlansChangeByNameAndSayWhatIsWrong) {
  const auto plan = ChangedPlan(QuickFramework(), {{"steps", 7}, {"repeat", 0.25}}, "c.json");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->steps, 7);
  EXPECT_EQ(plan->repeat, 0.25);
  EXPECT_EQ(plan->d_model, QuickFramework().d_model);
  const auto because = [](const nlohmann::json& changes) {
    return std::string(ChangedPlan({}, changes, "c.json").status().message());
  };
  EXPECT_THAT(because({{"step", 7}}), HasSubstr("step"));
  EXPECT_THAT(because({{"n_heads", 7}}), HasSubstr("a divisor of 'd_model', 128"));
  EXPECT_GE(FullFramework().seeds, 3);
  EXPECT_GT(FullFramework().steps, QuickFramework().steps);
}

}  // namespace
}  // namespace residual
