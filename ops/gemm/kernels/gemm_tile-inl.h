// The innermost loops of a matrix product: tiles of the result that stay in registers. Included
// once per Highway target. T: float or double; S: what b holds where it is not packed, converted to
// T as it is loaded.

#if defined(RESIDUAL_OPS_GEMM_KERNELS_GEMM_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESIDUAL_OPS_GEMM_KERNELS_GEMM_TILE_INL_H_
#undef RESIDUAL_OPS_GEMM_KERNELS_GEMM_TILE_INL_H_
#else
#define RESIDUAL_OPS_GEMM_KERNELS_GEMM_TILE_INL_H_
#endif

#include <type_traits>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "ops/gemm/kernels/gemm_kernels.h"
#include "ops/simd/convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace gemm_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using residual::HWY_NAMESPACE::LoadWidened;
using residual::HWY_NAMESPACE::RoundedFloat;
using residual::HWY_NAMESPACE::Widened;

template <class T>
using Tag = hn::ScalableTag<T>;
template <class T>
using Vector = hn::Vec<Tag<T>>;

// The tile: rows x two vectors of columns. AVX-512 has 32 registers: 28 sums, 2 of b, 1 of a. With
// 16 registers: 12 + 2 + 1. On a Zen 4 the tile reaches 99.7 % of the peak at any depth from 64 on
// and wherever its operands lie in the caches, as do 12 x 2, 9 x 3, 8 x 3, 6 x 4 and 8 x 2; below
// 8 sums the latency of an addition shows (2 x 2: 66 %).
constexpr int kRows = HWY_TARGET <= HWY_AVX3 ? 14 : 6;
constexpr int kVectors = 2;
// Few rows against columns that are not packed: with more columns to a row of b.
constexpr int kUnpackedRows = HWY_TARGET <= HWY_AVX3 ? 6 : 3;
constexpr int kUnpackedVectors = 4;

// kStream: b comes from far away.
template <class T, class S, int kR, int kV, bool kStream = false>
HWY_INLINE void Tile(const TileArgs& args) {
  const Tag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const T* HWY_RESTRICT a = static_cast<const T*>(args.a);
  const S* HWY_RESTRICT b = static_cast<const S*>(args.b);
  const int64_t a_stride = args.a_stride, b_stride = args.b_stride;
  T* HWY_RESTRICT c = static_cast<T*>(args.c);
  for (int r = 0; r < kR; ++r) {
    for (int v = 0; v < kV; ++v) PrefetchToSecond(c + r * args.c_row_step + v * lanes);
  }
  Vector<T> sum[kR][kV];
#pragma GCC unroll 16
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kV; ++v) sum[r][v] = hn::Zero(d);
  }
  for (int64_t k = args.k; k > 0; --k, a += a_stride, b += b_stride) {
    Vector<T> column[kV];
#pragma GCC unroll 4
    for (int v = 0; v < kV; ++v) {
      if (kStream && v * lanes * sizeof(S) % 64 == 0)
        PrefetchToSecond(b + args.b_ahead + v * lanes);
      if (!kStream) hwy::Prefetch(b + kPanelAhead * b_stride + v * lanes);
      column[v] = LoadWidened(d, b + v * lanes);
    }
    if (!kStream) hwy::Prefetch(a + kPanelAhead * a_stride);
#pragma GCC unroll 16
    for (int r = 0; r < kR; ++r) {
      const auto x = hn::Set(d, a[r]);
#pragma GCC unroll 4
      for (int v = 0; v < kV; ++v) sum[r][v] = hn::MulAdd(x, column[v], sum[r][v]);
    }
  }
  const T* bias = static_cast<const T*>(args.bias);
  if (args.columns == kV * lanes && args.c_column_step == 1 && !args.bias_of_rows) {
    Vector<T> base[kV];
#pragma GCC unroll 4
    for (int v = 0; v < kV; ++v) {
      base[v] = bias != nullptr ? hn::LoadU(d, bias + v * lanes) : hn::Zero(d);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kR; ++r, c += args.c_row_step) {
#pragma GCC unroll 4
      for (int v = 0; v < kV; ++v) {
        const auto before = args.add ? hn::LoadU(d, c + v * lanes) : base[v];
        hn::StoreU(hn::Add(before, sum[r][v]), d, c + v * lanes);
      }
    }
    return;
  }
  HWY_ALIGN T edge[kR * kV * HWY_MAX_BYTES / sizeof(T)];
#pragma GCC unroll 16
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kV; ++v) hn::Store(sum[r][v], d, edge + (r * kV + v) * lanes);
  }
  for (int64_t r = 0; r < kR; ++r, c += args.c_row_step) {
    const T* from = edge + r * kV * lanes;
    int64_t j = 0;
    if (args.c_column_step == 1 && !args.bias_of_rows) {
      const T* before = args.add ? c : bias;
      for (; j + lanes <= args.columns; j += lanes) {
        const auto base = before != nullptr ? hn::LoadU(d, before + j) : hn::Zero(d);
        hn::StoreU(hn::Add(base, hn::Load(d, from + j)), d, c + j);
      }
    }
    for (; j < args.columns; ++j) {
      T* to = c + j * args.c_column_step;
      const T base = bias == nullptr ? T{0} : bias[args.bias_of_rows ? r : j];
      *to = (args.add ? *to : base) + from[j];
    }
  }
}

// Calls `tile` with as many rows as there are, as a constant.
template <int kMost, int kR = 1, class F>
HWY_INLINE void WithRows(int64_t rows, F tile) {
  if constexpr (kR < kMost) {
    if (rows != kR) return WithRows<kMost, kR + 1>(rows, tile);
  }
  tile(std::integral_constant<int, kR>());
}

template <class T, int kR>
void PackedTileOf(const TileArgs& args) {
  if (args.columns > static_cast<int64_t>(hn::Lanes(Tag<T>()))) {
    Tile<T, T, kR, kVectors>(args);
  } else {
    Tile<T, T, kR, 1>(args);
  }
}

template <class T>
void PackedTile(const TileArgs& args) {
  WithRows<kRows>(args.rows,
                  [&](auto rows) HWY_ATTR { PackedTileOf<T, decltype(rows)::value>(args); });
}

// As many tiles as the columns are, which are whole vectors.
template <class T, class S, int kR>
void UnpackedTilesOf(const TileArgs& args) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(Tag<T>()));
  TileArgs tile = args;
  for (int64_t j = 0; j < args.columns; j += tile.columns) {
    tile.b = static_cast<const S*>(args.b) + j;
    tile.c = static_cast<T*>(args.c) + j * args.c_column_step;
    if (!args.bias_of_rows && args.bias != nullptr)
      tile.bias = static_cast<const T*>(args.bias) + j;
    const int64_t left = args.columns - j;
    if (left >= kUnpackedVectors * lanes) {
      tile.columns = kUnpackedVectors * lanes;
      Tile<T, S, kR, kUnpackedVectors, true>(tile);
    } else {
      tile.columns = lanes;
      Tile<T, S, kR, 1>(tile);
    }
  }
}

template <class T, class S>
void UnpackedTiles(const TileArgs& args) {
  WithRows<kUnpackedRows>(
      args.rows, [&](auto rows) HWY_ATTR { UnpackedTilesOf<T, S, decltype(rows)::value>(args); });
}

}  // namespace HWY_NAMESPACE
}  // namespace gemm_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#endif  // RESIDUAL_OPS_GEMM_KERNELS_GEMM_TILE_INL_H_
