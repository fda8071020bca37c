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
//
// On bf16 the same by dot products of pairs of bf16 (see flash_pairs_cpu.cc): of features for S and
// dP, of queries for dk and dv, of keys for dq. P and dS are rounded to bf16 before they meet dz, q
// and k; delta, sums and scales are f32. Forward and backward at 1024 positions, 12 heads of 64,
// causal: 39 ms of one thread of a Zen 4, against 59 with this pass in f32.

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

// The maxima and scales of a tile's rows. Lanes without a query: P = 2^(0 - 0) * 0.
void LoadRows(const Problem& p, const Tile& tile, const float* row_max, const float* row_scale,
              float* to_max, float* to_scale) {
  const int64_t row = (tile.b * p.n_heads + tile.h) * p.query + tile.begin;
  std::copy_n(row_max + row, tile.rows, to_max);
  std::copy_n(row_scale + row, tile.rows, to_scale);
  std::fill_n(to_max + tile.rows, tile.width - tile.rows, 0.0f);
  std::fill_n(to_scale + tile.rows, tile.width - tile.rows, 0.0f);
}

void PackTile(const BackwardArgs<float>& args, const Tile& tile, bool rows, BackwardScratch& m) {
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
    const V sum = Fold(
        p.d_head, 1, hn::Zero(d),
        [&](int64_t i) HWY_ATTR {
          return hn::Mul(hn::Load(d, m.dz + i * width + v), hn::Load(d, m.dq + i * width + v));
        },
        [&](int64_t, int64_t) HWY_ATTR { return hn::Zero(d); },
        [](V a, V b) HWY_ATTR { return hn::Add(a, b); });
    hn::Store(sum, d, m.delta + v);
  }
  std::fill_n(m.dq, p.d_head * width, 0.0f);
  LoadRows(p, tile, args.row_max, args.row_scale, m.row_max, m.row_scale);
}

// m.scores = P and m.dscores = dS of a segment.
void ScoreGradients(const Problem& p, const Tile& tile, const Segment& s, const KeyRows& k,
                    const KeyRows& v, BackwardScratch& m) {
  const D d;
  const int64_t lanes = Lanes(), width = tile.width, n = s.end - s.begin, at = s.first * lanes;
  Product<Kind::kSingle, false, Onto::kNothing>(n, s.vectors(), p.d_head, k.data, k.stride,
                                                m.q + at, width, nullptr, m.scores + at, width);
  if (s.masked) MaskScores(p, tile, s, BiasOf(p, tile, s, m.bias), m.scores);
  Product<Kind::kSingle, false, Onto::kNothing>(n, s.vectors(), p.d_head, v.data, v.stride,
                                                m.dz + at, width, nullptr, m.dscores + at, width);
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
// added to), for keys [begin, end), of which it sees some.
void BackwardTile(const BackwardArgs<float>& args, const Tile& tile, int64_t begin, int64_t end,
                  float* dq, float* dk, float* dv, BackwardScratch& m) {
  const Problem& p = args.p;
  const int64_t lanes = Lanes(), width = tile.width;
  const int64_t stride = p.n_heads * p.d_head, row = p.QueryRow(tile.b, tile.begin, tile.h);
  PackTile(args, tile, true, m);
  ForSegments(p, tile, begin, end, [&](const Segment& s) HWY_ATTR {
    const int64_t n = s.end - s.begin, at = s.first * lanes;
    const KeyRows k = RowsOf(p, args.k, tile, s, m.k), v = RowsOf(p, args.v, tile, s, m.v);
    ScoreGradients(p, tile, s, k, v, m);
    if (dq != nullptr) {
      Product<Kind::kSingle, true, Onto::kSum>(p.d_head, s.vectors(), n, k.data, k.stride,
                                               m.dscores + at, width, nullptr, m.dq + at, width);
    }
    const int64_t queries = std::min(tile.rows, s.last * lanes) - at;
    const int64_t to = (s.begin - begin) * m.depth;
    if (dk != nullptr) {
      Product<Kind::kSingle, false, Onto::kSum>(n, m.depth / lanes, queries, m.dscores + at, width,
                                                m.q_rows + at * m.depth, m.depth, nullptr, dk + to,
                                                m.depth);
    }
    if (dv != nullptr) {
      Product<Kind::kSingle, false, Onto::kSum>(n, m.depth / lanes, queries, m.scores + at, width,
                                                m.dz_rows + at * m.depth, m.depth, nullptr, dv + to,
                                                m.depth);
    }
  });
  if (dq != nullptr) {
    Transpose(p.d_head, tile.rows, static_cast<float>(p.scale), m.dq, width, dq + row, stride);
  }
}

// M: the scratch of a thread. f(tile, begin, end, dq, dk, dv, m) is BackwardTile or its like; its
// dk is still to be multiplied by dk_scale.
template <class M, class T, class F>
HWY_INLINE void BackwardBy(const BackwardArgs<T>& args, float dk_scale, F f) {
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
    M m(p, width);
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
        for (int64_t i = 0; i < tiling.tiles; ++i) {
          const Tile tile = tiling.At(p, b, h, i);
          const int64_t last = tile.begin + tile.rows - 1;
          if (p.KeyBegin(tile.begin) < end && p.KeyEnd(last) > begin) {
            f(tile, begin, end, dq_of(s), dk, dv, m);
          } else if (args.dq != nullptr) {
            for (int64_t row = tile.begin; row <= last; ++row) {
              std::fill_n(dq_of(s) + p.QueryRow(b, row, h), p.d_head, 0.0f);
            }
          }
        }
      }
      for (int64_t j = begin; j < end; ++j) {
        const int64_t from = (j - begin) * m.depth, to = p.KeyRow(b, j, g);
        for (int64_t i = 0; dk != nullptr && i < p.d_head; ++i) {
          args.dk[to + i] = dk_scale * dk[from + i];
        }
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

void Backward(const BackwardArgs<float>& args) {
  BackwardBy<BackwardScratch>(
      args, 1,
      [&](const Tile& tile, int64_t begin, int64_t end, float* dq, float* dk, float* dv,
          BackwardScratch& m) HWY_ATTR { BackwardTile(args, tile, begin, end, dq, dk, dv, m); });
}

#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86_64

struct PairBackwardScratch {
  int64_t depth;
  Scratch memory;
  float *q, *dz;                       // [d_head / 2, width] pairs of features
  float *q_rows, *dz_rows;             // [width / 2, depth] pairs of queries
  float* dq;                           // [d_head, width]
  float *scores, *dscores;             // [kKeys, width]: S; dP
  BFloat16 *weights, *gradients;       // [kKeys, width]: P and dS
  float* gradient_pairs;               // [kKeys / 2 + 1, width]: dS in pairs of keys
  float *row_max, *row_scale, *delta;  // [width]
  float* bias;

  PairBackwardScratch(const Problem& p, int64_t width)
      : depth((p.d_head + Lanes() - 1) / Lanes() * Lanes()),
        memory(2 * Scratch::Aligned(p.d_head / 2 * width) +
               2 * Scratch::Aligned(width / 2 * depth) + Scratch::Aligned(p.d_head * width) +
               2 * Scratch::Aligned(kKeys * width) + 2 * Scratch::Aligned(kKeys * width / 2) +
               Scratch::Aligned((kKeys / 2 + 1) * width) + 3 * Scratch::Aligned(width) +
               Scratch::Aligned(p.bias ? kKeys * width : 0)),
        q(memory.Take(p.d_head / 2 * width)),
        dz(memory.Take(p.d_head / 2 * width)),
        q_rows(memory.Take(width / 2 * depth)),
        dz_rows(memory.Take(width / 2 * depth)),
        dq(memory.Take(p.d_head * width)),
        scores(memory.Take(kKeys * width)),
        dscores(memory.Take(kKeys * width)),
        weights(reinterpret_cast<BFloat16*>(memory.Take(kKeys * width / 2))),
        gradients(reinterpret_cast<BFloat16*>(memory.Take(kKeys * width / 2))),
        gradient_pairs(memory.Take((kKeys / 2 + 1) * width)),
        row_max(memory.Take(width)),
        row_scale(memory.Take(width)),
        delta(memory.Take(width)),
        bias(memory.Take(p.bias ? kKeys * width : 0)) {}
};

// Rows of bf16 as pairs of rows, padded with zeros to [width / 2, depth].
void PackRowPairs(int64_t rows, int64_t columns, const BFloat16* x, int64_t x_stride, int64_t width,
                  int64_t depth, float* out) {
  if (columns < depth || rows < width) std::fill_n(out, width / 2 * depth, 0.0f);
  const uint16_t* from = reinterpret_cast<const uint16_t*>(x);
  for (int64_t r = 0; r < rows; r += 2, from += 2 * x_stride, out += depth) {
    PackPairRows(from, r + 1 < rows ? from + x_stride : nullptr, columns, out);
  }
}

void PackPairTile(const BackwardArgs<BFloat16>& args, const Tile& tile, PairBackwardScratch& m) {
  const D d;
  const Problem& p = args.p;
  const int64_t lanes = Lanes(), width = tile.width, stride = p.n_heads * p.d_head;
  const int64_t at = p.QueryRow(tile.b, tile.begin, tile.h);
  const auto pairs = [&](const BFloat16* x) { return reinterpret_cast<const float*>(x + at); };
  PackTransposed<true>(tile.rows, p.d_head / 2, 1, pairs(args.q), stride / 2, width, m.q);
  PackTransposed<true>(tile.rows, p.d_head / 2, 1, pairs(args.dz), stride / 2, width, m.dz);
  PackRowPairs(tile.rows, p.d_head, args.q + at, stride, width, m.depth, m.q_rows);
  PackRowPairs(tile.rows, p.d_head, args.dz + at, stride, width, m.depth, m.dz_rows);
  for (int64_t r = 0; r < width; ++r) {
    m.delta[r] = 0;
    if (r >= tile.rows) continue;
    const BFloat16 *dz = args.dz + at + r * stride, *z = args.z + at + r * stride;
    V sum = hn::Zero(d);
    int64_t i = 0;
    for (; i + lanes <= p.d_head; i += lanes) {
      sum = hn::MulAdd(LoadWidened(d, dz + i), LoadWidened(d, z + i), sum);
    }
    m.delta[r] = hn::GetLane(hn::SumOfLanes(d, sum));
    for (; i < p.d_head; ++i) m.delta[r] += dz[i].ToFloat() * z[i].ToFloat();
  }
  std::fill_n(m.dq, p.d_head * width, 0.0f);
  LoadRows(p, tile, args.row_max, args.row_scale, m.row_max, m.row_scale);
}

// x rounded to nearest even, in assembler for the reason MulAddPairs is.
HWY_INLINE void StoreRow(V x, BFloat16* to) {
  const hn::Rebind<uint16_t, D> d16;
  hn::Vec<decltype(d16)> row;
  asm("vcvtneps2bf16 %1, %0" : "=v"(row.raw) : "v"(x.raw));
  hn::StoreU(row, d16, reinterpret_cast<uint16_t*>(to));
}

// m.weights = P, m.gradients and m.gradient_pairs = dS of a segment, from S and dP. S is still to
// be multiplied by `scale`.
void RoundedGradients(const Problem& p, const Tile& tile, const Segment& s, float scale,
                      PairBackwardScratch& m) {
  const D d;
  const int64_t lanes = Lanes(), width = tile.width, n = s.end - s.begin, odd = s.begin % 2;
  const bool* mask = s.holes ? p.KeyMask(tile.b) + s.begin : nullptr;
  const V scales = hn::Set(d, scale);
  for (int64_t u = s.first * lanes; u < s.last * lanes; u += lanes) {
    const V most = hn::Load(d, m.row_max + u), row_scale = hn::Load(d, m.row_scale + u);
    const V delta = hn::Load(d, m.delta + u);
    const auto gradient = [&](int64_t key) HWY_ATTR {
      const int64_t j = u + key * width;
      V weight = hn::Zero(d), gradient = hn::Zero(d);
      if (mask == nullptr || mask[key]) {  // a hidden key may hold anything
        const V x = hn::MulSub(hn::Load(d, m.scores + j), scales, most);
        weight = hn::Mul(Exp2(x), row_scale);
        gradient = hn::Mul(weight, hn::Sub(hn::Load(d, m.dscores + j), delta));
      }
      StoreRow(weight, m.weights + j);
      StoreRow(gradient, m.gradients + j);
      return gradient;
    };
    float* pairs = m.gradient_pairs + u;
    int64_t key = 0;
    if (odd) {
      hn::Store(PackPair(hn::Zero(d), gradient(key++)), d, pairs);
      pairs += width;
    }
    for (; key + 2 <= n; key += 2, pairs += width) {
      const V low = gradient(key), high = gradient(key + 1);
      hn::Store(PackPair(low, high), d, pairs);
    }
    if (key < n) hn::Store(PackPair(gradient(key), hn::Zero(d)), d, pairs);
  }
}

// BackwardTile on bf16. keys: k as PackKeyPairs makes it, of this head.
void PairBackwardTile(const BackwardArgs<BFloat16>& args, const float* keys, const Tile& tile,
                      int64_t begin, int64_t end, float* dq, float* dk, float* dv,
                      PairBackwardScratch& m) {
  const D d;
  const Problem& p = args.p;
  const int64_t lanes = Lanes(), width = tile.width, g = tile.h / p.group();
  const int64_t stride = p.n_heads * p.d_head, key_stride = p.n_kv_heads * p.d_head;
  const float scale = static_cast<float>(p.scale) * kLog2E;
  PackPairTile(args, tile, m);
  ForSegments(p, tile, begin, end, [&](const Segment& s) HWY_ATTR {
    const int64_t n = s.end - s.begin, at = s.first * lanes;
    const int64_t row = p.KeyRow(tile.b, s.begin, g);
    Product<Kind::kPair, false, Onto::kNothing>(n, s.vectors(), p.d_head / 2, args.k + row,
                                                key_stride, m.q + at, width, nullptr, m.scores + at,
                                                width);
    Product<Kind::kPair, false, Onto::kNothing>(n, s.vectors(), p.d_head / 2, args.v + row,
                                                key_stride, m.dz + at, width, nullptr,
                                                m.dscores + at, width);
    if (s.masked) {
      for (int64_t i = at; i < n * width; i += lanes) {
        hn::Store(hn::Mul(hn::Set(d, scale), hn::Load(d, m.scores + i)), d, m.scores + i);
      }
      MaskScores(p, tile, s, BiasOf(p, tile, s, m.bias), m.scores);
    }
    RoundedGradients(p, tile, s, s.masked ? 1 : scale, m);
    if (dq != nullptr) {
      const int64_t pair = s.begin / 2, pairs = (s.end + 1) / 2 - pair;
      Product<Kind::kPair, true, Onto::kSum>(p.d_head, s.vectors(), pairs, keys + pair * p.d_head,
                                             p.d_head, m.gradient_pairs + at, width, nullptr,
                                             m.dq + at, width);
    }
    const int64_t pairs = (std::min(tile.rows, s.last * lanes) - at + 1) / 2;
    const int64_t to = (s.begin - begin) * m.depth, from = at / 2 * m.depth;
    if (dk != nullptr) {
      Product<Kind::kPair, false, Onto::kSum>(n, m.depth / lanes, pairs, m.gradients + at, width,
                                              m.q_rows + from, m.depth, nullptr, dk + to, m.depth);
    }
    if (dv != nullptr) {
      Product<Kind::kPair, false, Onto::kSum>(n, m.depth / lanes, pairs, m.weights + at, width,
                                              m.dz_rows + from, m.depth, nullptr, dv + to, m.depth);
    }
  });
  if (dq != nullptr) {
    Transpose(p.d_head, tile.rows, static_cast<float>(p.scale), m.dq, width,
              dq + p.QueryRow(tile.b, tile.begin, tile.h), stride);
  }
}

bool BackwardPairs(const BackwardArgs<BFloat16>& args) {
  const Problem& p = args.p;
  if (!__builtin_cpu_supports("avx512bf16") || p.d_head % 2 != 0) return false;
  const StorageRef packed = args.dq ? PackKeyPairs(p, args.k) : StorageRef();
  const float* const keys = packed ? static_cast<const float*>(packed->data()) : nullptr;
  const int64_t head_keys = packed ? (p.key + 1) / 2 * p.d_head : 0;
  BackwardBy<PairBackwardScratch>(args, static_cast<float>(p.scale),
                                  [&](const Tile& tile, int64_t begin, int64_t end, float* dq,
                                      float* dk, float* dv, PairBackwardScratch& m) HWY_ATTR {
                                    const int64_t head = tile.b * p.n_kv_heads + tile.h / p.group();
                                    PairBackwardTile(args, keys + head * head_keys, tile, begin,
                                                     end, dq, dk, dv, m);
                                  });
  return true;
}

#else

bool BackwardPairs(const BackwardArgs<BFloat16>&) { return false; }

#endif

void BiasGradient(const BackwardArgs<float>& args) {
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
HWY_EXPORT(BackwardPairs);
HWY_EXPORT(BiasGradient);

void BackwardCpu(const BackwardArgs<float>& args) { HWY_DYNAMIC_DISPATCH(Backward)(args); }
bool BackwardPairsCpu(const BackwardArgs<BFloat16>& args) {
  return HWY_DYNAMIC_DISPATCH(BackwardPairs)(args);
}
void BiasGradientCpu(const BackwardArgs<float>& args) { HWY_DYNAMIC_DISPATCH(BiasGradient)(args); }

}  // namespace flash_internal
}  // namespace residual
#endif  // HWY_ONCE
