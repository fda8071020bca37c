// Vector functions for kernels, f32, on the current Highway target. Errors are the largest seen
// over a dense sweep, in units in the last place (see vec_math_test.cc). NaN gives NaN; infinities
// and overflow give what the scalar functions give.

#if defined(RESIDUAL_OPS_SIMD_VEC_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESIDUAL_OPS_SIMD_VEC_MATH_INL_H_
#undef RESIDUAL_OPS_SIMD_VEC_MATH_INL_H_
#else
#define RESIDUAL_OPS_SIMD_VEC_MATH_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// e^x for x that is no NaN; 1.5 ulp. x = n ln 2 + r with |r| <= ln 2 / 2, and e^r by a polynomial
// (Cephes). The power of two is applied in two halves, so subnormal results round once and
// overflow gives infinity.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V FastExp(D d, V x) {
  const hn::RebindToSigned<D> di;
  // Beyond these bounds the result is 0 or infinity anyway; inside, n fits both halves.
  x = hn::Min(hn::Max(x, hn::Set(d, -104.0f)), hn::Set(d, 89.0f));
  const V n = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504088896341f)));
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  V p = hn::Set(d, 1.9875691500e-4f);
  p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
  p = hn::Add(hn::MulAdd(p, hn::Mul(r, r), r), hn::Set(d, 1.0f));
  const auto exponent = hn::ConvertTo(di, n);
  const auto half = hn::ShiftRight<1>(exponent);
  const auto bias = hn::Set(di, 127);
  const V scale1 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const V scale2 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(exponent, half), bias)));
  return hn::Mul(hn::Mul(p, scale1), scale2);
}

// e^x for x <= 0, where it needs half as many instructions: nothing overflows, and what would be
// subnormal (x <= -87.3) is 0, as is e^NaN. 1.1 ulp. For exponentials of differences to a maximum.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpOfNonPositive(D d, V x) {
  const hn::RebindToSigned<D> di;
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  const V magic = hn::Set(d, 12582912.0f);
  const V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896341f), magic);
  const V n = hn::Sub(shifted, magic);
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  V p = hn::Set(d, 1.9875691500e-4f);
  p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
  p = hn::Add(hn::MulAdd(p, hn::Mul(r, r), r), hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  const V y = hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent));
  return hn::IfThenElseZero(hn::Gt(x, hn::Set(d, -87.3f)), y);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VecExp(D d, V x) {
  return hn::IfThenElse(hn::IsNaN(x), x, FastExp(d, x));
}

// 1 / (1 + e^-x).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VecSigmoid(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, VecExp(d, hn::Neg(x))));
}

// tanh x; 2 ulp. Small arguments by an odd polynomial, others by exp.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VecTanh(D d, V x) {
  const V one = hn::Set(d, 1.0f), magnitude = hn::Abs(x), square = hn::Mul(x, x);
  V p = hn::Set(d, -5.70498872745e-3f);
  p = hn::MulAdd(p, square, hn::Set(d, 2.06390887954e-2f));
  p = hn::MulAdd(p, square, hn::Set(d, -5.37397155531e-2f));
  p = hn::MulAdd(p, square, hn::Set(d, 1.33314422036e-1f));
  p = hn::MulAdd(p, square, hn::Set(d, -3.33332819422e-1f));
  const V small = hn::MulAdd(hn::Mul(p, square), x, x);
  const V e = FastExp(d, hn::Add(magnitude, magnitude));
  const V large = hn::Sub(one, hn::Div(hn::Set(d, 2.0f), hn::Add(e, one)));
  const V y = hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, 0.625f)), small, hn::CopySign(large, x));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

// erf x; 2 ulp. A polynomial in x^2 near zero, 1 - exp(polynomial) beyond (after N. Juffa).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VecErf(D d, V x) {
  const V t = hn::Abs(x), s = hn::Mul(x, x);
  V q = hn::MulAdd(hn::Set(d, -1.72853470e-5f), t, hn::Set(d, 3.83197126e-4f));
  const V u = hn::MulAdd(hn::Set(d, -3.88396438e-3f), t, hn::Set(d, 2.42546219e-2f));
  q = hn::MulAdd(q, s, u);
  q = hn::MulAdd(q, t, hn::Set(d, -1.06777877e-1f));
  q = hn::MulAdd(q, t, hn::Set(d, -6.34846687e-1f));
  q = hn::MulAdd(q, t, hn::Set(d, -1.28717512e-1f));
  q = hn::NegMulAdd(hn::Neg(q), t, hn::Neg(t));
  // Past 4 the polynomial is no longer that of erf, which is 1 there.
  q = hn::IfThenElse(hn::Gt(t, hn::Set(d, 4.0f)), hn::Set(d, -100.0f), q);
  const V large = hn::CopySign(hn::Sub(hn::Set(d, 1.0f), FastExp(d, q)), x);
  V p = hn::Set(d, -5.96761703e-4f);
  p = hn::MulAdd(p, s, hn::Set(d, 4.99119423e-3f));
  p = hn::MulAdd(p, s, hn::Set(d, -2.67681349e-2f));
  p = hn::MulAdd(p, s, hn::Set(d, 1.12819925e-1f));
  p = hn::MulAdd(p, s, hn::Set(d, -3.76125336e-1f));
  p = hn::MulAdd(p, s, hn::Set(d, 1.28379166e-1f));
  const V small = hn::MulAdd(p, x, x);
  return hn::IfThenElse(hn::IsNaN(x), x,
                        hn::IfThenElse(hn::Gt(t, hn::Set(d, 0.927734375f)), large, small));
}

}  // namespace HWY_NAMESPACE
}  // namespace residual
HWY_AFTER_NAMESPACE();

#endif  // RESIDUAL_OPS_SIMD_VEC_MATH_INL_H_
