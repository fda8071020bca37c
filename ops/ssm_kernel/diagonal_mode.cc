#include "ops/ssm_kernel/diagonal_mode.h"

#include <cmath>

namespace residual {
namespace ssm_internal {
namespace {

constexpr double kDssEpsilon = 1e-7;

// e^x - 1, exact near zero.
Complex Expm1(Complex x) {
  const double half = std::sin(x.imag() / 2);
  return {std::expm1(x.real()) * std::cos(x.imag()) - 2 * half * half,
          std::exp(x.real()) * std::sin(x.imag())};
}

// (e^x - 1) / x = sum_k x^k / (k+1)!, and its derivative.
Complex Phi(Complex x) { return x == 0.0 ? 1 : Expm1(x) / x; }
Complex PhiDerivative(Complex x) {
  if (std::abs(x) >= 0.1) return (std::exp(x) - Phi(x)) / x;
  Complex sum, power = 0.5;  // x^(k-1) / (k+1)!
  for (int k = 1; k <= 10; ++k) {
    sum += static_cast<double>(k) * power;
    power *= x / (k + 2.0);
  }
  return sum;
}

struct DssTerms {
  double sign;
  Complex numerator, denominator, X, reciprocal;
};
DssTerms Dss(const ModeParams& p) {
  DssTerms dss;
  dss.sign = p.A.real() > 0 ? -1 : 1;
  const Complex x = dss.sign * p.dt * p.A;
  dss.numerator = Expm1(x);
  dss.denominator = Expm1(x * static_cast<double>(p.length));
  dss.X = dss.denominator * p.A;
  dss.reciprocal = std::conj(dss.X) / (std::norm(dss.X) + kDssEpsilon);
  return dss;
}

}  // namespace

Mode ModeOf(const ModeParams& p, Discretization discretization) {
  const Complex x = p.dt * p.A, CB = p.C * p.B;
  switch (discretization) {
    case Discretization::kZoh:
      return {std::exp(x), CB * p.dt * Phi(x)};
    case Discretization::kBilinear:
      return {(1.0 + x / 2.0) / (1.0 - x / 2.0), CB * p.dt / (1.0 - x / 2.0)};
    case Discretization::kDssSoftmax:
      break;
  }
  const DssTerms dss = Dss(p);
  return {std::exp(x), CB * dss.numerator * dss.reciprocal, dss.sign < 0 ? p.length - 1.0 : 0.0};
}

ModeGradients BackThroughMode(const ModeParams& p, Discretization discretization, Complex g_w,
                              Complex g_log_z, Complex g_z_at_zero) {
  const Complex x = p.dt * p.A, CB = p.C * p.B;
  Complex factor, g_x;  // w = C B factor
  ModeGradients g;
  switch (discretization) {
    case Discretization::kZoh: {
      factor = p.dt * Phi(x);
      g_x = g_log_z + Back(g_w, CB * p.dt * PhiDerivative(x));
      g.dt = Back(g_w, CB * Phi(x)).real();
      break;
    }
    case Discretization::kBilinear: {
      const Complex under = 1.0 - x / 2.0, over = 1.0 + x / 2.0;
      factor = p.dt / under;
      g_x = over == 0.0 ? Back(g_z_at_zero, 1.0 / (under * under))
                        : Back(g_log_z, 1.0 / (over * under));
      g_x += Back(g_w, CB * factor / (2.0 * under));
      g.dt = Back(g_w, CB / under).real();
      break;
    }
    case Discretization::kDssSoftmax: {
      const DssTerms dss = Dss(p);
      factor = dss.numerator * dss.reciprocal;
      // Not holomorphic: r = X* / (X X* + eps).
      const double scale = std::norm(dss.X) + kDssEpsilon;
      const Complex g_r = Back(g_w, CB * dss.numerator);
      const Complex by_X = -std::conj(dss.X) * std::conj(dss.X) / (scale * scale);
      const Complex g_X = Back(g_r, by_X) + std::conj(g_r) * (kDssEpsilon / (scale * scale));
      const double length = static_cast<double>(p.length);
      g_x = g_log_z + Back(g_w, CB * dss.reciprocal) * dss.sign * std::conj(dss.numerator + 1.0) +
            Back(g_X, p.A * (dss.denominator + 1.0)) * dss.sign * length;
      g.A = Back(g_X, dss.denominator);
      break;
    }
  }
  g.A += g_x * p.dt;
  g.dt += Back(g_x, p.A).real();
  g.B = Back(g_w, p.C * factor);
  g.C = Back(g_w, p.B * factor);
  return g;
}

}  // namespace ssm_internal
}  // namespace residual
