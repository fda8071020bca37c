#include "models/train/data.h"

#include <numeric>
#include <vector>

#include "gtest/gtest.h"

namespace residual {
namespace {

std::vector<int32_t> Count(int n) {
  std::vector<int32_t> tokens(n);
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

std::vector<int64_t> Values(const Tensor& x) {
  const auto span = x.span<int64_t>();
  return {span.begin(), span.end()};
}

// The period of a row: the smallest p with row[i] == row[i - p].
int Period(const int64_t* row, int n) {
  for (int p = 1; p < n; ++p) {
    bool repeats = true;
    for (int i = p; i < n; ++i) repeats &= row[i] == row[i - p];
    if (repeats) return p;
  }
  return n;
}

TEST(TextDataTest, WindowsArePassagesAndTargetsTheNextToken) {
  TextOptions options;
  options.context = 16;
  const auto data = MakeTextData(Count(1000), 1000, options).value();
  for (int step = 0; step < 20; ++step) {
    const TrainingBatch batch = data->Batch(1, step, 3);
    const std::vector<int64_t> x = Values(batch.tokens), y = Values(batch.targets);
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(y[i], x[i] + 1);
      if (i % 16 != 0) {
        EXPECT_EQ(x[i], x[i - 1] + 1);
      }
      EXPECT_LT(y[i], 900);  // the rest is for evaluation
    }
    for (int64_t id : Values(data->EvalBatch(1, step, 3).tokens)) EXPECT_GE(id, 900);
  }
}

TEST(TextDataTest, RepeatsPassagesOfAnEighthToAHalf) {
  TextOptions options;
  options.context = 32;
  options.repeat = 0.9;
  const auto data = MakeTextData(Count(5000), 5000, options).value();
  int repeated = 0, shortest = 99, longest = 0;
  for (int step = 0; step < 100; ++step) {
    const TrainingBatch batch = data->Batch(3, step, 10);
    for (int r = 0; r < 10; ++r) {
      const int period = Period(batch.tokens.data<int64_t>() + r * 32, 32);
      if (period == 32) continue;
      ++repeated;
      shortest = std::min(shortest, period);
      longest = std::max(longest, period);
    }
  }
  EXPECT_NEAR(repeated, 900, 60);
  EXPECT_EQ(shortest, 4);
  EXPECT_EQ(longest, 16);
}

TEST(TextDataTest, BatchesAreAFunctionOfSeedAndStep) {
  TextOptions options;
  options.context = 8;
  const auto data = MakeTextData(Count(500), 500, options).value();
  EXPECT_EQ(Values(data->Batch(1, 5, 4).tokens), Values(data->Batch(1, 5, 4).tokens));
  EXPECT_NE(Values(data->Batch(1, 5, 4).tokens), Values(data->Batch(1, 6, 4).tokens));
  EXPECT_NE(Values(data->Batch(1, 5, 4).tokens), Values(data->Batch(2, 5, 4).tokens));
}

TEST(TextDataTest, SaysWhatIsWrong) {
  TextOptions options;
  options.context = 16;
  EXPECT_EQ(MakeTextData(Count(33), 100, options).status().message(),
            "the text has 33 tokens, expected at least 34: a window of context + 1 = 17 to train "
            "and one to evaluate on");
  EXPECT_TRUE(MakeTextData(Count(34), 100, options).ok());
  EXPECT_FALSE(MakeTextData(Count(100), 99, options).ok());
  options.repeat = 1.5;
  EXPECT_FALSE(MakeTextData(Count(100), 100, options).ok());
}

TEST(RepeatedTokensTest, OnlyTheRepetitionIsATarget) {
  const auto data = MakeRepeatedTokens(1000, 24).value();
  const TrainingBatch batch = data->Batch(1, 0, 50);
  for (int r = 0; r < 50; ++r) {
    const int64_t* x = batch.tokens.data<int64_t>() + r * 24;
    const int64_t* y = batch.targets.data<int64_t>() + r * 24;
    int period = 0;
    while (y[period] == kIgnoreTarget) ++period;
    ++period;  // the first target is the first token of the second copy
    EXPECT_GE(period, 3);
    EXPECT_LE(period, 12);
    for (int i = 0; i < 24; ++i) {
      if (i >= period) {
        EXPECT_EQ(x[i], x[i - period]);
      }
      if (i + 1 >= period) {
        EXPECT_EQ(y[i], x[i + 1 - period]);
      }
    }
  }
  EXPECT_FALSE(MakeRepeatedTokens(1, 24).ok());
}

}  // namespace
}  // namespace residual
