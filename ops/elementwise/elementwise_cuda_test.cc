// The GPU against the CPU in float64, which elementwise_test.cc holds to references.

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "ops/elementwise/elementwise.h"
#include "tensor/autograd/tape.h"
#include "tensor/core/cuda_hooks.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

// A thread takes 4 elements and a block 1024: their neighbours.
OpCase UnaryCase(const char* name, Tensor (*op)(const Tensor&),
                 OpInput::Kind kind = OpInput::kNormal) {
  OpCase op_case(name);
  const auto run = [op](const TensorList& x) { return TensorList{op(x[0])}; };
  op_case.Run(run).Reference(run).DTypes({kF32, kF64, kBF16, kF16}).Ulps(4, 12);
  for (int64_t n : {0, 1, 3, 4, 5, 31, 1023, 1024, 1025, 5000}) {
    op_case.Row({OpInput(Shape{n}, kind)});
  }
  op_case.Row({OpInput(Shape{}, kind)}).Row({OpInput(Shape{3, 5, 7}, kind)});
  return op_case;
}

RESIDUAL_OP_CUDA_TEST(Exp, UnaryCase("exp", Exp));
RESIDUAL_OP_CUDA_TEST(Log, UnaryCase("log", Log, OpInput::kPositive));
RESIDUAL_OP_CUDA_TEST(Sqrt, UnaryCase("sqrt", Sqrt, OpInput::kPositive));
RESIDUAL_OP_CUDA_TEST(Square, UnaryCase("square", Square));
RESIDUAL_OP_CUDA_TEST(Relu, UnaryCase("relu", Relu));
RESIDUAL_OP_CUDA_TEST(Gelu, UnaryCase("gelu", Gelu));
RESIDUAL_OP_CUDA_TEST(GeluTanh, UnaryCase("gelu_tanh", GeluTanh));
RESIDUAL_OP_CUDA_TEST(Silu, UnaryCase("silu", Silu));
RESIDUAL_OP_CUDA_TEST(Sigmoid, UnaryCase("sigmoid", Sigmoid));
RESIDUAL_OP_CUDA_TEST(Tanh, UnaryCase("tanh", Tanh));
RESIDUAL_OP_CUDA_TEST(Softplus, UnaryCase("softplus", Softplus));
RESIDUAL_OP_CUDA_TEST(Scale, UnaryCase("scale", [](const Tensor& x) { return Scale(x, -2.75); }));
RESIDUAL_OP_CUDA_TEST(AddScalar,
                      UnaryCase("add_scalar", [](const Tensor& x) { return AddScalar(x, 0.3); }));

// Equal shapes, a suffix, one element; sums over rows of 1, few and many columns, in one chunk and
// in several.
OpCase BinaryCase(const char* name, Tensor (*op)(const Tensor&, const Tensor&)) {
  OpCase op_case(name);
  const auto run = [op](const TensorList& x) { return TensorList{op(x[0], x[1])}; };
  op_case.Run(run).Reference(run).DTypes({kF32, kF64, kBF16}).Ulps(2, 16);
  using Pair = std::pair<Shape, Shape>;
  for (const Pair& p :
       {Pair{{0}, {0}}, Pair{{1}, {1}}, Pair{{1027}, {1027}}, Pair{{3, 5}, {5}},
        Pair{{2, 3, 7}, {3, 7}}, Pair{{4, 9}, {}}, Pair{{400, 9}, {1}}, Pair{{0, 4}, {4}},
        Pair{{4, 0}, {0}}, Pair{{1031, 33}, {33}}, Pair{{300, 1}, {1}}, Pair{{600, 2}, {2}}}) {
    op_case.Row({OpInput(p.first), OpInput(p.second, OpInput::kPositive)});
  }
  return op_case;
}

RESIDUAL_OP_CUDA_TEST(Add, BinaryCase("add", Add));
RESIDUAL_OP_CUDA_TEST(Sub, BinaryCase("sub", Sub));
RESIDUAL_OP_CUDA_TEST(Mul, BinaryCase("mul", Mul));
RESIDUAL_OP_CUDA_TEST(Div, BinaryCase("div", Div));

OpCase SiluMulCase() {
  const auto run = [](const TensorList& x) { return TensorList{SiluMul(x[0], x[1])}; };
  return OpCase("silu_mul")
      .Run(run)
      .Reference(run)
      .DTypes({kF32, kF64, kBF16})
      .Shapes({{{0}, {0}}, {{1}, {1}}, {{3, 17}, {3, 17}}, {{1029}, {1029}}})
      .Ulps(4, 12);
}
RESIDUAL_OP_CUDA_TEST(SiluMul, SiluMulCase());

class ElementwiseCudaTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HaveCudaHooks()) GTEST_SKIP() << "no GPU";
  }
};

// Rows of a tensor begin where no 16 bytes do: the same values without wide loads.
TEST_F(ElementwiseCudaTest, AnyAlignment) {
  const Tensor x = RandomNormal({5, 1021}, 3, kF32);
  const Tensor there = ToDevice(x, kCuda);
  for (int64_t row = 0; row < 5; ++row) {
    ExpectIdentical(ToDevice(Gelu(there.Row(row)), kCpu),
                    ToDevice(Gelu(ToDevice(x.Row(row).Clone(), kCuda)), kCpu), "gelu");
  }
}

TEST_F(ElementwiseCudaTest, InfinitiesAndNaN) {
  const float inf = std::numeric_limits<float>::infinity();
  const Tensor x = Tensor::Of<float>({7}, {inf, -inf, std::nanf(""), 0.0f, -0.0f, 89.0f, -104.0f});
  for (Tensor (*op)(const Tensor&) : {Exp, Log, Sqrt, Relu, Sigmoid, Tanh, Softplus}) {
    const std::vector<double> want = op(ConvertTo(x, kF64)).ToDoubles(),
                              got = ToDevice(op(ToDevice(x, kCuda)), kCpu).ToDoubles();
    for (size_t i = 0; i < want.size(); ++i) {
      const float rounded = static_cast<float>(want[i]);
      if (std::isnan(rounded)) {
        EXPECT_TRUE(std::isnan(got[i])) << i;
      } else if (std::isinf(rounded)) {
        EXPECT_EQ(got[i], rounded) << i;
      } else {
        EXPECT_NEAR(got[i], rounded, 1e-6 * std::abs(rounded)) << i;
      }
    }
  }
}

// One long column: the order of the sum depends on the shape only, so twice the same bits.
TEST_F(ElementwiseCudaTest, GradientOfARepeatedOperandIsExactEnoughAndRepeatable) {
  const int64_t n = 100003;
  const Tensor a = ToDevice(RandomNormal({n}, 5, kF32), kCuda);
  const Tensor dy = RandomNormal({n}, 6, kF32);
  Tensor sums[2];
  for (Tensor& sum : sums) {
    Tensor b = ToDevice(Tensor::Scalar(1), kCuda);
    Tape tape;
    tape.Watch(b);
    const Tensor y = Add(a, b);
    sum = ToDevice(tape.Backward({y}, {ToDevice(dy, kCuda)}, {})[b], kCpu);
  }
  ExpectIdentical(sums[0], sums[1], "twice");
  double want = 0;
  for (double g : dy.ToDoubles()) want += g;
  EXPECT_NEAR(sums[0].Item(), want, 1e-6 * std::abs(want));
}

TEST_F(ElementwiseCudaTest, OperandsOnTwoDevicesAreRefused) {
  const Tensor a = Tensor::Zeros({2}), b = ToDevice(a, kCuda);
  EXPECT_DEATH(Add(a, b), "add: check failed.*f32\\[2\\] f32\\[2\\] on cuda");
  EXPECT_DEATH(SiluMul(b, a), "silu_mul: check failed.*f32\\[2\\] on cuda f32\\[2\\]");
}

}  // namespace
}  // namespace residual
