#include "models/nn/precision.h"

#include "gtest/gtest.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

TEST(PrecisionTest, NamesGoBothWays) {
  for (const std::string& name : PrecisionNames()) {
    const auto precision = PrecisionFromName(name);
    ASSERT_TRUE(precision.has_value()) << name;
    EXPECT_EQ(PrecisionName(*precision), name);
  }
  EXPECT_EQ(PrecisionFromName("f32"), Precision::kFull);
  EXPECT_EQ(PrecisionFromName("bf16"), Precision::kBF16);
  EXPECT_FALSE(PrecisionFromName("f16").has_value());
}

TEST(PrecisionTest, FullIsTheProduct) {
  for (const DType dtype : {kF32, kF64, kBF16}) {
    const Tensor x = RandomNormal({3, 7}, 1, dtype), w = RandomNormal({7, 5}, 2, dtype);
    MatMulOptions options;
    options.bias = RandomNormal({5}, 3, dtype);
    options.activation = Activation::kGelu;
    for (const bool narrow : {false, true}) {
      ExpectIdentical(Linear(x, w, Precision::kFull, options, narrow), MatMul(x, w, options), "y");
    }
  }
}

// Operands are rounded, sums and bias are not; the result only where it is to be narrow.
TEST(PrecisionTest, MixedRoundsTheOperands) {
  const Tensor x = RandomNormal({3, 40}, 1, kF32), w = RandomNormal({40, 5}, 2, kF32);
  MatMulOptions options;
  options.bias = RandomNormal({5}, 3, kF32);
  const auto rounded = [](const Tensor& t) { return ConvertTo(ConvertTo(t, kBF16), kF64); };
  MatMulOptions wide;
  wide.bias = ConvertTo(options.bias, kF64);
  const Tensor want = MatMul(rounded(x), rounded(w), wide);
  for (const bool narrow : {false, true}) {
    const Tensor y = Linear(x, w, Precision::kBF16, options, narrow);
    EXPECT_EQ(y.dtype(), narrow ? kBF16 : kF32);
    const std::vector<double> got = y.ToDoubles(), exact = want.ToDoubles();
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], exact[i], narrow ? 0.005 * std::abs(exact[i]) + 1e-5 : 1e-5);
    }
  }
}

}  // namespace
}  // namespace residual
