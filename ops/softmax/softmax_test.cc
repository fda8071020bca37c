#include "ops/softmax/softmax.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

Tensor Reference(const Tensor& x, bool log) {
  Tensor y = Tensor::Uninitialized(x.shape(), kF64);
  const int64_t n = x.dim(-1);
  const double* in = x.data<double>();
  double* out = y.mutable_data<double>();
  for (int64_t r = 0; n > 0 && r < x.elements() / n; ++r) {
    long double sum = 0;  // 5021 terms in double would be off by more than the op is
    for (int64_t i = 0; i < n; ++i) sum += std::exp(in[r * n + i]);
    for (int64_t i = 0; i < n; ++i) {
      const double p = static_cast<double>(std::exp(in[r * n + i]) / sum);
      out[r * n + i] = log ? std::log(p) : p;
    }
  }
  return y;
}

OpCase Case(const char* name, Tensor (*op)(const Tensor&), bool log) {
  return OpCase(name)
      .Run([op](const TensorList& x) { return TensorList{op(x[0])}; })
      .Reference([log](const TensorList& x) { return TensorList{Reference(x[0], log)}; })
      .DTypes({kF32, kF64, kBF16})
      .Shapes({{{0}},
               {{0, 5}},
               {{3, 0}},
               {{1}},
               {{3, 1}},
               {{2, 7}},
               {{5, 15}},
               {{5, 16}},
               {{5, 17}},
               {{4, 33}},
               {{2, 3, 5, 64}},
               {{1031, 13}},
               {{2, 5021}}})
      .Ulps(16);
}

RESIDUAL_OP_TEST(Softmax, Case("softmax", Softmax, false));
RESIDUAL_OP_TEST(LogSoftmax, Case("log_softmax", LogSoftmax, true));

class SoftmaxExtremesTest : public EachTarget {};
RESIDUAL_EACH_TARGET(SoftmaxExtremesTest);

TEST_P(SoftmaxExtremesTest, MaskedInfiniteAndHugeRows) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  for (int64_t n : {3, 16, 21}) {
    for (DType dtype : {kF32, kF64}) {
      auto row = [&](float first, float rest) {
        std::vector<float> values(n, rest);
        values[0] = first;
        return ConvertTo(Tensor::Of<float>({1, n}, values), dtype);
      };
      // Fully masked: zeros, and -inf.
      for (double y : Softmax(row(-inf, -inf)).ToDoubles()) EXPECT_EQ(y, 0);
      for (double y : LogSoftmax(row(-inf, -inf)).ToDoubles()) EXPECT_EQ(y, -inf);
      // One key left.
      EXPECT_EQ(Softmax(row(3, -inf)).ToDoubles()[0], 1);
      EXPECT_EQ(Softmax(row(3, -inf)).ToDoubles()[1], 0);
      // No overflow.
      EXPECT_NEAR(Softmax(row(1e30f, 1e30f)).ToDoubles()[1], 1.0 / n, 1e-7);
      for (double y : Softmax(row(nan, 0)).ToDoubles()) EXPECT_TRUE(std::isnan(y));
      for (double y : Softmax(row(inf, 0)).ToDoubles()) EXPECT_TRUE(std::isnan(y) || y == 0);
    }
  }
}

// Large enough to be written past the caches, in rows that are no multiple of a vector.
TEST_P(SoftmaxExtremesTest, LargeResultsAreTheSame) {
  for (const int64_t n : {1031, 5001}) {
    const int64_t rows = (5 << 20) / n;
    const auto run = [](const Tensor& x, const Tensor& dy) {
      TensorList results;
      for (auto op : {Softmax, LogSoftmax}) {
        Tensor watched = x;
        Tape tape;
        tape.Watch(watched);
        results.push_back(op(watched));
        results.push_back(tape.Backward({results.back()}, {dy}, {})[watched]);
      }
      return results;
    };
    const Tensor x = RandomNormal({rows, n}, 1, kF32), dy = RandomNormal({rows, n}, 2, kF32);
    const TensorList large = run(x, dy);
    for (int64_t r : {int64_t{0}, int64_t{1}, int64_t{17}, rows - 1}) {
      const auto row = [&](const Tensor& t) {
        return Tensor::Of<float>(
            {1, n}, std::vector<float>(t.data<float>() + r * n, t.data<float>() + (r + 1) * n));
      };
      const TensorList small = run(row(x), row(dy));
      for (size_t i = 0; i < small.size(); ++i) ExpectIdentical(row(large[i]), small[i], "a row");
    }
  }
}

TEST(SoftmaxDeathTest, SaysWhatIsWrong) {
  EXPECT_DEATH(Softmax(Tensor::Zeros({})), "softmax: check failed.*f32\\[\\]");
  EXPECT_DEATH(Softmax(Tensor::Zeros({2}, kI64)), "softmax: check failed.*i64\\[2\\]");
}

}  // namespace
}  // namespace residual
