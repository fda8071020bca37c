#include "ops/simd/convert.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/simd/convert.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include "hwy/highway.h"
#include "ops/simd/convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace convert_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using residual::HWY_NAMESPACE::LoadWidened;
using residual::HWY_NAMESPACE::StoreRounded;

template <class S>
void WidenAll(const S* HWY_RESTRICT from, float* HWY_RESTRICT to, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(LoadWidened(d, from + i), d, to + i);
  for (; i < n; ++i) to[i] = from[i].ToFloat();
}

template <class S>
void RoundAll(const float* HWY_RESTRICT from, S* HWY_RESTRICT to, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) StoreRounded(hn::LoadU(d, from + i), d, to + i);
  for (; i < n; ++i) to[i] = S::FromFloat(from[i]);
}

void WidenImpl(DType dtype, const void* from, float* to, int64_t n) {
  if (dtype == kBF16) {
    WidenAll(static_cast<const BFloat16*>(from), to, n);
  } else {
    WidenAll(static_cast<const Float16*>(from), to, n);
  }
}

void RoundImpl(DType dtype, const float* from, void* to, int64_t n) {
  if (dtype == kBF16) {
    RoundAll(from, static_cast<BFloat16*>(to), n);
  } else {
    RoundAll(from, static_cast<Float16*>(to), n);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace convert_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace convert_internal {
HWY_EXPORT(WidenImpl);
HWY_EXPORT(RoundImpl);
}  // namespace convert_internal

void Widen(DType dtype, const void* from, float* to, int64_t n) {
  using namespace convert_internal;  // NOLINT: the functions of this file
  HWY_DYNAMIC_DISPATCH(WidenImpl)(dtype, from, to, n);
}

void Round(DType dtype, const float* from, void* to, int64_t n) {
  using namespace convert_internal;  // NOLINT: the functions of this file
  HWY_DYNAMIC_DISPATCH(RoundImpl)(dtype, from, to, n);
}

}  // namespace residual
#endif  // HWY_ONCE
