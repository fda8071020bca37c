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

#if HWY_TARGET <= HWY_AVX3

// The instruction that computes f 2^floor(n), past both ends of the exponents.
HWY_INLINE hn::Vec512<float> ScaleByPower(hn::Vec512<float> f, hn::Vec512<float> n) {
  return hn::Vec512<float>{_mm512_scalef_ps(f.raw, n.raw)};
}

// e^x = f 2^floor(n) for |x| < 2^17, f in [0.97, 2): x = n ln 2 + r with n a multiple of 1/16,
// 2^(n - floor(n)) from a table in a register and e^r by a polynomial of degree 3 (Tang 1989). With
// four vectors interleaved, as Map1 of elementwise does, a Zen 4 takes 10 cycles for 16 numbers in
// ExpOfNonPositive and 13 in VecExp. Tried before: the exponent put together from integers, 13 and
// 16; a polynomial of degree 6 and no table, 15 and 20. One vector after the other the chain of
// dependent instructions fills the scheduler: 16 and 19.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpFraction(D d, V x, V& n) {
  static_assert(hn::MaxLanes(D()) == 16, "the table is a whole register");
  HWY_ALIGN static constexpr float kPowers[16] = {
      1.0f,        1.04427378f, 1.09050773f, 1.13878863f, 1.18920712f, 1.24185781f,
      1.29683955f, 1.35425555f, 1.41421356f, 1.47682615f, 1.54221083f, 1.61049033f,
      1.68179283f, 1.75625216f, 1.83400809f, 1.91520656f};
  // Adding 1.5 * 2^19 rounds to a multiple of 1/16, and leaves 16 n in the low bits, of which a
  // look-up takes four.
  const V magic = hn::Set(d, 786432.0f);
  const V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896341f), magic);
  n = hn::Sub(shifted, magic);
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693115234375f), x);  // exact: 12 bits
  r = hn::NegMulAdd(n, hn::Set(d, 3.19461833e-05f), r);
  const V power{_mm512_permutexvar_ps(_mm512_castps_si512(shifted.raw), _mm512_load_ps(kPowers))};
  V p = hn::MulAdd(r, hn::Set(d, 0.166666667f), hn::Set(d, 0.5f));
  p = hn::MulAdd(hn::Mul(r, r), p, r);
  return hn::MulAdd(power, p, power);
}

// x within bounds; NaN, which these instructions keep if it is the second operand, stays NaN.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Within(D d, float low, V x, float high) {
  return hn::Max(hn::Set(d, low), hn::Min(hn::Set(d, high), x));
}

// e^x; 1.1 ulp.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VecExp(D d, V x) {
  V n;
  // Beyond these bounds the result is 0 or infinity anyway.
  const V f = ExpFraction(d, Within(d, -104.0f, x, 89.0f), n);
  return ScaleByPower(f, n);
}

// e^x for x <= 0, where it needs fewer instructions: what would be subnormal (x <= -87.3) is 0.
// 1.1 ulp. For exponentials of differences to a maximum.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpOfNonPositive(D d, V x) {
  V n;
  const V f = ExpFraction(d, x, n);
  const __mmask16 large =  // or NaN
      _mm512_cmp_ps_mask(x.raw, _mm512_set1_ps(-87.3f), _CMP_NLE_UQ);
  return V{_mm512_maskz_scalef_ps(large, f.raw, n.raw)};
}

// 1 + e^-x
template <class D, class V = hn::Vec<D>>
HWY_INLINE V OnePlusExpOfNegative(D d, V x) {
  V n;
  const V f = ExpFraction(d, hn::Neg(Within(d, -104.0f, x, 104.0f)), n);
  return hn::Add(hn::Set(d, 1.0f), ScaleByPower(f, n));
}

#else  // neither such an instruction nor such registers

// e^x = f 2^k for |x| < 2^17: returns f, in [0.7, 1.5), and gives k in the low bits of `k`, above
// which is rubbish: to be shifted left by 23 at least (Cephes).
template <class D, class V = hn::Vec<D>, class VI = hn::Vec<hn::RebindToSigned<D>>>
HWY_INLINE V ExpFraction(D d, V x, VI& k) {
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
  k = hn::BitCast(di, shifted);
  return hn::Add(hn::MulAdd(p, hn::Mul(r, r), r), hn::Set(d, 1.0f));
}

// e^x; 1.1 ulp. The power of two is applied in two halves, so subnormal results round once and
// overflow gives infinity.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VecExp(D d, V x) {
  const hn::RebindToSigned<D> di;
  // Beyond these bounds the result is 0 or infinity anyway; inside, the power fits both halves.
  const V within = hn::Min(hn::Max(x, hn::Set(d, -104.0f)), hn::Set(d, 89.0f));
  hn::Vec<hn::RebindToSigned<D>> k;
  const V f = ExpFraction(d, within, k);
  const auto exponent = hn::ShiftRight<23>(hn::ShiftLeft<23>(k));  // without the rubbish
  const auto half = hn::ShiftRight<1>(exponent);
  const auto bias = hn::Set(di, 127);
  const V scale1 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const V scale2 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(exponent, half), bias)));
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Mul(hn::Mul(f, scale1), scale2));
}

// e^x for x <= 0, where it needs fewer instructions: nothing overflows, and what would be subnormal
// (x <= -87.3) is 0. 1.1 ulp. For exponentials of differences to a maximum.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpOfNonPositive(D d, V x) {
  const hn::RebindToSigned<D> di;
  hn::Vec<hn::RebindToSigned<D>> k;
  const V f = ExpFraction(d, x, k);
  const V y = hn::BitCast(d, hn::Add(hn::BitCast(di, f), hn::ShiftLeft<23>(k)));
  return hn::IfThenElse(hn::IsNaN(x), x, hn::IfThenElseZero(hn::Gt(x, hn::Set(d, -87.3f)), y));
}

// 1 + e^-x; infinity for x < -88.3.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V OnePlusExpOfNegative(D d, V x) {
  const hn::RebindToSigned<D> di;
  hn::Vec<hn::RebindToSigned<D>> k;
  const V f = ExpFraction(d, hn::Neg(hn::Min(x, hn::Set(d, 87.0f))), k);
  const V e = hn::BitCast(d, hn::Add(hn::BitCast(di, f), hn::ShiftLeft<23>(k)));
  const V y =
      hn::IfThenElse(hn::Lt(x, hn::Set(d, -88.3f)), hn::Inf(d), hn::Add(hn::Set(d, 1.0f), e));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

#endif

// 1 / (1 + e^-x); 3.3 ulp.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VecSigmoid(D d, V x) {
  return hn::Div(hn::Set(d, 1.0f), OnePlusExpOfNegative(d, x));
}

// x / (1 + e^-x); 3.3 ulp. By a reciprocal and a step of Newton's instead of the division: 15
// cycles for 16 numbers on a Zen 4 instead of 13.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VecSilu(D d, V x) {
  return hn::Div(x, OnePlusExpOfNegative(d, x));
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
  const V e = VecExp(d, hn::Add(magnitude, magnitude));
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
  const V large = hn::CopySign(hn::Sub(hn::Set(d, 1.0f), VecExp(d, q)), x);
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
