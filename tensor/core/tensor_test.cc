#include "tensor/core/tensor.h"

#include <vector>

#include "gtest/gtest.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

TEST(ShapeTest, AxesSizesAndText) {
  const Shape shape{2, 3, 5};
  EXPECT_EQ(shape.rank(), 3);
  EXPECT_EQ(shape[-1], 5);
  EXPECT_EQ(shape.elements(), 30);
  EXPECT_EQ(Shape({}).elements(), 1);
  EXPECT_EQ(Shape({0, 7}).elements(), 0);
  EXPECT_EQ(shape.With(-2, 4), (Shape{2, 4, 5}));
  EXPECT_EQ(shape.Without(0), (Shape{3, 5}));
  EXPECT_EQ(shape.Inserted(1, 9), (Shape{2, 9, 3, 5}));
  EXPECT_EQ(shape.Appended(1), (Shape{2, 3, 5, 1}));
  EXPECT_EQ(shape.ToString(), "[2, 3, 5]");
  EXPECT_DEATH(shape[3], "axis 3 of the shape \\[2, 3, 5\\]");
}

TEST(TensorTest, HoldsValuesOfEveryDType) {
  for (DType dtype : {kF32, kF64, kBF16, kF16, kI64, kI32, kU8}) {
    const Tensor x = Tensor::Full({2, 3}, 5, dtype);
    EXPECT_EQ(x.ToDoubles(), std::vector<double>(6, 5.0)) << Name(dtype);
    EXPECT_EQ(Tensor::Zeros({4}, dtype).ToDoubles(), std::vector<double>(4, 0.0));
  }
  EXPECT_EQ(Tensor::Of<bool>({2}, {true, false}).ToDoubles(), (std::vector<double>{1, 0}));
  EXPECT_EQ(Tensor::Scalar(2.5).Item(), 2.5);
  EXPECT_EQ(Tensor::Zeros({0, 3}).elements(), 0);
  EXPECT_EQ(Tensor().ToString(), "undefined");
}

TEST(TensorTest, HandlesShareAndOnlyTheSoleOneWrites) {
  Tensor x = Tensor::Of<float>({2}, {1, 2});
  x.mutable_data<float>()[0] = 3;
  Tensor y = x;
  EXPECT_EQ(y.data<float>()[0], 3);
  EXPECT_FALSE(x.unique());
  EXPECT_DEATH(x.mutable_data<float>(), "writing f32\\[2\\], which other handles share");
  Tensor z = x.Clone();
  z.mutable_data<float>()[0] = 4;
  EXPECT_EQ(x.data<float>()[0], 3);
  EXPECT_DEATH(z.data<int64_t>(), "data<i64>\\(\\) of f32\\[2\\]");
}

TEST(TensorTest, WrappedMemoryIsReadOnly) {
  static const float values[] = {1, 2, 3};
  bool released = false;
  {
    Tensor x = Tensor::Wrap(values, {3}, kF32, [&] { released = true; });
    EXPECT_EQ(x.data<float>(), values);
    EXPECT_FALSE(x.unique());
    EXPECT_DEATH(x.mutable_data<float>(), "read-only");
    const Tensor row = x.Rows(1, 2);
    x = Tensor();
    EXPECT_EQ(row.Item(), 2);
    EXPECT_FALSE(released);
  }
  EXPECT_TRUE(released);
}

TEST(TensorTest, ReshapesAndRowsAreFree) {
  const Tensor x = Tensor::Of<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(x.Reshaped({3, 2}).data<float>(), x.data<float>());
  EXPECT_EQ(x.Row(1).shape(), (Shape{3}));
  EXPECT_EQ(x.Row(1).data<float>(), x.data<float>() + 3);
  EXPECT_EQ(x.Rows(1, 1).elements(), 0);
  EXPECT_DEATH(x.Reshaped({4}), "reshaping f32\\[2, 3\\] to \\[4\\]");
  EXPECT_DEATH(x.Rows(1, 3), "rows \\[1, 3\\) of f32\\[2, 3\\]");
}

TEST(TensorTest, Converts) {
  const Tensor x = Tensor::Of<double>({3}, {1.5, -2.0, 7.9});
  EXPECT_EQ(ConvertTo(x, kI32).rank(), 1);
  EXPECT_EQ(ConvertTo(x, kF32).data<float>()[0], 1.5f);
  EXPECT_EQ(ConvertTo(ConvertTo(x, kBF16), kF64).data<double>()[1], -2.0);
  EXPECT_EQ(ConvertTo(Tensor::Of<int64_t>({1}, {(int64_t{1} << 53) + 1}), kI64).data<int64_t>()[0],
            (int64_t{1} << 53) + 1);
}

TEST(TensorTest, AddsInto) {
  for (DType dtype : {kF32, kF64, kBF16, kF16}) {
    Tensor a = Tensor::Full({1000}, 1.5, dtype);
    AddInto(a, Tensor::Full({1000}, 0.25, dtype));
    EXPECT_EQ(a.ToDoubles(), std::vector<double>(1000, 1.75)) << Name(dtype);
  }
}

TEST(OpCheckDeathTest, PrintsOpConditionAndOperands) {
  const Tensor x = Tensor::Zeros({2, 3});
  const Tensor y = Tensor::Zeros({4}, kI64);
  EXPECT_DEATH(
      RESIDUAL_CHECK_OP("add", x.shape() == y.shape(), x, y),
      "add: check failed: x.shape\\(\\) == y.shape\\(\\); operands f32\\[2, 3\\] i64\\[4\\]");
}

}  // namespace
}  // namespace residual
