#include "interp/heads/map_scores.h"

#include <cmath>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "interp/heads/pattern_statistics.h"
#include "interp/testing/planted_circuit.h"
#include "interp/testing/small_models.h"
#include "interp/token_maps/token_maps.h"
#include "models/nn/module.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

std::unique_ptr<ResidualModel> Mixed() {
  TransformerConfig config;
  config.d_model = 6;
  config.n_ctx = 256;
  config.d_vocab = 13;
  config.n_heads = 2;
  config.d_head = 3;
  config.d_mlp = 5;
  config.d_inner = 40;
  config.d_state = 3;
  config.blocks = {{"mamba"}, {"mlp"}, {"attn"}};
  auto model = BuildTransformer(config);
  Initialize(*model, 3);
  return model;
}

TEST(MapScoresTest, OfHeadsTheyAreThoseOfTheirPatterns) {
  const auto model = PlantedInductionModel();
  std::vector<int64_t> vocabulary;
  for (int64_t i = 0; i < model->d_vocab(); ++i) vocabulary.push_back(i);
  const Tensor tokens = RepeatedTokensAfterFirst(2, 5, vocabulary, 1);
  const auto scores = ScoreMaps(*model, tokens);
  ASSERT_TRUE(scores.ok()) << scores.status();
  const std::vector<Tensor> patterns = ReadPatterns(*model, tokens).value();
  const auto& tables = scores->tables;
  EXPECT_EQ(tables.at("previous_token"), DetectHeads(patterns, tokens, HeadKind::kPreviousToken));
  EXPECT_EQ(tables.at("induction"), DetectHeads(patterns, tokens, HeadKind::kInduction));
  EXPECT_EQ(tables.at("induction_stripe"), InductionStripes(patterns));
  EXPECT_EQ(tables.at("pattern.entropy"), MeasurePatterns(patterns).entropy);
  EXPECT_EQ(tables.count("memory.length"), 0u);
  EXPECT_EQ(scores->unit, (std::vector<char>{'H', 'H'}));
}

// So long that the 40 channels come in several pieces.
TEST(MapScoresTest, ChannelsAreScoredByTheirHiddenAttention) {
  const auto model = Mixed();
  const Tensor tokens = RepeatedTokensAfterFirst(1, 100, {1, 4, 9, 2, 7}, 1);
  const auto scores = ScoreMaps(*model, tokens);
  ASSERT_TRUE(scores.ok()) << scores.status();
  EXPECT_EQ(scores->unit, (std::vector<char>{'C', 0, 'H'}));
  const auto sources = ReadTokenMaps(*model, tokens).value();
  for (const auto& [name, table] : scores->tables) {
    ASSERT_EQ(table.size(), 3u) << name;
    EXPECT_EQ(table[0].size(), 40u) << name;
    EXPECT_TRUE(table[1].empty()) << name;
    EXPECT_EQ(table[2].size(), 2u) << name;
  }
  const Tensor last = sources[0].Weights({39});
  EXPECT_EQ(scores->tables.at("pattern.mean_distance")[0][39],
            MeasurePatterns({last}).mean_distance[0][0]);
  EXPECT_EQ(scores->tables.at("induction")[0][39],
            DetectHeads({last}, tokens, HeadKind::kInduction)[0][0]);
  const std::vector<double> lengths = MemoryLengths(sources[0].Memory());
  EXPECT_EQ(scores->tables.at("memory.length")[0], lengths);
  EXPECT_TRUE(std::isnan(scores->tables.at("memory.length")[2][0]));
  const std::vector<double> steps = sources[0].Memory().step.ToDoubles();
  double mean = 0;
  for (int t = 0; t < 201; ++t) mean += steps[t * 40 + 7] / 201;
  EXPECT_NEAR(scores->tables.at("memory.step")[0][7], mean, 1e-9);
}

TEST(MapScoresTest, NothingToScore) {
  const auto model = BuildTransformer(MlpOnlyConfig());
  Initialize(*model, 3);
  EXPECT_EQ(ScoreMaps(*model, Tensor::Zeros({1, 5}, kI64)).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace residual
