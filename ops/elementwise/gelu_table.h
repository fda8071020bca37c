// Private: gelu as polynomials on 16 intervals, which a vector of 16 lanes looks up in registers.
//
// With F the normal distribution function, gelu(x) = x F(x) and F(x) - 1/2 is odd, so one table on
// x >= 0 gives both sides:
//
//   gelu(x) = x / 2 + |x| (F(|x|) - 1/2)            gelu'(x) = 1/2 + sign(x) (gelu'(|x|) - 1/2)
//
// Interval i is around i * width; in the last one and beyond the function is 1/2. The polynomials
// go through the function at Chebyshev's points: their error is below 1e-8, that of the result
// 1e-7 relative to |x|, as is that of the formula in f32.

#ifndef RESIDUAL_OPS_ELEMENTWISE_GELU_TABLE_H_
#define RESIDUAL_OPS_ELEMENTWISE_GELU_TABLE_H_

namespace residual {

struct GeluTable {
  static constexpr int kDegree = 5;
  // coefficients[k][i] of u^k, where x = (i + u) * width, |u| <= 1/2.
  alignas(64) float coefficients[kDegree + 1][16];
  float per_width, last;  // 1 / width; where the last interval is for sure
};

// F(x) - 1/2 of the exact gelu and of its tanh form, where F(x) = (1 + tanh(..)) / 2.
const GeluTable& GeluTableOf(bool tanh);
// gelu'(x) - 1/2 of either.
const GeluTable& GeluSlopeTableOf(bool tanh);

}  // namespace residual

#endif  // RESIDUAL_OPS_ELEMENTWISE_GELU_TABLE_H_
