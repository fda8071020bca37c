#include "interp/heads/value_weighted.h"

#include <cmath>

#include "gtest/gtest.h"
#include "interp/testing/planted_circuit.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

Tensor Tokens() { return Tensor::Of<int64_t>({1, 8}, {3, 5, 1, 7, 3, 5, 1, 7}); }

TEST(ValueWeightedTest, OfEqualValuesThePatternStays) {
  // One-hot tokens: the planted heads' values all have length one, those of the idle heads none.
  const auto model = PlantedInductionModel();
  const std::vector<Tensor> plain = *ReadPatterns(*model, Tokens());
  const absl::StatusOr<std::vector<Tensor>> weighted = ReadValueWeightedPatterns(*model, Tokens());
  ASSERT_TRUE(weighted.ok()) << weighted.status();
  for (int layer = 0; layer < 2; ++layer) {
    const std::vector<double> want = plain[layer].Row(0).Row(0).ToDoubles();
    const std::vector<double> got = (*weighted)[layer].Row(0).Row(0).ToDoubles();
    for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-12);
    for (double x : (*weighted)[layer].Row(0).Row(1).ToDoubles()) EXPECT_EQ(x, 0);
  }
}

TEST(ValueWeightedTest, IsThePatternTimesTheLengthOfTheValue) {
  TransformerConfig config;
  config.d_model = 12;
  config.n_ctx = 8;
  config.d_vocab = 9;
  config.blocks = {{"attn"}};
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.d_head = 3;
  config.init_scale = 0.5;
  const auto model = BuildTransformer(config);
  Initialize(*model, 2, kF64);
  Tensor values;
  Hooks hooks;
  hooks.Read("blocks.0.attn.hook_v", [&](absl::string_view, const Tensor& v) { values = v; });
  ASSERT_TRUE(model->Run({Tokens()}, &hooks).ok());
  const Tensor plain = (*ReadPatterns(*model, Tokens()))[0];
  const Tensor weighted = (*ReadValueWeightedPatterns(*model, Tokens()))[0];
  for (int head = 0; head < 4; ++head) {
    std::vector<double> want = plain.Row(0).Row(head).Row(5).ToDoubles();
    double sum = 0;
    for (int key = 0; key < 8; ++key) {
      double square = 0;
      for (double x : values.Row(0).Row(key).Row(head / 2).ToDoubles()) square += x * x;
      sum += want[key] *= std::sqrt(square);
    }
    const std::vector<double> got = weighted.Row(0).Row(head).Row(5).ToDoubles();
    for (int key = 0; key < 8; ++key) EXPECT_NEAR(got[key], want[key] / sum, 1e-12);
  }
}

TEST(ValueWeightedTest, PrefixMatchingCountsEveryEarlierOccurrence) {
  const auto model = PlantedInductionModel();
  const Tensor thrice = Tensor::Of<int64_t>({1, 9}, {3, 5, 1, 3, 5, 1, 3, 5, 1});
  const HeadTable scores = PrefixMatching(*ReadPatterns(*model, thrice), thrice);
  EXPECT_NEAR(scores[1][0], 1, 1e-9);
  // All alike: of queries 3 to 8 at i, 1 of i + 1 keys in the second copy, 2 in the third.
  double alike = 0;
  for (int i = 3; i < 9; ++i) alike += (i < 6 ? 1.0 : 2.0) / (i + 1) / 6;
  EXPECT_NEAR(scores[1][1], alike, 1e-9);
  EXPECT_LT(scores[0][0], 0.01);
  const Tensor different = Tensor::Of<int64_t>({1, 3}, {3, 5, 1});
  EXPECT_EQ(PrefixMatching(*ReadPatterns(*model, different), different)[1][0], 0);
}

TEST(ValueWeightedTest, WithoutAttentionThereAreNone) {
  TransformerConfig config;
  config.d_model = 4;
  config.n_ctx = 8;
  config.d_vocab = 9;
  const auto model = BuildTransformer(config);
  Initialize(*model, 2);
  EXPECT_EQ(ReadValueWeightedPatterns(*model, Tokens()).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace residual
