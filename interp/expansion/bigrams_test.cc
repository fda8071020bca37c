#include "interp/expansion/bigrams.h"

#include <cmath>

#include "gtest/gtest.h"
#include "interp/testing/planted_circuit.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

// 0 1 0 1 0 2: 0 is followed by 1 twice and by 2 once, 1 by 0 twice.
const std::vector<int32_t>& Text() {
  static const auto& text = *new std::vector<int32_t>{0, 1, 0, 1, 0, 2};
  return text;
}

TEST(BigramTableTest, Counts) {
  const BigramTable table(Text(), 4);
  EXPECT_EQ(table.d_vocab(), 4);
  EXPECT_EQ(table.total(), 5);
  EXPECT_EQ(table.count(0, 1), 2);
  EXPECT_EQ(table.count(0, 2), 1);
  EXPECT_EQ(table.count(1, 0), 2);
  EXPECT_EQ(table.count(2, 0), 0);
  EXPECT_EQ(table.count(0), 3);
  EXPECT_EQ(table.count(2), 0);  // the last token has no next one
  EXPECT_EQ(table.next(0), 2);
  EXPECT_EQ(table.next(3), 0);
}

// log p of rows, `shift` added to each.
Tensor Logits(const std::vector<double>& probabilities, double shift) {
  std::vector<double> logits;
  for (double p : probabilities) logits.push_back(std::log(std::max(p, 1e-300)) + shift);
  return Tensor::Of<double>({4, 4}, logits);
}

TEST(CompareWithBigramsTest, TheTableItselfKnowsAll) {
  const BigramTable table(Text(), 4);
  const Tensor same =
      Logits({0, 2.0 / 3, 1.0 / 3, 0, 1, 0, 0, 0, .25, .25, .25, .25, .25, .25, .25, .25}, 5);
  const BigramFit fit = CompareWithBigrams(same, table, 1);
  EXPECT_NEAR(fit.kl, 0, 1e-12);
  EXPECT_NEAR(fit.share(), 1, 1e-12);
  EXPECT_NEAR(fit.correlation, 1, 1e-12);
  EXPECT_NEAR(fit.lift_correlation, 1, 1e-12);
  EXPECT_EQ(fit.lift_p.size(), 3);
  // By hand: p(.) = (2, 2, 1, 0) / 5.
  const double unigram =
      0.4 * std::log(2.0 / 3 / 0.4) + 0.2 * std::log(1.0 / 3 / 0.2) + 0.4 * std::log(1 / 0.4);
  EXPECT_NEAR(fit.unigram_kl, unigram, 1e-12);
  EXPECT_EQ(CompareWithBigrams(same, table, 2).lift_p.size(), 2);
}

TEST(CompareWithBigramsTest, UnigramsKnowNothingOfIt) {
  const BigramTable table(Text(), 4);
  std::vector<double> rows;
  for (int i = 0; i < 4; ++i) rows.insert(rows.end(), {0.4, 0.4, 0.2, 0});
  const BigramFit fit = CompareWithBigrams(Logits(rows, 0), table, 1);
  EXPECT_NEAR(fit.share(), 0, 1e-12);
  EXPECT_NEAR(fit.correlation, fit.unigram_correlation, 1e-12);
  EXPECT_EQ(fit.lift_correlation, 0);
  // Worse than that: the share is negative.
  std::vector<double> wrong;
  for (int i = 0; i < 4; ++i) wrong.insert(wrong.end(), {0.1, 0.1, 0.1, 0.7});
  EXPECT_LT(CompareWithBigrams(Logits(wrong, 0), table, 1).share(), 0);
}

TEST(DirectPathLogitsTest, AreTheModelOfNoLayers) {
  TransformerConfig config;
  config.d_model = 6;
  config.n_ctx = 5;
  config.d_vocab = 5;
  config.norm = NormKind::kNone;
  config.positions = Positions::kNone;
  for (const bool tied : {false, true}) {
    for (const bool bias : {false, true}) {
      config.tied = tied;
      config.unembed_bias = bias;
      const auto model = BuildTransformer(config);
      Initialize(*model, 1, kF64);
      if (bias) SetParameter(*model, "unembed.b_U", Tensor::Of<double>({5}, {1, 2, 3, 4, 5}));
      const Tensor tokens = Tensor::Of<int64_t>({1, 5}, {0, 1, 2, 3, 4});
      const std::vector<double> want = model->Forward({tokens}).ToDoubles();
      const Tensor got = DirectPathLogits(*model);
      ASSERT_EQ(got.shape(), (Shape{5, 5}));
      for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got.ToDoubles()[i], want[i], 1e-14);
    }
  }
}

}  // namespace
}  // namespace residual
