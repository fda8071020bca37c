#include "models/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "gtest/gtest.h"

namespace residual {
namespace {

const std::vector<float> kLogits = {0.0f, std::log(4.0f), std::log(2.0f), std::log(1.0f),
                                    -std::numeric_limits<float>::infinity()};
// probabilities 1/8, 4/8, 2/8, 1/8, 0

std::map<int64_t, double> Frequencies(const SamplerOptions& options, int draws = 40000,
                                      std::vector<int64_t> history = {}) {
  std::map<int64_t, double> counts;
  for (int i = 0; i < draws; ++i) {
    counts[SampleToken(kLogits, history, options, 0, i).token] += 1.0 / draws;
  }
  return counts;
}

TEST(SamplerTest, GreedyTakesTheLargestAndTheFirstOfEquals) {
  SamplerOptions options;
  options.temperature = 0;
  const Sampled sampled = SampleToken(kLogits, {}, options, 0, 0);
  EXPECT_EQ(sampled.token, 1);
  EXPECT_NEAR(sampled.logprob, std::log(0.5), 1e-6);
  EXPECT_EQ(SampleToken({1.0f, 3.0f, 3.0f}, {}, options, 0, 0).token, 1);
}

TEST(SamplerTest, FollowsTheDistribution) {
  auto f = Frequencies({});
  EXPECT_NEAR(f[0], 0.125, 0.01);
  EXPECT_NEAR(f[1], 0.5, 0.01);
  EXPECT_NEAR(f[2], 0.25, 0.01);
  EXPECT_EQ(f.count(4), 0);
}

TEST(SamplerTest, TemperatureSharpens) {
  SamplerOptions options;
  options.temperature = 0.5;  // squares the probabilities: 1 : 16 : 4 : 1
  auto f = Frequencies(options);
  EXPECT_NEAR(f[1], 16.0 / 22, 0.01);
  EXPECT_NEAR(f[2], 4.0 / 22, 0.01);
}

TEST(SamplerTest, TopKKeepsTiesWithTheLast) {
  SamplerOptions options;
  options.top_k = 2;
  auto f = Frequencies(options);
  EXPECT_NEAR(f[1], 2.0 / 3, 0.01);
  EXPECT_EQ(f.size(), 2);
  options.top_k = 3;  // 0 and 3 are equally probable
  EXPECT_EQ(Frequencies(options).size(), 4);
}

TEST(SamplerTest, TopPKeepsTheFewestThatReachIt) {
  SamplerOptions options;
  options.top_p = 0.5;
  EXPECT_EQ(Frequencies(options).size(), 1);
  options.top_p = 0.51;
  auto f = Frequencies(options);
  EXPECT_EQ(f.size(), 2);
  EXPECT_NEAR(f[1], 2.0 / 3, 0.01);
}

TEST(SamplerTest, MinPIsRelativeToTheLargest) {
  SamplerOptions options;
  options.min_p = 0.4;  // of 1/2: keeps 1/4
  EXPECT_EQ(Frequencies(options).size(), 2);
  options.min_p = 1;
  EXPECT_EQ(Frequencies(options).size(), 1);
}

TEST(SamplerTest, RepetitionPenaltyLowersWhatOccurred) {
  SamplerOptions options;
  options.temperature = 0;
  options.repetition_penalty = 3;  // log 4 / 3 < log 2
  EXPECT_EQ(SampleToken(kLogits, {1, 1}, options, 0, 0).token, 2);
}

TEST(SamplerTest, DrawsAreAFunctionOfSeedRowAndIndex) {
  SamplerOptions options;
  int differences = 0;
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(SampleToken(kLogits, {}, options, 1, i).token,
              SampleToken(kLogits, {}, options, 1, i).token);
    differences += SampleToken(kLogits, {}, options, 1, i).token !=
                   SampleToken(kLogits, {}, options, 2, i).token;
  }
  EXPECT_GT(differences, 20);
}

TEST(SamplerTest, EveryStepKeepsWhatTheOneBeforeLeft) {
  SamplerOptions options;
  options.temperature = 2;  // square roots: 1 : 2 : 1.41 : 1
  options.top_k = 2;        // 2 : 1.41, of which 0.586 is the first's
  options.top_p = 0.58;
  EXPECT_EQ(Frequencies(options, 1000).size(), 1);
  options.top_p = 0.59;
  EXPECT_EQ(Frequencies(options, 1000).size(), 2);
  options.min_p = 0.71;  // of 1.41 / 2
  EXPECT_EQ(Frequencies(options, 1000).size(), 1);
}

TEST(SamplerTest, LogProbsAreThoseOfTheModel) {
  SamplerOptions options;
  options.temperature = 0.3;
  options.top_k = 1;
  options.repetition_penalty = 1.1;
  EXPECT_NEAR(SampleToken(kLogits, {1}, options, 0, 0).logprob, std::log(0.5), 1e-6);
}

TEST(SamplerTest, LogSumExp) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  EXPECT_NEAR(LogSumExp({1000.0f, 1000.0f}), 1000 + std::log(2.0), 1e-9);
  EXPECT_EQ(LogSumExp({-inf, 3.0f}), 3);
  EXPECT_EQ(LogSumExp({-inf, -inf}), -inf);
  for (const std::vector<float>& logits :
       {std::vector<float>{nan, 1}, {1, nan}, {1, nan, 2}, {1, inf}}) {
    EXPECT_FALSE(std::isfinite(LogSumExp(logits)));
  }
}

// Against doubles, of more logits than a block has and of no whole number of vectors; of values as
// far below the largest as floats go.
TEST(SamplerTest, LogSumExpOfAVocabulary) {
  for (const size_t n : {1, 2, 15, 16, 17, 511, 512, 513, 50257}) {
    std::vector<float> logits(n);
    for (size_t i = 0; i < n; ++i) {
      logits[i] = 40 * std::sin(static_cast<float>(i * i % 1009)) - (i % 50 == 3 ? 300 : 0);
    }
    const double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const float x : logits) sum += std::exp(x - largest);
    EXPECT_NEAR(LogSumExp(logits), largest + std::log(sum), 2e-7) << n;
    logits[n / 2] = std::nanf("");
    EXPECT_FALSE(std::isfinite(LogSumExp(logits))) << n;
  }
}

// Draws from a vocabulary are those that probabilities in double give, and the greedy token is the
// first of the largest wherever it lies.
TEST(SamplerTest, DrawsFromAVocabulary) {
  constexpr int64_t kTokens = 1013;
  std::vector<float> logits(kTokens);
  for (int64_t i = 0; i < kTokens; ++i) logits[i] = 3 * std::sin(static_cast<float>(i));
  for (const int64_t at : {0, 1, 500, 1007, 1008, 1012}) {
    std::vector<float> with = logits;
    with[at] = 4;
    with[1012] = 4;
    SamplerOptions greedy;
    greedy.temperature = 0;
    EXPECT_EQ(SampleToken(with, {}, greedy, 0, 0).token, at);
  }
  SamplerOptions options;
  options.temperature = 0.7;
  std::vector<double> expected(kTokens);
  double total = 0;
  for (int64_t i = 0; i < kTokens; ++i) total += expected[i] = std::exp(logits[i] / 0.7);
  constexpr int kDraws = 40000, kBins = 20;
  std::vector<double> share(kBins), want(kBins);
  for (int64_t i = 0; i < kTokens; ++i) want[i % kBins] += expected[i] / total;
  for (int draw = 0; draw < kDraws; ++draw) {
    share[SampleToken(logits, {}, options, 0, draw).token % kBins] += 1.0 / kDraws;
  }
  for (int bin = 0; bin < kBins; ++bin) EXPECT_NEAR(share[bin], want[bin], 0.006) << bin;
}

TEST(SamplerTest, RejectsOptionsOutOfRange) {
  SamplerOptions options;
  options.top_p = 0;
  EXPECT_EQ(ValidateSampler(options).message(), "top_p is 0, expected a number in (0, 1]");
  options = {};
  options.temperature = std::nan("");
  EXPECT_FALSE(ValidateSampler(options).ok());
  options = {};
  options.top_k = -1;
  EXPECT_FALSE(ValidateSampler(options).ok());
  EXPECT_TRUE(ValidateSampler({}).ok());
}

}  // namespace
}  // namespace residual
