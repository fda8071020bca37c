// Tiles of attention: what the forward and the backward kernel share.
//
// A tile is some queries, one per lane of up to kVectors vectors, against some keys, and all of it
// is kept transposed, with the queries last: q^T [d_head, queries], S^T [keys, queries], z^T
// [d_head, queries]. So the left operand of every product is k or v as it lies in memory, one
// element broadcast at a time, and the right one is whole vectors: k and v are neither packed nor
// copied, and the maximum and the sum over keys need no shuffles. The products run at 98 to 100 %
// of the FMA limit this way for any stride between keys (8 rows by 3 vectors of AVX-512; 6 x 4
// is 1 % slower, 12 x 2 2 %, 14 x 2 4 %, and 25 % where rows are 4096 bytes apart).

#if defined(RESIDUAL_OPS_FLASH_FLASH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESIDUAL_OPS_FLASH_FLASH_INL_H_
#undef RESIDUAL_OPS_FLASH_FLASH_INL_H_
#else
#define RESIDUAL_OPS_FLASH_FLASH_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "hwy/highway.h"
#include "ops/flash/flash.h"
#include "ops/simd/convert-inl.h"
#include "ops/simd/reduce-inl.h"
#include "ops/simd/transpose-inl.h"
#include "tensor/base/parallel.h"
#include "tensor/core/storage.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace flash_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using residual::HWY_NAMESPACE::Fold;
using residual::HWY_NAMESPACE::LoadWidened;
using residual::HWY_NAMESPACE::RoundElement;
using residual::HWY_NAMESPACE::StoreRounded;
using residual::HWY_NAMESPACE::Transpose;
using residual::HWY_NAMESPACE::Widened;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

HWY_INLINE int64_t Lanes() { return static_cast<int64_t>(hn::Lanes(D())); }

// The register tile: 24 sums of 32 registers, or 12 of 16.
#if HWY_TARGET <= HWY_AVX3
constexpr int kRows = 8;
#else
constexpr int kRows = 4;
#endif
constexpr int kVectors = 3;
// Keys of one tile: S^T is 24 KiB, which leaves room in the L1 for what streams by. 64, 96 and 192
// are as fast, within the 2 % that runs differ by (T = 1024 and 4096, d_head 64).
constexpr int64_t kKeys = 128;

constexpr float kLog2E = 1.44269504088896341f;
constexpr float kHidden = -std::numeric_limits<float>::infinity();

// 2^x for x < 128; 0 for x <= -126.5, exactly (and so for -infinity); NaN for NaN. 1 ulp; with a
// term less, 2 ulp, the forward pass was not measurably faster.
HWY_INLINE V Exp2(V x) {
  const D d;
  const hn::RebindToSigned<D> di;
  // Adding 1.5 * 2^23 + 127 rounds x to an integer n and leaves n + 127, the bits of the exponent,
  // in the low bits. At n = -127 they are 0, and so is the power.
  const V magic = hn::Set(d, 12583039.0f), least = hn::Set(d, -127.0f);
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR
  x = hn::Max(least, x);  // in this order NaN survives
#else
  x = hn::IfThenElse(hn::Lt(x, least), least, x);
#endif
  const V shifted = hn::Add(x, magic);
  const V r = hn::Sub(x, hn::Sub(shifted, magic));
  V p = hn::Set(d, 1.535336196e-04f);
  p = hn::MulAdd(p, r, hn::Set(d, 1.339887502e-03f));
  p = hn::MulAdd(p, r, hn::Set(d, 9.618436918e-03f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.550332367e-02f));
  p = hn::MulAdd(p, r, hn::Set(d, 2.402264774e-01f));
  p = hn::MulAdd(p, r, hn::Set(d, 6.931471825e-01f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  return hn::Mul(p, hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
}

// Products of f32 (an element of A is a float), or of pairs of bf16, of which both sides hold two
// along k in the bits of a float.
enum class Kind { kSingle, kPair };

#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86_64
// sum + x.low * y.low + x.high * y.high. In assembler, for no target of this Highway has it, and
// only where the processor was seen to have AVX512_BF16.
HWY_INLINE V MulAddPairs(V x, V y, V sum) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum.raw) : "v"(x.raw), "v"(y.raw));
  return sum;
}
#endif

template <Kind kKind>
HWY_INLINE V MulAddOf(V x, V y, V sum) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86_64
  if (kKind == Kind::kPair) return MulAddPairs(x, y, sum);
#endif
  static_assert(HWY_TARGET <= HWY_AVX3 || kKind == Kind::kSingle, "needs AVX512_BF16");
  return hn::MulAdd(x, y, sum);
}

// The four bytes at `a` in every lane.
template <class T>
HWY_INLINE V Broadcast(const T* a) {
  float bits;
  std::memcpy(&bits, a, sizeof(bits));
  return hn::Set(D(), bits);
}

// What a product does with c: nothing, adds to it, or adds to it multiplied by a factor.
enum class Onto { kNothing, kSum, kScaledSum };

// One register tile: c[r][lane] (+)= sum over k < depth of a(r, k) b[k][lane], where a(r, k) is the
// k-th four bytes of row a + r * a_stride, or a[k * a_stride + r] if kAcross. kScaledSum: c is
// multiplied by factor[lane] before. b, c and factor are aligned.
//
// The sum over k begins at zero and c joins at the end. With c at the beginning, which is as fast,
// a sum over T positions is one chain of T additions instead of T / depth of `depth`: at T = 4096
// dv was off by 3.2e-6 of its largest element, so by 0.5e-6.
template <Kind kKind, int kM, int kN, bool kAcross, Onto kOnto, class T>
HWY_INLINE void MicroTile(int64_t depth, const T* a, int64_t a_stride, const float* b,
                          int64_t b_stride, const float* factor, float* c, int64_t c_stride) {
  const D d;
  const int64_t lanes = Lanes();
  V sum[kM][kN];
#pragma GCC unroll 8
  for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kN; ++v) sum[r][v] = hn::Zero(d);
  }
  for (int64_t k = 0; k < depth; ++k) {
    V x[kN];
#pragma GCC unroll 3
    for (int v = 0; v < kN; ++v) x[v] = hn::Load(d, b + v * lanes);
#pragma GCC unroll 8
    for (int r = 0; r < kM; ++r) {
      const V y = Broadcast(kAcross ? a + r : a + r * a_stride);
#pragma GCC unroll 3
      for (int v = 0; v < kN; ++v) sum[r][v] = MulAddOf<kKind>(y, x[v], sum[r][v]);
    }
    a += kAcross ? a_stride : sizeof(float) / sizeof(T);
    b += b_stride;
  }
#pragma GCC unroll 8
  for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kN; ++v) {
      float* to = c + r * c_stride + v * lanes;
      V total = sum[r][v];
      if (kOnto == Onto::kSum) total = hn::Add(hn::Load(d, to), total);
      if (kOnto == Onto::kScaledSum) {
        total = hn::MulAdd(hn::Load(d, to), hn::Load(d, factor + v * lanes), total);
      }
      hn::Store(total, d, to);
    }
  }
}

template <Kind kKind, int kN, bool kAcross, Onto kOnto, class T>
void ProductColumns(int64_t rows, int64_t depth, const T* a, int64_t a_stride, const float* b,
                    int64_t b_stride, const float* factor, float* c, int64_t c_stride) {
  const int64_t step = kAcross ? 1 : a_stride;
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows) {
    MicroTile<kKind, kRows, kN, kAcross, kOnto>(depth, a + r * step, a_stride, b, b_stride, factor,
                                                c + r * c_stride, c_stride);
  }
  if (kRows > 4 && r + 4 <= rows) {
    MicroTile<kKind, 4, kN, kAcross, kOnto>(depth, a + r * step, a_stride, b, b_stride, factor,
                                            c + r * c_stride, c_stride);
    r += 4;
  }
  if (r + 2 <= rows) {
    MicroTile<kKind, 2, kN, kAcross, kOnto>(depth, a + r * step, a_stride, b, b_stride, factor,
                                            c + r * c_stride, c_stride);
    r += 2;
  }
  if (r < rows) {
    MicroTile<kKind, 1, kN, kAcross, kOnto>(depth, a + r * step, a_stride, b, b_stride, factor,
                                            c + r * c_stride, c_stride);
  }
}

// The same for any number of rows, and of vectors of columns.
template <Kind kKind, bool kAcross, Onto kOnto, class T>
void Product(int64_t rows, int64_t vectors, int64_t depth, const T* a, int64_t a_stride,
             const float* b, int64_t b_stride, const float* factor, float* c, int64_t c_stride) {
  const int64_t lanes = Lanes();
  while (vectors > 0) {
    const int64_t now = vectors >= 3 && vectors != 4 ? 3 : std::min<int64_t>(vectors, 2);
    switch (now) {
      case 3:
        ProductColumns<kKind, 3, kAcross, kOnto>(rows, depth, a, a_stride, b, b_stride, factor, c,
                                                 c_stride);
        break;
      case 2:
        ProductColumns<kKind, 2, kAcross, kOnto>(rows, depth, a, a_stride, b, b_stride, factor, c,
                                                 c_stride);
        break;
      default:
        ProductColumns<kKind, 1, kAcross, kOnto>(rows, depth, a, a_stride, b, b_stride, factor, c,
                                                 c_stride);
    }
    vectors -= now;
    b += now * lanes;
    c += now * lanes;
    if (kOnto == Onto::kScaledSum) factor += now * lanes;
  }
}

// rows of x [rows, columns] as columns of `out` [columns, width]; zeros where rows < width.
template <bool kBits = false>
void PackTransposed(int64_t rows, int64_t columns, float factor, const float* x, int64_t x_stride,
                    int64_t width, float* out) {
  if (rows < width) std::fill_n(out, columns * width, 0.0f);
  Transpose<kBits>(rows, columns, factor, x, x_stride, out, width);
}

// Some queries of one head: a lane for each.
struct Tile {
  int64_t b, h, begin, rows;  // rows <= kVectors * lanes
  int64_t vectors, width;     // vectors * lanes >= rows
};

// The tiles of one head: as few as can be, of nearly equal width (of T = 64 two of 32 with AVX-512
// rather than 48 and 16: one vector alone has half as many products for a load).
struct Tiling {
  int64_t vectors, tiles;
  explicit Tiling(int64_t query) {
    const int64_t all = (query + Lanes() - 1) / Lanes();
    tiles = (all + kVectors - 1) / kVectors;
    vectors = (all + tiles - 1) / tiles;
    tiles = (all + vectors - 1) / vectors;
  }
  Tile At(const Problem& p, int64_t b, int64_t h, int64_t tile) const {
    const int64_t most = vectors * Lanes(), begin = tile * most;
    const int64_t rows = std::min(most, p.query - begin);
    const int64_t used = (rows + Lanes() - 1) / Lanes();
    return {b, h, begin, rows, used, used * Lanes()};
  }
  // Of all tiles of all heads. The last tile of a head, which sees the most keys under a causal
  // mask, comes first.
  Tile Task(const Problem& p, int64_t task) const {
    const int64_t bh = task / tiles;
    return At(p, bh / p.n_heads, bh % p.n_heads, tiles - 1 - task % tiles);
  }
};

// Calls f(tiling, begin, end) for chunks of the tasks, on all threads. A chunk has about 50 us of
// work (`speed` times less per tile than f32), so that toy models do not pay for each.
template <class F>
HWY_INLINE void ForTiles(const Problem& p, int64_t speed, F f) {
  const Tiling tiling(p.query);
  const int64_t work = tiling.vectors * Lanes() * (p.key + 16) * (p.d_head + 8) / speed;
  ParallelFor(p.batch * p.n_heads * tiling.tiles, 2000000 / work,
              [&](int64_t begin, int64_t end) HWY_ATTR { f(tiling, begin, end); });
}

// The end of a tile's keys: z^T [d_head, width] is divided by the sums, which become 1 / sum.
inline void FinishTile(const Problem& p, const Tile& tile, float* largest, float* sum, float* z) {
  const D d;
  const V zero = hn::Zero(d);
  for (int64_t at = 0; at < tile.width; at += Lanes()) {
    const V total = hn::Load(d, sum + at), most = hn::Load(d, largest + at);
    // A row that sees no key: zeros. NaN stays.
    const V scale = hn::IfThenElse(hn::Eq(total, zero), zero, hn::Div(hn::Set(d, 1.0f), total));
    hn::Store(scale, d, sum + at);
    hn::Store(hn::IfThenElse(hn::Eq(most, hn::Set(d, kHidden)), zero, most), d, largest + at);
    for (int64_t i = at; i < p.d_head * tile.width; i += tile.width) {
      hn::Store(hn::Mul(hn::Load(d, z + i), scale), d, z + i);
    }
  }
}

// Keys [begin, end) as the vectors [first, last) of a tile's queries see them; other queries see
// none of them. masked: not every query sees every key, or the scores are more than q.k.
struct Segment {
  int64_t begin, end, first, last;
  bool masked;
  bool holes;  // key_mask hides some
  int64_t vectors() const { return last - first; }
};

// Calls f(segment) for the keys in [key_begin, key_end) that a tile sees, in order, kKeys at most
// at a time. Under a causal
// mask the keys from the tile's first position on are cut where a vector of queries ends, and the
// vectors before are left out: what is computed in vain is half a vector's width, not half a
// tile's.
template <class F>
HWY_INLINE void ForSegments(const Problem& p, const Tile& tile, int64_t key_begin, int64_t key_end,
                            F f) {
  const int64_t lanes = Lanes(), last_row = tile.begin + tile.rows - 1;
  const bool* mask = p.KeyMask(tile.b);
  const int64_t end = std::min(key_end, p.KeyEnd(last_row));
  auto first_row = [&](int64_t vector) { return tile.begin + vector * lanes; };
  auto end_of = [&](int64_t vector) {
    return p.KeyEnd(std::min(last_row, tile.begin + (vector + 1) * lanes - 1));
  };
  Segment s{};
  for (s.begin = std::max(key_begin, p.KeyBegin(tile.begin)); s.begin < end; s.begin = s.end) {
    while (end_of(s.first) <= s.begin) ++s.first;
    s.end = std::min(end, s.begin + kKeys);
    const int64_t all_see = p.KeyEnd(tile.begin) - 1;
    if (s.begin < all_see && all_see + 1 < end) {
      s.end = std::min(s.end, all_see);
    } else {
      s.end = std::min(s.end, end_of(s.first));
    }
    s.last = tile.vectors;
    while (p.KeyBegin(first_row(s.last - 1)) >= s.end) --s.last;
    if (s.last <= s.first) continue;
    s.holes = false;
    if (mask != nullptr) {
      const int64_t visible = std::count(mask + s.begin, mask + s.end, true);
      if (visible == 0) continue;
      s.holes = visible < s.end - s.begin;
    }
    s.masked = s.holes || p.bias != nullptr || p.slopes != nullptr ||
               s.end > p.KeyEnd(first_row(s.first)) ||
               s.begin < p.KeyBegin(std::min(last_row, first_row(s.last) - 1));
    f(static_cast<const Segment&>(s));
  }
}

// Adds the bias, in units of log 2, to the scores of a segment, and hides what is hidden. scores:
// [keys of the segment, width]; bias: the segment's, transposed likewise, or nullptr.
inline void MaskScores(const Problem& p, const Tile& tile, const Segment& s, const float* bias,
                       float* scores) {
  const D d;
  const int64_t lanes = Lanes();
  const bool* mask = p.KeyMask(tile.b);
  const V hidden = hn::Set(d, kHidden), log2e = hn::Set(d, kLog2E);
  const V slope = hn::Set(d, p.slopes == nullptr ? 0.0f : -kLog2E * p.slopes[tile.h]);
  const V window = hn::Set(d, static_cast<float>(p.window));
  for (int64_t v = s.first; v < s.last; ++v) {
    // Position of each query, counted from the segment's first key: exact in f32.
    const float start = static_cast<float>(tile.begin + v * lanes + p.offset() - s.begin);
    const V position = hn::Iota(d, start);
    for (int64_t j = 0; j < s.end - s.begin; ++j) {
      float* at = scores + j * tile.width + v * lanes;
      if (mask != nullptr && !mask[s.begin + j]) {
        hn::Store(hidden, d, at);
        continue;
      }
      const V distance = hn::Sub(position, hn::Set(d, static_cast<float>(j)));
      V x = hn::Load(d, at);
      if (p.slopes != nullptr) x = hn::MulAdd(slope, hn::Abs(distance), x);
      if (bias != nullptr) {
        x = hn::MulAdd(log2e, hn::Load(d, bias + j * tile.width + v * lanes), x);
      }
      if (p.causal) x = hn::IfThenElse(hn::Lt(distance, hn::Zero(d)), hidden, x);
      if (p.window > 0) x = hn::IfThenElse(hn::Lt(hn::Abs(distance), window), x, hidden);
      hn::Store(x, d, at);
    }
  }
}

// Rows [begin, end) of k or v of head g; where the key mask hides some, a copy in `scratch` with
// zeros for them: a key nobody sees may hold anything, and 0 * NaN is NaN.
struct KeyRows {
  const float* data;
  int64_t stride;
};
inline KeyRows RowsOf(const Problem& p, const float* x, const Tile& tile, const Segment& s,
                      float* scratch) {
  const int64_t stride = p.n_kv_heads * p.d_head;
  const float* rows = x + p.KeyRow(tile.b, s.begin, tile.h / p.group());
  if (!s.holes) return {rows, stride};
  const bool* mask = p.KeyMask(tile.b);
  for (int64_t j = 0; j < s.end - s.begin; ++j) {
    float* to = scratch + j * p.d_head;
    if (mask[s.begin + j]) {
      std::copy_n(rows + j * stride, p.d_head, to);
    } else {
      std::fill_n(to, p.d_head, 0.0f);
    }
  }
  return {scratch, p.d_head};
}

// The bias of a segment, transposed to [keys, width], in scratch.
inline const float* BiasOf(const Problem& p, const Tile& tile, const Segment& s, float* scratch) {
  if (p.bias == nullptr) return nullptr;
  const float* bias = static_cast<const float*>(p.bias);
  PackTransposed(tile.rows, s.end - s.begin, 1,
                 bias + p.BiasRow(tile.b, tile.begin, tile.h) + s.begin, p.key, tile.width,
                 scratch);
  return scratch;
}

// Memory of one thread, cut into aligned pieces.
class Scratch {
 public:
  explicit Scratch(int64_t floats) : storage_(AllocateHost(floats * sizeof(float))) {
    next_ = static_cast<float*>(storage_->data());
  }
  // Space Take(floats) needs.
  static int64_t Aligned(int64_t floats) { return (floats + 15) / 16 * 16; }
  float* Take(int64_t floats) {
    float* taken = next_;
    next_ += Aligned(floats);
    return taken;
  }

 private:
  StorageRef storage_;
  float* next_;
};

#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86_64

using DU = hn::RebindToUnsigned<D>;
using VU = hn::Vec<DU>;

// Pairs of bf16(low), bf16(high); ties go away from zero. NaN stays.
HWY_INLINE V PackPair(V low, V high) {
  const D d;
  const DU du;
  const VU half = hn::Set(du, 0x8000), upper = hn::Set(du, 0xffff0000);
  const VU a = hn::ShiftRight<16>(hn::Add(hn::BitCast(du, low), half));
  const VU b = hn::And(hn::Add(hn::BitCast(du, high), half), upper);
  return hn::BitCast(d, hn::Or(a, b));
}

// n pairs of an element of one row and one of another; nullptr: a row of zeros.
inline void PackPairRows(const uint16_t* low_row, const uint16_t* high_row, int64_t n, float* out) {
  const D d;
  const DU du;
  const hn::Rebind<uint16_t, D> d16;
  int64_t i = 0;
  for (; i + Lanes() <= n; i += Lanes()) {
    const VU low = low_row ? hn::PromoteTo(du, hn::LoadU(d16, low_row + i)) : hn::Zero(du);
    const VU high = high_row ? hn::PromoteTo(du, hn::LoadU(d16, high_row + i)) : hn::Zero(du);
    hn::StoreU(hn::BitCast(d, hn::Or(low, hn::ShiftLeft<16>(high))), d, out + i);
  }
  for (; i < n; ++i) {
    const uint32_t bits =
        (low_row ? low_row[i] : 0u) | static_cast<uint32_t>(high_row ? high_row[i] : 0u) << 16;
    std::memcpy(out + i, &bits, sizeof(bits));
  }
}

// x (k or v) as [batch, n_kv_heads, (key + 1) / 2, d_head] pairs of neighbouring keys; zeros for
// keys there are not or nobody sees.
inline StorageRef PackKeyPairs(const Problem& p, const BFloat16* x) {
  const int64_t pairs = (p.key + 1) / 2, heads = p.batch * p.n_kv_heads;
  StorageRef packed = AllocateHost(heads * pairs * p.d_head * sizeof(float));
  float* const out = static_cast<float*>(packed->data());
  ParallelFor(heads * pairs, 16384 / p.d_head, [&](int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / pairs / p.n_kv_heads, g = i / pairs % p.n_kv_heads;
      const bool* mask = p.KeyMask(b);
      const uint16_t* rows[2];
      for (int64_t side = 0; side < 2; ++side) {
        const int64_t j = i % pairs * 2 + side;
        const bool seen = j < p.key && (mask == nullptr || mask[j]);
        rows[side] = seen ? reinterpret_cast<const uint16_t*>(x + p.KeyRow(b, j, g)) : nullptr;
      }
      PackPairRows(rows[0], rows[1], p.d_head, out + i * p.d_head);
    }
  });
  return packed;
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace flash_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#endif  // RESIDUAL_OPS_FLASH_FLASH_INL_H_
