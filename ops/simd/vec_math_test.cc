#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/testing/op_case.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/simd/vec_math_test.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include "hwy/highway.h"
#include "ops/simd/activation-inl.h"
#include "ops/simd/vec_math-inl.h"

namespace residual {
#ifndef RESIDUAL_OPS_SIMD_VEC_MATH_TEST_ONCE
#define RESIDUAL_OPS_SIMD_VEC_MATH_TEST_ONCE
enum class Function {
  kExp,
  kExpOfNonPositive,
  kSigmoid,
  kSilu,
  kSiluSlope,
  kSoftplus,
  kTanh,
  kErf
};
#endif
}  // namespace residual

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

HWY_INLINE V Value(Function f, D d, V x) {
  switch (f) {
    case Function::kExp:
      return VecExp(d, x);
    case Function::kExpOfNonPositive:
      return ExpOfNonPositive(d, x);
    case Function::kSigmoid:
      return VecSigmoid(d, x);
    case Function::kSilu:
      return VecSilu(d, x);
    case Function::kSiluSlope:
      return VecSiluSlope(d, x);
    case Function::kSoftplus:
      return VecSoftplus(d, x);
    case Function::kTanh:
      return VecTanh(d, x);
    case Function::kErf:
      return VecErf(d, x);
  }
  return x;
}

// x and y hold a vector more than n.
void ApplyImpl(Function f, const float* x, float* y, size_t n) {
  const D d;
  for (size_t i = 0; i < n; i += hn::Lanes(d))
    hn::StoreU(Value(f, d, hn::LoadU(d, x + i)), d, y + i);
}

}  // namespace HWY_NAMESPACE
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace {

HWY_EXPORT(ApplyImpl);

std::vector<float> Apply(Function f, std::vector<float> x) {
  const size_t n = x.size();
  x.resize(n + 16);  // of the widest vector
  std::vector<float> y(x.size());
  HWY_DYNAMIC_DISPATCH(ApplyImpl)(f, x.data(), y.data(), n);
  y.resize(n);
  return y;
}

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double Silu(double x) { return x * Sigmoid(x); }
double SiluSlope(double x) { return Sigmoid(x) * (1 + x * (1 - Sigmoid(x))); }
double Softplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }

struct Claim {
  Function function;
  const char* name;
  double (*exact)(double);
  float low, high;  // where it is claimed
  double ulps;      // as the headers say, rounded up
};

const std::vector<Claim>& Claims() {
  static const auto* claims = new std::vector<Claim>{
      {Function::kExp, "exp", std::exp, -87, 88, 1.2},
      {Function::kExpOfNonPositive, "exp of x <= 0", std::exp, -87, 0, 1.2},
      {Function::kSigmoid, "sigmoid", Sigmoid, -80, 80, 3.4},
      {Function::kSilu, "silu", Silu, -80, 80, 3.4},
      {Function::kSoftplus, "softplus", Softplus, -80, 80, 2.9},
      {Function::kTanh, "tanh", std::tanh, -30, 30, 2.1},
      {Function::kErf, "erf", std::erf, -6, 6, 2.1},
  };
  return *claims;
}

class VecMathTest : public EachTarget {};
RESIDUAL_EACH_TARGET(VecMathTest);

// In units of the last place of the result, over numbers spread evenly, and near zero.
TEST_P(VecMathTest, ErrorsAreAsClaimed) {
  for (const Claim& claim : Claims()) {
    std::vector<float> x;
    for (int i = 0; i <= 400000; ++i)
      x.push_back(claim.low + (claim.high - claim.low) * static_cast<float>(i) / 400000);
    for (float v = 1; v > 1e-30f; v *= 0.9f) {
      if (v < claim.high) x.push_back(v);
      if (-v > claim.low) x.push_back(-v);
    }
    const std::vector<float> y = Apply(claim.function, x);
    double worst = 0;
    float at = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = claim.exact(x[i]);
      const float rounded = std::abs(static_cast<float>(want));
      const double unit =
          std::nextafter(rounded, std::numeric_limits<float>::infinity()) - double{rounded};
      const double error = std::abs(y[i] - want) / unit;
      if (error > worst) {
        worst = error;
        at = x[i];
      }
    }
    EXPECT_LE(worst, claim.ulps) << claim.name << "(" << at << ")";
  }
}

// Passes through zero, where units of the last place say nothing.
TEST_P(VecMathTest, SiluSlopeIsCloseToItsLargest) {
  std::vector<float> x;
  for (float v = -30; v < 30; v += 0.00137f) x.push_back(v);
  const std::vector<float> y = Apply(Function::kSiluSlope, x);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], SiluSlope(x[i]), 3e-7) << x[i];
}

TEST_P(VecMathTest, NaNStaysAndLimitsAreReached) {
  const float inf = std::numeric_limits<float>::infinity();
  struct Limits {
    Function function;
    double below, above;  // at -infinity and +infinity
  };
  for (const Limits& l : {Limits{Function::kExp, 0, inf}, Limits{Function::kSigmoid, 0, 1},
                          Limits{Function::kSoftplus, 0, inf}, Limits{Function::kTanh, -1, 1},
                          Limits{Function::kErf, -1, 1}}) {
    const std::vector<float> y = Apply(l.function, {std::nanf(""), -inf, inf});
    EXPECT_TRUE(std::isnan(y[0])) << static_cast<int>(l.function);
    EXPECT_EQ(y[1], l.below) << static_cast<int>(l.function);
    EXPECT_EQ(y[2], l.above) << static_cast<int>(l.function);
  }
}

}  // namespace
}  // namespace residual
#endif  // HWY_ONCE
