#include "ops/rotary/rotary.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

// The options of a row, as its last input.
enum Option { kDim, kInterleaved, kTheta, kScalingPercent, kOptions };

RotaryOptions OptionsOf(const Tensor& numbers) {
  const int64_t* n = numbers.data<int64_t>();
  RotaryOptions options;
  options.rotary_dim = n[kDim];
  options.style = n[kInterleaved] != 0 ? RotaryStyle::kInterleaved : RotaryStyle::kHalf;
  if (n[kTheta] != 0) options.theta = n[kTheta];
  if (n[kScalingPercent] != 0) options.attention_scaling = n[kScalingPercent] / 100.0;
  return options;
}

Tensor Reference(const TensorList& in) {
  const Tensor &x = in[0], &positions = in[1];
  const RotaryOptions options = OptionsOf(in[2]);
  Tensor y = x.Clone();
  double* out = y.mutable_data<double>();
  const int64_t seq = x.dim(1), heads = x.dim(2), d_head = x.dim(3);
  const int64_t n = options.rotary_dim < 0 ? d_head : options.rotary_dim;
  for (int64_t r = 0; r < x.dim(0) * seq; ++r) {
    const int64_t position = positions.data<int64_t>()[positions.rank() == 2 ? r : r % seq];
    for (int64_t h = 0; h < heads; ++h) {
      const double* from = x.data<double>() + (r * heads + h) * d_head;
      double* to = out + (r * heads + h) * d_head;
      for (int64_t i = 0; i < n / 2; ++i) {
        const bool pairs = options.style == RotaryStyle::kInterleaved;
        const int64_t a = pairs ? 2 * i : i, b = pairs ? 2 * i + 1 : i + n / 2;
        const double angle = position * std::pow(options.theta, -2.0 * i / n);
        const double cos = options.attention_scaling * std::cos(angle);
        const double sin = options.attention_scaling * std::sin(angle);
        to[a] = from[a] * cos - from[b] * sin;
        to[b] = from[b] * cos + from[a] * sin;
      }
    }
  }
  return y;
}

// Positions far apart, the same for every batch or not; some are negative.
Tensor Positions(const Shape& shape) {
  Tensor positions = Tensor::Uninitialized(shape, kI64);
  int64_t* p = positions.mutable_data<int64_t>();
  for (int64_t i = 0; i < positions.elements(); ++i) p[i] = i * 7919 % 131072 - 5;
  return positions;
}

std::vector<OpInput> Row(const Shape& x, std::vector<int64_t> numbers = {-1},
                         bool per_batch = false) {
  numbers.resize(kOptions);
  const Shape positions = per_batch ? Shape{x[0], x[1]} : Shape{x[1]};
  return {OpInput(x), OpInput(Positions(positions)),
          OpInput(Tensor::Of<int64_t>({kOptions}, numbers))};
}

RESIDUAL_OP_TEST(Rotary,
                 OpCase("rotary")
                     .Run([](const TensorList& x) {
                       return TensorList{Rotary(x[0], x[1], OptionsOf(x[2]))};
                     })
                     .Reference([](const TensorList& x) { return TensorList{Reference(x)}; })
                     .DTypes({kF32, kF64, kBF16, kF16})
                     .Ulps(4)
                     // Nothing, and one pair.
                     .Row(Row({0, 3, 2, 4}))
                     .Row(Row({1, 0, 2, 4}))
                     .Row(Row({1, 3, 0, 4}))
                     .Row(Row({1, 3, 2, 0}))
                     .Row(Row({1, 3, 2, 5}, {0}))
                     .Row(Row({1, 1, 1, 2}))
                     .Row(Row({1, 1, 1, 2}, {-1, 1}))
                     // Around the lanes of each target, both layouts.
                     .Row(Row({2, 5, 3, 6}))
                     .Row(Row({2, 5, 3, 6}, {-1, 1}))
                     .Row(Row({1, 4, 1, 30}))
                     .Row(Row({1, 4, 1, 30}, {-1, 1}))
                     .Row(Row({1, 4, 2, 32}))
                     .Row(Row({1, 4, 2, 32}, {-1, 1}))
                     .Row(Row({1, 4, 2, 34}))
                     .Row(Row({1, 4, 2, 34}, {-1, 1}))
                     .Row(Row({1, 7, 1, 128}, {-1, 0, 500000}))
                     // A part of the head; positions of each batch; YaRN's factor.
                     .Row(Row({2, 3, 2, 11}, {6}))
                     .Row(Row({2, 3, 2, 11}, {6, 1}))
                     .Row(Row({3, 5, 2, 24}, {16, 0, 1000, 125}, true))
                     .Row(Row({3, 5, 2, 24}, {-1, 1, 0, 80}, true))
                     // Several chunks.
                     .Row(Row({2, 301, 4, 36})));

TEST(RotaryTest, TakesFrequenciesAndPositionsInI32) {
  RotaryOptions options;
  options.inv_freq = {0.5, 0.25};
  const Tensor x = Tensor::Of<float>({1, 1, 1, 4}, {1, 0, 0, 1});
  const std::vector<double> y = Rotary(x, Tensor::Of<int32_t>({1}, {2}), options).ToDoubles();
  EXPECT_NEAR(y[0], std::cos(1), 1e-7);
  EXPECT_NEAR(y[1], -std::sin(0.5), 1e-7);
  EXPECT_NEAR(y[2], std::sin(1), 1e-7);
  EXPECT_NEAR(y[3], std::cos(0.5), 1e-7);
}

// What relative positions rest on: <R(p) q, R(p + d) k> does not depend on p.
TEST(RotaryTest, ProductsDependOnTheDistanceOnly) {
  const Tensor q = RandomNormal({1, 1, 1, 64}, 1), k = RandomNormal({1, 1, 1, 64}, 2);
  auto product = [&](int64_t p, int64_t distance) {
    const Tensor a = Rotary(q, Tensor::Of<int64_t>({1}, {p}));
    const Tensor b = Rotary(k, Tensor::Of<int64_t>({1}, {p + distance}));
    double sum = 0;
    for (int64_t i = 0; i < 64; ++i) sum += a.data<double>()[i] * b.data<double>()[i];
    return sum;
  };
  for (int64_t distance : {0, 1, 100}) {
    EXPECT_NEAR(product(0, distance), product(100000, distance), 1e-8);
  }
}

TEST(ScaledFrequenciesTest, EveryKind) {
  RotaryScaling scaling;
  const std::vector<double> plain = ScaledFrequencies(8, 500000, scaling);
  ASSERT_EQ(plain.size(), 4u);
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(plain[i], std::pow(500000, -i / 4.0), 1e-15);

  scaling.factor = 4;
  scaling.kind = RotaryScaling::kLinear;
  const std::vector<double> linear = ScaledFrequencies(8, 500000, scaling);
  for (int i = 0; i < 4; ++i) EXPECT_DOUBLE_EQ(linear[i], plain[i] / 4);

  // transformers' _compute_llama3_parameters, by wavelengths: with 100 positions of training, bands
  // end at 100 / 4 and 100 / 1. The wavelengths are 6.3, 167, 4443 and 118135 for theta
  // 500000; 6.3, 19.9, 62.8 and 199 for theta 100.
  scaling.kind = RotaryScaling::kLlama3;
  scaling.original_ctx = 100;
  const std::vector<double> llama = ScaledFrequencies(8, 100, scaling);
  const double smooth = (100 * 0.1 / (2 * M_PI) - 1) / (4 - 1);
  EXPECT_NEAR(llama[0], 1, 1e-15);
  EXPECT_NEAR(llama[1], std::pow(100, -0.25), 1e-15);
  EXPECT_NEAR(llama[2], (1 - smooth) * 0.1 / 4 + smooth * 0.1, 1e-15);
  EXPECT_NEAR(llama[3], std::pow(100, -0.75) / 4, 1e-15);
  EXPECT_TRUE(ScaledFrequencies(0, 100, scaling).empty());
}

TEST(RotaryDeathTest, SaysWhatIsWrong) {
  const Tensor x = Tensor::Zeros({2, 3, 4, 6});
  const Tensor positions = Tensor::Zeros({3}, kI64);
  EXPECT_DEATH(Rotary(Tensor::Zeros({3, 4, 6}), positions), "rotary: check.*f32\\[3, 4, 6\\]");
  EXPECT_DEATH(Rotary(ConvertTo(x, kI64), positions), "rotary: check failed.*i64\\[2, 3, 4, 6\\]");
  EXPECT_DEATH(Rotary(x, Tensor::Zeros({3})), "rotary: check failed.*f32\\[3\\]");
  EXPECT_DEATH(Rotary(x, Tensor::Zeros({4}, kI64)), "rotary: check failed.*f32\\[4, 3\\]");
  EXPECT_DEATH(Rotary(x, Tensor::Zeros({1, 3}, kI64)), "rotary: check failed.*f32\\[1, 3, 3\\]");
  RotaryOptions options;
  options.rotary_dim = 8;
  EXPECT_DEATH(Rotary(x, positions, options), "rotary: check failed.*f32\\[3, 4\\]");
  options.rotary_dim = 3;
  EXPECT_DEATH(Rotary(x, positions, options), "rotary_dim is 3, must be even");
  options.rotary_dim = 4;
  options.inv_freq = {1, 2, 3};
  EXPECT_DEATH(Rotary(x, positions, options), "frequencies for rotary_dim 4");
  EXPECT_DEATH(Rotary(ConvertTo(x, kF64), MakeRotaryTable(positions, 6, {})),
               "rotary: check failed.*f64\\[2, 3, 4, 6\\] f32\\[3, 3\\]");
}

}  // namespace
}  // namespace residual
