#include "ops/elementwise/elementwise.h"

#include <cmath>
#include <functional>
#include <limits>

#include "gtest/gtest.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

// Lanes are 1, 4, 8 or 16: their neighbours, primes, and more than one grain.
std::vector<std::vector<Shape>> Sizes() {
  std::vector<std::vector<Shape>> rows;
  for (int64_t n : {0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 1009, 40000}) {
    rows.push_back({Shape{n}});
  }
  rows.push_back({Shape{}});
  rows.push_back({Shape{2, 3, 5}});
  return rows;
}

OpCase UnaryCase(const char* name, Tensor (*op)(const Tensor&), double (*reference)(double),
                 OpInput::Kind kind = OpInput::kNormal) {
  OpCase op_case(name);
  op_case.Run([op](const TensorList& x) { return TensorList{op(x[0])}; })
      .Reference([reference](const TensorList& x) {
        Tensor y = Tensor::Uninitialized(x[0].shape(), kF64);
        for (int64_t i = 0; i < y.elements(); ++i) {
          y.mutable_data<double>()[i] = reference(x[0].data<double>()[i]);
        }
        return TensorList{y};
      })
      .DTypes({kF32, kF64, kBF16, kF16})
      .Ulps(3, 8);
  for (const auto& row : Sizes()) op_case.Row({OpInput(row[0], kind)});
  return op_case;
}

double ReferenceGelu(double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double ReferenceGeluTanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double ReferenceSilu(double x) { return x / (1 + std::exp(-x)); }
double ReferenceSigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double ReferenceSoftplus(double x) { return x > 20 ? x : std::log(1 + std::exp(x)); }
double ReferenceSquare(double x) { return x * x; }
double ReferenceRelu(double x) { return x > 0 ? x : 0; }

RESIDUAL_OP_TEST(Exp, UnaryCase("exp", Exp, std::exp));
RESIDUAL_OP_TEST(Log, UnaryCase("log", Log, std::log, OpInput::kPositive));
RESIDUAL_OP_TEST(Sqrt, UnaryCase("sqrt", Sqrt, std::sqrt, OpInput::kPositive));
RESIDUAL_OP_TEST(Square, UnaryCase("square", Square, ReferenceSquare));
// Away from the kink, where differences mean nothing.
OpCase ReluCase() {
  OpCase op_case("relu");
  op_case.Run([](const TensorList& x) { return TensorList{Relu(x[0])}; })
      .Reference([](const TensorList& x) {
        Tensor y = x[0].Clone();
        for (int64_t i = 0; i < y.elements(); ++i) {
          y.mutable_data<double>()[i] = ReferenceRelu(x[0].data<double>()[i]);
        }
        return TensorList{y};
      })
      .DTypes({kF32, kF64, kBF16, kF16})
      .Ulps(1, 1);
  for (const auto& row : Sizes()) {
    Tensor x = RandomNormal(row[0], 1);
    double* values = x.mutable_data<double>();
    for (int64_t i = 0; i < x.elements(); ++i) values[i] += values[i] < 0 ? -0.01 : 0.01;
    op_case.Row({OpInput(x)});
  }
  return op_case;
}
RESIDUAL_OP_TEST(Relu, ReluCase());
RESIDUAL_OP_TEST(Gelu, UnaryCase("gelu", Gelu, ReferenceGelu));
RESIDUAL_OP_TEST(GeluTanh, UnaryCase("gelu_tanh", GeluTanh, ReferenceGeluTanh));
RESIDUAL_OP_TEST(Silu, UnaryCase("silu", Silu, ReferenceSilu));
RESIDUAL_OP_TEST(Sigmoid, UnaryCase("sigmoid", Sigmoid, ReferenceSigmoid));
RESIDUAL_OP_TEST(Tanh, UnaryCase("tanh", Tanh, std::tanh));
RESIDUAL_OP_TEST(Softplus, UnaryCase("softplus", Softplus, ReferenceSoftplus));

OpCase BinaryCase(const char* name, Tensor (*op)(const Tensor&, const Tensor&),
                  double (*reference)(double, double)) {
  OpCase op_case(name);
  op_case.Run([op](const TensorList& x) { return TensorList{op(x[0], x[1])}; })
      .Reference([reference](const TensorList& x) {
        Tensor y = Tensor::Uninitialized(x[0].shape(), kF64);
        const int64_t width = std::max<int64_t>(1, x[1].elements());
        for (int64_t i = 0; i < y.elements(); ++i) {
          y.mutable_data<double>()[i] =
              reference(x[0].data<double>()[i], x[1].data<double>()[i % width]);
        }
        return TensorList{y};
      })
      .DTypes({kF32, kF64, kBF16})
      .Ulps(1, 16);
  using Pair = std::pair<Shape, Shape>;
  for (const Pair& p : {Pair{{0}, {0}}, Pair{{1}, {1}}, Pair{{17}, {17}}, Pair{{3, 5}, {5}},
                        Pair{{2, 3, 7}, {3, 7}}, Pair{{4, 9}, {}}, Pair{{4, 9}, {1}},
                        Pair{{0, 4}, {4}}, Pair{{1031, 33}, {33}}, Pair{{5, 1}, {1}}}) {
    op_case.Row({OpInput(p.first), OpInput(p.second, OpInput::kPositive)});
  }
  return op_case;
}

RESIDUAL_OP_TEST(Add, BinaryCase("add", Add, [](double a, double b) { return a + b; }));
RESIDUAL_OP_TEST(Sub, BinaryCase("sub", Sub, [](double a, double b) { return a - b; }));
RESIDUAL_OP_TEST(Mul, BinaryCase("mul", Mul, [](double a, double b) { return a * b; }));
RESIDUAL_OP_TEST(Div, BinaryCase("div", Div, [](double a, double b) { return a / b; }));

RESIDUAL_OP_TEST(SiluMul,
                 OpCase("silu_mul")
                     .Run([](const TensorList& x) { return TensorList{SiluMul(x[0], x[1])}; })
                     .Reference([](const TensorList& x) {
                       Tensor y = Tensor::Uninitialized(x[0].shape(), kF64);
                       for (int64_t i = 0; i < y.elements(); ++i) {
                         y.mutable_data<double>()[i] =
                             ReferenceSilu(x[0].data<double>()[i]) * x[1].data<double>()[i];
                       }
                       return TensorList{y};
                     })
                     .DTypes({kF32, kF64, kBF16})
                     .Shapes({{{0}, {0}}, {{1}, {1}}, {{3, 17}, {3, 17}}, {{257}, {257}}})
                     .Ulps(4, 12));

TEST(ScaleTest, ByConstants) {
  const Tensor x = Tensor::Of<float>({3}, {1, -2, 4});
  EXPECT_EQ(Scale(x, -0.5).ToDoubles(), (std::vector<double>{-0.5, 1, -2}));
  EXPECT_EQ(AddScalar(x, 3).ToDoubles(), (std::vector<double>{4, 1, 7}));
}

class ExtremesTest : public EachTarget {};
RESIDUAL_EACH_TARGET(ExtremesTest);

// Infinities, NaN, zeros and the edges of the range give what the scalar functions give.
TEST_P(ExtremesTest, FollowTheScalarFormula) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  const std::vector<float> values = {inf,    -inf,   nan,    0.0f,   -0.0f,  88.7f,   89.0f,
                                     -87.0f, -90.0f, -103.f, -104.f, 1e-30f, -1e-30f, 1e30f,
                                     -1e30f, 20.0f,  20.1f,  0.625f, 0.62f};
  const Tensor x = Tensor::Of<float>({static_cast<int64_t>(values.size())}, values);
  struct Function {
    const char* name;
    Tensor (*op)(const Tensor&);
    float (*scalar)(float);
  };
  for (const Function& f :
       {Function{"exp", Exp, [](float v) { return std::exp(v); }},
        Function{"tanh", Tanh, [](float v) { return std::tanh(v); }},
        Function{"sigmoid", Sigmoid, [](float v) { return 1.0f / (1.0f + std::exp(-v)); }},
        Function{"log", Log, [](float v) { return std::log(v); }},
        Function{"relu", Relu, [](float v) { return v < 0 ? 0 : v; }},
        Function{"softplus", Softplus,
                 [](float v) { return v > 20 ? v : std::log1p(std::exp(v)); }}}) {
    const Tensor y = f.op(x);
    for (size_t i = 0; i < values.size(); ++i) {
      const float got = y.data<float>()[i], want = f.scalar(values[i]);
      if (std::isnan(want)) {
        EXPECT_TRUE(std::isnan(got)) << f.name << "(" << values[i] << ") = " << got;
      } else if (std::isinf(want)) {
        EXPECT_EQ(got, want) << f.name << "(" << values[i] << ")";
      } else {
        EXPECT_NEAR(got, want, 3e-7 * std::abs(want) + 1e-44) << f.name << "(" << values[i] << ")";
      }
    }
  }
}

// Largest error of each function over a dense sweep, in units in the last place of the result.
TEST_P(ExtremesTest, StayWithinAFewUnitsInTheLastPlace) {
  std::vector<float> values;
  for (float v = -30; v < 30; v += 0.00137f) values.push_back(v);
  const Tensor x = Tensor::Of<float>({static_cast<int64_t>(values.size())}, values);
  struct Function {
    const char* name;
    Tensor (*op)(const Tensor&);
    double (*exact)(double);
    double ulps;
  };
  for (const Function& f : {Function{"exp", Exp, std::exp, 2}, Function{"tanh", Tanh, std::tanh, 3},
                            Function{"sigmoid", Sigmoid, ReferenceSigmoid, 4},
                            Function{"silu", Silu, ReferenceSilu, 5}}) {
    const Tensor y = f.op(x);
    double worst = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      const double want = f.exact(values[i]);
      const double unit = std::max(std::abs(want), 1e-37) * 0x1p-23;
      worst = std::max(worst, std::abs(y.data<float>()[i] - want) / unit);
    }
    EXPECT_LE(worst, f.ulps) << f.name;
  }
}

TEST(ElementwiseDeathTest, ShapeErrorsPrintOpAndShapes) {
  const Tensor a = Tensor::Zeros({2, 3}), b = Tensor::Zeros({2}), c = Tensor::Zeros({3}, kF64);
  EXPECT_DEATH(Add(a, b), "add: check failed.*f32\\[2, 3\\] f32\\[2\\]");
  EXPECT_DEATH(Mul(a, c), "mul: check failed.*f64\\[3\\]");
  EXPECT_DEATH(Gelu(Tensor::Zeros({2}, kI64)), "gelu: check failed.*i64\\[2\\]");
}

}  // namespace
}  // namespace residual
