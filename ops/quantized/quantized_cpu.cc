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
    const float* from = w + k;
    if (columns - k < kGroup) {
      std::memcpy(group, from, (columns - k) * sizeof(float));
      std::fill(group + (columns - k), group + kGroup, 0.0f);
      from = group;
    }
    auto most = hn::Zero(d);
    for (int64_t i = 0; i < kGroup; i += lanes) {
      const auto v = hn::Abs(hn::LoadU(d, from + i));
      finite &= hn::AllTrue(d, hn::Lt(v, hn::Set(d, INFINITY)));  // false of NaN
      most = hn::Max(most, v);
    }
    const float largest = hn::GetLane(hn::MaxOfLanes(d, most));
    *scales++ = largest / 127;
    const float inverse = 127 / largest;
    const auto factor = hn::Set(d, inverse < INFINITY ? inverse : 0);
    for (int64_t i = 0; i < kGroup; i += lanes) {
      const auto q = hn::NearestInt(hn::Mul(factor, hn::LoadU(d, from + i)));
      hn::StoreU(hn::DemoteTo(d8, hn::Min(hn::Max(q, hn::Set(d32, -127)), hn::Set(d32, 127))), d8,
                 values + i);
    }
  }
  return finite;
}

#if HWY_TARGET == HWY_SCALAR
void Transpose16(const int8_t* from, int64_t from_step, int8_t* to, int64_t to_step) {
  for (int64_t i = 0; i < 16; ++i) {
    for (int64_t j = 0; j < 16; ++j) to[j * to_step + i] = from[i * from_step + j];
  }
}
#else
// [16, 16] bytes: in each round rows i and i + 8 are shuffled into rows 2 i and 2 i + 1, a rotation
// of the bits of (row, column) by one; four rounds exchange the two.
HWY_INLINE void Transpose16(const int8_t* from, int64_t from_step, int8_t* to, int64_t to_step) {
  const hn::FixedTag<int8_t, 16> d;
  hn::Vec<decltype(d)> a[16], b[16];
  for (int64_t i = 0; i < 16; ++i) a[i] = hn::LoadU(d, from + i * from_step);
  const auto shuffle = [&](const auto* x, auto* y) HWY_ATTR {
    for (int64_t i = 0; i < 8; ++i) {
      y[2 * i] = hn::InterleaveLower(d, x[i], x[i + 8]);
      y[2 * i + 1] = hn::InterleaveUpper(d, x[i], x[i + 8]);
    }
  };
  shuffle(a, b);
  shuffle(b, a);
  shuffle(a, b);
  shuffle(b, a);
  for (int64_t i = 0; i < 16; ++i) hn::StoreU(a[i], d, to + i * to_step);
}
#endif

bool QuantizeColumnsImpl(const Columns& columns) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> d32;
  const hn::Rebind<int8_t, decltype(d)> d8;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN float copy[kGroup * kTile], largest[kTile], scales[kTile];
  HWY_ALIGN int8_t rounded[kGroup * kTile], turned[kTile * kGroup];
  const float* w = columns.w;
  int64_t step = columns.w_step;
  if (columns.count < kTile) {
    std::memset(copy, 0, sizeof(copy));
    for (int64_t k = 0; k < columns.depth; ++k) {
      std::memcpy(copy + k * kTile, w + k * step, columns.count * sizeof(float));
    }
    w = copy;
    step = kTile;
  }
  std::memset(rounded + columns.depth * kTile, 0, (kGroup - columns.depth) * kTile);
  const auto infinity = hn::Set(d, INFINITY);
  auto finite = hn::Eq(infinity, infinity);
  for (int64_t i = 0; i < kTile; i += lanes) {
    auto most = hn::Zero(d);
    for (int64_t k = 0; k < columns.depth; ++k) {
      const auto v = hn::Abs(hn::LoadU(d, w + k * step + i));
      finite = hn::And(finite, hn::Lt(v, infinity));  // false of NaN
      most = hn::Max(most, v);
    }
    hn::Store(most, d, largest + i);
  }
  for (int64_t i = 0; i < kTile; i += lanes) {
    const auto most = hn::Load(d, largest + i), top = hn::Set(d, 127.0f);
    hn::Store(hn::Div(most, top), d, scales + i);
    const auto inverse = hn::Div(top, most);
    const auto factor = hn::IfThenElseZero(hn::Lt(inverse, infinity), inverse);
    for (int64_t k = 0; k < columns.depth; ++k) {
      const auto q = hn::NearestInt(hn::Mul(factor, hn::LoadU(d, w + k * step + i)));
      hn::StoreU(hn::DemoteTo(d8, hn::Min(hn::Max(q, hn::Set(d32, -127)), hn::Set(d32, 127))), d8,
                 rounded + k * kTile + i);
    }
  }
  for (int64_t k = 0; k < kGroup; k += 16) {
    for (int64_t i = 0; i < kTile; i += 16) {
      Transpose16(rounded + k * kTile + i, kTile, turned + i * kGroup + k, kGroup);
    }
  }
  for (int64_t i = 0; i < columns.count; ++i) {
    std::memcpy(columns.values + i * columns.value_step, turned + i * kGroup, kGroup);
    columns.scales[i * columns.scale_step] = scales[i];
  }
  return hn::AllTrue(d, finite);
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
HWY_EXPORT(QuantizeColumnsImpl);

void Dots(const Rows& rows, const float* x, const float* bias, float* y) {
  HWY_DYNAMIC_DISPATCH(DotsImpl)(rows, x, bias, y);
}
void Widen(const Rows& rows, int64_t columns, float* to) {
  HWY_DYNAMIC_DISPATCH(WidenImpl)(rows, columns, to);
}
bool QuantizeRow(const float* w, int64_t columns, int8_t* values, float* scales) {
  return HWY_DYNAMIC_DISPATCH(QuantizeRowImpl)(w, columns, values, scales);
}
bool QuantizeColumns(const Columns& columns) {
  return HWY_DYNAMIC_DISPATCH(QuantizeColumnsImpl)(columns);
}

}  // namespace quantized_internal
}  // namespace residual
#endif  // HWY_ONCE
