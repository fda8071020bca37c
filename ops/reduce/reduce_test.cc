#include "ops/reduce/reduce.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

enum class Kind { kSum, kMean, kMax };

Tensor Reference(const Tensor& x, int axis, bool keep, Kind kind) {
  axis = x.shape().Axis(axis);
  const int64_t size = x.dim(axis);
  const int64_t inner = x.shape().elements(axis + 1, x.rank());
  const Shape shape = keep ? x.shape().With(axis, 1) : x.shape().Without(axis);
  Tensor y = Tensor::Zeros(shape, kF64);
  double* out = y.mutable_data<double>();
  for (int64_t j = 0; j < y.elements(); ++j) {
    const double* from = x.data<double>() + j / inner * size * inner + j % inner;
    long double result = kind == Kind::kMax ? from[0] : 0;
    for (int64_t i = 0; i < size; ++i) {
      const double value = from[i * inner];
      result = kind == Kind::kMax ? std::max<long double>(result, value) : result + value;
    }
    if (kind == Kind::kMean) result /= size;
    out[j] = static_cast<double>(result);
  }
  return y;
}

using Reduction = Tensor (*)(const Tensor&, int, bool);

// Sums: normal, or positive where many are added, so that little cancels. Maxima: all different,
// and further apart than the steps of the differences.
OpInput Input(const Shape& shape, Kind kind) {
  const int64_t n = shape.elements();
  if (kind != Kind::kMax) return {shape, n > 1000 ? OpInput::kPositive : OpInput::kNormal};
  Tensor x = Tensor::Uninitialized(shape, kF64);
  for (int64_t i = 0; i < n; ++i) x.mutable_data<double>()[i] = 0.01 * (i * 7919 % n);
  return OpInput(x);
}

OpCase Case(const char* name, Reduction op, Kind kind) {
  auto axis = [](const TensorList& x) { return static_cast<int>(x[1].data<int64_t>()[0]); };
  auto keep = [](const TensorList& x) { return x[1].data<int64_t>()[1] != 0; };
  // A row is x, and {axis, keep}.
  auto row = [kind](const Shape& x, int64_t axis, bool keep = false) {
    return std::vector<OpInput>{Input(x, kind), OpInput(Tensor::Of<int64_t>({2}, {axis, keep}))};
  };
  OpCase op_case(name);
  op_case.Run([=](const TensorList& x) { return TensorList{op(x[0], axis(x), keep(x))}; })
      .Reference(
          [=](const TensorList& x) { return TensorList{Reference(x[0], axis(x), keep(x), kind)}; })
      .DTypes({kF32, kF64, kBF16, kF16})
      .Ulps(4)
      // Nothing is returned, or one of everything.
      .Row(row({0, 3}, 1))
      .Row(row({0, 3}, 1, true))
      .Row(row({2, 0, 3}, -1))
      .Row(row({1}, 0))
      .Row(row({1, 1, 1}, 1, true))
      // The last axis, around the lanes of each target.
      .Row(row({5}, 0))
      .Row(row({3, 7}, -1))
      .Row(row({3, 15}, 1))
      .Row(row({2, 3, 16}, 2, true))
      .Row(row({3, 17}, 1))
      .Row(row({2, 65}, 1))
      .Row(row({2, 1031}, 1))
      .Row(row({700, 33}, 1))
      .Row(row({5000}, 0))
      // An axis before it.
      .Row(row({7, 3}, 0))
      .Row(row({3, 5, 15}, 1))
      .Row(row({3, 5, 16}, -2, true))
      .Row(row({2, 6, 17}, 1))
      .Row(row({1, 9, 67}, 1))
      .Row(row({301, 70}, 0))  // rows in parts
      .Row(row({3, 1500}, 0))  // columns in parts
      .Row(row({900, 3, 2, 2}, 1));
  // An axis of size 0: 0 for the sum; no maximum and no mean.
  if (kind == Kind::kSum) op_case.Row(row({3, 0}, 1)).Row(row({0, 4}, 0));
  return op_case;
}

RESIDUAL_OP_TEST(Sum, Case("sum", Sum, Kind::kSum));
RESIDUAL_OP_TEST(Mean, Case("mean", Mean, Kind::kMean));
RESIDUAL_OP_TEST(Max, Case("max", Max, Kind::kMax));

Tensor ReferenceAll(const Tensor& x, bool mean, bool norm) {
  long double sum = 0;
  for (double value : x.ToDoubles()) sum += norm ? value * value : value;
  if (mean) sum /= x.elements();
  return Tensor::Scalar(static_cast<double>(norm ? std::sqrt(sum) : sum), kF64);
}

OpCase AllCase(const char* name, Tensor (*op)(const Tensor&), bool mean, bool norm) {
  OpCase op_case(name);
  op_case.Run([op](const TensorList& x) { return TensorList{op(x[0])}; })
      .Reference([=](const TensorList& x) { return TensorList{ReferenceAll(x[0], mean, norm)}; })
      .DTypes({kF32, kF64, kBF16, kF16})
      .Ulps(4)
      .Shapes({{{}}, {{1}}, {{2, 3}}, {{15}}, {{4, 4}}, {{17}}, {{3, 5, 7}}, {{1031}}})
      .Row({OpInput({300, 70}, OpInput::kPositive)});
  if (!mean) op_case.Shapes({{{0}}, {{2, 0}}});
  return op_case;
}

RESIDUAL_OP_TEST(SumAll, AllCase("sum_all", SumAll, false, false));
RESIDUAL_OP_TEST(MeanAll, AllCase("mean_all", MeanAll, true, false));
RESIDUAL_OP_TEST(Norm2, AllCase("norm2", Norm2, false, true));

class ReduceTest : public EachTarget {};
RESIDUAL_EACH_TARGET(ReduceTest);

TEST_P(ReduceTest, ArgMaxIsTheFirstLargestOrTheFirstNaN) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  for (DType dtype : {kF32, kF64, kBF16, kF16}) {
    for (int64_t n : {1, 2, 5, 16, 37, 70, 1000}) {
      for (int64_t at : {int64_t{0}, n / 3, n / 2, n - 1}) {
        for (double value : {5.0, infinity, nan}) {
          // [n, 3]: column 1 has the value at two places, column 2 is -infinity throughout.
          Tensor x = Tensor::Zeros({n, 3}, kF64);
          double* values = x.mutable_data<double>();
          for (int64_t i = 0; i < n; ++i) values[3 * i + 2] = -infinity;
          values[3 * at + 1] = values[3 * (n - 1) + 1] = value;
          x = ConvertTo(x, dtype);
          EXPECT_EQ(ArgMax(x, 0).ToDoubles(), (std::vector<double>{0, at * 1.0, 0}));
          const double largest = Max(x, 0).ToDoubles()[1];
          EXPECT_TRUE(largest == value || (std::isnan(largest) && std::isnan(value)));
          // The same along the last axis.
          Tensor row = Tensor::Zeros({2, n}, kF64);
          row.mutable_data<double>()[n + at] = row.mutable_data<double>()[2 * n - 1] = value;
          row = ConvertTo(row, dtype);
          EXPECT_EQ(ArgMax(row, -1, true).ToDoubles(), (std::vector<double>{0, at * 1.0}));
        }
      }
    }
  }
}

TEST_P(ReduceTest, NaNGivesNaN) {
  for (int64_t n : {3, 40}) {
    Tensor x = Tensor::Zeros({n, n});
    x.mutable_data<float>()[n + 1] = std::nanf("");
    for (Reduction op : {Reduction(Sum), Reduction(Mean), Reduction(Max)}) {
      for (int axis : {0, 1}) {
        const std::vector<double> y = op(x, axis, false).ToDoubles();
        for (int64_t i = 0; i < n; ++i) EXPECT_EQ(std::isnan(y[i]), i == 1);
      }
    }
    EXPECT_TRUE(std::isnan(SumAll(x).Item()));
    EXPECT_TRUE(std::isnan(MeanAll(x).Item()));
    EXPECT_TRUE(std::isnan(Norm2(x).Item()));
  }
}

// A million terms: what f32 alone would lose.
TEST_P(ReduceTest, LongSumsKeepTheirDigits) {
  const Tensor x = Tensor::Full({1 << 20}, 0.1);
  const double want = (1 << 20) * static_cast<double>(0.1f);
  EXPECT_NEAR(SumAll(x).Item(), want, 4e-7 * want);
  EXPECT_NEAR(Sum(x, 0).Item(), want, 4e-7 * want);
  EXPECT_NEAR(Sum(x.Reshaped({1 << 18, 4}), 0).ToDoubles()[3], want / 4, 1e-7 * want);
  EXPECT_NEAR(Norm2(Tensor::Full({64}, 1e30)).Item(), 8e30, 1e24);
}

TEST(ReduceTest, OfNothing) {
  EXPECT_EQ(SumAll(Tensor::Zeros({0})).Item(), 0);
  EXPECT_TRUE(std::isnan(MeanAll(Tensor::Zeros({0})).Item()));
  EXPECT_TRUE(std::isnan(Mean(Tensor::Zeros({1, 0}), 1).Item()));
  EXPECT_EQ(Max(Tensor::Zeros({0, 0}), 1).shape(), Shape{0});
}

TEST(ReduceDeathTest, SaysWhatIsWrong) {
  EXPECT_DEATH(Sum(Tensor::Zeros({2, 3}, kI64), 0), "sum: check failed.*i64\\[2, 3\\]");
  EXPECT_DEATH(Mean(Tensor::Zeros({}), 0), "mean: check failed.*f32\\[\\]");
  EXPECT_DEATH(Max(Tensor::Zeros({2, 0}), 1), "max: check failed.*f32\\[2, 0\\]");
  EXPECT_DEATH(ArgMax(Tensor::Zeros({2, 0}), 1), "arg_max: check failed.*f32\\[2, 0\\]");
  EXPECT_DEATH(SumAll(Tensor::Zeros({2}, kBool)), "sum_all: check failed.*bool\\[2\\]");
  EXPECT_DEATH(MeanAll(Tensor::Zeros({2}, kI32)), "mean_all: check failed.*i32\\[2\\]");
  EXPECT_DEATH(Norm2(Tensor::Zeros({2}, kU8)), "norm2: check failed.*u8\\[2\\]");
}

}  // namespace
}  // namespace residual
