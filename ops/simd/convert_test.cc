#include "ops/simd/convert.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

class ConvertTest : public EachTarget {};
RESIDUAL_EACH_TARGET(ConvertTest);

// Every 16-bit float there is, and the same bits back.
template <class S>
void EveryNumber(DType dtype) {
  std::vector<S> all(1 << 16), again(1 << 16);
  for (int i = 0; i < 1 << 16; ++i) all[i].bits = static_cast<uint16_t>(i);
  std::vector<float> wide(1 << 16);
  Widen(dtype, all.data(), wide.data(), 1 << 16);
  Round(dtype, wide.data(), again.data(), 1 << 16);
  for (int i = 0; i < 1 << 16; ++i) {
    const float want = all[i].ToFloat();
    if (std::isnan(want)) {
      EXPECT_TRUE(std::isnan(wide[i])) << i;
      EXPECT_TRUE(std::isnan(again[i].ToFloat())) << i;
    } else {
      ASSERT_EQ(std::memcmp(&wide[i], &want, sizeof(want)), 0) << i;
      ASSERT_EQ(again[i].bits, all[i].bits) << i;
    }
  }
}

TEST_P(ConvertTest, EveryBF16) { EveryNumber<BFloat16>(kBF16); }
TEST_P(ConvertTest, EveryF16) { EveryNumber<Float16>(kF16); }

// Around every kind of rounding: halfway, next to it, overflow, subnormal numbers.
template <class S>
void RoundsAs(DType dtype) {
  std::vector<float> numbers = {0,        -0.0f,     std::numeric_limits<float>::max(),
                                INFINITY, -INFINITY, std::numeric_limits<float>::denorm_min(),
                                65504,    65519.99f, 65520};
  for (uint32_t high : {0x3f80u, 0x3f81u, 0x0001u, 0x3380u, 0x3300u, 0x387fu, 0x7f7fu}) {
    for (uint32_t low : {0u, 1u, 0x0fffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const uint32_t bits = high << 16 | low;
      float x;
      std::memcpy(&x, &bits, sizeof(x));
      numbers.push_back(x);
      numbers.push_back(-x);
    }
  }
  for (size_t n : {numbers.size(), size_t{1}, size_t{7}, size_t{17}}) {
    std::vector<S> rounded(n);
    Round(dtype, numbers.data(), rounded.data(), n);
    for (size_t i = 0; i < n; ++i) {
      EXPECT_EQ(rounded[i].bits, S::FromFloat(numbers[i]).bits) << numbers[i];
    }
  }
}

TEST_P(ConvertTest, RoundsToNearestBF16) { RoundsAs<BFloat16>(kBF16); }
TEST_P(ConvertTest, RoundsToNearestF16) { RoundsAs<Float16>(kF16); }

}  // namespace
}  // namespace residual
