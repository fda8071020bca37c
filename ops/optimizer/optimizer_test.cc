#include "ops/optimizer/optimizer.h"

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "tensor/testing/op_case.h"

namespace residual {
namespace {

// The formulas in plain loops over doubles, kept apart from the kernels.
TensorList AdamReference(const TensorList& x, const AdamOptions& o, bool amsgrad) {
  TensorList out;
  for (size_t i = 0; i < x.size(); ++i) out.push_back(x[i].Clone());
  double* p = out[0].mutable_data<double>();
  double* m = out[1].mutable_data<double>();
  double* v = out[2].mutable_data<double>();
  double* largest = amsgrad ? out[4].mutable_data<double>() : nullptr;
  for (int64_t i = 0; i < x[0].elements(); ++i) {
    double g = x[3].data<double>()[i] * o.grad_scale;
    if (o.decoupled) {
      p[i] -= o.lr * o.weight_decay * p[i];
    } else {
      g += o.weight_decay * p[i];
    }
    m[i] = o.beta1 * m[i] + (1 - o.beta1) * g;
    v[i] = o.beta2 * v[i] + (1 - o.beta2) * g * g;
    double s = v[i];
    if (amsgrad) s = largest[i] = std::max(largest[i], v[i]);
    const double m_hat = m[i] / (1 - std::pow(o.beta1, o.step));
    const double s_hat = s / (1 - std::pow(o.beta2, o.step));
    p[i] -= o.lr * m_hat / (std::sqrt(s_hat) + o.eps);
  }
  out.erase(out.begin() + 3);  // the gradient
  return out;
}

TensorList RunAdam(const TensorList& x, const AdamOptions& options, bool amsgrad) {
  Tensor param = x[0].Clone(), m = x[1].Clone(), v = x[2].Clone();
  Tensor largest = amsgrad ? x[4].Clone() : Tensor();
  AdamStep(param, m, v, x[3], options, amsgrad ? &largest : nullptr);
  TensorList out = {param, m, v};
  if (amsgrad) out.push_back(largest);
  return out;
}

OpCase AdamCase(const AdamOptions& options, bool amsgrad = false) {
  OpCase test("adam_step");
  test.Run([=](const TensorList& x) { return RunAdam(x, options, amsgrad); })
      .Reference([=](const TensorList& x) { return AdamReference(x, options, amsgrad); })
      .NoGradient()
      .Ulps(4);
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{7}, Shape{3, 5}, Shape{64}, Shape{2, 33},
                             Shape{257}, Shape{33000}}) {
    const OpInput positive(shape, OpInput::kPositive);
    std::vector<OpInput> row = {shape, shape, positive, shape};
    if (amsgrad) row.push_back(positive);
    test.Row(row);
  }
  return test;
}

AdamOptions Adam(bool decoupled, double weight_decay, int64_t step) {
  AdamOptions options;
  options.lr = 0.01;
  options.beta2 = 0.98;
  options.decoupled = decoupled;
  options.weight_decay = weight_decay;
  options.step = step;
  options.grad_scale = 0.25;
  return options;
}

RESIDUAL_OP_TEST(Adam, AdamCase(Adam(false, 0, 1)));
RESIDUAL_OP_TEST(AdamL2, AdamCase(Adam(false, 0.1, 3)));
RESIDUAL_OP_TEST(AdamW, AdamCase(Adam(true, 0.1, 1000)));
RESIDUAL_OP_TEST(AmsGrad, AdamCase(Adam(true, 0.1, 2), true));

// first: without a buffer, which the step makes.
TensorList SgdReference(const TensorList& x, const SgdOptions& o, bool first) {
  TensorList out = {x[0].Clone(), x[2].Clone()};
  double* p = out[0].mutable_data<double>();
  double* b = out[1].mutable_data<double>();
  for (int64_t i = 0; i < x[0].elements(); ++i) {
    double g = x[1].data<double>()[i] * o.grad_scale + o.weight_decay * p[i];
    if (o.momentum != 0) {
      b[i] = first ? g : o.momentum * b[i] + (1 - o.dampening) * g;
      g = o.nesterov ? g + o.momentum * b[i] : b[i];
    }
    p[i] -= o.lr * g;
  }
  return out;
}

OpCase SgdCase(const SgdOptions& options, bool first = false) {
  OpCase test("sgd_step");
  test.Run([=](const TensorList& x) {
        Tensor param = x[0].Clone(), buffer = first ? Tensor() : x[2].Clone();
        SgdStep(param, buffer, x[1], options);
        return TensorList{param, buffer};
      })
      .Reference([=](const TensorList& x) { return SgdReference(x, options, first); })
      .Shapes({{{}, {}, {}},
               {{0}, {0}, {0}},
               {{7}, {7}, {7}},
               {{2, 33}, {2, 33}, {2, 33}},
               {{33000}, {33000}, {33000}}})
      .NoGradient()
      .Ulps(4);
  return test;
}

SgdOptions Sgd(double momentum, double dampening, double weight_decay, bool nesterov) {
  SgdOptions options;
  options.lr = 0.1;
  options.momentum = momentum;
  options.dampening = dampening;
  options.weight_decay = weight_decay;
  options.nesterov = nesterov;
  options.grad_scale = 0.5;
  return options;
}

RESIDUAL_OP_TEST(Sgd, SgdCase(Sgd(0, 0, 0.01, false)));
RESIDUAL_OP_TEST(SgdMomentum, SgdCase(Sgd(0.9, 0, 0, false)));
RESIDUAL_OP_TEST(SgdDampening, SgdCase(Sgd(0.9, 0.1, 0.01, false)));
RESIDUAL_OP_TEST(SgdNesterov, SgdCase(Sgd(0.9, 0, 0.01, true)));
RESIDUAL_OP_TEST(SgdFirstStep, SgdCase(Sgd(0.9, 0.1, 0.01, true), true));

class OptimizerTest : public EachTarget {};
RESIDUAL_EACH_TARGET(OptimizerTest);

// What an element becomes does not depend on where in the tensor it lies.
TEST_P(OptimizerTest, ElementsAreIndependentOfTheirPlace) {
  for (DType dtype : {kF32, kF64}) {
    const TensorList x = {RandomNormal({37}, 1, dtype), RandomNormal({37}, 2, dtype),
                          Tensor::Full({37}, 0.3, dtype), RandomNormal({37}, 4, dtype)};
    const TensorList all = RunAdam(x, Adam(true, 0.1, 2), false);
    for (int64_t i = 0; i < 37; ++i) {
      TensorList one;
      for (const Tensor& t : x) one.push_back(t.Row(i));
      ExpectIdentical(RunAdam(one, Adam(true, 0.1, 2), false)[0], all[0].Row(i), "element");
    }
  }
}

TEST_P(OptimizerTest, GradientsOfEveryDType) {
  for (DType param_dtype : {kF32, kF64}) {
    for (DType grad_dtype : {kF32, kF64, kBF16, kF16}) {
      const Tensor grad = RandomNormal({39}, 5, grad_dtype);
      const Tensor start = RandomNormal({39}, 6, param_dtype);
      const auto adam = [&](const Tensor& g) {
        Tensor p = start.Clone(), m = Tensor::Zeros({39}, param_dtype), v = m.Clone();
        AdamStep(p, m, v, g, Adam(false, 0.1, 1));
        return p;
      };
      const auto sgd = [&](const Tensor& g) {
        Tensor p = start.Clone(), buffer;
        SgdStep(p, buffer, g, Sgd(0.9, 0, 0.1, false));
        return p;
      };
      const Tensor converted = ConvertTo(grad, param_dtype);
      ExpectIdentical(adam(grad), adam(converted), Name(grad_dtype));
      ExpectIdentical(sgd(grad), sgd(converted), Name(grad_dtype));
    }
  }
}

// 16-bit parameters: the step in f32, rounded once, on f32 state.
TEST_P(OptimizerTest, NarrowParameters) {
  for (DType dtype : {kBF16, kF16}) {
    const Tensor start = RandomNormal({19}, 1, dtype), grad = RandomNormal({19}, 2, dtype);
    Tensor narrow = start.Clone(), wide = ConvertTo(start, kF32);
    Tensor m = Tensor::Zeros({19}), v = Tensor::Zeros({19});
    Tensor m2 = Tensor::Zeros({19}), v2 = Tensor::Zeros({19});
    AdamStep(narrow, m, v, grad, Adam(true, 0.1, 1));
    AdamStep(wide, m2, v2, grad, Adam(true, 0.1, 1));
    ExpectIdentical(narrow, ConvertTo(wide, dtype), "adam");
    Tensor buffer, buffer2;
    SgdStep(narrow, buffer, grad, Sgd(0.9, 0.1, 0, false));
    Tensor again = ConvertTo(ConvertTo(wide, dtype), kF32);
    SgdStep(again, buffer2, grad, Sgd(0.9, 0.1, 0, false));
    ExpectIdentical(narrow, ConvertTo(again, dtype), "sgd");
    ExpectIdentical(buffer, buffer2, "sgd's buffer");
  }
}

TEST_P(OptimizerTest, NormOfManyTensors) {
  for (DType dtype : {kF32, kF64, kBF16, kF16}) {
    std::vector<Tensor> tensors = {RandomNormal({3, 5}, 1, dtype), Tensor(),
                                   RandomNormal({0}, 2, dtype), RandomNormal({200003}, 3, dtype),
                                   RandomNormal({}, 4, dtype)};
    long double sum = 0;
    for (const Tensor& t : tensors) {
      if (!t.defined()) continue;
      for (double x : t.ToDoubles()) sum += static_cast<long double>(x) * x;
    }
    const double want = std::sqrt(static_cast<double>(sum));
    EXPECT_NEAR(GlobalNorm(tensors), want, 1e-13 * want) << Name(dtype);
  }
  EXPECT_EQ(GlobalNorm({}), 0);
  // Squares that f32 cannot hold.
  EXPECT_NEAR(GlobalNorm({Tensor::Full({4}, 1e30)}), 2e30, 1e24);
  EXPECT_NEAR(GlobalNorm({Tensor::Full({4}, 1e-30)}), 2e-30, 1e-36);
}

TEST_P(OptimizerTest, FindsTheFirstNonFiniteElement) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (DType dtype : {kF32, kF64, kBF16, kF16}) {
    for (int64_t n : {1, 7, 64, 131, 70000}) {
      // The largest finite value and zeros are fine.
      std::vector<double> values(n, dtype == kF16 ? 65504 : 3e38);
      for (int64_t i = 0; i < n; i += 2) values[i] = -0.0;
      const Tensor fine = ConvertTo(Tensor::Of<double>({n}, values), dtype);
      EXPECT_EQ(FirstNonFinite(fine), std::nullopt) << Name(dtype) << " " << n;
      for (int64_t place : {int64_t{0}, n / 2, n - 1}) {
        for (double bad : {nan, infinity, -infinity}) {
          std::vector<double> broken = values;
          broken[place] = broken[n - 1] = bad;
          const Tensor x = ConvertTo(Tensor::Of<double>({n}, broken), dtype);
          EXPECT_EQ(FirstNonFinite(x), place) << Name(dtype) << " " << n << " " << bad;
          EXPECT_FALSE(std::isfinite(GlobalNorm({x})));
        }
      }
    }
    EXPECT_EQ(FirstNonFinite(Tensor::Zeros({0}, dtype)), std::nullopt);
  }
}

TEST(ClipScaleTest, IsAtMostOne) {
  EXPECT_EQ(ClipScale(0.5, 1), 1);
  EXPECT_EQ(ClipScale(0, 1), 1);
  EXPECT_EQ(ClipScale(4, 1), 1 / (4 + 1e-6));
}

TEST(OptimizerDeathTest, NamesTheOpAndTheShapes) {
  Tensor p = Tensor::Zeros({2, 3}), m = Tensor::Zeros({2, 3}), v = Tensor::Zeros({2, 3}), none;
  Tensor short_v = Tensor::Zeros({2});
  const Tensor grad = Tensor::Zeros({2, 3});
  EXPECT_DEATH(AdamStep(p, m, v, Tensor::Zeros({3}), {}), "adam_step.*f32\\[2, 3\\].*f32\\[3\\]");
  EXPECT_DEATH(AdamStep(p, m, short_v, grad, {}), "adam_step.*f32\\[2, 3\\].*f32\\[2\\]");
  AdamOptions zeroth;
  zeroth.step = 0;
  EXPECT_DEATH(AdamStep(p, m, v, grad, zeroth), "adam_step counts steps from 1");
  EXPECT_DEATH(SgdStep(p, none, Tensor::Zeros({2, 3}, kI64), {}), "sgd_step.*i64\\[2, 3\\]");
  const Tensor held = p;
  EXPECT_DEATH(SgdStep(p, none, grad, {}), "other handles share");
  EXPECT_DEATH(FirstNonFinite(Tensor::Zeros({2}, kI64)), "first_non_finite.*i64\\[2\\]");
}

}  // namespace
}  // namespace residual
