// Integers are widened to f32 in registers: reading them takes longer. A prototype of this loop
// read the 132 MB of GPT-2 small's weights at 42 GB/s with two threads, minutes after bf16 at 31 on
// a machine whose memory varies as much; prefetching 1, 4 or 8 KiB ahead made no difference.
// Rounding x to 8 bits too, for the processor's dot product of bytes, was not tried: it would cost
// digits.

#include "ops/quantized/quantized_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/quantized/quantized_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include <algorithm>
#include <cmath>
#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace quantized_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE hn::Vec<D> LoadIntegers(D d, const int8_t* p) {
  const hn::Rebind<int8_t, D> d8;
  const hn::RebindToSigned<D> d32;
  return hn::ConvertTo(d, hn::PromoteTo(d32, hn::LoadU(d8, p)));
}

void DotsImpl(const Rows& rows, const float* HWY_RESTRICT x, const float* bias,
              float* HWY_RESTRICT y) {
  const hn::ScalableTag<float> d;
  constexpr int64_t kLanes = hn::MaxLanes(hn::ScalableTag<float>());
  const int8_t* q = rows.values;
  const float* scale = rows.scales;
  for (int64_t r = 0; r < rows.count; ++r) {
    auto even = hn::Zero(d), odd = hn::Zero(d);
    for (int64_t g = 0; g < rows.groups; ++g, q += kGroup) {
      const float* in = x + g * kGroup;
      auto low = hn::Mul(LoadIntegers(d, q), hn::LoadU(d, in));
      auto high = hn::Mul(LoadIntegers(d, q + kLanes), hn::LoadU(d, in + kLanes));
#pragma GCC unroll 8
      for (int64_t i = 2 * kLanes; i < kGroup; i += 2 * kLanes) {
        low = hn::MulAdd(LoadIntegers(d, q + i), hn::LoadU(d, in + i), low);
        high = hn::MulAdd(LoadIntegers(d, q + i + kLanes), hn::LoadU(d, in + i + kLanes), high);
      }
      const auto s = hn::Set(d, *scale++);
      even = hn::MulAdd(s, low, even);
      odd = hn::MulAdd(s, high, odd);
    }
    const float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
    y[r] = bias != nullptr ? bias[r] + sum : sum;
  }
}

void WidenImpl(const Rows& rows, int64_t columns, float* HWY_RESTRICT to) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < rows.count; ++r) {
    const int8_t* q = rows.values + r * rows.groups * kGroup;
    for (int64_t g = 0; g * kGroup < columns; ++g) {
      const float scale = rows.scales[r * rows.groups + g];
      const auto s = hn::Set(d, scale);
      const int64_t n = std::min(kGroup, columns - g * kGroup);
      int64_t i = 0;
      for (; i + lanes <= n; i += lanes) {
        hn::StoreU(hn::Mul(s, LoadIntegers(d, q + g * kGroup + i)), d, to + g * kGroup + i);
      }
      for (; i < n; ++i) to[g * kGroup + i] = scale * static_cast<float>(q[g * kGroup + i]);
    }
    to += columns;
  }
}

bool QuantizeRowImpl(const float* w, int64_t columns, int8_t* values, float* scales) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> d32;
  const hn::Rebind<int8_t, decltype(d)> d8;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  bool finite = true;
  HWY_ALIGN float group[kGroup];
  for (int64_t k = 0; k < columns; k += kGroup, values += kGroup) {
    const int64_t n = std::min(kGroup, columns - k);
    std::memcpy(group, w + k, n * sizeof(float));
    std::fill(group + n, group + kGroup, 0.0f);
    auto most = hn::Zero(d);
    for (int64_t i = 0; i < kGroup; i += lanes) {
      const auto v = hn::Abs(hn::Load(d, group + i));
      finite &= hn::AllTrue(d, hn::Lt(v, hn::Set(d, INFINITY)));  // false of NaN
      most = hn::Max(most, v);
    }
    const float largest = hn::GetLane(hn::MaxOfLanes(d, most));
    *scales++ = largest / 127;
    const float inverse = 127 / largest;
    const auto factor = hn::Set(d, inverse < INFINITY ? inverse : 0);
    for (int64_t i = 0; i < kGroup; i += lanes) {
      const auto q = hn::NearestInt(hn::Mul(factor, hn::Load(d, group + i)));
      hn::StoreU(hn::DemoteTo(d8, hn::Min(hn::Max(q, hn::Set(d32, -127)), hn::Set(d32, 127))), d8,
                 values + i);
    }
  }
  return finite;
}

}  // namespace HWY_NAMESPACE
}  // namespace quantized_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace quantized_internal {

HWY_EXPORT(DotsImpl);
HWY_EXPORT(WidenImpl);
HWY_EXPORT(QuantizeRowImpl);

void Dots(const Rows& rows, const float* x, const float* bias, float* y) {
  HWY_DYNAMIC_DISPATCH(DotsImpl)(rows, x, bias, y);
}
void Widen(const Rows& rows, int64_t columns, float* to) {
  HWY_DYNAMIC_DISPATCH(WidenImpl)(rows, columns, to);
}
bool QuantizeRow(const float* w, int64_t columns, int8_t* values, float* scales) {
  return HWY_DYNAMIC_DISPATCH(QuantizeRowImpl)(w, columns, values, scales);
}

}  // namespace quantized_internal
}  // namespace residual
#endif  // HWY_ONCE
