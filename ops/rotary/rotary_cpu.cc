#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/rotary/rotary_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include "hwy/highway.h"
#include "ops/rotary/rotary_kernels.h"
#include "tensor/core/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace rotary_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;

VF LoadAsF32(DF d, const float* p) { return hn::LoadU(d, p); }
VF LoadAsF32(DF d, const BFloat16* p) {
  const hn::Rebind<uint16_t, DF> d16;
  const hn::Repartition<uint32_t, DF> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}
// The bits of bf16(x), to nearest even and NaN for NaN, in the low half of each lane.
hn::Vec<hn::RebindToUnsigned<DF>> ToBF16(DF d, VF x) {
  const hn::RebindToUnsigned<DF> d32;
  const auto bits = hn::BitCast(d32, x);
  const auto upper = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(upper, hn::Set(d32, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(d32, 0x7fff))));
  const auto nan = hn::Or(upper, hn::Set(d32, 0x40));
  return hn::IfThenElse(hn::RebindMask(d32, hn::IsNaN(x)), nan, rounded);
}
void StoreFromF32(VF x, DF d, float* p) { hn::StoreU(x, d, p); }
void StoreFromF32(VF x, DF d, BFloat16* p) {
  const hn::Rebind<uint16_t, DF> d16;
  const hn::RebindToSigned<DF> d32;
  // The bits are below 2^16, so a saturating conversion keeps them.
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(d32, ToBF16(d, x))), d16,
             reinterpret_cast<uint16_t*>(p));
}

// The even and the odd elements of 2 * lanes.
void LoadPairs(DF d, const float* p, VF& even, VF& odd) { hn::LoadInterleaved2(d, p, even, odd); }
void StorePairs(DF d, VF even, VF odd, float* p) { hn::StoreInterleaved2(even, odd, d, p); }
void LoadPairs(DF d, const BFloat16* p, VF& even, VF& odd) {
  const hn::RebindToUnsigned<DF> d32;
  const auto both = hn::LoadU(d32, reinterpret_cast<const uint32_t*>(p));
  even = hn::BitCast(d, hn::ShiftLeft<16>(both));
  odd = hn::BitCast(d, hn::And(both, hn::Set(d32, 0xffff0000u)));
}
void StorePairs(DF d, VF even, VF odd, BFloat16* p) {
  const hn::RebindToUnsigned<DF> d32;
  const auto both = hn::Or(ToBF16(d, even), hn::ShiftLeft<16>(ToBF16(d, odd)));
  hn::StoreU(both, d32, reinterpret_cast<uint32_t*>(p));
}

float ToF32(float x) { return x; }
float ToF32(BFloat16 x) { return x.ToFloat(); }
void FromF32(float x, float* p) { *p = x; }
void FromF32(float x, BFloat16* p) { *p = BFloat16::FromFloat(x); }

// Pairs (i, i + half). `sign` is 1, or -1 to turn back.
template <class T>
void RotateHalf(const T* HWY_RESTRICT x, const float* HWY_RESTRICT cos,
                const float* HWY_RESTRICT sin, float sign, int64_t half, T* HWY_RESTRICT y) {
  const DF d;
  const int64_t lanes = hn::Lanes(d);
  const VF signs = hn::Set(d, sign);
  int64_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    const VF c = hn::LoadU(d, cos + i), s = hn::Mul(signs, hn::LoadU(d, sin + i));
    const VF a = LoadAsF32(d, x + i), b = LoadAsF32(d, x + half + i);
    StoreFromF32(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, y + i);
    StoreFromF32(hn::MulAdd(a, s, hn::Mul(b, c)), d, y + half + i);
  }
  for (; i < half; ++i) {
    const float c = cos[i], s = sign * sin[i], a = ToF32(x[i]), b = ToF32(x[half + i]);
    FromF32(a * c - b * s, y + i);
    FromF32(b * c + a * s, y + half + i);
  }
}

// Pairs (2 i, 2 i + 1).
template <class T>
void RotateInterleaved(const T* HWY_RESTRICT x, const float* HWY_RESTRICT cos,
                       const float* HWY_RESTRICT sin, float sign, int64_t half, T* HWY_RESTRICT y) {
  const DF d;
  const int64_t lanes = hn::Lanes(d);
  const VF signs = hn::Set(d, sign);
  int64_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    const VF c = hn::LoadU(d, cos + i), s = hn::Mul(signs, hn::LoadU(d, sin + i));
    VF a, b;
    LoadPairs(d, x + 2 * i, a, b);
    StorePairs(d, hn::NegMulAdd(b, s, hn::Mul(a, c)), hn::MulAdd(a, s, hn::Mul(b, c)), y + 2 * i);
  }
  for (; i < half; ++i) {
    const float c = cos[i], s = sign * sin[i], a = ToF32(x[2 * i]), b = ToF32(x[2 * i + 1]);
    FromF32(a * c - b * s, y + 2 * i);
    FromF32(b * c + a * s, y + 2 * i + 1);
  }
}

template <class T>
void Rotate(const Args& args, int64_t begin, int64_t end) {
  const int64_t half = args.rotary_dim / 2;
  const float sign = args.inverse ? -1 : 1;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t t = r % args.table_rows;
    const float* cos = static_cast<const float*>(args.cos) + t * half;
    const float* sin = static_cast<const float*>(args.sin) + t * half;
    for (int64_t h = 0; h < args.n_heads; ++h) {
      const int64_t at = (r * args.n_heads + h) * args.d_head;
      const T* x = static_cast<const T*>(args.x) + at;
      T* y = static_cast<T*>(args.y) + at;
      if (args.interleaved) {
        RotateInterleaved(x, cos, sin, sign, half, y);
      } else {
        RotateHalf(x, cos, sin, sign, half, y);
      }
      for (int64_t i = args.rotary_dim; i < args.d_head; ++i) y[i] = x[i];
    }
  }
}

void RotateF32(const Args& args, int64_t begin, int64_t end) { Rotate<float>(args, begin, end); }
void RotateBF16(const Args& args, int64_t begin, int64_t end) {
  Rotate<BFloat16>(args, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace rotary_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace rotary_internal {

HWY_EXPORT(RotateF32);
HWY_EXPORT(RotateBF16);

void RotateF32(const Args& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(RotateF32)(args, begin, end);
}
void RotateBF16(const Args& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(RotateBF16)(args, begin, end);
}

}  // namespace rotary_internal
}  // namespace residual
#endif  // HWY_ONCE
