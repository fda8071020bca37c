// Vectors of f32 or f64 from memory of any float dtype, and back. Included once per Highway target.

#if defined(RESIDUAL_OPS_SIMD_CONVERT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESIDUAL_OPS_SIMD_CONVERT_INL_H_
#undef RESIDUAL_OPS_SIMD_CONVERT_INL_H_
#else
#define RESIDUAL_OPS_SIMD_CONVERT_INL_H_
#endif

#include "hwy/highway.h"
#include "tensor/core/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// f32 in memory that is rounded to bf16 as it is read.
struct RoundedFloat {
  float value;
};

// One element in the type it is computed in.
HWY_INLINE float Widened(float x) { return x; }
HWY_INLINE double Widened(double x) { return x; }
HWY_INLINE float Widened(BFloat16 x) { return x.ToFloat(); }
HWY_INLINE float Widened(Float16 x) { return x.ToFloat(); }
HWY_INLINE float Widened(RoundedFloat x) { return BFloat16::FromFloat(x.value).ToFloat(); }

// And back.
HWY_INLINE void RoundElement(float x, float* to) { *to = x; }
HWY_INLINE void RoundElement(float x, BFloat16* to) { *to = BFloat16::FromFloat(x); }

// The bits of f32 rounded to bf16, in the low half of each lane.
template <class D>
HWY_INLINE auto BitsBF16(D d, hn::Vec<D> v) {
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff))));
  const auto nan = hn::Or(hn::ShiftRight<16>(bits), hn::Set(du, 0x40));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), nan, rounded);
}

// As many elements from p as d has lanes; p need not be aligned.
template <class D>
HWY_INLINE hn::Vec<D> LoadWidened(D d, const float* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> LoadWidened(D d, const double* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> LoadWidened(D d, const BFloat16* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}
template <class D>
HWY_INLINE hn::Vec<D> LoadWidened(D d, const Float16* p) {
#if HWY_TARGET <= HWY_AVX2
  const hn::Rebind<hwy::float16_t, D> d16;
  return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
#else  // Highway's own conversion makes a number of an infinity
  HWY_ALIGN float wide[HWY_MAX_BYTES / sizeof(float)];
  for (size_t i = 0; i < hn::Lanes(d); ++i) wide[i] = p[i].ToFloat();
  return hn::Load(d, wide);
#endif
}
template <class D>
HWY_INLINE hn::Vec<D> LoadWidened(D d, const RoundedFloat* p) {
  const auto v = hn::LoadU(d, reinterpret_cast<const float*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(BitsBF16(d, v)));
}

// To nearest, ties to even; NaN stays NaN.
template <class D>
HWY_INLINE void StoreRounded(hn::Vec<D> v, D d, float* p) {
  hn::StoreU(v, d, p);
}
template <class D>
HWY_INLINE void StoreRounded(hn::Vec<D> v, D d, BFloat16* p) {
  const hn::RebindToSigned<D> di;
  const hn::Rebind<uint16_t, D> d16;
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, BitsBF16(d, v))), d16,
             reinterpret_cast<uint16_t*>(p));
}
template <class D>
HWY_INLINE void StoreRounded(hn::Vec<D> v, D d, Float16* p) {
#if HWY_TARGET <= HWY_AVX2
  const hn::Rebind<hwy::float16_t, D> d16;
  hn::StoreU(hn::DemoteTo(d16, v), d16, reinterpret_cast<hwy::float16_t*>(p));
#else
  HWY_ALIGN float wide[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(v, d, wide);
  for (size_t i = 0; i < hn::Lanes(d); ++i) p[i] = Float16::FromFloat(wide[i]);
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace residual
HWY_AFTER_NAMESPACE();

#endif  // RESIDUAL_OPS_SIMD_CONVERT_INL_H_
