#include "interp/heads/head_scores.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "gtest/gtest.h"
#include "interp/testing/planted_circuit.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

// Two rows of eight different tokens, each row twice.
Tensor DifferentTokens() {
  return Tensor::Of<int64_t>({2, 16}, {3, 1, 4,  15, 9, 2,  6, 5, 3, 1, 4,  15, 9, 2,  6, 5,  //
                                       7, 0, 12, 19, 8, 11, 2, 4, 7, 0, 12, 19, 8, 11, 2, 4});
}

TEST(HeadScoresTest, PlantedHeadsScoreOneAndIdleHeadsWhatUniformAttentionGives) {
  const auto model = PlantedInductionModel();
  const absl::StatusOr<HeadScores> scores = ScoreHeads(*model, DifferentTokens());
  ASSERT_TRUE(scores.ok()) << scores.status();
  EXPECT_NEAR(scores->previous_token[0][0], 1, 1e-9);
  EXPECT_NEAR(scores->induction[1][0], 1, 1e-9);
  EXPECT_NEAR(scores->duplicate_token[1][0], 0, 1e-9);
  EXPECT_NEAR(scores->induction[0][0], 0, 1e-9);
  // A head that attends to all i + 1 positions alike.
  double second_half = 0, from_the_second = 0;
  for (int i = 8; i < 16; ++i) second_half += 1.0 / (i + 1) / 8;
  for (int i = 1; i < 16; ++i) from_the_second += 1.0 / (i + 1) / 15;
  for (int layer : {0, 1}) {
    EXPECT_NEAR(scores->induction[layer][1], second_half, 1e-12);
    EXPECT_NEAR(scores->duplicate_token[layer][1], second_half, 1e-12);
    EXPECT_NEAR(scores->previous_token[layer][1], from_the_second, 1e-12);
  }
  EXPECT_EQ(Best(scores->induction).head, (HeadIndex{1, 0}));
  EXPECT_EQ(Best(scores->previous_token).head, (HeadIndex{0, 0}));
}

TEST(HeadScoresTest, WithoutThePreviousTokenHeadTheInductionHeadIsLost) {
  const auto model = PlantedInductionModel();
  const HeadScores scores = *ScoreHeads(*model, DifferentTokens(), {{0, 0}});
  EXPECT_LT(scores.induction[1][0], 0.12);            // as a head that attends to all alike
  EXPECT_NEAR(scores.previous_token[0][0], 1, 1e-9);  // it looks, and moves nothing
  EXPECT_NEAR(ScoreHeads(*model, DifferentTokens(), {{0, 1}, {1, 1}})->induction[1][0], 1, 1e-9);

  PlantedOptions cut;
  cut.previous_token = false;
  EXPECT_LT(ScoreHeads(*PlantedInductionModel(cut), DifferentTokens())->induction[1][0], 0.12);
}

TEST(HeadScoresTest, OneLayerHasNoInductionHead) {
  const auto model = PlantedPreviousTokenModel();
  const HeadScores scores = *ScoreHeads(*model, DifferentTokens());
  ASSERT_EQ(scores.induction.size(), 1);
  EXPECT_LT(Best(scores.induction).score, 0.12);
  EXPECT_NEAR(Best(scores.previous_token).score, 1, 1e-9);
}

TEST(HeadScoresTest, RefusesWhatIsNotAPassageRepeatedOnce) {
  const auto model = PlantedInductionModel();
  auto message = [&](const Tensor& tokens) {
    return std::string(ScoreHeads(*model, tokens).status().message());
  };
  EXPECT_EQ(message(Tensor::Of<int64_t>({1, 4}, {1, 2, 1, 3})),
            "row 0 of the tokens i64[1, 4] is not a passage repeated once");
  EXPECT_EQ(message(Tensor::Of<int64_t>({1, 5}, {1, 2, 1, 2, 1})),
            "the tokens are i64[1, 5], expected a passage of at least two tokens repeated once: "
            "[batch, 2 n]");
  EXPECT_NE(message(Tensor::Of<int64_t>({1, 2}, {1, 1})).find("at least two tokens"), -1);
  EXPECT_NE(message(Tensor::Of<int64_t>({1, 4}, {1, 20, 1, 20})).find("vocabulary of 20"), -1);
  EXPECT_NE(message(Tensor::Zeros({1, 18}, kI64)).find("context of 16"), -1);
}

std::unique_ptr<ResidualModel> RandomModel(const std::vector<std::vector<std::string>>& blocks) {
  TransformerConfig config;
  config.d_model = 8;
  config.n_ctx = 16;
  config.d_vocab = 20;
  config.blocks = blocks;
  config.n_heads = 2;
  config.d_head = 4;
  config.d_mlp = 16;
  auto model = BuildTransformer(config);
  Initialize(*model, 1);
  return model;
}

TEST(HeadScoresTest, ALayerWithoutAttentionHasAnEmptyRow) {
  const auto model = RandomModel({{"mlp"}, {"attn"}});
  const Tensor tokens = Tensor::Of<int64_t>({1, 4}, {1, 2, 1, 2});
  const HeadScores scores = *ScoreHeads(*model, tokens);
  EXPECT_TRUE(scores.induction[0].empty());
  EXPECT_EQ(scores.induction[1].size(), 2);
  EXPECT_EQ(Best(scores.induction).head.layer, 1);

  EXPECT_EQ(HeadsPerLayer(*model), (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(CheckHeads(*model, {{0, 0}}).message(),
            "the model has no head L0H0: layer 0 has 0 heads");
  EXPECT_TRUE(CheckHeads(*model, {{1, 0}, {1, 1}}).ok());

  EXPECT_EQ(ScoreHeads(*RandomModel({{"mlp"}}), tokens).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(Best({}).head, HeadIndex());
}

TEST(HeadScoresTest, ZeroHeadsZeroesTheseHeadsOnly) {
  const auto model = RandomModel({{"attn"}, {"attn"}});
  Hooks hooks;
  ZeroHeads({{0, 0}, {1, 1}}, hooks);
  std::vector<Tensor> z(2);
  hooks.Read("blocks.0.attn.hook_z", [&](absl::string_view, const Tensor& x) { z[0] = x; });
  hooks.Read("blocks.1.attn.hook_z", [&](absl::string_view, const Tensor& x) { z[1] = x; });
  ASSERT_TRUE(model->Run({DifferentTokens()}, &hooks).ok());
  for (int layer : {0, 1}) {
    const std::vector<double> values = z[layer].ToDoubles();
    const int64_t d_head = z[layer].dim(3);
    for (size_t i = 0; i < values.size(); i += d_head) {
      const int head = static_cast<int>(i / d_head % 2);
      const bool zero = std::all_of(values.begin() + i, values.begin() + i + d_head,
                                    [](double x) { return x == 0; });
      EXPECT_EQ(zero, head == layer);
    }
  }
}

TEST(HeadScoresTest, RepeatedRandomTokensAreRepeatedAndFromTheVocabulary) {
  const std::vector<int64_t> vocabulary = {2, 3, 5, 7, 11};
  const Tensor tokens = RepeatedRandomTokens(3, 50, vocabulary, 9);
  ASSERT_EQ(tokens.shape(), Shape({3, 100}));
  std::set<int64_t> seen;
  for (int64_t b = 0; b < 3; ++b) {
    for (int64_t i = 0; i < 50; ++i) {
      const int64_t id = tokens.data<int64_t>()[b * 100 + i];
      EXPECT_EQ(id, tokens.data<int64_t>()[b * 100 + 50 + i]);
      seen.insert(id);
    }
  }
  EXPECT_EQ(seen, std::set<int64_t>(vocabulary.begin(), vocabulary.end()));
  EXPECT_EQ(tokens.ToDoubles(), RepeatedRandomTokens(3, 50, vocabulary, 9).ToDoubles());
  EXPECT_NE(tokens.ToDoubles(), RepeatedRandomTokens(3, 50, vocabulary, 10).ToDoubles());
}

TEST(HeadScoresTest, TablesAsTensors) {
  const Tensor tensor = TableTensor({{1, 2}, {}, {3}});
  EXPECT_EQ(tensor.shape(), Shape({3, 2}));
  const float* x = tensor.data<float>();
  EXPECT_EQ(x[1], 2);
  EXPECT_TRUE(std::isnan(x[2]) && std::isnan(x[3]) && std::isnan(x[5]));
  EXPECT_EQ(x[4], 3);
  EXPECT_EQ(TableTensor({}).elements(), 0);
}

}  // namespace
}  // namespace residual
