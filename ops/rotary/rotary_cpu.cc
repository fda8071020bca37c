#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/rotary/rotary_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include "hwy/highway.h"
#include "ops/rotary/rotary_kernels.h"
#include "ops/simd/convert-inl.h"
#include "tensor/core/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace rotary_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;
using residual::HWY_NAMESPACE::BitsBF16;
using residual::HWY_NAMESPACE::LoadWidened;
using residual::HWY_NAMESPACE::RoundElement;
using residual::HWY_NAMESPACE::StoreRounded;
using residual::HWY_NAMESPACE::Widened;

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
  const auto both = hn::Or(BitsBF16(d, even), hn::ShiftLeft<16>(BitsBF16(d, odd)));
  hn::StoreU(both, d32, reinterpret_cast<uint32_t*>(p));
}

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
    const VF a = LoadWidened(d, x + i), b = LoadWidened(d, x + half + i);
    StoreRounded(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, y + i);
    StoreRounded(hn::MulAdd(a, s, hn::Mul(b, c)), d, y + half + i);
  }
  for (; i < half; ++i) {
    const float c = cos[i], s = sign * sin[i], a = Widened(x[i]), b = Widened(x[half + i]);
    RoundElement(a * c - b * s, y + i);
    RoundElement(b * c + a * s, y + half + i);
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
    const float c = cos[i], s = sign * sin[i], a = Widened(x[2 * i]), b = Widened(x[2 * i + 1]);
    RoundElement(a * c - b * s, y + 2 * i);
    RoundElement(b * c + a * s, y + 2 * i + 1);
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
