// Greedy and beam search on checkpoints of transformers, against what its generate makes of them:
// see README.md.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "models/checkpoint/config_reader.h"
#include "models/generate/beam_search.h"
#include "models/generate/generate.h"
#include "models/zoo/zoo.h"

namespace residual {
namespace {

using Ids = std::vector<int64_t>;
using nlohmann::json;

class GenerateGoldenTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto loaded = LoadModel(absl::StrCat("tests/goldens/", GetParam()));
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    model_ = std::move(loaded->model);
    const auto runs =
        ReadJsonObject(absl::StrCat("tests/goldens/generate/", GetParam(), ".json"), 1 << 20);
    ASSERT_TRUE(runs.ok()) << runs.status();
    runs_ = *runs;
    prompts_ = runs_["prompts"].get<std::vector<Ids>>();
  }

  std::vector<Ids> Greedy(const Ids& stop_tokens) const {
    GenerateOptions options;
    options.sampler.temperature = 0;
    options.max_new_tokens = runs_["max_new_tokens"];
    options.stop_tokens = stop_tokens;
    const auto generated = Generate(*model_, prompts_, options);
    EXPECT_TRUE(generated.ok()) << generated.status();
    std::vector<Ids> tokens;
    for (const Continuation& c : generated->continuations) tokens.push_back(c.tokens);
    return tokens;
  }

  void ExpectBeams(const json& want, const Ids& stop_tokens) const {
    BeamSearchOptions options;
    options.num_beams = runs_["num_beams"];
    options.length_penalty = runs_["length_penalty"];
    options.max_new_tokens = runs_["max_new_tokens"];
    options.stop_tokens = stop_tokens;
    for (size_t row = 0; row < prompts_.size(); ++row) {
      const auto found = BeamSearch(*model_, prompts_[row], options);
      ASSERT_TRUE(found.ok()) << found.status();
      ASSERT_EQ(found->beams.size(), want[row].size());
      for (size_t i = 0; i < want[row].size(); ++i) {
        EXPECT_EQ(found->beams[i].tokens, want[row][i]["tokens"].get<Ids>())
            << "row " << row << ", beam " << i;
        EXPECT_NEAR(found->beams[i].score, want[row][i]["score"].get<double>(), 1e-4)
            << "row " << row << ", beam " << i;
      }
    }
  }

  std::unique_ptr<ResidualModel> model_;
  json runs_;
  std::vector<Ids> prompts_;
};

INSTANTIATE_TEST_SUITE_P(Cases, GenerateGoldenTest,
                         testing::Values("gpt2_tiny", "gpt2_options", "neox_parallel",
                                         "neox_sequential", "llama_tiny", "llama_options",
                                         "mamba_auto", "mamba_bias", "mamba2_tiny"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(GenerateGoldenTest, Greedy) {
  EXPECT_EQ(Greedy({}), runs_["greedy"].get<std::vector<Ids>>());
}

TEST_P(GenerateGoldenTest, GreedyWithAStopToken) {
  if (!runs_.contains("greedy_with_stop")) GTEST_SKIP() << "recorded without";
  const json& want = runs_["greedy_with_stop"];
  EXPECT_EQ(Greedy({want["stop"].get<int64_t>()}), want["tokens"].get<std::vector<Ids>>());
}

TEST_P(GenerateGoldenTest, Beams) {
  if (!runs_.contains("beams")) GTEST_SKIP() << "recorded without";
  ExpectBeams(runs_["beams"], {});
}

TEST_P(GenerateGoldenTest, BeamsWithAStopToken) {
  if (!runs_.contains("beams")) GTEST_SKIP() << "recorded without";
  const json& want = runs_["beams_with_stop"];
  ExpectBeams(want["beams"], {want["stop"].get<int64_t>()});
}

}  // namespace
}  // namespace residual
