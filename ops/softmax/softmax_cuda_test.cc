// The GPU against the CPU in float64, which softmax_test.cc holds to a reference.

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "ops/softmax/softmax.h"
#include "tensor/core/cuda_hooks.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

// Around a warp of 32 lanes, the 8 rows of a block, and 1024 elements, from where on a block of 256
// threads works on one row.
OpCase Case(const char* name, Tensor (*op)(const Tensor&)) {
  const auto run = [op](const TensorList& x) { return TensorList{op(x[0])}; };
  return OpCase(name)
      .Run(run)
      .Reference(run)
      .DTypes({kF32, kF64, kBF16})
      .Shapes({{{0}},
               {{0, 5}},
               {{3, 0}},
               {{1}},
               {{3, 1}},
               {{7, 31}},
               {{8, 32}},
               {{9, 33}},
               {{2, 3, 5, 64}},
               {{17, 100}},
               {{2, 1023}},
               {{2, 1024}},
               {{3, 1025}},
               {{2, 5021}}})
      .Ulps(16);
}

RESIDUAL_OP_CUDA_TEST(Softmax, Case("softmax", Softmax));
RESIDUAL_OP_CUDA_TEST(LogSoftmax, Case("log_softmax", LogSoftmax));

class SoftmaxCudaExtremesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HaveCudaHooks()) GTEST_SKIP() << "no GPU";
  }
};

TEST_F(SoftmaxCudaExtremesTest, MaskedInfiniteAndHugeRows) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  for (int64_t n : {3, 32, 70, 1500}) {
    for (DType dtype : {kF32, kF64}) {
      // One element among others that are equal, where it stands in the order of the lanes.
      for (int64_t at : {int64_t{0}, n / 2, n - 1}) {
        const auto run = [&](Tensor (*op)(const Tensor&), float one, float rest) {
          std::vector<float> values(n, rest);
          values[at] = one;
          const Tensor x = ConvertTo(Tensor::Of<float>({1, n}, values), dtype);
          return ToDevice(op(ToDevice(x, kCuda)), kCpu).ToDoubles();
        };
        for (double y : run(Softmax, -inf, -inf)) EXPECT_EQ(y, 0);
        for (double y : run(LogSoftmax, -inf, -inf)) EXPECT_EQ(y, -inf);
        const std::vector<double> one_left = run(Softmax, 3, -inf);
        for (int64_t i = 0; i < n; ++i) EXPECT_EQ(one_left[i], i == at) << i;
        for (double y : run(Softmax, 1e30f, 1e30f)) EXPECT_NEAR(y, 1.0 / n, 1e-6 / n);
        for (double y : run(Softmax, nan, 0)) EXPECT_TRUE(std::isnan(y));
        for (double y : run(Softmax, nan, -inf)) EXPECT_TRUE(std::isnan(y));
        for (double y : run(Softmax, inf, 0)) EXPECT_TRUE(std::isnan(y));
        for (double y : run(LogSoftmax, inf, -inf)) EXPECT_TRUE(std::isnan(y));
      }
    }
  }
}

}  // namespace
}  // namespace residual
