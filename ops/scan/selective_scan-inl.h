// What both passes of the selective scan are made of. Included once per Highway target.

#if defined(RESIDUAL_OPS_SCAN_SELECTIVE_SCAN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESIDUAL_OPS_SCAN_SELECTIVE_SCAN_INL_H_
#undef RESIDUAL_OPS_SCAN_SELECTIVE_SCAN_INL_H_
#else
#define RESIDUAL_OPS_SCAN_SELECTIVE_SCAN_INL_H_
#endif

#include <algorithm>
#include <utility>

#include "hwy/aligned_allocator.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "ops/scan/selective_scan_kernels.h"
#include "ops/simd/activation-inl.h"
#include "ops/simd/convert-inl.h"
#include "ops/simd/transpose-inl.h"
#include "ops/simd/vec_math-inl.h"
#include "tensor/core/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace scan_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using residual::HWY_NAMESPACE::ExpOfNonPositive;
using residual::HWY_NAMESPACE::LoadWidened;
using residual::HWY_NAMESPACE::StoreRounded;
using residual::HWY_NAMESPACE::Transpose;
using residual::HWY_NAMESPACE::VecExp;
using residual::HWY_NAMESPACE::VecSigmoid;
using residual::HWY_NAMESPACE::VecSilu;
using residual::HWY_NAMESPACE::VecSiluSlope;
using residual::HWY_NAMESPACE::VecSoftplus;

// A lane is a channel: as many channels as a vector has lanes, a block, go through the sequence
// together, one vector per dimension of the state. B_t and C_t are the same for all of them.
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

HWY_INLINE int64_t Lanes() { return static_cast<int64_t>(hn::Lanes(D())); }

// A block of channels: the first, and how many of a vector's lanes are channels.
struct Block {
  int64_t first, width;
};

// Lanes that are no channel read zero.
template <class T>
HWY_INLINE V LoadBlock(D d, const T* row, Block block) {
  if (block.width == Lanes()) return LoadWidened(d, row + block.first);
  HWY_ALIGN T part[HWY_MAX_BYTES / sizeof(float)] = {};
  std::copy_n(row + block.first, block.width, part);
  return LoadWidened(d, part);
}

template <class T>
HWY_INLINE void StoreBlock(D d, V v, T* row, Block block) {
  if (block.width == Lanes()) return StoreRounded(v, d, row + block.first);
  HWY_ALIGN T part[HWY_MAX_BYTES / sizeof(float)];
  StoreRounded(v, d, part);
  std::copy_n(part, block.width, row + block.first);
}

// Rows of channels [.., state] to vectors [state][lanes], and back.
inline void GatherBlock(const float* rows, Block block, int64_t state, float* to) {
  const int64_t lanes = Lanes();
  if (rows == nullptr || block.width < lanes) std::fill_n(to, state * lanes, 0.0f);
  if (rows == nullptr) return;
  Transpose<true>(block.width, state, 1, rows + block.first * state, state, to, lanes);
}
inline void ScatterBlock(const float* from, Block block, int64_t state, float* rows) {
  Transpose<true>(state, block.width, 1, from, Lanes(), rows + block.first * state, state);
}

// B or C at one position: numbers for all channels, or vectors of the block's.
struct Coefficients {
  const float* varying;
  const float* constant;
};
template <bool kVarying>
HWY_INLINE V At(D d, const Coefficients& c, int64_t n) {
  if (kVarying || c.varying != nullptr) return hn::Set(d, c.varying[n]);
  return hn::Load(d, c.constant + n * Lanes());
}

template <bool kNonPositive>
HWY_INLINE V Exp(D d, V x) {
  return kNonPositive ? ExpOfNonPositive(d, x) : VecExp(d, x);
}

// h = exp(delta A) h + du B; returns C . h. Where `factors` is given, exp(delta A) is left there.
// Four at a time, for the compiler to interleave their exponentials.
template <bool kNonPositive, bool kVarying, bool kKeep>
V Advance(D d, V delta, V du, const float* HWY_RESTRICT A, Coefficients B, Coefficients C,
          int64_t state, const float* from, float* to, float* HWY_RESTRICT factors) {
  const int64_t lanes = Lanes();
  V even = hn::Zero(d), odd = hn::Zero(d);
  int64_t n = 0;
  for (; n + 4 <= state; n += 4) {
    const int64_t i = n * lanes;
    const V a0 = Exp<kNonPositive>(d, hn::Mul(delta, hn::Load(d, A + i)));
    const V a1 = Exp<kNonPositive>(d, hn::Mul(delta, hn::Load(d, A + i + lanes)));
    const V a2 = Exp<kNonPositive>(d, hn::Mul(delta, hn::Load(d, A + i + 2 * lanes)));
    const V a3 = Exp<kNonPositive>(d, hn::Mul(delta, hn::Load(d, A + i + 3 * lanes)));
    const V h0 = hn::MulAdd(a0, hn::Load(d, from + i), hn::Mul(du, At<kVarying>(d, B, n)));
    const V h1 =
        hn::MulAdd(a1, hn::Load(d, from + i + lanes), hn::Mul(du, At<kVarying>(d, B, n + 1)));
    const V h2 =
        hn::MulAdd(a2, hn::Load(d, from + i + 2 * lanes), hn::Mul(du, At<kVarying>(d, B, n + 2)));
    const V h3 =
        hn::MulAdd(a3, hn::Load(d, from + i + 3 * lanes), hn::Mul(du, At<kVarying>(d, B, n + 3)));
    hn::Store(h0, d, to + i);
    hn::Store(h1, d, to + i + lanes);
    hn::Store(h2, d, to + i + 2 * lanes);
    hn::Store(h3, d, to + i + 3 * lanes);
    if (kKeep) {
      hn::Store(a0, d, factors + i);
      hn::Store(a1, d, factors + i + lanes);
      hn::Store(a2, d, factors + i + 2 * lanes);
      hn::Store(a3, d, factors + i + 3 * lanes);
    }
    even = hn::MulAdd(h0, At<kVarying>(d, C, n), even);
    odd = hn::MulAdd(h1, At<kVarying>(d, C, n + 1), odd);
    even = hn::MulAdd(h2, At<kVarying>(d, C, n + 2), even);
    odd = hn::MulAdd(h3, At<kVarying>(d, C, n + 3), odd);
  }
  for (; n < state; ++n) {
    const int64_t i = n * lanes;
    const V a = Exp<kNonPositive>(d, hn::Mul(delta, hn::Load(d, A + i)));
    const V h = hn::MulAdd(a, hn::Load(d, from + i), hn::Mul(du, At<kVarying>(d, B, n)));
    hn::Store(h, d, to + i);
    if (kKeep) hn::Store(a, d, factors + i);
    even = hn::MulAdd(h, At<kVarying>(d, C, n), even);
  }
  return hn::Add(even, odd);
}

// exp(delta A) is at most 1 where delta comes from softplus and A is not positive.
inline bool Decays(const ScanArgs& args, int64_t begin, int64_t end) {
  if (!args.softplus) return false;
  const D d;
  const float *a = args.A + begin * args.state, *last = args.A + end * args.state;
  for (; a + Lanes() <= last; a += Lanes()) {
    if (!hn::AllTrue(d, hn::Le(hn::LoadU(d, a), hn::Zero(d)))) return false;
  }
  return std::all_of(a, last, [](float x) { return x <= 0; });
}

template <bool kKeep>
HWY_INLINE V AdvanceAs(bool decays, bool varying, D d, V delta, V du, const float* A,
                       Coefficients B, Coefficients C, int64_t state, const float* from, float* to,
                       float* factors) {
  if (!varying) {
    return Advance<false, false, kKeep>(d, delta, du, A, B, C, state, from, to, factors);
  }
  return decays ? Advance<true, true, kKeep>(d, delta, du, A, B, C, state, from, to, factors)
                : Advance<false, true, kKeep>(d, delta, du, A, B, C, state, from, to, factors);
}

// What is the same for all positions of a block: [state][lanes], B and C if they are constant.
struct BlockConstants {
  float *A, *B, *C;
};

// One number for each channel; zeros where there is none.
HWY_INLINE V LoadChannels(D d, const float* x, Block block) {
  return x != nullptr ? LoadBlock(d, x, block) : hn::Zero(d);
}

// The inputs of one position, by channel.
template <class T>
struct Position {
  V u, delta;
  HWY_INLINE Position(D d, const ScanArgs& args, int64_t at, Block block) {
    u = LoadBlock(d, static_cast<const T*>(args.u) + at * args.dim, block);
    const V raw = hn::Add(LoadBlock(d, args.delta + at * args.dim, block),
                          LoadChannels(d, args.delta_bias, block));
    delta = args.softplus ? VecSoftplus(d, raw) : raw;
  }
};

inline Coefficients CoefficientsAt(const float* all, bool constant, const float* of_block,
                                   const ScanArgs& args, int64_t at, int64_t group) {
  if (constant) return {nullptr, of_block};
  return {all + (at * args.groups + group) * args.state, nullptr};
}

inline void ReadConstants(const ScanArgs& args, Block block, const BlockConstants& k) {
  GatherBlock(args.A, block, args.state, k.A);
  if (args.constant_B) GatherBlock(args.B, block, args.state, k.B);
  if (args.constant_C) GatherBlock(args.C, block, args.state, k.C);
}

}  // namespace HWY_NAMESPACE
}  // namespace scan_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#endif  // RESIDUAL_OPS_SCAN_SELECTIVE_SCAN_INL_H_
