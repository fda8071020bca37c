#include <cmath>
#include <utility>

#include "ops/elementwise/gelu_table.h"

namespace residual {
namespace {

constexpr int kPoints = GeluTable::kDegree + 1;

// Solves the equations of Vandermonde's kind for the polynomial through (u[k], y[k]).
void Interpolate(const double (&u)[kPoints], double (&y)[kPoints]) {
  // Newton's divided differences, then to powers of u.
  for (int level = 1; level < kPoints; ++level) {
    for (int k = kPoints - 1; k >= level; --k) y[k] = (y[k] - y[k - 1]) / (u[k] - u[k - level]);
  }
  for (int level = kPoints - 2; level >= 0; --level) {
    for (int k = level; k < kPoints - 1; ++k) y[k] -= u[level] * y[k + 1];
  }
}

// `odd`: the function on x >= 0. It is 1/2 to f32's precision from 14.5 * width on.
template <class F>
GeluTable MakeTable(double width, F odd) {
  GeluTable table;
  table.per_width = static_cast<float>(1 / width);
  table.last = static_cast<float>(15 * width);
  for (int i = 0; i < 16; ++i) {
    double u[kPoints], y[kPoints];
    for (int k = 0; k < kPoints; ++k) {
      u[k] = 0.5 * std::cos(M_PI * (k + 0.5) / kPoints);
      const double x = (i + u[k]) * width;
      y[k] = i == 15 ? 0.5 : x < 0 ? -odd(-x) : odd(x);
    }
    Interpolate(u, y);
    for (int k = 0; k < kPoints; ++k) table.coefficients[k][i] = static_cast<float>(y[k]);
  }
  return table;
}

}  // namespace

const GeluTable& GeluTableOf(bool tanh) {
  static const GeluTable exact =
      MakeTable(0.379, [](double x) { return 0.5 * std::erf(x * M_SQRT1_2); });
  static const GeluTable approximate = MakeTable(0.36, [](double x) {
    return 0.5 * std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
  });
  return tanh ? approximate : exact;
}

const GeluTable& GeluSlopeTableOf(bool tanh) {
  static const GeluTable exact = MakeTable(0.42, [](double x) {
    return 0.5 * std::erf(x * M_SQRT1_2) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * M_PI);
  });
  static const GeluTable approximate = MakeTable(0.38, [](double x) {
    const double c = std::sqrt(2 / M_PI), t = std::tanh(c * (x + 0.044715 * x * x * x));
    return 0.5 * (t + x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x));
  });
  return tanh ? approximate : exact;
}

}  // namespace residual
