// bf16 products by AVX512_BF16's dot product, which adds two products to an f32 sum at once: twice
// as fast as f32. Highway 1.0.3 has no target with it, hence intrinsics and a choice at run time.
// It takes denormal numbers as zero and rounds to nearest even.
//
// A packed element is a pair: two neighbouring k of one row or column. What is read from where it
// lies is bf16, or f32 that the processor rounds on the way: every reader is a template on which,
// S.

#include "ops/gemm/kernels/gemm_kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#include <cstring>

#include "hwy/cache_control.h"
#include "hwy/targets.h"
#include "tensor/core/dtype.h"

// g++ 12 takes the undefined vectors inside its own intrinsics for an error of ours.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#define RESIDUAL_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define RESIDUAL_BF16_INLINE RESIDUAL_BF16 inline __attribute__((always_inline))

namespace residual {
namespace gemm_internal {
namespace {

constexpr int64_t kLanes = 16;
constexpr int kRows = 14, kVectors = 2;
constexpr int kUnpackedRows = 6, kUnpackedVectors = 4;

RESIDUAL_BF16_INLINE __m512 AddProducts(__m512 sum, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

RESIDUAL_BF16_INLINE __mmask16 First(int64_t n) {
  return static_cast<__mmask16>(n >= kLanes ? 0xffff : (1u << n) - 1);
}

// Sixteen columns of two rows as pairs. Without `odd` the second row is zero.
RESIDUAL_BF16_INLINE __m512i Pairs(const float* even, const float* odd, __mmask16 columns) {
  const __m512 low = _mm512_maskz_loadu_ps(columns, even);
  const __m512 high = odd == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(columns, odd);
  const __m512i interleaved =
      _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                       21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(interleaved,
                                  reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
}
RESIDUAL_BF16_INLINE __m512i Pairs(const uint16_t* even, const uint16_t* odd, __mmask16 columns) {
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(columns, even));
  if (odd == nullptr) return low;
  const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(columns, odd));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

// Sixteen pairs along k, of which the first `n` elements are there.
RESIDUAL_BF16_INLINE __m512i PairsAlong(const uint16_t* x, int64_t n) {
  const __mmask32 mask = n >= 2 * kLanes ? ~__mmask32{0} : static_cast<__mmask32>((1u << n) - 1);
  return _mm512_maskz_loadu_epi16(mask, x);
}
RESIDUAL_BF16_INLINE __m512i PairsAlong(const float* x, int64_t n) {
  const __m512 low = _mm512_maskz_loadu_ps(First(n), x);
  const __m512 high = _mm512_maskz_loadu_ps(n > kLanes ? First(n - kLanes) : 0, x + kLanes);
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

// Four pairs along k, and what is left of them.
RESIDUAL_BF16_INLINE __m128i FourPairs(const uint16_t* x) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
}
RESIDUAL_BF16_INLINE __m128i FourPairs(const float* x) {
  return reinterpret_cast<__m128i>(_mm256_cvtneps_pbh(_mm256_loadu_ps(x)));
}
uint32_t Pair(const uint16_t* x, bool two) { return x[0] | (two ? uint32_t{x[1]} << 16 : 0); }
uint32_t Pair(const float* x, bool two) {
  return BFloat16::FromFloat(x[0]).bits |
         (two ? uint32_t{BFloat16::FromFloat(x[1]).bits} << 16 : 0);
}

// c (+)= sum, with the bias where nothing was there before.
template <int kR, int kV>
RESIDUAL_BF16_INLINE void Store(const TileArgs& args, const __m512 (&sum)[kR][kV]) {
  float* c = static_cast<float*>(args.c);
  const float* bias = static_cast<const float*>(args.bias);
#pragma GCC unroll 16
  for (int r = 0; r < kR; ++r, c += args.c_row_step) {
    const float* before = args.add ? c : bias;
#pragma GCC unroll 4
    for (int v = 0; v < kV; ++v) {
      const __mmask16 mask = First(args.columns - v * kLanes);
      const __m512 base = before != nullptr ? _mm512_maskz_loadu_ps(mask, before + v * kLanes)
                                            : _mm512_setzero_ps();
      _mm512_mask_storeu_ps(c + v * kLanes, mask, _mm512_add_ps(base, sum[r][v]));
    }
  }
}

// b packed, or as it lies.
template <class S, int kR, int kV, bool kPacked>
RESIDUAL_BF16_INLINE void Tile(const TileArgs& args) {
  const uint32_t* a = static_cast<const uint32_t*>(args.a);
  const float* c = static_cast<const float*>(args.c);
  for (int r = 0; r < kR; ++r) {
    for (int v = 0; v < kV; ++v) PrefetchToSecond(c + r * args.c_row_step + v * kLanes);
  }
  __m512 sum[kR][kV];
#pragma GCC unroll 16
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kV; ++v) sum[r][v] = _mm512_setzero_ps();
  }
  const uint32_t* packed = static_cast<const uint32_t*>(args.b);
  const S* rows = static_cast<const S*>(args.b);
  const int64_t pairs = kPacked ? args.k : (args.k + 1) / 2;
  for (int64_t i = 0; i < pairs; ++i, a += args.a_stride) {
    __m512i column[kV];
#pragma GCC unroll 4
    for (int v = 0; v < kV; ++v) {
      if constexpr (kPacked) {
        hwy::Prefetch(packed + kPanelAhead * args.b_stride + v * kLanes);
        column[v] = _mm512_loadu_si512(packed + v * kLanes);
      } else {
        const S* odd = 2 * i + 1 < args.k ? rows + args.b_stride + v * kLanes : nullptr;
        if (v * kLanes * sizeof(S) % 64 == 0) {
          PrefetchToSecond(rows + v * kLanes + args.b_ahead);
          PrefetchToSecond(rows + args.b_stride + v * kLanes + args.b_ahead);
        }
        column[v] = Pairs(rows + v * kLanes, odd, 0xffff);
      }
    }
    if constexpr (kPacked) hwy::Prefetch(a + kPanelAhead * args.a_stride);
#pragma GCC unroll 16
    for (int r = 0; r < kR; ++r) {
      const __m512i x = _mm512_set1_epi32(static_cast<int>(a[r]));
#pragma GCC unroll 4
      for (int v = 0; v < kV; ++v) sum[r][v] = AddProducts(sum[r][v], x, column[v]);
    }
    packed += args.b_stride;
    rows += 2 * args.b_stride;
  }
  Store(args, sum);
}

template <int kR>
RESIDUAL_BF16 void PackedTileOf(const TileArgs& args) {
  if (args.columns > kLanes) {
    Tile<uint16_t, kR, kVectors, true>(args);
  } else {
    Tile<uint16_t, kR, 1, true>(args);
  }
}

template <class S, int kR>
RESIDUAL_BF16 void UnpackedTilesOf(const TileArgs& args) {
  TileArgs tile = args;
  for (int64_t j = 0; j < args.columns; j += tile.columns) {
    tile.b = static_cast<const S*>(args.b) + j;
    tile.c = static_cast<float*>(args.c) + j;
    if (args.bias != nullptr) tile.bias = static_cast<const float*>(args.bias) + j;
    if (args.columns - j >= kUnpackedVectors * kLanes) {
      tile.columns = kUnpackedVectors * kLanes;
      Tile<S, kR, kUnpackedVectors, false>(tile);
    } else {
      tile.columns = kLanes;
      Tile<S, kR, 1, false>(tile);
    }
  }
}

template <int kR = 1>
void PackedTile(const TileArgs& args) {
  if constexpr (kR < kRows) {
    if (args.rows != kR) return PackedTile<kR + 1>(args);
  }
  PackedTileOf<kR>(args);
}

template <class S, int kR = 1>
void UnpackedTiles(const TileArgs& args) {
  if constexpr (kR < kUnpackedRows) {
    if (args.rows != kR) return UnpackedTiles<S, kR + 1>(args);
  }
  UnpackedTilesOf<S, kR>(args);
}

// x together: two rows of k at a time, all panels of them. To fetch 8 or 16 rows ahead into the
// second cache instead, as dot products do, is 2 to 6 % slower at [128, 768] x [768, 50257].
template <class S>
RESIDUAL_BF16 void PackRuns(const PackArgs& args) {
  const S* from = static_cast<const S*>(args.from.data) + args.k0 * args.from.k_step;
  const int64_t step = args.from.k_step;
  for (int64_t i = 0; i < args.k; i += 2, from += 2 * step) {
    uint32_t* to = static_cast<uint32_t*>(args.to) + i / 2 * args.stride;
    for (int64_t p = args.begin; p < args.end; ++p, to += args.panel_step) {
      const S* x = from + args.panels.Begin(p);
      const int64_t width = args.panels.Width(p);
      for (int64_t j = 0; j < width; j += kLanes) {
        hwy::Prefetch(x + 4 * step + j);
        hwy::Prefetch(x + 5 * step + j);
        _mm512_storeu_si512(
            to + j, Pairs(x + j, i + 1 < args.k ? x + step + j : nullptr, First(width - j)));
      }
    }
  }
}

// Four pairs of each of sixteen rows: one 128-bit block of each, then transposed within blocks.
template <class S>
RESIDUAL_BF16_INLINE __m512i Blocks(const S* const* rows, int64_t i) {
  __m512i blocks = _mm512_castsi128_si512(FourPairs(rows[0] + i));
  blocks = _mm512_inserti32x4(blocks, FourPairs(rows[4] + i), 1);
  blocks = _mm512_inserti32x4(blocks, FourPairs(rows[8] + i), 2);
  return _mm512_inserti32x4(blocks, FourPairs(rows[12] + i), 3);
}

// k together: the panel's pairs are transposed in registers. Rows beyond its width are the last one
// again.
template <class S>
RESIDUAL_BF16 void PackColumns(const PackArgs& args) {
  const S* from = static_cast<const S*>(args.from.data) + args.k0;
  uint32_t* to = static_cast<uint32_t*>(args.to);
  for (int64_t p = args.begin; p < args.end; ++p, to += args.panel_step) {
    const int64_t begin = args.panels.Begin(p), width = args.panels.Width(p);
    for (int64_t x0 = 0; x0 < width; x0 += kLanes) {
      const S* rows[kLanes];
      for (int64_t x = 0; x < kLanes; ++x) {
        rows[x] = from + (begin + (x0 + x < width ? x0 + x : width - 1)) * args.from.x_step;
      }
      uint32_t* out = to + x0;
      int64_t i = 0;
      for (; i + 8 <= args.k; i += 8, out += 4 * args.stride) {
        const __m512i r0 = Blocks(rows, i), r1 = Blocks(rows + 1, i);
        const __m512i r2 = Blocks(rows + 2, i), r3 = Blocks(rows + 3, i);
        const __m512i low01 = _mm512_unpacklo_epi32(r0, r1), low23 = _mm512_unpacklo_epi32(r2, r3);
        const __m512i high01 = _mm512_unpackhi_epi32(r0, r1);
        const __m512i high23 = _mm512_unpackhi_epi32(r2, r3);
        _mm512_storeu_si512(out, _mm512_unpacklo_epi64(low01, low23));
        _mm512_storeu_si512(out + args.stride, _mm512_unpackhi_epi64(low01, low23));
        _mm512_storeu_si512(out + 2 * args.stride, _mm512_unpacklo_epi64(high01, high23));
        _mm512_storeu_si512(out + 3 * args.stride, _mm512_unpackhi_epi64(high01, high23));
      }
      for (; i < args.k; i += 2, out += args.stride) {
        for (int64_t x = 0; x < kLanes; ++x) {
          out[x] = Pair(rows[x] + i, i + 1 < args.k);
        }
      }
    }
  }
}

template <class S>
void Pack(const PackArgs& args) {
  if (args.from.x_step == 1) {
    PackRuns<S>(args);
  } else {
    PackColumns<S>(args);
  }
}

// The sums of four vectors.
RESIDUAL_BF16_INLINE __m128 Sums(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512 blocks = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
  return _mm_add_ps(
      _mm_add_ps(_mm512_castps512_ps128(blocks), _mm512_extractf32x4_ps(blocks, 1)),
      _mm_add_ps(_mm512_extractf32x4_ps(blocks, 2), _mm512_extractf32x4_ps(blocks, 3)));
}

// kR x kC dot products side by side, kC 4 or 1. kStream: the columns are read here first, and
// those after them are prefetched.
template <class S, int kR, int kC, bool kStream>
RESIDUAL_BF16_INLINE void DotTile(const DotArgs& args, int64_t r0, int64_t j0) {
  const int64_t k = args.k;
  const uint16_t* a = static_cast<const uint16_t*>(args.a) + r0 * k;
  const S* b = static_cast<const S*>(args.b) + j0 * k;
  __m512 sum[kR][kC];
#pragma GCC unroll 4
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 4
    for (int j = 0; j < kC; ++j) sum[r][j] = _mm512_setzero_ps();
  }
  const int64_t ahead = StreamAhead(kC * k, sizeof(S));
  int64_t i = 0;
  if (kR == 1 && kStream && args.rows == 1) {  // column after column, as memory likes it best
#pragma GCC unroll 4
    for (int j = 0; j < kC; ++j) {
      const S* column = b + j * k;
      __m512 more[3] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
      for (i = 0; i + 8 * kLanes <= k; i += 8 * kLanes) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
          __m512& to = v == 0 ? sum[0][j] : more[v - 1];
          const S* x = column + i + 2 * v * kLanes;
          PrefetchToSecond(x + kOneStreamAhead / sizeof(S));
          if (sizeof(S) == 4) PrefetchToSecond(x + kOneStreamAhead / sizeof(S) + kLanes);
          to = AddProducts(to, PairsAlong(a + i + 2 * v * kLanes, 2 * kLanes),
                           PairsAlong(x, 2 * kLanes));
        }
      }
      sum[0][j] = _mm512_add_ps(_mm512_add_ps(sum[0][j], more[0]), _mm512_add_ps(more[1], more[2]));
    }
  }
  for (; i < k; i += 2 * kLanes) {
    __m512i column[kC];
#pragma GCC unroll 4
    for (int j = 0; j < kC; ++j) {
      if (kStream) {
        const S* next = b + j * k + i + ahead;
        PrefetchToSecond(next);
        if (sizeof(S) == 4) PrefetchToSecond(next + kLanes);
      }
      column[j] = PairsAlong(b + j * k + i, k - i);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kR; ++r) {
      const __m512i x = PairsAlong(a + r * k + i, k - i);
#pragma GCC unroll 4
      for (int j = 0; j < kC; ++j) sum[r][j] = AddProducts(sum[r][j], x, column[j]);
    }
  }
  float* c = static_cast<float*>(args.c) + r0 * args.c_row_step + j0 - args.begin;
  const float* bias = static_cast<const float*>(args.bias);
#pragma GCC unroll 4
  for (int r = 0; r < kR; ++r, c += args.c_row_step) {
    if constexpr (kC == 4) {
      const __m128 base = bias != nullptr ? _mm_loadu_ps(bias + j0 - args.begin) : _mm_setzero_ps();
      _mm_storeu_ps(c, _mm_add_ps(base, Sums(sum[r][0], sum[r][1], sum[r][2], sum[r][3])));
    } else {
      const float base = bias != nullptr ? bias[j0 - args.begin] : 0;
      c[0] = base + _mm512_reduce_add_ps(sum[r][0]);
    }
  }
}

template <class S, int kC>
RESIDUAL_BF16 void DotRows(const DotArgs& args, int64_t j) {
  constexpr bool kStream = kC == 4;
  const int64_t first = (args.rows - 1) % 4 + 1;
  switch (first) {
    case 1:
      DotTile<S, 1, kC, kStream>(args, 0, j);
      break;
    case 2:
      DotTile<S, 2, kC, kStream>(args, 0, j);
      break;
    case 3:
      DotTile<S, 3, kC, kStream>(args, 0, j);
      break;
    default:
      DotTile<S, 4, kC, kStream>(args, 0, j);
  }
  for (int64_t r = first; r < args.rows; r += 4) DotTile<S, 4, kC, false>(args, r, j);
}

template <class S>
void Dot(const DotArgs& args) {
  int64_t j = args.begin;
  for (; j + 4 <= args.end; j += 4) DotRows<S, 4>(args, j);
  for (; j < args.end; ++j) DotRows<S, 1>(args, j);
}

}  // namespace

const GemmKernels* NativeKernelsBF16() {
  static const GemmKernels kernels = {
      kRows,
      kVectors * kLanes,
      kLanes,  // row_stride
      4,       // packed_bytes
      2,       // packed_k
      PackedTile,
      kUnpackedRows,
      kUnpackedVectors * kLanes,
      {Pack<uint16_t>, UnpackedTiles<uint16_t>, Dot<uint16_t>},
      {Pack<float>, UnpackedTiles<float>, Dot<float>},
  };
  static const bool supported = __builtin_cpu_supports("avx512bf16");
  // Not where a test has turned AVX-512 off.
  return supported && (hwy::SupportedTargets() & HWY_AVX3) != 0 ? &kernels : nullptr;
}

}  // namespace gemm_internal
}  // namespace residual

#else

namespace residual {
namespace gemm_internal {
const GemmKernels* NativeKernelsBF16() { return nullptr; }
}  // namespace gemm_internal
}  // namespace residual

#endif
