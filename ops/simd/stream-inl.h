// Writing past the caches on the current Highway target.

#if defined(RESIDUAL_OPS_SIMD_STREAM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESIDUAL_OPS_SIMD_STREAM_INL_H_
#undef RESIDUAL_OPS_SIMD_STREAM_INL_H_
#else
#define RESIDUAL_OPS_SIMD_STREAM_INL_H_
#endif

#include <cstdint>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "ops/simd/reduce-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Whether y, from its start, can be written past the caches in whole vectors.
HWY_INLINE bool StreamsWhole(const float* y, bool stream) {
  return stream && reinterpret_cast<uintptr_t>(y) % HWY_MAX_BYTES == 0;
}

// y[i..i+lanes) = f(i) for a row of n floats; f takes the offset of a whole vector, `rest` as in
// Fold. With `stream`, the vectors of y that are aligned are written past the caches; f may then be
// called twice for an element, so y must not be what f reads. hwy::FlushStream() is the caller's.
template <class D, class F, class Rest>
HWY_INLINE void WriteRow(D d, float* HWY_RESTRICT y, int64_t n, bool stream, F f, Rest rest) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  if (stream && n >= 2 * lanes) {
    const int64_t past =
        static_cast<int64_t>(reinterpret_cast<uintptr_t>(y) / sizeof(float)) % lanes;
    if (past != 0) {  // the first vector reaches past the place where aligned ones begin
      hn::StoreU(f(i), d, y);
      i = lanes - past;
    }
    for (; i + 4 * lanes <= n; i += 4 * lanes) {
      const auto y0 = f(i), y1 = f(i + lanes), y2 = f(i + 2 * lanes), y3 = f(i + 3 * lanes);
      hn::Stream(y0, d, y + i);
      hn::Stream(y1, d, y + i + lanes);
      hn::Stream(y2, d, y + i + 2 * lanes);
      hn::Stream(y3, d, y + i + 3 * lanes);
    }
    for (; i + lanes <= n; i += lanes) hn::Stream(f(i), d, y + i);
    if (i < n) hn::StoreU(f(n - lanes), d, y + n - lanes);
    return;
  }
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    const auto y0 = f(i), y1 = f(i + lanes), y2 = f(i + 2 * lanes), y3 = f(i + 3 * lanes);
    hn::StoreU(y0, d, y + i);
    hn::StoreU(y1, d, y + i + lanes);
    hn::StoreU(y2, d, y + i + 2 * lanes);
    hn::StoreU(y3, d, y + i + 3 * lanes);
  }
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(i), d, y + i);
  if (i < n) StorePart(d, rest(i, n - i), y + i, n - i);
}

}  // namespace HWY_NAMESPACE
}  // namespace residual
HWY_AFTER_NAMESPACE();

#endif  // RESIDUAL_OPS_SIMD_STREAM_INL_H_
