#include "ops/loss/cross_entropy.h"

#include <cmath>
#include <limits>
#include <vector>

#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The formula in plain loops, in double. A scalar, or a loss per row.
Tensor Reference(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options) {
  const std::vector<double> x = logits.ToDoubles(), ids = targets.ToDoubles();
  const int64_t vocab = logits.dim(-1), rows = targets.elements();
  std::vector<double> losses(rows);
  double total = 0, counted = 0;
  for (int64_t r = 0; r < rows; ++r) {
    if (ids[r] == options.ignore_index) continue;
    ++counted;
    double max = -kInfinity, sum = 0, log_p_sum = 0;
    for (int64_t j = 0; j < vocab; ++j) max = std::max(max, x[r * vocab + j]);
    for (int64_t j = 0; j < vocab; ++j) sum += std::exp(x[r * vocab + j] - max);
    for (int64_t j = 0; j < vocab; ++j) log_p_sum += x[r * vocab + j] - max - std::log(sum);
    const double e = options.label_smoothing;
    const double log_p = x[r * vocab + static_cast<int64_t>(ids[r])] - max - std::log(sum);
    losses[r] = -(1 - e) * log_p - (e == 0 ? 0 : e / vocab * log_p_sum);
    total += losses[r];
  }
  switch (options.reduction) {
    case Reduction::kNone:
      return Tensor::Of<double>(targets.shape(), losses);
    case Reduction::kSum:
      return Tensor::Scalar(total, kF64);
    default:
      return Tensor::Scalar(total / counted, kF64);
  }
}

CrossEntropyOptions Options(Reduction reduction, double smoothing = 0, int64_t ignore = -100) {
  CrossEntropyOptions options;
  options.reduction = reduction;
  options.label_smoothing = smoothing;
  options.ignore_index = ignore;
  return options;
}

OpCase Case(const CrossEntropyOptions& options) {
  const auto ids = [](Shape shape, int64_t vocab) {
    return OpInput(shape, OpInput::kIndex, 0, static_cast<double>(vocab));
  };
  return OpCase("cross_entropy")
      .Run([=](const TensorList& x) { return TensorList{CrossEntropy(x[0], x[1], options)}; })
      .Reference([=](const TensorList& x) { return TensorList{Reference(x[0], x[1], options)}; })
      .Row({{1, 1}, ids({1}, 1)})
      .Row({{5}, ids({}, 5)})
      .Row({{4, 7}, ids({4}, 7)})
      .Row({{3, 15}, ids({3}, 15)})
      .Row({{2, 3, 65}, ids({2, 3}, 65)})
      .Row({{2, 4133}, ids({2}, 4133)})
      .Row({{6, 33}, OpInput(Tensor::Of<int64_t>({6}, {0, -100, 32, -100, 5, 5}))})
      .DTypes({kF32, kF64, kBF16, kF16})
      .Ulps(8, 16);
}

RESIDUAL_OP_TEST(Mean, Case(Options(Reduction::kMean)));
RESIDUAL_OP_TEST(MeanSmoothed, Case(Options(Reduction::kMean, 0.1)));
RESIDUAL_OP_TEST(Sum, Case(Options(Reduction::kSum)));
RESIDUAL_OP_TEST(SumAllSmoothing, Case(Options(Reduction::kSum, 1)));
RESIDUAL_OP_TEST(None, Case(Options(Reduction::kNone)));
RESIDUAL_OP_TEST(NoneSmoothed, Case(Options(Reduction::kNone, 0.25)));
// A valid class can be the one that is ignored.
RESIDUAL_OP_TEST(IgnoringFive,
                 OpCase("cross_entropy")
                     .Run([](const TensorList& x) {
                       return TensorList{
                           CrossEntropy(x[0], x[1], Options(Reduction::kMean, 0.1, 5))};
                     })
                     .Reference([](const TensorList& x) {
                       return TensorList{Reference(x[0], x[1], Options(Reduction::kMean, 0.1, 5))};
                     })
                     .Row({{4, 9}, OpInput(Tensor::Of<int64_t>({4}, {5, 0, 8, 5}))})
                     .Ulps(8));

RESIDUAL_OP_TEST(TokenLogProbs,
                 OpCase("token_log_probs")
                     .Run([](const TensorList& x) { return TensorList{TokenLogProbs(x[0], x[1])}; })
                     .Reference([](const TensorList& x) {
                       Tensor losses = Reference(x[0], x[1], Options(Reduction::kNone));
                       std::vector<double> values = losses.ToDoubles();
                       for (double& v : values) v = -v;
                       return TensorList{Tensor::Of<double>(losses.shape(), values)};
                     })
                     .Row({{3, 2, 19}, OpInput({3, 2}, OpInput::kIndex, 0, 19)})
                     .Row({{0, 3}, OpInput({0}, OpInput::kIndex, 0, 3)})
                     .DTypes({kF32, kF64, kBF16, kF16})
                     .Ulps(8));

class CrossEntropyTest : public EachTarget {
 protected:
  struct Result {
    Tensor loss, gradient;
  };
  static Result Run(Tensor logits, const Tensor& targets, const CrossEntropyOptions& options = {}) {
    Tape tape;
    tape.Watch(logits);
    const Tensor loss = CrossEntropy(logits, targets, options);
    const Tensor dy = Tensor::Full(loss.shape(), 1, loss.dtype());
    return {loss, tape.Backward({loss}, {dy}, {})[logits]};
  }
};
RESIDUAL_EACH_TARGET(CrossEntropyTest);

// The maximum in every place, over blocks of a row: what was summed before a larger maximum came is
// brought to it.
TEST_P(CrossEntropyTest, GrowingLogits) {
  constexpr int64_t vocab = 6001;
  for (DType dtype : {kF32, kF64}) {
    for (double slope : {0.02, -0.02}) {
      Tensor logits = Tensor::Uninitialized({1, vocab}, kF64);
      for (int64_t i = 0; i < vocab; ++i) {
        logits.mutable_data<double>()[i] = slope * i + (i % 7) * 0.125;
      }
      logits = ConvertTo(logits, dtype);
      const Tensor target = Tensor::Of<int64_t>({1}, {5000});
      ExpectClose(CrossEntropy(logits, target), Reference(logits, target, {}), 4, "growing logits");
    }
  }
}

TEST_P(CrossEntropyTest, LargeLogitsDoNotOverflow) {
  for (DType dtype : {kF32, kF64, kBF16}) {
    const Tensor logits = ConvertTo(Tensor::Of<double>({1, 3}, {2048, 2032, -2048}), dtype);
    const Result got = Run(logits, Tensor::Of<int64_t>({1}, {1}));
    EXPECT_NEAR(got.loss.Item(), 16 + std::log1p(std::exp(-16)), 1e-5);
    EXPECT_NEAR(got.gradient.ToDoubles()[0], 1, 1e-2);
    EXPECT_NEAR(got.gradient.ToDoubles()[1], -1, 1e-2);
    EXPECT_EQ(got.gradient.ToDoubles()[2], 0);
  }
}

// Minus infinity is a class that cannot be: no probability and no gradient.
TEST_P(CrossEntropyTest, ImpossibleClasses) {
  for (DType dtype : {kF32, kF64, kBF16, kF16}) {
    std::vector<double> values(40, 0.0);
    for (int i = 0; i < 20; ++i) values[2 * i] = -kInfinity;
    const Tensor logits = ConvertTo(Tensor::Of<double>({1, 40}, values), dtype);
    const Result got = Run(logits, Tensor::Of<int64_t>({1}, {1}));
    EXPECT_NEAR(got.loss.Item(), std::log(20.0), 1e-6);
    EXPECT_EQ(got.gradient.ToDoubles()[0], 0);
    EXPECT_NEAR(got.gradient.ToDoubles()[3], 1 / 20.0, 1e-3);
    const Result impossible = Run(logits, Tensor::Of<int64_t>({1}, {0}));
    EXPECT_EQ(impossible.loss.Item(), kInfinity);
  }
}

TEST_P(CrossEntropyTest, RowsWithoutASoftmaxAreNaN) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (DType dtype : {kF32, kF64, kBF16, kF16}) {
    for (int64_t place : {0, 7, 34}) {
      for (double bad : {nan, kInfinity}) {
        std::vector<double> values(70, 0.5);
        values[35 + place] = bad;
        const Tensor logits = ConvertTo(Tensor::Of<double>({2, 35}, values), dtype);
        const Result got = Run(logits, Tensor::Of<int64_t>({2}, {1, 2}), Options(Reduction::kNone));
        EXPECT_TRUE(std::isfinite(got.loss.ToDoubles()[0]));
        EXPECT_TRUE(std::isnan(got.loss.ToDoubles()[1]));
        for (int i = 0; i < 35; ++i) {
          EXPECT_TRUE(std::isfinite(got.gradient.ToDoubles()[i]));
          EXPECT_TRUE(std::isnan(got.gradient.ToDoubles()[35 + i]));
        }
      }
    }
    const Tensor nothing = Tensor::Full({1, 35}, -kInfinity, dtype);
    EXPECT_TRUE(std::isnan(CrossEntropy(nothing, Tensor::Of<int64_t>({1}, {3})).Item()));
  }
}

// As PyTorch: the mean over no row is 0 / 0, the sum is 0, and no gradient flows.
TEST_P(CrossEntropyTest, EveryRowIgnored) {
  const Tensor logits = RandomNormal({3, 5}, 1, kF32);
  const Tensor targets = Tensor::Full({3}, -100, kI64);
  for (double smoothing : {0.0, 0.1}) {
    const Result mean = Run(logits, targets, Options(Reduction::kMean, smoothing));
    EXPECT_TRUE(std::isnan(mean.loss.Item()));
    for (double g : mean.gradient.ToDoubles()) EXPECT_EQ(g, 0);
    const Result sum = Run(logits, targets, Options(Reduction::kSum, smoothing));
    EXPECT_EQ(sum.loss.Item(), 0);
    for (double g : sum.gradient.ToDoubles()) EXPECT_EQ(g, 0);
  }
  EXPECT_TRUE(std::isnan(CrossEntropy(Tensor::Zeros({0, 5}), Tensor::Zeros({0}, kI64)).Item()));
}

// Past the size from which gradients are written around the caches; the row length leaves every
// alignment.
TEST_P(CrossEntropyTest, LargeGradient) {
  constexpr int64_t rows = 84, vocab = 50257;
  const Tensor logits = RandomNormal({rows, vocab}, 5, kF32);
  Tensor targets = Tensor::Uninitialized({rows}, kI32);
  for (int64_t r = 0; r < rows; ++r) targets.mutable_data<int32_t>()[r] = r * 599 % vocab;
  const Result got = Run(logits, targets, Options(Reduction::kMean, 0.1));
  const Result want = Run(ConvertTo(logits, kF64), targets, Options(Reduction::kMean, 0.1));
  ExpectClose(got.loss, want.loss, 4, "loss");
  ExpectClose(got.gradient, want.gradient, 4, "gradient");
}

// The gradient is linear in dy, which need not be one.
TEST_P(CrossEntropyTest, GradientOfAScaledLoss) {
  for (DType dtype : {kF32, kF64, kBF16, kF16}) {
    Tensor logits = RandomNormal({3, 17}, 2, dtype);
    const Tensor targets = Tensor::Of<int64_t>({3}, {1, 2, 16});
    const Tensor once = Run(logits, targets).gradient;
    Tape tape;
    tape.Watch(logits);
    const Tensor loss = CrossEntropy(logits, targets);
    const Tensor got = tape.Backward({loss}, {Tensor::Scalar(-4, loss.dtype())}, {})[logits];
    for (int64_t i = 0; i < got.elements(); ++i) {
      EXPECT_EQ(got.ToDoubles()[i], -4 * once.ToDoubles()[i]) << Name(dtype);
    }
  }
}

TEST(CrossEntropyDeathTest, NamesTheTargetAndTheShapes) {
  const Tensor logits = Tensor::Zeros({2, 5});
  EXPECT_DEATH(CrossEntropy(logits, Tensor::Of<int64_t>({2}, {0, 5})),
               "cross_entropy: target 5 at position 1 of i64\\[2\\] is not in \\[0, 5\\)");
  EXPECT_DEATH(TokenLogProbs(logits, Tensor::Of<int64_t>({2}, {-100, 0})),
               "token_log_probs: target -100 at position 0");
  EXPECT_DEATH(CrossEntropy(logits, Tensor::Zeros({3}, kI64)),
               "cross_entropy.*f32\\[2, 5\\].*i64\\[3\\]");
  EXPECT_DEATH(CrossEntropy(logits, Tensor::Zeros({2})), "cross_entropy.*f32\\[2\\]");
  EXPECT_DEATH(CrossEntropy(logits, Tensor::Zeros({2}, kI64), Options(Reduction::kMean, 1.5)),
               "label_smoothing is 1.5");
}

}  // namespace
}  // namespace residual
