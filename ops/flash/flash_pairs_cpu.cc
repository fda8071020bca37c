// The forward pass on bf16, by an instruction that multiplies and adds two bf16 at once in each
// lane (vdpbf16ps): products of q and k are exact and added in f32; the weights are rounded to bf16
// before they meet v, their sum is not. Denormals count as zero.
//
// The tiles are those of the f32 kernel (flash-inl.h) with pairs in the lanes: of features for
// S^T, where a pair of k lies in memory as it is needed, and of keys for z^T, for which v is packed
// once, [key / 2, d_head] pairs.
//
// One thread of a Zen 4, causal, 12 heads of 64: 157 GFLOP/s at 1024 positions and 171 at 4096,
// against 49 and 64 of PyTorch 2.13.

#include <algorithm>
#include <cstdint>

#include "ops/flash/flash.h"
#include "tensor/base/parallel.h"
#include "tensor/core/storage.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/flash/flash_pairs_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "ops/flash/flash-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace flash_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86_64

struct PairScratch {
  Scratch memory;
  // q: [d_head / 2, width] pairs. weights: [kKeys / 2 + 1, width] pairs. rows: [width, d_head], z.
  float *q, *z, *scores, *weights, *rows, *largest, *sum, *factor, *bias;

  PairScratch(const Problem& p, int64_t width)
      : memory(Scratch::Aligned(p.d_head / 2 * width) + 2 * Scratch::Aligned(p.d_head * width) +
               Scratch::Aligned(kKeys * width) + Scratch::Aligned((kKeys / 2 + 1) * width) +
               3 * Scratch::Aligned(width) + Scratch::Aligned(p.bias ? kKeys * width : 0)),
        q(memory.Take(p.d_head / 2 * width)),
        z(memory.Take(p.d_head * width)),
        scores(memory.Take(kKeys * width)),
        weights(memory.Take((kKeys / 2 + 1) * width)),
        rows(memory.Take(p.d_head * width)),
        largest(memory.Take(width)),
        sum(memory.Take(width)),
        factor(memory.Take(width)),
        bias(memory.Take(p.bias ? kKeys * width : 0)) {}
};

// scores, times `scale` in units of log 2 -> weights: pairs of 2^(score - maximum), for the keys
// from s.begin rounded down to even.
void PairExponentials(const Tile& tile, const Segment& s, float scale, PairScratch& m) {
  const D d;
  const int64_t lanes = Lanes(), width = tile.width, n = s.end - s.begin, odd = s.begin % 2;
  const V scales = hn::Set(d, scale);
  for (int64_t v = s.first; v < s.last; ++v) {
    const float* scores = m.scores + v * lanes;
    const V hidden = hn::Set(d, kHidden);
    V a = hidden, b = hidden, c = hidden, e = hidden;
    int64_t j = 0;
    for (; j + 4 <= n; j += 4) {
      a = hn::Max(a, hn::Load(d, scores + j * width));
      b = hn::Max(b, hn::Load(d, scores + (j + 1) * width));
      c = hn::Max(c, hn::Load(d, scores + (j + 2) * width));
      e = hn::Max(e, hn::Load(d, scores + (j + 3) * width));
    }
    for (; j < n; ++j) a = hn::Max(a, hn::Load(d, scores + j * width));
    const V before = hn::Load(d, m.largest + v * lanes);
    const V largest = hn::Max(before, hn::Mul(scales, hn::Max(hn::Max(a, b), hn::Max(c, e))));
    const V shift = hn::IfThenElse(hn::Eq(largest, hidden), hn::Zero(d), largest);
    const V factor = Exp2(hn::Sub(before, shift));
    V sum = hn::Zero(d);
    auto weight = [&](int64_t key) HWY_ATTR {
      const V x = Exp2(hn::MulSub(hn::Load(d, scores + key * width), scales, shift));
      sum = hn::Add(sum, x);
      return x;
    };
    float* out = m.weights + v * lanes;
    j = 0;
    if (odd) {
      hn::Store(PackPair(hn::Zero(d), weight(j++)), d, out);
      out += width;
    }
    for (; j + 2 <= n; j += 2, out += width) {
      const V low = weight(j), high = weight(j + 1);
      hn::Store(PackPair(low, high), d, out);
    }
    if (j < n) hn::Store(PackPair(weight(j), hn::Zero(d)), d, out);
    hn::Store(largest, d, m.largest + v * lanes);
    hn::Store(factor, d, m.factor + v * lanes);
    hn::Store(hn::MulAdd(hn::Load(d, m.sum + v * lanes), factor, sum), d, m.sum + v * lanes);
  }
}

// x[0..n) rounded.
void StoreBF16(int64_t n, const float* x, BFloat16* out) {
  const D d;
  int64_t i = 0;
  for (; i + Lanes() <= n; i += Lanes()) StoreRounded(hn::LoadU(d, x + i), d, out + i);
  for (; i < n; ++i) RoundElement(x[i], out + i);
}

void PairTile(const ForwardArgs<BFloat16>& args, const float* values, const Tile& tile,
              PairScratch& m) {
  const D d;
  const Problem& p = args.p;
  const int64_t lanes = Lanes(), width = tile.width, row_stride = p.n_heads * p.d_head;
  const int64_t row = p.QueryRow(tile.b, tile.begin, tile.h), g = tile.h / p.group();
  const float scale = static_cast<float>(p.scale) * kLog2E;
  PackTransposed<true>(tile.rows, p.d_head / 2, 1, reinterpret_cast<const float*>(args.q + row),
                       row_stride / 2, width, m.q);
  std::fill_n(m.largest, width, kHidden);
  std::fill_n(m.sum, width, 0.0f);
  std::fill_n(m.z, p.d_head * width, 0.0f);
  ForSegments(p, tile, 0, p.key, [&](const Segment& s) HWY_ATTR {
    const int64_t at = s.first * lanes, n = s.end - s.begin;
    Product<Kind::kPair, false, Onto::kNothing>(
        n, s.vectors(), p.d_head / 2, args.k + p.KeyRow(tile.b, s.begin, g),
        p.n_kv_heads * p.d_head, m.q + at, width, nullptr, m.scores + at, width);
    if (s.masked) {
      for (int64_t i = at; i < n * width; i += lanes) {
        hn::Store(hn::Mul(hn::Set(d, scale), hn::Load(d, m.scores + i)), d, m.scores + i);
      }
      MaskScores(p, tile, s, BiasOf(p, tile, s, m.bias), m.scores);
    }
    PairExponentials(tile, s, s.masked ? 1 : scale, m);
    const int64_t pair = s.begin / 2, pairs = (s.end + 1) / 2 - pair;
    Product<Kind::kPair, true, Onto::kScaledSum>(p.d_head, s.vectors(), pairs,
                                                 values + pair * p.d_head, p.d_head, m.weights + at,
                                                 width, m.factor + at, m.z + at, width);
  });
  FinishTile(p, tile, m.largest, m.sum, m.z);
  Transpose(p.d_head, tile.rows, 1, m.z, width, m.rows, p.d_head);
  for (int64_t i = 0; i < tile.rows; ++i) {
    StoreBF16(p.d_head, m.rows + i * p.d_head, args.z + row + i * row_stride);
  }
  if (args.row_max != nullptr) {
    const int64_t at = (tile.b * p.n_heads + tile.h) * p.query + tile.begin;
    std::copy_n(m.largest, tile.rows, args.row_max + at);
    std::copy_n(m.sum, tile.rows, args.row_scale + at);
  }
}

bool ForwardPairs(const ForwardArgs<BFloat16>& args) {
  const Problem& p = args.p;
  if (!__builtin_cpu_supports("avx512bf16") || p.d_head % 2 != 0 || !(p.scale > 0)) return false;
  const int64_t pairs = (p.key + 1) / 2;
  const StorageRef packed = PackKeyPairs(p, args.v);
  const float* const values = static_cast<const float*>(packed->data());
  ForTiles(p, 2, [&](const Tiling& tiling, int64_t begin, int64_t end) HWY_ATTR {
    PairScratch scratch(p, tiling.vectors * Lanes());
    for (int64_t task = begin; task < end; ++task) {
      const Tile tile = tiling.Task(p, task);
      const int64_t g = tile.h / p.group();
      PairTile(args, values + (tile.b * p.n_kv_heads + g) * pairs * p.d_head, tile, scratch);
    }
  });
  return true;
}

#else

bool ForwardPairs(const ForwardArgs<BFloat16>&) { return false; }

#endif

}  // namespace HWY_NAMESPACE
}  // namespace flash_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace flash_internal {

HWY_EXPORT(ForwardPairs);

bool ForwardPairsCpu(const ForwardArgs<BFloat16>& args) {
  return HWY_DYNAMIC_DISPATCH(ForwardPairs)(args);
}

}  // namespace flash_internal
}  // namespace residual
#endif  // HWY_ONCE
