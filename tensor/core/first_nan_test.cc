#include "tensor/core/first_nan.h"

#include <limits>

#include "gtest/gtest.h"

namespace residual {
namespace {

TEST(FirstNaNTest, OfEveryDType) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (DType dtype : {kF32, kF64, kBF16, kF16}) {
    const Tensor x = Tensor::Of<double>({2, 3}, {1, infinity, -2, 0, nan, nan});
    EXPECT_EQ(FirstNaN(ConvertTo(x, dtype)), 4) << Name(dtype);
    EXPECT_EQ(FirstNaN(ConvertTo(x.Rows(0, 1), dtype)), std::nullopt) << Name(dtype);
  }
  EXPECT_EQ(FirstNaN(Tensor::Full({3}, 7, kI64)), std::nullopt);
  EXPECT_EQ(FirstNaN(Tensor::Zeros({0})), std::nullopt);
}

}  // namespace
}  // namespace residual
