#include "interp/metric/metric.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/transformer/transformer.h"
#include "ops/layout/layout.h"
#include "ops/reduce/reduce.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

constexpr int64_t kVocab = 7;

// log softmax of the last position, in plain loops.
std::vector<std::vector<double>> LogProbs(const Tensor& logits) {
  const int64_t n = logits.dim(1);
  std::vector<std::vector<double>> rows;
  for (int64_t r = 0; r < logits.dim(0); ++r) {
    const double* x = logits.data<double>() + (r * n + n - 1) * kVocab;
    double sum = 0;
    for (int64_t j = 0; j < kVocab; ++j) sum += std::exp(x[j]);
    rows.emplace_back();
    for (int64_t j = 0; j < kVocab; ++j) rows.back().push_back(x[j] - std::log(sum));
  }
  return rows;
}

TEST(MetricTest, AreTheirFormulas) {
  const Tensor logits = RandomNormal({3, 2, kVocab}, 1);
  const Tensor reference = RandomNormal({2, kVocab}, 2);
  const auto log_p = LogProbs(logits), log_q = LogProbs(reference.Reshaped({2, 1, kVocab}));
  const std::vector<int64_t> answer = {3, 6}, wrong = {0, 3};
  const std::vector<int64_t> examples = {1, 0, 1};  // rows in any order, and again
  const auto difference = LogitDifference(answer, wrong).value(logits, examples);
  const auto loss = AnswerLoss(answer).value(logits, examples);
  const auto probability = AnswerProbability(answer).value(logits, examples);
  const auto kl = KlDivergence(reference).value(logits, examples);
  for (int r = 0; r < 3; ++r) {
    const int64_t e = examples[r];
    EXPECT_NEAR(difference[r], log_p[r][answer[e]] - log_p[r][wrong[e]], 1e-12);
    EXPECT_NEAR(loss[r], -log_p[r][answer[e]], 1e-12);
    EXPECT_NEAR(probability[r], std::exp(log_p[r][answer[e]]), 1e-12);
    double sum = 0;
    for (int j = 0; j < kVocab; ++j) {
      sum += std::exp(log_q[e][j]) * (log_q[e][j] - log_p[r][j]);
    }
    EXPECT_NEAR(kl[r], sum, 1e-12);
  }
}

TEST(MetricTest, DifferentiableFormsAreTheSame) {
  const Tensor logits = RandomNormal({2, 3, kVocab}, 1);
  for (const Metric& metric :
       {LogitDifference({3, 6}, {0, 3}), AnswerLoss({3, 6}), AnswerProbability({3, 6}),
        KlDivergence(RandomNormal({2, kVocab}, 2))}) {
    const std::vector<double> values = metric.value(logits, {0, 1});
    const std::vector<double> again = metric.differentiable(logits).ToDoubles();
    ASSERT_EQ(again.size(), 2) << metric.name;
    for (int e = 0; e < 2; ++e) EXPECT_NEAR(again[e], values[e], 1e-12) << metric.name;
  }
}

std::unique_ptr<ResidualModel> Model(bool tied, bool final_norm) {
  TransformerConfig config;
  config.d_model = 6;
  config.n_ctx = 8;
  config.d_vocab = kVocab;
  config.blocks = {{"attn"}};
  config.n_heads = 2;
  config.d_head = 3;
  config.tied = tied;
  config.final_norm = final_norm;
  config.norm = final_norm ? NormKind::kLayerNorm : NormKind::kNone;
  config.unembed_bias = !tied;
  auto model = BuildTransformer(config);
  Initialize(*model, 5, kF64);
  for (const Parameter& p : Parameters(*model)) {
    InitializeParameter({p.name, p.value, p.shape, Init::Normal(0.5), p.options}, 5, kF64);
  }
  return model;
}

// A metric of a few logits is read without the others.
TEST(MetricReaderTest, FewLogitsAreAsAllOfThem) {
  for (const bool tied : {false, true}) {
    for (const bool final_norm : {false, true}) {
      const auto model = Model(tied, final_norm);
      const Tensor resid = RandomNormal({5, 3, 6}, 3);
      const std::vector<int64_t> examples = {0, 1, 1, 0, 1};
      const Metric few = LogitDifference({3, 6}, {0, 3});
      Metric all = few;
      all.linear.clear();
      const auto got = MetricReader(*model, few).Read(resid, examples);
      const auto want = MetricReader(*model, all).Read(resid, examples);
      const auto logits = few.value(model->UnembedStream(resid, Scope()), examples);
      for (int r = 0; r < 5; ++r) {
        EXPECT_NEAR(got[r], logits[r], 1e-12);
        EXPECT_NEAR(want[r], logits[r], 1e-12);
      }
      // Also those that a tape records, with gradients.
      std::vector<std::vector<double>> gradients;
      for (const Metric* const metric : std::initializer_list<const Metric*>{&few, &all}) {
        Tape tape;
        Tensor two = Slice(resid, 0, 0, 2);
        tape.Watch(two);
        const Tensor values = MetricReader(*model, *metric).Differentiable(two);
        ASSERT_EQ(values.shape(), Shape({2}));
        const std::vector<double> both = values.ToDoubles();
        EXPECT_NEAR(both[0], logits[0], 1e-12);
        EXPECT_NEAR(both[1], logits[1], 1e-12);
        gradients.push_back(tape.Backward(SumAll(values))[two].ToDoubles());
      }
      for (size_t i = 0; i < gradients[0].size(); ++i) {
        EXPECT_NEAR(gradients[0][i], gradients[1][i], 1e-12);
      }
    }
  }
}

TEST(MetricTest, WhatDoesNotFitIsNamed) {
  const auto model = Model(false, true);
  const auto message = [&](const Metric& metric, int64_t batch) {
    return std::string(CheckMetric(metric, *model, batch, 3).message());
  };
  EXPECT_EQ(message(AnswerLoss({0, 6}), 2), "");
  EXPECT_EQ(message(AnswerLoss({0, 7}), 2), "token 7 of the metric is outside the vocabulary of 7");
  EXPECT_EQ(message(AnswerLoss({0, -1}), 2),
            "token -1 of the metric is outside the vocabulary of 7");
  EXPECT_EQ(message(AnswerLoss({0, 1}), 3),
            "the metric 'loss' is of 2 examples, expected one of 3, as there are prompts");
  const auto none = [](const Tensor&, absl::Span<const int64_t>) { return std::vector<double>(); };
  EXPECT_EQ(message(FunctionOfLogits("far", none, 4), 1),
            "the metric 'far' reads the last 4 positions of 3");
}

}  // namespace
}  // namespace residual
