#include "interp/lens/prompt_study.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "interp/testing/golden.h"
#include "interp/testing/planted_circuit.h"
#include "interp/testing/small_models.h"
#include "interp/token_maps/token_maps.h"
#include "models/nn/module.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

// The planted induction circuit on a passage that repeats: it is known what should be found.
TEST(PromptStudyTest, FindsThePlantedCircuit) {
  const auto model = PlantedInductionModel();
  const std::vector<int64_t> tokens = {3, 1, 4, 15, 9, 3, 1, 4};
  const auto study = StudyPrompt(*model, tokens);
  ASSERT_TRUE(study.ok()) << study.status();
  EXPECT_EQ(study->next[0], 15);
  EXPECT_GT(study->next_probs[0], 0.99);
  EXPECT_EQ(study->answer, 15);
  ASSERT_EQ(study->patterns.size(), 4);
  EXPECT_EQ(study->patterns[0].name, "L0H0");
  EXPECT_EQ(study->patterns[0].note, "previous token");
  EXPECT_EQ(study->patterns[1].note, "");
  EXPECT_NEAR(study->patterns[2].pattern.ToDoubles()[7 * 8 + 3], 1, 1e-9);
  // All of the answer's logit comes from the induction head.
  EXPECT_GT(study->heads[1][0], 0.9 * study->difference);
  EXPECT_EQ(study->patterns[2].attribution, study->heads[1][0]);
  // It is there only behind the last block.
  const LensReading& lens = study->logit_lens;
  EXPECT_EQ(lens.labels, std::vector<std::string>({"0_pre", "1_pre", "final_post"}));
  EXPECT_NE(lens.top_ids.data<int64_t>()[(1 * 8 + 7) * 5], 15);
  EXPECT_EQ(lens.top_ids.data<int64_t>()[(2 * 8 + 7) * 5], 15);
  EXPECT_FALSE(study->tuned_lens.has_value());
}

TEST(PromptStudyTest, PartsAddUpAndOptionsAreFollowed) {
  const auto model = GoldenModel();
  PromptOptions options;
  options.answer = 7;
  options.wrong = 8;
  options.top = 3;
  options.pattern_entries = 2 * 25;  // room for two of six
  const TunedLens lens(2, 24);
  options.tuned_lens = &lens;
  const auto study = StudyPrompt(*model, {5, 6, 7, 8, 9}, options);
  ASSERT_TRUE(study.ok()) << study.status();
  double sum = 0;
  for (const NamedValue& part : study->parts) sum += part.value;
  EXPECT_NEAR(sum, study->difference, 1e-4);
  EXPECT_EQ(study->parts.front().name, "embed");
  EXPECT_EQ(study->parts.back().name, "bias");
  EXPECT_EQ(study->next.size(), 3);
  EXPECT_GT(study->loss, 0);
  ASSERT_EQ(study->patterns.size(), 2);
  EXPECT_EQ(study->patterns_left_out, 4);
  double smallest_kept = INFINITY;
  int larger = 0;
  for (const PromptPattern& p : study->patterns) {
    smallest_kept = std::min(smallest_kept, std::abs(p.attribution));
  }
  for (const std::vector<double>& layer : study->heads) {
    for (const double value : layer) larger += std::abs(value) > smallest_kept;
  }
  EXPECT_EQ(larger, 1);
  // A lens of zero maps is the logit lens.
  EXPECT_EQ(study->tuned_lens->kl.ToDoubles(), study->logit_lens.kl.ToDoubles());
}

TEST(PromptStudyTest, OneTokenAndNoAttention) {
  const auto model = BuildTransformer(MlpOnlyConfig());
  Initialize(*model, 3);
  const auto study = StudyPrompt(*model, {5});
  ASSERT_TRUE(study.ok()) << study.status();
  EXPECT_TRUE(std::isnan(study->loss));
  EXPECT_TRUE(study->patterns.empty());
  EXPECT_TRUE(study->heads[0].empty());
}

// Of 40 channels the ones that move most, and what the memory does.
TEST(PromptStudyTest, AStateSpaceIsShownToo) {
  TransformerConfig config;
  config.d_model = 8;
  config.n_ctx = 16;
  config.d_vocab = 11;
  config.d_inner = 40;
  config.d_state = 3;
  config.blocks = {{"mamba"}, {"mamba"}};
  const auto model = BuildTransformer(config);
  Initialize(*model, 3);
  const std::vector<int64_t> tokens = {5, 1, 7, 5, 2};
  PromptOptions options;
  options.channels = 3;
  const auto study = StudyPrompt(*model, tokens, options);
  ASSERT_TRUE(study.ok()) << study.status();
  EXPECT_TRUE(study->has_channels);
  ASSERT_EQ(study->patterns.size(), 8u);
  EXPECT_EQ(study->patterns[0].name, "L0 mean");
  EXPECT_EQ(study->patterns[4].name, "L1 mean");
  const auto sources = ReadTokenMaps(*model, Tensor::Of<int64_t>({1, 5}, tokens)).value();
  for (const TokenMapSource& source : sources) {
    std::vector<std::pair<double, std::string>> moved;
    std::vector<double> sizes(25);
    for (int64_t c = 0; c < 40; ++c) {
      const std::vector<double> map = source.Maps({c}).ToDoubles();
      double sum = 0;
      for (int i = 0; i < 25; ++i) {
        sizes[i] += std::abs(map[i]);
        if (i / 5 > i % 5) sum += std::abs(map[i]);
      }
      moved.push_back({sum, source.Name(c)});
    }
    std::sort(moved.rbegin(), moved.rend());
    std::set<std::string> wanted, found;
    for (int i = 0; i < 3; ++i) {
      wanted.insert(moved[i].second);
      found.insert(study->patterns[4 * source.layer() + 1 + i].name);
    }
    EXPECT_EQ(found, wanted);
    const std::vector<double> mean = study->patterns[4 * source.layer()].pattern.ToDoubles();
    for (int query = 0; query < 5; ++query) {
      double sum = 0;
      for (int key = 0; key < 5; ++key) sum += sizes[5 * query + key];
      for (int key = 0; key < 5; ++key) {
        EXPECT_NEAR(mean[5 * query + key], sizes[5 * query + key] / sum, 1e-6);
      }
    }
  }
  ASSERT_EQ(study->memories.size(), 2u);
  const PromptMemory& memory = study->memories[1];
  EXPECT_EQ(memory.name, "L1");
  EXPECT_EQ(memory.n_units, 40);
  double steps = 0;
  for (int t = 0; t < 5; ++t) {
    steps += memory.step[t];
    EXPECT_LE(memory.kept_low[t], memory.kept_median[t]);
    EXPECT_GT(memory.kept_low[t], 0);
    EXPECT_LT(memory.kept_median[t], 1);
  }
  EXPECT_NEAR(steps, 5, 1e-6);  // each relative to its own mean
  EXPECT_LT(memory.length_low, memory.length_median);
  EXPECT_LT(memory.length_median, memory.length_high);
}

TEST(PromptStudyTest, WhatIsWrongIsNamed) {
  const auto model = GoldenModel();
  auto error = [&](const std::vector<int64_t>& tokens, int64_t answer, int64_t wrong) {
    PromptOptions options;
    options.answer = answer;
    options.wrong = wrong;
    const absl::Status status = StudyPrompt(*model, tokens, options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_EQ(error({1, 2}, 89, -1), "answer: 89 is outside the vocabulary of 89");
  EXPECT_EQ(error({1, 2}, 3, 3), "wrong: 3 with the answer 3, expected another token");
  EXPECT_TRUE(absl::StrContains(error({1, 89}, -1, -1), "vocabulary of 89"));
  error({}, -1, -1);
}

}  // namespace
}  // namespace residual
