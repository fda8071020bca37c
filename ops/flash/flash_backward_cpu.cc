// The backward pass: the tiles of P are computed again from the scores' maxima and sums (Dao et al.
// 2022, algorithm 4).
//
//   P  = 2^(S - row_max) row_scale       dP = dz v^T       delta = rowsum(dz * z)
//   dS = P * (dP - delta)                dv = P^T dz       dk = scale dS^T q    dq = scale dS k
//
// A task is a span of keys of one key/value head with the queries of all heads that share it, so dk
// and dv have one owner; of dq each span gives a part, and the parts are added in order. Spans
// depend on the shapes only. The bias' gradient has a pass of its own: its owner is a tile of
// queries of the heads that share it.

#include <algorithm>
#include <cstdint>

#include "ops/flash/flash.h"
#include "tensor/base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/flash/flash_backward_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "ops/flash/flash-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace flash_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kTasks = 32;  // are enough; when heads alone are fewer, keys are split
constexpr int64_t kSpan = 256;  // but not into less than this

// What a thread needs for one tile of queries and kKeys keys. `depth`: d_head rounded up to whole
// vectors.
struct BackwardScratch {
  int64_t depth;
  Scratch memory;
  // [d_head, width]: q (in units of log 2), dz and dq, transposed.
  float *q, *dz, *dq;
  // [width, depth]: q (times the scale) and dz as rows.
  float *q_rows, *dz_rows;
  float *scores, *dscores;             // [kKeys, width]: S, then P; dP, then dS
  float *row_max, *row_scale, *delta;  // [width]
  float *bias, *k, *v;

  BackwardScratch(const Problem& p, int64_t width)
      : depth((p.d_head + Lanes() - 1) / Lanes() * Lanes()),
        memory(3 * Scratch::Aligned(p.d_head * width) + 2 * Scratch::Aligned(depth * width) +
               2 * Scratch::Aligned(kKeys * width) + 3 * Scratch::Aligned(width) +
               Scratch::Aligned(p.bias ? kKeys * width : 0) +
               2 * Scratch::Aligned(p.key_mask ? kKeys * p.d_head : 0)),
        q(memory.Take(p.d_head * width)),
        dz(memory.Take(p.d_head * width)),
        dq(memory.Take(p.d_head * width)),
        q_rows(memory.Take(depth * width)),
        dz_rows(memory.Take(depth * width)),
        scores(memory.Take(kKeys * width)),
        dscores(memory.Take(kKeys * width)),
        row_max(memory.Take(width)),
        row_scale(memory.Take(width)),
        delta(memory.Take(width)),
        bias(memory.Take(p.bias ? kKeys * width : 0)),
        k(memory.Take(p.key_mask ? kKeys * p.d_head : 0)),
        v(memory.Take(p.key_mask ? kKeys * p.d_head : 0)) {}
};

// rows of x [rows, columns] times factor, each padded with zeros to `depth`.
void PackRows(int64_t rows, int64_t columns, float factor, const float* x, int64_t x_stride,
              int64_t depth, float* out) {
  const D d;
  const int64_t lanes = Lanes(), whole = columns / lanes * lanes;
  const V factors = hn::Set(d, factor);
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = x + r * x_stride;
    float* to = out + r * depth;
    for (int64_t i = 0; i < whole; i += lanes) {
      hn::Store(hn::Mul(factors, hn::LoadU(d, from + i)), d, to + i);
    }
    for (int64_t i = whole; i < depth; ++i) to[i] = i < columns ? factor * from[i] : 0;
  }
}

void PackTile(const BackwardArgs& args, const Tile& tile, bool rows, BackwardScratch& m) {
  const D d;
  const Problem& p = args.p;
  const int64_t lanes = Lanes(), width = tile.width, stride = p.n_heads * p.d_head;
  const int64_t at = p.QueryRow(tile.b, tile.begin, tile.h);
  const float scale = static_cast<float>(p.scale);
  PackTransposed(tile.rows, p.d_head, scale * kLog2E, args.q + at, stride, width, m.q);
  PackTransposed(tile.rows, p.d_head, 1, args.dz + at, stride, width, m.dz);
  if (rows) {
    PackRows(tile.rows, p.d_head, scale, args.q + at, stride, m.depth, m.q_rows);
    PackRows(tile.rows, p.d_head, 1, args.dz + at, stride, m.depth, m.dz_rows);
  }
  // delta; dq's place holds z^T for the moment.
  PackTransposed(tile.rows, p.d_head, 1, args.z + at, stride, width, m.dq);
  for (int64_t v = 0; v < width; v += lanes) {
    V sum = hn::Zero(d);
    for (int64_t i = 0; i < p.d_head; ++i) {
      sum = hn::MulAdd(hn::Load(d, m.dz + i * width + v), hn::Load(d, m.dq + i * width + v), sum);
    }
    hn::Store(sum, d, m.delta + v);
  }
  std::fill_n(m.dq, p.d_head * width, 0.0f);
  const int64_t row = (tile.b * p.n_heads + tile.h) * p.query + tile.begin;
  std::copy_n(args.row_max + row, tile.rows, m.row_max);
  std::copy_n(args.row_scale + row, tile.rows, m.row_scale);
  // Lanes without a query: P = 2^(0 - 0) * 0.
  std::fill_n(m.row_max + tile.rows, width - tile.rows, 0.0f);
  std::fill_n(m.row_scale + tile.rows, width - tile.rows, 0.0f);
}

// m.scores = P and m.dscores = dS of a segment.
void ScoreGradients(const Problem& p, const Tile& tile, const Segment& s, const KeyRows& k,
                    const KeyRows& v, BackwardScratch& m) {
  const D d;
  const int64_t lanes = Lanes(), width = tile.width, n = s.end - s.begin, at = s.first * lanes;
  Product<Kind::kSingle, false, Start::kZero>(n, s.vectors(), p.d_head, k.data, k.stride, m.q + at,
                                              width, nullptr, m.scores + at, width);
  if (s.masked) MaskScores(p, tile, s, BiasOf(p, tile, s, m.bias), m.scores);
  Product<Kind::kSingle, false, Start::kZero>(n, s.vectors(), p.d_head, v.data, v.stride, m.dz + at,
                                              width, nullptr, m.dscores + at, width);
  for (int64_t u = at; u < s.last * lanes; u += lanes) {
    const V most = hn::Load(d, m.row_max + u), scale = hn::Load(d, m.row_scale + u);
    const V delta = hn::Load(d, m.delta + u);
    for (int64_t j = u; j < u + n * width; j += width) {
      const V weight = hn::Mul(Exp2(hn::Sub(hn::Load(d, m.scores + j), most)), scale);
      hn::Store(weight, d, m.scores + j);
      hn::Store(hn::Mul(weight, hn::Sub(hn::Load(d, m.dscores + j), delta)), d, m.dscores + j);
    }
  }
}

// A tile's part in dq (written to `dq`, laid out as q), dk and dv ([keys of the span, depth],
// added to), for keys [begin, end).
void BackwardTile(const BackwardArgs& args, const Tile& tile, int64_t begin, int64_t end, float* dq,
                  float* dk, float* dv, BackwardScratch& m) {
  const Problem& p = args.p;
  const int64_t lanes = Lanes(), width = tile.width;
  const int64_t stride = p.n_heads * p.d_head, row = p.QueryRow(tile.b, tile.begin, tile.h);
  if (p.KeyBegin(tile.begin) >= end || p.KeyEnd(tile.begin + tile.rows - 1) <= begin) {
    for (int64_t i = 0; dq != nullptr && i < tile.rows; ++i) {
      std::fill_n(dq + row + i * stride, p.d_head, 0.0f);
    }
    return;
  }
  PackTile(args, tile, true, m);
  ForSegments(p, tile, begin, end, [&](const Segment& s) HWY_ATTR {
    const int64_t n = s.end - s.begin, at = s.first * lanes;
    const KeyRows k = RowsOf(p, args.k, tile, s, m.k), v = RowsOf(p, args.v, tile, s, m.v);
    ScoreGradients(p, tile, s, k, v, m);
    if (dq != nullptr) {
      Product<Kind::kSingle, true, Start::kAdd>(p.d_head, s.vectors(), n, k.data, k.stride,
                                                m.dscores + at, width, nullptr, m.dq + at, width);
    }
    const int64_t queries = std::min(tile.rows, s.last * lanes) - at;
    const int64_t to = (s.begin - begin) * m.depth;
    if (dk != nullptr) {
      Product<Kind::kSingle, false, Start::kAdd>(n, m.depth / lanes, queries, m.dscores + at, width,
                                                 m.q_rows + at * m.depth, m.depth, nullptr, dk + to,
                                                 m.depth);
    }
    if (dv != nullptr) {
      Product<Kind::kSingle, false, Start::kAdd>(n, m.depth / lanes, queries, m.scores + at, width,
                                                 m.dz_rows + at * m.depth, m.depth, nullptr,
                                                 dv + to, m.depth);
    }
  });
  if (dq != nullptr) {
    Transpose(p.d_head, tile.rows, static_cast<float>(p.scale), m.dq, width, dq + row, stride);
  }
}

void Backward(const BackwardArgs& args) {
  const Problem& p = args.p;
  const Tiling tiling(p.query);
  const int64_t width = tiling.vectors * Lanes();
  const int64_t heads = p.batch * p.n_kv_heads, size_q = p.batch * p.query * p.n_heads * p.d_head;
  const int64_t spans = std::clamp<int64_t>(kTasks / heads, 1, (p.key + kSpan - 1) / kSpan);
  const int64_t span = (p.key + spans - 1) / spans;
  const StorageRef more = AllocateHost(args.dq ? (spans - 1) * size_q * sizeof(float) : 0);
  auto dq_of = [&](int64_t s) {
    if (args.dq == nullptr || s == 0) return args.dq;
    return static_cast<float*>(more->data()) + (s - 1) * size_q;
  };
  const int64_t work = p.group() * p.query * span * (p.d_head + 8);
  const int64_t grain = std::max<int64_t>(1, 1000000 / work);
  ParallelFor(heads * spans, grain, [&](int64_t task_begin, int64_t task_end) HWY_ATTR {
    BackwardScratch m(p, width);
    const int64_t size = Scratch::Aligned(span * m.depth);
    Scratch sums((args.dk ? size : 0) + (args.dv ? size : 0));
    float* const dk = args.dk ? sums.Take(size) : nullptr;
    float* const dv = args.dv ? sums.Take(size) : nullptr;
    for (int64_t task = task_begin; task < task_end; ++task) {
      const int64_t s = task % spans, b = task / spans / p.n_kv_heads;
      const int64_t g = task / spans % p.n_kv_heads;
      const int64_t begin = s * span, end = std::min(p.key, begin + span);
      if (dk != nullptr) std::fill_n(dk, size, 0.0f);
      if (dv != nullptr) std::fill_n(dv, size, 0.0f);
      for (int64_t h = g * p.group(); h < (g + 1) * p.group(); ++h) {
        for (int64_t tile = 0; tile < tiling.tiles; ++tile) {
          BackwardTile(args, tiling.At(p, b, h, tile), begin, end, dq_of(s), dk, dv, m);
        }
      }
      for (int64_t j = begin; j < end; ++j) {
        const int64_t from = (j - begin) * m.depth, to = p.KeyRow(b, j, g);
        if (dk != nullptr) std::copy_n(dk + from, p.d_head, args.dk + to);
        if (dv != nullptr) std::copy_n(dv + from, p.d_head, args.dv + to);
      }
    }
  });
  if (args.dq == nullptr || spans == 1) return;
  ParallelFor(size_q, 1 << 14, [&](int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t s = 1; s < spans; ++s) {
      const float* part = dq_of(s);
      for (int64_t i = begin; i < end; ++i) args.dq[i] += part[i];
    }
  });
}

void BiasGradient(const BackwardArgs& args) {
  const Problem& p = args.p;
  const Tiling tiling(p.query);
  const int64_t width = tiling.vectors * Lanes(), shared = p.bias_batch * p.bias_heads;
  ParallelFor(shared * tiling.tiles, 1, [&](int64_t task_begin, int64_t task_end) HWY_ATTR {
    BackwardScratch m(p, width);
    Scratch transposed(kKeys * width);
    float* const ds = transposed.Take(kKeys * width);
    for (int64_t task = task_begin; task < task_end; ++task) {
      const int64_t bias_b = task / tiling.tiles / p.bias_heads;
      const int64_t bias_h = task / tiling.tiles % p.bias_heads;
      float* dbias = args.dbias + (bias_b * p.bias_heads + bias_h) * p.query * p.key;
      const Tile first = tiling.At(p, 0, 0, task % tiling.tiles);
      std::fill_n(dbias + first.begin * p.key, first.rows * p.key, 0.0f);
      for (int64_t b = bias_b; b < p.batch; b += p.bias_batch) {
        for (int64_t h = bias_h; h < p.n_heads; h += p.bias_heads) {
          const Tile tile = tiling.At(p, b, h, task % tiling.tiles);
          PackTile(args, tile, false, m);
          ForSegments(p, tile, 0, p.key, [&](const Segment& s) HWY_ATTR {
            const int64_t n = s.end - s.begin, at = s.first * Lanes();
            ScoreGradients(p, tile, s, RowsOf(p, args.k, tile, s, m.k),
                           RowsOf(p, args.v, tile, s, m.v), m);
            const int64_t rows = std::min(tile.rows, s.last * Lanes()) - at;
            Transpose(n, rows, 1, m.dscores + at, tile.width, ds, n);
            for (int64_t i = 0; i < rows; ++i) {
              float* to = dbias + (tile.begin + at + i) * p.key + s.begin;
              for (int64_t j = 0; j < n; ++j) to[j] += ds[i * n + j];
            }
          });
        }
      }
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

HWY_EXPORT(Backward);
HWY_EXPORT(BiasGradient);

void BackwardCpu(const BackwardArgs& args) { HWY_DYNAMIC_DISPATCH(Backward)(args); }
void BiasGradientCpu(const BackwardArgs& args) { HWY_DYNAMIC_DISPATCH(BiasGradient)(args); }

}  // namespace flash_internal
}  // namespace residual
#endif  // HWY_ONCE
