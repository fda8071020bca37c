#include "interp/expansion/path_expansion.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "interp/testing/planted_circuit.h"
#include "interp/testing/small_models.h"
#include "models/nn/module.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<ResidualModel> Make(const TransformerConfig& config, DType dtype = kF64) {
  std::unique_ptr<ResidualModel> model = BuildTransformer(config);
  Initialize(*model, 3, dtype);
  return model;
}

Tensor Tokens() {
  return Tensor::Of<int64_t>({2, 8}, {0, 3, 1, 6, 3, 1, 2, 5, 4, 4, 0, 2, 6, 6, 1, 3});
}

TEST(PathExpansionTest, TermsOfEveryDepthAddUpToTheLogits) {
  int64_t paths = 1;
  for (int layers = 0; layers <= 3; ++layers) {
    const auto model = Make(AttentionOnlyConfig(layers));
    const auto expansion = ExpandPaths(*model, Tokens());
    ASSERT_TRUE(expansion.ok()) << expansion.status();
    EXPECT_EQ(expansion->terms.size(), paths) << layers;
    EXPECT_LT(expansion->error, 1e-13) << layers;
    EXPECT_EQ(PathName(expansion->terms[0]), "direct");
    EXPECT_EQ(expansion->terms.back().heads.size(), layers);
    for (const PathTerm& term : expansion->terms) {
      EXPECT_EQ(term.logits.shape(), (Shape{2, 8, 7}));
    }
    paths *= 4;
  }
  const auto single = Make(AttentionOnlyConfig(2), kF32);
  EXPECT_LT(ExpandPaths(*single, Tokens())->error, 1e-5);
  EXPECT_GT(ExpandPaths(*single, Tokens())->error, 0);
}

TEST(PathExpansionTest, EveryTermCounts) {
  const auto model = Make(AttentionOnlyConfig(2));
  const PathExpansion expansion = *ExpandPaths(*model, Tokens());
  for (const PathTerm& term : expansion.terms) {
    double largest = 0;
    for (double x : term.logits.ToDoubles()) largest = std::max(largest, std::abs(x));
    EXPECT_GT(largest, 1e-4) << PathName(term);
  }
  EXPECT_EQ(PathName(expansion.terms[7]), "L0H0 > L1H0");
  EXPECT_THAT(expansion.terms[2].heads, ElementsAre(HeadIndex{0, 1}));
}

TEST(PathExpansionTest, OfThePreviousTokenHeadTheTermIsThatToken) {
  // W_E OV W_U of a model that copies the token before: one-hot embeddings, positions on QK.
  TransformerConfig config = AttentionOnlyConfig(1);
  config.d_model = 7;
  config.n_heads = 1;
  config.d_head = 7;
  const auto model = Make(config);
  const auto identity = [](double size, const Shape& shape) {
    std::vector<double> values(49);
    for (int i = 0; i < 7; ++i) values[8 * i] = size;
    return Tensor::Of<double>(shape, values);
  };
  SetParameter(*model, "embed.W_E", identity(1, {7, 7}));
  SetParameter(*model, "unembed.W_U", identity(1, {7, 7}));
  SetParameter(*model, "blocks.0.attn.W_V", identity(2, {1, 7, 7}));
  SetParameter(*model, "blocks.0.attn.W_O", identity(3, {1, 7, 7}));
  const PathExpansion expansion = *ExpandPaths(*model, Tokens());
  const Tensor pattern = (*ReadPatterns(*model, Tokens()))[0];
  // At position 1 of row 0 the head reads tokens 0 and 3.
  const std::vector<double> logits = expansion.terms[1].logits.Row(0).Row(1).ToDoubles();
  const std::vector<double> looks = pattern.Row(0).Row(0).Row(1).ToDoubles();
  EXPECT_NEAR(logits[0], 6 * looks[0], 1e-12);
  EXPECT_NEAR(logits[3], 6 * looks[1], 1e-12);
  EXPECT_NEAR(logits[5], 0, 1e-12);
}

TEST(PathExpansionTest, SaysWhatIsNoSum) {
  const auto because = [](const TransformerConfig& config) {
    const absl::Status status = ExpandPaths(*Make(config), Tokens()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    return std::string(status.message());
  };
  TransformerConfig config = AttentionOnlyConfig(2);
  config.norm = NormKind::kRmsNorm;
  EXPECT_THAT(because(config), HasSubstr("block 0 has the norm 'ln1'"));
  config.blocks.clear();
  EXPECT_THAT(because(config), HasSubstr("a final norm"));
  config = AttentionOnlyConfig(1);
  config.attention_bias = true;
  EXPECT_THAT(because(config), HasSubstr("the bias 'blocks.0.attn.b_Q'"));
  config = AttentionOnlyConfig(1);
  config.positions = Positions::kLearned;
  EXPECT_THAT(because(config), HasSubstr("positions are added"));
  config = AttentionOnlyConfig(1);
  config.blocks = {{"attn", "mlp"}};
  config.d_mlp = 8;
  EXPECT_THAT(because(config), HasSubstr("the mixer 'mlp'"));
  const absl::Status many = ExpandPaths(*Make(AttentionOnlyConfig(2)), Tokens(), 15).status();
  EXPECT_THAT(std::string(many.message()), HasSubstr("has 16 paths, expected at most 15"));
  EXPECT_EQ(
      ExpandPaths(*Make(AttentionOnlyConfig(1)), Tensor::Full({1, 2}, 9, kI64)).status().code(),
      absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace residual
