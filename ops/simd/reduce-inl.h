// Reductions over contiguous floats on the current Highway target. The order is fixed by n and the
// number of lanes: the same bits every time on one machine.

#if defined(RESIDUAL_OPS_SIMD_REDUCE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESIDUAL_OPS_SIMD_REDUCE_INL_H_
#undef RESIDUAL_OPS_SIMD_REDUCE_INL_H_
#else
#define RESIDUAL_OPS_SIMD_REDUCE_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Folds f(i) into four accumulators (four, because an add takes four cycles and two start in each)
// with `combine`, then the accumulators together. f takes the offset of a whole vector; `rest`
// takes the offset and count of the elements that fill none, and returns a vector with `identity`
// in the lanes beyond.
template <class V, class F, class Rest, class Combine>
HWY_INLINE V Fold(int64_t n, int64_t lanes, V identity, F f, Rest rest, Combine combine) {
  V a = identity, b = identity, c = identity, e = identity;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a = combine(a, f(i));
    b = combine(b, f(i + lanes));
    c = combine(c, f(i + 2 * lanes));
    e = combine(e, f(i + 3 * lanes));
  }
  for (; i + lanes <= n; i += lanes) a = combine(a, f(i));
  if (i < n) b = combine(b, rest(i, n - i));
  return combine(combine(a, b), combine(c, e));
}

// A vector of x[0..count), `fill` in the lanes beyond, which are not read.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V LoadPart(D d, const float* x, int64_t count, float fill) {
#if HWY_TARGET <= HWY_AVX2  // by way of the stack, the load would wait for the stores
  const auto inside = hn::FirstN(d, static_cast<size_t>(count));
  return hn::IfThenElse(inside, hn::MaskedLoad(inside, d, x), hn::Set(d, fill));
#else
  HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(hn::Set(d, fill), d, lanes);
  for (int64_t j = 0; j < count; ++j) lanes[j] = x[j];
  return hn::Load(d, lanes);
#endif
}

// x[0..count) from a vector; what lies beyond is left alone.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void StorePart(D d, V v, float* x, int64_t count) {
#if HWY_TARGET <= HWY_AVX2
  hn::BlendedStore(v, hn::FirstN(d, static_cast<size_t>(count)), d, x);
#else
  HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)] = {};
  hn::Store(v, d, lanes);
  for (int64_t j = 0; j < count; ++j) x[j] = lanes[j];
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace residual
HWY_AFTER_NAMESPACE();

#endif  // RESIDUAL_OPS_SIMD_REDUCE_INL_H_
