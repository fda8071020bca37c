#include "ops/dropout/dropout_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/dropout/dropout_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "ops/simd/stream-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Elements [begin, n) plainly, bits of the mask among them.
void PlainDropout(const DropoutArgs& args, const Philox& random, int64_t first, int64_t begin,
                  int64_t n) {
  for (int64_t i = begin; i < n; ++i) {
    const bool keep = random.Bits16(static_cast<uint64_t>(first + i)) >= args.threshold;
    args.y[i] = keep ? args.x[i] * args.scale : 0;
    if (args.mask != nullptr) {
      const uint64_t bit = uint64_t{1} << (i % 64);
      args.mask[i / 64] = (args.mask[i / 64] & ~bit) | (keep ? bit : 0);
    }
  }
}

void PlainBackward(const DropoutBackwardArgs& args, int64_t begin, int64_t n) {
  for (int64_t i = begin; i < n; ++i) {
    args.dx[i] = args.mask[i / 64] >> (i % 64) & 1 ? args.dy[i] * args.scale : 0;
  }
}

#if HWY_TARGET == HWY_SCALAR

void DropoutImpl(const DropoutArgs& args, const Philox& random, int64_t first, int64_t n) {
  PlainDropout(args, random, first, 0, n);
}
void DropoutBackwardImpl(const DropoutBackwardArgs& args, int64_t n) { PlainBackward(args, 0, n); }

#else

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
using D32 = hn::RebindToUnsigned<D>;
using D64 = hn::ScalableTag<uint64_t>;
using V64 = hn::Vec<D64>;

// Philox4x32-10, a block in each 64-bit lane: the low halves of four vectors are its counter, the
// high halves rubbish, which no multiplication looks at. So a round is two multiplications, two
// shifts and two exclusive ors of three, and the low half of a product needs nothing at all.
//
// The first word counts blocks; the others are the same in all of them. So of the first two rounds
// there is one multiplication each to do.
class Rounds {
 public:
  HWY_INLINE Rounds(const Philox& random, uint64_t block_high) {
    const D64 d;
    for (uint32_t r = 0; r < 10; ++r) {
      key0_[r] = static_cast<uint32_t>(random.seed()) + r * 0x9E3779B9u;
      key1_[r] = static_cast<uint32_t>(random.seed() >> 32) + r * 0xBB67AE85u;
    }
    const V64 c1 = hn::Set(d, block_high), c2 = hn::Set(d, random.stream() & 0xffffffffu);
    const V64 c3 = hn::Set(d, random.stream() >> 32);
    const V64 product = Times1(c2);
    const V64 a0 = hn::Xor3(hn::ShiftRight<32>(product), c1, hn::Set(d, key0_[0]));
    const V64 product0 = Times0(a0);
    first2_ = hn::Xor(c3, hn::Set(d, key1_[0]));
    second0_ = hn::Xor(product, hn::Set(d, key0_[1]));
    second2_ = hn::Xor(hn::ShiftRight<32>(product0), hn::Set(d, key1_[1]));
    second3_ = product0;
  }

  // The words of two vectors of blocks, whose chains of instructions overlap.
  HWY_INLINE void Run(V64 blocks_a, V64 blocks_b, V64 (&a)[4], V64 (&b)[4]) const {
    const D64 d;
    Start(blocks_a, a);
    Start(blocks_b, b);
#pragma GCC unroll 8
    for (int r = 2; r < 10; ++r) {
      const V64 key0 = hn::Set(d, key0_[r]), key1 = hn::Set(d, key1_[r]);
      Round(key0, key1, a);
      Round(key0, key1, b);
    }
  }

 private:
  static HWY_INLINE V64 Times0(V64 x) {
    const hn::Repartition<uint32_t, D64> d32;
    return hn::MulEven(hn::BitCast(d32, x), hn::Set(d32, 0xD2511F53u));
  }
  static HWY_INLINE V64 Times1(V64 x) {
    const hn::Repartition<uint32_t, D64> d32;
    return hn::MulEven(hn::BitCast(d32, x), hn::Set(d32, 0xCD9E8D57u));
  }
  HWY_INLINE void Start(V64 blocks, V64 (&c)[4]) const {
    const V64 product0 = Times0(blocks);
    const V64 product1 = Times1(hn::Xor(hn::ShiftRight<32>(product0), first2_));
    c[0] = hn::Xor(hn::ShiftRight<32>(product1), second0_);
    c[1] = product1;
    c[2] = hn::Xor(product0, second2_);
    c[3] = second3_;
  }
  static HWY_INLINE void Round(V64 key0, V64 key1, V64 (&c)[4]) {
    const V64 product0 = Times0(c[0]), product1 = Times1(c[2]);
    c[0] = hn::Xor3(hn::ShiftRight<32>(product1), c[1], key0);
    c[2] = hn::Xor3(hn::ShiftRight<32>(product0), c[3], key1);
    c[1] = product1;
    c[3] = product0;
  }

  uint64_t key0_[10], key1_[10];  // of 32 bits, as wide as the lanes they are spread over
  V64 first2_, second0_, second2_, second3_;
};

// Two vectors of 32 random bits from the words of blocks, in the order of the elements if the lanes
// hold blocks 0, n / 2, 1, n / 2 + 1, ...
HWY_INLINE void InOrder(const V64 (&c)[4], hn::Vec<D32>& lower, hn::Vec<D32>& upper) {
  const D64 d;
  const D32 d32;
  const auto pair = [&](V64 even, V64 odd) HWY_ATTR {
    return hn::BitCast(
        d, hn::OddEven(hn::BitCast(d32, hn::ShiftLeft<32>(odd)), hn::BitCast(d32, even)));
  };
  const V64 words01 = pair(c[0], c[1]), words23 = pair(c[2], c[3]);
  lower = hn::BitCast(d32, hn::InterleaveLower(d, words01, words23));
  upper = hn::BitCast(d32, hn::InterleaveUpper(d, words01, words23));
}

// Bits of the mask from element i on: what is not dropped, of two vectors that are neighbours.
HWY_INLINE void StoreKept(uint64_t* mask, int64_t i, hn::Mask<D> drop0, hn::Mask<D> drop1) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  uint8_t* bytes = reinterpret_cast<uint8_t*>(mask) + i / 8;
  if (lanes >= 8) {
    hn::StoreMaskBits(d, hn::Not(drop0), bytes);
    hn::StoreMaskBits(d, hn::Not(drop1), bytes + lanes / 8);
  } else {
    uint8_t parts[2][8];
    hn::StoreMaskBits(d, hn::Not(drop0), parts[0]);
    hn::StoreMaskBits(d, hn::Not(drop1), parts[1]);
    bytes[0] = static_cast<uint8_t>(parts[0][0] | parts[1][0] << 4);
  }
}

// y of a vector of elements from i on.
template <bool kStream>
HWY_INLINE void WriteKept(const DropoutArgs& args, V scale, hn::Mask<D> drop, int64_t i) {
  const D d;
  const V y = hn::IfThenZeroElse(drop, hn::Mul(hn::LoadU(d, args.x + i), scale));
  if (kStream) {
    hn::Stream(y, d, args.y + i);
  } else {
    hn::StoreU(y, d, args.y + i);
  }
}

// Groups of 128 elements; returns where they end. A vector of words serves two vectors of elements
// that are 64 apart, by its lower and by its upper halves. (A word for each element took twice the
// multiplications, 22 cycles for 16 elements on a Zen 4, twice what memory takes for them.)
template <bool kStream, bool kMask>
int64_t DropoutVectors(const DropoutArgs& args, const Philox& random, int64_t first, int64_t n) {
  const D d;
  const D32 d32;
  const D64 d64;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), blocks = lanes / 2;
  HWY_ALIGN uint64_t order[HWY_MAX_BYTES / 8];
  for (int64_t j = 0; j < blocks; ++j) order[j] = (j % 2 == 0 ? 0 : blocks / 2) + j / 2;
  const uint64_t block = static_cast<uint64_t>(first / 8);
  const V64 step = hn::Set(d64, static_cast<uint64_t>(blocks));
  V64 counter = hn::Add(hn::Load(d64, order), hn::Set(d64, block & 0xffffffffu));
  const Rounds rounds(random, block >> 32);
  const auto threshold = hn::Set(d32, args.threshold << 16);  // of upper halves
  const V scale = hn::Set(d, args.scale);
  int64_t i = 0;
  for (; i + 128 <= n; i += 128) {
    for (int64_t low = i; low < i + 64; low += 4 * lanes) {
      const int64_t high = low + 64;
      if (kStream) {
        for (int64_t k = 0; k < 4; ++k) {
          hwy::Prefetch(args.x + low + 512 + k * lanes);
          hwy::Prefetch(args.x + high + 512 + k * lanes);
        }
      }
      V64 a[4], b[4];
      const V64 next = hn::Add(counter, step);
      rounds.Run(counter, next, a, b);
      counter = hn::Add(next, step);
      hn::Vec<D32> bits[4];
      InOrder(a, bits[0], bits[1]);
      InOrder(b, bits[2], bits[3]);
#pragma GCC unroll 2
      for (int k = 0; k < 4; k += 2) {
        const auto drop = [&](hn::Vec<D32> bits)
                              HWY_ATTR { return hn::RebindMask(d, hn::Gt(threshold, bits)); };
        const auto low0 = drop(hn::ShiftLeft<16>(bits[k]));
        const auto low1 = drop(hn::ShiftLeft<16>(bits[k + 1]));
        const auto high0 = drop(bits[k]), high1 = drop(bits[k + 1]);
        WriteKept<kStream>(args, scale, low0, low + k * lanes);
        WriteKept<kStream>(args, scale, low1, low + (k + 1) * lanes);
        WriteKept<kStream>(args, scale, high0, high + k * lanes);
        WriteKept<kStream>(args, scale, high1, high + (k + 1) * lanes);
        if (kMask) {
          StoreKept(args.mask, low + k * lanes, low0, low1);
          StoreKept(args.mask, high + k * lanes, high0, high1);
        }
      }
    }
  }
  if (kStream) hwy::FlushStream();
  return i;
}

void DropoutImpl(const DropoutArgs& args, const Philox& random, int64_t first, int64_t n) {
  static_assert(hn::MaxLanes(D()) >= 4 && hn::MaxLanes(D()) <= 16,
                "a block serves four vectors' lanes, four vectors the half of a group");
  const bool stream = StreamsWhole(args.y, args.stream), mask = args.mask != nullptr;
  const auto run = stream ? (mask ? DropoutVectors<true, true> : DropoutVectors<true, false>)
                          : (mask ? DropoutVectors<false, true> : DropoutVectors<false, false>);
  PlainDropout(args, random, first, run(args, random, first, n), n);
}

// dx of a vector of elements from i on. (Not a lambda that captures vectors: under AddressSanitizer
// GCC keeps those on a stack that is not aligned for them.)
HWY_INLINE V Kept(const DropoutBackwardArgs& args, int64_t i) {
  const D d;
  const uint8_t* from = reinterpret_cast<const uint8_t*>(args.mask) + i / 8;
  uint8_t bits[8] = {};
  if (hn::Lanes(d) < 8) {
    bits[0] = static_cast<uint8_t>(*from >> (i % 8));
    from = bits;
  }
  return hn::IfThenElseZero(hn::LoadMaskBits(d, from),
                            hn::Mul(hn::LoadU(d, args.dy + i), hn::Set(d, args.scale)));
}

void DropoutBackwardImpl(const DropoutBackwardArgs& args, int64_t n) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  if (StreamsWhole(args.dx, args.stream)) {
    for (; i + lanes <= n; i += lanes) {
      hwy::Prefetch(args.dy + i + 512);
      hn::Stream(Kept(args, i), d, args.dx + i);
    }
    hwy::FlushStream();
  }
  for (; i + lanes <= n; i += lanes) hn::StoreU(Kept(args, i), d, args.dx + i);
  PlainBackward(args, i, n);
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {

HWY_EXPORT(DropoutImpl);
HWY_EXPORT(DropoutBackwardImpl);

void DropoutCpu(const DropoutArgs& args, const Philox& random, int64_t first, int64_t n) {
  HWY_DYNAMIC_DISPATCH(DropoutImpl)(args, random, first, n);
}
void DropoutBackwardCpu(const DropoutBackwardArgs& args, int64_t n) {
  HWY_DYNAMIC_DISPATCH(DropoutBackwardImpl)(args, n);
}

}  // namespace residual
#endif  // HWY_ONCE
