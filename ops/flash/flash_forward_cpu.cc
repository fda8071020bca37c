// The forward pass: one tile of queries streams over its keys with a running maximum and sum (Dao
// et al. 2022, algorithm 1). Tasks are tiles of queries, so nothing is shared between threads.
//
// One thread of a Zen 4 (FMA limit 114 GFLOP/s), causal, 12 heads of 64, counting the products of
// keys that are seen: 93 GFLOP/s at 1024 positions and 94 at 4096, against 53 and 69 of PyTorch
// 2.13. Forward and backward 92 and 98, against 51 and 70.

#include <algorithm>
#include <cstdint>

#include "ops/flash/flash.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/flash/flash_forward_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "ops/flash/flash-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace flash_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

struct ForwardScratch {
  Scratch memory;
  float *q, *z, *scores, *largest, *sum, *factor, *bias, *k, *v;

  ForwardScratch(const Problem& p, int64_t width)
      : memory(Size(p, width)),
        q(memory.Take(p.d_head * width)),
        z(memory.Take(p.d_head * width)),
        scores(memory.Take(kKeys * width)),
        largest(memory.Take(width)),
        sum(memory.Take(width)),
        factor(memory.Take(width)),
        bias(memory.Take(p.bias ? kKeys * width : 0)),
        k(memory.Take(p.key_mask ? kKeys * p.d_head : 0)),
        v(memory.Take(p.key_mask ? kKeys * p.d_head : 0)) {}
  static int64_t Size(const Problem& p, int64_t width) {
    return 2 * Scratch::Aligned(p.d_head * width) + Scratch::Aligned(kKeys * width) +
           3 * Scratch::Aligned(width) + Scratch::Aligned(p.bias ? kKeys * width : 0) +
           2 * Scratch::Aligned(p.key_mask ? kKeys * p.d_head : 0);
  }
};

// scores -> 2^(scores - maximum), with the maximum and the sum brought up to date, and the factor
// by which what was summed before is to be multiplied.
void Exponentials(const Tile& tile, const Segment& s, ForwardScratch& m) {
  const D d;
  const int64_t lanes = Lanes(), width = tile.width, n = s.end - s.begin;
  for (int64_t v = s.first; v < s.last; ++v) {
    float* scores = m.scores + v * lanes;
    const V before = hn::Load(d, m.largest + v * lanes);
    V a = before, b = before, c = before, e = before;
    int64_t j = 0;
    for (; j + 4 <= n; j += 4) {
      a = hn::Max(a, hn::Load(d, scores + j * width));
      b = hn::Max(b, hn::Load(d, scores + (j + 1) * width));
      c = hn::Max(c, hn::Load(d, scores + (j + 2) * width));
      e = hn::Max(e, hn::Load(d, scores + (j + 3) * width));
    }
    for (; j < n; ++j) a = hn::Max(a, hn::Load(d, scores + j * width));
    const V largest = hn::Max(hn::Max(a, b), hn::Max(c, e));
    // Where nothing has been seen yet -infinity - -infinity would be NaN.
    const V shift = hn::IfThenElse(hn::Eq(largest, hn::Set(d, kHidden)), hn::Zero(d), largest);
    const V factor = Exp2(hn::Sub(before, shift));
    V sum = hn::Zero(d);
    for (j = 0; j < n; ++j) {
      const V x = Exp2(hn::Sub(hn::Load(d, scores + j * width), shift));
      hn::Store(x, d, scores + j * width);
      sum = hn::Add(sum, x);
    }
    hn::Store(largest, d, m.largest + v * lanes);
    hn::Store(factor, d, m.factor + v * lanes);
    hn::Store(hn::MulAdd(hn::Load(d, m.sum + v * lanes), factor, sum), d, m.sum + v * lanes);
  }
}

void ForwardTile(const ForwardArgs<float>& args, const Tile& tile, ForwardScratch& m) {
  const Problem& p = args.p;
  const int64_t lanes = Lanes(), width = tile.width, row_stride = p.n_heads * p.d_head;
  PackTransposed(tile.rows, p.d_head, static_cast<float>(p.scale) * kLog2E,
                 args.q + p.QueryRow(tile.b, tile.begin, tile.h), row_stride, width, m.q);
  std::fill_n(m.largest, width, kHidden);
  std::fill_n(m.sum, width, 0.0f);
  std::fill_n(m.z, p.d_head * width, 0.0f);
  ForSegments(p, tile, 0, p.key, [&](const Segment& s) HWY_ATTR {
    const int64_t at = s.first * lanes;
    const KeyRows k = RowsOf(p, args.k, tile, s, m.k), v = RowsOf(p, args.v, tile, s, m.v);
    Product<Kind::kSingle, false, Onto::kNothing>(s.end - s.begin, s.vectors(), p.d_head, k.data,
                                                  k.stride, m.q + at, width, nullptr, m.scores + at,
                                                  width);
    if (s.masked) MaskScores(p, tile, s, BiasOf(p, tile, s, m.bias), m.scores);
    Exponentials(tile, s, m);
    Product<Kind::kSingle, true, Onto::kScaledSum>(p.d_head, s.vectors(), s.end - s.begin, v.data,
                                                   v.stride, m.scores + at, width, m.factor + at,
                                                   m.z + at, width);
  });
  FinishTile(p, tile, m.largest, m.sum, m.z);
  Transpose(p.d_head, tile.rows, 1, m.z, width, args.z + p.QueryRow(tile.b, tile.begin, tile.h),
            row_stride);
  if (args.row_max != nullptr) {
    const int64_t row = (tile.b * p.n_heads + tile.h) * p.query + tile.begin;
    std::copy_n(m.largest, tile.rows, args.row_max + row);
    std::copy_n(m.sum, tile.rows, args.row_scale + row);
  }
}

void Forward(const ForwardArgs<float>& args) {
  ForTiles(args.p, 1, [&](const Tiling& tiling, int64_t begin, int64_t end) HWY_ATTR {
    ForwardScratch scratch(args.p, tiling.vectors * Lanes());
    for (int64_t task = begin; task < end; ++task) {
      ForwardTile(args, tiling.Task(args.p, task), scratch);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace flash_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace flash_internal {

HWY_EXPORT(Forward);

void ForwardCpu(const ForwardArgs<float>& args) { HWY_DYNAMIC_DISPATCH(Forward)(args); }

}  // namespace flash_internal
}  // namespace residual
#endif  // HWY_ONCE
