#include "tools/experiments/text_models/text_models.h"

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

using ::testing::ElementsAre;

TEST(TextModelsTest, TokensAreTheText) {
  const std::string text = "we keep it in mind. we keep it at bay. we keep it in mind.";
  const auto tokens = TokenizeText(text, 270);
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_GT(tokens->vocabulary.size(), 256);
  EXPECT_LE(tokens->vocabulary.size(), 270);
  std::string back;
  for (const int32_t id : tokens->tokens) back += tokens->vocabulary[id];
  EXPECT_EQ(back, text);
  EXPECT_LT(tokens->tokens.size(), text.size());
  EXPECT_EQ(TokenizeText(text, 7).status().code(), absl::StatusCode::kInvalidArgument);
  TokenizedText some;
  some.tokens = {5, 2, 5, 9};
  EXPECT_THAT(some.occurring(), ElementsAre(2, 5, 9));
}

std::set<std::string> Names(const AttentionOnly& shape) {
  const auto model = NewAttentionOnly(shape, 1);
  std::set<std::string> names;
  for (const Parameter& parameter : Parameters(*model)) names.insert(parameter.name);
  return names;
}

TEST(TextModelsTest, ModelsAreOfTheShape) {
  AttentionOnly shape;
  shape.d_model = 8;
  shape.n_heads = 2;
  shape.context = 6;
  shape.d_vocab = 5;
  shape.sum_of_paths = true;
  EXPECT_THAT(Names(shape), ElementsAre("embed.W_E", "unembed.W_U"));
  shape.layers = 1;
  EXPECT_THAT(Names(shape),
              ElementsAre("blocks.0.attn.W_K", "blocks.0.attn.W_O", "blocks.0.attn.W_Q",
                          "blocks.0.attn.W_V", "embed.W_E", "unembed.W_U"));
  shape.smeared_keys = true;
  EXPECT_EQ(Names(shape).count("blocks.0.attn.alpha"), 1);
  shape.sum_of_paths = false;
  shape.layers = 2;
  EXPECT_EQ(Names(shape).count("blocks.1.ln1.w"), 1);
  EXPECT_EQ(Names(shape).count("unembed.b_U"), 1);
}

}  // namespace
}  // namespace residual
