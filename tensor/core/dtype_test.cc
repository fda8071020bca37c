#include "tensor/core/dtype.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace residual {
namespace {

// Every bit pattern survives the way to float and back, and a float between two neighbours goes to
// the nearer one, a tie to the even one: that is the definition of the rounding.
template <class Half>
void CheckRounding() {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Half half{static_cast<uint16_t>(bits)};
    const float value = half.ToFloat();
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(Half::FromFloat(value).ToFloat()));
      continue;
    }
    ASSERT_EQ(Half::FromFloat(value).bits, bits) << value;
    const Half next{static_cast<uint16_t>(bits + 1)};
    if ((bits & 0x7fff) == 0x7fff || !std::isfinite(next.ToFloat())) continue;
    const float middle = static_cast<float>((double{value} + next.ToFloat()) / 2);
    ASSERT_EQ(Half::FromFloat(middle).bits, bits & 1 ? bits + 1 : bits) << value;
    ASSERT_EQ(Half::FromFloat(std::nextafter(middle, value)).bits, bits) << value;
    ASSERT_EQ(Half::FromFloat(std::nextafter(middle, next.ToFloat())).bits, bits + 1) << value;
  }
}

TEST(DTypeTest, BFloat16RoundsToNearestEven) { CheckRounding<BFloat16>(); }
TEST(DTypeTest, Float16RoundsToNearestEven) { CheckRounding<Float16>(); }

TEST(DTypeTest, HalvesOverflowToInfinity) {
  EXPECT_EQ(Float16::FromFloat(65504.0f).ToFloat(), 65504.0f);
  EXPECT_EQ(Float16::FromFloat(65519.9f).ToFloat(), 65504.0f);
  EXPECT_TRUE(std::isinf(Float16::FromFloat(65520.0f).ToFloat()));
  EXPECT_TRUE(std::isinf(BFloat16::FromFloat(std::numeric_limits<float>::max()).ToFloat()));
  EXPECT_EQ(Float16::FromFloat(1e-10f).ToFloat(), 0.0f);
  EXPECT_TRUE(std::signbit(Float16::FromFloat(-1e-10f).ToFloat()));
}

TEST(DTypeTest, NamesAndSizes) {
  EXPECT_STREQ(Name(kBF16), "bf16");
  EXPECT_EQ(SizeOf(kF64), 8);
  EXPECT_EQ(SizeOf(kBool), 1);
  EXPECT_TRUE(IsFloat(kF16));
  EXPECT_FALSE(IsFloat(kI64));
}

}  // namespace
}  // namespace residual
