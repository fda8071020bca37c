#include "ops/scan/linear_recurrence_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/scan/linear_recurrence_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace scan_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Positions ahead that are asked for: rows lie apart, where the processor does not look by itself.
constexpr int64_t kAhead = 8;

// A block of channels, as many as d has lanes, from the first position to the last.
template <class D, class T>
HWY_INLINE void ForwardBlock(D d, const Recurrence<T>& r, int64_t c) {
  auto h = r.initial != nullptr ? hn::LoadU(d, r.initial + c) : hn::Zero(d);
  for (int64_t t = 0; t < r.length; ++t) {
    const int64_t at = t * r.dim + c;
    hwy::Prefetch(r.a + at + kAhead * r.dim);
    hwy::Prefetch(r.b + at + kAhead * r.dim);
    h = hn::MulAdd(hn::LoadU(d, r.a + at), h, hn::LoadU(d, r.b + at));
    hn::StoreU(h, d, r.h + at);
  }
}

template <class D, class T>
HWY_INLINE void BackwardBlock(D d, const RecurrenceGradients<T>& r, int64_t c) {
  auto carry = hn::Zero(d);
  for (int64_t t = r.length - 1; t >= 0; --t) {
    const int64_t at = t * r.dim + c;
    if (t > kAhead) {
      for (const T* x : {r.a, r.h, r.dh}) hwy::Prefetch(x + at - kAhead * r.dim);
    }
    const auto g = hn::Add(hn::LoadU(d, r.dh + at), carry);
    const auto before = t > 0                  ? hn::LoadU(d, r.h + at - r.dim)
                        : r.initial != nullptr ? hn::LoadU(d, r.initial + c)
                                               : hn::Zero(d);
    hn::StoreU(g, d, r.db + at);
    hn::StoreU(hn::Mul(g, before), d, r.da + at);
    carry = hn::Mul(hn::LoadU(d, r.a + at), g);
  }
  if (r.dinitial != nullptr) hn::StoreU(carry, d, r.dinitial + c);
}

// Whole vectors, then channel by channel: one lane multiplies and adds in the same way.
template <class T>
void Forward(const Recurrence<T>& r, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = begin;
  for (; c + lanes <= end; c += lanes) ForwardBlock(d, r, c);
  for (; c < end; ++c) ForwardBlock(one, r, c);
}
template <class T>
void Backward(const RecurrenceGradients<T>& r, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = begin;
  for (; c + lanes <= end; c += lanes) BackwardBlock(d, r, c);
  for (; c < end; ++c) BackwardBlock(one, r, c);
}

void ForwardF32(const Recurrence<float>& r, int64_t begin, int64_t end) { Forward(r, begin, end); }
void ForwardF64(const Recurrence<double>& r, int64_t begin, int64_t end) { Forward(r, begin, end); }
void BackwardF32(const RecurrenceGradients<float>& r, int64_t begin, int64_t end) {
  Backward(r, begin, end);
}
void BackwardF64(const RecurrenceGradients<double>& r, int64_t begin, int64_t end) {
  Backward(r, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace scan_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace scan_internal {

HWY_EXPORT(ForwardF32);
HWY_EXPORT(ForwardF64);
HWY_EXPORT(BackwardF32);
HWY_EXPORT(BackwardF64);

void RecurrenceForward(const Recurrence<float>& r, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(ForwardF32)(r, begin, end);
}
void RecurrenceForward(const Recurrence<double>& r, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(ForwardF64)(r, begin, end);
}
void RecurrenceBackward(const RecurrenceGradients<float>& r, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(BackwardF32)(r, begin, end);
}
void RecurrenceBackward(const RecurrenceGradients<double>& r, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(BackwardF64)(r, begin, end);
}

}  // namespace scan_internal
}  // namespace residual
#endif  // HWY_ONCE
