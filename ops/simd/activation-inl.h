// Activations and their slopes as vector functions, f32, on the current Highway target.

#if defined(RESIDUAL_OPS_SIMD_ACTIVATION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESIDUAL_OPS_SIMD_ACTIVATION_INL_H_
#undef RESIDUAL_OPS_SIMD_ACTIVATION_INL_H_
#else
#define RESIDUAL_OPS_SIMD_ACTIVATION_INL_H_
#endif

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "ops/simd/vec_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// d/dx x / (1 + e^-x)
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VecSiluSlope(D d, V x) {
  const V one = hn::Set(d, 1.0f), s = VecSigmoid(d, x);
  return hn::Mul(s, hn::MulAdd(x, hn::Sub(one, s), one));
}

// log(1 + e^x) as max(x, 0) + log1p(e^-|x|); x itself past 20. Its slope is VecSigmoid.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VecSoftplus(D d, V x) {
  const V tail = hn::Log1p(d, VecExp(d, hn::Neg(hn::Abs(x))));
  const V y = hn::Add(hn::IfThenElseZero(hn::Gt(x, hn::Zero(d)), x), tail);
  return hn::IfThenElse(hn::IsNaN(x), x, hn::IfThenElse(hn::Gt(x, hn::Set(d, 20.0f)), x, y));
}

}  // namespace HWY_NAMESPACE
}  // namespace residual
HWY_AFTER_NAMESPACE();

#endif  // RESIDUAL_OPS_SIMD_ACTIVATION_INL_H_
