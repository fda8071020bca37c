// A product in the manner of Goto and van de Geijn (2008) and BLIS: panels of B stay in the last
// cache, a block of A in the second, and a micro-kernel keeps a tile of C in registers.
//
//   for each block of kBlockK of K:              B's block packed into panels of kCols columns
//     for each block of kBlockM rows of A:       packed into panels of kRows rows, in the L2
//       for each panel of B: for each panel of A:
//         c[kRows, kCols] += a[kRows, k] b[k, kCols]     in registers
//
// Chunks of work are blocks of rows and columns that depend on the shape only, and K is never split
// over threads, so the sum of an element has one order.

#include <algorithm>
#include <cstdint>

#include "ops/matmul/matmul_kernels.h"
#include "tensor/base/parallel.h"
#include "tensor/core/storage.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/matmul/matmul_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The register tile. AVX-512 has 32 registers: 28 sums, 2 of B, 1 of A. With 16 registers: 12 + 3.
#if HWY_TARGET <= HWY_AVX3
constexpr int kRows = 14;
#else
constexpr int kRows = 6;
#endif
constexpr int kVectors = 2;  // vectors of columns

// A block of A, kBlockM x kBlockK, fills about half of a 1 MiB L2; a panel of B, kBlockK x 32
// floats, the L1.
constexpr int64_t kBlockK = 384;
constexpr int64_t kBlockM = 14 * 12;
// Columns one task covers: A is packed once per task.
constexpr int64_t kTaskN = 1536;

template <class T>
using Tag = hn::ScalableTag<T>;
template <class T>
using Vector = hn::Vec<Tag<T>>;

template <class T>
HWY_INLINE int64_t Columns() {
  return kVectors * static_cast<int64_t>(hn::Lanes(Tag<T>()));
}

// c[rows, columns] (+)= a b over k. a: [k][kRows], b: [k][Columns()], both packed and padded with
// zeros. `first`: c is not read, it starts at the bias (a padded vector, or null).
template <class T>
HWY_INLINE void Tile(int64_t k, const T* HWY_RESTRICT a, const T* HWY_RESTRICT b, T* HWY_RESTRICT c,
                     int64_t c_stride, int64_t rows, int64_t columns, bool first, const T* bias) {
  const Tag<T> d;
  using V = Vector<T>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V sum[kRows][kVectors];
#pragma GCC unroll 14
  for (int r = 0; r < kRows; ++r) {
    sum[r][0] = hn::Zero(d);
    sum[r][1] = hn::Zero(d);
  }
  for (int64_t i = 0; i < k; ++i) {
    const V b0 = hn::Load(d, b), b1 = hn::Load(d, b + lanes);
    b += kVectors * lanes;
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) {
      const V x = hn::Set(d, a[r]);
      sum[r][0] = hn::MulAdd(x, b0, sum[r][0]);
      sum[r][1] = hn::MulAdd(x, b1, sum[r][1]);
    }
    a += kRows;
  }
  if (rows == kRows && columns == kVectors * lanes) {
    const V bias0 = first && bias ? hn::LoadU(d, bias) : hn::Zero(d);
    const V bias1 = first && bias ? hn::LoadU(d, bias + lanes) : hn::Zero(d);
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) {
      T* row = c + r * c_stride;
      const V base0 = first ? bias0 : hn::LoadU(d, row);
      const V base1 = first ? bias1 : hn::LoadU(d, row + lanes);
      hn::StoreU(hn::Add(base0, sum[r][0]), d, row);
      hn::StoreU(hn::Add(base1, sum[r][1]), d, row + lanes);
    }
    return;
  }
  HWY_ALIGN T edge[kRows * kVectors * HWY_MAX_BYTES / sizeof(T)];
#pragma GCC unroll 14
  for (int r = 0; r < kRows; ++r) {
    hn::Store(sum[r][0], d, edge + r * kVectors * lanes);
    hn::Store(sum[r][1], d, edge + r * kVectors * lanes + lanes);
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < columns; ++j) {
      const T base = first ? (bias ? bias[j] : T{0}) : c[r * c_stride + j];
      c[r * c_stride + j] = base + edge[r * kVectors * lanes + j];
    }
  }
}

// Packs rows [r0, r0 + rows) and columns [k0, k0 + k) of op(a) into panels [rows /
// kRows][k][kRows].
template <class T>
void PackA(const GemmArgs<T>& g, int64_t r0, int64_t rows, int64_t k0, int64_t k, T* out) {
  for (int64_t panel = 0; panel < rows; panel += kRows, out += k * kRows) {
    const int64_t height = std::min<int64_t>(kRows, rows - panel);
    if (height < kRows) std::fill_n(out, k * kRows, T{0});
    if (g.transpose_a) {  // [K, M]: a row of the panel is contiguous
      const T* in = g.a + k0 * g.M + r0 + panel;
      for (int64_t i = 0; i < k; ++i) {
        for (int64_t r = 0; r < height; ++r) out[i * kRows + r] = in[i * g.M + r];
      }
    } else {
      const T* in = g.a + (r0 + panel) * g.K + k0;
      for (int64_t i0 = 0; i0 < k; i0 += 16) {  // a cache line of each row at a time
        const int64_t i1 = std::min(k, i0 + 16);
        for (int64_t r = 0; r < height; ++r) {
          for (int64_t i = i0; i < i1; ++i) out[i * kRows + r] = in[r * g.K + i];
        }
      }
    }
  }
}

// Packs columns [c0, c0 + columns) of rows [k0, k0 + k) of op(b) into one panel [k][Columns()].
template <class T>
void PackB(const GemmArgs<T>& g, int64_t c0, int64_t columns, int64_t k0, int64_t k, T* out) {
  const int64_t width = Columns<T>();
  if (columns < width) std::fill_n(out, k * width, T{0});
  if (!g.transpose_b) {
    const T* in = g.b + k0 * g.N + c0;
    for (int64_t i = 0; i < k; ++i) std::copy_n(in + i * g.N, columns, out + i * width);
  } else {
    const T* in = g.b + c0 * g.K + k0;
    for (int64_t i0 = 0; i0 < k; i0 += 16) {
      const int64_t i1 = std::min(k, i0 + 16);
      for (int64_t j = 0; j < columns; ++j) {
        for (int64_t i = i0; i < i1; ++i) out[i * width + j] = in[j * g.K + i];
      }
    }
  }
}

template <class T>
T* Data(const StorageRef& storage) {
  return static_cast<T*>(storage->data());
}

template <class T>
void Blocked(const GemmArgs<T>& g) {
  const int64_t width = Columns<T>();
  const int64_t panels = NumChunks(g.N, width);
  const int64_t row_blocks = NumChunks(g.M, kBlockM);
  const int64_t task_panels = std::max<int64_t>(1, kTaskN / width);
  const int64_t column_blocks = NumChunks(panels, task_panels);
  const int64_t depth = std::min(g.K, kBlockK);
  const StorageRef packed_b = AllocateHost(panels * width * depth * sizeof(T));
  T* const b = Data<T>(packed_b);
  for (int64_t k0 = 0; k0 < g.K; k0 += kBlockK) {
    const int64_t k = std::min(kBlockK, g.K - k0);
    ParallelFor(panels, std::max<int64_t>(1, 16384 / (k * width)), [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        PackB(g, p * width, std::min(width, g.N - p * width), k0, k, b + p * width * k);
      }
    });
    // Neighbouring tasks share columns, so their panels of B are in the cache.
    ParallelFor(row_blocks * column_blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const int64_t r0 = task % row_blocks * kBlockM, rows = std::min(kBlockM, g.M - r0);
        const int64_t p0 = task / row_blocks * task_panels;
        const int64_t p1 = std::min(panels, p0 + task_panels);
        const StorageRef packed_a =
            AllocateHost((rows + kRows - 1) / kRows * kRows * k * sizeof(T));
        T* const a = Data<T>(packed_a);
        PackA(g, r0, rows, k0, k, a);
        for (int64_t p = p0; p < p1; ++p) {
          const int64_t c0 = p * width, columns = std::min(width, g.N - c0);
          for (int64_t r = 0; r < rows; r += kRows) {
            Tile(k, a + r * k, b + c0 * k, g.c + (r0 + r) * g.N + c0, g.N,
                 std::min<int64_t>(kRows, rows - r), columns, k0 == 0,
                 g.bias ? g.bias + c0 : nullptr);
          }
        }
      }
    });
  }
}

// Few rows of a against b [K, N]: b streams through once, the sums of kWide vectors of columns of
// all rows stay in registers. Columns are shared out over threads.
template <class T, int kM>
void FewRows(const GemmArgs<T>& g, int64_t begin, int64_t end) {
  const Tag<T> d;
  using V = Vector<T>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t row_step = g.transpose_a ? 1 : g.K, k_step = g.transpose_a ? g.M : 1;
  constexpr int kWide = 4;
  int64_t j = begin;
  for (; j + kWide * lanes <= end; j += kWide * lanes) {
    V sum[kM][kWide];
#pragma GCC unroll 4
    for (int v = 0; v < kWide; ++v) {
      const V bias = g.bias ? hn::LoadU(d, g.bias + j + v * lanes) : hn::Zero(d);
#pragma GCC unroll 4
      for (int r = 0; r < kM; ++r) sum[r][v] = bias;
    }
    for (int64_t k = 0; k < g.K; ++k) {
      const T* b = g.b + k * g.N + j;
#pragma GCC unroll 4
      for (int r = 0; r < kM; ++r) {
        const V x = hn::Set(d, g.a[r * row_step + k * k_step]);
#pragma GCC unroll 4
        for (int v = 0; v < kWide; ++v) {
          sum[r][v] = hn::MulAdd(x, hn::LoadU(d, b + v * lanes), sum[r][v]);
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kWide; ++v) hn::StoreU(sum[r][v], d, g.c + r * g.N + j + v * lanes);
    }
  }
  for (; j < end; ++j) {
    for (int r = 0; r < kM; ++r) {
      T sum = g.bias ? g.bias[j] : T{0};
      for (int64_t k = 0; k < g.K; ++k) sum += g.a[r * row_step + k * k_step] * g.b[k * g.N + j];
      g.c[r * g.N + j] = sum;
    }
  }
}

// Few rows of a against b [N, K]: dot products along contiguous rows of both.
template <class T, int kM>
void FewRowsTransposed(const GemmArgs<T>& g, int64_t begin, int64_t end) {
  const Tag<T> d;
  using V = Vector<T>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t j = begin; j < end; ++j) {
    const T* b = g.b + j * g.K;
    V sum[kM][2];
#pragma GCC unroll 4
    for (int r = 0; r < kM; ++r) sum[r][0] = sum[r][1] = hn::Zero(d);
    int64_t k = 0;
    for (; k + 2 * lanes <= g.K; k += 2 * lanes) {
      const V b0 = hn::LoadU(d, b + k), b1 = hn::LoadU(d, b + k + lanes);
#pragma GCC unroll 4
      for (int r = 0; r < kM; ++r) {
        sum[r][0] = hn::MulAdd(hn::LoadU(d, g.a + r * g.K + k), b0, sum[r][0]);
        sum[r][1] = hn::MulAdd(hn::LoadU(d, g.a + r * g.K + k + lanes), b1, sum[r][1]);
      }
    }
    for (int r = 0; r < kM; ++r) {
      T total = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum[r][0], sum[r][1])));
      for (int64_t i = k; i < g.K; ++i) total += g.a[r * g.K + i] * b[i];
      g.c[r * g.N + j] = total + (g.bias ? g.bias[j] : T{0});
    }
  }
}

template <class T>
void Small(const GemmArgs<T>& g) {
  const int64_t grain = std::max<int64_t>(64, (1 << 16) / std::max<int64_t>(1, g.K) / 64 * 64);
  ParallelFor(g.N, grain, [&](int64_t begin, int64_t end) {
    if (g.transpose_b) {
      switch (g.M) {
        case 1:
          return FewRowsTransposed<T, 1>(g, begin, end);
        case 2:
          return FewRowsTransposed<T, 2>(g, begin, end);
        case 3:
          return FewRowsTransposed<T, 3>(g, begin, end);
        default:
          return FewRowsTransposed<T, 4>(g, begin, end);
      }
    }
    switch (g.M) {
      case 1:
        return FewRows<T, 1>(g, begin, end);
      case 2:
        return FewRows<T, 2>(g, begin, end);
      case 3:
        return FewRows<T, 3>(g, begin, end);
      default:
        return FewRows<T, 4>(g, begin, end);
    }
  });
}

template <class T>
HWY_INLINE void Gemm(const GemmArgs<T>& g) {
  // With few rows packing B would cost more than the product. A transposed `a` of several rows has
  // no contiguous rows for the dot products.
  if (g.M <= 4 && (!g.transpose_b || !g.transpose_a || g.M == 1)) {
    Small(g);
  } else {
    Blocked(g);
  }
}

void GemmF32(const GemmArgs<float>& args) { Gemm(args); }
void GemmF64(const GemmArgs<double>& args) { Gemm(args); }

}  // namespace HWY_NAMESPACE
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {

HWY_EXPORT(GemmF32);
HWY_EXPORT(GemmF64);

void GemmCpu(const GemmArgs<float>& args) { HWY_DYNAMIC_DISPATCH(GemmF32)(args); }
void GemmCpu(const GemmArgs<double>& args) { HWY_DYNAMIC_DISPATCH(GemmF64)(args); }

}  // namespace residual
#endif  // HWY_ONCE
