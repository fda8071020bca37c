#include "tools/experiments/s4/s4_mnist.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/checkpoint/config_reader.h"
#include "models/data/labeled/drawn_digits.h"

namespace residual {
namespace {

using ::testing::HasSubstr;

// Too little to learn much: what is measured and said, not what is found.
S4MnistPlan Small() {
  S4MnistPlan plan;
  plan.d_model = 4;
  plan.d_state = 4;
  plan.n_layers = 1;
  plan.epochs = 2;
  plan.batch_size = 10;
  plan.seeds = 2;
  plan.rows = 30;
  plan.validation = 10;
  plan.pool = 2;
  return plan;
}

TEST(S4MnistTest, TrainsBothOnEverySeedAndClaimsWhatItMeasured) {
  std::vector<std::string> lines;
  ExperimentOptions options;
  options.seed = 5;
  options.say = [&](const std::string& line) { lines.push_back(line); };
  const TrainAndTest data = {DrawnDigits(60, 12, 1), DrawnDigits(30, 12, 2)};
  const auto findings = RunS4Mnist(Small(), data, "drawings", options);
  ASSERT_TRUE(findings.ok()) << findings.status();
  EXPECT_EQ(lines[0], "drawings: 30 images of 36 pixels to train on, 10 held out, 30 to test");
  int tested = 0;
  for (const std::string& line : lines) tested += line.find("  test accuracy") == 0;
  EXPECT_EQ(tested, 4);
  ASSERT_EQ(findings->claims.size(), 6);
  // Nothing was learned, and so nothing is claimed.
  EXPECT_FALSE(findings->claims[0].pass());
  EXPECT_DOUBLE_EQ(findings->claims[2].ours, findings->claims[0].ours - findings->claims[1].ours);
  EXPECT_LE(findings->claims[3].ours, findings->claims[2].ours);
  // Convolution and recurrence are equal whatever was learned.
  EXPECT_TRUE(findings->claims[4].pass());
  EXPECT_EQ(findings->claims[5].ours, 1);
  EXPECT_THAT(findings->report.ToString(), HasSubstr("HiPPO (LegS)"));

  const auto again = RunS4Mnist(Small(), data, "drawings", options);
  ASSERT_TRUE(again.ok());
  for (size_t i = 0; i < again->claims.size(); ++i) {
    EXPECT_EQ(again->claims[i].ours, findings->claims[i].ours) << i;
  }
}

TEST(S4MnistTest, PlansChangeByNameAndSayWhatIsWrong) {
  const auto changes = ReadJsonObject("tools/experiments/s4/full.json", 1 << 16);
  ASSERT_TRUE(changes.ok()) << changes.status();
  const auto full = ChangedPlan(CpuS4Mnist(), *changes, "full.json");
  ASSERT_TRUE(full.ok()) << full.status();
  EXPECT_EQ(full->d_model, 128);
  EXPECT_EQ(full->kind, "s4");
  EXPECT_GE(full->seeds, 3);
  EXPECT_EQ(full->pool, 1);
  const auto message = [](const nlohmann::json& json) {
    return std::string(ChangedPlan(CpuS4Mnist(), json, "x.json").status().message());
  };
  EXPECT_THAT(message({{"kind", "s5"}}), HasSubstr("x.json: 'kind' is \"s5\""));
  EXPECT_THAT(message({{"epocs", 3}}), HasSubstr("epocs"));
  EXPECT_THAT(message({{"epochs", 0}}), HasSubstr("'epochs' is 0"));
}

TEST(S4MnistTest, ThePlansHaveThreeSeeds) {
  EXPECT_GE(CpuS4Mnist().seeds, 3);
  EXPECT_GE(QuickS4Mnist().seeds, 3);
  EXPECT_GE(CpuS4Mnist().hippo_least, 0.96);
}

}  // namespace
}  // namespace residual
