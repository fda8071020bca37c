// Tensors on a GPU, a real one or an emulated one.

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "tensor/autograd/tape.h"
#include "tensor/core/cuda_hooks.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

class CudaTensorTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HaveCudaHooks()) GTEST_SKIP() << "no GPU";
  }
};

TEST_F(CudaTensorTest, GoesAndComesBack) {
  for (DType dtype : {kF32, kF64, kBF16, kF16, kI64, kU8, kBool}) {
    for (int64_t n : {0, 1, 3, 1000}) {
      const Tensor x = RandomNormal({n}, 7, dtype);
      const Tensor there = ToDevice(x, kCuda);
      EXPECT_EQ(there.device(), kCuda);
      ExpectIdentical(ToDevice(there, kCpu), x, "round trip");
      ExpectIdentical(ToDevice(there.Clone(), kCpu), x, "copy on the device");
    }
  }
  EXPECT_EQ(ToDevice(Tensor::Zeros({2, 3}), kCuda).ToString(), "f32[2, 3] on cuda");
}

TEST_F(CudaTensorTest, RowsAndShapesAreFreeThereToo) {
  const Tensor x = RandomNormal({5, 3}, 1, kF32);
  const Tensor there = ToDevice(x, kCuda);
  ExpectIdentical(ToDevice(there.Rows(1, 4).Reshaped({9}), kCpu), x.Rows(1, 4).Reshaped({9}),
                  "rows");
}

TEST_F(CudaTensorTest, AddsInPlace) {
  for (DType dtype : {kF32, kF64, kBF16, kF16}) {
    for (int64_t n : {0, 1, 255, 256, 257, 70000}) {
      Tensor want = RandomNormal({n}, 1, dtype);
      const Tensor b = RandomNormal({n}, 2, dtype);
      Tensor got = ToDevice(want, kCuda);
      AddInto(got, ToDevice(b, kCuda));
      AddInto(want, b);
      ExpectIdentical(ToDevice(got, kCpu), want, Name(dtype));
    }
  }
}

// Every float format to every other: rounding, subnormals, overflow, infinities.
TEST_F(CudaTensorTest, ConvertsAsTheHostDoes) {
  std::vector<double> values = {0.0,
                                -0.0,
                                1.0,
                                -2.5,
                                65504,
                                65519,
                                65520,
                                70000,
                                1e30,
                                -1e39,
                                1e300,
                                std::numeric_limits<double>::infinity(),
                                -std::numeric_limits<double>::infinity()};
  for (int i = 0; i < 2000; ++i) values.push_back(std::ldexp(1.0 + i / 2000.0, i % 60 - 40));
  const Tensor exact = Tensor::Of<double>({static_cast<int64_t>(values.size())}, values);
  for (DType from : {kF32, kF64, kBF16, kF16}) {
    const Tensor x = ConvertTo(exact, from);
    for (DType to : {kF32, kF64, kBF16, kF16}) {
      ExpectIdentical(ToDevice(ConvertTo(ToDevice(x, kCuda), to), kCpu), ConvertTo(x, to),
                      std::string(Name(from)) + " to " + Name(to));
    }
    const Tensor nan = ConvertTo(Tensor::Full({1}, std::nan("")), from);
    for (DType to : {kF32, kF64, kBF16, kF16}) {
      EXPECT_TRUE(std::isnan(ToDevice(ConvertTo(ToDevice(nan, kCuda), to), kCpu).Item()));
    }
  }
}

TEST_F(CudaTensorTest, GradientsSumOnTheDevice) {
  Tensor x = ToDevice(Tensor::Of<float>({3}, {1, 2, 3}), kCuda);
  Tape tape;
  tape.Watch(x);
  Tensor y = x.Clone();
  tape.Record("twice", {&x, &x}, {&y}, [](absl::Span<const Tensor> dy, Needs) {
    return TensorList{dy[0], dy[0]};
  });
  const Gradients grads =
      tape.Backward({y}, {ToDevice(Tensor::Of<float>({3}, {5, 6, 7}), kCuda)}, {});
  EXPECT_EQ(ToDevice(grads[x], kCpu).ToDoubles(), (std::vector<double>{10, 12, 14}));
}

}  // namespace
}  // namespace residual
