#include "interp/framework/measures.h"

#include <cmath>
#include <memory>

#include "gtest/gtest.h"
#include "interp/framework/framework_report.h"
#include "interp/testing/small_models.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

std::unique_ptr<ResidualModel> Make(int layers, uint64_t seed) {
  TransformerConfig config = AttentionOnlyConfig(layers);
  config.n_ctx = 18;
  config.d_vocab = 9;
  config.init_scale = 0.3;
  std::unique_ptr<ResidualModel> model = BuildTransformer(config);
  Initialize(*model, seed);
  return model;
}

std::vector<int32_t> Text() {
  std::vector<int32_t> text;
  for (int i = 0; i < 500; ++i) text.push_back((i * i + i / 7) % 9);
  return text;
}

TrainingBatch Rows() {
  const std::vector<int32_t> text = Text();
  TrainingBatch batch{Tensor::Uninitialized({2, 18}, kI64), Tensor::Uninitialized({2, 18}, kI64)};
  for (int i = 0; i < 36; ++i) {
    batch.tokens.mutable_data<int64_t>()[i] = text[i];
    batch.targets.mutable_data<int64_t>()[i] = text[i + 1];
  }
  return batch;
}

TEST(FrameworkMeasuresTest, OfModelsThatKnowNothing) {
  const BigramTable bigrams(Text(), 9);
  const TrainingBatch rows = Rows();
  FrameworkMeasures m;
  const absl::Status one = MeasureOneLayer(
      *Make(1, 1), [](int64_t i) { return Make(1, 100 + i); }, 4, bigrams, rows.tokens, 2, m);
  ASSERT_TRUE(one.ok()) << one;
  EXPECT_EQ(m.copying.size(), 3);
  EXPECT_EQ(m.random_copying.size(), 12);
  EXPECT_EQ(m.eigenvalues[2].size(), 4);
  EXPECT_EQ(m.skip_trigrams.size(), 3);
  for (const double near : m.looks_near) {
    EXPECT_GT(near, 0);
    EXPECT_LT(near, 1);
  }
  const absl::Status two = MeasureTwoLayers(*Make(2, 1), *Make(2, 2), bigrams, rows, rows.tokens,
                                            {0, 1, 2, 3, 4, 5, 6, 7, 8}, m);
  ASSERT_TRUE(two.ok()) << two;
  EXPECT_EQ(m.paths, 16);
  for (const double error : m.expansion_error) EXPECT_LT(error, 1e-5);
  ASSERT_EQ(m.corner.size(), 3);
  for (const InductionCorner& corner : m.corner) {
    EXPECT_EQ(corner.head.layer, 1);
    for (int below = 0; below < 3; ++below) {
      EXPECT_LE(m.k.score[0][below][1][corner.head.head],
                m.k.score[0][corner.writer.head][1][corner.head.head]);
    }
    EXPECT_LE(std::abs(corner.qk), 1);
    EXPECT_LE(std::abs(corner.ov), 1);
  }
  EXPECT_EQ(m.terms.up_to_order.size(), 3);
  EXPECT_GT(m.random_k, 0);
  EXPECT_EQ(m.repeated.tokens.size(), 18);
  EXPECT_EQ(m.text.tokens.size(), 18);

  FrameworkSetup setup;
  setup.text_name = "numbers";
  setup.vocabulary = {"a", "b", "c", "d", "e", "f", "g", "h", "<i>"};
  setup.d_model = 12;
  setup.n_heads = 3;
  const std::string page = FrameworkReport(setup, m).ToString();
  EXPECT_NE(page.find("Trained on numbers"), page.npos);
  EXPECT_EQ(page.find("<i>"), page.npos);
}

TEST(FrameworkMeasuresTest, AModelThatIsNoSumIsRefused) {
  TransformerConfig config;
  config.d_model = 4;
  config.n_ctx = 18;
  config.d_vocab = 9;
  config.blocks = {{"attn"}};
  config.n_heads = 1;
  config.d_head = 4;
  const auto model = BuildTransformer(config);
  Initialize(*model, 1);
  FrameworkMeasures m;
  EXPECT_EQ(MeasureOneLayer(
                *model, [](int64_t i) { return Make(1, i); }, 1, BigramTable(Text(), 9),
                Rows().tokens, 2, m)
                .code(),
            absl::StatusCode::kUnimplemented);
}

// What the numbers of the claims are, on values put there.
TEST(FrameworkMeasuresTest, Numbers) {
  FrameworkMeasures m;
  for (int i = -20; i <= 20; ++i) m.random_copying.push_back(i / 100.0);
  m.copying = {0.9, 0.5, -0.9, 0.1};
  EXPECT_NEAR(CopyingThreshold(m), 0.19, 1e-12);
  EXPECT_EQ(CopyingHeads(m), 0.5);

  EXPECT_EQ(CrossedRaised(m), 0);
  m.crossed.resize(2);
  m.crossed[0].after_first[1] = 1;
  m.crossed[0].after_second[0] = 2;
  m.crossed[1].after_first[1] = -1;
  m.crossed[1].after_second[0] = 3;
  m.crossed[1].after_second[1] = -1;  // not a crossed one
  EXPECT_EQ(CrossedRaised(m), 0.75);

  // Two heads below two; d_model 100, so 0.1 by chance.
  const auto scores = [](double a, double b, double c, double d) {
    CompositionScores s;
    s.score = {{{{}, {a, b}}, {{}, {c, d}}}, {{{}, {0, 0}}, {{}, {0, 0}}}};
    return s;
  };
  m.k = scores(0.1, 0.2, 0.3, 0.1);
  m.q = scores(0.1, 0.15, 0.1, 0.1);
  m.v = scores(0.1, 0.1, 0.14, 0.1);
  EXPECT_EQ(Largest(m.k.score), 0.3);
  EXPECT_NEAR(KOverOthers(m, 100), 4, 1e-12);
  m.scores.previous_token = {{0.8, 0.6}, {0, 0}};
  EXPECT_NEAR(KWriterLooksBack(m), 0.75, 1e-12);

  EXPECT_EQ(LeastCorner(m), -1);  // no induction heads
  m.corner = {{{1, 0}, {0, 0}, 0.7, 0.9, 0.6}, {{1, 1}, {0, 0}, 0.1, -0.5, 0.8}};
  m.induction_heads = {{1, 0}};
  EXPECT_EQ(BestPrefix(m), 0.7);
  EXPECT_EQ(LeastCorner(m), 0.6);
  EXPECT_EQ(LargestOutsideCorner(m), -0.5);

  m.terms.up_to_order = {5, 2, 1};
  EXPECT_NEAR(VirtualShare(m), 0.25, 1e-12);
}

}  // namespace
}  // namespace residual
